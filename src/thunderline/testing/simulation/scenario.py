"""What is simulated, as a TOML file says it: settings, nodes, faults, and what the outcome has to be.

Spans of time are seconds or text such as `"90s"`, `"2m"`, `"24h"`. Whatever is random comes from `seed` alone.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar, cast

import msgspec
from msgspec import Meta

from thunderline.core.errors import InvalidInput
from thunderline.core.inputs import explain
from thunderline.core.settings import Settings
from thunderline.testing.simulation.network import Constant, Delay

T = TypeVar("T")

BUILT_IN: Final = FilePath(__file__).parent / "scenarios"

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_SPAN: Final = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


class Seconds(float):
    """A span of time; in a scenario a number, or text with a unit."""


Name = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Share = Annotated[float, Meta(ge=0, le=1)]
Transport = Literal["link", "http"]


class Fleet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nodes that are alike. They are called `<name>-0001` and so on, and dealt out to `zones` in turn."""

    name: Name
    count: Annotated[int, Meta(ge=1, le=1_000_000)]
    transport: Transport = "link"
    zones: tuple[Name, ...] = ()
    interval: Seconds | None = None
    """None: as the registry says."""
    loss: Share = 0.0
    """Part of the messages, either way, that never arrives."""
    delay: Delay = Constant(ms=1)
    """How long the others take."""


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Nodes that a fault befalls: those that all of what is given fits; `share` of them, chosen at random."""

    at: Seconds
    fleet: Name | None = None
    zone: Name | None = None
    share: Share = 1.0


class Crash(Target, frozen=True, kw_only=True, tag="crash"):
    """Processes die. The kernel closes their connections. With `restart_after` new ones take their place."""

    restart_after: Seconds | None = None


class Cut(Target, frozen=True, kw_only=True, tag="cut"):
    """Nothing passes between them and the registry; `for` some time, or for good: a machine without power."""

    span: Seconds | None = msgspec.field(default=None, name="for")


class Stop(Target, frozen=True, kw_only=True, tag="stop"):
    """Processes stand still: their connections stay, and nothing comes over them."""

    span: Seconds = msgspec.field(name="for")


class Leave(Target, frozen=True, kw_only=True, tag="leave"):
    """Nodes say goodbye and end."""


class Impair(Target, frozen=True, kw_only=True, tag="impair"):
    """The network gets worse `for` some time."""

    span: Seconds = msgspec.field(name="for")
    loss: Share | None = None
    delay: Delay | None = None


class RegistryFault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Something that befalls the registry."""

    at: Seconds


class RegistryRestart(RegistryFault, frozen=True, kw_only=True, tag="registry_restart"):
    """It ends in order, or is killed, and starts again."""

    down: Seconds = Seconds(2)
    kill: bool = False


class RegistryPause(RegistryFault, frozen=True, kw_only=True, tag="registry_pause"):
    """Its process stands still while the world goes on: a stopped machine, swapping, a debugger."""

    span: Seconds = msgspec.field(name="for")


class StoreOutage(RegistryFault, frozen=True, kw_only=True, tag="store_outage"):
    """Its store takes no commits."""

    span: Seconds = msgspec.field(name="for")


class WallJump(RegistryFault, frozen=True, kw_only=True, tag="wall_jump"):
    """Its wall clock is set, forward or back."""

    by: Seconds


NodeFault: TypeAlias = Crash | Cut | Stop | Leave | Impair
Fault: TypeAlias = NodeFault | RegistryRestart | RegistryPause | StoreOutage | WallJump


