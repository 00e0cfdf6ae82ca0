"""The cluster as it stood: the state at a revision, from the newest event of each entity at or below it."""

from __future__ import annotations

from typing import Final

import msgspec

from thunderline.block.store import Store
from thunderline.core.ids import LinkId, NodeId, Revision
from thunderline.core.records import OPEN_SESSION_STATUSES, LinkSession, Node, NodeGroup
from thunderline.link.graph import Scene
from thunderline.link.group_tree import GroupTree
from thunderline.link.roster import NodeFilter

_PAGE: Final = 2_000


class PastState(msgspec.Struct, frozen=True):
    """What there was: nodes, the sessions that were open, and groups."""

    nodes: dict[NodeId, Node]
    sessions: dict[LinkId, LinkSession]
    groups: GroupTree

    def scene(self, wanted: NodeFilter) -> Scene:
        """The nodes that matched, and all open sessions. Raises: UnknownGroup when there was no such group."""
        groups = None if wanted.group is None else self.groups.below(wanted.group)
        matched = (node for node in self.nodes.values() if wanted.holds(node, groups=groups))
        nodes = sorted(matched, key=lambda node: node.name)
        sessions = [session for _, session in sorted(self.sessions.items())]
        return Scene(nodes, sessions, {node.name: node.id for node in self.nodes.values()})


async def state_at(store: Store, revision: Revision) -> PastState:
    """The state at `revision`, which the log must reach."""
    state = PastState({}, {}, GroupTree())
    after = None
    while page := await store.read_past(revision=revision, after=after, limit=_PAGE):
        for event in page:
            if isinstance(event.payload, Node) and not event.deleted:
                state.nodes[event.payload.id] = event.payload
            elif isinstance(event.payload, LinkSession) and event.payload.status in OPEN_SESSION_STATUSES:
                state.sessions[event.payload.id] = event.payload
            elif isinstance(event.payload, NodeGroup) and not event.deleted:
                state.groups.put(event.payload)
        after = page[-1].entity_id
    return state
