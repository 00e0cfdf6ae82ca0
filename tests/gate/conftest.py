"""A cluster behind the real gate, over the engine that `--engine` names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

import pytest

from tests.engines import ENGINES, Engine, Opening, Stores
from thunderline.block.store import Store
from thunderline.core.settings import Settings
from thunderline.testing import harness
from thunderline.testing.clock import ManualClock
from thunderline.testing.harness import Cluster

# What `make test` runs on real stores, too: a database of PostgreSQL's for each test takes its time, and these three
# meet reads, writes, beats and kept answers. `make test-slow` runs all of the gate on all engines.
RESOURCES = frozenset({"test_heartbeats", "test_idempotency", "test_nodes"})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" not in metafunc.fixturenames or metafunc.config.getoption("engine") != "all":
        return
    is_resource = metafunc.module.__name__.rpartition(".")[2] in RESOURCES
    marks = [] if is_resource else [pytest.mark.slow]
    engines = [pytest.param(engine, marks=[] if engine == "memory" else marks) for engine in ENGINES]
    metafunc.parametrize("engine", engines, indirect=True)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Engine:
    """What this test keeps its records in."""
    chosen: Engine = getattr(request, "param", None) or request.config.getoption("engine")
    if chosen == "postgres":
        # Here, since a running event loop does not allow it.
        request.getfixturevalue("postgres")
    return chosen


@pytest.fixture
def open_cluster(engine: Engine, stores: Stores) -> Opening:
    def opening(
        *,
        store: Store | None = None,
        settings: Settings | None = None,
        clock: ManualClock | None = None,
        seed: int = 0,
    ) -> AbstractAsyncContextManager[Cluster]:
        clock = clock or ManualClock()
        store = store or stores.new(engine, clock=clock)
        return harness.open_cluster(store=store, settings=settings, clock=clock, seed=seed)

    return opening


@pytest.fixture
async def cluster(open_cluster: Opening) -> AsyncIterator[Cluster]:
    async with open_cluster() as opened:
        yield opened
