"""The guard against mass expiry: when much of a failure domain falls silent at once, the rest expires little by little.

A failure domain, a scope here, is a node's nearest group of type zone, else of type region, else `everything`: the
nodes that are in neither. Many nodes of one scope that fall silent together were more likely cut off together than
that all of them died, and who reacts to each of them at once does the more damage. So of the nodes of a scope only a
fraction may fall within a window; once it is used up the guard is engaged there, and whoever would fall, to
`disconnected` or further to `offline`, is held for a random time of its own. It falls when that is over unless it was
heard meanwhile. The guard is released once nobody was held for a whole window.

Not guaranteed: that none of those who fall is alive. Guaranteed: nobody is held for longer than `guard_max_delay_s` in
all, from its first silence until it is given up; nothing is held for ever. Nodes that leave, and such as were never
seen, are none of the guard's business.

Pure: no clock, no I/O; `now` is the sentinel's time.
"""

from __future__ import annotations

import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from datetime import datetime
from enum import Enum
from typing import Final

import msgspec

from thunderline.core.ids import NodeId
from thunderline.core.records import GroupType, GuardReport
from thunderline.core.settings import Settings
from thunderline.link.group_tree import GroupTree, nearest_group

EVERYTHING: Final = "everything"
"""What the scope of the nodes that are in no zone and no region is called."""

GUARDED: Final = (GroupType.ZONE, GroupType.REGION)
"""The types of groups that are failure domains, the nearer first."""

ASK_S: Final = 0.1
ASKED_MAX: Final = 500
"""Of those held in a scope, so many are asked so often whether they were heard meanwhile: well below a millisecond."""


class Fall(Enum):
    """How far a node would fall."""

    DISCONNECTED = "disconnected"
    OFFLINE = "offline"


class Scope(msgspec.Struct, frozen=True):
    """A failure domain; `scope_type` None is `everything`."""

    name: str
    scope_type: GroupType | None

    @property
    def id(self) -> str:
        """Names it in the log. A group may be called `everything`, too."""
        return "guard" if self.scope_type is None else f"guard:{self.name}"


_EVERYTHING: Final = Scope(EVERYTHING, None)
_Groups = tuple[str, ...]


class Population:
    """How many nodes of each scope are there: up, or silent and not given up.

    A change of a group costs as much as there are combinations of groups.
    """

    def __init__(self, groups: GroupTree) -> None:
        self._tree = groups
        self._version = groups.version
        self._counted: dict[NodeId, _Groups] = {}
        self._of_groups: Counter[_Groups] = Counter()
        self._scopes: dict[_Groups, Scope] = {}
        self._of_scope: Counter[Scope] = Counter()

    def count(self, node_id: NodeId, groups: _Groups) -> None:
        """The node is there, and in these groups."""
        before = self._counted.get(node_id)
        if before is groups or before == groups:
            return
        if before is not None:
            self._add(before, -1)
        self._counted[node_id] = groups
        self._add(groups, 1)

    def discount(self, node_id: NodeId) -> None:
        """The node is there no longer; unknown ones are fine."""
        if (before := self._counted.pop(node_id, None)) is not None:
            self._add(before, -1)

    def scope(self, groups: _Groups) -> Scope:
        """That of a node in these groups."""
        if self._version != self._tree.version:
            self._version = self._tree.version
            self._scopes.clear()
            self._of_scope.clear()
            for each, nodes in self._of_groups.items():
                self._of_scope[self.scope(each)] += nodes
        scope = self._scopes.get(groups)
        if scope is None:
            scope = self._scopes[groups] = self._find(groups)
        return scope

    def of(self, scope: Scope) -> int:
        """How many there are in it."""
        return self._of_scope[scope]

    def _add(self, groups: _Groups, nodes: int) -> None:
        scope = self.scope(groups)
        self._of_scope[scope] += nodes
        self._of_groups[groups] += nodes
        if not self._of_groups[groups]:
            del self._of_groups[groups]
            del self._scopes[groups]

    def _find(self, groups: _Groups) -> Scope:
        for kind in GUARDED if groups else ():
            if (group := nearest_group(groups, kind, named=self._tree.named)) is not None:
                return Scope(group.name, kind)
        return _EVERYTHING


class _Hold(msgspec.Struct, frozen=True, gc=False):
    """From when to when a node is held."""

    since: float
    until: float


class _Watch:
    """What the guard knows of one scope in which somebody fell."""

    __slots__ = ("engaged_at", "fallen", "held", "held_last_at", "is_engaged", "to_ask")

    def __init__(self) -> None:
        # In the order of their times.
        self.fallen: dict[Fall, OrderedDict[NodeId, float]] = {fall: OrderedDict() for fall in Fall}
        self.held: dict[NodeId, _Hold] = {}
        # Who is held, in turn; also some who no longer are.
        self.to_ask: deque[NodeId] = deque()
        self.held_last_at = 0.0
        self.is_engaged = False
        self.engaged_at: datetime | None = None
        """Set when it is told."""

    def fell(self, node_id: NodeId, fall: Fall, now: float) -> None:
        """The node was let fall."""
        self.fallen[fall][node_id] = now
        self.fallen[fall].move_to_end(node_id)

    def forget(self, before: float) -> None:
        """Nobody who fell before that counts any more."""
        for times in self.fallen.values():
            while times and next(iter(times.values())) <= before:
                times.popitem(last=False)

    @property
    def is_calm(self) -> bool:
        """Whether there is nothing to know."""
        return not self.is_engaged and not self.held and not any(self.fallen.values())


