"""Who hears of events after their commit: the bus contract, and the bus within one process."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from thunderline.core.errors import ShuttingDown, WatchCut
from thunderline.core.records import Event, Reliability
from thunderline.flow.match import Pattern


class Subscription(ABC):
    """One listener's events, in the order of the log; iterate it, and `close` it when done."""

    @abstractmethod
    async def take(self, limit: int) -> list[Event]:
        """The next matching events, in order: all that wait up to `limit`, and at least one, however long that takes.

        Cancelling loses nothing. Raises: WatchCut when more than the backlog was waiting, ShuttingDown when the bus or
        the subscription was closed; both once what was waiting has been given, and nothing follows then.
        """

    async def next(self) -> Event:
        """The next matching event; otherwise as `take`."""
        return (await self.take(1))[0]

    @abstractmethod
    def position(self) -> int:
        """The revision up to which nothing is left to hear, matching or not; 0 while that is not known."""

    @abstractmethod
    def close(self) -> None:
        """Hear nothing more; idempotent."""


class Backlog(NamedTuple):
    """Events that wait: for all listeners together, and for the one who is furthest behind; `cuts` counts those who
    were cut for their backlog since the start."""

    waiting: int = 0
    longest: int = 0
    cuts: int = 0


class Bus(ABC):
    """Carries committed events to listeners. It keeps nothing: what was missed is read from the log."""

    @abstractmethod
    def publish(self, events: Sequence[Event]) -> None:
        """Tell every listener of `events`, in order; never waits and never fails for a listener's sake."""

    @abstractmethod
    def subscribe(self, pattern: Pattern, *, backlog_max: int) -> Subscription:
        """Hear what is published from now on and matches. The caller closes it. Raises: ShuttingDown once closed."""

    @abstractmethod
    def close(self) -> None:
        """Carry nothing more: every listener is told once it has heard what is waiting for it; idempotent."""

    @abstractmethod
    def wants(self, name: str) -> bool:
        """Whether anybody listens for `name`: a transient event that nobody wants need not be made."""

    @property
    @abstractmethod
    def listeners(self) -> int:
        """How many listen."""

    @abstractmethod
    def backlog(self) -> Backlog:
        """What waits for listeners; costs as much as there are listeners."""


class Publisher(Protocol):
    """What whoever commits needs of a bus."""

    def publish(self, events: Sequence[Event]) -> None:
        """As `Bus.publish`."""

    @property
    def listeners(self) -> int:
        """As `Bus.listeners`."""


class Buses:
    """Several buses of one log."""

    def __init__(self, *buses: Bus) -> None:
        self._buses = buses

    def publish(self, events: Sequence[Event]) -> None:
        """Tell the listeners of every bus."""
        for bus in self._buses:
            bus.publish(events)

    @property
    def listeners(self) -> int:
        """How many listen, on all of them."""
        return sum(bus.listeners for bus in self._buses)

    def wants(self, name: str) -> bool:
        """Whether anybody listens for `name` on any."""
        return any(bus.wants(name) for bus in self._buses)

    def close(self) -> None:
        """Close every bus; idempotent."""
        for bus in self._buses:
            bus.close()


