"""The node's end of a link: what leaves, and what that which arrives means."""

from __future__ import annotations

import re

import msgspec
import pytest

from tests.wire.pairs import WELCOME, Pair, final, retry
from thunderline.core.records import BeatStatus
from thunderline.wire import node_end
from thunderline.wire.frames import (
    FEATURES,
    UNACKED_MAX,
    Ack,
    Backlog,
    Beat,
    Bye,
    Drain,
    Interval,
    Links,
    RegistryFrame,
    Resume,
    SeenSession,
)
from thunderline.wire.node_end import (
    ERROR_DECIDES_S,
    REPORT_AGAIN_S,
    Acked,
    BeatRefused,
    Broken,
    DrainAsked,
    Ended,
    IntervalChanged,
    Left,
    Lost,
    State,
    Troubled,
    Welcomed,
)


@pytest.fixture
def pair() -> Pair:
    return Pair()


# The handshake


def test_hello_says_who_speaks_and_what_it_knows() -> None:
    pair = Pair(greeted=False)
    assert (pair.hello.name, pair.hello.instance, pair.hello.resume) == ("worker-1", "a", None)
    assert pair.hello.features == FEATURES


def test_nothing_is_sent_before_welcome() -> None:
    pair = Pair(greeted=False)
    pair.beat()
    assert pair.heard() == []


def test_welcome_makes_the_link(pair: Pair) -> None:
    assert pair.end.is_linked
    assert (pair.end.interval_s, pair.end.incarnation) == (10.0, 1)


def test_a_lost_link_is_resumed_with_the_word_of_the_last_welcome(pair: Pair) -> None:
    assert pair.end.lost(pair.now) == Lost(retry_after_s=0.0)
    assert pair.connect().resume == Resume(session_id="s", secret="x")


def test_a_session_that_the_registry_gave_up_is_not_resumed(pair: Pair) -> None:
    pair.say(retry(None, code="session_ended", after_ms=0))
    lost = pair.end.lost(pair.now)
    assert isinstance(lost, Lost)
    assert lost.code == "session_ended"
    assert pair.connect().resume is None


@pytest.mark.parametrize("interval_ms", [-1, 0, 99, 3_600_001])
def test_an_interval_that_is_none_breaks_the_link(pair: Pair, interval_ms: int) -> None:
    assert isinstance(pair.say(Interval(interval_ms=interval_ms))[0], Broken)
    again = Pair(greeted=False)
    assert isinstance(again.say(msgspec.structs.replace(WELCOME, interval_ms=interval_ms))[0], Broken)


# Frames out of place


@pytest.mark.parametrize("frame", [Ack(seq=1), Interval(interval_ms=1000), Drain(reconnect_within_ms=1)])
def test_before_welcome_only_welcome_and_errors_have_a_place(frame: RegistryFrame) -> None:
    pair = Pair(greeted=False)
    (event,) = pair.say(frame)
    assert isinstance(event, Broken)
    assert pair.end.state is State.BROKEN


def test_a_second_welcome_breaks_the_link(pair: Pair) -> None:
    assert isinstance(pair.say(WELCOME)[0], Broken)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"type":"ack"}', b'{"type":"ack","seq":"1"}', b"null"])
def test_what_is_no_frame_breaks_the_link(pair: Pair, data: bytes) -> None:
    (event,) = pair.end.receive(data, pair.now)
    assert isinstance(event, Broken)
    assert pair.end.receive(data, pair.now) == []
    assert pair.end.lost(pair.now) == Lost(retry_after_s=0.0)


@pytest.mark.parametrize("data", [b'{"type":"later"}', b'{"type":"later","seq":{}}'])
def test_frames_of_an_unknown_type_are_passed_over(pair: Pair, data: bytes) -> None:
    assert pair.end.receive(data, pair.now) == []
    assert pair.end.is_linked


def test_unknown_fields_are_passed_over(pair: Pair) -> None:
    assert pair.end.receive(b'{"type":"interval","interval_ms":500,"why":"load"}', pair.now) == [
        IntervalChanged(interval_s=0.5)
    ]


# Beats


