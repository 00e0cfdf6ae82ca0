"""The beats that are not acknowledged: bounded, in order, and never lost without being counted."""

from __future__ import annotations

import msgspec
import pytest

from thunderline.core.inputs import HeartbeatInput
from thunderline.core.records import BeatStatus
from thunderline.wire.backlog import AGE_MAX_S, Backlog, Taken
from thunderline.wire.frames import BACKLOG_BEATS_MAX, FRAME_MAX_BYTES, UNACKED_MAX, LateBeat
from thunderline.wire.frames import Backlog as BacklogFrame


def size_bytes(beat: LateBeat) -> int:
    return len(msgspec.json.encode(beat))


def filled(count: int, *, beats_max: int = 900, figures: HeartbeatInput | None = None) -> Backlog:
    """A backlog of beats 1 to `count`, taken at 1, 2, 3, ... s."""
    backlog = Backlog(beats_max=beats_max)
    for seq in range(1, count + 1):
        backlog.add(Taken(seq=seq, at=float(seq), incarnation=1, figures=figures or HeartbeatInput()))
    return backlog


def sent(backlog: Backlog, now: float = 1000.0, **bounds: int) -> list[int]:
    """The numbers of the beats that the next frame would hold."""
    return [beat.seq for beat in backlog.next_late(now, size_bytes=size_bytes, **bounds)]


def all_sent(backlog: Backlog, now: float = 1000.0) -> list[int]:
    """Everything that may be sent now."""
    seqs: list[int] = []
    while some := sent(backlog, now):
        seqs += some
    return seqs


def test_a_late_beat_carries_its_age_to_the_millisecond() -> None:
    backlog = Backlog()
    backlog.add(
        Taken(seq=7, at=100.0, incarnation=1, figures=HeartbeatInput(status=BeatStatus.DEGRADED, cpu_load=12.5))
    )
    (beat,) = backlog.next_late(112.3456, size_bytes=size_bytes)
    assert (beat.seq, beat.age_ms, beat.status, beat.cpu_load) == (7, 12_346, BeatStatus.DEGRADED, 12.5)


def test_the_newest_beat_goes_live_when_nothing_stands_before_it() -> None:
    backlog = filled(1)
    beat = backlog.next_live(1.1, within_s=0.2)
    assert beat is not None
    assert (beat.seq, backlog.on_the_way, backlog.waiting) == (1, 1, 0)


@pytest.mark.parametrize("now", [1.3, 60.0])
def test_a_beat_that_waited_does_not_go_live(now: float) -> None:
    assert filled(1).next_live(now, within_s=0.2) is None


def test_a_beat_does_not_overtake_one_that_waits() -> None:
    assert filled(2).next_live(2.0, within_s=0.2) is None


def test_a_beat_does_not_overtake_one_that_was_refused() -> None:
    backlog = filled(1)
    sent(backlog)
    backlog.refuse(1)
    backlog.add(Taken(seq=2, at=2.0, incarnation=1, figures=HeartbeatInput()))
    assert backlog.next_live(2.0, within_s=0.2) is None
    assert sent(backlog) == [1, 2]


def beats_at(*times: float) -> Backlog:
    backlog = Backlog()
    for seq, at in enumerate(times, 1):
        backlog.add(Taken(seq=seq, at=at, incarnation=1, figures=HeartbeatInput()))
    return backlog


def test_fresh_beats_go_live_one_after_the_other() -> None:
    backlog = beats_at(1.0, 1.05, 1.1)
    live = [backlog.next_live(1.15, within_s=0.2) for _ in range(4)]
    assert [beat and beat.seq for beat in live] == [1, 2, 3, None]


def test_old_beats_leave_the_fresh_ones_behind_them_to_go_live() -> None:
    backlog = beats_at(1.0, 2.0, 5.0, 5.1)
    late = backlog.next_late(5.1, size_bytes=size_bytes, live_within_s=0.2)
    assert [beat.seq for beat in late] == [1, 2]
    assert backlog.next_late(5.1, size_bytes=size_bytes, live_within_s=0.2) == ()
    live = [backlog.next_live(5.1, within_s=0.2) for _ in range(3)]
    assert [beat and beat.seq for beat in live] == [3, 4, None]


def test_a_beat_that_was_sent_before_is_not_left_to_go_live() -> None:
    backlog = beats_at(1.0)
    assert backlog.next_live(1.0, within_s=0.2) is not None
    backlog.lost()
    assert backlog.next_live(1.1, within_s=0.2) is None
    assert [beat.seq for beat in backlog.next_late(1.1, size_bytes=size_bytes, live_within_s=0.2)] == [1]


def test_a_backlog_is_busy_when_it_keeps_as_many_as_may_be_on_the_way() -> None:
    assert not filled(4, beats_max=10).is_busy
    backlog = filled(5, beats_max=10)
    assert backlog.is_busy
    all_sent(backlog)
    assert backlog.is_busy
    backlog.ack(1)
    assert not backlog.is_busy


def test_the_oldest_are_dropped_first_and_counted() -> None:
    backlog = filled(13, beats_max=10)
    assert (len(backlog), backlog.dropped, backlog.lowest) == (10, 3, 4)
    assert backlog.take_dropped() == [1, 2, 3]
    assert backlog.take_dropped() == []


