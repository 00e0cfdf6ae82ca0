"""Connections that break, in whatever way the driver tells of it, and servers that refuse us meanwhile."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from tests.databases import PostgresDatabases
from thunderline.block.postgres import PostgresStore
from thunderline.block.postgres.connection import OwnedConnection
from thunderline.block.store import WriteBatch
from thunderline.core.errors import StoreUnavailable
from thunderline.core.ids import Revision
from thunderline.testing.records import batch_id, make_node


class Line:
    """Stands for the driver's connection."""

    def __init__(self) -> None:
        self.is_over = False

    def is_closed(self) -> bool:
        return self.is_over

    def is_in_transaction(self) -> bool:
        return False

    def terminate(self) -> None:
        self.is_over = True


@pytest.mark.parametrize(
    "error",
    [
        # What asyncpg says where the server ended the session between two statements.
        asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress"),
        asyncpg.InterfaceError("connection is closed"),
        ConnectionResetError(104, "Connection reset by peer"),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_the_driver_says_the_store_is_away_and_the_next_one_has_a_fresh_connection(
    error: Exception,
) -> None:
    lines: list[Line] = []

    async def connect() -> Line:
        lines.append(Line())
        return lines[-1]

    async def fail(_: Line) -> None:
        raise error

    async def which(line: Line) -> Line:
        return line

    owned = OwnedConnection(connect, rollback="ROLLBACK")
    with pytest.raises(StoreUnavailable):
        await owned.run(fail)
    assert await owned.run(which) is lines[1]
    assert [line.is_over for line in lines] == [True, False]


async def test_server_that_refuses_us_while_we_are_open_is_away(postgres: PostgresDatabases, postgres_url: str) -> None:
    database = postgres.name_of(postgres_url)
    batch = WriteBatch(batch_id=batch_id(1), base=Revision(0), nodes=[make_node(1)])
    async with PostgresStore(postgres_url) as store:
        calls: list[Callable[[], Awaitable[object]]] = [
            store.probe,
            lambda: store.committed(batch_id(1)),
            lambda: store.commit(batch),
            store.history_clock,
            lambda: store.begin_log(Revision(0)),
        ]
        postgres.end_sessions(postgres_url)
        postgres.server.execute("postgres", f"ALTER DATABASE {database} RENAME TO {database}_elsewhere")
        for call in calls:
            with contextlib.suppress(StoreUnavailable):
                await call()  # which may find no more than that its connection has ended
        for call in calls:
            with pytest.raises(StoreUnavailable, match="3D000"):
                await call()
        postgres.server.execute("postgres", f"ALTER DATABASE {database}_elsewhere RENAME TO {database}")
        await store.probe()
        await store.commit(batch)
        assert await store.scan_nodes(after=None, limit=9) == [make_node(1)]
