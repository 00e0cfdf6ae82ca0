"""When to look at which node: a timer wheel over monotonic time.

Arming is O(1) and moves nothing: a node that beats keeps its place in the wheel, and is put further on only when its
old place comes up. A node is therefore looked at about once a deadline, however often it beats.
"""

from __future__ import annotations

import heapq
import math
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=str)

TICK_S: Final = 0.1
"""Granularity: a deadline is found at most this late."""


class Deadlines(Generic[K]):
    """One deadline for each of what is watched, called nodes here, in monotonic seconds."""

    def __init__(self) -> None:
        self._deadline: dict[K, float] = {}
        self._placed: dict[K, int] = {}
        self._slots: dict[int, list[K]] = {}
        self._order: list[int] = []

    def __len__(self) -> int:
        return len(self._deadline)

    def arm(self, node_id: K, deadline: float) -> None:
        """Set the node's deadline, earlier or later than the one it had."""
        self._deadline[node_id] = deadline
        placed = self._placed.get(node_id)
        if placed is None or deadline <= (placed - 1) * TICK_S:
            self._place(node_id, deadline)

    def disarm(self, node_id: K) -> None:
        """Forget the node; unknown ones are fine."""
        self._deadline.pop(node_id, None)
        self._placed.pop(node_id, None)

    def deadline(self, node_id: K) -> float | None:
        """The node's deadline, None without one."""
        return self._deadline.get(node_id)

    def expire(self, now: float, *, most: float = math.inf) -> list[K]:
        """The nodes whose deadline is at or before `now`, each once; their deadlines are gone.

        At most so many are looked at; there are more where `next_look` is not after `now` then.
        """
        expired: list[K] = []
        while self._order and self._order[0] * TICK_S <= now:
            slot = self._order[0]
            nodes = self._slots[slot]
            while nodes:
                if most <= 0:
                    return expired
                most -= 1
                node_id = nodes.pop()
                if self._placed.get(node_id) != slot:
                    continue  # disarmed, or moved to an earlier place
                deadline = self._deadline[node_id]
                if deadline <= now:
                    self.disarm(node_id)
                    expired.append(node_id)
                else:
                    self._place(node_id, deadline, beyond=slot)
            heapq.heappop(self._order)
            del self._slots[slot]
        return expired

    def next_look(self) -> float | None:
        """When `expire` should next be called; None when there is nothing to wait for."""
        return self._order[0] * TICK_S if self._order else None

    def _place(self, node_id: K, deadline: float, *, beyond: int | None = None) -> None:
        slot = math.ceil(deadline / TICK_S)
        if beyond is not None:
            # Rounding puts a deadline just after a tick into the very slot that was just looked at.
            slot = max(slot, beyond + 1)
        self._placed[node_id] = slot
        nodes = self._slots.get(slot)
        if nodes is None:
            nodes = self._slots[slot] = []
            heapq.heappush(self._order, slot)
        nodes.append(node_id)
