# `make run` and `make test` need Python 3.11 or later with pip, and make; everything else they install themselves.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
# What the dashboard is bundled from; a change installs the package again, which bundles it.
BUNDLED := hatch_build.py $(shell find ui -name node_modules -prune -o -type f -print)
DATA := $(CURDIR)/var
# One more than two cores: what starts processes waits for them.
JOBS ?= 3

.PHONY: help install install-dev dashboard run demo test test-slow check bench bench-scale bench-watchers bench-past bench-liveness bench-storm bench-slow-clients docs clean bench-metrics bench-dashboard

help: ## What there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

install: $(VENV)/.installed ## Build .venv with what the server needs

install-dev: $(VENV)/.installed-dev

dashboard: install ## Bundle the dashboard again, after a change in ui/
	$(BIN)/python hatch_build.py

run: install ## Start the registry with its embedded store under var/
	@mkdir -p "$(DATA)"
	@exec $(BIN)/thunderline serve --store "sqlite:///$(DATA)/thunderline.db" $(ARGS)

demo: install ## Start the registry with a store of its own and 180 simulated nodes; Ctrl-C ends both
	@exec $(BIN)/thunderline simulate --nodes 180 --serve $(ARGS)

test: install-dev ## Run the test suite
	@.ci/system-packages
	@.ci/phoenix-client
	@.ci/dashboard
	@.ci/prometheus
	$(BIN)/pytest -m "not slow" --engine all --numprocesses $(JOBS) --dist worksteal $(ARGS)

test-slow: install-dev ## Run the tests that take longer than one waits
	@.ci/system-packages
	@.ci/phoenix-client
	@.ci/dashboard
	@.ci/prometheus
	$(BIN)/pytest -m slow --engine all --timeout 1800 $(ARGS)

check: install-dev ## Lint, types, layers, generated docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m docs.generate --check
	@.ci/dashboard check

bench: install-dev ## Measure every figure that we state
	$(BIN)/python -m benchmarks $(ARGS)

bench-scale: install-dev ## Measure starts and reads with 100,000 nodes and 10 million beats; takes minutes
	$(BIN)/python -m benchmarks.scale $(ARGS)

bench-watchers: install-dev ## Measure how long events take to reach 1,000 watchers
	$(BIN)/python -m benchmarks.watchers $(ARGS)

bench-past: install-dev ## Measure how long the graph of a past moment takes among a million events; takes minutes
	$(BIN)/python -m benchmarks.past $(ARGS)

bench-liveness: install-dev ## Measure beats and sweeps with a million nodes in one process; takes a minute
	$(BIN)/python -m benchmarks.liveness $(ARGS)

bench-storm: install-dev ## Measure how 10,000 links that were cut come back at once
	$(BIN)/python -m benchmarks.storm $(ARGS)

bench-slow-clients: install-dev ## Measure a healthy client beside 1,000 that send a byte a second
	$(BIN)/python -m benchmarks.slow_clients $(ARGS)

bench-metrics: install-dev ## Measure a scrape of /metrics with 100,000 nodes; takes a minute
	$(BIN)/python -m benchmarks.metrics $(ARGS)

bench-dashboard: install-dev ## Measure the dashboard's drawing with 1,000 and 20,000 nodes in chromium; takes minutes
	$(BIN)/python -m benchmarks.dashboard $(ARGS)

docs: install-dev ## Write the generated parts of docs/
	$(BIN)/python -m docs.generate

clean: ## Remove .venv and caches; data under var/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Some systems split `ensurepip` off their Python; then the pip that is there installs one into the new environment.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Thunderline needs Python 3.11 or later; set PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { rm -rf $(VENV); \
		$(PYTHON) -m venv --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install --quiet pip; }

$(VENV)/.installed: pyproject.toml $(BUNDLED) | $(BIN)/python
	@echo "Installing Thunderline into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(BUNDLED) | $(BIN)/python
	@echo "Installing Thunderline and its test tools into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.installed
