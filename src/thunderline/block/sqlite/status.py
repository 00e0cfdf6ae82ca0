"""How a database stands, also one of another version."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from thunderline.block.migrations import title_of
from thunderline.block.sqlite.migrate import check_claimed, migrations
from thunderline.block.sqlite.reading import beside, size_of
from thunderline.block.upkeep import DatabaseStatus, HeartbeatHistory, Holder
from thunderline.core.errors import StoreIncompatible


def read_status(
    connection: sqlite3.Connection, path: Path, *, queries: Any, upkeep: Any, holder: Holder | None
) -> DatabaseStatus:
    """The status of the database at `path`, which `connection` reads. Raises: StoreIncompatible: it is not ours."""
    check_claimed(connection, queries)
    # One snapshot: the counts are those of the revision beside them.
    connection.execute(upkeep.begin_reading.sql)
    applied = applied_migrations(connection, queries=queries, upkeep=upkeep)
    known = {migration.version: migration.title for migration in migrations()}
    head = _row(connection, queries.select_head.sql)
    # A database of before there were rollups has blocks alone.
    history = _row(connection, upkeep.sum_history.sql) or _row(connection, upkeep.sum_heartbeats.sql)
    status = DatabaseStatus(
        location=str(path),
        held_by=holder,
        schema_version=max(applied, default=0),
        pending=[name for version, name in known.items() if version not in applied],
        unknown=[name for version, name in applied.items() if version not in known],
        log_id=head[0] if head else None,
        revision=head[1] if head else None,
        oldest=head[2] if head else None,
        nodes=_count(connection, upkeep.count_nodes.sql),
        open_sessions=_count(connection, upkeep.count_open_sessions.sql),
        events=_count(connection, upkeep.count_events.sql),
        heartbeats=None
        if history is None
        else HeartbeatHistory(rows=history[0], beats=history[1], size_bytes=history[2]),
        file_bytes=size_of(path),
        wal_bytes=size_of(beside(path, "-wal")),
        engine=f"SQLite {sqlite3.sqlite_version}",
    )
    connection.execute(queries.rollback.sql)
    return status


def check_known(connection: sqlite3.Connection, *, queries: Any, upkeep: Any) -> None:
    """Return if this version can bring the database to its own schema. Raises: StoreIncompatible."""
    known = {migration.version for migration in migrations()}
    for version, name in applied_migrations(connection, queries=queries, upkeep=upkeep).items():
        if version not in known:
            raise StoreIncompatible(f"it was written by a later Thunderline (migration {name})")


def applied_migrations(connection: sqlite3.Connection, *, queries: Any, upkeep: Any) -> dict[int, str]:
    """The migrations that a database has, by their version, in order."""
    (has_any,) = connection.execute(upkeep.has_migrations.sql).fetchone()
    rows = connection.execute(queries.select_migrations.sql).fetchall() if has_any else []
    return {version: title_of(version, name) for version, name, _ in rows}


def _count(connection: sqlite3.Connection, sql: str) -> int | None:
    row = _row(connection, sql)
    return None if row is None else int(row[0])


def _row(connection: sqlite3.Connection, sql: str) -> tuple[Any, ...] | None:
    """The row that a query gives; None when it has none, or asks for what this schema does not hold."""
    try:
        row: tuple[Any, ...] | None = connection.execute(sql).fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
            raise
        return None
    return row
