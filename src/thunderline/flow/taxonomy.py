"""Every event there is: name, version, payload, reliability and its name on Phoenix channels, in one table."""

from __future__ import annotations

from typing import Final

import msgspec

from thunderline.core.alerts import Alert
from thunderline.core.errors import UndeclaredEvent
from thunderline.core.records import (
    CapacityReport,
    EntityKind,
    Event,
    GuardReport,
    Heartbeat,
    LinkSession,
    Node,
    NodeGroup,
    NodeStatus,
    Payload,
    Reliability,
)

NODE_REGISTERED: Final = "cluster.node.registered"
NODE_ONLINE: Final = "cluster.node.online"
NODE_OFFLINE: Final = "cluster.node.offline"
NODE_STATUS_CHANGED: Final = "cluster.node.status_changed"
NODE_UPDATED: Final = "cluster.node.updated"
NODE_DEREGISTERED: Final = "cluster.node.deregistered"
NODE_HEARTBEAT: Final = "cluster.node.heartbeat"
CAPABILITY_ADDED: Final = "cluster.capability.added"
CAPABILITY_UPDATED: Final = "cluster.capability.updated"
CAPABILITY_REMOVED: Final = "cluster.capability.removed"
GROUP_CREATED: Final = "cluster.group.created"
GROUP_UPDATED: Final = "cluster.group.updated"
GROUP_REMOVED: Final = "cluster.group.removed"
GROUP_JOINED: Final = "cluster.group.joined"
GROUP_LEFT: Final = "cluster.group.left"
LINK_ESTABLISHED: Final = "cluster.link.established"
LINK_UPDATED: Final = "cluster.link.updated"
LINK_CLOSED: Final = "cluster.link.closed"
GUARD_ENGAGED: Final = "cluster.guard.engaged"
GUARD_RELEASED: Final = "cluster.guard.released"
CAPACITY_EXCEEDED: Final = "cluster.capacity.exceeded"
CAPACITY_RESTORED: Final = "cluster.capacity.restored"
ALERT_FIRED: Final = "alert.fired"
ALERT_ACKNOWLEDGED: Final = "alert.acknowledged"
ALERT_RESOLVED: Final = "alert.resolved"


