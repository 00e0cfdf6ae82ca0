"""What is removed of the log once it begins later: in steps, each a transaction of a few milliseconds."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from thunderline.core.clock import Clock
from thunderline.core.ids import Revision

STEP_WANTED_S: Final = 0.01
"""How long a step should take: commits wait for one at most."""
STEP_LEAST: Final = 32
STEP_MOST: Final = 4_096
"""Events that one step looks at; from step to step it follows from how long the last one took."""
PARTS: Final = 4
"""Parts of snapshots that one step removes: some hundred KiB."""


class LogTail:
    """The beginning of the log; it runs on the writer's thread, within transactions of its caller."""

    def __init__(self, queries: Any, *, clock: Clock) -> None:
        self._queries = queries
        self._clock = clock
        self._step = STEP_LEAST

    def drop_snapshots(self, connection: sqlite3.Connection, *, below: int) -> bool:
        """Remove some of the snapshots below a revision; whether there were any."""
        return connection.execute(self._queries.delete_snapshots.sql, (below, PARTS)).rowcount > 0

    def compact(self, connection: sqlite3.Connection) -> bool:
        """Remove some of what is before the beginning; False when nothing is left to remove."""
        started = self._clock.monotonic()
        oldest, compacted = connection.execute(self._queries.select_tail.sql).fetchone()
        if self.drop_snapshots(connection, below=oldest):
            return True
        # The event at the beginning stays, whatever it is: its time is that of the oldest moment.
        until = min(compacted + self._step, oldest - 1)
        if until <= compacted:
            return False
        bounds = (compacted, until)
        connection.execute(self._queries.delete_superseded.sql, bounds)
        connection.execute(self._queries.delete_closed_sessions.sql, bounds)
        connection.execute(self._queries.delete_ends.sql, bounds)
        connection.execute(self._queries.set_compacted.sql, (until,))
        took_s = self._clock.monotonic() - started
        if took_s > STEP_WANTED_S:
            self._step = max(STEP_LEAST, self._step // 2)
        elif took_s < STEP_WANTED_S / 2:
            self._step = min(STEP_MOST, self._step * 2)
        return True

    def begin(self, connection: sqlite3.Connection, oldest: Revision) -> None:
        """See `Store.begin_log`."""
        connection.execute(self._queries.set_oldest.sql, (oldest, oldest))
        connection.execute(self._queries.delete_marks.sql, (oldest,))
        connection.execute(self._queries.delete_event_minutes.sql, (oldest,))
