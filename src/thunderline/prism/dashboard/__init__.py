"""The dashboard's files as they were bundled from `ui/` when this package was built.

A package may be built without them (`THUNDERLINE_NO_DASHBOARD=1`); whoever serves them then says so.
"""

from __future__ import annotations

from importlib import resources
from typing import Final

PAGE: Final = "dashboard.html"
LICENSES: Final = "dashboard-licenses.txt"
_FOLDER: Final = "static"


class Bundle:
    """The files by name, read once."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    @classmethod
    def installed(cls) -> Bundle | None:
        """The bundle of this package, or None where it was built without."""
        folder = resources.files(__package__) / _FOLDER
        if not (folder / PAGE).is_file():
            return None
        return cls({file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()})

    @property
    def page(self) -> bytes:
        """The page that loads all else."""
        return self._files[PAGE]

    def read(self, name: str) -> bytes | None:
        """The file of that name, or None where there is none."""
        return self._files.get(name)