class Guard:
    """Decides of each node that would fall whether it falls now, or later."""

    def __init__(self, groups: GroupTree, *, settings: Settings, rng: random.Random) -> None:
        self.population = Population(groups)
        self._rng = rng
        self._fraction = settings.guard_fraction
        self._least = settings.guard_min_nodes
        self._window_s = settings.guard_window_s
        self._max_delay_s = settings.guard_max_delay_s
        self._watches: dict[Scope, _Watch] = {}
        self._scope_of: dict[NodeId, Scope] = {}
        """Of those that are held."""
        self._spent_s: dict[NodeId, float] = {}
        """For how long who fell was held before; it counts when it is to fall further."""
        self._asked_at = 0.0
        self._left: list[GuardReport] = []

    @property
    def held(self) -> int:
        """How many nodes are held, in all scopes."""
        return len(self._scope_of)

    def start(self, left: Iterable[GuardReport]) -> None:
        """Begin where an earlier process ended while these guards were engaged: they are not any more."""
        self._left = list(left)

    def hold(self, node_id: NodeId, groups: _Groups, fall: Fall, *, now: float) -> float | None:
        """Until when the node is held; None: it falls now.

        Asking again about the same node changes nothing: until it falls or has `recovered`.
        """
        scope = self._scope_of.get(node_id)
        if scope is not None:
            watch = self._watches[scope]
            until = watch.held[node_id].until
            if now < until:
                return until
            self._let_go(node_id)
            watch.fell(node_id, fall, now)
            return None
        scope = self.population.scope(groups)
        if scope not in self._watches:
            self._watches[scope] = _Watch()
        watch = self._watches[scope]
        watch.forget(now - self._window_s)
        fallen = watch.fallen[fall]
        if node_id in fallen:
            return None  # its fall was allowed already, and is tried again
        if self._fraction >= 1 or (not watch.is_engaged and len(fallen) + 1 <= self._allowed(scope, watch)):
            watch.fell(node_id, fall, now)
            return None
        return self._hold(node_id, scope, watch, now=now)

    def _allowed(self, scope: Scope, watch: _Watch) -> float:
        # Who went offline within the window is not in the population any more, but was.
        nodes = self.population.of(scope) + len(watch.fallen[Fall.OFFLINE])
        return max(self._least, self._fraction * nodes)

    def _hold(self, node_id: NodeId, scope: Scope, watch: _Watch, *, now: float) -> float:
        watch.is_engaged = True
        watch.held_last_at = now
        delay_s = self._rng.uniform(0, self._max_delay_s - self._spent_s.get(node_id, 0.0))
        self._spent_s[node_id] = self._spent_s.get(node_id, 0.0) + delay_s
        watch.to_ask.append(node_id)
        watch.held[node_id] = _Hold(now, now + delay_s)
        self._scope_of[node_id] = scope
        return now + delay_s

    def recovered(self, node_id: NodeId) -> None:
        """The node was heard, or is offline: it is held no longer, and what it was held for does not count any more."""
        self._let_go(node_id)
        self._spent_s.pop(node_id, None)

    def gone(self, node_id: NodeId) -> None:
        """The node was removed: there are no falls of it."""
        self.recovered(node_id)
        for watch in self._watches.values():
            for fallen in watch.fallen.values():
                fallen.pop(node_id, None)

    def is_up(self, node_id: NodeId) -> None:
        """A commit left the node up. It may be held all the same, as one that is silent."""
        if node_id not in self._scope_of:
            self._spent_s.pop(node_id, None)

    def _let_go(self, node_id: NodeId) -> None:
        if (scope := self._scope_of.pop(node_id, None)) is not None:
            del self._watches[scope].held[node_id]

    def look(self, *, now: float, at: datetime, was_heard: Callable[[NodeId, float], bool]) -> list[GuardReport]:
        """What changed since the last look: guards that engaged, and such as were released.

        `was_heard` tells whether a node was heard since a time, or is not there any more.
        """
        told = [msgspec.structs.replace(report, engaged=False, held=0, released_at=at) for report in self._left]
        self._left.clear()
        if not self._watches:
            return told
        if now - self._asked_at >= ASK_S:
            self._asked_at = now
            for watch in self._watches.values():
                self._ask(watch, was_heard)
        for scope, watch in list(self._watches.items()):
            watch.forget(now - self._window_s)
            if watch.is_engaged and watch.engaged_at is None:
                watch.engaged_at = at
                told.append(self._report(scope, watch))
            elif watch.is_engaged and not watch.held and now - watch.held_last_at >= self._window_s:
                told.append(self._report(scope, watch, released_at=at))
                watch.is_engaged, watch.engaged_at = False, None
            if watch.is_calm:
                del self._watches[scope]
        return told

    def _ask(self, watch: _Watch, was_heard: Callable[[NodeId, float], bool]) -> None:
        for _ in range(min(len(watch.to_ask), ASKED_MAX)):
            node_id = watch.to_ask.popleft()
            if (hold := watch.held.get(node_id)) is None:
                continue
            if was_heard(node_id, hold.since):
                self.recovered(node_id)
            else:
                watch.to_ask.append(node_id)

    def reports(self) -> list[GuardReport]:
        """The guards that are engaged now, by scope."""
        engaged = [(scope, watch) for scope, watch in self._watches.items() if watch.engaged_at is not None]
        return [self._report(scope, watch) for scope, watch in sorted(engaged, key=lambda each: each[0].name)]

    def _report(self, scope: Scope, watch: _Watch, *, released_at: datetime | None = None) -> GuardReport:
        assert watch.engaged_at is not None
        return GuardReport(
            id=scope.id,
            scope=scope.name,
            scope_type=scope.scope_type,
            engaged=released_at is None,
            nodes=self.population.of(scope),
            fallen=max(map(len, watch.fallen.values())),
            held=len(watch.held),
            max_delay_s=self._max_delay_s,
            engaged_at=watch.engaged_at,
            released_at=released_at,
        )
