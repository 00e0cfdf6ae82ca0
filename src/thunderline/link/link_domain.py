"""The actions on live links: a node's handshake, what it sends, its goodbye, and the end of its connection.

What follows from a connection that ended is up to `detection`; the records of sessions are `session_plans`' matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from thunderline.block.store import Store
from thunderline.core.access import Token, TokenKind
from thunderline.core.errors import (
    Deregistered,
    JoinRefused,
    NameInUse,
    SessionEnded,
    ShuttingDown,
    StaleIncarnation,
    ThunderlineError,
    Unauthenticated,
)
from thunderline.core.ids import LinkId, TokenId
from thunderline.core.inputs import HeartbeatInput, NodeAttrs
from thunderline.core.records import BeatStatus, Node
from thunderline.core.settings import Settings
from thunderline.link import link_plans, plans, report_plans, token_plans
from thunderline.link.access import Access
from thunderline.link.actor import DETECTION, NODE_SCOPES, Action, Actor, ActorKind
from thunderline.link.detection import plan_leave
from thunderline.link.health import Health
from thunderline.link.lanes import Lane, Operation
from thunderline.link.liveness import has_left
from thunderline.link.overlay import Overlay
from thunderline.link.plans import Kept
from thunderline.link.report_plans import SeenSession
from thunderline.link.roster import Entry, Roster
from thunderline.link.sentinel import Sentinel
from thunderline.link.token_plans import Issued
from thunderline.link.uplinks import Uplink, Uplinks
from thunderline.link.writer import Writer

JOIN_AGAIN_S: Final = 5.0
"""After which a process that joined, and lost its connection before it heard of it, tries again: it takes as long until
that connection is known to be lost, or longer."""


class BeatListener(Protocol):
    """Who is told what became of a beat that came over a link."""

    def beat_kept(self, seq: int) -> None:
        """The beat is durable. Must not raise."""

    def beat_refused(self, seq: int, error: BaseException) -> None:
        """The beat was not kept, or it is not known; `beat_kept` may still follow. Must not raise."""


class LinkBeat(Operation):
    """A beat of a link on its way to history."""

    __slots__ = ("_beat", "_health", "_late_ms", "_leaves", "_listener", "_seq", "_uplink")

    def __init__(
        self,
        uplink: Uplink,
        beat: HeartbeatInput,
        seq: int,
        listener: BeatListener,
        *,
        late_ms: int,
        health: Health,
    ) -> None:
        super().__init__(uplink.actor)
        self._uplink = uplink
        self._beat = beat
        self._seq = seq
        self._listener = listener
        self._late_ms = late_ms
        self._health = health
        self._leaves = False

    def plan(self, overlay: Overlay) -> Kept | ThunderlineError:
        node = overlay.node(self._uplink.entry.node.id)
        if node.incarnation != self._uplink.incarnation:
            raise StaleIncarnation(given=self._uplink.incarnation, current=node.incarnation)
        planned = plans.beat(overlay, self._uplink.entry, self._beat, self._health, self._late_ms)
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


class LinkDomain:
    """All actions on links of this process. Those that write raise what `Writer.submit` does."""

    def __init__(
        self,
        writer: Writer,
        roster: Roster,
        sentinel: Sentinel,
        uplinks: Uplinks,
        store: Store,
        access: Access,
        *,
        settings: Settings,
    ) -> None:
        self._access = access
        self._store = store
        self._writer = writer
        self._roster = roster
        self._sentinel = sentinel
        self._uplinks = uplinks
        self._settings = settings

    def resume(
        self, uplink: Uplink, session_id: str, secret: str, *, name: str, instance: str, token: Token | None = None
    ) -> Node | None:
        """Let the link go on over this connection as if it had not broken, and write nothing; None: it cannot.

        It can within the grace, or while the connection it had still seems to stand, and is a sign of life. Not by a
        join token, whatever it was opened with. Raises: NotPermitted, TokenRevoked, TokenExpired.
        """
        entry = self._uplinks.resumable(session_id, secret, name=name, instance=instance)
        if entry is None or (token is not None and token.kind is TokenKind.JOIN):
            return None
        caller = self._caller(name, token, uplink)
        self._uplinks.replace(session_id)
        self._open(uplink, entry, session_id, entry.node, instance, caller)
        self._uplinks.resumed_links += 1
        self._sentinel.heard(entry)
        return entry.node

    async def open(
        self, uplink: Uplink, attrs: NodeAttrs, *, instance: str, session_id: str, token: Token | None = None
    ) -> Node:
        """The handshake of a new link: the node ensured, up, and linked by a session of that id, in one commit.

        A process that was not known becomes the node's; its predecessor's links end. `token` is what the peer showed,
        None where none is needed; for a join token the same commit enrols the node, and `uplink.credential` is what it
        gets. Raises: Mismatch, InvalidInput, Superseded, NameInUse, JoinRefused, Unauthenticated; NotPermitted, also
        for the registry's own name; Deregistered, SessionEnded when the same commit undid it; ShuttingDown, and what
        `Writer.submit` does.
        """
        joins = token is not None and token.kind is TokenKind.JOIN
        actor = self._joiner(attrs.name, token, uplink) if joins else self._caller(attrs.name, token, uplink)
        if attrs.name == self._uplinks.holder:
            self._access.authorise(actor, Action.CLAIM, name=attrs.name)
        if self._uplinks.draining:
            raise ShuttingDown
        known = self._roster.named(attrs.name)
        if known is not None and known.node.instance == instance and not joins:
            self._sentinel.heard(known)
        self._uplinks.expect(session_id)

        def plan(overlay: Overlay) -> tuple[link_plans.Opened, Issued | None]:
            issued = None
            before = overlay.named(attrs.name)
            if token is not None and token.kind is TokenKind.JOIN:
                may_retry = self._may_join_again(overlay, token.id, attrs.name, instance)
                issued, given = token_plans.enrol(overlay, token.id, attrs, may_retry=may_retry)
            else:
                given = token_plans.attrs_for(overlay, actor, attrs)
            since = overlay.savepoint()
            opened = link_plans.open_link(
                overlay,
                given,
                instance=instance,
                session_id=session_id,
                holder=self._uplinks.holder,
                admit=self._uplinks.admit,
                default_interval_ms=self._settings.heartbeat_interval_ms,
            )
            if before is None:
                overlay.note_change(since)  # a node that comes back is no news to auditors
            return opened, issued

        try:
            opened, issued = await self._writer.submit(Lane.MUTATIONS, plan, actor=actor)
        except BaseException as error:
            self._uplinks.unexpect(session_id)
            if isinstance(error, JoinRefused):
                self._access.refusals.note(error, action="join", actor=actor, subject=attrs.name)
            raise
        if issued is not None:
            uplink.credential = issued.text
            actor = msgspec.structs.replace(actor, token_id=issued.token.id)
        try:
            self._access.still(actor)
        except Unauthenticated:
            # Revoked in the same commit: nobody holds the session that it opened.
            self._uplinks.unexpect(session_id)
            await self._writer.submit(Lane.OWN, lambda overlay: link_plans.reap(overlay, session_id), actor=DETECTION)
            raise
        node = opened.node
        if opened.before is not None and opened.before != instance:
            self._uplinks.superseded(node.id, opened.before)
        entry = self._roster.get(node.id)
        if entry is None or self._roster.sessions.named(session_id) is None:
            # Something else in the same commit has already ended it: a removal, or another process.
            self._uplinks.unexpect(session_id)
            raise Deregistered(node.name) if entry is None else SessionEnded(session_id)
        # As it is now: the same commit may have changed the node once more.
        self._open(uplink, entry, session_id, entry.node, instance, actor)
        self._uplinks.opened_links += 1
        self._sentinel.announced(entry)
        return entry.node

    def _caller(self, name: str, token: Token | None, uplink: Uplink) -> Actor:
        """Who opens the link of the node of that name. Raises: NotPermitted, TokenRevoked, TokenExpired."""
        if token is None:
            caller = Actor(kind=ActorKind.NODE, name=name, scopes=NODE_SCOPES, address=uplink.address)
        else:
            self._access.check(token)
            caller = self._access.actor_of(token, address=uplink.address)
        self._access.authorise(caller, Action.REGISTER, name=name)
        return caller

    def _joiner(self, name: str, token: Token | None, uplink: Uplink) -> Actor:
        # Of no scope: the plan looks at the join token itself.
        return Actor(
            kind=ActorKind.NODE, name=name, token_id=None if token is None else token.id, address=uplink.address
        )

    def _may_join_again(self, overlay: Overlay, join_id: TokenId, name: str, instance: str) -> bool:
        """Whether this process was enrolled and does not know it: the answer was lost with its connection.

        Raises: NameInUse where that connection seems to stand still.
        """
        node, credential = overlay.named(name), overlay.credential_of(name)
        if node is None or credential is None or node.instance != instance or credential.joined_by != join_id:
            return False
        if self._roster.tokens.is_used(credential.id):
            return False
        if self._uplinks.of_node(node.id):
            raise NameInUse(name, retry_after_s=JOIN_AGAIN_S)
        return True

    def _open(self, uplink: Uplink, entry: Entry, session_id: str, node: Node, instance: str, caller: Actor) -> None:
        uplink.entry = entry
        uplink.actor = Actor(
            kind=ActorKind.NODE,
            name=node.name,
            scopes=NODE_SCOPES,
            node_id=node.id,
            token_id=caller.token_id,
            address=caller.address,
        )
        uplink.hold = self._access.hold(uplink.actor, uplink.end)
        uplink.session_id = session_id
        uplink.instance = instance
        uplink.incarnation = node.incarnation
        uplink.interval_ms = self._sentinel.grant_ms(entry)
        self._uplinks.opened(uplink)

    def hear(self, uplink: Uplink) -> None:
        """Count a frame as a sign of life."""
        entry = uplink.entry
        if entry.node.incarnation == uplink.incarnation:
            self._sentinel.heard(entry)
            if entry.interval_ms != uplink.interval_ms:
                self._uplinks.pace(uplink)

    def take_beat(self, uplink: Uplink, beat: HeartbeatInput, seq: int, listener: BeatListener, late_ms: int) -> None:
        """Queue a beat that came over a link, and was heard; `listener` is told what became of `seq`.

        Raises: StaleIncarnation, Overloaded, StoreUnavailable, ShuttingDown.
        """
        if beat.incarnation is not None and beat.incarnation != uplink.incarnation:
            raise StaleIncarnation(given=beat.incarnation, current=uplink.incarnation)
        health = self._sentinel.health
        self._writer.put(Lane.HEARTBEATS, LinkBeat(uplink, beat, seq, listener, late_ms=late_ms, health=health))

    async def report(self, uplink: Uplink, seen: Sequence[SeenSession]) -> None:
        """Let the node's sessions with other nodes be those that it sees, as far as it reported them over this link."""
        self._access.authorise(uplink.actor, Action.LINK, node_id=uplink.entry.node.id)
        known = {}
        # An id of another session would come between that one and those who ask for it.
        seen = [one for one in seen if self._roster.sessions.get(LinkId(one.session_id.lower())) is None]
        for one in seen:
            if self._roster.sessions.named(one.session_id) is None:
                found = await self._store.find_session(one.session_id)
                if found is not None:
                    known[one.session_id] = found

        def plan(overlay: Overlay) -> None:
            report_plans.report(overlay, uplink.entry.node.id, uplink.session_id, seen, known)

        await self._writer.submit(Lane.MUTATIONS, plan, actor=uplink.actor)

    async def leave(self, uplink: Uplink, reason: str | None) -> None:
        """The node's goodbye: its link's session ended, and with its last one the node gone."""
        uplink.leaving, uplink.leaving_reason = True, reason
        await self._writer.submit(
            Lane.MUTATIONS, lambda overlay: plan_leave(overlay, self._uplinks, uplink), actor=uplink.actor
        )

    def drop(self, uplink: Uplink) -> None:
        """The connection is gone. Within the grace the node may resume; then `lose_link` follows."""
        if self._uplinks.drop(uplink):
            self._sentinel.link_dropped(uplink.session_id)

    def drain(self) -> None:
        """The process is about to end its links: no node is the worse for that."""
        self._uplinks.draining = True
