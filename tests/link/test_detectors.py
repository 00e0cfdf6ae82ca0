"""What the detectors make of how beats come: the formula, what is learned of a node, and what is not."""

from __future__ import annotations

import itertools
import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderline.core.settings import Settings
from thunderline.link.detectors import (
    KNOWN_AFTER,
    OUTAGE,
    PATIENCE_MAX,
    DeadlineDetector,
    PhiDetector,
    Rhythm,
    detector_of,
)

INTERVAL_S = 10.0
DEADLINE_S = 30.0


def phi(*, threshold: float = 8.0, deviation_min: float = 0.1, pause: float = 0.5) -> PhiDetector:
    return PhiDetector(threshold=threshold, deviation_min=deviation_min, pause=pause, deadline_intervals=3.0)


def rhythm_of(gaps: list[float], detector: PhiDetector | None = None) -> Rhythm | None:
    detector, rhythm = detector or phi(), None
    for gap in gaps:
        rhythm = detector.learn(rhythm, gap, INTERVAL_S)
    return rhythm


def beats(rng: random.Random, count: int, *, loss: float, worst_delay: float) -> list[float]:
    """The gaps between signs of life over such a link, in order; a delay is of a Pareto distribution, cut off."""
    arrivals, sent = [], 0.0
    for _ in range(count):
        sent += INTERVAL_S * (1 - rng.uniform(0, 0.1))
        if rng.random() >= loss:
            arrivals.append(sent + min(worst_delay, 0.01 * rng.paretovariate(1.5)))
    arrivals.sort()
    return [after - before for before, after in itertools.pairwise(arrivals)]


def test_settings_choose_the_detector() -> None:
    assert isinstance(detector_of(Settings()), DeadlineDetector)
    assert isinstance(detector_of(Settings(detector="phi")), PhiDetector)


@given(st.floats(0.1, 3600), st.floats(1.5, 100))
def test_deadline_is_so_many_intervals(interval_s: float, intervals: float) -> None:
    detector = DeadlineDetector(intervals)
    assert detector.patience_s(interval_s, None) == interval_s * intervals
    assert detector.learn(None, 12.0, interval_s) is None


def test_until_a_node_is_known_its_deadline_holds() -> None:
    detector, rhythm = phi(), None
    for _ in range(KNOWN_AFTER - 1):
        rhythm = detector.learn(rhythm, INTERVAL_S, INTERVAL_S)
        assert detector.patience_s(INTERVAL_S, rhythm) == DEADLINE_S
    rhythm = detector.learn(rhythm, INTERVAL_S, INTERVAL_S)
    assert detector.patience_s(INTERVAL_S, rhythm) < DEADLINE_S


def test_conviction_moment_is_the_inverse_of_the_normal_tail() -> None:
    detector = phi(deviation_min=0.01, pause=0.0)
    rng = random.Random(0)
    rhythm = rhythm_of([INTERVAL_S * (1 + rng.gauss(0.2, 0.15)) for _ in range(500)], detector)
    assert rhythm is not None
    assert rhythm.loss == 0
    silence = detector.patience_s(INTERVAL_S, rhythm) / INTERVAL_S
    tail = 0.5 * math.erfc((silence - rhythm.mean) / math.sqrt(2 * rhythm.variance))
    assert -math.log10(tail) == pytest.approx(8.0, abs=1e-6)


def test_conviction_moment_is_the_inverse_of_the_tail_of_losses() -> None:
    rhythm = Rhythm()
    rhythm.known, rhythm.loss = KNOWN_AFTER, 0.05
    silence = phi(pause=0.0).patience_s(INTERVAL_S, rhythm) / INTERVAL_S
    assert 0.05**silence == pytest.approx(1e-8)


@given(st.lists(st.floats(0.01, 200), min_size=KNOWN_AFTER, max_size=200), st.floats(1, 15))
def test_patience_is_bounded_whatever_was_learned(gaps: list[float], threshold: float) -> None:
    detector = phi(threshold=threshold)
    patience = detector.patience_s(INTERVAL_S, rhythm_of(gaps, detector))
    assert INTERVAL_S < patience <= DEADLINE_S * PATIENCE_MAX


@given(st.lists(st.floats(0.01, 200), min_size=KNOWN_AFTER, max_size=100), st.floats(0.1, 600))
def test_what_was_learned_holds_for_any_interval(gaps: list[float], interval_s: float) -> None:
    rhythm = rhythm_of(gaps)
    patience = phi().patience_s(interval_s, rhythm) / interval_s
    assert patience == pytest.approx(phi().patience_s(INTERVAL_S, rhythm) / INTERVAL_S)


def test_one_lost_beat_on_a_good_link_convicts_nobody() -> None:
    assert phi().patience_s(INTERVAL_S, rhythm_of([INTERVAL_S] * 100)) > 2 * INTERVAL_S


def test_gap_that_ends_an_outage_is_not_learned() -> None:
    regular = [INTERVAL_S] * 100
    before = phi().patience_s(INTERVAL_S, rhythm_of(regular))
    for outage_s in (DEADLINE_S * OUTAGE, 3600.0, 1e6):
        assert phi().patience_s(INTERVAL_S, rhythm_of([*regular, outage_s])) == before


def test_signs_of_life_between_beats_are_not_learned_as_beats() -> None:
    assert phi().patience_s(INTERVAL_S, rhythm_of([INTERVAL_S, 0.01, 0.02, 0.01] * 100)) > 2 * INTERVAL_S


def test_losses_are_forgotten_when_a_link_is_good_again() -> None:
    good = phi().patience_s(INTERVAL_S, rhythm_of([INTERVAL_S] * 100))
    bad = [INTERVAL_S, INTERVAL_S * 2] * 50
    assert phi().patience_s(INTERVAL_S, rhythm_of(bad)) > 2 * good
    assert phi().patience_s(INTERVAL_S, rhythm_of([*bad, *[INTERVAL_S] * 400])) < good * 1.05


def test_node_slower_than_told_is_not_taken_for_one_on_a_bad_link() -> None:
    rhythm = rhythm_of([INTERVAL_S * 1.3] * 200)
    assert rhythm is not None
    assert rhythm.loss == 0
    assert phi().patience_s(INTERVAL_S, rhythm) < DEADLINE_S


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_phi_is_quick_on_good_links_and_patient_on_bad_ones(seed: int) -> None:
    rng, detector, offline_after_s = random.Random(seed), phi(), 60.0
    found, borne = [], []
    for loss, worst_delay in [(0.001, 0.02)] * 4 + [(0.2, 30.0)] * 4:
        rhythm, patience = None, DEADLINE_S
        for gap in beats(rng, 1500, loss=loss, worst_delay=worst_delay):
            assert gap < patience + offline_after_s, "falsely offline"
            rhythm = detector.learn(rhythm, gap, INTERVAL_S)
            patience = detector.patience_s(INTERVAL_S, rhythm)
            if loss < 0.01:
                # A crash comes anywhere between two beats.
                found.append(patience - rng.uniform(0, INTERVAL_S))
            else:
                borne.append(patience)
    assert statistics.median(borne) > 2 * DEADLINE_S
    assert statistics.median(found) < 18.0
