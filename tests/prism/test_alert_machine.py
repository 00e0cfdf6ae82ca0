"""The life of alerts, without a registry: what holds is told by hand."""

from __future__ import annotations

import msgspec
import pytest

from thunderline.core.alerts import Alert, AlertState, Severity
from thunderline.core.clock import to_ms
from thunderline.prism.alerts.machine import TIMERS_SPARE, Condition, Machine
from thunderline.prism.alerts.rules import Kind, Rule

OFFLINE = Rule(name="off", kind=Kind.NODE_OFFLINE, severity=Severity.CRITICAL, for_s=300.0, group_above=5)
FLAPS = Rule(name="flap", kind=Kind.FLAPPING, severity=Severity.WARNING)
KEPT = Rule(name="slow", kind=Kind.STORE_SLOW, severity=Severity.WARNING, for_s=60.0, keep_s=30.0)
ZONE = ("zone", "eu-1")
S = 1000


def about(name: str, since_s: float = 0, *, place: tuple[str, str] = ZONE) -> Condition:
    labels = {"node": name, place[0]: place[1]}
    return Condition(subject=name, labels=labels, since_ms=round(since_s * S), summary=name, name=name, place=place)


class Told:
    """A machine, and all that it gave so far as (what, state, seconds)."""

    def __init__(self, *rules: Rule) -> None:
        self.machine = Machine(rules)
        self.alerts: list[Alert] = []

    def at(self, seconds: float) -> Machine:
        self.machine.advance(round(seconds * S))
        return self.machine

    @property
    def out(self) -> list[tuple[str, str, float]]:
        self.alerts += self.machine.out
        self.machine.out = []
        return [
            (
                alert.labels.get("node") or alert.labels.get("zone") or alert.rule,
                alert.state.value,
                to_ms(alert.resolved_at or alert.fired_at) / S,
            )
            for alert in self.alerts
        ]


def test_what_holds_for_long_enough_fires_once_and_is_resolved() -> None:
    told = Told(OFFLINE)
    told.at(10).holds(OFFLINE, about("a", 10))
    told.at(200).holds(OFFLINE, about("a", 200))
    told.at(309.999)
    assert told.out == []
    told.at(1000).holds(OFFLINE, about("a", 10))
    assert told.out == [("a", "firing", 310)]
    told.at(1200).holds_no_longer(OFFLINE, "a")
    told.at(9000).holds_no_longer(OFFLINE, "a")
    assert told.out == [("a", "firing", 310), ("a", "resolved", 1200)]
    fired, over = told.alerts
    assert over == msgspec.structs.replace(fired, resolved_at=over.resolved_at)


def test_what_holds_too_shortly_is_never_told() -> None:
    told = Told(OFFLINE)
    for start in (0, 301, 602):
        told.at(start).holds(OFFLINE, about("a", start))
        told.at(start + 299).holds_no_longer(OFFLINE, "a")
    told.at(5000)
    assert told.out == []


def test_the_same_trouble_has_the_same_id_each_time_and_others_have_others() -> None:
    told = Told(OFFLINE)
    for start in (0, 1000):
        told.at(start).holds(OFFLINE, about("a", start))
        told.at(start).holds(OFFLINE, about("b", start))
        told.at(start + 400).holds_no_longer(OFFLINE, "a")
        told.at(start + 400).holds_no_longer(OFFLINE, "b")
    assert len(told.out) == 8
    ids = {alert.labels["node"]: set[str]() for alert in told.alerts}
    for alert in told.alerts:
        ids[alert.labels["node"]].add(alert.id)
    assert [len(found) for found in ids.values()] == [1, 1]
    assert ids["a"] != ids["b"]


def test_a_figure_that_swings_is_one_alert() -> None:
    told = Told(KEPT)
    slow = Condition(subject="store", labels={}, since_ms=0, summary="slow")
    told.at(0).holds(KEPT, slow)
    told.at(100).holds_no_longer(KEPT, "store")
    told.at(120).holds(KEPT, slow)
    told.at(200).holds_no_longer(KEPT, "store")
    told.at(1000)
    assert told.out == [("slow", "firing", 60), ("slow", "resolved", 230)]


def test_a_zone_is_one_alert_and_who_is_left_of_it_is_due_again() -> None:
    told = Told(OFFLINE)
    for number in range(500):
        told.at(number / 10).holds(OFFLINE, about(f"n{number:03}", number / 10))
    told.at(0).holds(OFFLINE, about("elsewhere", 0, place=("zone", "eu-2")))
    told.at(600)
    assert told.out == [("eu-1", "firing", 300), ("elsewhere", "firing", 300)]
    [zone] = [alert for alert in told.alerts if "node" not in alert.labels]
    assert (zone.nodes, len(zone.names), zone.names[0]) == (500, 20, "n000")
    for number in range(498):
        told.at(700).holds_no_longer(OFFLINE, f"n{number:03}")
    assert told.out[2:] == [("eu-1", "resolved", 700)]
    told.at(800).holds_no_longer(OFFLINE, "n498")
    assert told.out[3:] == [("n498", "firing", 760), ("n499", "firing", 760), ("n498", "resolved", 800)]


