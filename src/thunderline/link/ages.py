"""How old something is: a clock for ages, kept over restarts, which a step of the wall clock does not move."""

from __future__ import annotations

from typing import Final

from thunderline.block.store import HistoryClock, Store
from thunderline.core.clock import Clock

KEEP_CLOCK_S: Final = 300.0
"""Between two times that the age clock is written; what a crash loses of it counts as a step of the wall clock."""

STEP_STANDS_MS: Final = 24 * 3_600_000
"""A step of the wall clock, or the time in which nothing ran, makes things older only once it has stood for so long."""


class AgeClock:
    """Wall time for ages: runs with the monotonic clock, is never ahead of the wall clock, and follows it slowly.

    By how much the wall clock leads is looked at all the time: after `STEP_STANDS_MS` of running, the least lead that
    it had in all that time is made up for. So a wall clock that jumps ahead, or the time in which the machine was off,
    makes nothing old at once; one that goes back makes nothing old at all.
    """

    def __init__(self, kept: HistoryClock | None, *, wall_ms: int, monotonic_s: float) -> None:
        """Go on from where `kept` stood, or begin with the wall clock."""
        self._now_ms = float(wall_ms if kept is None else kept.now_ms)
        self._lead_ms = 0.0 if kept is None else float(kept.lead_ms)
        self._stood_ms = 0.0 if kept is None else float(kept.stood_ms)
        self._looked_at = monotonic_s

    def look(self, *, wall_ms: int, monotonic_s: float) -> int:
        """What time it is, as far as ages are concerned."""
        passed_ms = (monotonic_s - self._looked_at) * 1000
        self._looked_at = monotonic_s
        self._now_ms = min(self._now_ms + passed_ms, float(wall_ms))
        lead_ms = wall_ms - self._now_ms
        if lead_ms <= 0:
            self._lead_ms = self._stood_ms = 0.0
        elif self._lead_ms == 0:
            self._lead_ms = lead_ms
        else:
            self._lead_ms = min(self._lead_ms, lead_ms)
            self._stood_ms += passed_ms
            if self._stood_ms >= STEP_STANDS_MS:
                self._now_ms += self._lead_ms
                self._lead_ms = self._stood_ms = 0.0
        return int(self._now_ms)

    def state(self) -> HistoryClock:
        """What to keep over a restart."""
        return HistoryClock(now_ms=int(self._now_ms), lead_ms=int(self._lead_ms), stood_ms=int(self._stood_ms))


class Ages:
    """The age clock of a store, which whatever forgets by age shares."""

    def __init__(self, store: Store, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._ages: AgeClock | None = None
        self._kept_at = 0.0

    async def now_ms(self) -> int:
        """What time it is, as far as ages are concerned. Raises: StoreUnavailable."""
        if self._ages is None:
            kept = await self._store.history_clock()
            # Somebody else may have asked meanwhile.
            if self._ages is None:
                now = self._clock.monotonic()
                self._ages = AgeClock(kept, wall_ms=self._clock.now_ms(), monotonic_s=now)
                self._kept_at = now - KEEP_CLOCK_S
        now = self._clock.monotonic()
        now_ms = self._ages.look(wall_ms=self._clock.now_ms(), monotonic_s=now)
        if now - self._kept_at >= KEEP_CLOCK_S:
            self._kept_at = now
            await self._store.set_history_clock(self._ages.state())
        return now_ms
