"""How long a node may be silent before it counts as disconnected. Pure: numbers in, numbers out.

`deadline` forgives a fixed number of intervals. `phi` learns how each node's signs of life come and forgives what is
usual for that node: its conviction moment is worked out when the node is heard, so that one timer does for both.

All that is learned of a node is kept in fractions of its interval, so that it stays true when the interval changes.
Not guaranteed by either: that a node which is convicted is dead. Whoever is disconnected may come back.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from statistics import NormalDist
from typing import Final

from thunderline.core.settings import Settings

SMOOTHING: Final = 1 / 32
"""Weight of the newest gap in what is known of a node: about the last 32 count. Higher follows a changed network sooner
and forgets sooner that a link loses beats; lower the other way round."""

KNOWN_AFTER: Final = round(1 / SMOOTHING)
"""Gaps after which a node counts as known; before that the deadline holds for it. Fewer tell a link that loses one beat
in five from a good one too often: 8 of its beats in a row arrive one time in six."""

EXTRA_SIGN: Final = 0.5
"""A gap shorter than this fraction of the interval is no beat of its own but one more sign between two beats."""

PATIENCE_MAX: Final = 3.0
"""`phi` waits for this many deadlines at most, however bad the link: detection stays bounded. Lower convicts nodes on
bad links falsely more often; higher finds their deaths later."""

OUTAGE: Final = PATIENCE_MAX
"""A gap of as many deadlines says nothing of how beats come: it ends an outage, and is not learned."""


class Rhythm:
    """How a node's signs of life come, in intervals: mean and variance of the time for each, and the share lost."""

    __slots__ = ("known", "loss", "mean", "variance")

    def __init__(self) -> None:
        self.known = 0
        """Gaps learned, counted up to `KNOWN_AFTER`."""
        self.mean = 1.0
        self.variance = 0.0
        self.loss = 0.0


class Detector(ABC):
    """Turns what is known of a node into the silence that it is allowed."""

    learns: bool
    """Whether `learn` has any effect."""

    @abstractmethod
    def patience_s(self, interval_s: float, rhythm: Rhythm | None) -> float:
        """The silence after which a node that was told `interval_s` is disconnected; None: nothing is known of it."""

    @abstractmethod
    def learn(self, rhythm: Rhythm | None, gap_s: float, interval_s: float) -> Rhythm | None:
        """What is known once a node was heard `gap_s` after the last time; changes the rhythm that it is given."""


class DeadlineDetector(Detector):
    """So many intervals, for everybody."""

    learns = False

    def __init__(self, intervals: float) -> None:
        self._intervals = intervals

    def patience_s(self, interval_s: float, rhythm: Rhythm | None) -> float:
        return interval_s * self._intervals

    def learn(self, rhythm: Rhythm | None, gap_s: float, interval_s: float) -> Rhythm | None:
        return rhythm


class PhiDetector(Detector):
    """An accrual detector: phi = -log10 of the probability that a live node is silent for so long.

    Two things keep a live node silent, each with a tail that can be inverted. Delays: the time for one beat is taken as
    normal. Losses: a lost beat leaves a whole interval out, and `k` of them in a row have the probability `loss ** k`;
    a normal tail fitted to such gaps would end far too early. The conviction moment is where both tails are below
    10 ** -threshold, plus the pause that is allowed.

    Source: Hayashibara, Defago, Yared, Katayama: The phi accrual failure detector, SRDS 2004, for phi and the normal
    tail; the geometric tail of losses is ours.
    """

    learns = True

    def __init__(self, *, threshold: float, deviation_min: float, pause: float, deadline_intervals: float) -> None:
        self._threshold = threshold
        self._z = -NormalDist().inv_cdf(10**-threshold)
        self._variance_min = deviation_min**2
        self._pause = pause
        self._deadline = deadline_intervals
        self._most = deadline_intervals * PATIENCE_MAX
        # What a node on a clean link gets: most nodes, so worked out once.
        self._least = 1 + self._z * deviation_min + pause
        self._clean_loss = 10 ** (-threshold / (1 + self._z * deviation_min))

    def patience_s(self, interval_s: float, rhythm: Rhythm | None) -> float:
        if rhythm is None or rhythm.known < KNOWN_AFTER:
            return interval_s * self._deadline
        mean, variance, loss = rhythm.mean, rhythm.variance, rhythm.loss
        if mean <= 1 and variance <= self._variance_min and loss <= self._clean_loss:
            return interval_s * self._least
        # A node that beats more often than it was told need not go on doing so.
        beat = mean if mean > 1 else 1.0
        delayed = beat + self._z * math.sqrt(max(variance, self._variance_min))
        lost = beat * self._threshold / -math.log10(loss) if loss > 0 else 0.0
        return interval_s * min(max(delayed, lost) + self._pause, self._most)

    def learn(self, rhythm: Rhythm | None, gap_s: float, interval_s: float) -> Rhythm | None:
        gap = gap_s / interval_s
        if gap < EXTRA_SIGN or gap >= self._deadline * OUTAGE:
            return rhythm
        if rhythm is None:
            rhythm = Rhythm()
        # What one beat takes is clipped to less than what a lost one adds, so a rhythm stays near the interval.
        missed = max(0, round(gap / min(rhythm.mean, 1.5)) - 1)
        off = gap / (missed + 1) - rhythm.mean
        rhythm.mean += SMOOTHING * off
        rhythm.variance = (1 - SMOOTHING) * (rhythm.variance + SMOOTHING * off * off)
        loss = rhythm.loss
        if missed:
            loss = 1 - (1 - loss) * (1 - SMOOTHING) ** missed
        rhythm.loss = loss * (1 - SMOOTHING)
        if rhythm.known < KNOWN_AFTER:
            rhythm.known += 1
        return rhythm


def detector_of(settings: Settings) -> Detector:
    """The detector that the settings choose."""
    if settings.detector == "phi":
        return PhiDetector(
            threshold=settings.phi_threshold,
            deviation_min=settings.phi_deviation_min,
            pause=settings.phi_pause,
            deadline_intervals=settings.deadline_intervals,
        )
    return DeadlineDetector(settings.deadline_intervals)
