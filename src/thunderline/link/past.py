"""The cluster as it stood: the state at a revision, from the newest event of each entity at or below it."""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Final, Self, cast

import msgspec

from thunderline.block.store import EntityChange, Store
from thunderline.core.ids import LinkId, NodeId, Revision
from thunderline.core.records import OPEN_SESSION_STATUSES, Event, LinkSession, Node, NodeGroup
from thunderline.link.graph import DrawnNode, GraphLink, Line, Scene, graph_link
from thunderline.link.group_tree import GroupTree
from thunderline.link.node_index import NodeFilter

_PAGE: Final = 2_000
_EVERYTHING: Final = NodeFilter()
_NOBODY: Final = NodeId("")


class PastState(msgspec.Struct, frozen=True):
    """What there was, as far as graphs show it: nodes, the sessions that were open as links, and groups.

    Links to the registry are in `controllers`, too, with the name of the node that stood for it, if it had one; which
    node had the name shows when all is known, so that such a link has no target yet.
    """

    nodes: dict[NodeId, DrawnNode]
    links: dict[LinkId, GraphLink]
    controllers: dict[LinkId, str]
    groups: GroupTree

    @classmethod
    def empty(cls) -> Self:
        """Before anything was."""
        return cls({}, {}, {}, GroupTree())

    def apply(self, changes: Iterable[Event | EntityChange]) -> None:
        """Let each entity be as its change leaves it; one for each at most, in any order."""
        # What goes first: its name may be another's by now.
        for change in sorted(changes, key=lambda change: not change.deleted):
            payload = change.payload
            if isinstance(payload, Node):
                if change.deleted:
                    self.nodes.pop(payload.id, None)
                else:
                    self.nodes[payload.id] = DrawnNode.of(payload)
            elif isinstance(payload, LinkSession):
                self._put_session(payload)
            elif isinstance(payload, NodeGroup):
                if change.deleted:
                    self.groups.remove(payload.id)
                else:
                    self.groups.put(payload)

    def _put_session(self, session: LinkSession) -> None:
        self.controllers.pop(session.id, None)
        if session.status not in OPEN_SESSION_STATUSES:
            self.links.pop(session.id, None)
            return
        self.links[session.id] = graph_link(session, session.remote_node_id or _NOBODY)
        if session.remote_node_id is None:
            self.controllers[session.id] = session.controller or ""

    def scene(self, wanted: NodeFilter) -> Scene[GraphLink]:
        """The nodes that matched, by what a graph is chosen by, and all links.

        Raises: UnknownGroup when there was no such group.
        """
        nodes: Iterable[DrawnNode] = self.nodes.values()
        if wanted != _EVERYTHING:
            groups = None if wanted.group is None else self.groups.below(wanted.group)
            nodes = (node for node in nodes if wanted.holds(cast(Node, node), groups=groups))
        return Scene(sorted(nodes, key=attrgetter("name")), self._lines())

    def _lines(self) -> Iterable[Line[GraphLink]]:
        ids = sorted(self.links)
        links = [self.links[link_id] for link_id in ids]
        if self.controllers:
            named = {node.name: node.id for node in self.nodes.values()}
            for index, link_id in enumerate(ids):
                controller = self.controllers.get(link_id)
                if controller is not None:
                    target = named.get(controller, _NOBODY)
                    links[index] = msgspec.structs.replace(links[index], target=target)
        return zip(links, map(attrgetter("source"), links), map(attrgetter("target"), links), strict=True)


async def read_state(store: Store, revision: Revision) -> PastState:
    """The state at `revision`, which the log must reach, from nothing but the log."""
    state = PastState.empty()
    after = None
    while page := await store.read_past(revision=revision, after=after, limit=_PAGE):
        state.apply(page)
        after = page[-1].entity_id
    return state
