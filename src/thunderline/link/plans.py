"""What each action does: plans, made on an overlay at their turn in a batch.

A plan decides on the state that the operations before it leave behind, and changes the overlay or raises, in which case
all that it changed is undone. It knows no I/O and no clock but the overlay's.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET

from thunderline.block.beats import PackedBeat, to_heartbeat
from thunderline.core.errors import (
    LiveLink,
    Mismatch,
    StaleIncarnation,
    StaleSequence,
)
from thunderline.core.ids import NodeId, Revision
from thunderline.core.inputs import (
    CAPABILITIES_MAX,
    LABELS_MAX,
    HeartbeatInput,
    NodeAttrs,
    NodePatch,
    OnlineInput,
)
from thunderline.core.records import (
    BeatStatus,
    Capability,
    ClusterType,
    Event,
    Heartbeat,
    LinkSession,
    Node,
    NodeStatus,
    Override,
    SessionStatus,
)
from thunderline.flow import taxonomy
from thunderline.flow.taxonomy import status_event
from thunderline.link import liveness, session_plans
from thunderline.link.actor import Actor
from thunderline.link.health import Health
from thunderline.link.liveness import BEAT_SIGNALS, Signal, effective, observe
from thunderline.link.merge_patch import check_count, check_merged_meta, merged_labels, merged_meta
from thunderline.link.overlay import Overlay
from thunderline.link.presence import Taken
from thunderline.link.roster import Entry

DEFAULT_ROLE: Final = "worker"
DEFAULT_DOMAIN: Final = "thunderlink"


class Ensured(msgspec.Struct, frozen=True):
    """A node that is registered now; `created` if it was not before."""

    node: Node
    created: bool


class Announced(msgspec.Struct, frozen=True):
    """A node that is up, and the session it opened, if any."""

    node: Node
    session: LinkSession | None


class Kept(msgspec.Struct, frozen=True, gc=False):
    """A heartbeat in history; `repeated` if it already was, by its incarnation and number."""

    beat: PackedBeat
    node_id: NodeId
    repeated: bool
    next_interval_ms: int

    @property
    def heartbeat(self) -> Heartbeat:
        """The beat as a record."""
        return to_heartbeat(self.beat, node_id=self.node_id)


def register(overlay: Overlay, attrs: NodeAttrs, default_interval_ms: int) -> Ensured:
    """A node of this name: a new one, or the known one with its gaps filled. Raises: Mismatch, InvalidInput."""
    known = overlay.named(attrs.name)
    if known is not None:
        return Ensured(_fill(overlay, known, attrs), created=False)
    interval_ms = attrs.heartbeat_interval_ms or default_interval_ms
    node = Node(
        id=NodeId(overlay.new_id()),
        name=attrs.name,
        role=attrs.role or DEFAULT_ROLE,
        domain=attrs.domain or DEFAULT_DOMAIN,
        cluster_type=attrs.cluster_type or ClusterType.IN_CLUSTER,
        status=NodeStatus.CONNECTING,
        observed_status=NodeStatus.CONNECTING,
        observed_reason=liveness.REASON_REGISTERED,
        override=None,
        status_reason=liveness.REASON_REGISTERED,
        status_since=overlay.now,
        address=attrs.address,
        peer_id=attrs.peer_id,
        did=attrs.did,
        meta=attrs.meta or {},
        labels=attrs.labels or {},
        capabilities=_capabilities(attrs),
        groups=(),
        instance=None,
        incarnation=1,
        heartbeat_interval_ms=interval_ms,
        inserted_at=overlay.now,
        updated_at=overlay.now,
        revision=Revision(0),
    )
    return Ensured(overlay.put_node(taxonomy.NODE_REGISTERED, node), created=True)


def update(overlay: Overlay, node_id: NodeId, patch: NodePatch, default_interval_ms: int) -> Node:
    """The node with the patch applied. Raises: UnknownNode, InvalidInput."""
    node = overlay.node(node_id)
    defaults: dict[str, Any] = {
        "role": DEFAULT_ROLE,
        "domain": DEFAULT_DOMAIN,
        "cluster_type": ClusterType.IN_CLUSTER,
        "heartbeat_interval_ms": default_interval_ms,
    }
    changes: dict[str, Any] = {}
    for field in ("role", "domain", "cluster_type", "address", "peer_id", "did", "heartbeat_interval_ms"):
        if (value := getattr(patch, field)) is not UNSET:
            changes[field] = defaults.get(field) if value is None else value
    if patch.meta is not UNSET:
        changes["meta"] = merged_meta(node.meta, patch.meta)
    if patch.labels is not UNSET:
        changes["labels"] = merged_labels(node.labels, patch.labels)
    changed = msgspec.structs.replace(node, **changes)
    return node if changed == node else overlay.put_node(taxonomy.NODE_UPDATED, changed)


def claim(overlay: Overlay, attrs: NodeAttrs, default_interval_ms: int) -> Node:
    """The registry's own node, with `attrs` as they are now whatever was known under its name. Raises: InvalidInput."""
    known = overlay.named(attrs.name)
    if known is None:
        return register(overlay, attrs, default_interval_ms).node
    claimed = msgspec.structs.replace(
        known,
        role=attrs.role or known.role,
        address=attrs.address,
        heartbeat_interval_ms=attrs.heartbeat_interval_ms or default_interval_ms,
    )
    return known if claimed == known else overlay.put_node(taxonomy.NODE_UPDATED, claimed)


