"""What waits to be committed: three bounded lanes, drained in the order of their declaration."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, Generic, TypeVar

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


class Operation(Generic[T]):
    """One queued change. `plan` makes it on an overlay and gives its answer, or raises and is then undone."""

    __slots__ = ("actor", "done", "plan")

    def __init__(self, plan: Callable[[Overlay], T], actor: Actor, done: asyncio.Future[T]) -> None:
        self.plan = plan
        self.actor = actor
        self.done = done

    def answer(self, result: T) -> None:
        """Give the caller its result, unless it went away. A plan whose answer is an error was committed even so."""
        if isinstance(result, ThunderlineError):
            self.fail(result)
        elif not self.done.done():
            self.done.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Give the caller its error, unless it went away."""
        if not self.done.done():
            self.done.set_exception(error)


class Lanes:
    """The queues between callers and the writer."""

    def __init__(self, limits: Mapping[Lane, int]) -> None:
        self._limits = limits
        self._queues: dict[Lane, deque[Operation[Any]]] = {lane: deque() for lane in Lane}
        self._arrived = asyncio.Event()
        self._closed = False

    def put(self, lane: Lane, operation: Operation[Any]) -> None:
        """Queue `operation`. Raises: Overloaded when the lane is full."""
        queue = self._queues[lane]
        if len(queue) >= self._limits[lane]:
            raise Overloaded(lane.value)
        queue.append(operation)
        self._arrived.set()

    def take(self, limit: int) -> list[Operation[Any]]:
        """At most `limit` operations, those of an earlier lane first, each lane in its order of arrival."""
        taken: list[Operation[Any]] = []
        for queue in self._queues.values():
            while queue and len(taken) < limit:
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
