"""What befalls a fleet, and when: pure, endless, settled by its seed, in seconds from when the fleet is up.

    churn     leave -> return, or for workers and edge devices a newcomer in their place
    faults    crash -> restart; slow -> recover; drop -> mend, several times over: flapping
    outages   cut a whole zone -> mend

Somebody to whom something happens is spared until it is over, by everything but an outage of the zone.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import defaultdict
from collections.abc import Iterator
from enum import StrEnum
from typing import Final

import msgspec

from thunderline.testing.fleet.plan import FleetPlan, PlannedNode

OUTAGE_EVERY_S: Final = 300.0
"""Mean time between two outages of a zone, with one fault a minute for a hundred nodes; whatever the fleet's size."""

_CALM_S: Final = 5.0
"""Nothing happens for so long at first: let whoever looks see the fleet in order."""

_FAULTS: Final = (("crash", 0.5), ("slow", 0.3), ("flap", 0.2))
_FLAPS: Final = (4, 6)
_NEWCOMER_SHARE: Final = 0.3
_TRIES: Final = 8


class What(StrEnum):
    """What happens to nodes."""

    CRASH = "crash"
    """Their processes die, and the kernel closes their connections."""
    RESTART = "restart"
    """New processes of the same names start."""
    SLOW = "slow"
    """They beat late, and everything takes them long."""
    RECOVER = "recover"
    CUT = "cut"
    """Nothing passes to them or from them any more, and nobody is told: a zone without power."""
    DROP = "drop"
    """Their connection breaks, and for a while there is no other."""
    MEND = "mend"
    """The network is there again."""
    LEAVE = "leave"
    """They say goodbye and end."""
    JOIN = "join"
    """They start, for the first time or again."""


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """Something that befalls nodes at `at_s`: all of `zone`, if there is one. `newcomer`: who was never there."""

    at_s: float
    what: What
    nodes: tuple[str, ...]
    zone: str | None = None
    newcomer: PlannedNode | None = None


