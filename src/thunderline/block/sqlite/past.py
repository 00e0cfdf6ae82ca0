"""The past in SQLite: which revision a moment is, what changed between two, and states that are kept."""

from __future__ import annotations

import sqlite3
from typing import Any

from thunderline.block import rows
from thunderline.block.store import EntityChange, LogMark, Snapshot
from thunderline.core.ids import Revision


class PastTables:
    """Reads of the log as history; they run on a reader's thread."""

    def __init__(self, queries: Any) -> None:
        self._queries = queries

    def changes(self, connection: sqlite3.Connection, *, after: Revision, until: Revision) -> list[EntityChange]:
        """See `Store.read_changes`."""
        # Of many rows of one entity only the newest is held, and decoded.
        newest = {row[0]: row for row in connection.execute(self._queries.read_changes.sql, (after, until))}
        return [rows.read_change(row) for row in newest.values()]

    def revision_at(self, connection: sqlite3.Connection, at_ms: int) -> Revision:
        """See `Store.revision_at`."""
        (end,) = connection.execute(self._queries.select_head.sql).fetchone()[1:2]
        steps = [revision for (revision,) in connection.execute(self._queries.clock_steps.sql, (end,))]
        for start in [*steps, 1]:
            # From one step of the clock to the next, times do not fall.
            found = self._last_by(connection, at_ms, start, end)
            if found >= start:
                return Revision(found)
            end = start - 1
        return Revision(0)

    def _last_by(self, connection: sqlite3.Connection, at_ms: int, start: int, end: int) -> int:
        """The newest revision from `start` to `end` of an event by then, below `start` if there is none."""
        low, high = start - 1, end
        while low < high:
            middle = (low + high + 1) // 2
            row = connection.execute(self._queries.event_time.sql, (middle, high)).fetchone()
            if row is not None and row[1] <= at_ms:
                low = row[0]
            else:
                high = middle - 1
        return low

    def commit_end(self, connection: sqlite3.Connection, revision: Revision) -> Revision:
        """See `Store.commit_end`."""
        row = connection.execute(self._queries.commit_end.sql, (revision,)).fetchone()
        return revision if row is None or row[0] is None else Revision(row[0])

    def snapshot(self, connection: sqlite3.Connection, revision: Revision, least: int) -> Snapshot | None:
        """See `Store.read_snapshot`."""
        found = connection.execute(self._queries.read_snapshot.sql, (revision, least)).fetchall()
        return Snapshot(revision=Revision(found[0][0]), parts=[body for _, body in found]) if found else None

    def mark(self, connection: sqlite3.Connection, *, age_ms: int, revision: Revision) -> LogMark | None:
        """See `Store.read_mark`."""
        row = connection.execute(self._queries.mark_below.sql, (revision, age_ms)).fetchone()
        return None if row is None else LogMark(revision=Revision(row[0]), age_ms=row[1])