def test_a_beat_of_now_is_sent_live(pair: Pair) -> None:
    pair.beat(status=BeatStatus.DEGRADED, cpu_load=5)
    (frame,) = pair.heard()
    assert frame == Beat(seq=1, status=BeatStatus.DEGRADED, cpu_load=5)


def test_beats_that_are_taken_together_are_all_sent_live(pair: Pair) -> None:
    pair.beat(cpu_load=1)
    pair.beat(status=BeatStatus.DEGRADED)
    assert pair.heard() == [Beat(seq=1, cpu_load=1), Beat(seq=2, status=BeatStatus.DEGRADED)]


def test_a_fresh_beat_behind_those_of_an_outage_is_sent_live(pair: Pair) -> None:
    pair.end.lost(pair.now)
    pair.beat()
    pair.now += 5
    pair.connect()
    pair.say(WELCOME)
    pair.beat(status=BeatStatus.DEGRADED)
    late, live = pair.heard()
    assert isinstance(late, Backlog)
    assert [beat.seq for beat in late.beats] == [1]
    assert live == Beat(seq=2, status=BeatStatus.DEGRADED)


def test_a_fresh_beat_is_tried_too_when_the_refused_one_is_gone(pair: Pair) -> None:
    pair.beat()
    pair.heard()
    pair.say(retry(1))
    pair.say(final("invalid_input", seq=1))
    pair.now += 2
    pair.beat()
    (probe,) = pair.heard()
    assert isinstance(probe, Backlog)
    assert [beat.seq for beat in probe.beats] == [2]


def test_further_beats_had_better_wait_only_while_those_before_them_arrive() -> None:
    pair = Pair(backlog_max=4)
    pair.beat()
    assert not pair.end.is_busy
    pair.beat()
    pair.heard()
    assert pair.end.is_busy
    pair.say(retry(1))
    assert not pair.end.is_busy
    pair.end.lost(pair.now)
    assert not pair.end.is_busy


def test_an_acknowledged_beat_is_done_and_its_round_trip_known(pair: Pair) -> None:
    pair.beat()
    pair.heard()
    pair.now += 0.03
    (event,) = pair.say(Ack(seq=1))
    assert isinstance(event, Acked)
    assert (event.seqs, event.late, event.round_trip_s) == ((1,), 0, pytest.approx(0.03))
    assert len(pair.end.backlog) == 0


def test_beats_of_an_outage_come_first_with_their_ages_then_live_ones(pair: Pair) -> None:
    pair.end.lost(pair.now)
    for _ in range(3):
        pair.now += 10
        pair.beat()
        assert pair.heard() == []
    pair.now += 5
    pair.connect()
    pair.say(WELCOME)
    (late,) = pair.heard()
    assert isinstance(late, Backlog)
    assert [(beat.seq, beat.age_ms) for beat in late.beats] == [(1, 25_000), (2, 15_000), (3, 5_000)]
    pair.beat()
    (live,) = pair.heard()
    assert isinstance(live, Beat)
    assert pair.say(Ack(seq=4)) == [Acked(seqs=(1, 2, 3, 4), late=3, round_trip_s=0.0)]


def test_what_was_sent_and_not_acknowledged_goes_again(pair: Pair) -> None:
    pair.beat()
    pair.heard()
    pair.end.lost(pair.now)
    pair.connect()
    pair.say(WELCOME)
    (again,) = pair.heard()
    assert isinstance(again, Backlog)
    assert [beat.seq for beat in again.beats] == [1]


def test_a_beat_refused_for_now_goes_again_when_the_registry_said(pair: Pair) -> None:
    pair.beat()
    pair.heard()
    assert pair.say(retry(1)) == []
    pair.now += 1.9
    assert pair.heard() == []
    assert pair.end.next_due() == pytest.approx(1002.0)
    pair.now += 0.1
    (again,) = pair.heard()
    assert isinstance(again, Backlog)
    assert [(beat.seq, beat.age_ms) for beat in again.beats] == [(1, 2_000)]


def test_while_beats_are_refused_the_node_stays_heard_without_sending_more(pair: Pair) -> None:
    pair.beat()
    pair.heard()
    pair.say(retry(1))
    pair.beat()
    assert pair.heard() == [Backlog(beats=())]


