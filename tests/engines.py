"""Stores of each engine, new and empty, for tests that hold whatever the registry keeps its records in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import count
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias, assert_never

from tests.databases import PostgresDatabases
from thunderline.block.memory import MemoryStore
from thunderline.block.postgres import PostgresStore
from thunderline.block.sqlite import SqliteStore
from thunderline.block.store import Store
from thunderline.core.clock import Clock
from thunderline.core.settings import Settings
from thunderline.testing.clock import ManualClock
from thunderline.testing.harness import Cluster

Engine: TypeAlias = Literal["memory", "sqlite", "postgres"]
ENGINES: Final[tuple[Engine, ...]] = ("memory", "sqlite", "postgres")


class Stores:
    """Makes stores for one test. `databases` is called once one of PostgreSQL is asked for: it may start a server."""

    def __init__(self, folder: Path, databases: Callable[[], PostgresDatabases]) -> None:
        self._folder = folder
        self._databases = databases
        self._numbers = count(1)
        self._urls: list[str] = []

    def new(self, engine: Engine, *, clock: Clock | None = None) -> Store:
        """A store of nothing, which may be opened again after it was closed."""
        match engine:
            case "memory":
                return MemoryStore()
            case "sqlite":
                return SqliteStore(self._folder / f"store-{next(self._numbers)}.db", clock=clock)
            case "postgres":
                self._urls.append(self._databases().new())
                return PostgresStore(self._urls[-1], clock=clock)
            case _:
                assert_never(engine)

    def drop(self) -> None:
        """Remove the databases that were made for them; files go with their folder."""
        for url in self._urls:
            self._databases().drop(url)


class Opening(Protocol):
    """`harness.open_cluster`, with a store of the engine where none is given."""

    def __call__(
        self,
        *,
        store: Store | None = None,
        settings: Settings | None = None,
        clock: ManualClock | None = None,
        seed: int = 0,
    ) -> AbstractAsyncContextManager[Cluster]: ...
