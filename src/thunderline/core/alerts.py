"""Alerts, and the silences that keep them from being told."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from thunderline.core.ids import Revision

NAMES_MAX: Final = 20
"""Nodes that an alert for many names at most."""

RULE_LABEL: Final = "rule"
SEVERITY_LABEL: Final = "severity"
"""Labels that every alert has, for matchers: its rule's name and its severity."""


class Severity(StrEnum):
    """How urgent an alert is: `critical` may wake somebody, `warning` is for the day, `info` is for the record."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class AlertState(StrEnum):
    """`pending` holds and is not yet told: not for long enough, or kept back; `firing` is told, `resolved` is over."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Somebody has taken a firing alert on."""

    by: str
    at: datetime
    note: str | None = None


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that holds for long enough, for a node, for many nodes of one place, or for the registry itself.

    `id` follows from the rule and the labels: the same trouble has the same id each time, and one alert at a time.
    `fired_at` tells its times apart.
    """

    id: str
    rule: str
    severity: Severity
    labels: dict[str, str]
    """What it is about: `node`, `zone`, ..., and what the rule adds; they stay while it fires."""
    summary: str
    starts_at: datetime
    """Since when the rule holds; of an alert for many nodes, for the first of them."""
    fired_at: datetime
    resolved_at: datetime | None = None
    value: float | None = None
    """The figure that the rule is about, as it was when it fired."""
    nodes: int = 0
    """How many nodes it stands for when it fires; 0: it is not about nodes."""
    names: tuple[str, ...] = ()
    """Some of them, by name."""
    acknowledged: Acknowledgement | None = None
    revision: Revision = Revision(0)
    """Of the event that told of it last."""

    @property
    def state(self) -> AlertState:
        """Firing or resolved: what is pending has no record."""
        return AlertState.FIRING if self.resolved_at is None else AlertState.RESOLVED

    @property
    def matched(self) -> dict[str, str]:
        """What matchers look at: its labels, with its rule and severity among them."""
        return {**self.labels, RULE_LABEL: self.rule, SEVERITY_LABEL: self.severity.value}


class PendingAlert(msgspec.Struct, frozen=True, kw_only=True):
    """What would be an alert: `due_at` is when it fires unless it is over by then; None while it is kept back."""

    rule: str
    severity: Severity
    labels: dict[str, str]
    starts_at: datetime
    due_at: datetime | None
    held_by: str | None = None
    """What keeps it back: `guard`, `flapping`."""


MATCHER_MAX: Final = 255
LabelName = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$(?!\n)")]


class Matcher(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A condition on one label; one that an alert does not have counts as empty. In `~`, `*` stands for anything."""

    label: LabelName
    op: Literal["=", "!=", "~", "!~"] = "="
    value: Annotated[str, Meta(max_length=MATCHER_MAX)]

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether it does for these labels."""
        found = labels.get(self.label, "")
        if self.op in ("=", "!="):
            return (found == self.value) is (self.op == "=")
        return fits(self.value, found) is (self.op == "~")

    def __str__(self) -> str:
        return f"{self.label}{self.op}{self.value}"


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts for which all matchers hold are not told until `until`; they fire and resolve all the same."""

    id: str
    matchers: tuple[Matcher, ...]
    until: datetime
    by: str
    at: datetime
    reason: str | None = None

    def holds(self, labels: Mapping[str, str], now: datetime) -> bool:
        """Whether an alert with these labels (`Alert.matched`) is silenced now."""
        return now < self.until and all(matcher.holds(labels) for matcher in self.matchers)


_MATCHER: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(=|!=|~|!~)(.*)", re.DOTALL)


def parse_matcher(text: str) -> Matcher | None:
    """The matcher that is written `label=value`, or with `!=`, `~` or `!~`; None where it is none."""
    found = _MATCHER.fullmatch(text)
    if found is None or len(found[3]) > MATCHER_MAX:
        return None
    return msgspec.convert({"label": found[1], "op": found[2], "value": found[3]}, Matcher)


def fingerprint(rule: str, labels: Mapping[str, str]) -> str:
    """The id of the alert of that rule with these labels; 32 hexadecimal digits."""
    told = msgspec.json.encode([rule, sorted(labels.items())])
    return hashlib.sha256(told).hexdigest()[:32]


def some_names(names: Iterable[str]) -> tuple[str, ...]:
    """The first of them by name, as many as an alert has."""
    return tuple(sorted(names)[:NAMES_MAX])


def fits(pattern: str, text: str) -> bool:
    """Whether the whole text is as the pattern has it, in which `*` stands for anything: of the shell's patterns that
    alone. It takes as long as both are, whatever they are: callers choose them, and a regular expression may take for
    ever."""
    first, *others = pattern.split("*")
    if not others:
        return text == first
    *between, last = others
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in between:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
