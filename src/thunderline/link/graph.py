"""The topology as `force-graph` and `3d-force-graph` read it: nodes, and links between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, Generic, Literal, Self, TypeAlias, TypeVar

import msgspec

from thunderline.core.ids import NodeId, Revision
from thunderline.core.records import (
    ClusterType,
    JsonObject,
    LinkSession,
    Node,
    NodeStatus,
    SessionStatus,
    SessionType,
)

LinkType = Literal["registry", "node"]
"""What is at the other end of a link."""

LINK_TO_REGISTRY: Final = "registry"
LINK_TO_NODE: Final = "node"

GraphLevel = Literal["nodes", "groups"]
"""What is drawn as a node of the graph: each node, or each group."""


class GraphNode(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One node. `val` is its weight in a drawing: 1, and 1 more for each of its links.

    `meta` is not to be changed: nodes of one graph may share it.
    """

    id: NodeId
    name: str
    role: str
    domain: str
    status: NodeStatus
    cluster_type: ClusterType
    val: int
    meta: JsonObject


class GraphLink(msgspec.Struct, frozen=True, gc=False):
    """One open session. `type` is `registry` or `node`, by its other end; `value` is the session's weight."""

    source: NodeId
    target: NodeId
    type: LinkType
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


class DrawnNode(msgspec.Struct, frozen=True, gc=False):
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


AnyNode: TypeAlias = Node | DrawnNode
L = TypeVar("L", LinkSession, GraphLink)

Line: TypeAlias = tuple[L, NodeId, NodeId | None]
"""A link with its ends; the second is None where the registry's end is no node."""


class Scene(msgspec.Struct, Generic[L], frozen=True):
    """What is to be drawn: nodes by name, and all links by id, of which those with both ends among the nodes show.

    `lines` are walked once.
    """

    nodes: Sequence[AnyNode]
    lines: Iterable[Line[L]]

    def links(self) -> tuple[list[tuple[L, NodeId, NodeId]], Counter[NodeId]]:
        """The links that show, and how many of them each node has."""
        shown = {node.id for node in self.nodes}
        links = [
            (link, source, target)
            for link, source, target in self.lines
            if target is not None and target in shown and source in shown
        ]
        counts = Counter([source for _, source, _ in links])
        counts.update([target for _, source, target in links if target != source])
        return links, counts


def draw(scene: Scene[L], *, revision: Revision, cursor: str) -> Graph:
    """The graph of `scene`."""
    links, counts = scene.links()
    return Graph(
        nodes=[graph_node(node, counts[node.id]) for node in scene.nodes],
        links=[graph_link(link, target) for link, _, target in links],
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


def graph_link(link: LinkSession | GraphLink, target: NodeId) -> GraphLink:
    """The link as it is drawn to `target`."""
    if isinstance(link, GraphLink):
        return link
    return GraphLink(
        source=link.node_id,
        target=target,
        type=link_type(link),
        session_id=link.session_id,
        session_type=link.session_type,
        connection_type=link.connection_type,
        status=link.status,
        value=link.weight,
        latency_ms=link.latency_ms,
        bandwidth_mbps=link.bandwidth_mbps,
        established_at=link.established_at,
    )


def link_type(link: LinkSession | GraphLink) -> LinkType:
    """What its other end is."""
    if isinstance(link, GraphLink):
        return link.type
    return LINK_TO_REGISTRY if link.remote_node_id is None else LINK_TO_NODE
