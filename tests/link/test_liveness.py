"""What a node's status becomes: the code does what the table in its docstring says, row by row."""

from __future__ import annotations

import inspect
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderline.core.records import BeatStatus, NodeStatus, Override
from thunderline.link import liveness
from thunderline.link.liveness import BEAT_SIGNALS, Observed, Signal, effective, has_left, is_up, observe
from thunderline.testing.records import START

STATUSES = ["connecting", "online", "degraded", "disconnected", "cut", "lost", "left"]


def table() -> dict[tuple[str, Signal], tuple[str, str]]:
    """(status, signal) -> (becomes, reason), read from the docstring of `link/liveness.py`."""
    lines = [line.strip() for line in (inspect.getdoc(liveness) or "").splitlines() if line.count("|") == 3]
    heading, rule, *rows = ([cell.strip() for cell in line.split("|")] for line in lines)
    assert heading == ["status", "signal", "becomes", "reason"]
    assert all(set(cell) == {"-"} for cell in rule)
    read = {(status, Signal(signal)): (becomes, reason) for status, signal, becomes, reason in rows}
    assert len(read) == len(rows)
    return read


TABLE = table()


def states(status: str) -> list[Observed]:
    """What a node may hold when the table calls its status this."""
    if status == "left":
        return [(NodeStatus.OFFLINE, liveness.REASON_GOODBYE)]
    if status == "lost":
        reasons = ["silent", "link_lost", "never_seen", "marked by an operator"]
        return [(NodeStatus.OFFLINE, reason) for reason in reasons]
    if status == "cut":
        return [(NodeStatus.DISCONNECTED, liveness.REASON_LINK_LOST)]
    reasons = ["registered", "announced", "heartbeat", "reported", "silent", "goodbye", "anything else"]
    return [(NodeStatus(status), reason) for reason in reasons]


def called(observed: Observed) -> str:
    """What the table calls that state."""
    status, reason = observed
    if observed == (NodeStatus.DISCONNECTED, liveness.REASON_LINK_LOST):
        return "cut"
    if status is not NodeStatus.OFFLINE:
        return status.value
    return "left" if has_left(status, reason) else "lost"


def test_table_speaks_of_every_status_and_every_signal() -> None:
    assert {status for status, _ in TABLE} == set(STATUSES)
    assert {signal for _, signal in TABLE} == set(Signal)
    assert {becomes for becomes, _ in TABLE.values()} <= set(STATUSES)


@pytest.mark.parametrize(("status", "signal"), [*product(STATUSES, Signal)])
def test_every_signal_does_to_every_status_what_the_table_says(status: str, signal: Signal) -> None:
    for before in states(status):
        after = observe(*before, signal)
        if (row := TABLE.get((status, signal))) is None:
            assert after == before
        else:
            assert (called(after), after[1]) == row


@given(
    st.sampled_from(STATUSES).flatmap(lambda status: st.sampled_from(states(status))), st.lists(st.sampled_from(Signal))
)
def test_any_course_of_signals_ends_where_the_table_leads(start: Observed, signals: list[Signal]) -> None:
    observed, status = start, called(start)
    for signal in signals:
        observed = observe(*observed, signal)
        status = TABLE.get((status, signal), (status, ""))[0]
        assert called(observed) == status
        # Told twice is told once.
        assert observe(*observed, signal) == observed


def reachable(start: str) -> set[str]:
    found, new = {start}, [start]
    while new:
        status = new.pop()
        for (before, _), (becomes, _) in TABLE.items():
            if before == status and becomes not in found:
                found.add(becomes)
                new.append(becomes)
    return found


def test_every_status_is_reached_from_registration() -> None:
    assert reachable("connecting") == set(STATUSES)


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_has_a_way_back_to_online(status: str) -> None:
    assert "online" in reachable(status)


@pytest.mark.parametrize("status", [status for status in STATUSES if status != "online"])
def test_announcement_brings_every_node_online_at_once(status: str) -> None:
    assert TABLE[status, Signal.ANNOUNCED] == ("online", "announced")


def test_after_its_goodbye_only_an_announcement_brings_a_node_back() -> None:
    assert [signal for status, signal in TABLE if status == "left"] == [Signal.ANNOUNCED]


def test_nobody_is_given_up_who_was_not_silent_first() -> None:
    assert [status for status, signal in TABLE if signal is Signal.GIVEN_UP] == ["connecting", "disconnected", "cut"]
    assert [status for status, signal in TABLE if signal is Signal.SILENT] == ["online", "degraded"]
    assert [status for status, signal in TABLE if signal is Signal.LINK_LOST] == ["online", "degraded"]


def test_deadline_runs_for_whom_silence_would_change() -> None:
    assert {status for status in NodeStatus if is_up(status)} == {
        NodeStatus(status) for status, signal in TABLE if signal is Signal.SILENT
    }


def test_every_status_of_a_beat_is_a_signal() -> None:
    assert set(BEAT_SIGNALS) == set(BeatStatus)
    for beat, signal in BEAT_SIGNALS.items():
        status, _ = observe(NodeStatus.CONNECTING, "registered", signal)
        assert status == beat.value


@pytest.mark.parametrize("observed", list(NodeStatus))
@pytest.mark.parametrize("overridden", list(NodeStatus))
def test_override_shows_except_that_the_dead_do_not_show_as_degraded(
    overridden: NodeStatus, observed: NodeStatus
) -> None:
    override = Override(status=overridden, reason="maintenance", by="operator:zoe", at=START)
    shown = effective((observed, "seen"), override)
    dead = observed in (NodeStatus.OFFLINE, NodeStatus.DISCONNECTED)
    assert shown == ((observed, "seen") if overridden is NodeStatus.DEGRADED and dead else (overridden, "maintenance"))


@pytest.mark.parametrize("observed", list(NodeStatus))
def test_without_an_override_what_is_observed_shows(observed: NodeStatus) -> None:
    assert effective((observed, "seen"), None) == (observed, "seen")
