"""Who hears of events after their commit: the bus contract, and the bus within one process."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence

from thunderline.core.errors import ShuttingDown, WatchCut
from thunderline.core.records import Event, Reliability
from thunderline.flow.match import Pattern


class Subscription(ABC):
    """One listener's events, in the order of the log; iterate it, and `close` it when done."""

    @abstractmethod
    async def next(self) -> Event:
        """The next matching event.

        Cancelling loses nothing. Raises: WatchCut when more than the backlog was waiting, ShuttingDown when the bus or
        the subscription was closed; both once what was waiting has been given, and nothing follows then.
        """

    @abstractmethod
    def position(self) -> int:
        """The revision up to which nothing is left to hear, matching or not; 0 while that is not known."""

    @abstractmethod
    def close(self) -> None:
        """Hear nothing more; idempotent."""


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


class LocalBus(Bus):
    """The bus within one process."""

    def __init__(self) -> None:
        self._subscriptions: set[_LocalSubscription] = set()
        self._closed = False

    def publish(self, events: Sequence[Event]) -> None:
        for subscription in tuple(self._subscriptions):
            for event in events:
                subscription.offer(event)

    def subscribe(self, pattern: Pattern, *, backlog_max: int) -> Subscription:
        if self._closed:
            raise ShuttingDown
        subscription = _LocalSubscription(self._subscriptions, pattern, backlog_max)
        self._subscriptions.add(subscription)
        return subscription

    def close(self) -> None:
        self._closed = True
        for subscription in tuple(self._subscriptions):
            subscription.close()

    def wants(self, name: str) -> bool:
        return any(subscription.pattern.matches(name) for subscription in self._subscriptions)


class _LocalSubscription(Subscription):
    def __init__(self, registered: set[_LocalSubscription], pattern: Pattern, backlog_max: int) -> None:
        self.pattern = pattern
        self._registered = registered
        self._backlog_max = backlog_max
        self._waiting: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._passed = 0
        self._offered = 0
        self._cut = False
        self._closed = False

    def offer(self, event: Event) -> None:
        if self._cut:
            return
        if not self.pattern.matches(event.name):
            self._note_offered(event)
            return
        if len(self._waiting) >= self._backlog_max:
            # Dropping one would break the order unseen; the listener drains what it has, learns of the cut, resumes.
            self._cut = True
            self.close()
        else:
            self._waiting.append(event)
            self._note_offered(event)
        self._arrived.set()

    async def next(self) -> Event:
        while not self._waiting:
            if self._cut:
                raise WatchCut(backlog=self._backlog_max, resume_from=self._passed)
            if self._closed:
                raise ShuttingDown
            self._arrived.clear()
            await self._arrived.wait()
        event = self._waiting.popleft()
        if event.reliability is Reliability.PERSISTENT:
            self._passed = event.revision
        return event

    def position(self) -> int:
        return self._passed if self._waiting else self._offered

    def close(self) -> None:
        self._registered.discard(self)
        self._closed = True
        self._arrived.set()

    def _note_offered(self, event: Event) -> None:
        if event.reliability is Reliability.PERSISTENT:
            self._offered = event.revision
