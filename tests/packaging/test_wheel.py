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
# A wheel is built from nothing: packages are loaded for it.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


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


def path_with(node: str | None, folder: Path) -> str:
    """A PATH with all that this machine has, but no Node, or one of which no more is there than its version."""
    folder.mkdir()
    if node is not None:
        for name, script in (("node", f"echo {node}"), ("npm", "echo 'Node is too old for this npm' >&2; exit 1")):
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
    for place in ("/usr/bin", "/bin"):
        for program in Path(place).iterdir():
            if program.name not in ("node", "nodejs", "npm", "npx") and not (folder / program.name).exists():
                (folder / program.name).symlink_to(program)
    return str(folder)


@pytest.mark.parametrize("node", [None, "v12.22.12"])
def test_the_dashboard_and_its_licences_are_in_the_wheel_without_node_on_the_machine_or_with_an_old_one(
    tmp_path: Path, node: str | None
) -> None:
    done = build(tmp_path / "clone", tmp_path / "wheels", PATH=path_with(node, tmp_path / "bin"))

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


AS_NOBODY: Final = """
import os, pathlib, runpy
bundle = runpy.run_path("hatch_build.py")["bundle"]
if os.geteuid() == 0:  # to whom nothing is closed
    os.setuid(65534)
bundle(pathlib.Path.cwd())
"""


def test_a_clone_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    (clone / "ui").mkdir(parents=True)
    shutil.copy(ROOT / "hatch_build.py", clone)
    (clone / "ui").chmod(0o555)
    for folder in (clone, tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o055)

    done = subprocess.run([sys.executable, "-c", AS_NOBODY], cwd=clone, capture_output=True, text=True, check=False)

    assert done.returncode != 0
    assert f"{clone / 'ui'} cannot be written to" in done.stderr
    assert "build from a copy that is yours" in done.stderr


def test_it_can_be_left_out(tmp_path: Path) -> None:
    done = build(
        tmp_path / "clone", tmp_path / "wheels", THUNDERLINE_NO_DASHBOARD="1", NPM_CONFIG_REGISTRY="http://127.0.0.1:9/"
    )

    assert done.returncode == 0, done.stderr
    names = names_in(tmp_path / "wheels")
    assert "thunderline/server.py" in names
    assert not any(name.startswith(DASHBOARD) for name in names)
