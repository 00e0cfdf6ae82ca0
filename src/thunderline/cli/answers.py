"""What the API answers, as far as the commands read it: a field that is not here is passed over, not refused."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from thunderline.core.records import Heartbeat, LinkSession, Node, NodeStatus, Presence

N = TypeVar("N")


class PresentNode(Node, frozen=True, kw_only=True):
    """A node with its presence beside it."""

    presence: Presence

    @property
    def cpu_load(self) -> float | None:
        """The latest beat's, in percent."""
        beat = self.presence.last_heartbeat
        return None if beat is None else beat.cpu_load

    @property
    def mem_used_mb(self) -> float | None:
        """The latest beat's, in MiB."""
        beat = self.presence.last_heartbeat
        return None if beat is None else beat.mem_used_mb


class NamedNode(msgspec.Struct, frozen=True):
    """A node of which only the name matters."""

    name: str


class NodePage(msgspec.Struct, Generic[N], frozen=True):
    """A page of nodes, by name; `next_cursor` None at the end."""

    nodes: list[N]
    next_cursor: str | None
    revision: int


class NodeAnswer(msgspec.Struct, frozen=True):
    """One node; its open sessions and its latest heartbeats, oldest first, where they were asked for."""

    node: PresentNode
    sessions: list[LinkSession] = []
    heartbeats: list[Heartbeat] = []


class PlainNodeAnswer(msgspec.Struct, frozen=True):
    """The same as `NodeAnswer`, with every field that the server knows."""

    node: dict[str, Any]
    sessions: list[Any] = []
    heartbeats: list[Any] = []


class GraphNode(msgspec.Struct, frozen=True):
    """One node of the topology."""

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


class Health(msgspec.Struct, frozen=True):
    """What a server says of itself."""

    version: str
