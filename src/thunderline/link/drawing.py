"""Graphs kept as encoded JSON and mended as the roster changes, so that a drawing costs what changed.

What `paint` gives, put together, is what encoding `graph.draw` of the same scene gives. A drawing is told of every
change while it is kept; the few that are asked for are kept, the rest forgotten.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from thunderline.core.ids import LinkId, NodeId
from thunderline.core.records import LinkSession
from thunderline.link.graph import Scene, graph_link, graph_node
from thunderline.link.group_graph import draw_groups
from thunderline.link.node_index import NodeFilter
from thunderline.link.pieces import Pieces
from thunderline.link.roster import Roster

DRAWINGS_MAX: Final = 4
"""Kept at once: each holds every node and link that it shows twice, encoded."""

CHANGES_MAX: Final = 5_000
"""Beyond so many changes since it was last painted, a drawing is made anew: that is cheaper, and bounds the list."""

_ENCODE: Final = msgspec.json.Encoder().encode


def scene_of(
    roster: Roster, wanted: NodeFilter, controllers: Mapping[str, NodeId | None] | None = None
) -> Scene[LinkSession]:
    """The nodes that match, and all open sessions; `controllers` are those of `all_controllers`, where known."""
    found = all_controllers(roster) if controllers is None else controllers
    lines = (
        (session, session.node_id, session.remote_node_id or found.get(session.controller or ""))
        for session in roster.sessions
    )
    return Scene([entry.node for entry in roster.select(wanted)[0]], lines)


def all_controllers(roster: Roster) -> dict[str, NodeId | None]:
    """The nodes that stand for the registry's end of sessions, by name."""
    return find_controllers(roster, {one.controller for one in roster.sessions if one.controller is not None})


def find_controllers(roster: Roster, names: Iterable[str]) -> dict[str, NodeId | None]:
    """The nodes of these names; None where there is none."""
    found = ((name, roster.named(name)) for name in names)
    return {name: None if entry is None else entry.node.id for name, entry in found}


