"""From conditions that hold, and no longer do, to alerts that fire and are resolved: the life of each, in one place.

    (nothing) --holds--> pending --`for` is over--> firing --no longer holds, for `keep`--> resolved
       ^                    |  ^                      |
       +----no longer-------+  +--guard, flapping-----+ (held back: judged again when that ends)

Pure: it is told what holds and what time it is, in order, and gives alerts in `out`. What it is told twice changes
nothing. Time is wall time in milliseconds, and never goes back: what is told with an earlier time counts as of now.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from enum import Enum
from itertools import count
from typing import Final

import msgspec

from thunderline.core.alerts import Alert, PendingAlert, fingerprint, some_names
from thunderline.core.clock import from_ms
from thunderline.prism.alerts.rules import FIGURES, Kind, Rule

REGROUP_MS: Final = 60_000
"""Who is left when an alert for many is resolved is due after so long, or after the rule's `for` if that is shorter."""

PENDING_MAX: Final = 1_000
"""So many are shown."""

TIMERS_SPARE: Final = 64
"""Timers that count no longer may be so many, and as many again as there are cases, before they are cleared away."""

Place = tuple[str, str]
"""A label and its value: where something is. Many of one place become one alert."""


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a rule is about holds."""

    subject: str
    """Tells it from others of the same rule: a node's id, a zone's name."""
    labels: dict[str, str]
    since_ms: int
    summary: str
    name: str = ""
    """Of the node that it is about."""
    place: Place | None = None
    value: float | None = None


class _State(Enum):
    PENDING = "pending"
    HELD = "held"
    ALONE = "alone"
    MEMBER = "member"


_FIRES: Final = frozenset({_State.ALONE, _State.MEMBER})


class _Case:
    """One condition of one rule."""

    __slots__ = ("alert", "condition", "due_ms", "gone", "held_by", "rule", "state", "turn")

    def __init__(self, rule: Rule, condition: Condition) -> None:
        self.rule = rule
        self.condition = condition
        self.state = _State.PENDING
        self.due_ms: int | None = None
        self.held_by: str | None = None
        self.gone = False
        """It holds no longer, and is not resolved yet."""
        self.turn = 0
        """Which of its timers counts."""
        self.alert: Alert | None = None


class _Group:
    """One alert for many cases of a place."""

    __slots__ = ("alert", "members")

    def __init__(self, alert: Alert) -> None:
        self.alert = alert
        self.members: dict[str, _Case] = {}


class Machine:
    """The cases of some rules."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = {rule.name: rule for rule in rules}
        self.now_ms = 0
        self.hold_until_ms = 0
        """What follows from the log and is due before that is due only then."""
        self.out: list[Alert] = []
        """Alerts that fired or were resolved, in order, for whoever takes them away."""
        self._cases: dict[tuple[str, str], _Case] = {}
        self._places: dict[tuple[str, Place], dict[str, _Case]] = {}
        self._groups: dict[tuple[str, Place], _Group] = {}
        self._timers: list[tuple[int, int, int, _Case]] = []
        self._order = count()
        self._guarded: set[Place] = set()
        self._flapping: set[str] = set()

    # What holds

    def holds(self, rule: Rule, condition: Condition) -> None:
        """The condition holds; that it has held before is fine."""
        key = (rule.name, condition.subject)
        case = self._cases.get(key)
        if case is not None:
            case.gone = False
            if case.state is _State.PENDING:
                return
            if case.due_ms is not None and case.state in _FIRES:
                self._disarm(case)
            return
        case = self._open(rule, condition)
        due_ms = condition.since_ms + round(rule.for_s * 1000)
        if due_ms <= self.now_ms:
            self._mature(case)
        else:
            self._arm(case, due_ms)

    def holds_no_longer(self, rule: Rule, subject: str, *, is_removed: bool = False) -> None:
        """The condition does not hold; that it has not held before is fine. `is_removed`: there is nothing to hold."""
        case = self._cases.get((rule.name, subject))
        if case is None or (case.gone and not is_removed):
            return
        if case.state in _FIRES and not is_removed:
            if rule.kind is Kind.NODE_OFFLINE and subject in self._flapping:
                case.gone = True
                return
            if rule.keep_s:
                case.gone = True
                self._arm(case, self.now_ms + round(rule.keep_s * 1000))
                return
        self._end(case)

    def only(self, rule: Rule, conditions: Iterable[Condition]) -> None:
        """Of this rule these conditions hold, and no others."""
        found = {condition.subject: condition for condition in conditions}
        for name, subject in [key for key in self._cases if key[0] == rule.name]:
            if subject not in found:
                self.holds_no_longer(self.rules[name], subject)
        for condition in found.values():
            self.holds(rule, condition)

    def _open(self, rule: Rule, condition: Condition) -> _Case:
        case = self._cases[rule.name, condition.subject] = _Case(rule, condition)
        if condition.place is not None:
            self._places.setdefault((rule.name, condition.place), {})[condition.subject] = case
        return case

    def guard(self, place: Place, *, is_engaged: bool) -> None:
        """The guard of a place was engaged or released."""
        if is_engaged:
            self._guarded.add(place)
        elif place in self._guarded:
            self._guarded.discard(place)
            self._judge_again("guard")

    def flaps(self, subject: str, *, is_flapping: bool) -> None:
        """A node was marked as flapping, or no longer is."""
        if is_flapping:
            self._flapping.add(subject)
        elif subject in self._flapping:
            self._flapping.discard(subject)
            for rule in self.rules.values():
                case = self._cases.get((rule.name, subject))
                if case is None:
                    continue
                if case.gone and rule.kind is Kind.NODE_OFFLINE:
                    self._end(case)
                elif case.state is _State.HELD:
                    self._mature(case)

    def forget_flapping(self, subject: str) -> None:
        """The node is gone."""
        self._flapping.discard(subject)

    # Time

    def next_due_ms(self) -> int | None:
        """When something is due next; None: nothing is."""
        while self._timers and self._timers[0][2] != self._timers[0][3].turn:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def advance(self, to_ms: int) -> None:
        """Let everything be done that is due by then."""
        while (due_ms := self.next_due_ms()) is not None and due_ms <= to_ms:
            case = heapq.heappop(self._timers)[3]
            self.now_ms = max(self.now_ms, due_ms)
            case.due_ms = None
            case.turn += 1
            if case.gone:
                self._end(case)
            else:
                self._mature(case)
        self.now_ms = max(self.now_ms, to_ms)

    # What was before

    def take_up(self, rule: Rule, conditions: Iterable[Condition], alerts: Iterable[Alert]) -> None:
        """Begin a rule over figures: these conditions hold, and these alerts of it fire since before."""
        for condition in conditions:
            self._arm(self._open(rule, condition), condition.since_ms + round(rule.for_s * 1000))
        self.restore(alerts, is_known=False)

    def restore(self, alerts: Iterable[Alert], *, is_known: bool = True) -> None:
        """Take up these alerts, which fire, once all that holds was told and before anything else is.

        What was due by `now_ms` is then a case of one of them, or fires when the time comes; where it is not known
        since when it holds, whatever an alert is about is a case of it. An alert of which nothing holds is resolved.
        """
        left = {alert.id: alert for alert in alerts if alert.rule in self.rules}
        for (rule_name, place), cases in self._places.items():
            rule = self.rules[rule_name]
            if (alert := left.pop(_id_of_group(rule, place), None)) is None:
                continue
            group = self._groups[rule_name, place] = _Group(alert)
            for subject, case in cases.items():
                due_ms = case.condition.since_ms + round(rule.for_s * 1000)
                was_due = due_ms <= self.now_ms or not is_known
                if was_due and _id_of(rule, case.condition) not in left:
                    self._disarm(case)
                    case.state = _State.MEMBER
                    group.members[subject] = case
        for case in self._cases.values():
            if (alert := left.pop(_id_of(case.rule, case.condition), None)) is not None:
                self._disarm(case)
                case.state, case.alert = _State.ALONE, alert
        for alert in left.values():
            self.out.append(msgspec.structs.replace(alert, resolved_at=from_ms(self.now_ms)))

    def pending(self) -> list[PendingAlert]:
        """What is not told yet, by when it began; some of it where there is much."""
        cases = [case for case in self._cases.values() if case.state not in _FIRES]
        first = heapq.nsmallest(PENDING_MAX, cases, key=lambda case: case.condition.since_ms)
        return [
            PendingAlert(
                rule=case.rule.name,
                severity=case.rule.severity,
                labels=_labels(case.rule, case.condition),
                starts_at=from_ms(case.condition.since_ms),
                due_at=None if case.due_ms is None else from_ms(case.due_ms),
                held_by=case.held_by,
            )
            for case in first
        ]

    # The life of one case

    def _mature(self, case: _Case) -> None:
        rule, condition = case.rule, case.condition
        if self.now_ms < self.hold_until_ms and rule.kind not in FIGURES:
            case.state, case.held_by = _State.PENDING, "start"
            self._arm(case, self.hold_until_ms)
            return
        case.held_by = self._held_by(case)
        if case.held_by is not None:
            case.state = _State.HELD
            return
        place = condition.place
        if rule.group_above is not None and place is not None:
            group = self._groups.get((rule.name, place))
            if group is None and len(cases := self._places[rule.name, place]) > rule.group_above:
                alert = self._alert_for_many(rule, place, list(cases.values()))
                group = self._groups[rule.name, place] = _Group(alert)
                self.out.append(alert)
            if group is not None:
                case.state = _State.MEMBER
                group.members[condition.subject] = case
                return
        case.state = _State.ALONE
        labels = _labels(rule, condition)
        case.alert = Alert(
            id=fingerprint(rule.name, labels),
            rule=rule.name,
            severity=rule.severity,
            labels=labels,
            summary=condition.summary,
            starts_at=from_ms(condition.since_ms),
            fired_at=from_ms(self.now_ms),
            value=condition.value,
            nodes=1 if condition.name else 0,
            names=(condition.name,) if condition.name else (),
        )
        self.out.append(case.alert)

    def _held_by(self, case: _Case) -> str | None:
        if case.rule.kind is not Kind.NODE_OFFLINE:
            return None
        if case.condition.place in self._guarded:
            return "guard"
        return "flapping" if case.condition.subject in self._flapping else None

    def _judge_again(self, held_by: str) -> None:
        for case in [case for case in self._cases.values() if case.held_by == held_by and case.state is _State.HELD]:
            self._mature(case)

    def _alert_for_many(self, rule: Rule, place: Place, cases: list[_Case]) -> Alert:
        labels = {**rule.labels, place[0]: place[1]}
        return Alert(
            id=fingerprint(rule.name, labels),
            rule=rule.name,
            severity=rule.severity,
            labels=labels,
            summary=f"{len(cases)} {_MANY[rule.kind]} in {place[0]} {place[1]}",
            starts_at=from_ms(min(case.condition.since_ms for case in cases)),
            fired_at=from_ms(self.now_ms),
            nodes=len(cases) if any(case.condition.name for case in cases) else 0,
            names=some_names(case.condition.name for case in cases if case.condition.name),
        )

    def _end(self, case: _Case) -> None:
        rule, condition = case.rule, case.condition
        self._disarm(case)
        del self._cases[rule.name, condition.subject]
        if case.alert is not None:
            self.out.append(msgspec.structs.replace(case.alert, resolved_at=from_ms(self.now_ms)))
        if condition.place is None:
            return
        key = (rule.name, condition.place)
        cases = self._places[key]
        del cases[condition.subject]
        if not cases:
            del self._places[key]
        group = self._groups.get(key)
        if group is None:
            return
        group.members.pop(condition.subject, None)
        if len(cases) <= (rule.group_above or 0) // 2:
            del self._groups[key]
            self.out.append(msgspec.structs.replace(group.alert, resolved_at=from_ms(self.now_ms)))
            for left in group.members.values():
                left.state = _State.PENDING
                self._arm(left, self.now_ms + min(REGROUP_MS, round(rule.for_s * 1000)))

    def _arm(self, case: _Case, due_ms: int) -> None:
        case.turn += 1
        case.due_ms = due_ms
        heapq.heappush(self._timers, (due_ms, next(self._order), case.turn, case))
        if len(self._timers) > TIMERS_SPARE + 2 * len(self._cases):
            # What was disarmed goes only once it is due, which may be days away, and be armed again many times before.
            self._timers = [timer for timer in self._timers if timer[2] == timer[3].turn]
            heapq.heapify(self._timers)

    def _disarm(self, case: _Case) -> None:
        case.turn += 1
        case.due_ms = None


_MANY: Final = {
    Kind.NODE_OFFLINE: "nodes are offline",
    Kind.FLAPPING: "nodes are flapping",
    Kind.NAME_CONFLICT: "names are claimed by two processes",
    Kind.BEAT_LATENCY: "nodes report high latency",
    Kind.TOKEN_EXPIRING: "tokens expire soon",
}


def _labels(rule: Rule, condition: Condition) -> dict[str, str]:
    return {**rule.labels, **condition.labels}


def _id_of(rule: Rule, condition: Condition) -> str:
    return fingerprint(rule.name, _labels(rule, condition))


def _id_of_group(rule: Rule, place: Place) -> str:
    return fingerprint(rule.name, {**rule.labels, place[0]: place[1]})
