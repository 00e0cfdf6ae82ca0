"""What is in the package that `pip install .` makes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
DASHBOARD: Final = "thunderline/prism/dashboard/static/"
pytestmark = pytest.mark.slow


def build(source: Path, target: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Build the wheel of a copy of this clone as pip does, with nothing bundled yet."""
    shutil.copytree(
        ROOT,
        source,
        ignore=shutil.ignore_patterns(".git", ".venv", "node_modules", "static", "var", "__pycache__", ".*_cache"),
    )
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(target), str(source)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


def names_in(folder: Path) -> dict[str, int]:
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.file_size for info in archive.infolist()}


def path_without_node(folder: Path) -> str:
    """A PATH with all that this machine has, but no Node."""
    folder.mkdir()
    for place in ("/usr/bin", "/bin"):
        for program in Path(place).iterdir():
            if program.name not in ("node", "nodejs", "npm", "npx") and not (folder / program.name).exists():
                (folder / program.name).symlink_to(program)
    return str(folder)


def test_the_dashboard_and_its_licences_are_in_the_wheel_also_without_node_on_the_machine(tmp_path: Path) -> None:
    done = build(tmp_path / "clone", tmp_path / "wheels", PATH=path_without_node(tmp_path / "bin"))

    assert done.returncode == 0, done.stderr
    names = names_in(tmp_path / "wheels")
    for name in ("dashboard.html", "dashboard.js", "dashboard.css", "dashboard-layout.js", "dashboard-theme.js"):
        assert names[DASHBOARD + name] > 100
    assert names[DASHBOARD + "dashboard-licenses.txt"] > 1_000
    assert not any("node_modules" in name or name.endswith((".ts", ".tsx")) for name in names)


def test_a_registry_that_cannot_be_reached_ends_the_build_and_says_what_to_do(tmp_path: Path) -> None:
    done = build(
        tmp_path / "clone",
        tmp_path / "wheels",
        NPM_CONFIG_REGISTRY="http://127.0.0.1:9/",
        NPM_CONFIG_FETCH_RETRIES="0",
        NPM_CONFIG_CACHE=str(tmp_path / "cache"),
    )

    assert done.returncode != 0
    assert "THUNDERLINE_NO_DASHBOARD=1" in done.stdout + done.stderr


def test_it_can_be_left_out(tmp_path: Path) -> None:
    done = build(
        tmp_path / "clone", tmp_path / "wheels", THUNDERLINE_NO_DASHBOARD="1", NPM_CONFIG_REGISTRY="http://127.0.0.1:9/"
    )

    assert done.returncode == 0, done.stderr
    names = names_in(tmp_path / "wheels")
    assert "thunderline/server.py" in names
    assert not any(name.startswith(DASHBOARD) for name in names)
