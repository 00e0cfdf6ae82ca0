"""The topology as `force-graph` and `3d-force-graph` read it: nodes, and links between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, Self, TypeAlias

import msgspec

from thunderline.core.ids import LinkId, NodeId, Revision
from thunderline.core.records import (
    ClusterType,
    JsonObject,
    LinkSession,
    Node,
    NodeStatus,
    SessionStatus,
    SessionType,
)

LINK_TO_REGISTRY: Final = "registry"
LINK_TO_NODE: Final = "node"

GraphLevel = Literal["nodes", "groups"]
"""What is drawn as a node of the graph: each node, or each group."""


class GraphNode(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One node. `val` is its weight in a drawing: 1, and 1 more for each of its links."""

    id: NodeId
    name: str
    role: str
    domain: str
    status: NodeStatus
    cluster_type: ClusterType
    val: int
    meta: JsonObject


class GraphLink(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One open session. `type` is `registry` or `node`, by its other end; `value` is the session's weight."""

    source: NodeId
    target: NodeId
    type: str
    session_id: str
    session_type: SessionType
    connection_type: str
    status: SessionStatus
    value: float
    latency_ms: float | None
    bandwidth_mbps: float | None
    established_at: datetime | None


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """The topology as of `revision`, nodes by name; watching from `cursor` tells all that changed since."""

    nodes: list[GraphNode]
    links: list[GraphLink]
    revision: Revision
    cursor: str


class DrawnNode(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """What of a node a graph shows, or is chosen by."""

    id: NodeId
    name: str
    role: str
    domain: str
    status: NodeStatus
    cluster_type: ClusterType
    meta: JsonObject
    groups: tuple[str, ...]

    @classmethod
    def of(cls, node: Node) -> Self:
        """The same of a whole record."""
        return cls(
            id=node.id,
            name=node.name,
            role=node.role,
            domain=node.domain,
            status=node.status,
            cluster_type=node.cluster_type,
            meta=node.meta,
            groups=node.groups,
        )


class DrawnSession(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """What of an open session a graph shows."""

    id: LinkId
    session_id: str
    node_id: NodeId
    remote_node_id: NodeId | None
    session_type: SessionType
    connection_type: str
    status: SessionStatus
    weight: float
    latency_ms: float | None
    bandwidth_mbps: float | None
    established_at: datetime | None
    controller: str | None

    @classmethod
    def of(cls, session: LinkSession) -> Self:
        """The same of a whole record."""
        return cls(
            id=session.id,
            session_id=session.session_id,
            node_id=session.node_id,
            remote_node_id=session.remote_node_id,
            session_type=session.session_type,
            connection_type=session.connection_type,
            status=session.status,
            weight=session.weight,
            latency_ms=session.latency_ms,
            bandwidth_mbps=session.bandwidth_mbps,
            established_at=session.established_at,
            controller=session.controller,
        )


AnyNode: TypeAlias = Node | DrawnNode
AnySession: TypeAlias = LinkSession | DrawnSession


class Scene(msgspec.Struct, frozen=True):
    """What is to be drawn: nodes by name, and open sessions by id, of which those with both ends among the nodes show.

    `controllers` are the nodes that stand for the registry's end of a link, by name.
    """

    nodes: Sequence[AnyNode]
    sessions: Iterable[AnySession]
    controllers: Mapping[str, NodeId | None]

    def links(self) -> tuple[list[tuple[AnySession, NodeId]], Counter[NodeId]]:
        """Each session that shows with its target, and how many of them each node has."""
        links: list[tuple[AnySession, NodeId]] = []
        counts = Counter(dict.fromkeys((node.id for node in self.nodes), 0))
        for session in self.sessions:
            source = session.node_id
            target = session.remote_node_id
            if target is None:
                target = self.controllers.get(session.controller or "")
            if target is not None and source in counts and target in counts:
                links.append((session, target))
                counts[source] += 1
                if target != source:
                    counts[target] += 1
        return links, counts


def draw(scene: Scene, *, revision: Revision, cursor: str) -> Graph:
    """The graph of `scene`."""
    links, counts = scene.links()
    return Graph(
        nodes=[graph_node(node, counts[node.id]) for node in scene.nodes],
        links=[graph_link(session, target) for session, target in links],
        revision=revision,
        cursor=cursor,
    )


def graph_node(node: AnyNode, links: int) -> GraphNode:
    """The node as it is drawn with so many links."""
    return GraphNode(
        id=node.id,
        name=node.name,
        role=node.role,
        domain=node.domain,
        status=node.status,
        cluster_type=node.cluster_type,
        val=1 + links,
        meta=node.meta,
    )


def graph_link(session: AnySession, target: NodeId) -> GraphLink:
    """The session as it is drawn to `target`."""
    return GraphLink(
        source=session.node_id,
        target=target,
        type=LINK_TO_REGISTRY if session.remote_node_id is None else LINK_TO_NODE,
        session_id=session.session_id,
        session_type=session.session_type,
        connection_type=session.connection_type,
        status=session.status,
        value=session.weight,
        latency_ms=session.latency_ms,
        bandwidth_mbps=session.bandwidth_mbps,
        established_at=session.established_at,
    )
