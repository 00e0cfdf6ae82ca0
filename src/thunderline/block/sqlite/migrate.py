"""Brings a database file to this version's schema: append-only SQL files, each run once, in one transaction."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path
from typing import Any, Final

from thunderline.block.migrations import Migration, load_migrations, missing_from
from thunderline.core.clock import Clock
from thunderline.core.errors import StoreIncompatible, StoreUnavailable

APPLICATION_ID: Final = 0x54484C4E
"""Marks a file as ours ("THLN"). Source: SQLite, `PRAGMA application_id`."""


def migrations() -> list[Migration]:
    """All migrations of this version, in order."""
    return load_migrations("thunderline.block.sqlite")


def migrate(connection: sqlite3.Connection, queries: Any, *, clock: Clock) -> int:
    """Apply what is missing and give the number of migrations applied.

    Raises: StoreIncompatible when the file is another program's, or was written by a later version.
    """
    _claim(connection, queries)
    connection.execute(queries.create_migrations.sql)
    # A file belongs to one process at a time: there is no older one that a post migration would have to wait for.
    missing = missing_from(connection.execute(queries.select_migrations.sql).fetchall(), migrations())
    for migration in missing:
        try:
            # `executescript` ends an open transaction first, so the script has to open its own.
            connection.executescript(f"{queries.begin.sql}\n{migration.sql}")
            connection.execute(
                queries.insert_migration.sql,
                (migration.version, migration.name, migration.sha256, clock.now_ms()),
            )
            connection.execute(queries.commit.sql)
        except BaseException:
            if connection.in_transaction:
                connection.execute(queries.rollback.sql)
            raise
    return len(missing)


def check_kind(path: Path) -> None:
    """Return if `path` is a file, or nothing yet. Raises: StoreIncompatible; StoreUnavailable."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise StoreIncompatible(f"{path} is {kind}; give --store the path of a file")


def check_ours(path: Path, queries: Any) -> None:
    """Return if `path` may be opened for writing: it is ours, or nothing yet. Nothing of the file is changed.

    Raises: StoreIncompatible when it is another program's; StoreUnavailable.
    """
    try:
        if not path.is_file() or path.stat().st_size == 0:
            return
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror}") from error
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)
    try:
        check_claimed(connection, queries)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
            raise
        raise StoreIncompatible(f"{path} is not an SQLite database; give --store another path") from error
    finally:
        connection.close()


def _claim(connection: sqlite3.Connection, queries: Any) -> None:
    if not check_claimed(connection, queries):
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def check_claimed(connection: sqlite3.Connection, queries: Any) -> bool:
    """Whether the database bears our mark; without it, it is an empty one. Raises: StoreIncompatible: another's."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    if application_id == APPLICATION_ID:
        return True
    (tables,) = connection.execute(queries.count_tables.sql).fetchone()
    if tables or application_id:
        raise StoreIncompatible("the file is an SQLite database of another program; give --store another path")
    return False
