"""Connections: how they are made, what is set on each, and one that is owned and made again when it broke."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import resources
from typing import Any, Final, TypeVar

import aiosql
import asyncpg

from thunderline.block.postgres.failures import DRIVER_ERRORS, WRONG_DATABASE, describe, is_about, told
from thunderline.core.errors import StoreIncompatible, StoreUnavailable

T = TypeVar("T")

OLDEST_SERVER: Final = 140_000
CONNECT_TIMEOUT_S: Final = 10.0
COMMAND_TIMEOUT_S: Final = 60.0
"""After which a connection that says nothing is given up; the server itself ends a statement before."""
WRITE_TIMEOUT_S: Final = 20.0
"""The same over the connection that commits: until then everybody waits for one that was lost without a word."""
MIGRATION_TIMEOUT_S: Final = 3600.0
CLOSE_TIMEOUT_S: Final = 5.0

SETTINGS: Final = {
    "search_path": "thunderline",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    # Bounds of every wait, those of other clients on what we hold included.
    "lock_timeout": "5s",
    "statement_timeout": "45s",
    "idle_in_transaction_session_timeout": "15s",
    # So that the server finds out within half a minute that we are gone, and lets go of our locks.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    # Compiling costs many times what these statements take.
    "jit": "off",
}
"""Set on every connection, whatever the server, the database or the role have as defaults."""


def load_queries() -> Any:
    """The named statements of `queries.sql`."""
    return aiosql.from_path(str(resources.files(__package__) / "queries.sql"), "asyncpg", mandatory_parameters=False)


class Dialler:
    """Makes connections to the database at `url`."""

    def __init__(self, url: str, queries: Any) -> None:
        self._url = url
        self._queries = queries

    async def connect(self, *, command_timeout_s: float = COMMAND_TIMEOUT_S) -> Any:
        """A connection on which everything is set. Raises: StoreUnavailable, StoreIncompatible."""
        try:
            connection = await asyncpg.connect(self._url, timeout=CONNECT_TIMEOUT_S, command_timeout=command_timeout_s)
        except asyncpg.ClientConfigurationError as error:
            raise StoreIncompatible(f"the store's URL does not say how to connect: {error}") from error
        except DRIVER_ERRORS as error:
            raise _refused(error) from error
        try:
            await self._prepare(connection)
        except DRIVER_ERRORS as error:
            connection.terminate()
            raise _refused(error) from error
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _prepare(self, connection: Any) -> None:
        facts = await connection.fetchrow(self._queries.server_facts.sql)
        check_server(facts)
        settings = dict(SETTINGS)
        if facts["synchronous_commit"] == "off":
            # Whatever waits for more than the local flush may stay as it is.
            settings["synchronous_commit"] = "on"
        await connection.execute(self._queries.configure.sql, list(settings), list(settings.values()))


def check_server(facts: Any) -> None:
    """Return if the server is one to build on. Raises: StoreIncompatible; StoreUnavailable for a standby."""
    if facts["version"] < OLDEST_SERVER:
        raise StoreIncompatible(f"PostgreSQL {facts['version_text']} is too old; 14 or later is needed")
    if facts["encoding"] != "UTF8":
        raise StoreIncompatible(
            f"database {facts['database']} has the encoding {facts['encoding']}; create one with ENCODING 'UTF8'"
        )
    if facts["fsync"] != "on":
        raise StoreIncompatible(
            "the server runs with fsync off, so that nothing is durable which is acknowledged; set fsync = on"
        )
    if facts["read_only"] == "on":
        raise StoreUnavailable("the server takes no writes: it is a standby, or read-only")


def _refused(error: BaseException) -> StoreUnavailable | StoreIncompatible:
    for states, what_to_do in WRONG_DATABASE.items():
        if is_about(error, states):
            return StoreIncompatible(f"PostgreSQL refuses us: {describe(error)}; {what_to_do}")
    return StoreUnavailable(f"PostgreSQL cannot be reached: {describe(error)}")


class OwnedConnection:
    """One connection, made when it is first needed and again after it broke; one `run` at a time."""

    def __init__(self, connect: Callable[[], Awaitable[Any]], *, rollback: str) -> None:
        self._connect = connect
        self._rollback = rollback
        self._turn = asyncio.Lock()
        self._connection: Any = None
        self._ended = False

    async def run(self, body: Callable[[Any], Awaitable[T]]) -> T:
        """What `body` gives, with the driver's errors told as ours and no transaction left open behind an error.

        Cancelling the caller does not stop `body`, nor keep it from starting.
        """
        running = asyncio.ensure_future(self._run(body))
        # Else an error that nobody waits for any longer would be complained of when it is collected.
        running.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(running)

    async def drop(self) -> None:
        """Give the connection up; the next `run` makes a fresh one."""
        async with self._turn:
            self._give_up()

    async def end(self, *, patience_s: float) -> None:
        """Do what waits, close the connection, and refuse whatever comes later.

        What takes longer than `patience_s` is cut off: its server does not answer.
        """
        self._ended = True
        try:
            async with asyncio.timeout(patience_s):
                await self._turn.acquire()
        except TimeoutError:
            self._give_up()
            return
        try:
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(*DRIVER_ERRORS):
                    await connection.close(timeout=CLOSE_TIMEOUT_S)
        finally:
            self._turn.release()

    async def _run(self, body: Callable[[Any], Awaitable[T]]) -> T:
        if self._ended:
            raise StoreUnavailable("it is not open")
        async with self._turn:
            if self._connection is not None and self._connection.is_closed():
                self._give_up()
            try:
                if self._connection is None:
                    self._connection = await self._connect()
                return await body(self._connection)
            except DRIVER_ERRORS as error:
                # Not the server's word: what it is doing, and in which state the driver is, nobody knows. 25006: it has
                # become a standby, and a fresh connection may find the server that took over.
                if not isinstance(error, asyncpg.PostgresError) or is_about(error, "25006"):
                    self._give_up()
                raise told(error) from error
            finally:
                await self._settle()

    async def _settle(self) -> None:
        """Leave no transaction open."""
        connection = self._connection
        if connection is None or connection.is_closed() or not connection.is_in_transaction():
            return
        try:
            await connection.execute(self._rollback)
        except DRIVER_ERRORS:
            self._give_up()

    def _give_up(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
