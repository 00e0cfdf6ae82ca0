"""Nodes in an order other than by name, kept sorted as the roster changes, so that a page costs what it holds.

An order is built when it is first asked for. Changes are noted as they come and put in their places by the next
question; when more have changed than it would cost to sort anew, the order is let go until then.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

from thunderline.core.ids import NodeId
from thunderline.core.records import LinkSession
from thunderline.link.ordered import MANY, mended
from thunderline.link.roster import Entry, Roster

Key = tuple[Any, str]
"""The value that a node is sorted by, and its name."""


class Order:
    """All nodes of one roster, sorted by one value of theirs; it may only change with their records."""

    def __init__(self, roster: Roster, field: str, value_of: Callable[[Entry], Any]) -> None:
        """Use `of`."""
        self.field = field
        self._roster = roster
        self._value_of = value_of
        self._keys: list[Key] | None = None
        self._by_node: dict[NodeId, Key] = {}
        self._changed: set[NodeId] = set()

    @classmethod
    def of(cls, roster: Roster, field: str, value_of: Callable[[Entry], Any]) -> Order:
        """The order of `roster` by that field, the same at each call."""
        for observer in roster.observers:
            if isinstance(observer, cls) and observer.field == field:
                return observer
        order = cls(roster, field, value_of)
        roster.observers.append(order)
        return order

    def node_changed(self, node_id: NodeId) -> None:
        if self._keys is None:
            return
        self._changed.add(node_id)
        if 2 * len(self._changed) > len(self._keys) + MANY:
            # Also the end of an order that nobody asks for any more, while nodes change.
            self._keys = None
            self._by_node = {}
            self._changed = set()

    def session_changed(self, session: LinkSession) -> None:
        """No node is sorted by its sessions."""

    def keys(self) -> Sequence[Key]:
        """The keys of all nodes, ascending, as of now; not to be held over a change."""
        if self._keys is None:
            return self._build()
        gone, come = self._take_changes()
        self._keys = mended(self._keys, gone=gone, come=come)
        return self._keys

    def key_of(self, node_id: NodeId) -> Key:
        """The key of a node in `keys`."""
        return self._by_node[node_id]

    def _build(self) -> list[Key]:
        self._by_node = {entry.node.id: (self._value_of(entry), entry.node.name) for entry in self._roster.by_name()}
        # By name they stand already, and sorting keeps what is equal as it stands.
        self._keys = sorted(self._by_node.values(), key=itemgetter(0))
        return self._keys

    def _take_changes(self) -> tuple[list[Key], list[Key]]:
        gone: list[Key] = []
        come: list[Key] = []
        for node_id in self._changed:
            old = self._by_node.pop(node_id, None)
            entry = self._roster.get(node_id)
            new = None if entry is None else (self._value_of(entry), entry.node.name)
            if new is not None:
                self._by_node[node_id] = new
            if new == old:
                continue
            if old is not None:
                gone.append(old)
            if new is not None:
                come.append(new)
        self._changed = set()
        return gone, come


def walk(keys: Sequence[Key], *, after: Key | None, descends: bool) -> Iterator[Key]:
    """The keys behind `after`, or all, in the order asked for. Raises: TypeError when `after` is no key of these."""
    if descends:
        start = len(keys) if after is None else bisect_left(keys, after)
        return (keys[index] for index in range(start - 1, -1, -1))
    start = 0 if after is None else bisect_right(keys, after)
    return (keys[index] for index in range(start, len(keys)))