def _fill(overlay: Overlay, known: Node, attrs: NodeAttrs) -> Node:
    for field in ("role", "domain"):
        given = getattr(attrs, field)
        if given is not None and given != getattr(known, field):
            raise Mismatch(field, known=getattr(known, field), given=given)
    changes: dict[str, Any] = {
        field: getattr(attrs, field)
        for field in ("address", "peer_id", "did")
        if getattr(known, field) is None and getattr(attrs, field) is not None
    }
    for field, given, most in (
        ("meta", attrs.meta, None),
        ("labels", attrs.labels, LABELS_MAX),
        ("capabilities", _capabilities(attrs), CAPABILITIES_MAX),
    ):
        have = getattr(known, field)
        if given and (missing := {key: value for key, value in given.items() if key not in have}):
            changes[field] = check_count(field, {**have, **missing}, most)
    if "meta" in changes:
        check_merged_meta(changes["meta"])
    if not changes:
        return known
    return overlay.put_node(taxonomy.NODE_UPDATED, msgspec.structs.replace(known, **changes))


def deregister(overlay: Overlay, node_id: NodeId, force: bool) -> Node:
    """The node removed, its open sessions closed before it. Raises: UnknownNode, LiveLink."""
    node = overlay.node(node_id)
    sessions = overlay.open_sessions(node_id)
    if sessions and liveness.is_up(node.observed_status) and not force:
        raise LiveLink(node.name)
    for session in sessions:
        session_plans.end(overlay, session, SessionStatus.CLOSED, session_plans.REASON_DEREGISTERED)
    return overlay.remove_node(taxonomy.NODE_DEREGISTERED, node)


def announce(
    overlay: Overlay,
    node_id: NodeId,
    announcement: OnlineInput,
    *,
    known: LinkSession | None = None,
    holder: str | None = None,
    interval_ms: int | None = None,
) -> Announced:
    """The node up, under a new incarnation if another process speaks, and its session open.

    `known` is the session as the store has it, where the roster does not; `holder` holds its connection. A starting
    process' `interval_ms` becomes the node's. Raises: UnknownNode, Conflict.
    """
    node = overlay.node(node_id)
    cause: Event | None = None
    instance = announcement.instance or node.instance
    if instance != node.instance:
        node = msgspec.structs.replace(node, heartbeat_interval_ms=interval_ms or node.heartbeat_interval_ms)
        if node.instance is not None:
            node = _restart(overlay, node, instance)
            cause = overlay.events[-1]
    observed = observe(node.observed_status, node.observed_reason, Signal.ANNOUNCED)
    mark = len(overlay.events)
    announced = msgspec.structs.replace(
        node, instance=instance, observed_status=observed[0], observed_reason=observed[1]
    )
    if (announced.observed_status, announced.observed_reason) != (node.observed_status, node.observed_reason):
        node = _put_status(overlay, announced)
    elif announced != overlay.node(node_id):
        node = overlay.put_node(taxonomy.NODE_UPDATED, announced)
    if announcement.session is None:
        return Announced(node, None)
    # The session opens because the node came, unless it was there before.
    with overlay.consequences(overlay.events[mark] if len(overlay.events) > mark else cause):
        opened = session_plans.open_session(overlay, node, announcement.session, known=known, holder=holder)
    return Announced(node, opened.session)


def _restart(overlay: Overlay, node: Node, instance: str | None) -> Node:
    """Another process speaks for the node: a new incarnation, and what the old one held is closed."""
    for session in overlay.open_sessions(node.id):
        session_plans.end(overlay, session, SessionStatus.CLOSED, session_plans.REASON_SUPERSEDED)
    if liveness.is_up(node.observed_status):
        node = msgspec.structs.replace(node, observed_reason=liveness.REASON_RESTARTED)
        reason = effective((node.observed_status, node.observed_reason), node.override)[1]
        node = msgspec.structs.replace(node, status_reason=reason)
    return overlay.put_node(
        taxonomy.NODE_UPDATED,
        msgspec.structs.replace(node, instance=instance, incarnation=node.incarnation + 1),
    )


def override(overlay: Overlay, node_id: NodeId, status: NodeStatus, reason: str, actor: Actor) -> Node:
    """An operator's will laid over the node; the very same one again changes nothing. Raises: UnknownNode."""
    node = overlay.node(node_id)
    have = node.override
    if have is not None and (have.status, have.reason) == (status, reason):
        return node
    override = Override(status=status, reason=reason, by=str(actor), at=overlay.now)
    return _put_status(overlay, msgspec.structs.replace(node, override=override))


def lift(overlay: Overlay, node_id: NodeId) -> Node:
    """The override taken off, if there is one. Raises: UnknownNode."""
    node = overlay.node(node_id)
    if node.override is None:
        return node
    return _put_status(overlay, msgspec.structs.replace(node, override=None))


