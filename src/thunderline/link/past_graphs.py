"""The topology as it stood at a moment, and what differs between two of them.

Graphs of the past are made in a thread of their own, from records that nobody changes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from thunderline.block.store import Store
from thunderline.core.ids import NodeId, Revision
from thunderline.link.event_log import EventLog
from thunderline.link.graph import Graph, GraphLevel, GraphLink, GraphNode, draw
from thunderline.link.group_graph import draw_groups
from thunderline.link.moments import Moment, Moments
from thunderline.link.node_index import NodeFilter
from thunderline.link.past import PastState
from thunderline.link.snapshots import made_of

T = TypeVar("T", GraphNode, GraphLink)
R = TypeVar("R")


class Changed(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One that is in both graphs, and not the same; `fields` are those that differ."""

    before: T
    after: T
    fields: list[str]


class Differences(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What is only in the later graph, only in the earlier one, and in both but changed."""

    added: list[T]
    removed: list[T]
    changed: list[Changed[T]]


class GraphDiff(msgspec.Struct, frozen=True, kw_only=True, rename={"since": "from", "until": "to"}):
    """What differs between two graphs. A link is the same as long as its `session_id` is."""

    since: Revision
    until: Revision
    cursor: str
    """Behind the later graph."""
    nodes: Differences[GraphNode]
    links: Differences[GraphLink]


class PastGraphs:
    """Graphs of one registry's past. All raise what `Moments.revision` does, and UnknownGroup where there was none."""

    def __init__(self, store: Store, log: EventLog, moments: Moments) -> None:
        self._store = store
        self._log = log
        self._moments = moments

    async def at(self, at: Moment, wanted: NodeFilter, level: GraphLevel) -> Graph:
        """The graph as it stood at that moment."""
        return await self._made(at, "at", lambda state, revision: self._draw(state, revision, wanted, level))

    async def json_at(self, at: Moment, wanted: NodeFilter, level: GraphLevel, *, field: str = "at") -> bytes:
        """The same as JSON. `field` is what errors call the moment."""
        return await self._made(
            at, field, lambda state, revision: msgspec.json.encode(self._draw(state, revision, wanted, level))
        )

    async def diff_json(self, since: Moment, until: Moment, wanted: NodeFilter, level: GraphLevel) -> bytes:
        """What differs between the graphs at two moments, as JSON."""
        before, after = await self.at_both(since, until, wanted, level)
        return await asyncio.to_thread(lambda: msgspec.json.encode(diff(before, after)))

    async def diff(self, since: Moment, until: Moment, wanted: NodeFilter, level: GraphLevel) -> GraphDiff:
        """What differs between the graphs at two moments."""
        before, after = await self.at_both(since, until, wanted, level)
        return await asyncio.to_thread(diff, before, after)

    async def at_both(self, since: Moment, until: Moment, wanted: NodeFilter, level: GraphLevel) -> tuple[Graph, Graph]:
        """The graphs at two moments, which are named `from` and `to` in errors."""
        before = await self._made(since, "from", lambda state, revision: self._draw(state, revision, wanted, level))
        after = await self._made(until, "to", lambda state, revision: self._draw(state, revision, wanted, level))
        return before, after

    async def _made(self, at: Moment, field: str, make: Callable[[PastState, Revision], R]) -> R:
        revision = await self._moments.revision(at, field=field)
        return await made_of(self._store, self._log, revision, lambda state: make(state, revision))

    def _draw(self, state: PastState, revision: Revision, wanted: NodeFilter, level: GraphLevel) -> Graph:
        scene, cursor = state.scene(wanted), self._log.cursor_at(revision)
        if level == "groups":
            return draw_groups(scene, named=state.groups.named, revision=revision, cursor=cursor)
        return draw(scene, revision=revision, cursor=cursor)


def diff(before: Graph, after: Graph) -> GraphDiff:
    """What differs between two graphs."""
    return GraphDiff(
        since=before.revision,
        until=after.revision,
        cursor=after.cursor,
        nodes=_differences(before.nodes, after.nodes, _node_key),
        links=_differences(before.links, after.links, _link_key),
    )


def _node_key(node: GraphNode) -> NodeId:
    return node.id


def _link_key(link: GraphLink) -> tuple[str, str, str]:
    # Where groups are drawn, one link stands for those of a kind between the same ends.
    return link.session_id, link.source, link.type


def _differences(before: Iterable[T], after: Iterable[T], key: Callable[[T], Any]) -> Differences[T]:
    was: Mapping[Any, T] = {key(each): each for each in before}
    became: Mapping[Any, T] = {key(each): each for each in after}
    changed = [
        Changed(before=was[name], after=each, fields=_fields(was[name], each))
        for name, each in became.items()
        if name in was and was[name] != each
    ]
    return Differences(
        added=[each for name, each in became.items() if name not in was],
        removed=[each for name, each in was.items() if name not in became],
        changed=changed,
    )


def _fields(before: T, after: T) -> list[str]:
    return [name for name in before.__struct_fields__ if getattr(before, name) != getattr(after, name)]
