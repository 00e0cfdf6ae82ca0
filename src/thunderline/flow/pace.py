"""A bus for who watches with eyes: heartbeats of a node four times a second at most, all else as it happens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from thunderline.core.clock import Clock
from thunderline.core.records import Event, Reliability
from thunderline.flow.bus import Backlog, Bus, Subscription
from thunderline.flow.match import Pattern

SPACING_S: Final = 0.25
"""Between two heartbeats of a node. Less is more than a page can show; more would be seen to lag."""


class PacedBus(Bus):
    """Carries what it is told to the listeners of `bus`, which is its own.

    The first transient event of an entity is carried at once. Of those that come within `SPACING_S` of one that was
    carried, the newest waits until that is over, and stands for those before it. `run` is the task that looks after
    them; it costs nothing while there are none.
    """

    def __init__(self, bus: Bus, *, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock
        # In the order of the times, which are those of the last event that was carried.
        self._carried_at: dict[str, float] = {}
        self._held: dict[str, Event] = {}
        self._any_held = asyncio.Event()

    def publish(self, events: Sequence[Event]) -> None:
        if all(event.reliability is Reliability.PERSISTENT for event in events):
            self._bus.publish(events)
            return
        now = self._clock.monotonic()
        carried = self._take_due(now)
        for event in events:
            if event.reliability is Reliability.PERSISTENT:
                carried.append(event)
            elif event.entity_id in self._carried_at:
                self._held[event.entity_id] = event
            else:
                self._carried_at[event.entity_id] = now
                carried.append(event)
        if self._held:
            self._any_held.set()
        if carried:
            self._bus.publish(carried)

    def subscribe(self, pattern: Pattern, *, backlog_max: int) -> Subscription:
        return self._bus.subscribe(pattern, backlog_max=backlog_max)

    def close(self) -> None:
        self._bus.close()

    def wants(self, name: str) -> bool:
        return self._bus.wants(name)

    @property
    def listeners(self) -> int:
        return self._bus.listeners

    def backlog(self) -> Backlog:
        return self._bus.backlog()

    async def run(self) -> None:
        """Carry what was held once its time has come, until cancelled."""
        while True:
            await self._any_held.wait()
            while self._held:
                # Nothing is held of an entity that is not among these, and the first of them is the next to be due.
                await self._clock.sleep_until(next(iter(self._carried_at.values())) + SPACING_S)
                if due := self._take_due(self._clock.monotonic()):
                    self._bus.publish(due)
            self._any_held.clear()

    def _take_due(self, now: float) -> list[Event]:
        """What was held for long enough; forgets those of which nothing is."""
        due: list[Event] = []
        while self._carried_at:
            entity_id, carried_at = next(iter(self._carried_at.items()))
            if carried_at + SPACING_S > now:
                break
            del self._carried_at[entity_id]
            if (event := self._held.pop(entity_id, None)) is not None:
                due.append(event)
        for event in due:
            self._carried_at[event.entity_id] = now
        return due
