"""New, empty databases to measure on: of SQLite, of PostgreSQL, or the one that a URL names."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Final

from thunderline.block.engines import store_from_url
from thunderline.block.store import Store
from thunderline.block.upkeep import DatabaseStatus
from thunderline.core.clock import Clock, SystemClock
from thunderline.core.ids import new_uuid7
from thunderline.testing.postgres import PostgresServer

VAR: Final = Path(__file__).parent.parent / "var"

SQLITE: Final = "sqlite"
POSTGRESQL: Final = "postgresql"

_SERVER: Final = {"shared_buffers": "512MB", "max_wal_size": "4GB", "checkpoint_timeout": "15min"}
"""What anybody sets who gives PostgreSQL a machine; everything else is as it comes, flushes included."""


def add_store_option(parser: argparse.ArgumentParser) -> None:
    """Let the caller choose with `--store`."""
    parser.add_argument(
        "--store",
        default=SQLITE,
        help="sqlite: new files; postgresql: a server started for this, on this machine; or the URL of an empty "
        "database of your own",
    )


@contextlib.contextmanager
def new_databases(choice: str, *, folder: Path = VAR) -> Iterator[Callable[[], str]]:
    """What makes a new, empty database and gives its URL; all of them are gone after the block, unless yours.

    Files are in `folder` and not under the system's temporary directory: where that is kept in memory, a flush costs
    nothing.
    """
    numbers = count(1)
    with contextlib.ExitStack() as stack:
        if choice == SQLITE:
            folder.mkdir(parents=True, exist_ok=True)
            inner = stack.enter_context(tempfile.TemporaryDirectory(dir=folder))
            yield lambda: f"sqlite:///{inner}/{next(numbers)}.db"
        elif choice == POSTGRESQL:
            yield stack.enter_context(PostgresServer(_SERVER)).create_database
        else:
            yield lambda: choice


def store_at(url: str, *, clock: Clock | None = None) -> Store:
    """The store at `url`, not yet opened."""
    return store_from_url(url, clock=clock or SystemClock(), ids=new_uuid7, writer_id="registry")


def status_of(url: str) -> DatabaseStatus:
    """How the database at `url` stands, which nobody needs to hold."""
    upkeep = store_at(url).upkeep()
    if upkeep is None:
        raise ValueError(f"{url} keeps nothing")
    return upkeep.status()
