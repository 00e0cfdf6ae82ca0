"""What commands read of answers where they read less, or less closely, than the clients' own types do."""

from __future__ import annotations

from typing import Any

import msgspec

from thunderline.core.records import NodeStatus


class NamedNode(msgspec.Struct, frozen=True):
    """A node of which only the name matters."""

    name: str


class PlainNodeAnswer(msgspec.Struct, frozen=True):
    """One node with all that was asked for beside it, with every field that the server knows."""

    node: dict[str, Any]
    sessions: list[Any] = []
    heartbeats: list[Any] = []


class GraphNode(msgspec.Struct, frozen=True):
    """One node of the topology, as a drawing needs it."""

    id: str
    name: str
    role: str
    domain: str
    status: NodeStatus


class GraphLink(msgspec.Struct, frozen=True):
    """One open session of `source`; both ends are ids of nodes that the graph holds."""

    source: str
    target: str
    session_type: str
    connection_type: str
    status: str
    latency_ms: float | None


class GraphAnswer(msgspec.Struct, frozen=True):
    """The topology, nodes by name."""

    nodes: list[GraphNode]
    links: list[GraphLink]
