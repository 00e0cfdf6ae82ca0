"""The actions on nodes and groups, each with its accept list and its authorisation; what they do is in `plans`.

Every face of the registry (embedded API, HTTP, links) comes through here. A method checks who asks and what is given,
then hands the writer a plan; the plan decides on the state at its turn in the batch. The accept lists are the types of
`core/inputs.py`, which every face reads its callers' data into.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Self, TypeVar

from msgspec import UNSET

from thunderline.block.store import Store
from thunderline.core.errors import (
    ContentRejected,
    InvalidInput,
    SessionTaken,
    StaleIncarnation,
    StaleSequence,
    UnknownSession,
)
from thunderline.core.ids import GroupId, LinkId, NodeId, is_uuid
from thunderline.core.inputs import (
    CapabilityAttrs,
    GroupAttrs,
    GroupPatch,
    HeartbeatInput,
    NewSession,
    NodeAttrs,
    NodePatch,
    OnlineInput,
    SessionPatch,
    StatusInput,
)
from thunderline.core.logging import get_logger
from thunderline.core.records import (
    OPEN_SESSION_STATUSES,
    Heartbeat,
    LinkSession,
    Node,
    NodeGroup,
    NodeStatus,
    SessionStatus,
)
from thunderline.core.settings import Settings
from thunderline.link import capability_plans, group_plans, plans, session_plans, token_plans
from thunderline.link.access import Access
from thunderline.link.actor import Action, Actor, ActorKind
from thunderline.link.conditions import Condition
from thunderline.link.history import HeartbeatSeries, History
from thunderline.link.lanes import Lane
from thunderline.link.liveness import BEAT_SIGNALS, Signal
from thunderline.link.open_sessions import SessionFilter
from thunderline.link.overlay import Overlay
from thunderline.link.plans import Announced, Ensured, Kept
from thunderline.link.roster import Entry, Roster
from thunderline.link.sentinel import Sentinel
from thunderline.link.session_plans import Opened
from thunderline.link.uplinks import Uplinks
from thunderline.link.writer import Writer

log = get_logger(__name__)

V = TypeVar("V")


class NodeDomain:
    """All actions. Each returns after its commit and raises what its plan refused, or what `Writer.submit` does."""

    def __init__(
        self,
        writer: Writer,
        roster: Roster,
        sentinel: Sentinel,
        uplinks: Uplinks,
        store: Store,
        history: History,
        access: Access,
        *,
        settings: Settings,
    ) -> None:
        self._writer = writer
        self._uplinks = uplinks
        self._roster = roster
        self._sentinel = sentinel
        self._store = store
        self._history = history
        self._access = access
        self._settings = settings
        self._conditions: tuple[Condition, ...] = ()

    def under(self, condition: Condition) -> Self:
        """These actions, the plan of each laid in `condition`, within those that hold already. Beats know none."""
        view = copy.copy(self)
        view._conditions = (condition, *self._conditions)
        return view

    # Registration

    async def register_node(self, attrs: NodeAttrs, *, actor: Actor) -> Ensured:
        """Ensure that a node of this name exists.

        Of a known node, what is absent so far is filled in and all else stays. Raises: Mismatch when the name is known
        with another role or domain.
        """
        self._access.authorise(actor, Action.REGISTER, name=attrs.name)
        return await self._mutate(self.plan_registration(attrs, actor), actor)

    def plan_registration(self, attrs: NodeAttrs, actor: Actor) -> Callable[[Overlay], Ensured]:
        """What registering the node does, as a plan."""

        def plan(overlay: Overlay) -> Ensured:
            given = token_plans.attrs_for(overlay, actor, attrs)
            return plans.register(overlay, given, self._settings.heartbeat_interval_ms)

        return plan

    async def claim_own_node(self, attrs: NodeAttrs, *, actor: Actor) -> Node:
        """The registry's own node as `attrs` say it is now, whatever was known under its name."""
        self._access.authorise(actor, Action.CLAIM)
        return await self._mutate(
            lambda overlay: plans.claim(overlay, attrs, self._settings.heartbeat_interval_ms), actor
        )

    async def update_node(self, node_id: NodeId, patch: NodePatch, *, actor: Actor) -> Node:
        """Apply a merge patch; one that changes nothing makes no event. Raises: UnknownNode, InvalidInput."""
        self._access.authorise(actor, Action.UPDATE, node_id=node_id)
        if patch.role is not UNSET or patch.domain is not UNSET:
            self._access.authorise(actor, Action.PLACE, node_id=node_id)
        return await self._mutate(
            lambda overlay: plans.update(overlay, node_id, patch, self._settings.heartbeat_interval_ms), actor
        )

    async def deregister_node(self, node_id: NodeId, *, force: bool = False, actor: Actor) -> Node:
        """Remove the node; gives its last record. Its name is free at once; its history stays readable by id.

        Forced, its credential is revoked with it. Raises: UnknownNode; LiveLink when it holds a session and is up,
        unless forced.
        """
        self._access.authorise(actor, Action.DEREGISTER, node_id=node_id)

        def plan(overlay: Overlay) -> Node:
            node = plans.deregister(overlay, node_id, force)
            if force:
                token_plans.revoke_credential(overlay, node.name)
            return node

        return await self._mutate(plan, actor)

    # Capabilities

    async def put_capability(
        self, node_id: NodeId, key: str, attrs: CapabilityAttrs, *, actor: Actor
    ) -> capability_plans.Equipped:
        """The node with this capability; the very same again makes no event. Raises: UnknownNode, InvalidInput."""
        self._access.authorise(actor, Action.EQUIP, node_id=node_id)
        return await self._mutate(lambda overlay: capability_plans.put(overlay, node_id, key, attrs), actor)

    async def enable_capability(self, node_id: NodeId, key: str, enabled: bool, *, actor: Actor) -> Node:
        """The node with a capability that it has enabled, or disabled. Raises: UnknownNode, UnknownCapability."""
        self._access.authorise(actor, Action.EQUIP, node_id=node_id)
        return await self._mutate(lambda overlay: capability_plans.enable(overlay, node_id, key, enabled), actor)

    async def remove_capability(self, node_id: NodeId, key: str, *, actor: Actor) -> Node:
        """The node without a capability. Raises: UnknownNode, UnknownCapability."""
        self._access.authorise(actor, Action.EQUIP, node_id=node_id)
        return await self._mutate(lambda overlay: capability_plans.remove(overlay, node_id, key), actor)

    # Groups

    async def create_group(self, attrs: GroupAttrs, *, actor: Actor) -> group_plans.Created:
        """Ensure that a group of this name exists. Raises: Mismatch when it does with other values; InvalidInput."""
        self._access.authorise(actor, Action.GROUP)
        return await self._mutate(lambda overlay: group_plans.create(overlay, attrs), actor)

    async def update_group(self, group_id: GroupId, patch: GroupPatch, *, actor: Actor) -> NodeGroup:
        """Apply a merge patch; one that changes nothing makes no event.

        Raises: UnknownGroup; GroupCycle when the group would be inside itself; InvalidInput.
        """
        self._access.authorise(actor, Action.GROUP)
        return await self._mutate(lambda overlay: group_plans.update(overlay, group_id, patch), actor)

    async def remove_group(self, group_id: GroupId, *, force: bool = False, actor: Actor) -> NodeGroup:
        """Delete the group; gives its last record. Forced, its members leave it and the groups in it move up.

        Raises: UnknownGroup; GroupInUse when it has members or groups in it, unless forced.
        """
        self._access.authorise(actor, Action.GROUP)
        return await self._mutate(lambda overlay: group_plans.remove(overlay, group_id, force), actor)

    async def join_group(self, node_id: NodeId, group_id: GroupId, *, actor: Actor) -> group_plans.Joined:
        """The node as a member; one that it is makes no event. Raises: UnknownNode, UnknownGroup, InvalidInput."""
        self._access.authorise(actor, Action.GROUP)
        return await self._mutate(lambda overlay: group_plans.join(overlay, node_id, group_id), actor)

    async def leave_group(self, node_id: NodeId, group_id: GroupId, *, actor: Actor) -> Node:
        """The node out of the group. Raises: UnknownNode, UnknownGroup, UnknownMembership."""
        self._access.authorise(actor, Action.GROUP)
        return await self._mutate(lambda overlay: group_plans.leave(overlay, node_id, group_id), actor)

    # Status

    async def mark_node_online(
        self, node_id: NodeId, announcement: OnlineInput | None = None, *, actor: Actor
    ) -> Announced:
        """The node is up. A new `instance` is a new incarnation; a session is opened, or opened again.

        An override stays. Raises: UnknownNode; SessionTaken when the session belongs to another node; Superseded,
        NameInUse when another process speaks for the node.
        """
        self._access.authorise(actor, Action.ANNOUNCE, node_id=node_id)
        announcement = announcement or OnlineInput()
        before = None
        if (entry := self._roster.get(node_id)) is not None:
            if entry.node.name == self._uplinks.holder:
                self._access.authorise(actor, Action.CLAIM, node_id=node_id)
            self._access.still(actor)
            if announcement.instance is not None:
                self._uplinks.admit(entry.node, announcement.instance)
            before = entry.node.instance
            self._sentinel.announced(entry)
        session_id = announcement.session.session_id if announcement.session else None
        announced = await self._with_session(
            session_id, lambda overlay, known: plans.announce(overlay, node_id, announcement, known=known), actor
        )
        if before is not None and before != announced.node.instance:
            self._uplinks.superseded(node_id, before)
        return announced

    async def mark_node_status(self, node_id: NodeId, wanted: StatusInput, *, actor: Actor) -> Node:
        """Set a status by hand: an override if an operator asks, the observed status if the node speaks of itself.

        Repeating it makes no event. Raises: UnknownNode.
        """
        self._access.authorise(actor, Action.MARK, node_id=node_id)
        status = wanted.node_status
        if actor.kind is ActorKind.OPERATOR:
            reason = wanted.reason or f"marked {status} by {actor.name}"
            return await self._mutate(lambda overlay: plans.override(overlay, node_id, status, reason, actor), actor)
        if status is not NodeStatus.OFFLINE and (entry := self._roster.get(node_id)) is not None:
            self._access.still(actor)
            self._sentinel.announced(entry)
        return await self._mutate(
            lambda overlay: plans.set_observed(overlay, overlay.node(node_id), plans.stated(status, wanted.reason)),
            actor,
        )

    async def mark_node_offline(self, node_id: NodeId, reason: str | None = None, *, actor: Actor) -> Node:
        """Take the node down: by an operator an override, by the node itself its goodbye. Raises: UnknownNode."""
        return await self.mark_node_status(node_id, StatusInput(status="offline", reason=reason), actor=actor)

    async def clear_override(self, node_id: NodeId, *, actor: Actor) -> Node:
        """Let the observed status show again; without an override nothing happens. Raises: UnknownNode."""
        self._access.authorise(actor, Action.LIFT, node_id=node_id)
        return await self._mutate(lambda overlay: plans.lift(overlay, node_id), actor)

    # Link sessions

    async def create_link_session(self, wanted: NewSession, *, actor: Actor) -> Opened:
        """The session open: between two nodes, or a node and the registry. Its `session_id` known, it is opened again.

        Raises: UnknownNode; InvalidInput; SessionTaken when it links others; EndNotUp.
        """
        node_id = self._roster.find(wanted.node_id).node.id
        remote_id = None if wanted.remote_node_id is None else self._roster.find(wanted.remote_node_id).node.id
        if remote_id == node_id:
            raise InvalidInput("remote_node_id", "is the node itself; a session links two")
        self._authorise_session(actor, (node_id,) if remote_id is None else (node_id, remote_id))
        reason = wanted.reason or f"{session_plans.REASON_OPENED} by {actor.name}"
        return await self._with_session(
            wanted.session_id,
            lambda overlay, known: session_plans.open_session(
                overlay,
                overlay.node(node_id),
                wanted,
                remote=None if remote_id is None else overlay.node(remote_id),
                status=SessionStatus(wanted.status),
                reason=reason,
                known=known,
            ),
            actor,
        )

    async def update_link_session(self, ref: str, patch: SessionPatch, *, actor: Actor) -> LinkSession:
        """The session with a merge patch applied: its figures, or what has become of it.

        Raises: UnknownSession; SessionOver when it is closed or failed; EndNotUp; InvalidInput.
        """
        session = await self.get_link_session(ref)
        self._authorise_session(actor, session.ends)

        def plan(overlay: Overlay, known: LinkSession | None) -> LinkSession:
            found = session_plans.find(overlay, session.session_id, known)
            return session_plans.change(overlay, found, patch, by=actor.name)

        return await self._with_session(session.session_id, plan, actor)

    async def close_link_session(self, ref: str, *, reason: str | None = None, actor: Actor) -> LinkSession:
        """The session, closed. Raises: UnknownSession, also when it is closed already."""
        patch = SessionPatch(status="closed", reason=reason)
        session = self._open_session(ref)
        if session is None:
            raise UnknownSession(ref)
        self._authorise_session(actor, session.ends)

        def plan(overlay: Overlay) -> LinkSession:
            found = session_plans.find(overlay, session.session_id, None)
            if found.status not in OPEN_SESSION_STATUSES:
                raise UnknownSession(ref)
            return session_plans.change(overlay, found, patch, by=actor.name)

        return await self._mutate(plan, actor)

    async def get_link_session(self, ref: str) -> LinkSession:
        """The session with this id, or this `session_id`, open or not. Raises: UnknownSession."""
        session = self._open_session(ref)
        if session is None and is_uuid(ref):
            session = await self._store.get_session(LinkId(ref.lower()))
        session = session or await self._store.find_session(ref)
        if session is None:
            raise UnknownSession(ref)
        return session

    def list_active_sessions(
        self, wanted: SessionFilter, *, after: LinkId | None = None, limit: int | None = None
    ) -> tuple[list[LinkSession], bool]:
        """At most `limit` open sessions that match, with an id beyond `after`, by id; and whether there are more."""
        found: list[LinkSession] = []
        for session in self._roster.open_sessions(wanted, after=after):
            if limit is not None and len(found) >= limit:
                return found, True
            found.append(session)
        return found, False

    def _open_session(self, ref: str) -> LinkSession | None:
        return self._roster.sessions.get(LinkId(ref.lower())) or self._roster.sessions.named(ref)

    def _authorise_session(self, actor: Actor, ends: tuple[NodeId, ...]) -> None:
        """A node changes the sessions of which it is an end. Raises: NotPermitted."""
        own = actor.node_id is not None and actor.node_id in ends
        self._access.authorise(actor, Action.LINK, node_id=actor.node_id if own else ends[0])

    async def _with_session(
        self, session_id: str | None, plan: Callable[[Overlay, LinkSession | None], V], actor: Actor
    ) -> V:
        """Commit `plan`, which is given the session of that name as the store has it, where the roster does not."""
        if session_id is not None:
            other = self._roster.sessions.get(LinkId(session_id.lower()))
            if other is not None and other.session_id != session_id:
                # It would come between that session and those who ask for it by its id.
                raise SessionTaken(session_id)
        known = await self._closed_session(session_id)
        try:
            return await self._mutate(lambda overlay: plan(overlay, known), actor)
        except ContentRejected:
            # The roster forgets closed sessions: this one may have been opened and closed since it was looked up.
            found = await self._closed_session(session_id)
            if found is None or found == known:
                raise
            return await self._mutate(lambda overlay: plan(overlay, found), actor)

    async def _closed_session(self, session_id: str | None) -> LinkSession | None:
        if session_id is None or self._roster.sessions.named(session_id) is not None:
            return None
        return await self._store.find_session(session_id)

    # Heartbeats

    def update_heartbeat(self, entry: Entry, beat: HeartbeatInput, *, actor: Actor) -> asyncio.Future[Kept]:
        """Count the beat as a sign of life now, and keep it in history with the next commit.

        Raises at once: StaleIncarnation, Overloaded, StoreUnavailable, ShuttingDown; the last three after the sign of
        life was counted. The future raises: UnknownNode, StaleIncarnation, StaleSequence.
        """
        self.hear(entry, beat, actor=actor)
        return self.keep_beat(entry, beat, actor=actor)

    def keep_beat(self, entry: Entry, beat: HeartbeatInput, *, actor: Actor) -> asyncio.Future[Kept]:
        """Keep a beat that `hear` has counted. Raises as `update_heartbeat` does after that."""
        return self._writer.submit(Lane.HEARTBEATS, self.plan_beat(entry, beat), actor=actor)

    def plan_beat(self, entry: Entry, beat: HeartbeatInput) -> Callable[[Overlay], Kept | StaleSequence]:
        """What keeping the beat does, as a plan."""
        return lambda overlay: plans.beat(overlay, entry, beat, self._sentinel.health)

    def hear(self, entry: Entry, beat: HeartbeatInput, *, actor: Actor) -> None:
        """Count the beat as a sign of life, and nothing else. Raises: NotPermitted, StaleIncarnation."""
        node = entry.node
        self._access.authorise(actor, Action.BEAT, node_id=node.id)
        if beat.incarnation is not None and beat.incarnation != node.incarnation:
            raise StaleIncarnation(given=beat.incarnation, current=node.incarnation)
        if BEAT_SIGNALS[beat.status] is not Signal.GOODBYE:
            self._sentinel.heard(entry)

    async def get_recent_heartbeats(
        self, ref: str | None, *, minutes: float, limit: int, resolution_s: int | None = None
    ) -> list[Heartbeat]:
        """See `History.recent_heartbeats`."""
        return await self._history.recent_heartbeats(ref, minutes=minutes, limit=limit, resolution_s=resolution_s)

    async def get_heartbeat_series(self, ref: str, *, minutes: float, resolution_s: int | None) -> HeartbeatSeries:
        """See `History.series`."""
        return await self._history.series(ref, minutes=minutes, resolution_s=resolution_s)

    async def _mutate(self, plan: Callable[[Overlay], V], actor: Actor) -> V:
        for condition in self._conditions:
            plan = condition.around(plan)
        return await self._writer.submit(Lane.MUTATIONS, plan, actor=actor, audited=True)
