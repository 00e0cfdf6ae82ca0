"""Which nodes match a filter: their names by each value that filters ask for.

A page of one condition costs what it holds. Of several conditions the narrowest is walked in order and the others are
asked for each name on the way; no record is looked at.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from itertools import filterfalse
from typing import Final

import msgspec

from thunderline.core.records import ClusterType, Node, NodeStatus
from thunderline.link.group_tree import GroupTree
from thunderline.link.ordered import Names

_NOBODY: Final = Names()


class NodeFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which nodes to list: all given conditions hold. None does not ask; `name_prefix` is literal."""

    status: frozenset[NodeStatus] | None = None
    role: str | None = None
    domain: str | None = None
    cluster_type: ClusterType | None = None
    labels: Mapping[str, str] | None = None
    capability: str | None = None
    """`key`, or `key:value`; one that is disabled does not count."""
    group: str | None = None
    """A group's id or name; members of the groups below it count."""
    name: str | None = None
    name_prefix: str | None = None

    def holds(self, node: Node, *, groups: frozenset[str] | None = None) -> bool:
        """Whether `node` is one of those asked for; `groups` is what `group` means: `GroupTree.below`."""
        return (
            (self.status is None or node.status in self.status)
            and (self.role is None or node.role == self.role)
            and (self.domain is None or node.domain == self.domain)
            and (self.cluster_type is None or node.cluster_type is self.cluster_type)
            and (self.capability is None or self.capability in _capabilities(node))
            and (self.group is None or (groups is not None and not groups.isdisjoint(node.groups)))
            and (self.name is None or node.name == self.name)
            and (self.name_prefix is None or node.name.startswith(self.name_prefix))
            and (not self.labels or all(node.labels.get(key) == value for key, value in self.labels.items()))
        )


class _Condition(msgspec.Struct, frozen=True):
    """One of a filter's: nodes `of` any of these, which share none. Who is of none of them is of one of `others`."""

    of: tuple[Names, ...]
    others: tuple[Names, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self.of))

    def walk(self, *, after: str | None, prefix: str | None) -> Iterator[str]:
        """Their names, in order."""
        walks = [names.walk(after=after, prefix=prefix) for names in self.of]
        return walks[0] if len(walks) == 1 else heapq.merge(*walks)

    def members(self) -> Set[str]:
        """Their names, in no order."""
        return self.of[0].members if len(self.of) == 1 else set[str]().union(*(names.members for names in self.of))

    def sift(self, names: Iterator[str]) -> Iterator[str]:
        """Those of `names` for which it holds."""
        if len(self.of) == 1:
            return filter(self.of[0].members.__contains__, names)
        for other in self.others:
            names = filterfalse(other.members.__contains__, names)
        return names


