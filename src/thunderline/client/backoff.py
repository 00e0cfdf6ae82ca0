"""How long to wait before connecting again: full jitter, so that a fleet that fell together does not return together.

Source: AWS Architecture Blog, "Exponential Backoff And Jitter" (2015): uniform(0, min(cap, base * 2**attempt)).
"""

from __future__ import annotations

import random
from typing import Final

BASE_S: Final = 0.5
"""The first wait is below it, so that a link that dropped is back well within the 5 s in which it can be resumed."""

CAP_S: Final = 10.0

CAP_INTERVALS: Final = 2
"""Longest wait of a node, in intervals of its beats: below the three after which it would count as gone."""

CAP_LEAST_S: Final = 1.0
"""Nodes that beat faster than that come back no faster: a registry that starts again is not to be run over."""


class Backoff:
    """The waits of one link."""

    def __init__(self, rng: random.Random, *, base_s: float = BASE_S, cap_s: float = CAP_S) -> None:
        self._rng = rng
        self._base_s = base_s
        self._cap_s = cap_s
        self._attempt = 0

    def next_s(self, *, interval_s: float | None = None) -> float:
        """How long to wait now, in seconds; longer on average at each call, up to the cap.

        The cap is lower for who beats at a short `interval_s`.
        """
        cap_s = self._cap_s
        if interval_s is not None:
            cap_s = min(cap_s, max(CAP_LEAST_S, CAP_INTERVALS * interval_s))
        longest_s = min(cap_s, self._base_s * 2**self._attempt)
        if longest_s < cap_s:
            self._attempt += 1
        return self._rng.uniform(0, longest_s)

    def reset(self) -> None:
        """Begin anew: a link lived."""
        self._attempt = 0
