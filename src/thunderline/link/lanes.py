"""What waits to be committed: three bounded lanes, drained in the order of their declaration."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, ClassVar, Final, Generic, TypeVar

from thunderline.core.errors import Overloaded, ThunderlineError
from thunderline.link.actor import Actor
from thunderline.link.overlay import Overlay

T = TypeVar("T")


class Lane(Enum):
    """The registry's own transitions go first: they say who is dead, and there are few of them."""

    OWN = "transition"
    MUTATIONS = "mutation"
    HEARTBEATS = "heartbeat"


OWN_LANE_MAX: Final = 100_000
"""Bounded by the number of nodes in practice: a node has at most one transition queued."""


BEFORE_BEATS: Final = 8
"""Of a commit so much at most, an eighth, is of each other lane while beats wait. Higher answers beats sooner and makes
more commits of a burst of changes; at 8 and 2,000 in a commit, 250 changes take some 50 ms."""


class Operation(ABC):
    """One queued change, `actor`'s doing."""

    __slots__ = ("actor",)

    is_audited: ClassVar[bool] = False
    """Whether what it changes stands in the audit log, and not in the event log alone."""
    waiter: object | None = None
    """Whose span waits for it, where there are traces."""

    def __init__(self, actor: Actor) -> None:
        self.actor = actor

    @abstractmethod
    def plan(self, overlay: Overlay) -> Any:
        """Make the change on `overlay` and give its answer; what raises a ThunderlineError is undone.

        An answer that is itself an error does not undo: the change is committed, and the caller gets the error.
        """

    @abstractmethod
    def answer(self, result: Any) -> None:
        """The change is durable; `result` is what `plan` gave. Must not raise."""

    @abstractmethod
    def fail(self, error: BaseException) -> None:
        """The change was not made, or it is not known whether it was. Must not raise. May come more than once."""


class Call(Operation, Generic[T]):
    """A change that a caller awaits, as a future. Who cancels it does not withdraw the change."""

    __slots__ = ("_plan", "done", "waiter")

    def __init__(self, plan: Callable[[Overlay], T | ThunderlineError], *, actor: Actor) -> None:
        super().__init__(actor)
        self._plan = plan
        self.waiter = None
        self.done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def plan(self, overlay: Overlay) -> T | ThunderlineError:
        return self._plan(overlay)

    def answer(self, result: T | ThunderlineError) -> None:
        if isinstance(result, ThunderlineError):
            self.fail(result)
        elif not self.done.done():
            self.done.set_result(result)

    def fail(self, error: BaseException) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class AuditedCall(Call[T]):
    """One whose changes stand in the audit log."""

    __slots__ = ()

    is_audited = True


class Lanes:
    """The queues between callers and the writer."""

    def __init__(self, limits: Mapping[Lane, int]) -> None:
        self.limits = limits
        self.refused: Counter[Lane] = Counter()
        """How often a lane was full, since the start."""
        self._queues: dict[Lane, deque[Operation]] = {lane: deque() for lane in Lane}
        self._arrived = asyncio.Event()
        self._closed = False

    def put(self, lane: Lane, operation: Operation) -> None:
        """Queue `operation`. Raises: Overloaded when the lane is full."""
        queue = self._queues[lane]
        if len(queue) >= self.limits[lane]:
            self.refused[lane] += 1
            raise Overloaded(lane.value)
        queue.append(operation)
        self._arrived.set()

    def depth(self, lane: Lane) -> int:
        """How many operations wait in it."""
        return len(self._queues[lane])

    def take(self, limit: int) -> list[Operation]:
        """At most `limit` operations, those of an earlier lane first, each lane in its order of arrival.

        While beats wait, what goes before them is of each lane no more than a part of the limit: a fleet that falls
        or comes back makes thousands of changes at once, behind all of which everybody's beats would wait for seconds.
        """
        taken: list[Operation] = []
        share = max(1, limit // BEFORE_BEATS) if self._queues[Lane.HEARTBEATS] else limit
        for lane, queue in self._queues.items():
            most = min(limit, len(taken) + (limit if lane is Lane.HEARTBEATS else share))
            while queue and len(taken) < most:
                taken.append(queue.popleft())
        return taken

    async def wait(self) -> None:
        """Return once something is queued; at once after `close`."""
        if not self._closed and not any(self._queues.values()):
            self._arrived.clear()
            await self._arrived.wait()

    def close(self) -> None:
        """Let nobody wait any more; what is queued stays."""
        self._closed = True
        self._arrived.set()
