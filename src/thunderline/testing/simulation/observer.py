"""Holds what the registry shows against what is true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from thunderline.core.records import Event, Node, NodeStatus
from thunderline.link.liveness import is_up
from thunderline.link.registry import Registry
from thunderline.testing.simulation.node import ANSWER_TIMEOUT_S, SimulatedNode, Tally
from thunderline.testing.simulation.report import FleetReport, Moment, Point, Spread
from thunderline.testing.simulation.world import World

ZOMBIE_AFTER_S: Final = 300.0
"""A node that has been gone for so long and still shows as up is a zombie."""

MISSING_AFTER_S: Final = 120.0
"""One that has been well for so long and does not is missing."""

_DOWN: Final = frozenset({NodeStatus.DISCONNECTED, NodeStatus.OFFLINE})
_OF_NODES: Final = "cluster.node."
_OF_THE_REGISTRY: Final = ("cluster.guard.", "cluster.capacity.")


class Illness(msgspec.Struct, kw_only=True):
    """A time in which a node could not beat, and when it showed."""

    begun_at: float
    ended_at: float | None = None
    shown_at: float | None = None
    offline_at: float | None = None
    recovered_at: float | None = None


class Watched(msgspec.Struct, kw_only=True):
    """What is known of one fleet."""

    tally: Tally
    nodes: list[SimulatedNode] = []
    false_disconnected: int = 0
    false_offline: int = 0
    illnesses: list[Illness] = []


class Observer:
    """Sees every commit, and every node as it really is."""

    def __init__(self, world: World) -> None:
        self.fleets: dict[str, Watched] = {}
        self.events: Counter[str] = Counter()
        self.told: list[Moment] = []
        self.curve: list[Point] = []
        self._world = world
        self._nodes: dict[str, tuple[SimulatedNode, Watched]] = {}
        self._latest: dict[str, Illness] = {}

    def watch(self, fleet: str, node: SimulatedNode) -> None:
        """Watch one node more."""
        watched = self.fleets[fleet]
        watched.nodes.append(node)
        self._nodes[node.name] = (node, watched)

    def changed(self, node: SimulatedNode) -> None:
        """A node fell ill, or is well again."""
        latest = self._latest.get(node.name)
        if node.is_well:
            if latest is not None:
                latest.ended_at = self._world.now
        elif not node.has_left:
            illness = self._latest[node.name] = Illness(begun_at=self._world.now)
            self._nodes[node.name][1].illnesses.append(illness)

    def committed(self, events: Sequence[Event]) -> None:
        """A commit is durable."""
        for event in events:
            self.events[event.name] += 1
            if event.name.startswith(_OF_THE_REGISTRY):
                self.told.append(Moment(at_s=round(self._world.now, 3), event=event.name))
            elif event.name.startswith(_OF_NODES) and isinstance(event.payload, Node) and event.subject in self._nodes:
                self._shown(event.payload)

    def sample(self, registry: Registry | None) -> None:
        """Note how things stand."""
        shown: Counter[str] = Counter()
        if registry is not None:
            shown.update(entry.node.status.value for entry in registry.roster)
        well = sum(node.is_well for node, _ in self._nodes.values())
        self.curve.append(Point(at_s=round(self._world.now, 3), well=well, shown=dict(sorted(shown.items()))))

    def _shown(self, node: Node) -> None:
        now = self._world.now
        real, watched = self._nodes[node.name]
        illness = self._latest.get(node.name)
        if is_up(node.status):
            if real.is_well and illness is not None and illness.shown_at is not None and illness.recovered_at is None:
                illness.recovered_at = now
        elif node.status in _DOWN and not real.has_left:
            # A while after its return it may still be convicted for its absence, until it is heard.
            excused = illness is not None and (
                not real.is_well or now - real.well_since <= real.interval_s + ANSWER_TIMEOUT_S
            )
            if excused and illness is not None:
                self._noted(illness, node.status, now)
            elif node.status is NodeStatus.OFFLINE:
                watched.false_offline += 1
            else:
                watched.false_disconnected += 1

    @staticmethod
    def _noted(illness: Illness, status: NodeStatus, now: float) -> None:
        if illness.shown_at is None:
            illness.shown_at = now
        if status is NodeStatus.OFFLINE and illness.offline_at is None:
            illness.offline_at = now

    # In the end

    def longest_s(self, field: str) -> float:
        """The longest time from the begin of an illness until `field`, or until it ended without."""
        spans = (
            (getattr(illness, field) or illness.ended_at or self._world.now) - illness.begun_at
            for watched in self.fleets.values()
            for illness in watched.illnesses
        )
        return max(spans, default=0.0)

    def reports(self, registry: Registry) -> list[FleetReport]:
        """What came of each fleet."""
        return [self._report(name, watched, registry) for name, watched in self.fleets.items()]

    def _report(self, name: str, watched: Watched, registry: Registry) -> FleetReport:
        now = self._world.now
        zombies = missing = 0
        for node in watched.nodes:
            entry = registry.roster.named(node.name)
            up = entry is not None and is_up(entry.node.status)
            lasted_s = now - node.well_since
            zombies += up and not node.is_well and lasted_s > ZOMBIE_AFTER_S
            missing += not up and node.is_well and lasted_s > MISSING_AFTER_S
        return FleetReport(
            name=name,
            nodes=len(watched.nodes),
            beats_sent=watched.tally.sent,
            beats_lost=watched.tally.lost,
            messages_refused=watched.tally.refused,
            false_disconnected=watched.false_disconnected,
            false_offline=watched.false_offline,
            faults=len(watched.illnesses),
            undetected=sum(illness.shown_at is None for illness in watched.illnesses),
            detection=_spread(watched.illnesses, "begun_at", "shown_at"),
            offline=_spread(watched.illnesses, "begun_at", "offline_at"),
            recovery=_spread(watched.illnesses, "ended_at", "recovered_at"),
            zombies=zombies,
            missing=missing,
        )


def _spread(illnesses: Iterable[Illness], begin: str, end: str) -> Spread | None:
    return Spread.of(
        [getattr(each, end) - getattr(each, begin) for each in illnesses if getattr(each, end) is not None]
    )
