"""The records that all domains share. Values: frozen, keyword-only, compared by content.

Times are aware UTC datetimes in whole milliseconds. Records say what is; what a caller may send is in `core/inputs.py`.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

import msgspec

from thunderline.core.alerts import Alert
from thunderline.core.ids import EventId, GroupId, LinkId, NodeId, Revision

JsonObject: TypeAlias = dict[str, Any]


class NodeStatus(StrEnum):
    """What a node is. `connecting` is registered and not yet heard; `disconnected` is silent but not yet given up."""

    CONNECTING = "connecting"
    ONLINE = "online"
    DEGRADED = "degraded"
    DISCONNECTED = "disconnected"
    OFFLINE = "offline"


class ClusterType(StrEnum):
    """Whether the node runs inside the cluster's own network or reaches it from elsewhere."""

    IN_CLUSTER = "in_cluster"
    OUT_OF_CLUSTER = "out_of_cluster"


class SessionStatus(StrEnum):
    """The life of a link session; `closed` and `failed` are final until it is opened again."""

    ESTABLISHING = "establishing"
    ESTABLISHED = "established"
    DEGRADED = "degraded"
    CLOSED = "closed"
    FAILED = "failed"


class SessionType(StrEnum):
    """What a link session carries."""

    CLUSTER = "cluster"
    HOTLINE = "hotline"
    SERVICE = "service"
    TOCP = "tocp"


class GroupType(StrEnum):
    """What a group stands for: a place (`zone` within `region`), a part of the data (`shard`), or what people say."""

    ZONE = "zone"
    SHARD = "shard"
    REGION = "region"
    ROLE = "role"
    PROJECT = "project"
    CUSTOM = "custom"


class BeatStatus(StrEnum):
    """What a node says of itself in a heartbeat; `offline` is its goodbye."""

    ONLINE = "online"
    DEGRADED = "degraded"
    OFFLINE = "offline"


class Reliability(StrEnum):
    """Whether an event stands in the log (`persistent`) or is only told to who listens (`transient`)."""

    PERSISTENT = "persistent"
    TRANSIENT = "transient"


class EntityKind(StrEnum):
    """What an event is about; with `entity_id` it names one entity of the log."""

    NODE = "node"
    LINK = "link"
    GROUP = "group"
    GUARD = "guard"
    CAPACITY = "capacity"
    ALERT = "alert"


