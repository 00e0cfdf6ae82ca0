"""The window of sequence numbers against the set of all that were taken."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thunderline.link.presence import WINDOW, SequenceWindow, Taken


class Model:
    """Remembers every number."""

    def __init__(self) -> None:
        self.taken: set[int] = set()

    def look(self, seq: int) -> Taken:
        if self.taken and seq <= max(self.taken) - WINDOW:
            return Taken.TOO_OLD
        return Taken.REPEATED if seq in self.taken else Taken.NEW

    def take(self, seq: int) -> None:
        if self.look(seq) is Taken.NEW:
            self.taken.add(seq)


HIGH = 2**63 - 1
SEQUENCES = st.lists(
    st.integers(0, 8)
    | st.integers(0, 3 * WINDOW)
    | st.sampled_from([WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, HIGH, HIGH - 1, HIGH - WINDOW, HIGH - WINDOW + 1]),
    max_size=30,
)


@given(SEQUENCES)
@example([0, 0])
@example([5, WINDOW + 5, 5, 6])
@example([HIGH, 0, HIGH - WINDOW + 1, HIGH - WINDOW])
def test_window_tells_what_a_set_would(numbers: list[int]) -> None:
    window, model = SequenceWindow(), Model()
    for seq in numbers:
        for other in (seq, seq + 1, max(seq - 1, 0), max(seq - WINDOW, 0), max(seq - WINDOW + 1, 0)):
            assert window.look(other) is model.look(other)
        window.take(seq)
        model.take(seq)
        assert window.high == max(model.taken)
        # A checkpoint may come at any moment, and what it kept goes on as if nothing had happened.
        window = SequenceWindow(window.high, window.mask())


@given(SEQUENCES)
def test_looking_changes_nothing(numbers: list[int]) -> None:
    window = SequenceWindow()
    for seq in numbers:
        window.take(seq)
    before = (window.high, window.mask())
    for seq in (0, 1, WINDOW, HIGH, *numbers):
        window.look(seq)
    assert (window.high, window.mask()) == before


@given(SEQUENCES)
def test_mask_is_bounded_and_always_holds_the_highest(numbers: list[int]) -> None:
    window = SequenceWindow()
    assert (window.high, window.mask()) == (None, b"")
    for seq in numbers:
        window.take(seq)
        assert 1 <= len(window.mask()) <= WINDOW // 8
        assert window.mask()[0] & 1
        assert window.look(seq) in (Taken.REPEATED, Taken.TOO_OLD)


@pytest.mark.parametrize("jump", [1, WINDOW - 1, WINDOW, WINDOW + 1, 10**15])
def test_restart_of_counting_at_a_far_number_keeps_the_window_small(jump: int) -> None:
    window = SequenceWindow()
    window.take(7)
    window.take(7 + jump)
    assert window.look(7) is (Taken.REPEATED if jump < WINDOW else Taken.TOO_OLD)
    assert window.look(8 + jump) is Taken.NEW
