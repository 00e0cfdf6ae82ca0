"""How a database stands, on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from rich.table import Table
from rich.text import Text

from thunderline.block.upkeep import DatabaseStatus, Holder
from thunderline.cli.figures import size
from thunderline.cli.screen import open_console, plain

Fields: TypeAlias = Mapping[str, str | None]


def show_status(found: DatabaseStatus) -> None:
    """Print every field, grouped by what it is about."""
    console = open_console()
    console.print(plain(found.location, "bold"))
    groups: dict[str, Fields] = {
        "Database": _database(found),
        "Log": _log(found),
        "Contents": _contents(found),
        "Files": _files(found),
    }
    for heading, fields in groups.items():
        console.print(Text(f"\n{heading}", style="bold"))
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(style="dim", overflow="fold", min_width=20)
        table.add_column(overflow="fold")
        for name, value in fields.items():
            table.add_row(Text(f"  {name}"), plain(value))
        console.print(table)


def told_holder(holder: Holder) -> str:
    """Who holds a database, in a sentence."""
    return f"process {holder.pid} on {holder.host}"


def _database(found: DatabaseStatus) -> dict[str, str]:
    return {
        "held by": "nobody" if found.held_by is None else str(found.held_by),
        "schema": _schema(found),
        "engine": found.engine,
    }


def _schema(found: DatabaseStatus) -> str:
    if found.unknown:
        return f"{found.schema_version}, of a later Thunderline: this version does not know {', '.join(found.unknown)}"
    if found.pending:
        return (
            f"{found.schema_version}, lacks {', '.join(found.pending)}: 'thunderline db migrate', or start the server"
        )
    return f"{found.schema_version}, up to date"


def _log(found: DatabaseStatus) -> dict[str, str | None]:
    return {
        "log id": found.log_id,
        "revision": _count(found.revision),
        "events kept": None if found.oldest is None else f"after revision {found.oldest:,}",
    }


def _contents(found: DatabaseStatus) -> dict[str, str | None]:
    beats = found.heartbeats
    history = None if beats is None else f"{beats.beats:,} in {beats.rows:,} rows, {size(beats.size_bytes)}"
    return {
        "nodes": _count(found.nodes),
        "open sessions": _count(found.open_sessions),
        "events": _count(found.events),
        "heartbeats": history,
    }


def _files(found: DatabaseStatus) -> dict[str, str]:
    files = {"database": size(found.file_bytes)}
    return files if found.wal_bytes is None else {**files, "write-ahead log": size(found.wal_bytes)}


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"