class NodeIndex:
    """Names of nodes, by what filters ask for. Changed by the roster alone."""

    def __init__(self, groups: GroupTree) -> None:
        self.everyone = Names()
        self._groups = groups
        self._by: dict[str, dict[str, Names]] = {}
        """Names by a kind of condition and a value. `group`: its members; `within`: also those of the groups below."""

    def add(self, node: Node) -> None:
        """Take in a node that is not there yet."""
        self.everyone.add(node.name)
        self._enter(node.name, self._keys(node))

    def load(self, nodes: Iterable[Node]) -> None:
        """Take in many nodes at once, while there are none."""
        found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        for node in nodes:
            name = node.name
            for key in self._keys(node):
                found[key].add(name)
            self.everyone.add(name)
        for (kind, value), names in found.items():
            self._by.setdefault(kind, {})[value] = of_value = Names()
            of_value.replace(names)
        # So that the first list need not wait for it.
        self.everyone.in_order()

    def replace(self, former: Node, node: Node) -> None:
        """Take another record of a node that is there."""
        before, now = self._keys(former), self._keys(node)
        self._leave(node.name, before - now)
        self._enter(node.name, now - before)

    def remove(self, node: Node) -> None:
        """Leave a node out."""
        self.everyone.discard(node.name)
        self._leave(node.name, self._keys(node))

    def regroup(self, name: str, *, former: Set[str], above: Set[str]) -> None:
        """The group was in the groups `former` until now, and is in those `above`; each of them holds itself too."""
        within = self._by.get("within", {})
        moved = within.get(name)
        if moved is None:
            return
        for each in above - former:
            known = within.get(each, _NOBODY)
            within[each] = Names(known.members | moved.members)
        for each in former - above - {name}:
            left = set[str]().union(*(self.members_of(inner) for inner in self._groups.inside_of(each)))
            if left:
                within[each].replace(left)
            else:
                within.pop(each, None)

    def members_of(self, name: str) -> Set[str]:
        """The names of the nodes that are themselves members of the group with this name; a view, not a copy."""
        return self._get("group", name).members

    def counts(self, kind: str) -> dict[str, int]:
        """How many nodes there are of each `status`, `role` or `domain` (`kind`), those of none left out."""
        return {value: len(names) for value, names in sorted(self._by.get(kind, {}).items())}

    def walk(self, wanted: NodeFilter, *, after: str | None = None) -> Iterator[str]:
        """The names of those that match, beyond `after`, in order; to be used up before anything changes.

        Raises: UnknownGroup when they should be of a group that is not there.
        """
        conditions = self._conditions(wanted)
        if wanted.name is not None:
            one = Names({wanted.name} & self.everyone.members)
            names = one.walk(after=after, prefix=wanted.name_prefix)
        else:
            narrowest = min(conditions, key=len, default=None)
            if narrowest is None or len(narrowest) >= len(self.everyone):
                names = self.everyone.walk(after=after, prefix=wanted.name_prefix)
            elif not narrowest.of:
                return iter(())
            else:
                names = narrowest.walk(after=after, prefix=wanted.name_prefix)
                conditions.remove(narrowest)
        return _sifted(names, conditions)

    def sift(self, wanted: NodeFilter, names: Iterator[str]) -> Iterator[str]:
        """See `Roster.sift`."""
        if wanted.name is not None:
            names = filter(wanted.name.__eq__, names)
        if (prefix := wanted.name_prefix) is not None:
            names = (name for name in names if name.startswith(prefix))
        return _sifted(names, self._conditions(wanted))

    def matching(self, wanted: NodeFilter) -> Collection[str]:
        """The names of all that match, in no order. Raises: UnknownGroup."""
        if wanted.name is not None or wanted.name_prefix is not None:
            return list(self.walk(wanted))
        conditions = sorted(self._conditions(wanted), key=len)
        if not conditions:
            return self.everyone.members
        return list(_sifted(iter(conditions[0].members()), conditions[1:]))

    def at_most(self, wanted: NodeFilter) -> int:
        """A number of nodes that those who match cannot exceed, known without looking at them. Raises: UnknownGroup."""
        conditions = self._conditions(wanted)
        return 1 if wanted.name is not None else min(map(len, conditions), default=len(self.everyone))

    def _conditions(self, wanted: NodeFilter) -> list[_Condition]:
        found = []
        if wanted.status is not None:
            of: dict[bool, list[Names]] = {True: [], False: []}
            for status, names in self._by.get("status", {}).items():
                of[status in wanted.status].append(names)
            found.append(_Condition(tuple(of[True]), tuple(of[False])))
        for kind, value in (
            ("role", wanted.role),
            ("domain", wanted.domain),
            ("cluster_type", wanted.cluster_type),
            ("capability", wanted.capability),
            ("within", None if wanted.group is None else self._groups.find(wanted.group).name),
            *(("label", f"{key}={value}") for key, value in (wanted.labels or {}).items()),
        ):
            if value is not None:
                found.append(_Condition((self._get(kind, value),)))
        return found

    def _get(self, kind: str, value: str) -> Names:
        return self._by.get(kind, {}).get(value, _NOBODY)

    def _enter(self, name: str, keys: Set[tuple[str, str]]) -> None:
        for kind, value in keys:
            of_kind = self._by.setdefault(kind, {})
            names = of_kind.get(value)
            if names is None:
                names = of_kind[value] = Names()
            names.add(name)

    def _leave(self, name: str, keys: Set[tuple[str, str]]) -> None:
        for kind, value in keys:
            names = self._by[kind][value]
            names.discard(name)
            if not names:
                del self._by[kind][value]

    def _keys(self, node: Node) -> set[tuple[str, str]]:
        keys = {
            ("status", node.status.value),
            ("role", node.role),
            ("domain", node.domain),
            ("cluster_type", node.cluster_type.value),
        }
        keys.update([("label", f"{key}={value}") for key, value in node.labels.items()])
        keys.update([("capability", text) for text in _capabilities(node)])
        for group in node.groups:
            keys.add(("group", group))
            keys.update([("within", name) for name in self._groups.above(group)])
        return keys


def _sifted(names: Iterator[str], conditions: list[_Condition]) -> Iterator[str]:
    """Those of `names` for which all conditions hold, the one asked first that holds for the fewest."""
    for condition in sorted(conditions, key=len):
        names = condition.sift(names)
    return names


def _capabilities(node: Node) -> set[str]:
    """What the node can do, as filters ask for it: each key, and each key with its value."""
    texts = set()
    for key, capability in node.capabilities.items():
        if capability.enabled:
            texts.add(key)
            if capability.value is not None:
                texts.add(f"{key}:{capability.value}")
    return texts
