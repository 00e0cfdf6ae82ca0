"""Who writes: one process at a time holds the row of a writer, and every commit asserts that it still does.

The holder keeps an advisory lock on the connection that it writes over, so that its end is seen at once. It also renews
a lease, by which it is known where an engine or a role has no such locks. Neither is what safety rests on: the row's
`epoch` is. A holder that was taken for dead writes nothing any more, and finds out by that.
"""

from __future__ import annotations

import hashlib
import os
import socket
from contextlib import suppress
from typing import Any, Final

import asyncpg

from thunderline.block.postgres.connection import SETTINGS
from thunderline.block.postgres.failures import describe, is_about
from thunderline.block.upkeep import Holder
from thunderline.core.clock import Clock
from thunderline.core.errors import StoreLocked, StoreUnavailable
from thunderline.core.logging import get_logger

log = get_logger(__name__)

LEASE_S: Final = 15.0
"""How long a holder counts as alive after its last sign; commits renew it, and so does it itself after a third."""

PATIENCE_S: Final = 2.0
"""How long a claim waits for the lock: the session of a process that was just killed takes a moment to end."""

LOOK_S: Final = 0.1

_NO_LOCKS: Final = ("0A", "42")
"""Classes in which an engine or a role without advisory locks answers."""


class Owner:
    """The claim of one store on a writer's row: from `claim` to `release`, over any number of connections."""

    def __init__(self, writer: str, holder: str, queries: Any, *, location: str, clock: Clock) -> None:
        self.writer = writer
        self.epoch = 0
        self.by_lock = True
        self.newest_batch: str | None = None
        """The last batch that was committed over the connections before the present one."""
        self.holder = holder
        self._queries = queries
        self._location = location
        self._clock = clock
        self._key = _key(writer)
        self._session: tuple[int, Any] | None = None

    async def claim(self, connection: Any) -> None:
        """Become the holder. Raises: StoreLocked when another is alive; what the driver raises."""
        has_lock = await self._take_lock(connection)
        self.by_lock = has_lock is True
        seen_lease = None
        while has_lock is not False:
            me = (self.writer, self.holder, self.by_lock, LEASE_S, os.getpid(), socket.gethostname())
            epoch = await connection.fetchval(self._queries.claim_writer.sql, *me)
            if epoch is not None:
                self.epoch = epoch
                await self._note_session(connection)
                return
            # Nothing tells of the holder's end but its lease: if it renews that, it is alive.
            found = await connection.fetchrow(self._queries.select_holder.sql, self.writer)
            seen_lease = seen_lease or found["lease_until"]
            if found["lease_until"] != seen_lease:
                break
            await self._clock.sleep(LOOK_S)
        found = await connection.fetchrow(self._queries.select_holder.sql, self.writer)
        raise StoreLocked(self._location, owner="another process" if found is None else _told(found))

    async def resume(self, connection: Any) -> None:
        """Go on over a new connection, and bar what the former one may still have under way.

        `newest_batch` is then what it was, durably. Raises: StoreUnavailable; what the driver raises.
        """
        await self._end_former_session(connection)
        has_lock = await self._take_lock(connection)
        if has_lock is False:
            found = await connection.fetchrow(self._queries.select_holder.sql, self.writer)
            if found is None or found["holder"] != self.holder:
                raise await self.lost(connection)
            raise StoreUnavailable("the session of the former connection has not ended yet")
        self.by_lock = has_lock is True
        row = await connection.fetchrow(self._queries.begin_epoch.sql, self.writer, self.holder, LEASE_S, self.by_lock)
        if row is None:
            raise await self.lost(connection)
        self.epoch = row["epoch"]
        self.newest_batch = row["batch_id"]
        await self._note_session(connection)

    async def lost(self, connection: Any) -> StoreUnavailable:
        """What to say of an assertion that failed: who has the database now."""
        found = await connection.fetchrow(self._queries.select_holder.sql, self.writer)
        owner = "nobody" if found is None else _told(found)
        return StoreUnavailable(f"the database belongs to {owner} now; restart this process once that one is gone")

    async def release(self, connection: Any) -> None:
        """Let go, so that the next one need not wait."""
        await connection.execute(self._queries.release_writer.sql, self.writer, self.holder)

    async def _take_lock(self, connection: Any) -> bool | None:
        """Whether the lock is ours on this connection; None where there are no such locks."""
        await connection.execute(self._queries.set_lock_timeout.sql, f"{PATIENCE_S:g}s")
        try:
            await connection.execute(self._queries.take_lock.sql, self._key)
        except asyncpg.LockNotAvailableError:
            return False
        except asyncpg.PostgresError as error:
            if not is_about(error, *_NO_LOCKS):
                raise
            log.debug("no advisory locks, going by the lease", reason=describe(error))
            return None
        finally:
            if not connection.is_closed():
                await connection.execute(self._queries.set_lock_timeout.sql, SETTINGS["lock_timeout"])
        return True

    async def _note_session(self, connection: Any) -> None:
        with suppress(asyncpg.PostgresError):
            row = await connection.fetchrow(self._queries.own_session.sql)
            self._session = None if row is None else (row["pid"], row["backend_start"])

    async def _end_former_session(self, connection: Any) -> None:
        """Have the server end the session whose connection broke: where a network swallowed its end, it would wait."""
        if self._session is None:
            return
        with suppress(asyncpg.PostgresError):
            # Only if it is that very session: the number may be another's by now.
            await connection.fetch(self._queries.end_session.sql, *self._session)


async def holder_of(connection: Any, queries: Any, *, writer: str) -> Holder | None:
    """Who holds the database, going by its lock or, without one, by the lease. Raises: what the driver raises."""
    found = await connection.fetchrow(queries.select_holder.sql, writer)
    if found is None:
        return None
    try:
        is_free = bool(await connection.fetchval(queries.try_lock.sql, _key(writer)))
        if is_free:
            await connection.fetchval(queries.unlock.sql, _key(writer))
            return None
    except asyncpg.PostgresError as error:
        if not is_about(error, *_NO_LOCKS):
            raise
        if not found["is_held"]:
            return None
    return Holder(pid=found["pid"], host=found["host"], since=f"{found['since']:%Y-%m-%dT%H:%M:%SZ}")


def _key(writer: str) -> int:
    """The key of a writer's lock: advisory locks are by number, and a database's own."""
    return int.from_bytes(hashlib.sha256(f"thunderline writer {writer}".encode()).digest()[:8], "big", signed=True)


def _told(row: Any) -> str:
    return str(Holder(pid=row["pid"], host=row["host"], since=f"{row['since']:%Y-%m-%dT%H:%M:%SZ}"))