class Bars(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the outcome has to be. None: it does not matter."""

    false_offline: Annotated[int, Meta(ge=0)] | None = None
    """At most so many live, reachable nodes were shown as offline."""
    false_disconnected: Annotated[int, Meta(ge=0)] | None = None
    zombies: Annotated[int, Meta(ge=0)] | None = None
    """At most so many nodes that are gone show as up in the end."""
    missing: Annotated[int, Meta(ge=0)] | None = None
    """At most so many live, reachable nodes do not show as up in the end."""
    detection: Seconds | None = None
    """Every node that was gone for so long was shown as disconnected or offline."""
    offline: Seconds | None = None
    """The same for `offline`."""
    guard_engaged: Annotated[int, Meta(ge=0)] | None = None
    """The guard engaged at least so often."""
    history_lost: Annotated[int, Meta(ge=0)] | None = None
    """At most so many committed heartbeats are gone from history in the end; needs `history`."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One simulation."""

    title: str
    seed: int = 1
    duration: Seconds
    join_within: Seconds = Seconds(10)
    """Nodes start at moments spread over this."""
    commit: Seconds = Seconds(0.002)
    """How long one commit takes."""
    history: bool = False
    """Whether heartbeat history is kept, which takes memory for every beat."""
    sample_every: Seconds = Seconds(10)
    """Between two points of the report's curve."""
    settings: dict[str, Any] = {}
    """The registry's; what is not given has its default. See docs/configuration.md."""
    fleets: Annotated[tuple[Fleet, ...], Meta(min_length=1)]
    faults: tuple[Fault, ...] = ()
    bars: Bars = Bars()

    def changed(self, *, settings: Mapping[str, object], seed: int | None = None) -> Scenario:
        """The same with other settings, and another seed. Raises: InvalidInput."""
        changed = msgspec.structs.replace(
            self, settings={**self.settings, **settings}, seed=self.seed if seed is None else seed
        )
        changed.registry_settings()
        return changed

    def registry_settings(self) -> Settings:
        """Those of the registry. Raises: InvalidInput."""
        return _convert(self.settings, Settings, prefix="settings.")


def built_in_names() -> list[str]:
    """The scenarios that come with Thunderline."""
    return sorted(path.stem for path in BUILT_IN.glob("*.toml"))


def read_scenario(source: str) -> Scenario:
    """The scenario in the file `source`, or the one that comes with Thunderline under that name.

    Raises: InvalidInput.
    """
    path = FilePath(source)
    if source in built_in_names():
        path = BUILT_IN / f"{source}.toml"
    try:
        return parse_scenario(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        names = ", ".join(built_in_names())
        raise InvalidInput("scenario", f"{source}: {reason}; should be a TOML file or one of {names}") from error


def parse_scenario(text: str) -> Scenario:
    """The scenario that `text` holds. Raises: InvalidInput naming the field."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput("scenario", f"is no TOML: {error}") from error
    scenario = _convert(document, Scenario)
    scenario.registry_settings()
    _check(scenario)
    return scenario


def _check(scenario: Scenario) -> None:
    names = [fleet.name for fleet in scenario.fleets]
    if len(set(names)) < len(names):
        raise InvalidInput("fleets", "should each have a name of their own")
    zones = {zone for fleet in scenario.fleets for zone in fleet.zones}
    for at, fault in enumerate(scenario.faults):
        if not 0 <= fault.at <= scenario.duration:
            raise InvalidInput(f"faults[{at}].at", f"should be within the duration, {scenario.duration:g} s")
        if isinstance(fault, Target):
            if fault.fleet is not None and fault.fleet not in names:
                raise InvalidInput(f"faults[{at}].fleet", f"is none of {', '.join(names)}")
            if fault.zone is not None and fault.zone not in zones:
                raise InvalidInput(f"faults[{at}].zone", f"is none of {', '.join(sorted(zones)) or 'no zones at all'}")
    if scenario.bars.history_lost is not None and not scenario.history:
        raise InvalidInput("bars.history_lost", "needs history = true")


def _convert(given: object, kind: type[T], *, prefix: str = "") -> T:
    try:
        return msgspec.convert(given, kind, dec_hook=_read_span)
    except msgspec.ValidationError as error:
        field, problem = explain(error)
        raise InvalidInput(prefix + field, problem) from error


def _read_span(kind: type, given: object) -> object:
    if kind is not Seconds:
        raise NotImplementedError
    if isinstance(given, int | float) and not isinstance(given, bool):
        return Seconds(given)
    found = _SPAN.fullmatch(given) if isinstance(given, str) else None
    if found is None:
        raise ValueError('should be seconds, or text such as "90s", "2m", "24h"')
    return Seconds(float(found[1]) * _UNITS[cast(str, found[2])])
