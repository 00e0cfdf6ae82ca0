"""Who may do what: tokens told apart, actions allowed or refused, and what is open ended when its token is.

Every face of the registry has its callers authenticated here and its actions authorised by the one table of `actor`.
What is refused goes to the audit log by `refusals`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import datetime
from typing import Final

from thunderline.core.access import Scope, Token, TokenKind, implied, is_secret_of, read_token
from thunderline.core.clock import Clock
from thunderline.core.errors import (
    InvalidInput,
    NotPermitted,
    Refused,
    ThunderlineError,
    TokenExpired,
    TokenRevoked,
    TokenUnknown,
    Unauthenticated,
)
from thunderline.core.ids import NodeId, TokenId
from thunderline.core.logging import get_logger
from thunderline.link.actor import NODE_SCOPES, Action, Actor, ActorKind, authorise
from thunderline.link.refusals import Refusals
from thunderline.link.roster import Roster

log = get_logger(__name__)

LOOK_S: Final = 1.0
"""Between two looks for tokens that have expired: what is open by one ends that much later at most."""


class Hold:
    """Something open by a token, until `release`."""

    __slots__ = ("_access", "cut", "token_id")

    def __init__(self, access: Access, token_id: TokenId, cut: Callable[[ThunderlineError], None]) -> None:
        self._access = access
        self.token_id = token_id
        self.cut = cut

    def release(self) -> None:
        """It has ended by itself; idempotent."""
        self._access._released(self)


class Access:
    """All of one registry. It changes nothing: tokens are `TokenDomain`'s matter."""

    def __init__(self, roster: Roster, refusals: Refusals, *, own_name: str, clock: Clock) -> None:
        """`own_name` is the registry's own node's, for which nobody else speaks."""
        self.refusals = refusals
        self._own_name = own_name
        self._roster = roster
        self._clock = clock
        self._holds: dict[TokenId, dict[Hold, None]] = {}
        self._expiries: list[tuple[datetime, TokenId]] = []
        self._expiring: set[TokenId] = set()
        """Those in `_expiries`, each once however often something is opened by it."""

    # Who calls

    def token_of(self, text: str) -> Token:
        """The good token with this text, of whatever kind. Raises: TokenUnknown, TokenRevoked, TokenExpired."""
        read = read_token(text)
        token = None if read is None else self._roster.tokens.get(read[0])
        if read is None or token is None or not is_secret_of(read[1], token):
            raise TokenUnknown
        self.check(token)
        return token

    def check(self, token: Token) -> None:
        """Return if the token is still good. Raises: TokenRevoked, TokenExpired."""
        if token.revoked_at is not None:
            raise TokenRevoked(token.name)
        if token.expires_at is not None and token.expires_at <= self._clock.now():
            raise TokenExpired(token.name)

    def authenticate(self, text: str, *, address: str | None) -> Actor:
        """Who shows this token. Raises: Unauthenticated; NotPermitted for a join token, which only a handshake takes.

        What is refused is noted.
        """
        try:
            return self.actor_of(self.token_of(text), address=address)
        except Refused as error:
            self.refusals.note(error, action="authenticate", address=address, actor=self.shown_by(text))
            raise

    def is_stale(self, text: str) -> bool:
        """Whether it reads as a token, and is good for nothing: another registry's, or one that is over."""
        try:
            return read_token(text) is not None and self.token_of(text) is None
        except Unauthenticated:
            return True

    def shown_by(self, text: str) -> Actor | None:
        """Who would be refused for this token, where it was a token once: that tells what to look into."""
        read = read_token(text)
        token = None if read is None else self._roster.tokens.get(read[0])
        if read is None or token is None or not is_secret_of(read[1], token):
            return None
        return Actor(kind=ActorKind.READER, name=token.name, token_id=token.id)

    def still(self, actor: Actor) -> None:
        """Return if the token by which the actor is known is still good. Raises: TokenRevoked, TokenExpired."""
        if actor.token_id is None:
            return
        token = self._roster.tokens.get(actor.token_id)
        if token is None:
            raise TokenRevoked(actor.name)
        self.check(token)

    def actor_of(self, token: Token, *, address: str | None) -> Actor:
        """Who the token lets one be. Raises: NotPermitted for a join token."""
        if token.kind is TokenKind.JOIN:
            raise NotPermitted(f"join:{token.name}", "do anything but join, at the handshake of a new node's link")
        if token.kind is TokenKind.CREDENTIAL:
            self._roster.tokens.use(token.id)
            entry = self._roster.named(token.name)
            return Actor(
                kind=ActorKind.NODE,
                name=token.name,
                scopes=NODE_SCOPES,
                node_id=None if entry is None else entry.node.id,
                token_id=token.id,
                address=address,
            )
        scopes = implied(token.scopes)
        if Scope.OPERATOR in scopes:
            kind = ActorKind.OPERATOR
        elif Scope.NODE in scopes:
            kind = ActorKind.NODE
        else:
            kind = ActorKind.READER
        return Actor(
            kind=kind,
            name=token.name,
            scopes=scopes,
            any_node=kind is ActorKind.NODE,
            token_id=token.id,
            address=address,
        )

    # What they may do

    def authorise(
        self, actor: Actor, action: Action, *, node_id: NodeId | None = None, name: str | None = None
    ) -> None:
        """As `actor.authorise`; a refusal is noted. Raises: NotPermitted."""
        try:
            authorise(actor, action, node_id=node_id, name=name)
            if actor.kind is ActorKind.NODE and self._own_name == self._subject(node_id, name):
                raise NotPermitted(str(actor), "speak for the registry")
        except NotPermitted as error:
            self.refusals.note(error, action=action, actor=actor, subject=self._subject(node_id, name))
            raise

    def check_not_own(self, name: str) -> None:
        """Return unless it is the registry's own name. Raises: InvalidInput."""
        if name == self._own_name:
            raise InvalidInput("name", "is the registry's own, which needs no credential")

    def _subject(self, node_id: NodeId | None, name: str | None) -> str | None:
        entry = None if node_id is None else self._roster.get(node_id)
        return name if entry is None else entry.node.name

    # What is open

    def hold(self, actor: Actor, cut: Callable[[ThunderlineError], None]) -> Hold | None:
        """Have `cut` called once the actor's token is no longer good; None where it is known by none.

        Raises: TokenRevoked, TokenExpired when it is not now.
        """
        if actor.token_id is None:
            return None
        self.still(actor)
        hold = Hold(self, actor.token_id, cut)
        holds = self._holds.get(actor.token_id)
        if holds is None:
            holds = self._holds[actor.token_id] = {}
            token = self._roster.tokens.get(actor.token_id)
            if token is not None and token.expires_at is not None and token.id not in self._expiring:
                self._expiring.add(token.id)
                heapq.heappush(self._expiries, (token.expires_at, token.id))
        holds[hold] = None
        return hold

    def _released(self, hold: Hold) -> None:
        holds = self._holds.get(hold.token_id)
        if holds is not None:
            holds.pop(hold, None)
            if not holds:
                del self._holds[hold.token_id]

    def token_settled(self, token_id: TokenId) -> None:
        """A commit has changed the token: end what is open by it, if it is not good any more."""
        holds = self._holds.get(token_id)
        if not holds:
            return
        token = self._roster.tokens.get(token_id)
        try:
            if token is None:
                raise TokenRevoked("that this was opened with")
            self.check(token)
        except (TokenRevoked, TokenExpired) as error:
            log.info("a token ended what was open by it", token_id=token_id, code=error.code, open=len(holds))
            for hold in list(self._holds.pop(token_id)):
                try:
                    hold.cut(error)
                except Exception:
                    # A bug in one face must end neither the writer nor what else is open.
                    log.exception("what was open by a token was not ended", token_id=token_id)

    async def watch_expiry(self) -> None:
        """End what is open by tokens that expire, until cancelled."""
        while True:
            await self._clock.sleep(LOOK_S)
            now = self._clock.now()
            while self._expiries and self._expiries[0][0] <= now:
                token_id = heapq.heappop(self._expiries)[1]
                self._expiring.discard(token_id)
                self.token_settled(token_id)
