"""`thunderline db`: the database itself, through the server that holds it or, where none does, opened here.

What speaks to either is imported when it is needed: commands that only ask a server over HTTP start without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from thunderline.block.upkeep import Backup, Restored, Upkeep
from thunderline.cli.db_screen import show_status, told_holder
from thunderline.cli.failures import DatabaseFailed
from thunderline.cli.figures import size
from thunderline.cli.progress import shown_progress
from thunderline.cli.screen import on_terminal, write_json, write_line, write_rows
from thunderline.core.clock import SystemClock
from thunderline.core.errors import SettingsError, UpkeepFault
from thunderline.core.ids import new_uuid7
from thunderline.core.settings import load_settings

if TYPE_CHECKING:
    from thunderline.block.store import Store

StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        show_default="as 'thunderline serve' finds it",
        help="The database: sqlite:///PATH. Otherwise THUNDERLINE_STORE, the settings file, the user's data directory.",
    ),
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file of settings that names the store.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document.")]


class Migrated(msgspec.Struct, frozen=True, kw_only=True):
    """What `migrate` did: `applied` are the migrations that were missing, in order."""

    location: str
    schema_version: int
    applied: list[str]


def status(*, store: StoreOption = None, config: ConfigOption = None, as_json: AsJson = False) -> None:
    """Show how the database stands.

    That is: who holds it, its schema, its log, what is in it, its size. Nothing of it is changed. A server that holds
    it is asked. In a pipe each field is one line: its name, a tab, its value.
    """
    from thunderline.cli.control import status_of

    upkeep = _upkeep(_store(store, config))
    with _told():
        found = status_of(upkeep)
    if as_json:
        write_json(msgspec.json.encode(found))
    elif on_terminal():
        show_status(found)
    else:
        write_rows(("FIELD", "VALUE"), _leaves(found))


def migrate(*, store: StoreOption = None, config: ConfigOption = None, as_json: AsJson = False) -> None:
    """Bring the database's schema to this version.

    A server does the same when it starts, so this is for doing it before. With nothing to do it ends with exit code 0.
    """
    from thunderline.cli.control import status_of

    opened = _store(store, config)
    with _told():
        before = status_of(_upkeep(opened))
    if before.pending or before.unknown:
        asyncio.run(_open_once(opened))
    done = Migrated(
        location=before.location,
        # Numbers may be missing between migrations, so they are read and not counted.
        schema_version=max([before.schema_version, *(int(name.partition("_")[0]) for name in before.pending)]),
        applied=before.pending,
    )
    if as_json:
        write_json(msgspec.json.encode(done))
    elif not on_terminal():
        write_rows(("FIELD", "VALUE"), _leaves(done))
    elif before.pending:
        write_line(f"applied {', '.join(before.pending)} to {before.location}")
    else:
        by = "" if before.held_by is None else f"; {told_holder(before.held_by)} saw to it when it opened the database"
        write_line(f"nothing to do: {before.location} has schema {before.schema_version}{by}")


def backup(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="Where the backup goes.")],
    store: StoreOption = None,
    config: ConfigOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Copy the database into FILE while it is in use.

    The copy is of one revision, which is printed, and nobody waits for it. FILE is an SQLite database of its own, for
    its owner alone; it appears once it is whole and on stable storage. A server that holds the database writes FILE
    itself, with its own rights.
    """
    from thunderline.cli.control import back_up

    upkeep = _upkeep(_store(store, config))
    with _told(), shown_progress() as report:
        done = back_up(upkeep, file, overwrite=force, report=report)
    _write_done(done, f"everything up to revision {done.revision} is in {done.file} ({size(done.size_bytes)})", as_json)


def restore(
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="A backup.")],
    store: StoreOption = None,
    config: ConfigOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a database that exists; it is kept beside, under another name.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put the backup FILE in the database's place. No server may hold it.

    The backup is checked first, and migrated if it is older. What is restored is another log: whoever watched the old
    one is told to list again. Nodes that are still there come back by their next heartbeat or link.
    """
    upkeep = _upkeep(_store(store, config))
    with _told(), shown_progress() as report:
        done = upkeep.restore(file, replace=force, report=report)
    kept = "" if done.replaced is None else f"; what was there is kept as {done.replaced}"
    _write_done(done, f"restored {done.location} to revision {done.revision}, as log {done.log_id}{kept}", as_json)


def _store(url: str | None, config: Path | None) -> Store:
    # Imported here: --help need not wait for the engine.
    from thunderline.block.engines import store_from_url

    settings = load_settings(file=config, flags={"store": url})
    return store_from_url(settings.store, clock=SystemClock(), ids=new_uuid7, writer_id="registry")


def _upkeep(store: Store) -> Upkeep:
    upkeep = store.upkeep()
    if upkeep is None:
        raise SettingsError(
            "store", f"{store.location} is not a database that this command can work on", source="store"
        )
    return upkeep


async def _open_once(store: Store) -> None:
    async with store:
        pass


@contextmanager
def _told() -> Iterator[None]:
    """A block in which what the database says is told as the server's refusals are."""
    try:
        yield
    except UpkeepFault as error:
        raise DatabaseFailed(str(error)) from error


def _write_done(done: Backup | Restored, told: str, as_json: bool) -> None:
    if as_json:
        write_json(msgspec.json.encode(done))
    elif on_terminal():
        write_line(told)
    else:
        write_rows(("FIELD", "VALUE"), _leaves(done))


def _leaves(done: msgspec.Struct) -> Iterator[tuple[str, object]]:
    """Each value under its name; those of a part under both names, joined by a dot."""
    for name, value in msgspec.to_builtins(done).items():
        if isinstance(value, dict):
            yield from ((f"{name}.{key}", item) for key, item in value.items())
        else:
            yield name, ", ".join(value) if isinstance(value, list) else value
