"""The cluster as it stood: the state at a revision, from the newest event of each entity at or below it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Self, cast

import msgspec

from thunderline.block.store import Store
from thunderline.core.ids import LinkId, NodeId, Revision
from thunderline.core.records import OPEN_SESSION_STATUSES, Event, LinkSession, Node, NodeGroup
from thunderline.link.graph import DrawnNode, DrawnSession, Scene
from thunderline.link.group_tree import GroupTree
from thunderline.link.node_index import NodeFilter

_PAGE: Final = 2_000


class PastState(msgspec.Struct, frozen=True):
    """What there was, as far as graphs show it: nodes, the sessions that were open, and groups."""

    nodes: dict[NodeId, DrawnNode]
    sessions: dict[LinkId, DrawnSession]
    groups: GroupTree

    @classmethod
    def empty(cls) -> Self:
        """Before anything was."""
        return cls({}, {}, GroupTree())

    def apply(self, events: Iterable[Event]) -> None:
        """Let each entity be as its event leaves it; one event for each at most, in any order."""
        # What goes first: its name may be another's by now.
        for event in sorted(events, key=lambda event: not event.deleted):
            payload = event.payload
            if isinstance(payload, Node):
                if event.deleted:
                    self.nodes.pop(payload.id, None)
                else:
                    self.nodes[payload.id] = DrawnNode.of(payload)
            elif isinstance(payload, LinkSession):
                if payload.status in OPEN_SESSION_STATUSES:
                    self.sessions[payload.id] = DrawnSession.of(payload)
                else:
                    self.sessions.pop(payload.id, None)
            elif isinstance(payload, NodeGroup):
                if event.deleted:
                    self.groups.remove(payload.id)
                else:
                    self.groups.put(payload)

    def scene(self, wanted: NodeFilter) -> Scene:
        """The nodes that matched, by what a graph is chosen by, and all open sessions.

        Raises: UnknownGroup when there was no such group.
        """
        groups = None if wanted.group is None else self.groups.below(wanted.group)
        matched = (node for node in self.nodes.values() if wanted.holds(cast(Node, node), groups=groups))
        nodes = sorted(matched, key=lambda node: node.name)
        sessions = [session for _, session in sorted(self.sessions.items())]
        return Scene(nodes, sessions, {node.name: node.id for node in self.nodes.values()})


async def read_state(store: Store, revision: Revision) -> PastState:
    """The state at `revision`, which the log must reach, from nothing but the log."""
    state = PastState.empty()
    after = None
    while page := await store.read_past(revision=revision, after=after, limit=_PAGE):
        state.apply(page)
        after = page[-1].entity_id
    return state