class Override(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An operator's will, laid over what detection sees. `expires_at` None: until lifted."""

    status: NodeStatus
    reason: str
    by: str
    at: datetime
    expires_at: datetime | None = None


class Capability(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something a node can do; `value` qualifies it, e.g. `gpu` = `a100`."""

    value: str | None = None
    enabled: bool = True


class Node(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A node as of `revision`: the fields whose every change is an event. What each beat changes is in `Presence`."""

    id: NodeId
    name: str
    role: str
    domain: str
    cluster_type: ClusterType
    status: NodeStatus
    """The effective status: `observed_status` under `override`; see `link/liveness.py`."""
    observed_status: NodeStatus
    observed_reason: str
    """Why `observed_status` is what it is; `status_reason` is the same unless an override holds."""
    override: Override | None
    status_reason: str
    status_since: datetime
    address: str | None
    peer_id: str | None
    did: str | None
    meta: JsonObject
    labels: dict[str, str]
    capabilities: dict[str, Capability]
    groups: tuple[str, ...]
    """The names of the groups of which the node itself is a member, sorted; not those above them."""
    instance: str | None
    """The present process's own random word for itself; None until it has given one."""
    incarnation: int
    """Counts the node's processes, from 1."""
    heartbeat_interval_ms: int
    inserted_at: datetime
    updated_at: datetime
    revision: Revision
    flapping: bool = False
    """Whether its status changes so often that single changes mean little; see `link/flaps.py`."""


class LinkSession(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A link between a node and the registry (`remote_node_id` None), or between two nodes."""

    id: LinkId
    session_id: str
    """The caller's own name for the session; unique, and the same session when it comes back."""
    node_id: NodeId
    remote_node_id: NodeId | None
    role: str
    session_type: SessionType
    connection_type: str
    local_peer_id: str | None
    remote_peer_id: str | None
    status: SessionStatus
    weight: float
    latency_ms: float | None
    bandwidth_mbps: float | None
    established_at: datetime | None
    last_activity_at: datetime
    closed_at: datetime | None
    meta: JsonObject
    status_reason: str = ""
    """Why `status` is what it is; empty in records of before there were reasons."""
    controller: str | None = None
    """The replica to which a link to the registry leads, as that replica is named as a node; None between two nodes."""
    holder: str | None = None
    """The replica that holds the connection, or `link:` and the `session_id` of the link over which an end reports the
    session; None: the session is known by word only."""

    @property
    def ends(self) -> tuple[NodeId, ...]:
        """The nodes that it links: one, or two."""
        return (self.node_id,) if self.remote_node_id is None else (self.node_id, self.remote_node_id)


class NodeGroup(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A named set of nodes, as of `revision`; which nodes are in it stands in their own records.

    Groups nest: a member of a group is in every group above it, too.
    """

    id: GroupId
    name: str
    group_type: GroupType
    parent: str | None
    """The name of the group that this one is in; None at the top."""
    meta: JsonObject
    inserted_at: datetime
    updated_at: datetime
    revision: Revision


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One beat. `cpu_load` in percent, `mem_used_mb` in MiB; `peers` maps node names to latency, None = unreachable."""

    node_id: NodeId
    at: datetime
    incarnation: int
    seq: int | None
    status: BeatStatus
    cpu_load: float | None
    mem_used_mb: float | None
    latency_ms: float | None
    peers: dict[str, float | None]
    meta: JsonObject


class Presence(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What each beat changes. `last_seen_at` also counts beats heard but refused; `sessions` are the open ones."""

    last_seen_at: datetime | None
    last_heartbeat_at: datetime | None
    last_heartbeat: Heartbeat | None
    sessions: int
    owner: str
    """The replica that answers for the node."""


class GuardReport(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the guard against mass expiry does in one failure domain, as of an event; see `link/guard.py`."""

    id: str
    scope: str
    """The name of the zone or region; `everything` for nodes that are in none."""
    scope_type: GroupType | None
    """`zone` or `region`; None for `everything`."""
    engaged: bool
    nodes: int
    """Nodes of the scope that are up, or silent and not given up."""
    fallen: int
    """Nodes of the scope that became `disconnected` or `offline` within the window, whichever were more."""
    held: int
    """Nodes of the scope whose expiry waits."""
    max_delay_s: float
    """For how long one waits at most."""
    engaged_at: datetime
    released_at: datetime | None


class CapacityReport(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Whether more heartbeats come than should, though no interval may be longer; see `link/pace.py`."""

    id: str
    exceeded: bool
    nodes: int
    """Nodes that beat."""
    heartbeats_per_second: float
    """What they send together at the longest intervals that they may be told."""
    max_heartbeats_per_second: float
    """The setting that this should not exceed."""


Record: TypeAlias = Node | LinkSession | NodeGroup
"""What a store keeps."""

RegistryReport: TypeAlias = GuardReport | CapacityReport
"""What the registry tells of itself; it stands in the log only."""

PersistentPayload: TypeAlias = Record | RegistryReport | Alert
"""What a persistent event carries."""

Payload: TypeAlias = PersistentPayload | Heartbeat


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One change. `payload` is the record after it; of a deletion, the last record there was, and `deleted` is true.

    A transient event carries the revision that was the newest when it happened, which is not its own.
    """

    id: EventId
    revision: Revision
    name: str
    at: datetime
    source: str
    actor: str
    subject: str
    entity_kind: EntityKind
    entity_id: str
    correlation_id: str
    causation_id: str | None
    event_version: int
    payload: Payload
    deleted: bool = False
    reliability: Reliability = Reliability.PERSISTENT


OPEN_SESSION_STATUSES = frozenset({SessionStatus.ESTABLISHING, SessionStatus.ESTABLISHED, SessionStatus.DEGRADED})
"""A session in one of these counts as open."""
