"""A clock that stands still until it is turned."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import Final

from thunderline.core.clock import Clock

START_MS: Final = 1_767_225_600_000
"""2026-01-01 00:00:00 UTC: where a new ManualClock stands."""


class ManualClock(Clock):
    """Time as the test says. Who sleeps on it wakes when `advance` passes the deadline, in the order of deadlines."""

    def __init__(self, *, start_ms: int = START_MS) -> None:
        self._now_ms = float(start_ms)
        self._monotonic = 1000.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def now_ms(self) -> int:
        return int(self._now_ms)

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep_until(self, deadline: float) -> None:
        if deadline <= self._monotonic:
            # As a real clock would: let others run, so that a loop over a past deadline cannot hang the test.
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (deadline, next(self._order), woken))
        await woken

    @property
    def sleepers(self) -> int:
        """How many tasks are asleep on this clock."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    async def advance(self, duration_s: float) -> None:
        """Turn both clocks on by `duration_s`, stopping at each deadline on the way for its sleeper to act.

        Work that a sleeper hands to a thread or a socket may still be under way afterwards. Raises: ValueError when
        asked to go back.
        """
        if duration_s < 0:
            raise ValueError("a monotonic clock does not go back")
        end = self._monotonic + duration_s
        while self._sleepers and self._sleepers[0][0] <= end:
            deadline, _, woken = heapq.heappop(self._sleepers)
            self._turn_to(max(deadline, self._monotonic))
            if not woken.done():
                woken.set_result(None)
                await _let_others_run()
        self._turn_to(end)
        await _let_others_run()

    def pause(self, duration_s: float) -> None:
        """Turn both clocks on while nobody acts, as for a stopped process; sleepers wake late, at `advance`."""
        self._turn_to(self._monotonic + duration_s)

    def jump_wall(self, duration_s: float) -> None:
        """Move the wall clock alone, either way, as an administrator or a time server would."""
        self._now_ms += duration_s * 1000

    def _turn_to(self, monotonic: float) -> None:
        self._now_ms += (monotonic - self._monotonic) * 1000
        self._monotonic = monotonic


async def _let_others_run() -> None:
    # A chain of ready callbacks takes one turn of the loop each; ten are more than any chain of ours.
    for _ in range(10):
        await asyncio.sleep(0)
