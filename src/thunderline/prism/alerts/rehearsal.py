"""Rules run over the past: what would have fired, and what did.

Given the log from its beginning it gives exactly what a server with these rules fired. Where the log begins later than
the cluster, nodes that nothing has happened to since count from their first event on.
"""

from __future__ import annotations

from typing import Final

import msgspec

from thunderline.core.alerts import Alert, AlertState
from thunderline.core.clock import to_ms
from thunderline.core.ids import Revision
from thunderline.core.records import Event
from thunderline.flow.taxonomy import ALERT_FIRED, ALERT_RESOLVED
from thunderline.prism.alerts.conditions import LogRules
from thunderline.prism.alerts.rules import FIGURES, AlertConfig, Rule

Firing = tuple[str, int]
"""An alert's id, and when it fired, in milliseconds."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One alert of the window: by the rules, by the log, or by both."""

    alert: Alert
    """By the rules, else as it was told; `resolved_at` None where it still fires at the window's end."""
    by_rules: bool
    fired: bool
    """Whether it had fired."""


class Rehearsal:
    """One run. Feed it the log in order, then `finish`."""

    def __init__(self, config: AlertConfig, *, since_ms: int, until_ms: int) -> None:
        self.figures: Final[tuple[Rule, ...]] = tuple(rule for rule in config.rules if rule.kind in FIGURES)
        """Rules that cannot be rehearsed: what they look at is in no log."""
        self._rules = LogRules(config)
        self._since_ms = since_ms
        self._until_ms = until_ms
        self._made: dict[Firing, Alert] = {}
        self._told: dict[Firing, Alert] = {}

    def feed(self, event: Event) -> bool:
        """Take the next event; whether more are wanted: none behind the window is."""
        at_ms = to_ms(event.at)
        if at_ms > self._until_ms:
            return False
        self._rules.apply(event)
        self._collect()
        if event.name in (ALERT_FIRED, ALERT_RESOLVED) and isinstance(event.payload, Alert):
            self._told[_firing(event.payload)] = event.payload
        return True

    def finish(self) -> list[Found]:
        """All alerts that fired within the window, by when they did."""
        self._rules.advance(self._until_ms)
        self._collect()
        found = []
        known = self._rules.machine.rules
        for firing in self._made.keys() | self._told.keys():
            made, told = self._made.get(firing), self._told.get(firing)
            alert = made or told
            assert alert is not None
            is_within = self._since_ms <= firing[1] <= self._until_ms
            if is_within and (made is not None or alert.rule in known):
                found.append(Found(alert=alert, by_rules=made is not None, fired=told is not None))
        return sorted(found, key=lambda each: (each.alert.fired_at, each.alert.id))

    @property
    def revision(self) -> Revision:
        """Of the last event that was taken."""
        return self._rules.revision

    def _collect(self) -> None:
        out, self._rules.machine.out = self._rules.machine.out, []
        for alert in out:
            if alert.state is AlertState.FIRING or _firing(alert) in self._made:
                self._made[_firing(alert)] = alert


def _firing(alert: Alert) -> Firing:
    return alert.id, to_ms(alert.fired_at)
