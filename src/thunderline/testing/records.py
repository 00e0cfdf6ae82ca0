"""Small valid records, numbered, different only where a test says so. Higher numbers have ids that sort later."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Any, Final

import msgspec

from thunderline.block.beats import PackedBeat, node_key
from thunderline.core.access import AuditEntry, JoinTerms, Outcome, Scope, Token, TokenKind, digest_of
from thunderline.core.alerts import Alert, Severity
from thunderline.core.clock import from_ms
from thunderline.core.ids import AuditId, BatchId, EventId, GroupId, IdSource, LinkId, NodeId, Revision, TokenId
from thunderline.core.records import (
    BeatStatus,
    CapacityReport,
    ClusterType,
    Event,
    GroupType,
    GuardReport,
    LinkSession,
    Node,
    NodeGroup,
    NodeStatus,
    PersistentPayload,
    RegistryReport,
    SessionStatus,
    SessionType,
)
from thunderline.flow.taxonomy import (
    ALERT_FIRED,
    ALERT_RESOLVED,
    CAPACITY_EXCEEDED,
    GROUP_REMOVED,
    GROUP_UPDATED,
    GUARD_ENGAGED,
    LINK_UPDATED,
    NODE_DEREGISTERED,
    NODE_UPDATED,
    TAXONOMY,
)
from thunderline.testing.clock import START_MS

START: Final[datetime] = from_ms(START_MS)
"""The time of a record that is given none."""


def numbered_uuid(number: int, *, family: int = 0) -> str:
    """A UUIDv7 that sorts as its number does, among those of its family."""
    return f"0197c000-{family:04x}-7000-8000-{number:012x}"


def numbered_ids(*, family: int = 0xFFFF) -> IdSource:
    """A source of ids that gives the same ones in every run."""
    numbers = itertools.count(1)
    return lambda: numbered_uuid(next(numbers), family=family)


def node_id(number: int) -> NodeId:
    """The id of `make_node(number)`."""
    return NodeId(numbered_uuid(number, family=1))


def batch_id(number: int) -> BatchId:
    """The id of a batch."""
    return BatchId(numbered_uuid(number, family=4))


def make_node(number: int, **changes: Any) -> Node:
    """A node that was just registered, named `node-<number>`."""
    node = Node(
        id=node_id(number),
        name=f"node-{number}",
        role="worker",
        domain="thunderlink",
        cluster_type=ClusterType.IN_CLUSTER,
        status=NodeStatus.CONNECTING,
        observed_status=NodeStatus.CONNECTING,
        observed_reason="registered",
        override=None,
        status_reason="registered",
        status_since=START,
        address=None,
        peer_id=None,
        did=None,
        meta={},
        labels={},
        capabilities={},
        groups=(),
        instance=None,
        incarnation=1,
        heartbeat_interval_ms=10_000,
        inserted_at=START,
        updated_at=START,
        revision=Revision(0),
    )
    return msgspec.structs.replace(node, **changes) if changes else node


def make_session(number: int, node: Node | NodeId, **changes: Any) -> LinkSession:
    """An open session of `node`, named `session-<number>`."""
    session = LinkSession(
        id=LinkId(numbered_uuid(number, family=2)),
        session_id=f"session-{number}",
        node_id=node.id if isinstance(node, Node) else node,
        remote_node_id=None,
        role="worker",
        session_type=SessionType.CLUSTER,
        connection_type="websocket",
        local_peer_id=None,
        remote_peer_id=None,
        status=SessionStatus.ESTABLISHED,
        weight=1.0,
        latency_ms=None,
        bandwidth_mbps=None,
        established_at=START,
        last_activity_at=START,
        closed_at=None,
        meta={},
    )
    return msgspec.structs.replace(session, **changes) if changes else session


def make_group(number: int, **changes: Any) -> NodeGroup:
    """A group at the top, named `group-<number>`."""
    group = NodeGroup(
        id=GroupId(numbered_uuid(number, family=6)),
        name=f"group-{number}",
        group_type=GroupType.CUSTOM,
        parent=None,
        meta={},
        inserted_at=START,
        updated_at=START,
        revision=Revision(0),
    )
    return msgspec.structs.replace(group, **changes) if changes else group


def make_guard_report(**changes: Any) -> GuardReport:
    """The guard of a zone, engaged."""
    report = GuardReport(
        id="guard:zone-1",
        scope="zone-1",
        scope_type=GroupType.ZONE,
        engaged=True,
        nodes=100,
        fallen=30,
        held=15,
        max_delay_s=120.0,
        engaged_at=START,
        released_at=None,
    )
    return msgspec.structs.replace(report, **changes) if changes else report


def make_capacity_report(**changes: Any) -> CapacityReport:
    """A capacity that is exceeded."""
    report = CapacityReport(
        id="capacity", exceeded=True, nodes=400_000, heartbeats_per_second=6_667.0, max_heartbeats_per_second=5_000.0
    )
    return msgspec.structs.replace(report, **changes) if changes else report


def make_alert(number: int, **changes: Any) -> Alert:
    """An alert about a node, firing."""
    alert = Alert(
        id=f"{number:032x}",
        rule="node-offline",
        severity=Severity.CRITICAL,
        labels={"node": f"node-{number}"},
        summary=f"node-{number} is offline: silent",
        starts_at=START,
        fired_at=START,
        nodes=1,
        names=(f"node-{number}",),
    )
    return msgspec.structs.replace(alert, **changes) if changes else alert


def make_event(revision: int, payload: PersistentPayload, *, deleted: bool = False, **changes: Any) -> Event:
    """The event that tells of `payload`; of its removal, when it is deleted."""
    told, told_last = _EVENTS[type(payload)]
    name = told_last if deleted else told
    event = Event(
        id=EventId(numbered_uuid(revision, family=3)),
        revision=Revision(revision),
        name=name,
        at=START,
        source="registry@test",
        actor="operator:test",
        subject=_subject(payload),
        entity_kind=TAXONOMY[name].kind,
        entity_id=payload.id,
        correlation_id=numbered_uuid(revision, family=5),
        causation_id=None,
        event_version=1,
        payload=payload,
        deleted=deleted,
    )
    return msgspec.structs.replace(event, **changes) if changes else event


def _subject(payload: PersistentPayload) -> str:
    if isinstance(payload, RegistryReport | Alert):
        return payload.id
    return payload.session_id if isinstance(payload, LinkSession) else payload.name


_EVENTS: Final[dict[type[PersistentPayload], tuple[str, str]]] = {
    Node: (NODE_UPDATED, NODE_DEREGISTERED),
    LinkSession: (LINK_UPDATED, LINK_UPDATED),
    NodeGroup: (GROUP_UPDATED, GROUP_REMOVED),
    GuardReport: (GUARD_ENGAGED, GUARD_ENGAGED),
    CapacityReport: (CAPACITY_EXCEEDED, CAPACITY_EXCEEDED),
    Alert: (ALERT_FIRED, ALERT_RESOLVED),
}
"""What tells of a change of such a record, and of its removal; a session leaves with its node, untold. The registry's
reports are not removed."""


def make_beat(node: Node | NodeId, at_ms: int = START_MS, **changes: Any) -> PackedBeat:
    """A beat of `node` that reports nothing but that it is online."""
    key = node_key(node.id if isinstance(node, Node) else node)
    beat = PackedBeat(key, at_ms, 1, None, BeatStatus.ONLINE, None, None, None)
    return msgspec.structs.replace(beat, **changes) if changes else beat


def make_token(number: int, **changes: Any) -> Token:
    """A token of scope `operator`, named `token-<number>`; the digest is that of no secret there is."""
    token = Token(
        id=TokenId(numbered_uuid(number, family=7)),
        kind=TokenKind.TOKEN,
        name=f"token-{number}",
        digest=digest_of(f"secret {number}".encode()),
        scopes=(Scope.OPERATOR,),
        created_at=START,
        created_by="operator:test",
    )
    return msgspec.structs.replace(token, **changes) if changes else token


def make_join_token(number: int, **changes: Any) -> Token:
    """A join token for any node, named `join-<number>`."""
    kept = {"kind": TokenKind.JOIN, "name": f"join-{number}", "scopes": (), "join": JoinTerms()}
    return make_token(number, **(kept | changes))


def make_credential(number: int, **changes: Any) -> Token:
    """The credential of `make_node(number)`."""
    kept = {"kind": TokenKind.CREDENTIAL, "name": f"node-{number}", "scopes": ()}
    return make_token(number, **(kept | changes))


def make_entry(number: int, **changes: Any) -> AuditEntry:
    """An audit entry that tells of a token which an operator had made."""
    entry = AuditEntry(
        id=AuditId(numbered_uuid(number, family=8)),
        at=START,
        actor="operator:test",
        action="token.created",
        outcome=Outcome.DONE,
        subject=f"token-{number}",
    )
    return msgspec.structs.replace(entry, **changes) if changes else entry
