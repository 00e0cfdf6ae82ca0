"""`docs/testing.md`: its programs run as they stand there, and it names what `thunderline.testing` offers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import thunderline.testing
from docs.generate import DOCS

PAGE = (DOCS / "testing.md").read_text(encoding="utf-8")


def recipes() -> list[tuple[str, str]]:
    """Each program of the page, with the heading over it."""
    found = []
    for section in PAGE.split("\n## ")[1:]:
        heading = section.partition("\n")[0]
        found += [(heading, program) for program in re.findall(r"^```python\n(.*?)^```$", section, re.M | re.S)]
    return found


PROGRAMS = [pytest.param(program, id=heading) for heading, program in recipes() if "import pytest" not in program]
TESTS = [pytest.param(program, id=heading) for heading, program in recipes() if "import pytest" in program]


def test_every_section_has_a_program_and_every_program_is_run() -> None:
    assert {heading for heading, _ in recipes()} == set(re.findall(r"^## (.+)$", PAGE, re.M))
    assert len(PROGRAMS) + len(TESTS) == PAGE.count("```python")


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_program_runs_as_it_stands(program: str) -> None:
    exec(compile(program, "docs/testing.md", "exec", dont_inherit=True), {"__name__": "__main__"})


@pytest.mark.parametrize("program", TESTS)
def test_the_test_passes_as_it_stands(program: str, tmp_path: Path) -> None:
    (tmp_path / "test_recipe.py").write_text(program, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "pytest_asyncio.plugin", "-p", "no:cacheprovider"]
    command += ["-o", "asyncio_mode=auto", "--rootdir", str(tmp_path), str(tmp_path)]
    # Our other plugins take longer to import than all of this page takes to run.
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, env=alone)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_the_page_names_all_that_is_public() -> None:
    assert set(thunderline.testing.__all__) == set(re.findall(r"`(\w+)`", PAGE.partition("\n## ")[0])) & {
        *dir(thunderline.testing),
        *thunderline.testing.__all__,
    }
    assert all(hasattr(thunderline.testing, name) for name in thunderline.testing.__all__)