def test_after_a_refusal_one_beat_is_tried_alone_and_the_others_follow_its_acknowledgement(pair: Pair) -> None:
    for _ in range(3):
        pair.beat()
        pair.heard()
    for seq in (1, 2, 3):
        pair.say(retry(seq))
    pair.beat()
    pair.heard()
    pair.now += 2
    (probe,) = pair.heard()
    assert isinstance(probe, Backlog)
    assert [beat.seq for beat in probe.beats] == [1]
    pair.say(Ack(seq=1))
    (rest,) = pair.heard()
    assert isinstance(rest, Backlog)
    assert [beat.seq for beat in rest.beats] == [2, 3, 4]


def test_beats_that_are_refused_again_and_again_are_tried_ever_more_rarely(pair: Pair) -> None:
    pair.beat()
    pair.heard()
    waits = []
    for _ in range(5):
        pair.say(retry(1))
        due = pair.end.next_due()
        assert due is not None
        waits.append(due - pair.now)
        pair.now = due
        assert pair.heard() != []
    assert waits == [2, 4, 8, 10, 10]  # the interval is 10 s


def test_a_beat_refused_for_good_is_told_and_not_sent_again(pair: Pair) -> None:
    pair.beat()
    pair.heard()
    assert pair.say(final("stale_sequence", seq=1)) == [BeatRefused(seq=1, code="stale_sequence", message="no")]
    assert (len(pair.end.backlog), pair.end.refused) == (0, 1)


def test_a_probe_that_is_refused_for_good_lets_the_others_follow(pair: Pair) -> None:
    pair.beat()
    pair.heard()
    pair.say(retry(1))
    pair.beat()
    pair.now += 2
    pair.heard()
    pair.say(final("invalid_input", seq=1))
    (rest,) = pair.heard()
    assert isinstance(rest, Backlog)
    assert [beat.seq for beat in rest.beats] == [2]


def test_beats_of_another_incarnation_are_dropped_and_told(pair: Pair) -> None:
    pair.beat()
    pair.end.lost(pair.now)
    pair.beat()
    pair.connect()
    (event,) = pair.say(msgspec.structs.replace(WELCOME, incarnation=7))
    assert isinstance(event, Welcomed)
    assert event.undeliverable == 2
    assert (pair.end.backlog.dropped, pair.heard()) == (2, [Backlog(beats=())])


def test_no_more_than_half_of_the_window_is_on_the_way_and_the_node_stays_heard() -> None:
    pair = Pair(backlog_max=UNACKED_MAX)
    for _ in range(600):
        pair.beat()
        pair.heard()
    assert pair.end.backlog.on_the_way == UNACKED_MAX // 2
    pair.beat()
    assert pair.heard() == [Backlog(beats=())]


# The end


@pytest.mark.parametrize("code", ["superseded", "deregistered", "mismatch", "goodbye", "of_a_later_version"])
def test_a_final_error_and_then_a_close_end_the_link_for_good(pair: Pair, code: str) -> None:
    assert pair.say(final(code)) == [Troubled(code=code, message="no")]
    assert pair.end.is_linked
    assert pair.end.lost(pair.now) == Ended(code=code, message="no")
    assert pair.end.state is State.ENDED


@pytest.mark.parametrize("code", ["outcome_unknown", "internal_error", "store_fault"])
def test_the_registrys_own_trouble_ends_no_link_for_good(code: str) -> None:
    pair = Pair(greeted=False)
    pair.say(final(code))
    assert pair.end.lost(pair.now) == Lost(retry_after_s=0.0, code=code, message="no")


def test_a_final_error_in_place_of_welcome_ends_the_link_for_good() -> None:
    pair = Pair(greeted=False)
    pair.say(final("mismatch"))
    assert pair.end.lost(pair.now) == Ended(code="mismatch", message="no")


def test_the_last_error_decides(pair: Pair) -> None:
    pair.say(final("invalid_input"))
    pair.say(retry(None, code="shutting_down", after_ms=1_500))
    assert pair.end.lost(pair.now) == Lost(retry_after_s=1.5, code="shutting_down", message="not now")


