"""What the registry counts of its own work, for whoever asks how it does: plain numbers, changed on the event loop.

Nothing here costs a heartbeat anything of its own: what there are many of is counted once for each commit.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Final

DURATION_BOUNDS_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZE_BOUNDS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0)

REJECTED: Final = "rejected"
UNAVAILABLE: Final = "unavailable"
UNKNOWN: Final = "outcome_unknown"
STORE_ERRORS: Final = (REJECTED, UNAVAILABLE, UNKNOWN)
"""How a commit fails: for its content, with nothing written, or without anybody knowing."""


class Distribution:
    """How often which values came: counts by upper bounds, the last of those beyond all, and the sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one; a value that is a bound is within it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class CommitMeters:
    """Commits since the start."""

    __slots__ = ("beats", "duration_s", "errors", "events", "operations")

    def __init__(self) -> None:
        self.duration_s = Distribution(DURATION_BOUNDS_S)
        """Of those that went through, from handing the batch to the store to its flush."""
        self.operations = Distribution(SIZE_BOUNDS)
        """How many changes each held."""
        self.beats = 0
        """Heartbeats that were written."""
        self.events: Counter[str] = Counter()
        """Events that were written, by name."""
        self.errors: Counter[str] = Counter()
        """Commits that failed, by `STORE_ERRORS`."""
