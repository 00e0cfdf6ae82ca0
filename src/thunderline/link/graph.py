"""The topology as `force-graph` and `3d-force-graph` read it: nodes, and links between them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

import msgspec

from thunderline.core.ids import NodeId, Revision
from thunderline.core.records import (
    ClusterType,
    JsonObject,
    LinkSession,
    NodeStatus,
    SessionStatus,
    SessionType,
)
from thunderline.link.roster import Entry

LINK_TO_REGISTRY: Final = "registry"
LINK_TO_NODE: Final = "node"


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


def draw(entries: Iterable[Entry], *, controller: NodeId | None, revision: Revision, cursor: str) -> Graph:
    """The graph over `entries`. A session with an end that is not among them is left out.

    `controller` is the node that stands for the registry's end of a link; None: there is none to draw.
    """
    shown = {entry.node.id: entry for entry in entries}
    links = [
        link
        for entry in shown.values()
        for session in entry.sessions.values()
        if (link := _link(session, controller)) is not None and link.target in shown
    ]
    degree: dict[NodeId, int] = {}
    for link in links:
        degree[link.source] = degree.get(link.source, 0) + 1
        degree[link.target] = degree.get(link.target, 0) + 1
    nodes = [
        GraphNode(
            id=node.id,
            name=node.name,
            role=node.role,
            domain=node.domain,
            status=node.status,
            cluster_type=node.cluster_type,
            val=1 + degree.get(node.id, 0),
            meta=node.meta,
        )
        for node in (entry.node for entry in shown.values())
    ]
    return Graph(nodes=nodes, links=links, revision=revision, cursor=cursor)


def _link(session: LinkSession, controller: NodeId | None) -> GraphLink | None:
    target = controller if session.remote_node_id is None else session.remote_node_id
    if target is None:
        return None
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
