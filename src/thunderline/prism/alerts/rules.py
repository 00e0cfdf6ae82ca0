"""Rules and sinks as a TOML file has them, over defaults that do without one."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Meta, UnsetType

from thunderline.core.alerts import RULE_LABEL, SEVERITY_LABEL, LabelName, Severity, fits
from thunderline.core.errors import SettingsError
from thunderline.core.inputs import InputProblem, explain
from thunderline.core.records import Node

T = TypeVar("T")

SETTING: Final = "alerts_rules"


class Kind(StrEnum):
    """What a rule looks at."""

    NODE_OFFLINE = "node_offline"
    GUARD_ENGAGED = "guard_engaged"
    CAPACITY_EXCEEDED = "capacity_exceeded"
    FLAPPING = "flapping"
    CONNECTION_CHURN = "connection_churn"
    NAME_CONFLICT = "name_conflict"
    BEAT_LATENCY = "beat_latency"
    STORE_SLOW = "store_slow"
    STORE_AWAY = "store_away"
    HISTORY_SHORT = "history_short"
    TOKEN_EXPIRING = "token_expiring"
    CERTIFICATE_EXPIRING = "certificate_expiring"


FIGURES: Final = frozenset(
    {
        Kind.NAME_CONFLICT,
        Kind.BEAT_LATENCY,
        Kind.STORE_SLOW,
        Kind.STORE_AWAY,
        Kind.HISTORY_SHORT,
        Kind.TOKEN_EXPIRING,
        Kind.CERTIFICATE_EXPIRING,
    }
)
"""Kinds that look at figures which are in no log."""

_OF_NODES: Final = frozenset({Kind.NODE_OFFLINE, Kind.FLAPPING, Kind.NAME_CONFLICT, Kind.BEAT_LATENCY})
_TAKES: Final[dict[str, frozenset[Kind]]] = {
    "above": frozenset({Kind.CONNECTION_CHURN, Kind.BEAT_LATENCY, Kind.STORE_SLOW, Kind.HISTORY_SHORT}),
    "window": frozenset({Kind.CONNECTION_CHURN}),
    "within": frozenset({Kind.TOKEN_EXPIRING, Kind.CERTIFICATE_EXPIRING}),
    "nodes": _OF_NODES,
    "group_above": _OF_NODES | {Kind.TOKEN_EXPIRING},
}

_RESERVED: Final = frozenset(
    {RULE_LABEL, SEVERITY_LABEL, "alertname", "node", "role", "domain", "zone", "region", "scope", "token", "kind"}
)
"""Labels that alerts have by themselves."""

_UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
DURATION_MAX_S: Final = 31_622_400.0


class Nodes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which nodes a rule is about: those for which all that is given holds. `name` may have `*` in it."""

    name: str | None = None
    role: str | None = None
    domain: str | None = None
    group: str | None = None
    """A group of which the node itself is a member."""
    labels: dict[str, str] = {}

    def holds(self, node: Node) -> bool:
        """Whether the node is one of them."""
        return (
            (self.name is None or fits(self.name, node.name))
            and (self.role is None or node.role == self.role)
            and (self.domain is None or node.domain == self.domain)
            and (self.group is None or self.group in node.groups)
            and all(node.labels.get(key) == value for key, value in self.labels.items())
        )


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule, whole."""

    name: str
    kind: Kind
    severity: Severity
    for_s: float = 0.0
    """How long it has to hold before it fires."""
    keep_s: float = 0.0
    """How long it has to hold no longer before it is resolved."""
    group_above: int | None = None
    """So many cases of one place fire for themselves; more fire as one. None: each for itself, always."""
    above: float = 0.0
    window_s: float = 0.0
    within_s: float = 0.0
    nodes: Nodes = Nodes()
    labels: dict[str, str] = {}
    """What its alerts have beside what they are about."""


DEFAULT_RULES: Final = (
    Rule(name="node-offline", kind=Kind.NODE_OFFLINE, severity=Severity.CRITICAL, for_s=300.0, group_above=5),
    Rule(name="guard-engaged", kind=Kind.GUARD_ENGAGED, severity=Severity.CRITICAL),
    Rule(name="capacity-exceeded", kind=Kind.CAPACITY_EXCEEDED, severity=Severity.WARNING, for_s=60.0),
    Rule(name="node-flapping", kind=Kind.FLAPPING, severity=Severity.WARNING, group_above=5),
    Rule(
        name="connection-churn",
        kind=Kind.CONNECTION_CHURN,
        severity=Severity.WARNING,
        above=1000.0,
        window_s=300.0,
        keep_s=60.0,
    ),
    Rule(name="name-conflict", kind=Kind.NAME_CONFLICT, severity=Severity.CRITICAL, keep_s=600.0, group_above=5),
    Rule(
        name="beat-latency",
        kind=Kind.BEAT_LATENCY,
        severity=Severity.WARNING,
        above=1000.0,
        for_s=300.0,
        keep_s=60.0,
        group_above=5,
    ),
    Rule(name="store-slow", kind=Kind.STORE_SLOW, severity=Severity.WARNING, above=1.0, for_s=120.0, keep_s=60.0),
    Rule(name="store-away", kind=Kind.STORE_AWAY, severity=Severity.CRITICAL, for_s=10.0),
    Rule(
        name="history-short", kind=Kind.HISTORY_SHORT, severity=Severity.WARNING, above=0.95, for_s=600.0, keep_s=3600.0
    ),
    Rule(name="token-expiring", kind=Kind.TOKEN_EXPIRING, severity=Severity.WARNING, within_s=604_800.0, group_above=5),
    Rule(name="certificate-expiring", kind=Kind.CERTIFICATE_EXPIRING, severity=Severity.WARNING, within_s=1_209_600.0),
)

Duration = str | int | float
RuleName = Annotated[str, Meta(min_length=1, max_length=63, pattern=r"^[a-z0-9][a-z0-9_-]*$(?!\n)")]


class _RuleInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"for_": "for"}):
    """A rule as the file has it; what is absent is as the default of that name, or of that kind, has it."""

    enabled: bool = True
    kind: Kind | UnsetType = UNSET
    severity: Severity | UnsetType = UNSET
    for_: Duration | UnsetType = UNSET
    keep: Duration | UnsetType = UNSET
    group_above: Annotated[int, Meta(ge=0)] | Literal["never"] | UnsetType = UNSET
    above: Annotated[float, Meta(ge=0)] | UnsetType = UNSET
    window: Duration | UnsetType = UNSET
    within: Duration | UnsetType = UNSET
    nodes: Nodes | UnsetType = UNSET
    labels: dict[LabelName, str] | UnsetType = UNSET


class LogSinkConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="log"):
    """Alerts as lines of the server's own log."""


class WebhookConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="webhook"):
    """Alerts posted to a URL as JSON, one at a time, signed if there is a secret."""

    url: Annotated[str, Meta(pattern=r"^https?://")]
    secret_file: str | None = None
    ca_file: str | None = None
    """The authorities in it are trusted, and no others."""
    timeout: Duration = "10s"
    attempts_max: Annotated[int, Meta(ge=1, le=100_000)] = 200
    retry_max: Duration = "60s"


class AlertmanagerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="alertmanager"):
    """Alerts posted to an Alertmanager, again and again while they fire."""

    url: Annotated[str, Meta(pattern=r"^https?://")]
    ca_file: str | None = None
    timeout: Duration = "10s"
    repeat: Duration = "60s"
    attempts_max: Annotated[int, Meta(ge=1, le=100_000)] = 200
    retry_max: Duration = "60s"


SinkConfig = LogSinkConfig | WebhookConfig | AlertmanagerConfig


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    after_start: Duration = "2m"
    # Each is read for itself, so that a mistake is named with whose it is.
    rules: dict[RuleName, Any] = {}
    sinks: dict[RuleName, Any] = {}


class AlertConfig(msgspec.Struct, frozen=True, kw_only=True):
    """All rules that are on, and where their alerts are told."""

    rules: tuple[Rule, ...] = DEFAULT_RULES
    sinks: dict[str, SinkConfig] = msgspec.field(default_factory=lambda: {"log": LogSinkConfig()})
    after_start_s: float = 120.0
    """After a start of the registry nothing that follows from the log is due for so long: nodes come back first."""


def load_config(path: str | None) -> AlertConfig:
    """What a file says, over the defaults; None: the defaults. Raises: SettingsError that names what is wrong."""
    return AlertConfig() if path is None else read_config(_read(Path(path)), source=path)


