"""`thunderline db`: the database itself, through the server that holds it or, where none does, opened here.

What speaks to either is imported when it is needed: commands that only ask a server over HTTP start without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir
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
        help="The database: sqlite:///PATH or postgresql://HOST/NAME. Otherwise THUNDERLINE_STORE, the settings file, "
        "the user's data directory.",
    ),
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file of settings that names the store.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document.")]


class Migrated(msgspec.Struct, frozen=True, kw_only=True):
    """What `migrate` did: `applied` are the migrations that were missing, `pending` those that still are, in order."""

    location: str
    schema_version: int
    applied: list[str]
    pending: list[str]


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


def migrate(
    *,
    store: StoreOption = None,
    config: ConfigOption = None,
    post: Annotated[
        bool, typer.Option("--post", help="Also what older servers cannot live with, once the last of them is gone.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the database's schema to this version.

    A server does the same when it starts, so this is for doing it before, or with rights that the server has not. With
    nothing to do it ends with exit code 0.
    """
    from thunderline.cli.control import migrate_of, status_of

    upkeep = _upkeep(_store(store, config))
    with _told():
        applied = migrate_of(upkeep, post=post)
        now = status_of(upkeep)
    done = Migrated(location=now.location, schema_version=now.schema_version, applied=applied, pending=now.pending)
    if as_json:
        write_json(msgspec.json.encode(done))
    elif not on_terminal():
        write_rows(("FIELD", "VALUE"), _leaves(done))
    elif applied:
        write_line(f"applied {', '.join(applied)} to {now.location}")
    elif done.pending:
        write_line(f"left for --post, once no older server runs: {', '.join(done.pending)}")
    else:
        by = "" if now.held_by is None else f"; {told_holder(now.held_by)} saw to it when it opened the database"
        write_line(f"nothing to do: {now.location} has schema {now.schema_version}{by}")


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


def copy(
    *,
    origin: Annotated[str, typer.Argument(metavar="FROM", show_default=False, help="The URL of the database to copy.")],
    target: Annotated[str, typer.Argument(metavar="TO", show_default=False, help="The URL of the one to fill.")],
    force: Annotated[
        bool, typer.Option("--force", help="Replace a database that TO holds; it is kept beside, under another name.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Copy a database into another one, of the same engine or not.

    It is a backup of FROM, which may be in use, restored into TO, which no server may hold: nodes, sessions and groups
    with their ids, the whole log with its revisions, and heartbeats. TO is another log; whoever watched the old one is
    told to list again. Pass URLs with a password by variables, or use a .pgpass file: others can see arguments.
    """
    from thunderline.cli.control import back_up

    taken_from, filled = _upkeep(_engine(origin)), _upkeep(_engine(target))
    between = _between(taken_from, filled)
    with _told(), shown_progress() as report:
        try:
            back_up(taken_from, between, overwrite=False, report=lambda step, *of: report(f"{step}, out of FROM", *of))
            done = filled.restore(between, replace=force, report=lambda step, *of: report(f"{step}, into TO", *of))
        finally:
            between.unlink(missing_ok=True)
    kept = "" if done.replaced is None else f"; what was there is kept as {done.replaced}"
    _write_done(
        done, f"{done.location} holds everything up to revision {done.revision}, as log {done.log_id}{kept}", as_json
    )


def _between(taken_from: Upkeep, filled: Upkeep) -> Path:
    """A file for what is under way: beside a database that is one, where a server that holds it may write, too."""
    beside = next((each.control_path for each in (taken_from, filled) if each.control_path is not None), None)
    folder = Path(gettempdir()) if beside is None else beside.parent
    return folder / f".thunderline-copy-{new_uuid7()}.db"


def _store(url: str | None, config: Path | None) -> Store:
    return _engine(load_settings(file=config, flags={"store": url}).store)


def _engine(url: str) -> Store:
    # Imported here: --help need not wait for the engine.
    from thunderline.block.engines import store_from_url

    return store_from_url(url, clock=SystemClock(), ids=new_uuid7, writer_id="registry")


def _upkeep(store: Store) -> Upkeep:
    upkeep = store.upkeep()
    if upkeep is None:
        raise SettingsError(
            "store", f"{store.location} is not a database that this command can work on", source="store"
        )
    return upkeep


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
