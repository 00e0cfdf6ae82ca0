"""The event log as it is read: cursors, pages of it, and watches that go on from it."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Final

import msgspec

from thunderline.block.store import Store
from thunderline.core.errors import CursorGone
from thunderline.core.ids import Revision
from thunderline.core.records import Event
from thunderline.flow.bus import Backlog, Bus
from thunderline.flow.match import Pattern
from thunderline.flow.taxonomy import NODE_HEARTBEAT, TRANSIENT
from thunderline.link.cursor import read_cursor, write_cursor
from thunderline.link.roster import Roster
from thunderline.link.watch import Watch

LOOKED_AT_MAX: Final = 10_000
"""Events that one answer looks at, so that a rare pattern does not walk the whole log in one go."""


_HEARTBEAT: Final = NODE_HEARTBEAT.rpartition(".")[2]


class EventPage(msgspec.Struct, frozen=True):
    """Events in revision order; `next_since` is the cursor behind what was looked at, matching or not."""

    events: list[Event]
    next_since: Revision
    revision: Revision


class EventLog:
    """The log of one registry. `oldest` is the revision before the oldest event that is kept."""

    def __init__(self, store: Store, roster: Roster, bus: Bus, paced: Bus, *, backlog_max: int) -> None:
        """`paced` is the bus of those for whom heartbeats are made fewer."""
        self.oldest = Revision(0)
        self.watches_ended = asyncio.Event()
        """Set once watches end, and none begins any more."""
        self._store = store
        self._roster = roster
        self._bus = bus
        self._paced = paced
        self._backlog_max = backlog_max
        self._began: tuple[Revision, datetime] | None = None

    @property
    def cursor(self) -> str:
        """Where the log stands: watching from here tells everything that is not yet in the roster."""
        return write_cursor(self._roster.log_id, self._roster.revision)

    def cursor_at(self, revision: Revision) -> str:
        """The cursor behind `revision`."""
        return write_cursor(self._roster.log_id, revision)

    @property
    def revision(self) -> Revision:
        """Of the newest event."""
        return self._roster.revision

    def revision_of(self, cursor: str | None, *, field: str = "since") -> Revision:
        """The revision that `cursor` stands behind. Raises: InvalidInput and CursorGone, which name `field`."""
        return read_cursor(
            cursor, log_id=self._roster.log_id, oldest=self.oldest, head=self._roster.revision, field=field
        )

    def watch(
        self,
        pattern: str = ">",
        since: str | None = None,
        *,
        transient: bool | None = None,
        paced: bool = False,
        damped: bool = False,
    ) -> Watch:
        """Watch events whose name matches, from now on, or everything after the cursor `since`.

        `transient` events, heartbeats, are told and made only for those who ask: with None, where the pattern spells
        the word `heartbeat`. `paced` ones are those of a node four times a second at most, the newest each time.
        With `damped`, changes of status of nodes that are marked as flapping are left out.
        Raises: InvalidInput, CursorGone.
        """
        if transient is None:
            transient = _HEARTBEAT in pattern.split(".")
        start = self._roster.revision if since is None else self.revision_of(since)
        return Watch(
            self._store,
            self._roster,
            self._paced if paced else self._bus,
            pattern=Pattern(pattern, without=frozenset() if transient else TRANSIENT, damped=damped),
            since=start,
            backlog_max=self._backlog_max,
            oldest=lambda: self.oldest,
        )

    @property
    def watchers(self) -> int:
        """How many watch live; who still reads what was before does not count."""
        return self._bus.listeners + self._paced.listeners

    def backlog(self) -> Backlog:
        """What waits for them."""
        one, other = self._bus.backlog(), self._paced.backlog()
        return Backlog(one.waiting + other.waiting, max(one.longest, other.longest), one.cuts + other.cuts)

    async def begins_at(self) -> datetime | None:
        """When the oldest event was that is kept, None without any. Raises: StoreUnavailable.

        The log is read only where its beginning is another than when this was asked last.
        """
        oldest = self.oldest
        if self._began is None or self._began[0] != oldest:
            first = await self._store.read_events(after=oldest, limit=1)
            if not first:
                return None
            self._began = (oldest, first[0].at)
        return self._began[1]

    def end_watches(self) -> None:
        """End every watch, and let none begin: nothing else waits for them when the server is to stop. Idempotent."""
        self.watches_ended.set()
        self._bus.close()
        self._paced.close()

    async def page(self, *, since: Revision, before: Revision | None = None, pattern: Pattern, limit: int) -> EventPage:
        """At most `limit` matching events with since < revision (< before), in order.

        The page may hold fewer, or none, while there are more: go on from `next_since` until it is `revision`. Raises:
        CursorGone when the log was compacted past `since` before this was read.
        """
        found: list[Event] = []
        looked_at = since
        head = self._roster.revision
        end = Revision(head + 1) if before is None else Revision(min(before, head + 1))
        furthest = min(end - 1, since + LOOKED_AT_MAX)
        while len(found) < limit and looked_at < furthest:
            page = await self._store.read_events(after=looked_at, before=end, limit=max(limit, 500))
            if looked_at < self.oldest:
                # Compaction went past it: what would be given now has gaps.
                raise CursorGone(str(looked_at), why=f"the log begins after {self.oldest} by now")
            if not page:
                break
            for event in page:
                looked_at = event.revision
                if pattern.holds(event):
                    found.append(event)
                    if len(found) == limit:
                        break
        return EventPage(found, looked_at, head)