class Drawing:
    """One graph, mended when it is painted. An observer of the roster. `groups` is what the filter's group means."""

    def __init__(self, roster: Roster, wanted: NodeFilter, *, groups: frozenset[str] | None = None) -> None:
        self._roster = roster
        self._wanted = wanted
        self._groups = groups
        self._changed_nodes: set[NodeId] = set()
        self._changed_links: set[LinkId] = set()
        self._is_stale = True
        self._parts: list[bytes] = []
        self._nodes: Pieces[str] = Pieces()
        self._links: Pieces[LinkId] = Pieces()
        self._shown: dict[NodeId, str] = {}
        self._ends: dict[LinkId, tuple[NodeId, NodeId]] = {}
        self._counts: Counter[NodeId] = Counter()
        self._controllers: dict[str, NodeId | None] = {}

    def node_changed(self, node_id: NodeId) -> None:
        """The node was added, replaced or removed."""
        if not self._is_stale:
            self._changed_nodes.add(node_id)
            self._is_stale = len(self._changed_nodes) > CHANGES_MAX

    def session_changed(self, session: LinkSession) -> None:
        """The session was opened, replaced or dropped."""
        if not self._is_stale:
            self._changed_links.add(session.id)
            # A controller that no link led to before: rare enough to begin anew.
            unknown = session.controller is not None and session.controller not in self._controllers
            self._is_stale = unknown or len(self._changed_links) > CHANGES_MAX

    def paint(self, *, cursor: str) -> list[bytes]:
        """The graph as JSON, as of the roster's revision, in parts that stand one after another."""
        if self._is_stale or self._controllers != find_controllers(self._roster, self._controllers):
            self._redraw()
        elif self._changed_nodes or self._changed_links:
            self._mend()
        return [*self._parts, b',"revision":%d,"cursor":%b}' % (self._roster.revision, _ENCODE(cursor))]

    def _redraw(self) -> None:
        self._controllers = all_controllers(self._roster)
        scene = scene_of(self._roster, self._wanted, self._controllers)
        links, self._counts = scene.links()
        self._shown = {node.id: node.name for node in scene.nodes}
        self._nodes = Pieces((node.name, _ENCODE(graph_node(node, self._counts[node.id]))) for node in scene.nodes)
        self._links = Pieces((session.id, _ENCODE(graph_link(session, target))) for session, _, target in links)
        self._ends = {session.id: (source, target) for session, source, target in links}
        self._is_stale = False
        self._assemble()

    def _mend(self) -> None:
        touched = set(self._changed_nodes)
        for node_id in self._changed_nodes:
            entry = self._roster.get(node_id)
            shows = entry is not None and self._wanted.holds(entry.node, groups=self._groups)
            if shows is not (node_id in self._shown):
                # Its links appear or disappear with it.
                self._changed_links.update(() if entry is None else entry.sessions)
                self._changed_links.update(self._links_to(node_id))
            if entry is not None and shows:
                self._shown[node_id] = entry.node.name
            elif (name := self._shown.pop(node_id, None)) is not None:
                self._nodes.drop(name)
        for link_id in self._changed_links:
            touched.update(self._mend_link(link_id))
        for node_id in touched:
            self._mend_node(node_id)
        self._assemble()

    def _links_to(self, node_id: NodeId) -> list[LinkId]:
        """Links to the registry's own node are not among its sessions."""
        if node_id not in self._controllers.values():
            return []
        return [session.id for session in self._roster.sessions if session.remote_node_id is None]

    def _mend_link(self, link_id: LinkId) -> tuple[NodeId, ...]:
        """The link as it is now; gives the nodes that have one more or less."""
        session = self._roster.sessions.get(link_id)
        target = None
        if session is not None:
            target = session.remote_node_id or self._controllers.get(session.controller or "")
        before = self._ends.get(link_id)
        after = None
        if session is not None and target is not None and session.node_id in self._shown and target in self._shown:
            after = (session.node_id, target)
            self._links.put(link_id, _ENCODE(graph_link(session, target)))
            self._ends[link_id] = after
        elif before is not None:
            self._links.drop(link_id)
            del self._ends[link_id]
        if before == after:
            return ()
        self._counts.subtract(set(before or ()))
        self._counts.update(set(after or ()))
        return (*(before or ()), *(after or ()))

    def _mend_node(self, node_id: NodeId) -> None:
        name = self._shown.get(node_id)
        entry = self._roster.get(node_id)
        if name is None or entry is None:
            return
        self._nodes.put(name, _ENCODE(graph_node(entry.node, self._counts[node_id])))

    def _assemble(self) -> None:
        self._changed_nodes.clear()
        self._changed_links.clear()
        self._parts = [b'{"nodes":[', *self._nodes.joined(), b'],"links":[', *self._links.joined(), b"]"]


class Drawings:
    """The graphs that are kept, by what they show; the one not asked for the longest goes first.

    A group that holds other groups than before is another thing to show.
    """

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._kept: OrderedDict[tuple[NodeFilter, frozenset[str] | None], Drawing] = OrderedDict()
        self._by_groups: dict[NodeFilter, tuple[str, list[bytes]]] = {}

    def paint(self, wanted: NodeFilter, *, cursor: str) -> list[bytes]:
        """The graph of the nodes that match, as JSON in parts. Raises: UnknownGroup."""
        groups = None if wanted.group is None else self._roster.groups_below(wanted.group)
        drawing = self._kept.get((wanted, groups))
        if drawing is None:
            drawing = self._kept[wanted, groups] = Drawing(self._roster, wanted, groups=groups)
            self._roster.observers.append(drawing)
            if len(self._kept) > DRAWINGS_MAX:
                _, oldest = self._kept.popitem(last=False)
                self._roster.observers.remove(oldest)
        self._kept.move_to_end((wanted, groups))
        return drawing.paint(cursor=cursor)

    def paint_groups(self, wanted: NodeFilter, *, cursor: str) -> list[bytes]:
        """The same by groups, encoded once for each revision. Raises: UnknownGroup."""
        kept = self._by_groups.pop(wanted, None)
        if kept is None or kept[0] != cursor:
            scene = scene_of(self._roster, wanted)
            named = self._roster.groups.named
            drawn = draw_groups(scene, named=named, revision=self._roster.revision, cursor=cursor)
            kept = cursor, [_ENCODE(drawn)]
        self._by_groups[wanted] = kept
        if len(self._by_groups) > DRAWINGS_MAX:
            del self._by_groups[next(iter(self._by_groups))]
        return kept[1]
