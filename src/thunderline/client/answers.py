"""What the API answers, as far as clients read it: a field that is not here is passed over, not refused."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, Literal, TypeVar

import msgspec

from thunderline.client.events import ToldEvent
from thunderline.core.ids import NodeId
from thunderline.core.records import (
    BeatStatus,
    ClusterType,
    Heartbeat,
    JsonObject,
    LinkSession,
    Node,
    NodeGroup,
    NodeStatus,
    Presence,
    SessionStatus,
    SessionType,
)

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


class NodeAnswer(msgspec.Struct, frozen=True):
    """One node; its open sessions and its latest heartbeats, oldest first, where they were asked for."""

    node: PresentNode
    sessions: list[LinkSession] = []
    heartbeats: list[Heartbeat] = []


class OnlineNode(msgspec.Struct, frozen=True):
    """A node that was announced, and the session it opened, if it asked for one."""

    node: PresentNode
    session: LinkSession | None


class NodePage(msgspec.Struct, Generic[N], frozen=True):
    """A page of nodes, by name; `next_cursor` None at the end."""

    nodes: list[N]
    next_cursor: str | None
    revision: int


class SessionAnswer(msgspec.Struct, frozen=True):
    """One link session."""

    session: LinkSession


class SessionPage(msgspec.Struct, frozen=True):
    """A page of open link sessions, the oldest first; `next_cursor` None at the end."""

    sessions: list[LinkSession]
    next_cursor: str | None
    revision: int


class CountedGroup(NodeGroup, frozen=True, kw_only=True):
    """A group with the number of nodes that are themselves members of it; those of the groups below do not count."""

    members: int


class GroupAnswer(msgspec.Struct, frozen=True):
    """One group."""

    group: CountedGroup


class GroupPage(msgspec.Struct, Generic[N], frozen=True):
    """A page of groups, by name; `next_cursor` None at the end."""

    groups: list[N]
    next_cursor: str | None
    revision: int


class KeptHeartbeat(msgspec.Struct, frozen=True):
    """A heartbeat that is in history, and when the next one is due."""

    heartbeat: Heartbeat
    next_interval_ms: int


class ItemProblem(msgspec.Struct, frozen=True, kw_only=True):
    """Why an item of a batch was not done; `field` names the part of the batch that is at fault."""

    detail: str
    status: int
    code: str
    retryable: bool = False
    field: str | None = None
    retry_after_s: float | None = None


class NodeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one node of a batch: `status` as of the single call, and the node or what is wrong."""

    index: int
    status: int
    node: PresentNode | None = None
    problem: ItemProblem | None = None


class HeartbeatResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one beat of a batch: `status` as of the single call, and the beat or what is wrong."""

    index: int
    status: int
    heartbeat: Heartbeat | None = None
    next_interval_ms: int | None = None
    problem: ItemProblem | None = None


class NodeResults(msgspec.Struct, frozen=True):
    """What became of the nodes of a batch, in order."""

    results: list[NodeResult]


class HeartbeatResults(msgspec.Struct, frozen=True):
    """What became of the beats of a batch, in order."""

    results: list[HeartbeatResult]


class TaggedNode(msgspec.Struct, frozen=True):
    """A node, and the tag of its record: given as `if_match`, a change is made only if the record is still this."""

    node: PresentNode
    tag: str


class HeartbeatsAnswer(msgspec.Struct, frozen=True):
    """Heartbeats in ascending time."""

    heartbeats: list[Heartbeat]


class FigureSeries(msgspec.Struct, frozen=True, kw_only=True):
    """One figure, bucket by bucket; None where no beat had it."""

    min: list[float | None]
    mean: list[float | None]
    max: list[float | None]


class HeartbeatSeries(msgspec.Struct, frozen=True, kw_only=True):
    """A node's heartbeats in columns: one item for each bucket of `resolution_s`, which begins `at`.

    `status` is the worst that the node said of itself, None where no beat came.
    """

    node_id: NodeId
    since: datetime
    until: datetime
    resolution_s: int
    at: list[datetime]
    beats: list[int]
    status: list[BeatStatus | None]
    cpu_load: FigureSeries
    mem_used_mb: FigureSeries
    latency_ms: FigureSeries


class EventsAnswer(msgspec.Struct, frozen=True):
    """A page of the log as it came."""

    events: list[msgspec.Raw]
    next_since: str
    revision: int


class EventPage(msgspec.Struct, frozen=True):
    """Events in revision order; go on from `next_since` until it is `cursor`: a page may be empty before the end.

    The log stood at `revision`; watching from `cursor` tells what came after that.
    """

    events: list[ToldEvent]
    next_since: str
    revision: int
    cursor: str


GraphLevel = Literal["nodes", "groups"]
"""What is drawn as a node of the graph: each node, or each group."""


class GraphNode(msgspec.Struct, frozen=True, kw_only=True):
    """One node of the topology. `val` is its weight in a drawing: 1, and 1 more for each of its links."""

    id: str
    name: str
    role: str
    domain: str
    status: NodeStatus
    cluster_type: ClusterType
    val: int
    meta: JsonObject


class GraphLink(msgspec.Struct, frozen=True, kw_only=True):
    """One open session of `source`; both ends are ids of nodes that the graph holds. `value` is its weight."""

    source: str
    target: str
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
    """The topology, nodes by name; watching from `cursor` tells all that changed since."""

    nodes: list[GraphNode]
    links: list[GraphLink]
    revision: int
    cursor: str


class Health(msgspec.Struct, frozen=True):
    """What a server says of itself."""

    status: str
    version: str
