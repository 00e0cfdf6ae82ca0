"""A bus for a crowd: the more listen, the more events they are told of at once.

To wake a listener and write to its socket costs the same for one event as for several, and with a thousand listeners
that is more than there is time for between two events.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from thunderline.core.clock import Clock
from thunderline.core.records import Event
from thunderline.flow.bus import Backlog, Bus, Subscription
from thunderline.flow.match import Pattern

PER_LISTENER_S: Final = 30e-6
"""Time between two publications for each listener: somewhat more than it costs to tell one. Lower leaves less time for
all else; higher delays events that come in quick succession."""

LEAST_S: Final = 0.005
"""A shorter wait is none: up to 166 listeners are told of each event by itself."""


class GatheringBus(Bus):
    """Carries what it is told to the listeners of `bus`, which is its own.

    What comes soon after a publication waits until as much time has passed as its listeners need; all that has come by
    then is one publication. `run` is the task that looks after it; it costs nothing while nothing waits.
    """

    def __init__(self, bus: Bus, *, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        self._waiting: list[Event] = []
        self._any = asyncio.Event()
        self._next_at = 0.0
        """When the listeners may be told again."""

    def publish(self, events: Sequence[Event]) -> None:
        if not events:
            return
        self._waiting.extend(events)
        if self._clock.monotonic() >= self._next_at:
            self._flush()
        else:
            self._any.set()

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
            await self._any.wait()
            while self._waiting:
                await self._clock.sleep_until(self._next_at)
                # Somebody may have been told meanwhile, and the time be later.
                if self._clock.monotonic() >= self._next_at:
                    self._flush()
            self._any.clear()

    def _flush(self) -> None:
        if self._waiting:
            events, self._waiting = self._waiting, []
            self._bus.publish(events)
            wait_s = self._bus.listeners * PER_LISTENER_S
            self._next_at = self._clock.monotonic() + (wait_s if wait_s >= LEAST_S else 0.0)