def mark_flapping(overlay: Overlay, node_id: NodeId, flapping: bool) -> None:
    """The node marked as one whose status changes all the time, or no longer; one that is gone is fine."""
    node = overlay.find(node_id)
    if node is not None and node.flapping is not flapping:
        overlay.put_node(taxonomy.NODE_UPDATED, msgspec.structs.replace(node, flapping=flapping))


def set_observed(overlay: Overlay, node: Node, observed: liveness.Observed) -> Node:
    """Make `observed` the node's observed status and reason; the very same status keeps its first reason."""
    if observed[0] is node.observed_status and observed[1] == node.observed_reason:
        return node
    return _put_status(overlay, msgspec.structs.replace(node, observed_status=observed[0], observed_reason=observed[1]))


def _put_status(overlay: Overlay, node: Node) -> Node:
    """Work out what shows, tell it as one status event, and let the node's sessions follow."""
    before = overlay.node(node.id)
    status, reason = effective((node.observed_status, node.observed_reason), node.override)
    since = node.status_since if status is before.status else overlay.now
    node = overlay.put_node(
        status_event(before=before.status, after=status),
        msgspec.structs.replace(node, status=status, status_reason=reason, status_since=since),
    )
    if node.observed_status is not before.observed_status:
        with overlay.consequences(overlay.events[-1]):
            session_plans.follow(overlay, node)
    return node


def beat(
    overlay: Overlay, entry: Entry, beat: HeartbeatInput, health: Health, late_ms: int = 0
) -> Kept | StaleSequence:
    """The beat in history, and what it says of its node; one that comes late says nothing any more.

    Raises: UnknownNode, StaleIncarnation, StaleSequence.
    """
    node = overlay.node(entry.node.id)
    incarnation = node.incarnation if beat.incarnation is None else beat.incarnation
    if incarnation != node.incarnation:
        raise StaleIncarnation(given=incarnation, current=node.incarnation)
    interval_ms = entry.interval_ms or node.heartbeat_interval_ms
    packed = PackedBeat(
        entry.key,
        overlay.now_ms - late_ms,
        incarnation,
        beat.seq,
        beat.status,
        beat.cpu_load,
        beat.mem_used_mb,
        beat.latency_ms,
        beat.peers,
        beat.meta,
        late_ms,
    )
    if beat.seq is not None:
        taken = entry.look(incarnation, beat.seq)
        if taken is Taken.TOO_OLD:
            if not late_ms:
                _revive(overlay, node, beat.status)
            return StaleSequence(seq=beat.seq, highest=entry.window.high or 0)
        if taken is Taken.REPEATED or overlay.is_taken(entry.key, incarnation, beat.seq):
            if not late_ms:
                _revive(overlay, node, beat.status)
            last = entry.last_beat
            kept = last if last is not None and last.seq == beat.seq else packed
            return Kept(kept, node.id, True, interval_ms)
    is_outdated = beat.seq is not None and (
        entry.is_behind(incarnation, beat.seq) or beat.seq < overlay.highest(entry.key, incarnation)
    )
    overlay.add_beat(packed)
    if late_ms:
        return Kept(packed, node.id, False, interval_ms)
    if is_outdated:
        _revive(overlay, node, beat.status)
        return Kept(packed, node.id, False, interval_ms)
    observed = _beaten(node, beat.status, health.judge(entry, node, beat))
    if observed[0] is not node.observed_status or observed[1] != node.observed_reason:
        set_observed(overlay, node, observed)
    return Kept(packed, node.id, False, interval_ms)


def _beaten(node: Node, status: BeatStatus, strain: str) -> liveness.Observed:
    """What a new beat makes of the node, whose figures in `strain` are too high."""
    if not strain or status is not BeatStatus.ONLINE:
        return observe(node.observed_status, node.observed_reason, BEAT_SIGNALS[status])
    observed = observe(node.observed_status, node.observed_reason, Signal.STRAINED)
    return (observed[0], f"{observed[1]}: {strain}") if observed[1] == liveness.REASON_STRAINED else observed


def _revive(overlay: Overlay, node: Node, status: BeatStatus) -> None:
    """A beat that is not kept, or was overtaken by a later one, is a sign of life all the same; of a node that is up it
    tells nothing new."""
    signal = BEAT_SIGNALS[status]
    if not liveness.is_up(node.observed_status) and signal is not Signal.GOODBYE:
        set_observed(overlay, node, observe(node.observed_status, node.observed_reason, signal))


def stated(status: NodeStatus, reason: str | None) -> liveness.Observed:
    """What a node says of itself; its `offline` is its goodbye."""
    if status is NodeStatus.OFFLINE:
        said = "" if reason is None else f": {reason}"
        return status, f"{liveness.REASON_GOODBYE}{said}"
    return status, reason or (liveness.REASON_REPORTED if status is NodeStatus.DEGRADED else liveness.REASON_ANNOUNCED)


def _capabilities(attrs: NodeAttrs) -> dict[str, Capability]:
    given = attrs.capabilities or {}
    return {key: Capability(value=item.value, enabled=item.enabled) for key, item in given.items()}