class Script(Iterator[Happening]):
    """All that happens to the fleet of `plan`, one after the other; it ends only if nothing ever happens.

    `churn`: of a hundred nodes, how many leave in a minute. `faults`: of a hundred, how many something befalls in a
    minute; with it come the outages of zones, too. Raises: ValueError for negative ones.
    """

    def __init__(self, plan: FleetPlan, *, churn: float = 1.0, faults: float = 1.0, seed: int | None = None) -> None:
        if not (0 <= churn <= 1_000 and 0 <= faults <= 1_000):  # nor NaN
            raise ValueError("churn and faults are 0 to 1,000 a minute for a hundred nodes")
        self._rng = random.Random(f"script {plan.seed if seed is None else seed}")
        self._nodes = {node.name: node for node in plan.nodes}
        self._names = [node.name for node in plan.nodes]
        self._zones: dict[str, list[str]] = defaultdict(list)
        for node in plan.nodes:
            self._zones[node.zone].append(node.name)
        self._busy: set[str] = set()
        self._cut: set[str] = set()
        self._newcomers = 0
        self._due: list[tuple[float, int, _Step]] = []
        self._order = itertools.count()
        rate = len(plan.nodes) / 100 / 60
        self._churn_s = 1 / (churn * rate) if churn else None
        self._fault_s = 1 / (faults * rate) if faults else None
        self._outage_s = OUTAGE_EVERY_S / faults if faults and len(self._zones) > 1 else None
        for means_s, step in ((self._churn_s, "churn"), (self._fault_s, "fault"), (self._outage_s, "outage")):
            if means_s is not None:
                self._put(_CALM_S + self._rng.expovariate(1 / means_s), (step, None))

    def __next__(self) -> Happening:
        while self._due:
            at_s, _, (step, done) = heapq.heappop(self._due)
            if done is not None:
                self._over(done)
                return msgspec.structs.replace(done, at_s=at_s)
            if (happening := self._begin(step, at_s)) is not None:
                return happening
        raise StopIteration

    def _begin(self, step: str, at_s: float) -> Happening | None:
        means_s = {"churn": self._churn_s, "fault": self._fault_s, "outage": self._outage_s}[step]
        assert means_s is not None
        self._put(at_s + self._rng.expovariate(1 / means_s), (step, None))
        if step == "outage":
            return self._outage(at_s)
        name = self._pick()
        if name is None:
            return None
        return self._leave(name, at_s) if step == "churn" else self._fault(name, at_s)

    def _outage(self, at_s: float) -> Happening | None:
        zone = self._rng.choice(sorted(self._zones))
        span_s = self._rng.uniform(45, 110)
        if zone in self._cut:
            return None
        self._cut.add(zone)
        names = tuple(self._zones[zone])
        self._then(at_s + span_s, What.MEND, names, zone=zone)
        return Happening(at_s=at_s, what=What.CUT, nodes=names, zone=zone)

    def _leave(self, name: str, at_s: float) -> Happening:
        node, rng = self._nodes[name], self._rng
        back_s = at_s + rng.uniform(20, 120)
        if not node.is_hub and rng.random() < _NEWCOMER_SHARE:
            self._newcomers += 1
            newcomer = self._newcomer(node)
            self._then(back_s, What.JOIN, (newcomer.name,), newcomer=newcomer)
            self._zones[node.zone].remove(name)
            self._names.remove(name)  # busy for ever, as it were
        else:
            self._then(back_s, What.JOIN, (name,))
        return Happening(at_s=at_s, what=What.LEAVE, nodes=(name,))

    def _newcomer(self, node: PlannedNode) -> PlannedNode:
        """A machine in the place of `node`, of a name that nobody had."""
        short, _, domain = node.name.partition("@")
        base = short.partition(".")[0]
        return msgspec.structs.replace(node, name=f"{base}.{self._newcomers}@{domain}", is_hot=False)

    def _fault(self, name: str, at_s: float) -> Happening:
        rng = self._rng
        kind = rng.choices([kind for kind, _ in _FAULTS], weights=[share for _, share in _FAULTS])[0]
        if kind == "crash":
            self._then(at_s + rng.uniform(25, 180), What.RESTART, (name,))
            return Happening(at_s=at_s, what=What.CRASH, nodes=(name,))
        if kind == "slow":
            self._then(at_s + rng.uniform(40, 160), What.RECOVER, (name,))
            return Happening(at_s=at_s, what=What.SLOW, nodes=(name,))
        times = rng.randint(*_FLAPS)
        at = at_s
        for turn in range(times):
            if turn:
                self._put(at, ("", Happening(at_s=at, what=What.DROP, nodes=(name,))))
            # Longer than the grace of a broken link, and shorter than what ends in `offline`.
            at += rng.uniform(7, 12)
            self._put(at, ("", Happening(at_s=at, what=What.MEND, nodes=(name,))))
            at += rng.uniform(6, 14)
        self._busy.add(name)
        self._put(at, ("", Happening(at_s=at, what=What.RECOVER, nodes=(name,))))
        return Happening(at_s=at_s, what=What.DROP, nodes=(name,))

    def _pick(self) -> str | None:
        for _ in range(_TRIES if self._names else 0):
            name = self._rng.choice(self._names)
            if name not in self._busy and self._nodes[name].zone not in self._cut:
                self._busy.add(name)
                return name
        return None

    def _then(
        self, at_s: float, what: What, nodes: tuple[str, ...], *, zone: str | None = None,
        newcomer: PlannedNode | None = None,
    ) -> None:  # fmt: skip
        self._put(at_s, ("", Happening(at_s=at_s, what=what, nodes=nodes, zone=zone, newcomer=newcomer)))

    def _over(self, happening: Happening) -> None:
        """Bookkeeping of what comes to its end with `happening`."""
        if happening.zone is not None:
            self._cut.discard(happening.zone)
        elif happening.what in (What.RESTART, What.RECOVER, What.JOIN):
            self._busy.difference_update(happening.nodes)
        if happening.newcomer is not None:
            node = happening.newcomer
            self._nodes[node.name] = node
            self._names.append(node.name)
            self._zones[node.zone].append(node.name)

    def _put(self, at_s: float, step: _Step) -> None:
        heapq.heappush(self._due, (at_s, next(self._order), step))


_Step = tuple[str, Happening | None]
"""Something that begins, or what was settled before."""
