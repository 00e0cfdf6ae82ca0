"""Paths of database files, as settings give them."""

from __future__ import annotations

from pathlib import Path

from thunderline.core.errors import SettingsError


def home_path(path: str) -> Path:
    """`path` with `~` as the user's home. Raises: SettingsError."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise _bad_path(path, error) from error


def real_path(path: Path | str) -> Path:
    """`path` without symlinks, absolute. Raises: SettingsError."""
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of symlinks; a NUL or what no file name can hold
        raise _bad_path(path, error) from error


def _bad_path(path: Path | str, error: Exception) -> SettingsError:
    return SettingsError("store", f"{str(path)!r} is not the path of a file ({error})", source="store")
