"""How often each node is asked to beat: as often as it wants to, as long as all of them together are not too many.

What a node is granted is worked out when it is heard and told with the answer; nothing of it is written, so a fleet
that grows costs no commits. Grants change in steps, not with every node that comes or goes.
"""

from __future__ import annotations

import random
from typing import Final

from thunderline.core.ids import NodeId
from thunderline.core.settings import Settings

STEP: Final = 1.1
"""By how much intervals grow beyond what is needed when they have to: the next nodes to come change nothing then. They
shrink once that would be a step of twice as much. Lower keeps nearer to the limit and tells nodes more often."""

SPREAD: Final = 1.1
"""A longer interval than a node asked for is drawn from up to so many times what is needed, so that a fleet that is
told at once does not beat at once."""

_NANO: Final = 10**9


class Pace:
    """Counts the beats that all nodes together want to send, in whole nano-beats a second so that no sum drifts."""

    def __init__(self, settings: Settings, *, rng: random.Random) -> None:
        self._rng = rng
        self._max = settings.max_heartbeats_per_second
        self._longest_ms = round(settings.max_interval_s * 1000)
        self._asked_ms: dict[NodeId, int] = {}
        self._wanted = 0
        self._least = 0
        self.factor = 1.0
        """How many times longer than asked for intervals are at present, before `max_interval_s` ends that."""
        self.terms = 0
        """Changes with `factor`; added to what a node asks for, it names a grant. See `grant_of`."""

    def __len__(self) -> int:
        return len(self._asked_ms)

    @property
    def wanted_per_second(self) -> float:
        """Beats a second if every node had what it asks for."""
        return self._wanted / _NANO

    @property
    def least_per_second(self) -> float:
        """Beats a second that cannot be gone below: every node at `max_interval_s`."""
        return self._least / _NANO

    def count(self, node_id: NodeId, asked_ms: int) -> None:
        """The node beats, and asks for this interval."""
        before = self._asked_ms.get(node_id)
        if before == asked_ms:
            return
        if before is not None:
            self._take(before, -1)
        self._asked_ms[node_id] = asked_ms
        self._take(asked_ms, 1)
        self._adjust()

    def discount(self, node_id: NodeId) -> bool:
        """The node does not beat any more; whether it did so far."""
        if (before := self._asked_ms.pop(node_id, None)) is None:
            return False
        self._take(before, -1)
        self._adjust()
        return True

    def interval_ms(self, asked_ms: int) -> int:
        """What a node that asks for this is granted now; drawn anew each time."""
        if self.factor == 1.0:
            return asked_ms
        drawn = round(asked_ms * self.factor * self._rng.uniform(1, SPREAD))
        return max(asked_ms, min(drawn, self._longest_ms))

    def most_ms(self, asked_ms: int) -> int:
        """The longest interval that such a node may be granted at present."""
        if self.factor == 1.0:
            return asked_ms
        return max(asked_ms, min(round(asked_ms * self.factor * SPREAD), self._longest_ms))

    def _take(self, asked_ms: int, sign: int) -> None:
        self._wanted += sign * (1000 * _NANO // asked_ms)
        self._least += sign * (1000 * _NANO // max(asked_ms, self._longest_ms))

    def _adjust(self) -> None:
        needed = self.wanted_per_second / self._max
        # Once longer than asked for, intervals are so again only when the fleet is well within the limit.
        least = 1.0 if self.factor == 1 or needed * STEP < 1 else STEP
        if needed > self.factor or max(needed * STEP**2, least) < self.factor:
            self.factor = needed * STEP if needed > 1 else least
            self.terms += 1 << 32
