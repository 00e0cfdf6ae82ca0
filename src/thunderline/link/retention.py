"""The log's beginning: for how long the past is kept, and what is forgotten then.

At an age of `log_retention_s` what was may be forgotten, but for the newest `log_events_min` events, which stay
whatever their age. The log then begins at a later moment, of which a snapshot is kept first; what only moments before
it need is removed in steps between which commits go on. Ages are measured by `Ages`, from marks of where the log stood
when: no step of the wall clock costs anybody their past, and events do not have to be in the order of their times.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from thunderline.block.store import LogMark, Store
from thunderline.core.clock import Clock
from thunderline.core.errors import StoreUnavailable
from thunderline.core.ids import Revision
from thunderline.core.logging import get_logger
from thunderline.core.settings import Settings
from thunderline.link.ages import Ages
from thunderline.link.event_log import EventLog
from thunderline.link.snapshots import Snapshots

log = get_logger(__name__)

LOOK_S: Final = 60.0
"""Between two looks, with jitter."""

MARK_S: Final = 3600.0
MARKS: Final = 24
"""A mark is set every hour, or as often as there are to be so many in the retention: what is kept is longer by up to
one. More often would forget in smaller pieces, each of which costs a snapshot."""

_ANY_AGE_MS: Final = 2**62


class Retention:
    """The task that moves the log's beginning."""

    def __init__(
        self,
        store: Store,
        events: EventLog,
        snapshots: Snapshots,
        *,
        ages: Ages,
        clock: Clock,
        settings: Settings,
        rng: random.Random,
        store_is_away: Callable[[], bool],
    ) -> None:
        self._store = store
        self._events = events
        self._snapshots = snapshots
        self._ages = ages
        self._clock = clock
        self._rng = rng
        self._store_is_away = store_is_away
        self._keep_ms = round(settings.log_retention_s * 1000)
        self._keep_events = settings.log_events_min
        self._newest: LogMark | None = None

    async def run(self) -> None:
        """Look after the log's beginning until cancelled."""
        told = ""
        while True:
            await self._clock.sleep(LOOK_S * self._rng.uniform(0.8, 1.2))
            if self._store_is_away():
                continue
            try:
                await self.look_after()
            except StoreUnavailable as error:
                # Once for each reason: a disk may stay full for days.
                if error.reason != told:
                    log.warning("log not looked after", reason=error.reason)
                told = error.reason
            else:
                told = ""

    async def look_after(self) -> None:
        """Mark where the log stands, and forget what is old. Raises: StoreUnavailable; what was done stays done."""
        now_ms = await self._mark(await self._ages.now_ms())
        await self._forget(now_ms - self._keep_ms)
        # Also what an earlier run left.
        while not self._store_is_away() and await self._store.compact_log():
            pass

    async def _mark(self, now_ms: int) -> int:
        """Set a mark if it is time for one; gives the age, which is never below that of an earlier mark."""
        head = self._events.revision
        if self._newest is None:
            self._newest = await self._store.read_mark(age_ms=_ANY_AGE_MS, revision=head)
        newest = self._newest
        if newest is not None:
            now_ms = max(now_ms, newest.age_ms)
            every_ms = min(MARK_S * 1000, self._keep_ms / MARKS)
            if head == newest.revision or now_ms - newest.age_ms < every_ms:
                return now_ms
        mark = LogMark(revision=head, age_ms=now_ms)
        await self._store.mark_log(mark)
        self._newest = mark
        return now_ms

    async def _forget(self, before_ms: int) -> None:
        enough = Revision(self._events.revision - self._keep_events)
        mark = await self._store.read_mark(age_ms=before_ms, revision=enough)
        if mark is None or mark.revision <= self._events.oldest:
            return
        await self._snapshots.keep(mark.revision)
        # Before anything is removed: whoever reads meanwhile learns of it by then, and does not believe what it read.
        await self._store.begin_log(mark.revision)
        self._events.oldest = mark.revision
        log.info("the log begins later", oldest=mark.revision, events=self._events.revision - mark.revision)
