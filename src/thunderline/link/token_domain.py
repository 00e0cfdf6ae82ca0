"""The actions on tokens, and reading the audit log, each with its authorisation; what they do is in `token_plans`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, TypeVar

from thunderline.block.store import Store
from thunderline.core.access import AuditEntry, JoinTerms, Scope, Token, TokenKind
from thunderline.core.clock import Clock
from thunderline.core.errors import UnknownToken
from thunderline.core.ids import AuditId, TokenId
from thunderline.core.inputs import NewToken, ReissueInput
from thunderline.link import token_plans
from thunderline.link.access import Access
from thunderline.link.actor import Action, Actor
from thunderline.link.lanes import Lane
from thunderline.link.overlay import Overlay
from thunderline.link.roster import Roster
from thunderline.link.token_plans import Issued
from thunderline.link.writer import Writer

V = TypeVar("V")

FIRST_TOKEN: Final = "first-admin"


class TokenDomain:
    """All actions. Those that change something raise NotPermitted, and what `Writer.submit` does."""

    def __init__(self, writer: Writer, roster: Roster, access: Access, store: Store, *, clock: Clock) -> None:
        self._writer = writer
        self._roster = roster
        self._access = access
        self._store = store
        self._clock = clock

    async def create_token(self, wanted: NewToken, *, actor: Actor) -> Issued:
        """A new token; its text is given this once. Raises: TokenNameTaken."""
        self._access.authorise(actor, Action.TOKENS)

        def plan(overlay: Overlay) -> Issued:
            expires_at, by = _end(overlay, wanted.expires_in_s), str(actor)
            if wanted.join is None:
                scopes = wanted.scopes or ()
                return token_plans.create(overlay, name=wanted.name, scopes=scopes, expires_at=expires_at, by=by)
            asked = wanted.join
            terms = JoinTerms(names=asked.names, role=asked.role, domain=asked.domain, uses_left=asked.uses)
            return token_plans.create_join(overlay, name=wanted.name, terms=terms, expires_at=expires_at, by=by)

        return await self._mutate(plan, actor)

    async def reissue(self, node: str, wanted: ReissueInput, *, actor: Actor) -> Issued:
        """A credential for the node of that name, registered or not; the one that it had ends, and so do its links.

        Raises: InvalidInput for the registry's own name.
        """
        self._access.authorise(actor, Action.TOKENS)
        self._access.check_not_own(node)
        return await self._mutate(
            lambda overlay: token_plans.reissue(
                overlay, node, expires_at=_end(overlay, wanted.expires_in_s), by=str(actor)
            ),
            actor,
        )

    async def revoke(self, ref: str, *, actor: Actor) -> Token:
        """The token with this id or name, or the credential of the node of that name, good no more.

        What is open by it ends. Raises: UnknownToken; InvalidInput where the name fits two.
        """
        self._access.authorise(actor, Action.TOKENS)
        return await self._mutate(lambda overlay: token_plans.revoke(overlay, ref), actor)

    def has_admin(self) -> bool:
        """Whether there is a good token of scope `admin`."""
        now = self._clock.now()
        return any(_is_admin(token, now) for token in self._roster.tokens)

    async def first_token(self, made: tuple[TokenId, bytes], *, actor: Actor) -> Issued:
        """A token with every scope, of this id and secret: its text can be written down before it is good."""
        self._access.authorise(actor, Action.TOKENS)

        def plan(overlay: Overlay) -> Issued:
            if (before := overlay.token_named(FIRST_TOKEN)) is not None:
                token_plans.revoke(overlay, before.id)
            return token_plans.create(
                overlay, name=FIRST_TOKEN, scopes=(Scope.ADMIN,), expires_at=None, by=str(actor), made=made
            )

        return await self._mutate(plan, actor)

    def list_tokens(
        self, *, actor: Actor, revoked: bool = False, after: TokenId | None = None, limit: int
    ) -> tuple[list[Token], bool]:
        """At most `limit` tokens by id, and whether there are more. Raises: NotPermitted."""
        self._access.authorise(actor, Action.TOKENS)
        return self._roster.tokens.page(after=after, limit=limit, revoked=revoked)

    def get_token(self, ref: str, *, actor: Actor) -> Token:
        """The token with this id or name, or the node's credential. Raises: NotPermitted, UnknownToken."""
        self._access.authorise(actor, Action.TOKENS)
        book = self._roster.tokens
        token = book.get(TokenId(ref.lower())) or book.named(ref) or book.credential_of(ref)
        if token is None:
            raise UnknownToken(ref)
        return token

    async def read_audit(self, *, actor: Actor, before: AuditId | None = None, limit: int) -> list[AuditEntry]:
        """The newest `limit` entries below `before`, the newest first. Raises: NotPermitted, StoreUnavailable."""
        self._access.authorise(actor, Action.AUDIT)
        return await self._store.read_audit(before=before, limit=limit)

    async def note(self, action: str, *, subject: str | None, actor: Actor) -> None:
        """Say in the audit log that the actor did something that is not a change of the cluster, as logging in is."""

        def plan(overlay: Overlay) -> None:
            overlay.note(action, subject=subject)

        await self._writer.submit(Lane.MUTATIONS, plan, actor=actor)

    async def _mutate(self, plan: Callable[[Overlay], V], actor: Actor) -> V:
        # Before all that others have queued: whoever leaked a token may be filling that lane with it.
        return await self._writer.submit(Lane.OWN, plan, actor=actor)


def _end(overlay: Overlay, lifetime_s: int | None) -> datetime | None:
    return None if lifetime_s is None else overlay.now + timedelta(seconds=lifetime_s)


def _is_admin(token: Token, now: datetime) -> bool:
    good = token.revoked_at is None and (token.expires_at is None or token.expires_at > now)
    return good and token.kind is TokenKind.TOKEN and Scope.ADMIN in token.scopes