class EventType(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table. `phoenix` is its name on Phoenix channels."""

    name: str
    version: int
    kind: EntityKind
    payload: type[Payload]
    reliability: Reliability = Reliability.PERSISTENT
    phoenix: str
    deletion: bool = False
    meaning: str


_ROWS: Final = (
    EventType(
        name=NODE_REGISTERED,
        version=1,
        kind=EntityKind.NODE,
        payload=Node,
        phoenix="node_changed",
        meaning="A new name was registered.",
    ),
    EventType(
        name=NODE_ONLINE,
        version=1,
        kind=EntityKind.NODE,
        payload=Node,
        phoenix="node_up",
        meaning="The node's status became `online`.",
    ),
    EventType(
        name=NODE_OFFLINE,
        version=1,
        kind=EntityKind.NODE,
        payload=Node,
        phoenix="node_down",
        meaning="The node's status became `offline`.",
    ),
    EventType(
        name=NODE_STATUS_CHANGED,
        version=1,
        kind=EntityKind.NODE,
        payload=Node,
        phoenix="node_changed",
        meaning="The node's status became another one, or what lies under its override, or the reason, changed.",
    ),
    EventType(
        name=NODE_UPDATED,
        version=1,
        kind=EntityKind.NODE,
        payload=Node,
        phoenix="node_changed",
        meaning="Attributes of the node changed, or it was restarted; never its status.",
    ),
    EventType(
        name=NODE_DEREGISTERED,
        version=1,
        kind=EntityKind.NODE,
        payload=Node,
        phoenix="node_down",
        deletion=True,
        meaning="The node was removed; the payload is its last record.",
    ),
    EventType(
        name=NODE_HEARTBEAT,
        version=1,
        kind=EntityKind.NODE,
        payload=Heartbeat,
        reliability=Reliability.TRANSIENT,
        phoenix="node_heartbeat",
        meaning="A heartbeat was kept. Told only while somebody listens; history is read over the API.",
    ),
    EventType(
        name=CAPABILITY_ADDED,
        version=1,
        kind=EntityKind.NODE,
        payload=Node,
        phoenix="node_changed",
        meaning="The node can do something more.",
    ),
    EventType(
        name=CAPABILITY_UPDATED,
        version=1,
        kind=EntityKind.NODE,
        payload=Node,
        phoenix="node_changed",
        meaning="A capability of the node has another value, or was enabled or disabled.",
    ),
    EventType(
        name=CAPABILITY_REMOVED,
        version=1,
        kind=EntityKind.NODE,
        payload=Node,
        phoenix="node_changed",
        meaning="The node can do something less.",
    ),
    EventType(
        name=GROUP_CREATED,
        version=1,
        kind=EntityKind.GROUP,
        payload=NodeGroup,
        phoenix="topology_update",
        meaning="A group of nodes was created.",
    ),
    EventType(
        name=GROUP_UPDATED,
        version=1,
        kind=EntityKind.GROUP,
        payload=NodeGroup,
        phoenix="topology_update",
        meaning="A group has another type, parent or meta; never other members.",
    ),
    EventType(
        name=GROUP_REMOVED,
        version=1,
        kind=EntityKind.GROUP,
        payload=NodeGroup,
        phoenix="topology_update",
        deletion=True,
        meaning="A group was deleted; the payload is its last record.",
    ),
    EventType(
        name=GROUP_JOINED,
        version=1,
        kind=EntityKind.NODE,
        payload=Node,
        phoenix="node_changed",
        meaning="The node is a member of one more group.",
    ),
    EventType(
        name=GROUP_LEFT,
        version=1,
        kind=EntityKind.NODE,
        payload=Node,
        phoenix="node_changed",
        meaning="The node is a member of one group less.",
    ),
    EventType(
        name=LINK_ESTABLISHED,
        version=1,
        kind=EntityKind.LINK,
        payload=LinkSession,
        phoenix="link_up",
        meaning="A link session was opened, or opened again.",
    ),
    EventType(
        name=LINK_UPDATED,
        version=1,
        kind=EntityKind.LINK,
        payload=LinkSession,
        phoenix="topology_update",
        meaning="A link session's status or figures changed.",
    ),
    EventType(
        name=LINK_CLOSED,
        version=1,
        kind=EntityKind.LINK,
        payload=LinkSession,
        phoenix="link_down",
        meaning="A link session was closed, or failed with its node.",
    ),
    EventType(
        name=GUARD_ENGAGED,
        version=1,
        kind=EntityKind.GUARD,
        payload=GuardReport,
        phoenix="topology_update",
        meaning="Too many nodes of a failure domain fell silent at once: the expiry of the others is spread.",
    ),
    EventType(
        name=GUARD_RELEASED,
        version=1,
        kind=EntityKind.GUARD,
        payload=GuardReport,
        phoenix="topology_update",
        meaning="Nodes of that failure domain expire at once again.",
    ),
    EventType(
        name=CAPACITY_EXCEEDED,
        version=1,
        kind=EntityKind.CAPACITY,
        payload=CapacityReport,
        phoenix="topology_update",
        meaning="The fleet sends more heartbeats than it should, though its intervals are as long as they may be.",
    ),
    EventType(
        name=CAPACITY_RESTORED,
        version=1,
        kind=EntityKind.CAPACITY,
        payload=CapacityReport,
        phoenix="topology_update",
        meaning="The fleet no longer does.",
    ),
    EventType(
        name=ALERT_FIRED,
        version=1,
        kind=EntityKind.ALERT,
        payload=Alert,
        phoenix="alert_fired",
        meaning="A rule held for long enough: an alert begins.",
    ),
    EventType(
        name=ALERT_ACKNOWLEDGED,
        version=1,
        kind=EntityKind.ALERT,
        payload=Alert,
        phoenix="alert_acknowledged",
        meaning="Somebody took a firing alert on.",
    ),
    EventType(
        name=ALERT_RESOLVED,
        version=1,
        kind=EntityKind.ALERT,
        payload=Alert,
        phoenix="alert_resolved",
        deletion=True,
        meaning="The alert is over; the payload is its last record.",
    ),
)

TAXONOMY: Final[dict[str, EventType]] = {row.name: row for row in _ROWS}
TRANSIENT: Final = frozenset(row.name for row in _ROWS if row.reliability is Reliability.TRANSIENT)


def status_event(*, before: NodeStatus, after: NodeStatus) -> str:
    """The one status event of a change: to online, to offline, or neither.

    A change that leaves the effective status as it was (truth moved under an override, another reason) is neither.
    """
    if before is not after:
        if after is NodeStatus.ONLINE:
            return NODE_ONLINE
        if after is NodeStatus.OFFLINE:
            return NODE_OFFLINE
    return NODE_STATUS_CHANGED


_STATUS_EVENTS: Final = frozenset({NODE_ONLINE, NODE_OFFLINE, NODE_STATUS_CHANGED})


def is_damped(event: Event) -> bool:
    """Whether the event is one more change of status of a node that is marked as flapping."""
    return event.name in _STATUS_EVENTS and isinstance(event.payload, Node) and event.payload.flapping


def check_event(event: Event) -> None:
    """Return if the taxonomy declares `event` as it is. Raises: UndeclaredEvent."""
    declared = TAXONOMY.get(event.name)
    if declared is None:
        raise UndeclaredEvent(event.name, "is not declared")
    if not isinstance(event.payload, declared.payload):
        raise UndeclaredEvent(event.name, f"carries a {type(event.payload).__name__}")
    if (event.event_version, event.entity_kind, event.reliability, event.deleted) != (
        declared.version,
        declared.kind,
        declared.reliability,
        declared.deletion,
    ):
        raise UndeclaredEvent(event.name, "does not carry its declared version, kind, reliability and deletion")
