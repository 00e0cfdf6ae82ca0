"""How much happened when: events counted by bins of time, as a timeline under a topology shows them."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Final

import msgspec

from thunderline.block.rollups import MINUTE_MS
from thunderline.block.store import Store
from thunderline.core.clock import Clock, from_ms, to_ms
from thunderline.core.errors import InvalidInput
from thunderline.core.ids import Revision
from thunderline.flow.taxonomy import TAXONOMY, TRANSIENT
from thunderline.link.event_log import EventLog
from thunderline.link.moments import Moment, Moments, read_moment

WINDOW_S: Final = 86_400.0
"""How far back one looks who does not say."""
BINS_DEFAULT: Final = 120
BINS_MAX: Final = 2_000

KINDS: Final = tuple(dict.fromkeys(row.phoenix for name, row in TAXONOMY.items() if name not in TRANSIENT))
"""What is counted apart: the events of Phoenix channels."""


class Timeline(msgspec.Struct, frozen=True, kw_only=True, rename={"since": "from", "until": "to"}):
    """Events in columns, one item for each bin of `bin_s` seconds from `from` to `to`; `at` is where each begins.

    Bins are whole minutes and aligned to them, so the window may be longer than was asked for, and the bins fewer.
    `counts` has a column for each kind, `events` their sum. `oldest` is the oldest moment that the past can be asked
    for, and `newest` the time of the newest event; both null while there is none.
    """

    since: datetime
    until: datetime
    bin_s: int
    at: list[datetime]
    events: list[int]
    counts: dict[str, list[int]]
    oldest: datetime | None
    newest: datetime | None
    cursor: str


class Timelines:
    """Timelines of one registry's log."""

    def __init__(self, store: Store, log: EventLog, moments: Moments, *, clock: Clock) -> None:
        self._store = store
        self._log = log
        self._moments = moments
        self._clock = clock

    async def between(self, since: Moment | None, until: Moment | None, *, bins: int) -> Timeline:
        """At most `bins` bins from one moment to another.

        Raises: InvalidInput naming `from`, `to` or `bins`; CursorGone for a revision or a cursor that is gone.
        """
        if not 1 <= bins <= BINS_MAX:
            raise InvalidInput("bins", f"should be from 1 to {BINS_MAX:,}")
        end = self._clock.now() if until is None else await self._time(until, "to")
        begin = end - timedelta(seconds=WINDOW_S) if since is None else await self._time(since, "from")
        if begin > end:
            raise InvalidInput("from", "should not be later than to")
        start = to_ms(begin) // MINUTE_MS
        # The bin with the end is one of them, too.
        minutes = to_ms(end) // MINUTE_MS + 1 - start
        width = math.ceil(minutes / bins)
        count = math.ceil(minutes / width)
        oldest, newest = await self._reach()
        found = await self._store.count_events(since_minute=start, until_minute=start + count * width, width=width)
        counts = {kind: [0] * count for kind in KINDS}
        for bin_, name, events in found:
            counts[TAXONOMY[name].phoenix][bin_] += events
        return Timeline(
            since=from_ms(start * MINUTE_MS),
            until=from_ms((start + count * width) * MINUTE_MS),
            bin_s=width * 60,
            at=[from_ms((start + bin_ * width) * MINUTE_MS) for bin_ in range(count)],
            events=[sum(column) for column in zip(*counts.values(), strict=True)],
            counts=counts,
            oldest=oldest,
            newest=newest,
            cursor=self._log.cursor,
        )

    async def _time(self, at: Moment, field: str) -> datetime:
        wanted = read_moment(at, field=field)
        return wanted if isinstance(wanted, datetime) else (await self._moments.both(at, field=field))[0]

    async def _reach(self) -> tuple[datetime | None, datetime | None]:
        times = []
        for revision in (max(self._log.oldest, 1), self._log.revision):
            events = await self._store.read_events(after=Revision(revision - 1), limit=1)
            times.append(events[0].at if events else None)
        return times[0], times[1]
