"""A bus for a crowd: the longer it takes to tell everybody, the more events they are told of at once.

To wake a listener and write to its socket costs the same for one event as for several. With a thousand listeners that
takes longer than there is time for between two events, and a process that does nothing but tell has none left to
commit what is to be told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from thunderline.core.clock import Clock
from thunderline.core.records import Event
from thunderline.flow.bus import Backlog, Bus, Subscription
from thunderline.flow.match import Pattern

LEAST_S: Final = 0.002
"""Telling that takes less is followed by no wait: a few dozen listeners hear each event by itself."""

REST: Final = 0.5
"""How long others have the loop, of the time that telling took. More delays events; less delays commits, of which each
needs the loop several times."""

MOST_S: Final = 0.1
"""The longest wait. Whatever else ran while listeners were told is taken for telling, and must not hold up events."""


class GatheringBus(Bus):
    """Carries what it is told to the listeners of `bus`, which is its own.

    What comes while listeners are told, and for half as long again, waits: all that has come by then is one
    publication. So telling takes two thirds of the loop's time at most. `run` is the task that looks after it; it costs
    nothing while nothing waits.
    """

    def __init__(self, bus: Bus, *, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._waiting: list[Event] = []
        self._due = asyncio.Event()
        """Set when something waits for its time, and nobody is being told."""
        self._is_telling = False
        self._next_at = 0.0
        """When they may be told again."""

    def publish(self, events: Sequence[Event]) -> None:
        if not events:
            return
        self._waiting.extend(events)
        if self._is_telling:
            return
        if self._clock.monotonic() >= self._next_at:
            self._flush()
        else:
            self._due.set()

    def subscribe(self, pattern: Pattern, *, backlog_max: int) -> Subscription:
        # What waits is older than the one who listens from now on.
        self._flush()
        return self._bus.subscribe(pattern, backlog_max=backlog_max)

    def close(self) -> None:
        self._flush()
        self._bus.close()

    def wants(self, name: str) -> bool:
        return self._bus.wants(name)

    @property
    def listeners(self) -> int:
        return self._bus.listeners

    def backlog(self) -> Backlog:
        return self._bus.backlog()

    async def run(self) -> None:
        """Carry what waits once its time has come, until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            while self._waiting and not self._is_telling:
                await self._clock.sleep_until(self._next_at)
                # Somebody may have been told meanwhile, and the time be later.
                if not self._is_telling and self._clock.monotonic() >= self._next_at:
                    self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        events, self._waiting = self._waiting, []
        began_at = self._clock.monotonic()
        self._bus.publish(events)
        if not self._is_telling:
            self._is_telling = True
            # Behind the listeners, whom the publication woke: the loop gives turns in the order they were asked for.
            asyncio.get_running_loop().call_soon(self._end_telling, began_at)

    def _end_telling(self, began_at: float) -> None:
        now = self._clock.monotonic()
        took_s = now - began_at
        self._is_telling = False
        if took_s < LEAST_S:
            self._next_at = now
            self._flush()
        else:
            self._next_at = now + min(took_s * REST, MOST_S)
            if self._waiting:
                self._due.set()
