"""The actions on nodes, each with its accept list, its authorisation and its plan.

Every face of the registry (embedded API, HTTP, links) comes through here. A method checks who asks and what is given,
then hands the writer a plan; the plan decides on the state at its turn in the batch. The accept lists are the types of
`core/inputs.py`, which every face reads its callers' data into.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET

from thunderline.block.beats import PackedBeat, to_heartbeat
from thunderline.block.store import Store
from thunderline.core.errors import (
    Conflict,
    InvalidInput,
    LiveLink,
    Mismatch,
    StaleIncarnation,
    StaleSequence,
)
from thunderline.core.ids import LinkId, NodeId, Revision
from thunderline.core.inputs import (
    CAPABILITIES_MAX,
    LABELS_MAX,
    HeartbeatInput,
    NodeAttrs,
    NodePatch,
    OnlineInput,
    SessionAttrs,
    StatusInput,
    check_json_object,
)
from thunderline.core.records import (
    Capability,
    ClusterType,
    Heartbeat,
    JsonObject,
    LinkSession,
    Node,
    NodeStatus,
    Override,
    SessionStatus,
)
from thunderline.core.settings import Settings
from thunderline.flow import taxonomy
from thunderline.flow.taxonomy import status_event
from thunderline.link import liveness
from thunderline.link.actor import DETECTION, Action, Actor, ActorKind, authorise
from thunderline.link.lanes import Lane
from thunderline.link.liveness import BEAT_SIGNALS, Signal, effective, observe
from thunderline.link.overlay import Overlay
from thunderline.link.presence import Taken
from thunderline.link.roster import Entry, Roster
from thunderline.link.sentinel import Sentinel
from thunderline.link.writer import Writer

V = TypeVar("V")

DEFAULT_ROLE = "worker"
DEFAULT_DOMAIN = "thunderlink"


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


class NodeDomain:
    """All actions. Each returns after its commit and raises what its plan refused, or what `Writer.submit` does."""

    def __init__(self, writer: Writer, roster: Roster, sentinel: Sentinel, store: Store, *, settings: Settings) -> None:
        self._writer = writer
        self._roster = roster
        self._sentinel = sentinel
        self._store = store
        self._settings = settings

    # Registration

    async def register_node(self, attrs: NodeAttrs, *, actor: Actor) -> Ensured:
        """Ensure that a node of this name exists.

        Of a known node, what is absent so far is filled in and all else stays. Raises: Mismatch when the name is known
        with another role or domain.
        """
        authorise(actor, Action.REGISTER)
        return await self._mutate(lambda overlay: self._plan_register(overlay, attrs), actor)

    async def update_node(self, node_id: NodeId, patch: NodePatch, *, actor: Actor) -> Node:
        """Apply a merge patch. A patch that changes nothing makes no event. Raises: UnknownNode, InvalidInput."""
        authorise(actor, Action.UPDATE, node_id=node_id)
        return await self._mutate(lambda overlay: self._plan_update(overlay, node_id, patch), actor)

    async def deregister_node(self, node_id: NodeId, *, force: bool = False, actor: Actor) -> Node:
        """Remove the node; gives its last record. Its name is free at once; its history stays readable by id.

        Raises: UnknownNode; LiveLink when it holds a session and is up, unless forced.
        """
        authorise(actor, Action.DEREGISTER, node_id=node_id)
        return await self._mutate(lambda overlay: _plan_deregister(overlay, node_id, force), actor)

    # Status

    async def mark_node_online(
        self, node_id: NodeId, announcement: OnlineInput | None = None, *, actor: Actor
    ) -> Announced:
        """The node is up. A new `instance` is a new incarnation; a session is opened, or opened again.

        An override stays. Raises: UnknownNode; Conflict when the session belongs to another node.
        """
        authorise(actor, Action.ANNOUNCE, node_id=node_id)
        announcement = announcement or OnlineInput()
        known: LinkSession | None = None
        session_id = announcement.session.session_id if announcement.session else None
        if session_id is not None and self._roster.open_session(session_id) is None:
            # The roster forgets closed sessions; this one may be coming back.
            known = await self._store.find_session(session_id)
        if (entry := self._roster.get(node_id)) is not None:
            self._sentinel.announced(entry)
        return await self._mutate(lambda overlay: _plan_announce(overlay, node_id, announcement, known), actor)

    async def mark_node_status(self, node_id: NodeId, wanted: StatusInput, *, actor: Actor) -> Node:
        """Set a status by hand: an override if an operator asks, the observed status if the node speaks of itself.

        Repeating it makes no event. Raises: UnknownNode.
        """
        authorise(actor, Action.MARK, node_id=node_id)
        status = wanted.node_status
        if actor.kind is ActorKind.OPERATOR:
            reason = wanted.reason or f"marked {status} by {actor.name}"
            return await self._mutate(lambda overlay: _plan_override(overlay, node_id, status, reason, actor), actor)
        return await self._mutate(
            lambda overlay: _plan_observed(overlay, overlay.node(node_id), _stated(status, wanted.reason)),
            actor,
        )

    async def mark_node_offline(self, node_id: NodeId, reason: str | None = None, *, actor: Actor) -> Node:
        """Take the node down: by an operator an override, by the node itself its goodbye. Raises: UnknownNode."""
        return await self.mark_node_status(node_id, StatusInput(status="offline", reason=reason), actor=actor)

    async def clear_override(self, node_id: NodeId, *, actor: Actor) -> Node:
        """Let the observed status show again; without an override nothing happens. Raises: UnknownNode."""
        authorise(actor, Action.LIFT, node_id=node_id)
        return await self._mutate(lambda overlay: _plan_lift(overlay, node_id), actor)

    def convict(self, node_id: NodeId, signal: Signal) -> asyncio.Future[None]:
        """Queue what `signal` (silence) means for the node, unless it is heard before its turn comes."""
        authorise(DETECTION, Action.CONVICT, node_id=node_id)

        def plan(overlay: Overlay) -> None:
            node, entry = overlay.find(node_id), self._roster.get(node_id)
            if node is not None and entry is not None and self._sentinel.is_overdue(entry):
                _plan_observed(overlay, node, observe(node.observed_status, node.observed_reason, signal))

        return self._writer.submit(Lane.OWN, plan, actor=DETECTION)

    @property
    def store_is_away(self) -> bool:
        """Whether no change can be committed at present."""
        return self._writer.away_since is not None

    # Heartbeats

    def update_heartbeat(self, entry: Entry, beat: HeartbeatInput, *, actor: Actor) -> asyncio.Future[Kept]:
        """Count the beat as a sign of life now, and keep it in history with the next commit.

        Raises at once: StaleIncarnation, Overloaded, StoreUnavailable, ShuttingDown; the last three after the sign of
        life was counted. The future raises: UnknownNode, StaleIncarnation, StaleSequence.
        """
        node = entry.node
        authorise(actor, Action.BEAT, node_id=node.id)
        if beat.incarnation is not None and beat.incarnation != node.incarnation:
            raise StaleIncarnation(given=beat.incarnation, current=node.incarnation)
        if BEAT_SIGNALS[beat.status] is not Signal.GOODBYE:
            self._sentinel.heard(entry)
        return self._writer.submit(Lane.HEARTBEATS, lambda overlay: _plan_beat(overlay, entry, beat), actor=actor)

    async def get_recent_heartbeats(
        self, node_id: NodeId | None, *, since_ms: int, until_ms: int, limit: int
    ) -> list[Heartbeat]:
        """The newest `limit` beats of a node, present or deregistered (None: of all), in ascending time."""
        beats = await self._store.read_beats(node_id=node_id, since_ms=since_ms, until_ms=until_ms, limit=limit)
        return [to_heartbeat(beat, node_id=node_id) for beat in beats]

    # Plans that need the settings

    def _plan_register(self, overlay: Overlay, attrs: NodeAttrs) -> Ensured:
        known = overlay.named(attrs.name)
        if known is not None:
            return Ensured(_plan_fill(overlay, known, attrs), created=False)
        interval_ms = attrs.heartbeat_interval_ms or self._default_interval_ms
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

    def _plan_update(self, overlay: Overlay, node_id: NodeId, patch: NodePatch) -> Node:
        node = overlay.node(node_id)
        defaults: dict[str, Any] = {
            "role": DEFAULT_ROLE,
            "domain": DEFAULT_DOMAIN,
            "cluster_type": ClusterType.IN_CLUSTER,
            "heartbeat_interval_ms": self._default_interval_ms,
        }
        changes: dict[str, Any] = {}
        for field in ("role", "domain", "cluster_type", "address", "peer_id", "did", "heartbeat_interval_ms"):
            if (value := getattr(patch, field)) is not UNSET:
                changes[field] = defaults.get(field) if value is None else value
        if patch.meta is not UNSET:
            changes["meta"] = _merged_meta(node.meta, patch.meta)
        if patch.labels is not UNSET:
            changes["labels"] = _merged_labels(node.labels, patch.labels)
        changed = msgspec.structs.replace(node, **changes)
        return node if changed == node else overlay.put_node(taxonomy.NODE_UPDATED, changed)

    @property
    def _default_interval_ms(self) -> int:
        return round(self._settings.heartbeat_interval_s * 1000)

    async def _mutate(self, plan: Callable[[Overlay], V], actor: Actor) -> V:
        return await self._writer.submit(Lane.MUTATIONS, plan, actor=actor)


def _plan_fill(overlay: Overlay, known: Node, attrs: NodeAttrs) -> Node:
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
            changes[field] = _bounded(field, {**have, **missing}, most)
    if "meta" in changes:
        _check_merged_meta(changes["meta"])
    if not changes:
        return known
    return overlay.put_node(taxonomy.NODE_UPDATED, msgspec.structs.replace(known, **changes))


def _plan_deregister(overlay: Overlay, node_id: NodeId, force: bool) -> Node:
    node = overlay.node(node_id)
    sessions = overlay.open_sessions(node_id)
    if sessions and liveness.is_up(node.observed_status) and not force:
        raise LiveLink(node.name)
    for session in sessions:
        _end_session(overlay, session, SessionStatus.CLOSED)
    return overlay.remove_node(taxonomy.NODE_DEREGISTERED, node)


def _plan_announce(
    overlay: Overlay, node_id: NodeId, announcement: OnlineInput, known: LinkSession | None
) -> Announced:
    node = overlay.node(node_id)
    instance = announcement.instance or node.instance
    if instance != node.instance and node.instance is not None:
        node = _plan_restart(overlay, node, instance)
    observed = observe(node.observed_status, node.observed_reason, Signal.ANNOUNCED)
    announced = msgspec.structs.replace(
        node, instance=instance, observed_status=observed[0], observed_reason=observed[1]
    )
    if (announced.observed_status, announced.observed_reason) != (node.observed_status, node.observed_reason):
        node = _put_status(overlay, announced)
    elif announced != node:
        node = overlay.put_node(taxonomy.NODE_UPDATED, announced)
    if announcement.session is None:
        return Announced(node, None)
    return Announced(node, _open_session(overlay, node, announcement.session, known))


def _plan_restart(overlay: Overlay, node: Node, instance: str | None) -> Node:
    """Another process speaks for the node: a new incarnation, and what the old one held is closed."""
    for session in overlay.open_sessions(node.id):
        _end_session(overlay, session, SessionStatus.CLOSED)
    return overlay.put_node(
        taxonomy.NODE_UPDATED,
        msgspec.structs.replace(node, instance=instance, incarnation=node.incarnation + 1),
    )


def _plan_override(overlay: Overlay, node_id: NodeId, status: NodeStatus, reason: str, actor: Actor) -> Node:
    node = overlay.node(node_id)
    have = node.override
    if have is not None and (have.status, have.reason) == (status, reason):
        return node
    override = Override(status=status, reason=reason, by=str(actor), at=overlay.now)
    return _put_status(overlay, msgspec.structs.replace(node, override=override))


def _plan_lift(overlay: Overlay, node_id: NodeId) -> Node:
    node = overlay.node(node_id)
    if node.override is None:
        return node
    return _put_status(overlay, msgspec.structs.replace(node, override=None))


def _plan_observed(overlay: Overlay, node: Node, observed: liveness.Observed) -> Node:
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
    if status is not before.status:
        _sessions_follow(overlay, node)
    return node


def _sessions_follow(overlay: Overlay, node: Node) -> None:
    for session in overlay.open_sessions(node.id):
        if node.status is NodeStatus.OFFLINE:
            left = liveness.has_left(node.status, node.status_reason)
            _end_session(overlay, session, SessionStatus.CLOSED if left else SessionStatus.FAILED)
        elif node.status is NodeStatus.DISCONNECTED and session.status is not SessionStatus.DEGRADED:
            _update_session(overlay, session, SessionStatus.DEGRADED)
        elif liveness.is_up(node.status) and session.status is SessionStatus.DEGRADED:
            _update_session(overlay, session, SessionStatus.ESTABLISHED)


def _update_session(overlay: Overlay, session: LinkSession, status: SessionStatus) -> None:
    overlay.put_session(
        taxonomy.LINK_UPDATED, msgspec.structs.replace(session, status=status, last_activity_at=overlay.now)
    )


def _end_session(overlay: Overlay, session: LinkSession, status: SessionStatus) -> None:
    overlay.put_session(taxonomy.LINK_CLOSED, msgspec.structs.replace(session, status=status, closed_at=overlay.now))


def _open_session(overlay: Overlay, node: Node, attrs: SessionAttrs, known: LinkSession | None) -> LinkSession:
    session_id = attrs.session_id or overlay.new_id()
    present = overlay.session_named(session_id) or known
    if present is not None and present.node_id != node.id:
        raise Conflict(f"session.session_id: {session_id!r} belongs to another node")
    session = LinkSession(
        id=LinkId(overlay.new_id()) if present is None else present.id,
        session_id=session_id,
        node_id=node.id,
        remote_node_id=None,
        role=attrs.role,
        session_type=attrs.session_type,
        connection_type=attrs.connection_type,
        local_peer_id=attrs.local_peer_id,
        remote_peer_id=attrs.remote_peer_id,
        status=SessionStatus.ESTABLISHED,
        weight=attrs.weight,
        latency_ms=attrs.latency_ms,
        bandwidth_mbps=attrs.bandwidth_mbps,
        established_at=overlay.now,
        last_activity_at=overlay.now,
        closed_at=None,
        meta=attrs.meta,
    )
    if present is not None and present.status is SessionStatus.ESTABLISHED:
        session = msgspec.structs.replace(
            session, established_at=present.established_at, last_activity_at=present.last_activity_at
        )
        if session == present:
            return present
        return overlay.put_session(
            taxonomy.LINK_UPDATED, msgspec.structs.replace(session, last_activity_at=overlay.now)
        )
    return overlay.put_session(taxonomy.LINK_ESTABLISHED, session)


def _plan_beat(overlay: Overlay, entry: Entry, beat: HeartbeatInput) -> Kept:
    node = overlay.node(entry.node.id)
    incarnation = node.incarnation if beat.incarnation is None else beat.incarnation
    if incarnation != node.incarnation:
        raise StaleIncarnation(given=incarnation, current=node.incarnation)
    packed = PackedBeat(
        entry.key,
        overlay.now_ms,
        incarnation,
        beat.seq,
        beat.status,
        beat.cpu_load,
        beat.mem_used_mb,
        beat.latency_ms,
        beat.peers,
        beat.meta,
    )
    if beat.seq is not None:
        taken = entry.look(incarnation, beat.seq)
        if taken is Taken.TOO_OLD:
            raise StaleSequence(seq=beat.seq, highest=entry.window.high or 0)
        if taken is Taken.REPEATED or overlay.is_taken(entry.key, incarnation, beat.seq):
            last = entry.last_beat
            kept = last if last is not None and last.seq == beat.seq else packed
            return Kept(kept, node.id, True, node.heartbeat_interval_ms)
    overlay.add_beat(packed)
    observed = observe(node.observed_status, node.observed_reason, BEAT_SIGNALS[beat.status])
    if observed[0] is not node.observed_status or observed[1] != node.observed_reason:
        _plan_observed(overlay, node, observed)
    return Kept(packed, node.id, False, node.heartbeat_interval_ms)


def _stated(status: NodeStatus, reason: str | None) -> liveness.Observed:
    """What a node says of itself; its `offline` is its goodbye."""
    if status is NodeStatus.OFFLINE:
        return status, liveness.REASON_GOODBYE
    return status, reason or (liveness.REASON_REPORTED if status is NodeStatus.DEGRADED else liveness.REASON_ANNOUNCED)


def _capabilities(attrs: NodeAttrs) -> dict[str, Capability]:
    given = attrs.capabilities or {}
    return {key: Capability(value=item.value, enabled=item.enabled) for key, item in given.items()}


def _merged_meta(have: JsonObject, patch: JsonObject | None) -> JsonObject:
    merged = {} if patch is None else _merge(have, patch)
    _check_merged_meta(merged)
    return merged


def _merge(have: Mapping[str, Any], patch: Mapping[str, Any]) -> JsonObject:
    """Source: RFC 7396, section 2."""
    merged = dict(have)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            below = merged.get(key)
            merged[key] = _merge(below if isinstance(below, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def _merged_labels(have: dict[str, str], patch: Mapping[str, str | None] | None) -> dict[str, str]:
    return _bounded("labels", {} if patch is None else _merge(have, patch), LABELS_MAX)


def _bounded(field: str, merged: dict[str, Any], most: int | None) -> dict[str, Any]:
    if most is not None and len(merged) > most:
        raise InvalidInput(field, f"would be {len(merged)} together with those it has, {most} at most")
    return merged


def _check_merged_meta(meta: JsonObject) -> None:
    try:
        check_json_object(meta, field="meta")
    except ValueError as error:
        field, _, problem = str(error).partition(": ")
        raise InvalidInput(field, problem) from error
