"""Databases opened to be looked at: no byte of them, of their log or of their lock changes by that.

SQLite keeps an index of the write-ahead log (`-shm`) beside a database, also for readers. One that is left without any
log needs none; of a database that was not closed, the index that is there is used as it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Final

import aiosql

from thunderline.block.sqlite.migrate import check_kind
from thunderline.core.errors import NoDatabase, StoreIncompatible, StoreUnavailable, UpkeepFailed

_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY_CODE: Final = 0xFF
_BUSY_TIMEOUT_S: Final = 2.0


def load_statements(file: str) -> Any:
    """The named statements of one `.sql` file beside this module."""
    return aiosql.from_path(str(resources.files(__package__) / file), "sqlite3", mandatory_parameters=False)


def beside(database: Path, suffix: str) -> Path:
    """The file that belongs to `database`, by what follows its name."""
    return database.with_name(database.name + suffix)


def size_of(path: Path) -> int:
    """The size of a file in bytes, 0 when there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextmanager
def reading(path: Path, *, is_at_rest: bool) -> Iterator[sqlite3.Connection]:
    """A connection that writes nothing. `is_at_rest`: nobody is going to write to the database meanwhile.

    Raises: NoDatabase; StoreIncompatible when the file is no database or is damaged; UpkeepFailed.
    """
    try:
        check_kind(path)
    except StoreUnavailable as error:
        raise UpkeepFailed(str(path), problem=error.reason) from error
    if not path.is_file():
        raise NoDatabase(str(path))
    flags = "mode=ro"
    if is_at_rest and size_of(beside(path, "-wal")) == 0:
        flags += "&immutable=1"
    elif is_at_rest and beside(path, "-shm").exists():
        flags += "&readonly_shm=1"
    with told_as_ours(path), closing(_connect(path, flags)) as connection:
        yield connection


@contextmanager
def told_as_ours(path: Path) -> Iterator[None]:
    """A block in which errors of SQLite and of the system are told as ours. Raises: StoreIncompatible, UpkeepFailed."""
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
        if code == sqlite3.SQLITE_NOTADB:
            raise StoreIncompatible(f"{path} is not an SQLite database; give --store another path") from error
        if code in _DAMAGED:
            raise StoreIncompatible(
                f"{path} is damaged ({name}: {error}); 'thunderline db restore' puts a backup in its place"
            ) from error
        raise UpkeepFailed(str(path), problem=f"{name}: {error}") from error
    except OSError as error:
        raise UpkeepFailed(str(error.filename or path), problem=error.strerror or str(error)) from error


def _connect(path: Path, flags: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?{flags}", uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
