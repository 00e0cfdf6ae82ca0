"""Tokens and the audit log as they are told: over HTTP, over the control socket, and by the command line."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from thunderline.core.access import AuditEntry, JoinTerms, Scope, Token, TokenKind
from thunderline.core.ids import TokenId


class ShownToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token, with nothing from which its text could be guessed."""

    id: TokenId
    kind: TokenKind
    name: str
    scopes: Sequence[Scope]
    join: JoinTerms | None
    joined_by: TokenId | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None


class TokenBody(msgspec.Struct, frozen=True, kw_only=True):
    """One token."""

    token: ShownToken


class IssuedBody(msgspec.Struct, frozen=True, kw_only=True):
    """A new token, and its text, which is told this once."""

    token: ShownToken
    text: str

    def __repr__(self) -> str:
        return f"<IssuedBody {self.token.name}>"  # a secret must not reach a log


class TokensBody(msgspec.Struct, frozen=True, kw_only=True):
    """A page of tokens, the oldest first."""

    tokens: Sequence[ShownToken]
    next_cursor: str | None


class AuditBody(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the audit log, the newest first."""

    entries: Sequence[AuditEntry]
    next_cursor: str | None


def shown_token(token: Token) -> ShownToken:
    """A token as it is told."""
    return ShownToken(
        id=token.id,
        kind=token.kind,
        name=token.name,
        scopes=token.scopes,
        join=token.join,
        joined_by=token.joined_by,
        created_at=token.created_at,
        created_by=token.created_by,
        expires_at=token.expires_at,
        revoked_at=token.revoked_at,
    )
