"""The groups of nodes and how they nest, in memory; which nodes are in them stands in the nodes' own records."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable
from itertools import islice

import msgspec

from thunderline.core.errors import UnknownGroup
from thunderline.core.ids import GroupId
from thunderline.core.records import GroupType, NodeGroup


class GroupFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which groups to list: all given conditions hold. None does not ask; `parent` is a group's id or name."""

    group_type: GroupType | None = None
    parent: str | None = None


class GroupTree:
    """All groups by id and by name, and those in each; like the roster that holds it, changed by commits alone."""

    def __init__(self) -> None:
        self._by_id: dict[GroupId, NodeGroup] = {}
        self._by_name: dict[str, NodeGroup] = {}
        self._names: list[str] = []  # sorted: the order of listings
        self._inside: dict[str, set[str]] = {}
        self.version = 0
        """Changes whenever a group does."""
        self._above: dict[str, frozenset[str]] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, group_id: GroupId) -> NodeGroup | None:
        """The group with this id."""
        return self._by_id.get(group_id)

    def named(self, name: str) -> NodeGroup | None:
        """The group with this name."""
        return self._by_name.get(name)

    def find(self, ref: str) -> NodeGroup:
        """The group with this id or name; the two never collide. Raises: UnknownGroup."""
        group = self._by_id.get(GroupId(ref)) or self._by_name.get(ref) or self._by_id.get(GroupId(ref.lower()))
        if group is None:
            raise UnknownGroup(ref)
        return group

    def inside(self, name: str) -> frozenset[str]:
        """The names of the groups whose parent is this one."""
        return frozenset(self._inside.get(name, ()))

    def below(self, ref: str) -> frozenset[str]:
        """The name of the group with this id or name, and those of all groups below it. Raises: UnknownGroup."""
        return self.inside_of(self.find(ref).name)

    def inside_of(self, name: str) -> frozenset[str]:
        """This name, and those of all groups below the group that has it, or will have it."""
        found = {name}
        level = set(found)
        while level:
            level = {inner for name in level for inner in self._inside.get(name, ())} - found
            found |= level
        return frozenset(found)

    def above(self, name: str) -> frozenset[str]:
        """This name, and those of all groups that the group which has it is in."""
        found = self._above.get(name)
        if found is None:
            chain: dict[str, None] = {}
            step: str | None = name
            while step is not None and step not in chain:
                chain[step] = None
                group = self._by_name.get(step)
                step = None if group is None else group.parent
            found = self._above[name] = frozenset(chain)
        return found

    def select(
        self, wanted: GroupFilter, *, after: str | None = None, limit: int | None = None
    ) -> tuple[list[NodeGroup], bool]:
        """At most `limit` matching groups with a name beyond `after`, by name, and whether there are more.

        Raises: UnknownGroup when there is no such parent.
        """
        names = self._names if wanted.parent is None else sorted(self.inside(self.find(wanted.parent).name))
        matching = (
            group
            for name in names[0 if after is None else bisect_right(names, after) :]
            if wanted.group_type in (None, (group := self._by_name[name]).group_type)
        )
        if limit is None:
            return list(matching), False
        found = list(islice(matching, limit + 1))
        return found[:limit], len(found) > limit

    def put(self, group: NodeGroup) -> None:
        """Add or replace a group."""
        self._change()
        known = self._by_id.get(group.id)
        if known is None:
            insort(self._names, group.name)
        else:
            self._leave(known)
        self._by_id[group.id] = self._by_name[group.name] = group
        if group.parent is not None:
            self._inside.setdefault(group.parent, set()).add(group.name)

    def remove(self, group_id: GroupId) -> None:
        """Drop a group; those in it have another parent by then, or have it within the same commit."""
        group = self._by_id.pop(group_id, None)
        if group is not None:
            self._change()
            self._leave(group)
            del self._by_name[group.name]
            del self._names[bisect_left(self._names, group.name)]

    def _change(self) -> None:
        self.version += 1
        self._above = {}

    def _leave(self, group: NodeGroup) -> None:
        if group.parent is not None:
            inside = self._inside[group.parent]
            inside.remove(group.name)
            if not inside:
                del self._inside[group.parent]


def nearest_group(
    names: Iterable[str], group_type: GroupType, *, named: Callable[[str], NodeGroup | None]
) -> NodeGroup | None:
    """The group of that type which is the fewest steps up from the groups `names`; None where there is none.

    Each of `names` is itself no step away; of several as near, it is the first by name. `named` gives a group by name.
    """
    seen: set[str] = set()
    level = set(names)
    while level:
        seen |= level
        groups = [group for name in sorted(level) if (group := named(name)) is not None]
        found = next((group for group in groups if group.group_type is group_type), None)
        if found is not None:
            return found
        level = {group.parent for group in groups if group.parent is not None} - seen
    return None
