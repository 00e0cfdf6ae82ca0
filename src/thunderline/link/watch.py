"""Watching: everything after a revision exactly once, in order, first from the log and then as it happens."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from thunderline.block.store import Store
from thunderline.core.errors import CursorGone, WatchCut
from thunderline.core.ids import Revision
from thunderline.core.records import Event, Reliability
from thunderline.flow.bus import Bus, Subscription
from thunderline.flow.match import Pattern
from thunderline.link.roster import Roster

_PAGE: Final = 500
TAKE_MAX: Final = 500
"""Events that are given at once, so that a watcher that has much to catch up on does not do it in one go."""


class Watch:
    """An async iterator of events that match, open for as long as its `async with`.

    Reading the log asks the bus for nothing; the step over to the bus is taken in one go when the log holds nothing
    newer than the roster, so that no event falls between. Raises: WatchCut when the watcher, live, falls further
    behind than its backlog; it resumes with a new watch from `cursor`.
    """

    def __init__(
        self,
        store: Store,
        roster: Roster,
        bus: Bus,
        *,
        pattern: Pattern,
        since: Revision,
        backlog_max: int,
        oldest: Callable[[], Revision],
    ) -> None:
        """`oldest` gives the revision before the oldest event that is kept."""
        self.cursor = since
        """The revision up to which everything that matches was given."""
        self._store = store
        self._roster = roster
        self._bus = bus
        self.pattern = pattern
        self._backlog_max = backlog_max
        self._oldest = oldest
        self._page: deque[Event] = deque()
        self._live: Subscription | None = None

    @property
    def position(self) -> Revision:
        """The revision up to which nothing that matches is left to give, while nobody waits for the next event.

        It also moves on past what does not match, where `cursor` stays.
        """
        return self.cursor if self._live is None else Revision(max(self.cursor, self._live.position()))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        return (await self.take(1))[0]

    async def take(self, limit: int = TAKE_MAX) -> list[Event]:
        """The next events that match, in order: all that wait up to `limit`, and at least one, however long that takes.

        Cancelling loses nothing. Raises: WatchCut, ShuttingDown; both once what was waiting has been given. CursorGone
        when the log was compacted past the cursor before this was read.
        """
        while self._live is None:
            if found := self._take_read(limit):
                return found
            if self.cursor >= self._roster.revision:
                # No await between the comparison and this: what is committed from here on is heard.
                self._live = self._bus.subscribe(self.pattern, backlog_max=self._backlog_max)
            else:
                # What is committed and not yet in the roster is told over the bus, and must not be read as well.
                end = Revision(self._roster.revision + 1)
                page = await self._store.read_events(after=self.cursor, before=end, limit=_PAGE)
                if self.cursor < (oldest := self._oldest()):
                    # Compaction went past this watcher: what it would be given now has gaps.
                    raise CursorGone(str(self.cursor), why=f"the log begins after {oldest} by now")
                self._page.extend(page)
        try:
            taken = await self._live.take(limit)
        except WatchCut as cut:
            raise WatchCut(backlog=cut.backlog, resume_from=self.cursor) from None
        for event in reversed(taken):
            if event.reliability is Reliability.PERSISTENT:
                self.cursor = event.revision
                break
        return taken

    def _take_read(self, limit: int) -> list[Event]:
        """What matches of the page that was read, up to `limit`."""
        found: list[Event] = []
        while self._page and len(found) < limit:
            event = self._page.popleft()
            self.cursor = event.revision
            if self.pattern.holds(event):
                found.append(event)
        return found
