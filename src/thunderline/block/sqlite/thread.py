"""A thread that owns a connection: SQLite blocks, the event loop must not."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from thunderline.core.errors import StoreUnavailable
from thunderline.core.logging import get_logger

log = get_logger(__name__)

T = TypeVar("T")


class ConnectionThread:
    """One thread with one connection, made when first needed and again after `disconnect`."""

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection]) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._connect = connect
        self._connection: sqlite3.Connection | None = None

    async def run(self, body: Callable[[sqlite3.Connection], T]) -> T:
        """What `body` gives, with engine errors told as ours and no transaction left open behind an error.

        Cancelling the caller does not stop `body`, nor keep it from starting.
        """
        running = asyncio.get_running_loop().run_in_executor(self._executor, self._run, body)
        return await asyncio.shield(running)

    async def disconnect(self) -> None:
        """Drop the connection; the next `run` makes a fresh one."""
        await asyncio.get_running_loop().run_in_executor(self._executor, self._drop)

    def end(self, *, after: Sequence[Future[None]] = (), then: Callable[[], None] | None = None) -> Future[None]:
        """Do what is queued, wait for `after`, drop the connection, do `then`, and end the thread; done when all is."""

        def body() -> None:
            try:
                wait(after)
                self._drop()
            finally:
                if then is not None:
                    then()

        ended = self._executor.submit(body)
        self._executor.shutdown(wait=False)
        return ended

    def _run(self, body: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._connect()
            return body(self._connection)
        except sqlite3.DatabaseError as error:
            raise StoreUnavailable(describe(error)) from error
        finally:
            # Also when the error is ours: a refused batch must not be half there for the next one.
            if self._connection is not None and self._connection.in_transaction:
                self._roll_back(self._connection)

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            connection.rollback()
        except sqlite3.DatabaseError as error:
            log.warning("rollback failed, connection dropped", error=describe(error))
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def describe(error: sqlite3.Error) -> str:
    """The engine's own name for an error, and what it says."""
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return f"{name}: {error}"
