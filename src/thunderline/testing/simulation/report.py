"""What came of a simulation, and whether it is what it had to be."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

from thunderline.testing.simulation.scenario import Bars


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Of so many spans of time, in seconds."""

    count: int
    median_s: float
    p95_s: float
    max_s: float

    @classmethod
    def of(cls, spans_s: Sequence[float]) -> Spread | None:
        """None of nothing."""
        if not spans_s:
            return None
        ordered = sorted(spans_s)
        return cls(
            count=len(ordered),
            median_s=round(statistics.median(ordered), 3),
            p95_s=round(ordered[min(len(ordered) * 95 // 100, len(ordered) - 1)], 3),
            max_s=round(ordered[-1], 3),
        )


class FleetReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one fleet."""

    name: str
    nodes: int
    beats_sent: int
    beats_lost: int
    messages_refused: int
    false_disconnected: int
    false_offline: int
    faults: int
    """How often one of its nodes could not beat any more."""
    undetected: int
    """How often that ended, or had lasted until the end, without having shown."""
    detection: Spread | None
    """From such a moment until the node showed as disconnected or offline."""
    offline: Spread | None
    """The same until it showed as offline."""
    recovery: Spread | None
    """From the moment when it could beat again until it showed as up."""
    zombies: int
    missing: int


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """How things stood at a moment: how many nodes showed as what, and how many were truly well."""

    at_s: float
    well: int
    shown: dict[str, int]


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """Something that the registry told of itself."""

    at_s: float
    event: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a simulation. The same scenario and seed give the same report."""

    title: str
    seed: int
    duration_s: float
    nodes: int
    commits: int
    beats_kept: int
    beats_in_history: int | None
    """None where history was not kept."""
    events: dict[str, int]
    told: list[Moment]
    fleets: list[FleetReport]
    curve: list[Point]
    missed: list[str]
    """Bars that were missed, in words."""


def missed_bars(bars: Bars, report: Report, *, longest_hidden_s: float, longest_until_offline_s: float) -> list[str]:
    """What of `bars` does not hold.

    `longest_hidden_s` is the longest time that a node was gone without having shown as disconnected or offline,
    `longest_until_offline_s` the same for offline.
    """
    missed = []
    for field in ("false_offline", "false_disconnected", "zombies", "missing"):
        most = getattr(bars, field)
        found = sum(getattr(fleet, field) for fleet in report.fleets)
        if most is not None and found > most:
            missed.append(f"{field}: {found}, at most {most} wanted")
    for field, found_s in (("detection", longest_hidden_s), ("offline", longest_until_offline_s)):
        longest = getattr(bars, field)
        if longest is not None and found_s > longest:
            missed.append(f"{field}: {found_s:.1f} s, at most {longest:g} s wanted")
    if bars.guard_engaged is not None:
        engaged = sum(moment.event == "cluster.guard.engaged" for moment in report.told)
        if engaged < bars.guard_engaged:
            missed.append(f"guard_engaged: {engaged}, at least {bars.guard_engaged} wanted")
    if bars.history_lost is not None and report.beats_in_history is not None:
        lost = report.beats_kept - report.beats_in_history
        if lost > bars.history_lost:
            missed.append(f"history_lost: {lost}, at most {bars.history_lost} wanted")
    return missed
