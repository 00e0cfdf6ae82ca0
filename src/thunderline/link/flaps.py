"""Flapping: nodes whose status changes so often that each single change means little.

A node is marked once it changed more than `flapping_transitions` times within `flapping_window_s`, and no longer once
it is down to half of that. The mark stands in its record, and so in each of its events: who watches with `damped` is
spared the changes between the two. The status itself is never held back.
"""

from __future__ import annotations

from thunderline.core.ids import NodeId
from thunderline.core.settings import Settings


class Flaps:
    """The recent changes of each node that had any; `now` is monotonic. A restart forgets them, not the marks."""

    def __init__(self, settings: Settings) -> None:
        self._most = settings.flapping_transitions
        self._calm = settings.flapping_transitions // 2
        self._window_s = settings.flapping_window_s
        self._changed_at: dict[NodeId, list[float]] = {}
        self._flapping: set[NodeId] = set()

    def start(self, node_id: NodeId, now: float) -> None:
        """The node was marked by an earlier process: it has to be calm for a while before it is not."""
        self._flapping.add(node_id)
        self._changed_at[node_id] = [now] * (self._calm + 1)

    def changed(self, node_id: NodeId, now: float) -> bool:
        """The node's status changed; whether it is to be marked for that."""
        times = self._changed_at.setdefault(node_id, [])
        times.append(now)
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
        """The nodes that are calm now, and to be marked no longer. Costs as much as there were changes of late."""
        calm = []
        for node_id, times in list(self._changed_at.items()):
            recent = [at for at in times if at > now - self._window_s]
            if len(recent) <= self._calm and node_id in self._flapping:
                self._flapping.remove(node_id)
                calm.append(node_id)
            if recent:
                self._changed_at[node_id] = recent
            else:
                del self._changed_at[node_id]
        return calm