def test_an_error_that_did_not_end_the_link_is_not_the_reason_of_a_later_close(pair: Pair) -> None:
    pair.say(final("invalid_input"))
    pair.now += ERROR_DECIDES_S + 1
    assert pair.end.lost(pair.now) == Lost(retry_after_s=0.0)


@pytest.mark.parametrize("after_ms", [-5, 10**12])
def test_a_wait_out_of_bounds_is_bounded(pair: Pair, after_ms: int) -> None:
    pair.say(retry(None, after_ms=after_ms))
    lost = pair.end.lost(pair.now)
    assert isinstance(lost, Lost)
    assert 0 <= lost.retry_after_s <= 3600


def test_a_goodbye_follows_the_beats_and_nothing_follows_it(pair: Pair) -> None:
    pair.beat()
    pair.end.bye("going home")
    pair.beat()
    frames = pair.heard()
    assert [type(frame) for frame in frames] == [Beat, Beat, Bye]
    pair.beat()
    assert pair.heard() == []
    assert pair.end.lost(pair.now) == Left()


def test_a_goodbye_does_not_wait_for_beats_that_are_refused(pair: Pair) -> None:
    pair.beat()
    pair.heard()
    pair.say(retry(1))
    pair.end.bye(None)
    assert pair.heard() == [Bye()]


def test_drain_is_told_within_bounds(pair: Pair) -> None:
    assert pair.say(Drain(reconnect_within_ms=2_500)) == [DrainAsked(within_s=2.5)]
    assert pair.say(Drain(reconnect_within_ms=-1)) == [DrainAsked(within_s=0.0)]


# Silence


def test_what_has_to_be_answered_is_timed_until_something_comes(pair: Pair) -> None:
    assert pair.end.unanswered_since is None
    pair.beat()
    pair.heard()
    pair.now += 3
    pair.beat()
    pair.heard()
    assert pair.end.unanswered_since == 1000.0
    pair.say(Ack(seq=1))
    assert pair.end.unanswered_since == 1003.0
    pair.say(Ack(seq=2))
    assert pair.end.unanswered_since is None


def test_a_sign_of_life_without_beats_needs_no_answer(pair: Pair) -> None:
    pair.beat()
    pair.heard()
    pair.say(retry(1))
    pair.beat()
    assert pair.heard() == [Backlog(beats=())]
    assert pair.end.unanswered_since is None


# The table of the module


def test_the_table_names_every_state_and_every_event() -> None:
    table, _, _ = (node_end.__doc__ or "").partition('"Any link"')
    rows = [re.split(r"\s{2,}", row.strip()) for row in table.splitlines() if row.startswith("    ")][1:]
    named = {state for row in rows for state in (row[0], row[2])} - {"any link", "same"}
    assert named == {state.value for state in State}
    told = " ".join(row[3] for row in rows if len(row) > 3)
    for kind in (Welcomed, Acked, BeatRefused, IntervalChanged, DrainAsked, Troubled, Broken, Lost, Left, Ended):
        assert kind.__name__ in told


# Sessions with other nodes

SEEN = Links(sessions=(SeenSession(session_id="tunnel", remote="worker-2"),))
TAKES_LINKS = msgspec.structs.replace(WELCOME, features=("links",))


def test_sessions_are_reported_once_then_now_and_then_and_over_each_connection() -> None:
    pair = Pair(greeted=False)
    pair.end.report(SEEN)
    pair.say(TAKES_LINKS)
    assert pair.heard() == [SEEN]
    assert pair.heard() == []
    pair.now += REPORT_AGAIN_S
    assert pair.heard() == [SEEN]
    pair.end.report(Links(sessions=()))
    assert pair.heard() == [Links(sessions=())]
    pair.end.lost(pair.now)
    pair.connect()
    pair.say(TAKES_LINKS)
    assert pair.heard() == [Links(sessions=())]


def test_sessions_are_not_reported_to_a_registry_that_has_no_use_for_them(pair: Pair) -> None:
    pair.end.report(SEEN)
    assert pair.heard() == []