def read_config(text: str, *, source: str) -> AlertConfig:
    """What a file's text says, over the defaults. Raises: SettingsError."""
    try:
        parsed = msgspec.convert(tomllib.loads(text), _File)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(SETTING, f"is not TOML: {error}", source=source) from error
    except msgspec.ValidationError as error:
        field, problem = explain(error)
        raise SettingsError(SETTING, f"{field}: {problem}", source=source) from error
    try:
        rules = {rule.name: rule for rule in DEFAULT_RULES}
        for name, as_given in parsed.rules.items():
            given: _RuleInput = _convert(as_given, _RuleInput, place=f"rules.{name}")
            if given.enabled:
                rules[name] = _rule(name, given, rules.get(name))
            else:
                _refuse_unless(
                    name in rules or given.kind is not UNSET, f"rules.{name}", "is no rule that could be off"
                )
                rules.pop(name, None)
        sinks: dict[str, SinkConfig] = {
            name: _convert(as_given, SinkConfig, place=f"sinks.{name}") for name, as_given in parsed.sinks.items()
        }
        for name, sink in sinks.items():
            _check_sink(name, sink)
        sinks = sinks or {"log": LogSinkConfig()}
        after_start_s = duration_s(parsed.after_start, field="after_start")
    except InputProblem as problem:
        raise SettingsError(SETTING, str(problem), source=source) from problem
    return AlertConfig(rules=tuple(rules.values()), sinks=sinks, after_start_s=after_start_s)


def duration_s(given: Duration, *, field: str) -> float:
    """Seconds in `5m`, `30s`, `1.5h`, `7d`, or a number of them. Raises: InputProblem."""
    if isinstance(given, str):
        found = _DURATION.fullmatch(given)
        _refuse_unless(found is not None, field, "should be a duration such as 30s, 5m, 2h or 7d")
        assert found is not None
        seconds = float(found[1]) * _UNITS_S[found[2]]
    else:
        seconds = float(given)
    _refuse_unless(0 <= seconds <= DURATION_MAX_S, field, "should be between 0s and 366d")
    return seconds


def _convert(given: object, kind: Any, *, place: str) -> Any:
    """What is given as one of that kind. Raises: InputProblem."""
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        field, problem = explain(error)
        raise InputProblem(f"{place}.{field}" if field else place, problem) from error


def _rule(name: str, given: _RuleInput, base: Rule | None) -> Rule:
    place = f"rules.{name}"
    if base is None:
        _refuse_unless(
            given.kind is not UNSET, place, f"needs a kind: {', '.join(Kind)}; {_names()} are there by themselves"
        )
        base = next(rule for rule in DEFAULT_RULES if rule.kind is given.kind)
        base = msgspec.structs.replace(base, name=name)
    elif given.kind is not UNSET and given.kind is not base.kind:
        raise InputProblem(place, f"is of the kind {base.kind}; give one of another kind another name")
    for parameter, kinds in _TAKES.items():
        if getattr(given, parameter) is not UNSET and base.kind not in kinds:
            raise InputProblem(f"{place}.{parameter}", f"is of no use to the kind {base.kind}")
    if given.labels is not UNSET and (taken := _RESERVED & given.labels.keys()):
        raise InputProblem(f"{place}.labels", f"{min(taken)} is a label that alerts have by themselves")
    if given.above is not UNSET:
        _refuse_unless(math.isfinite(given.above), f"{place}.above", "should be a number that is reached one day")
    changes: dict[str, Any] = {}
    for parameter in ("severity", "above", "nodes", "labels"):
        if (value := getattr(given, parameter)) is not UNSET:
            changes[parameter] = value
    if given.group_above is not UNSET:
        changes["group_above"] = None if given.group_above == "never" else given.group_above
    for parameter, field in (("for_", "for"), ("keep", "keep"), ("window", "window"), ("within", "within")):
        if (value := getattr(given, parameter)) is not UNSET:
            changes[f"{field}_s"] = duration_s(value, field=f"{place}.{field}")
    return msgspec.structs.replace(base, **changes)


def _check_sink(name: str, sink: SinkConfig) -> None:
    if isinstance(sink, LogSinkConfig):
        return
    _refuse_unless(_has_host(sink.url), f"sinks.{name}.url", "should name a host, as https://pager.example/hook does")
    for field in ("timeout", "retry_max", *(["repeat"] if isinstance(sink, AlertmanagerConfig) else [])):
        seconds = duration_s(getattr(sink, field), field=f"sinks.{name}.{field}")
        _refuse_unless(seconds >= 0.1, f"sinks.{name}.{field}", "should be 0.1s or more")


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _refuse_unless(holds: bool, field: str, problem: str) -> None:
    if not holds:
        raise InputProblem(field, problem)


def _names() -> str:
    return ", ".join(rule.name for rule in DEFAULT_RULES)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(SETTING, f"cannot be read: {reason}", source=str(path)) from error


def rules_of(config: AlertConfig, kinds: frozenset[Kind] | None = None) -> Mapping[str, Rule]:
    """The rules by name; of these kinds where some are given."""
    return {rule.name: rule for rule in config.rules if kinds is None or rule.kind in kinds}
