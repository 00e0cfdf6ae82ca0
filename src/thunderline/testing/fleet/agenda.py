"""What is to be done when: one task for any number of nodes, on the injected clock."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Final

from thunderline.core.clock import Clock

TICK_S: Final = 0.02
"""What is due is done this much late at most: one wake-up for all of it instead of one for each."""


class Agenda:
    """Calls to be made, in the order of their times."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    @property
    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock.monotonic()

    @property
    def wall_s(self) -> float:
        """Seconds since 1970, for what goes by the time of the day."""
        return self._clock.now_ms() / 1000

    def after(self, wait_s: float, act: Callable[[], None]) -> None:
        """Do that in so many seconds. It cannot be taken back: let it look whether it is still wanted."""
        heapq.heappush(self._due, (self._clock.monotonic() + wait_s, next(self._order), act))

    async def run(self) -> None:
        """Do what is due, for ever."""
        while True:
            now = self._clock.monotonic()
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()
            await self._clock.sleep(TICK_S)
