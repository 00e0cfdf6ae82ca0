"""Acknowledgements: one number that never passes a beat which is not durable."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from thunderline.wire.acks import Acks

STEPS = st.lists(
    st.tuples(st.sampled_from(["received", "settled", "postponed"]), st.integers(0, 12)), min_size=1, max_size=60
)


@given(STEPS)
def test_number_never_passes_a_beat_that_came_and_is_not_durable(steps: list[tuple[str, int]]) -> None:
    acks = Acks()
    pending: dict[int, int] = {}
    seen: set[int] = set()
    for what, seq in steps:
        if what == "received":
            acks.received(seq)
            pending[seq] = pending.get(seq, 0) + 1
            seen.add(seq)
        elif what == "settled":
            acks.settled(seq)
            pending.pop(seq, None)
        else:
            acks.postponed(seq)
            if pending.get(seq):
                pending[seq] -= 1
        assert acks.in_flight == sum(pending.values())
        told = acks.due()
        if told is not None:
            assert told <= max(seen)
            assert all(seq > told for seq in pending)
            # And it is as high as it may be.
            assert told == (min(pending) - 1 if pending else max(seen))
        assert acks.due() is None


def test_beats_in_order_are_told_as_one_number() -> None:
    acks = Acks()
    for seq in range(5, 10):
        acks.received(seq)
    assert acks.due() is None
    for seq in (5, 6, 7):
        acks.settled(seq)
    assert acks.due() == 7
    for seq in (8, 9):
        acks.settled(seq)
    assert acks.due() == 9


def test_beat_that_is_owed_holds_the_number_until_it_comes_again() -> None:
    acks = Acks()
    acks.received(1)
    acks.received(2)
    acks.postponed(1)
    acks.settled(2)
    assert (acks.due(), acks.owed, acks.in_flight) == (0, 1, 0)
    acks.received(1)
    assert (acks.owed, acks.in_flight) == (0, 1)
    acks.settled(1)
    assert acks.due() == 2


def test_lower_beats_that_come_later_are_told_again() -> None:
    acks = Acks()
    acks.received(50)
    acks.settled(50)
    assert acks.due() == 50
    acks.received(30)
    assert acks.due() is None
    acks.settled(30)
    assert acks.due() == 50


def test_beat_sent_twice_counts_once_it_is_durable() -> None:
    acks = Acks()
    acks.received(1)
    acks.received(1)
    acks.settled(1)
    assert (acks.due(), acks.in_flight) == (1, 0)
    acks.settled(1)
    acks.postponed(1)
    assert (acks.due(), acks.in_flight) == (None, 0)
