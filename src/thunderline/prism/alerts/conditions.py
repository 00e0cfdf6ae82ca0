"""What the events of the log make hold: from one event to the conditions of the rules over the log.

It keeps of the cluster what the rules need: groups, for a node's place, and each registry's own process, to know when
one has started. A place is a node's nearest zone, else its nearest region, else `everything`, as for the guard.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable
from typing import Final

from thunderline.core.clock import to_ms
from thunderline.core.ids import Revision
from thunderline.core.records import CapacityReport, Event, GuardReport, LinkSession, Node, NodeGroup, NodeStatus
from thunderline.flow.taxonomy import LINK_CLOSED
from thunderline.link.group_tree import nearest_group
from thunderline.link.guard import EVERYTHING, GUARDED
from thunderline.link.liveness import REASON_NEVER_SEEN, has_left
from thunderline.prism.alerts.machine import Condition, Machine, Place
from thunderline.prism.alerts.rules import FIGURES, AlertConfig, Kind, Rule

SCOPE: Final = "scope"
"""The label of the place of nodes that are in no zone and no region; its value is `everything`."""

_REGISTRY: Final = "registry"
"""The subject of what is about the registry itself."""


class LogRules:
    """The rules over the log, and how far they were judged."""

    def __init__(self, config: AlertConfig) -> None:
        rules = [rule for rule in config.rules if rule.kind not in FIGURES]
        self.machine = Machine(rules)
        self.revision = Revision(0)
        """All events up to that have been judged."""
        self.last_ms = 0
        """When the last of them was."""
        self._after_start_ms = round(config.after_start_s * 1000)
        self._of = {kind: [rule for rule in rules if rule.kind is kind] for kind in Kind}
        self._groups: dict[str, NodeGroup] = {}
        self._incarnations: dict[str, int] = {}
        # The newest that are one too many tell all there is to know, however wide the window is.
        self._closings: dict[str, deque[int]] = {
            rule.name: deque(maxlen=min(int(rule.above) + 1, sys.maxsize)) for rule in self._of[Kind.CONNECTION_CHURN]
        }

    # Where it begins

    def begin(
        self,
        *,
        nodes: Iterable[Node],
        groups: Iterable[NodeGroup],
        reports: Iterable[GuardReport | CapacityReport],
        revision: Revision,
        now_ms: int,
        last_ms: int,
        hold_until_ms: int = 0,
        registries: Iterable[str] = (),
    ) -> None:
        """Begin with the state as of `revision`, which was judged up to `now_ms`; `registries` are names of them."""
        machine = self.machine
        machine.hold_until_ms = hold_until_ms
        # Nothing fires before it is known what fires already: all is pending as yet.
        machine.now_ms = 0
        self.revision, self.last_ms = revision, last_ms
        self._groups = {group.name: group for group in groups}
        names = set(registries)
        for report in reports:
            self._reported(report, since_ms=last_ms)
        for node in nodes:
            if node.name in names:
                self._incarnations[node.name] = node.incarnation
            self._node(node, since_ms=to_ms(node.updated_at))
        machine.now_ms = now_ms

    def recall(self, event: Event) -> None:
        """Take an event from before the beginning that still counts within a window."""
        if event.name == LINK_CLOSED and _is_of_registry(event):
            for times in self._closings.values():
                times.append(to_ms(event.at))

    def recalled(self) -> None:
        """All of those were taken: what holds by them is pending as yet, as after `begin`."""
        machine = self.machine
        now_ms, machine.now_ms = machine.now_ms, 0
        self._look_at_churn(now_ms)
        machine.now_ms = now_ms

    # Events

    def apply(self, event: Event) -> None:
        """Judge one event, and all that was due before it; one that was judged before changes nothing."""
        if event.revision <= self.revision:
            return
        machine, at_ms = self.machine, to_ms(event.at)
        if self._is_start(event):
            # What was due since the last event may have been due while nobody was there to hear the nodes.
            self.advance(self.last_ms)
            machine.hold_until_ms = max(machine.hold_until_ms, at_ms + self._after_start_ms)
        self.advance(at_ms)
        self.revision = event.revision
        self.last_ms = max(self.last_ms, at_ms)
        payload = event.payload
        if isinstance(payload, Node):
            if event.deleted:
                self._node_gone(payload)
            else:
                self._node(payload, since_ms=machine.now_ms)
        elif isinstance(payload, LinkSession):
            if event.name == LINK_CLOSED and _is_of_registry(event):
                for rule in self._of[Kind.CONNECTION_CHURN]:
                    self._closings[rule.name].append(machine.now_ms)
                self._look_at_churn(machine.now_ms)
        elif isinstance(payload, NodeGroup):
            if event.deleted:
                self._groups.pop(payload.name, None)
            else:
                self._groups[payload.name] = payload
        elif isinstance(payload, GuardReport | CapacityReport):
            self._reported(payload, since_ms=machine.now_ms)

    def next_due_ms(self) -> int | None:
        """When something is due next, if nothing happens before."""
        dues = [due for due in (self.machine.next_due_ms(), self._churn_due_ms()) if due is not None]
        return min(dues, default=None)

    def advance(self, to_ms: int) -> None:
        """Let everything be judged that is due by then. No event from before that time may follow."""
        while (churn_ms := self._churn_due_ms()) is not None and churn_ms <= to_ms:
            self.machine.advance(churn_ms)
            self._look_at_churn(self.machine.now_ms)
        self.machine.advance(to_ms)

    def _is_start(self, event: Event) -> bool:
        """Whether the event tells that a registry has started: that its own node is another process now."""
        node = event.payload
        if not isinstance(node, Node) or node.name != event.source:
            return False
        before = self._incarnations.get(node.name)
        self._incarnations[node.name] = node.incarnation
        return before != node.incarnation

    # Nodes

    def _node(self, node: Node, *, since_ms: int) -> None:
        machine = self.machine
        for rule in self._of[Kind.FLAPPING]:
            if node.flapping and rule.nodes.holds(node):
                machine.holds(
                    rule,
                    self._about(node, since_ms=since_ms, summary=f"{node.name} changes its status all the time"),
                )
            else:
                machine.holds_no_longer(rule, node.id)
        machine.flaps(node.id, is_flapping=node.flapping)
        is_lost = _is_lost(node)
        for rule in self._of[Kind.NODE_OFFLINE]:
            if is_lost and rule.nodes.holds(node):
                summary = f"{node.name} is offline: {node.status_reason}"
                machine.holds(rule, self._about(node, since_ms=to_ms(node.status_since), summary=summary))
            else:
                machine.holds_no_longer(rule, node.id)

    def _node_gone(self, node: Node) -> None:
        for kind in (Kind.FLAPPING, Kind.NODE_OFFLINE):
            for rule in self._of[kind]:
                self.machine.holds_no_longer(rule, node.id, is_removed=True)
        self.machine.forget_flapping(node.id)

    def _about(self, node: Node, *, since_ms: int, summary: str) -> Condition:
        return Condition(
            subject=node.id,
            labels=node_labels(node, place := self.place_of(node)),
            since_ms=since_ms,
            summary=summary,
            name=node.name,
            place=place,
        )

    def place_of(self, node: Node) -> Place:
        """Where the node is."""
        return place_of(node, self._groups)

    # The registry

    def _reported(self, report: GuardReport | CapacityReport, *, since_ms: int) -> None:
        machine = self.machine
        if isinstance(report, CapacityReport):
            for rule in self._of[Kind.CAPACITY_EXCEEDED]:
                if report.exceeded:
                    summary = (
                        f"{report.nodes} nodes send {report.heartbeats_per_second:.0f} heartbeats a second; "
                        f"{report.max_heartbeats_per_second:.0f} are the limit"
                    )
                    condition = Condition(
                        subject=_REGISTRY,
                        labels={},
                        since_ms=since_ms,
                        summary=summary,
                        value=report.heartbeats_per_second,
                    )
                    machine.holds(rule, condition)
                else:
                    machine.holds_no_longer(rule, _REGISTRY)
            return
        label = SCOPE if report.scope_type is None else report.scope_type.value
        for rule in self._of[Kind.GUARD_ENGAGED]:
            if report.engaged:
                summary = f"many nodes of {label} {report.scope} fell silent at once: {report.fallen} of {report.nodes}"
                condition = Condition(
                    subject=report.id,
                    labels={label: report.scope},
                    since_ms=to_ms(report.engaged_at),
                    summary=summary,
                    value=float(report.fallen),
                )
                machine.holds(rule, condition)
            else:
                machine.holds_no_longer(rule, report.id)
        machine.guard((label, report.scope), is_engaged=report.engaged)

    # Connections

    def _look_at_churn(self, now_ms: int) -> None:
        for rule in self._of[Kind.CONNECTION_CHURN]:
            times = self._closings[rule.name]
            since_ms = now_ms - round(rule.window_s * 1000)
            while times and times[0] <= since_ms:
                times.popleft()
            if len(times) > rule.above:
                self.machine.holds(rule, self._churn(rule, len(times), since_ms=now_ms))
            else:
                self.machine.holds_no_longer(rule, _REGISTRY)

    def _churn(self, rule: Rule, closed: int, *, since_ms: int) -> Condition:
        return Condition(
            subject=_REGISTRY,
            labels={},
            since_ms=since_ms,
            summary=f"{closed} links to the registry ended within {rule.window_s:g} s",
            value=float(closed),
        )

    def _churn_due_ms(self) -> int | None:
        """When fewer links have ended within a window than are too many, if no more do."""
        dues = []
        for rule in self._of[Kind.CONNECTION_CHURN]:
            times = self._closings[rule.name]
            if (surplus := len(times) - int(rule.above)) > 0:
                dues.append(times[surplus - 1] + round(rule.window_s * 1000))
        return min(dues, default=None)


def node_labels(node: Node, place: Place) -> dict[str, str]:
    """The labels of an alert about one node."""
    return {"node": node.name, "role": node.role, "domain": node.domain, place[0]: place[1]}


def place_of(node: Node, groups: dict[str, NodeGroup]) -> Place:
    """Where the node is, by these groups: its nearest zone, else region, else everything."""
    for kind in GUARDED if node.groups else ():
        if (group := nearest_group(node.groups, kind, named=groups.get)) is not None:
            return (kind.value, group.name)
    return (SCOPE, EVERYTHING)


def _is_lost(node: Node) -> bool:
    """Whether the node is offline, by nobody's will: not its own, nor an operator's."""
    return (
        node.observed_status is NodeStatus.OFFLINE
        and node.override is None
        and not has_left(node.observed_status, node.observed_reason)
        and node.observed_reason != REASON_NEVER_SEEN
    )


def _is_of_registry(event: Event) -> bool:
    return isinstance(event.payload, LinkSession) and event.payload.remote_node_id is None
