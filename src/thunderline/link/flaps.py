"""Flapping: nodes whose status changes so often that each single change means little.

A node is marked once it changed more than `flapping_transitions` times within `flapping_window_s`, and no longer once
it is down to half of that. The mark stands in its record, and so in each of its events: who watches with `damped` is
spared the changes between the two. The status itself is never held back.
"""

from __future__ import annotations

from collections import OrderedDict

from thunderline.core.ids import NodeId
from thunderline.core.settings import Settings


class Flaps:
    """The recent changes of each node that had any; `now` is monotonic. A restart forgets them, not the marks."""

    def __init__(self, settings: Settings) -> None:
        self._most = settings.flapping_transitions
        self._calm = settings.flapping_transitions // 2
        self._window_s = settings.flapping_window_s
        # By their last change, the oldest first.
        self._changed_at: OrderedDict[NodeId, list[float]] = OrderedDict()
        self._flapping: set[NodeId] = set()

    def __len__(self) -> int:
        """How many nodes are marked."""
        return len(self._flapping)

    def start(self, node_id: NodeId, now: float) -> None:
        """The node was marked by an earlier process: it has to be calm for a while before it is not."""
        self._flapping.add(node_id)
        self._changed_at[node_id] = [now] * (self._calm + 1)

    def changed(self, node_id: NodeId, now: float) -> bool:
        """The node's status changed; whether it is to be marked for that."""
        times = self._changed_at.setdefault(node_id, [])
        times.append(now)
        self._changed_at.move_to_end(node_id)
        if len(times) <= self._most:
            return False
        oldest = times[-1 - self._most]
        del times[: -1 - self._most]
        if node_id in self._flapping or oldest <= now - self._window_s:
            return False
        self._flapping.add(node_id)
        return True

    def forget(self, node_id: NodeId) -> None:
        """The node is gone; unknown ones are fine."""
        self._changed_at.pop(node_id, None)
        self._flapping.discard(node_id)

    def look(self, now: float) -> list[NodeId]:
        """The nodes that are calm now, and to be marked no longer. Costs as much as there are nodes that flap."""
        since = now - self._window_s
        calm = [
            node_id
            for node_id in self._flapping
            if sum(at > since for at in self._changed_at.get(node_id, ())) <= self._calm
        ]
        self._flapping.difference_update(calm)
        while self._changed_at and next(iter(self._changed_at.values()))[-1] <= since:
            self._changed_at.popitem(last=False)
        return sorted(calm)
