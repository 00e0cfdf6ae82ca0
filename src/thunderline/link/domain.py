"""The actions on nodes, each with its accept list and its authorisation; what they do is in `plans`.

Every face of the registry (embedded API, HTTP, links) comes through here. A method checks who asks and what is given,
then hands the writer a plan; the plan decides on the state at its turn in the batch. The accept lists are the types of
`core/inputs.py`, which every face reads its callers' data into.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from thunderline.block.beats import to_heartbeat
from thunderline.block.store import Store
from thunderline.core.errors import (
    ContentRejected,
    Deregistered,
    SessionEnded,
    ShuttingDown,
    StaleIncarnation,
    ThunderlineError,
)
from thunderline.core.ids import NodeId
from thunderline.core.inputs import (
    CapabilityAttrs,
    HeartbeatInput,
    NodeAttrs,
    NodePatch,
    OnlineInput,
    StatusInput,
)
from thunderline.core.logging import get_logger
from thunderline.core.records import BeatStatus, Heartbeat, LinkSession, Node, NodeStatus
from thunderline.core.settings import Settings
from thunderline.link import capability_plans, link_plans, plans
from thunderline.link.actor import DETECTION, Action, Actor, ActorKind, authorise
from thunderline.link.lanes import Lane, Operation
from thunderline.link.liveness import BEAT_SIGNALS, Signal, has_left, observe
from thunderline.link.overlay import Overlay
from thunderline.link.plans import Announced, Ensured, Kept
from thunderline.link.roster import Entry, Roster
from thunderline.link.sentinel import Sentinel
from thunderline.link.uplinks import Dropped, Uplink, Uplinks
from thunderline.link.writer import Writer

log = get_logger(__name__)

V = TypeVar("V")


class BeatListener(Protocol):
    """Who is told what became of a beat that came over a link."""

    def beat_kept(self, seq: int) -> None:
        """The beat is durable. Must not raise."""

    def beat_refused(self, seq: int, error: BaseException) -> None:
        """The beat was not kept, or it is not known; `beat_kept` may still follow. Must not raise."""


class LinkBeat(Operation):
    """A beat of a link on its way to history."""

    __slots__ = ("_beat", "_late_ms", "_leaves", "_listener", "_seq", "_uplink")

    def __init__(self, uplink: Uplink, beat: HeartbeatInput, seq: int, listener: BeatListener, late_ms: int) -> None:
        super().__init__(uplink.actor)
        self._uplink = uplink
        self._beat = beat
        self._seq = seq
        self._listener = listener
        self._late_ms = late_ms
        self._leaves = False

    def plan(self, overlay: Overlay) -> Kept | ThunderlineError:
        node = overlay.node(self._uplink.entry.node.id)
        if node.incarnation != self._uplink.incarnation:
            raise StaleIncarnation(given=self._uplink.incarnation, current=node.incarnation)
        planned = plans.beat(overlay, self._uplink.entry, self._beat, self._late_ms)
        if self._beat.status is BeatStatus.OFFLINE and not self._uplink.leaving:
            after = overlay.node(node.id)
            # Told before the commit is: the link that says goodbye is not one that a goodbye ends.
            self._leaves = self._uplink.leaving = has_left(after.observed_status, after.observed_reason)
        return planned

    def answer(self, result: Any) -> None:
        if isinstance(result, ThunderlineError):
            self._listener.beat_refused(self._seq, result)
        else:
            self._listener.beat_kept(self._seq)

    def fail(self, error: BaseException) -> None:
        if self._leaves:
            self._leaves = self._uplink.leaving = False
        self._listener.beat_refused(self._seq, error)


class NodeDomain:
    """All actions. Each returns after its commit and raises what its plan refused, or what `Writer.submit` does."""

    def __init__(
        self,
        writer: Writer,
        roster: Roster,
        sentinel: Sentinel,
        uplinks: Uplinks,
        store: Store,
        *,
        settings: Settings,
    ) -> None:
        self._writer = writer
        self._uplinks = uplinks
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
        return await self._mutate(lambda overlay: plans.register(overlay, attrs, self._default_interval_ms), actor)

    async def claim_own_node(self, attrs: NodeAttrs, *, actor: Actor) -> Node:
        """The registry's own node as `attrs` say it is now, whatever was known under its name."""
        authorise(actor, Action.CLAIM)
        return await self._mutate(lambda overlay: plans.claim(overlay, attrs, self._default_interval_ms), actor)

    async def update_node(self, node_id: NodeId, patch: NodePatch, *, actor: Actor) -> Node:
        """Apply a merge patch; one that changes nothing makes no event. Raises: UnknownNode, InvalidInput."""
        authorise(actor, Action.UPDATE, node_id=node_id)
        return await self._mutate(
            lambda overlay: plans.update(overlay, node_id, patch, self._default_interval_ms), actor
        )

    async def deregister_node(self, node_id: NodeId, *, force: bool = False, actor: Actor) -> Node:
        """Remove the node; gives its last record. Its name is free at once; its history stays readable by id.

        Raises: UnknownNode; LiveLink when it holds a session and is up, unless forced.
        """
        authorise(actor, Action.DEREGISTER, node_id=node_id)
        return await self._mutate(lambda overlay: plans.deregister(overlay, node_id, force), actor)

    # Capabilities

    async def put_capability(
        self, node_id: NodeId, key: str, attrs: CapabilityAttrs, *, actor: Actor
    ) -> capability_plans.Equipped:
        """The node with this capability; the very same again makes no event. Raises: UnknownNode, InvalidInput."""
        authorise(actor, Action.EQUIP, node_id=node_id)
        return await self._mutate(lambda overlay: capability_plans.put(overlay, node_id, key, attrs), actor)

    async def enable_capability(self, node_id: NodeId, key: str, enabled: bool, *, actor: Actor) -> Node:
        """The node with a capability that it has enabled, or disabled. Raises: UnknownNode, UnknownCapability."""
        authorise(actor, Action.EQUIP, node_id=node_id)
        return await self._mutate(lambda overlay: capability_plans.enable(overlay, node_id, key, enabled), actor)

    async def remove_capability(self, node_id: NodeId, key: str, *, actor: Actor) -> Node:
        """The node without a capability. Raises: UnknownNode, UnknownCapability."""
        authorise(actor, Action.EQUIP, node_id=node_id)
        return await self._mutate(lambda overlay: capability_plans.remove(overlay, node_id, key), actor)

    # Status

    async def mark_node_online(
        self, node_id: NodeId, announcement: OnlineInput | None = None, *, actor: Actor
    ) -> Announced:
        """The node is up. A new `instance` is a new incarnation; a session is opened, or opened again.

        An override stays. Raises: UnknownNode; Conflict when the session belongs to another node; Superseded,
        NameInUse when another process speaks for the node.
        """
        authorise(actor, Action.ANNOUNCE, node_id=node_id)
        announcement = announcement or OnlineInput()
        before = None
        if (entry := self._roster.get(node_id)) is not None:
            self._check_name(entry.node.name, actor)
            if announcement.instance is not None:
                self._uplinks.admit(entry.node, announcement.instance)
            before = entry.node.instance
            self._sentinel.announced(entry)
        known = await self._find_session(announcement)
        try:
            announced = await self._announce(node_id, announcement, known, actor)
        except ContentRejected:
            # The roster forgets closed sessions: this one may have been opened and closed since it was looked up.
            found = await self._find_session(announcement)
            if found is None or found == known:
                raise
            announced = await self._announce(node_id, announcement, found, actor)
        if before is not None and before != announced.node.instance:
            self._uplinks.superseded(node_id, before)
        return announced

    async def _announce(
        self, node_id: NodeId, announcement: OnlineInput, known: LinkSession | None, actor: Actor
    ) -> Announced:
        return await self._mutate(lambda overlay: plans.announce(overlay, node_id, announcement, known=known), actor)

    async def _find_session(self, announcement: OnlineInput) -> LinkSession | None:
        """The session that is announced, as the store has it; None when the roster knows it, or nobody does."""
        session_id = announcement.session.session_id if announcement.session else None
        if session_id is None or self._roster.open_session(session_id) is not None:
            return None
        return await self._store.find_session(session_id)

    async def mark_node_status(self, node_id: NodeId, wanted: StatusInput, *, actor: Actor) -> Node:
        """Set a status by hand: an override if an operator asks, the observed status if the node speaks of itself.

        Repeating it makes no event. Raises: UnknownNode.
        """
        authorise(actor, Action.MARK, node_id=node_id)
        status = wanted.node_status
        if actor.kind is ActorKind.OPERATOR:
            reason = wanted.reason or f"marked {status} by {actor.name}"
            return await self._mutate(lambda overlay: plans.override(overlay, node_id, status, reason, actor), actor)
        if status is not NodeStatus.OFFLINE and (entry := self._roster.get(node_id)) is not None:
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
        authorise(actor, Action.LIFT, node_id=node_id)
        return await self._mutate(lambda overlay: plans.lift(overlay, node_id), actor)

    def convict(self, node_id: NodeId, signal: Signal) -> asyncio.Future[None]:
        """Queue what `signal` (silence) means for the node, unless it is heard before its turn comes."""
        authorise(DETECTION, Action.CONVICT, node_id=node_id)

        def plan(overlay: Overlay) -> None:
            node, entry = overlay.find(node_id), self._roster.get(node_id)
            if node is not None and entry is not None and self._sentinel.is_overdue(entry):
                # Nothing can come over a link that broke: its end explains the silence, also before the grace is over.
                seen = Signal.LINK_LOST if signal is Signal.SILENT and self._uplinks.is_cut(node_id) else signal
                plans.set_observed(overlay, node, observe(node.observed_status, node.observed_reason, seen))

        return self._writer.submit(Lane.OWN, plan, actor=DETECTION)

    # Links

    def resume_link(self, uplink: Uplink, session_id: str, secret: str, *, name: str, instance: str) -> Node | None:
        """Let the link go on over this connection as if it had not broken, and write nothing; None: it cannot.

        It can within the grace, or while the connection it had still seems to stand, and is a sign of life.
        """
        entry = self._uplinks.resumable(session_id, secret, name=name, instance=instance)
        if entry is None:
            return None
        self._uplinks.replace(session_id)
        self._open(uplink, entry, session_id, entry.node, instance)
        self._sentinel.heard(entry)
        return entry.node

    async def open_link(self, uplink: Uplink, attrs: NodeAttrs, *, instance: str, session_id: str) -> Node:
        """The handshake of a new link: the node ensured, up, and linked by a session of that id, in one commit.

        A process that was not known becomes the node's; its predecessor's links end. Raises: Mismatch, InvalidInput,
        Superseded, NameInUse, NotPermitted for the registry's own name; Deregistered, SessionEnded when the same commit
        undid it; ShuttingDown, and what `Writer.submit` does.
        """
        actor = Actor(kind=ActorKind.NODE, name=attrs.name)
        authorise(actor, Action.REGISTER)
        self._check_name(attrs.name, actor)
        if self._uplinks.draining:
            raise ShuttingDown
        known = self._roster.named(attrs.name)
        if known is not None and known.node.instance == instance:
            self._sentinel.heard(known)
        self._uplinks.expect(session_id)
        try:
            opened = await self._mutate(
                lambda overlay: link_plans.open_link(
                    overlay,
                    attrs,
                    instance=instance,
                    session_id=session_id,
                    holder=self._uplinks.holder,
                    admit=self._uplinks.admit,
                    default_interval_ms=self._default_interval_ms,
                ),
                actor,
            )
        except BaseException:
            self._uplinks.unexpect(session_id)
            raise
        node = opened.node
        if opened.before is not None and opened.before != instance:
            self._uplinks.superseded(node.id, opened.before)
        entry = self._roster.get(node.id)
        if entry is None or self._roster.open_session(session_id) is None:
            # Something else in the same commit has already ended it: a removal, or another process.
            self._uplinks.unexpect(session_id)
            raise Deregistered(node.name) if entry is None else SessionEnded(session_id)
        # As it is now: the same commit may have changed the node once more.
        self._open(uplink, entry, session_id, entry.node, instance)
        self._sentinel.announced(entry)
        return entry.node

    def _open(self, uplink: Uplink, entry: Entry, session_id: str, node: Node, instance: str) -> None:
        uplink.entry = entry
        uplink.actor = Actor(kind=ActorKind.NODE, name=node.name, node_id=node.id)
        authorise(uplink.actor, Action.BEAT, node_id=node.id)
        uplink.session_id = session_id
        uplink.instance = instance
        uplink.incarnation = node.incarnation
        uplink.interval_ms = node.heartbeat_interval_ms
        self._uplinks.opened(uplink)

    def hear_link(self, uplink: Uplink) -> None:
        """Count a frame as a sign of life."""
        if uplink.entry.node.incarnation == uplink.incarnation:
            self._sentinel.heard(uplink.entry)

    def take_beat(self, uplink: Uplink, beat: HeartbeatInput, seq: int, listener: BeatListener, late_ms: int) -> None:
        """Queue a beat that came over a link, and was heard; `listener` is told what became of `seq`.

        Raises: StaleIncarnation, Overloaded, StoreUnavailable, ShuttingDown.
        """
        if beat.incarnation is not None and beat.incarnation != uplink.incarnation:
            raise StaleIncarnation(given=beat.incarnation, current=uplink.incarnation)
        self._writer.put(Lane.HEARTBEATS, LinkBeat(uplink, beat, seq, listener, late_ms))

    async def leave_link(self, uplink: Uplink, reason: str | None) -> None:
        """The node's goodbye: its link's session ended, and with its last one the node gone."""
        uplink.leaving, uplink.leaving_reason = True, reason
        await self._mutate(lambda overlay: self._leave(overlay, uplink), uplink.actor)

    def _leave(self, overlay: Overlay, uplink: Uplink) -> None:
        is_last = not self._has_other(overlay, uplink)
        link_plans.leave(overlay, uplink.session_id, reason=uplink.leaving_reason, is_last=is_last)

    def _has_other(self, overlay: Overlay, uplink: Uplink) -> bool:
        return self._uplinks.has_other(overlay.open_sessions(uplink.entry.node.id), uplink.session_id)

    def drop_link(self, uplink: Uplink) -> None:
        """The connection is gone. Within the grace the node may resume; then `lose_link` follows."""
        if self._uplinks.drop(uplink):
            self._sentinel.link_dropped(uplink.session_id)

    def lose_link(self, session_id: str) -> asyncio.Future[Dropped | None]:
        """Queue what the end of the grace means for the link that broke, unless it was resumed."""
        authorise(DETECTION, Action.CONVICT)

        def plan(overlay: Overlay) -> Dropped | None:
            if (dropped := self._uplinks.give_up(session_id)) is None:
                return None
            entry = dropped.uplink.entry
            if dropped.uplink.leaving:
                self._leave(overlay, dropped.uplink)
                return dropped
            heard_since = entry.heard_at is not None and entry.heard_at > dropped.at
            is_alive = heard_since or self._has_other(overlay, dropped.uplink)
            link_plans.lose_link(overlay, session_id, is_alive=is_alive)
            return dropped

        def settled(done: asyncio.Future[Dropped | None]) -> None:
            if not _failed(done) and (dropped := done.result()) is not None:
                self._uplinks.ended(dropped)

        done = self._writer.submit(Lane.OWN, plan, actor=DETECTION)
        done.add_done_callback(settled)
        return done

    def reap_session(self, session_id: str) -> None:
        """Queue the end of a session whose connection is gone, if it still is when its turn comes."""
        try:
            done = self._writer.submit(Lane.OWN, lambda overlay: link_plans.reap(overlay, session_id), actor=DETECTION)
        except ThunderlineError as error:
            # The next commit about its node finds it again.
            log.warning("session not reaped", session_id=session_id, error=str(error))
        else:
            done.add_done_callback(_failed)

    def drain_links(self) -> None:
        """The process is about to end its links: no node is the worse for that."""
        self._uplinks.draining = True

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
        return self._writer.submit(Lane.HEARTBEATS, lambda overlay: plans.beat(overlay, entry, beat), actor=actor)

    async def get_recent_heartbeats(
        self, node_id: NodeId | None, *, since_ms: int, until_ms: int, limit: int
    ) -> list[Heartbeat]:
        """The newest `limit` beats of a node, also a deregistered one (None: of all), in ascending time."""
        beats = await self._store.read_beats(node_id=node_id, since_ms=since_ms, until_ms=until_ms, limit=limit)
        return [to_heartbeat(beat, node_id=node_id) for beat in beats]

    def _check_name(self, name: str, actor: Actor) -> None:
        """Return unless somebody else would speak for the registry's own node. Raises: NotPermitted."""
        if name == self._uplinks.holder:
            authorise(actor, Action.CLAIM)

    @property
    def _default_interval_ms(self) -> int:
        return round(self._settings.heartbeat_interval_s * 1000)

    async def _mutate(self, plan: Callable[[Overlay], V], actor: Actor) -> V:
        return await self._writer.submit(Lane.MUTATIONS, plan, actor=actor)


def _failed(done: asyncio.Future[Any]) -> bool:
    """Whether it did; looks, so that the error does not count as one that nobody asked for."""
    return done.cancelled() or done.exception() is not None
