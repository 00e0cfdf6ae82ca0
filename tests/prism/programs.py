"""The programs of Prometheus, where they are there: on the PATH, or where `.ci/prometheus` puts them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PROGRAMS: Final = ROOT / ".programs" / "usr" / "bin"
DEPLOY: Final = ROOT / "deploy"


TEMPLATES: Final = Path("/usr/share/prometheus/alertmanager/default.tmpl")
"""Without which Debian's Alertmanager does not start, wherever it is itself."""


def find(name: str) -> str | None:
    """Where the program is, if it can run."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{PROGRAMS}")
    is_unpacked = found is not None and Path(found).parent == PROGRAMS
    return None if is_unpacked and name == "prometheus-alertmanager" and not TEMPLATES.exists() else found


def needs(*names: str) -> pytest.MarkDecorator:
    """A mark that skips a test where one of them is missing, and says so."""
    missing = [name for name in names if find(name) is None]
    return pytest.mark.skipif(
        bool(missing), reason=f"not on the PATH and not unpacked by .ci/prometheus: {', '.join(missing)}"
    )


def program(name: str) -> str:
    """Where the program is, which is there."""
    found = find(name)
    assert found is not None
    return found
