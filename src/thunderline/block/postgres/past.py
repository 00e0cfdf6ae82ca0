"""The past in PostgreSQL: which revision a moment is, states that are kept, and what goes once the log begins later."""

from __future__ import annotations

from typing import Any, Final

from thunderline.block.store import LogMark, Snapshot
from thunderline.core.clock import Clock
from thunderline.core.ids import Revision

STEP_WANTED_S: Final = 0.05
"""How long a step of removing should take; commits do not wait for it, but share the disk with it."""
STEP_LEAST: Final = 32
STEP_MOST: Final = 4_096
"""Events that one step looks at; from step to step it follows from how long the last one took."""
PARTS: Final = 16
"""Parts of snapshots that one step removes."""


class PastTables:
    """The log as history, and the states that are kept of it."""

    def __init__(self, queries: Any) -> None:
        self._queries = queries

    async def revision_at(self, connection: Any, at_ms: int) -> Revision:
        """See `Store.revision_at`; within one transaction."""
        end = (await connection.fetchrow(self._queries.select_head.sql))["revision"]
        steps = [row[0] for row in await connection.fetch(self._queries.clock_steps.sql, end)]
        for start in [*steps, 1]:
            # From one step of the clock to the next, times do not fall.
            found = await self._last_by(connection, at_ms, start, end)
            if found >= start:
                return Revision(found)
            end = start - 1
        return Revision(0)

    async def _last_by(self, connection: Any, at_ms: int, start: int, end: int) -> int:
        """The newest revision from `start` to `end` of an event by then, below `start` if there is none."""
        low, high = start - 1, end
        while low < high:
            middle = (low + high + 1) // 2
            row = await connection.fetchrow(self._queries.event_time.sql, middle, high)
            if row is not None and row["at_ms"] <= at_ms:
                low = row["revision"]
            else:
                high = middle - 1
        return low

    async def snapshot(self, connection: Any, revision: Revision, least: int) -> Snapshot | None:
        """See `Store.read_snapshot`; within one transaction."""
        found = await connection.fetchval(self._queries.snapshot_below.sql, revision, least)
        if found is None:
            return None
        parts = [row["body"] for row in await connection.fetch(self._queries.snapshot_parts.sql, found)]
        return Snapshot(revision=Revision(found), parts=parts)

    async def keep(self, connection: Any, snapshot: Snapshot) -> None:
        """See `Store.keep_snapshot`; within one transaction, since commits need not wait for it."""
        await connection.execute(self._queries.delete_snapshot.sql, snapshot.revision)
        for part, body in enumerate(snapshot.parts):
            await connection.execute(self._queries.insert_snapshot.sql, snapshot.revision, part, body)

    async def mark(self, connection: Any, *, age_ms: int, revision: Revision) -> LogMark | None:
        """See `Store.read_mark`."""
        row = await connection.fetchrow(self._queries.mark_below.sql, revision, age_ms)
        return None if row is None else LogMark(revision=Revision(row["revision"]), age_ms=row["age_ms"])


class LogTail:
    """The beginning of the log, changed within transactions of the caller."""

    def __init__(self, queries: Any, *, clock: Clock) -> None:
        self._queries = queries
        self._clock = clock
        self._step = STEP_LEAST

    async def drop_snapshots(self, connection: Any, *, below: int) -> bool:
        """Remove some of the snapshots below a revision; whether there were any."""
        done: str = await connection.execute(self._queries.delete_snapshots.sql, below, PARTS)
        return done != "DELETE 0"

    async def compact(self, connection: Any) -> bool:
        """Remove some of what is before the beginning; False when nothing is left to remove."""
        started = self._clock.monotonic()
        oldest, compacted = await connection.fetchrow(self._queries.select_tail.sql)
        if await self.drop_snapshots(connection, below=oldest):
            return True
        # The event at the beginning stays, whatever it is: its time is that of the oldest moment.
        until = min(compacted + self._step, oldest - 1)
        if until <= compacted:
            return False
        await connection.execute(self._queries.delete_superseded.sql, compacted, until)
        await connection.execute(self._queries.delete_closed_sessions.sql, compacted, until)
        await connection.execute(self._queries.delete_ends.sql, compacted, until)
        await connection.execute(self._queries.set_compacted.sql, until)
        took_s = self._clock.monotonic() - started
        if took_s > STEP_WANTED_S:
            self._step = max(STEP_LEAST, self._step // 2)
        elif took_s < STEP_WANTED_S / 2:
            self._step = min(STEP_MOST, self._step * 2)
        return True

    async def begin(self, connection: Any, oldest: Revision) -> None:
        """See `Store.begin_log`."""
        await connection.execute(self._queries.set_oldest.sql, oldest)
        await connection.execute(self._queries.delete_marks.sql, oldest)
        await connection.execute(self._queries.delete_event_minutes.sql, oldest)