def test_few_of_a_place_fire_for_themselves() -> None:
    told = Told(OFFLINE)
    for name in "abcde":
        told.at(0).holds(OFFLINE, about(name))
    told.at(400)
    assert [name for name, _, _ in told.out] == list("abcde")


def test_an_engaged_guard_keeps_its_place_back_and_no_other() -> None:
    told = Told(OFFLINE)
    told.at(0).guard(ZONE, is_engaged=True)
    told.at(0).holds(OFFLINE, about("a"))
    told.at(0).holds(OFFLINE, about("back"))
    told.at(0).holds(OFFLINE, about("elsewhere", place=("region", "eu-1")))
    told.at(400)
    assert told.out == [("elsewhere", "firing", 300)]
    assert {(each.labels["node"], each.due_at, each.held_by) for each in told.machine.pending()} == {
        ("a", None, "guard"),
        ("back", None, "guard"),
    }
    told.at(450).holds_no_longer(OFFLINE, "back")
    told.at(500).guard(ZONE, is_engaged=False)
    assert told.out[1:] == [("a", "firing", 500)]


def test_a_flapping_node_neither_falls_nor_returns() -> None:
    told = Told(OFFLINE, FLAPS)
    told.at(0).flaps("a", is_flapping=True)
    told.at(0).holds(OFFLINE, about("a"))
    told.at(400)
    assert told.out == []
    told.at(500).flaps("a", is_flapping=False)
    assert told.out == [("a", "firing", 500)]
    told.at(600).flaps("a", is_flapping=True)
    for at in range(700, 1000, 100):
        told.at(at).holds_no_longer(OFFLINE, "a")
        told.at(at + 50).holds(OFFLINE, about("a", at + 50))
    told.at(1000).holds_no_longer(OFFLINE, "a")
    assert told.out == [("a", "firing", 500)]
    told.at(1100).flaps("a", is_flapping=False)
    assert told.out[1:] == [("a", "resolved", 1100)]


def test_a_node_that_is_removed_is_resolved_also_while_it_flaps() -> None:
    told = Told(OFFLINE)
    told.at(0).holds(OFFLINE, about("a"))
    told.at(400).flaps("a", is_flapping=True)
    told.at(500).holds_no_longer(OFFLINE, "a", is_removed=True)
    assert told.out[1:] == [("a", "resolved", 500)]


def test_nothing_of_the_log_is_due_before_the_hold_is_over() -> None:
    told = Told(OFFLINE, KEPT)
    told.machine.hold_until_ms = 1000 * S
    told.at(0).holds(OFFLINE, about("a"))
    told.at(0).holds(OFFLINE, about("returns"))
    told.at(0).holds(KEPT, Condition(subject="store", labels={}, since_ms=0, summary="slow"))
    told.at(999).holds_no_longer(OFFLINE, "returns")
    told.at(2000)
    assert told.out == [("slow", "firing", 60), ("a", "firing", 1000)]


@pytest.mark.parametrize("lost", [3, 20])
def test_a_machine_that_is_restored_goes_on_as_if_it_had_not_been(lost: int) -> None:
    told, again = Told(OFFLINE), Told(OFFLINE)
    conditions = [about(f"n{number:02}", number) for number in range(lost)]
    for condition in conditions:
        told.at(condition.since_ms / S).holds(OFFLINE, condition)
    told.at(310)
    fired = [alert for alert in told.machine.out if alert.state is AlertState.FIRING]
    for condition in conditions:
        again.machine.holds(OFFLINE, condition)
    again.machine.now_ms = 310 * S
    again.machine.restore(fired)
    assert told.out != []
    assert again.out == []
    for number in range(lost):
        told.at(400 + number).holds_no_longer(OFFLINE, f"n{number:02}")
        again.at(400 + number).holds_no_longer(OFFLINE, f"n{number:02}")
    assert again.out == told.out[len(fired) :]


def test_a_restored_alert_of_which_nothing_holds_is_resolved() -> None:
    told, again = Told(OFFLINE), Told(OFFLINE)
    told.at(0).holds(OFFLINE, about("a"))
    told.at(400)
    again.machine.now_ms = 500 * S
    again.machine.restore(told.machine.out)
    assert again.out == [("a", "resolved", 500)]


def test_what_comes_and_goes_for_days_before_it_is_due_takes_no_memory() -> None:
    patient = msgspec.structs.replace(OFFLINE, for_s=7 * 86_400.0)
    told = Told(patient)
    for minute in range(2_000):
        told.at(minute * 60).holds(patient, about("a", minute * 60))
        told.at(minute * 60 + 30).holds_no_longer(patient, "a")
    assert len(told.machine._timers) <= TIMERS_SPARE
    told.at(120_000).holds(patient, about("a", 120_000))
    told.at(120_000 + 7 * 86_400)
    assert told.out == [("a", "firing", 120_000 + 7 * 86_400)]