class LocalBus(Bus):
    """The bus within one process.

    Listeners with the same pattern are told together: a pattern is asked once for an event, however many use it, and
    a listener is woken once for a publication, however many events it brings.
    """

    def __init__(self) -> None:
        self._audiences: dict[tuple[str, frozenset[str], bool], _Audience] = {}
        self._closed = False
        self._cuts = 0

    def publish(self, events: Sequence[Event]) -> None:
        if not events:
            return
        offered = max((event.revision for event in events if event.reliability is Reliability.PERSISTENT), default=0)
        for audience in tuple(self._audiences.values()):
            holds = audience.pattern.holds
            found = [event for event in events if holds(event)]
            if found:
                for listener in tuple(audience.listeners):
                    listener.offer(found)
            # After the offers: who is cut by one of them keeps where it stood.
            audience.offered = offered or audience.offered

    def subscribe(self, pattern: Pattern, *, backlog_max: int) -> Subscription:
        if self._closed:
            raise ShuttingDown
        audience = self._audiences.get(pattern.key)
        if audience is None:
            audience = self._audiences[pattern.key] = _Audience(pattern, self._audiences)
        return _LocalSubscription(audience, backlog_max, self._was_cut)

    def close(self) -> None:
        self._closed = True
        for audience in tuple(self._audiences.values()):
            for listener in tuple(audience.listeners):
                listener.close()

    def wants(self, name: str) -> bool:
        return any(audience.pattern.matches(name) for audience in self._audiences.values())

    @property
    def listeners(self) -> int:
        return sum(len(audience.listeners) for audience in self._audiences.values())

    def backlog(self) -> Backlog:
        waiting = [each.waiting for audience in self._audiences.values() for each in audience.listeners]
        return Backlog(sum(waiting), max(waiting, default=0), self._cuts)

    def _was_cut(self) -> None:
        self._cuts += 1


class _Audience:
    """The listeners of one pattern, for as long as there are any."""

    def __init__(self, pattern: Pattern, registered: dict[tuple[str, frozenset[str], bool], _Audience]) -> None:
        self.pattern = pattern
        self.listeners: dict[_LocalSubscription, None] = {}
        self.offered = 0
        """The newest revision that was published, matching or not; 0 while there was none."""
        self._registered = registered

    def leave(self, listener: _LocalSubscription) -> None:
        """Tell `listener` nothing more; idempotent."""
        self.listeners.pop(listener, None)
        if not self.listeners and self._registered.get(self.pattern.key) is self:
            del self._registered[self.pattern.key]


class _LocalSubscription(Subscription):
    def __init__(self, audience: _Audience, backlog_max: int, was_cut: Callable[[], None]) -> None:
        self._audience = audience
        self._was_cut = was_cut
        self._backlog_max = backlog_max
        self._waiting: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._passed = 0
        self._stopped_at: int | None = None
        self._cut = False
        self._closed = False
        audience.listeners[self] = None

    def offer(self, events: Sequence[Event]) -> None:
        """Let `events`, at least one, wait; cut once they are too many."""
        room = self._backlog_max - len(self._waiting)
        if len(events) <= room:
            self._waiting.extend(events)
        else:
            self._waiting.extend(events[:room])
            # Dropping one would break the order unseen; the listener drains what it has, learns of the cut, resumes.
            self._cut = True
            self._was_cut()
            self._stop(before=events[room])
        self._arrived.set()

    @property
    def waiting(self) -> int:
        """How many events wait."""
        return len(self._waiting)

    async def take(self, limit: int) -> list[Event]:
        waiting = self._waiting
        while not waiting:
            if self._cut:
                raise WatchCut(backlog=self._backlog_max, resume_from=self._passed)
            if self._closed:
                raise ShuttingDown
            self._arrived.clear()
            await self._arrived.wait()
        if len(waiting) <= limit:
            taken = list(waiting)
            waiting.clear()
        else:
            taken = [waiting.popleft() for _ in range(limit)]
        for event in reversed(taken):
            if event.reliability is Reliability.PERSISTENT:
                self._passed = event.revision
                break
        return taken

    def position(self) -> int:
        if self._waiting:
            return self._passed
        return self._audience.offered if self._stopped_at is None else self._stopped_at

    def close(self) -> None:
        if not self._closed:
            self._stop()
            self._arrived.set()

    def _stop(self, *, before: Event | None = None) -> None:
        """Hear nothing more from now on, or from `before` on: where the audience stands is no position any more."""
        self._closed = True
        self._audience.leave(self)
        if before is None:
            self._stopped_at = self._audience.offered
        else:
            # A transient event has the revision of the last one before it.
            transient = before.reliability is Reliability.TRANSIENT
            self._stopped_at = before.revision if transient else before.revision - 1
