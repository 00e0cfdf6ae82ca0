"""Whether the fleet can be kept below `max_heartbeats_per_second` at all, and who is told when it cannot."""

from __future__ import annotations

from typing import Final

from thunderline.core.records import CapacityReport
from thunderline.core.settings import Settings
from thunderline.link.pace import STEP, Pace

CAPACITY_ID: Final = "capacity"


class Capacity:
    """Looks at what a pace cannot go below."""

    def __init__(self, pace: Pace, *, settings: Settings) -> None:
        self._pace = pace
        self._max = settings.max_heartbeats_per_second
        self.exceeded = False
        """As was told last; set at a start to what an earlier process told."""

    def report(self) -> CapacityReport:
        """How things stand."""
        return CapacityReport(
            id=CAPACITY_ID,
            exceeded=self.exceeded,
            nodes=len(self._pace),
            heartbeats_per_second=round(self._pace.least_per_second, 3),
            max_heartbeats_per_second=self._max,
        )

    def look(self) -> CapacityReport | None:
        """What changed since the last look, if anything did. It is restored well below where it is exceeded."""
        least = self._pace.least_per_second
        exceeded = least * STEP > self._max if self.exceeded else least > self._max
        if exceeded is self.exceeded:
            return None
        self.exceeded = exceeded
        return self.report()