def test_a_beat_too_old_to_be_believed_is_dropped_and_counted() -> None:
    backlog = filled(2)
    assert sent(backlog, now=AGE_MAX_S + 1.5) == [2]
    assert backlog.take_dropped() == [1]


def test_what_is_on_the_way_is_never_dropped() -> None:
    backlog = filled(4, beats_max=10)
    assert all_sent(backlog) == [1, 2, 3, 4]
    backlog.refuse(1)
    for seq in range(5, 30):
        backlog.add(Taken(seq=seq, at=9_000.0 + seq, incarnation=1, figures=HeartbeatInput()))
    assert all(seq in backlog for seq in (1, 2, 3, 4))
    assert len(backlog) == 10
    assert backlog.take_dropped() == list(range(5, 24))


def test_no_more_than_half_of_the_window_is_on_the_way() -> None:
    backlog = filled(1_000, beats_max=UNACKED_MAX)
    assert len(all_sent(backlog)) == UNACKED_MAX // 2
    assert backlog.ack(100).seqs == tuple(range(1, 101))
    assert all_sent(backlog) == list(range(UNACKED_MAX // 2 + 1, UNACKED_MAX // 2 + 101))


def test_a_frame_holds_no_more_beats_than_it_may() -> None:
    assert sent(filled(400)) == list(range(1, BACKLOG_BEATS_MAX + 1))


def test_a_frame_is_no_longer_than_it_may_be() -> None:
    backlog = filled(100, figures=HeartbeatInput(meta={"text": "x" * 5_000}))
    seqs: list[int] = []
    while beats := backlog.next_late(1000.0, size_bytes=size_bytes):
        assert len(msgspec.json.encode(BacklogFrame(beats=beats))) <= FRAME_MAX_BYTES
        seqs += [beat.seq for beat in beats]
    assert seqs == list(range(1, 101))


def test_the_largest_beat_that_there_is_fits_into_a_frame() -> None:
    largest = HeartbeatInput(
        cpu_load=1.1e14,
        mem_used_mb=1.1e14,
        latency_ms=1.1e14,
        meta={"x": [0.1] * 4_000},
        peers={f"{at:03}" + "n" * 252: 0.123456789012345 for at in range(64)},
    )
    for encode in (msgspec.json.encode, msgspec.msgpack.encode):
        beats = filled(1, figures=largest).next_late(1000.0, size_bytes=lambda beat: len(encode(beat)))  # noqa: B023
        assert len(encode(BacklogFrame(beats=beats))) <= FRAME_MAX_BYTES


def test_an_acknowledgement_settles_what_was_carried_up_to_it() -> None:
    backlog = filled(5)
    assert sent(backlog, limit=3) == [1, 2, 3]
    settled = backlog.ack(4)
    assert (settled.seqs, settled.late) == ((1, 2, 3), 3)
    assert sent(backlog) == [4, 5]


def test_an_acknowledgement_does_not_settle_what_was_refused_for_now() -> None:
    backlog = filled(3)
    sent(backlog)
    assert backlog.refuse(2)
    assert backlog.ack(3).seqs == (1, 3)
    assert sent(backlog) == [2]
    assert backlog.ack(3).seqs == (2,)


def test_a_beat_refused_for_good_is_forgotten_and_not_counted_as_dropped() -> None:
    backlog = filled(2)
    sent(backlog)
    assert backlog.forget(1)
    assert not backlog.forget(1)
    assert (len(backlog), backlog.dropped, backlog.lowest) == (1, 0, 2)


@pytest.mark.parametrize("seq", [1, 9])
def test_an_answer_about_a_beat_that_is_not_on_the_way_changes_nothing(seq: int) -> None:
    backlog = filled(3)
    assert not backlog.refuse(seq)
    assert not backlog.forget(seq)
    assert backlog.ack(seq).seqs == ()
    assert sent(backlog) == [1, 2, 3]


def test_after_a_lost_connection_everything_goes_again_in_ascending_order() -> None:
    backlog = filled(6)
    sent(backlog, limit=4)
    backlog.refuse(2)
    backlog.ack(1)
    backlog.lost()
    assert (backlog.on_the_way, backlog.late_on_the_way) == (0, 0)
    assert sent(backlog) == [2, 3, 4, 5, 6]


def test_beats_of_an_incarnation_that_the_registry_forgot_are_dropped_and_counted() -> None:
    backlog = filled(2)
    backlog.add(Taken(seq=3, at=3.0, incarnation=None, figures=HeartbeatInput()))
    backlog.add(Taken(seq=4, at=4.0, incarnation=2, figures=HeartbeatInput()))
    assert backlog.keep_incarnation(2) == 2
    assert backlog.dropped == 2
    assert sent(backlog) == [3, 4]


@pytest.mark.parametrize("beats_max", [1, 0, UNACKED_MAX + 1])
def test_bounds_that_cannot_be_kept_are_refused(beats_max: int) -> None:
    with pytest.raises(ValueError, match="beats"):
        Backlog(beats_max=beats_max)
