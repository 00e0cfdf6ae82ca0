"""Tokens, and what the audit log says of who did or tried what.

A token's text is `tl_` with the token's id in hexadecimal and 256 random bits, and is shown once, to whoever had it
made: kept is the SHA-256 of those bits. They are as hard to guess as the hash is to turn round, so that neither salt
nor a slow hash would add anything.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import uuid
from datetime import datetime
from enum import StrEnum
from typing import Final

import msgspec

from thunderline.core.ids import AuditId, Revision, TokenId

PREFIX: Final = "tl_"
SECRET_BYTES: Final = 32
_ID_CHARS: Final = 32


class Scope(StrEnum):
    """What a token is good for. `operator` may all that `read` and `node` may; `admin` all there is."""

    READ = "read"
    """Reading the cluster: nodes, events, the past; neither tokens nor the audit log."""
    NODE = "node"
    """Registering nodes and speaking for any of them, as a gateway does."""
    OPERATOR = "operator"
    """Changing the cluster: nodes, groups, overrides."""
    ADMIN = "admin"
    """Tokens, credentials and the audit log."""


ALL_SCOPES: Final = frozenset(Scope)
_IMPLIED: Final = {
    Scope.READ: frozenset({Scope.READ}),
    Scope.NODE: frozenset({Scope.NODE}),
    Scope.OPERATOR: frozenset({Scope.READ, Scope.NODE, Scope.OPERATOR}),
    Scope.ADMIN: ALL_SCOPES,
}


def implied(scopes: tuple[Scope, ...]) -> frozenset[Scope]:
    """`scopes` with all that they bring along."""
    return frozenset[Scope]().union(*(_IMPLIED[scope] for scope in scopes))


class TokenKind(StrEnum):
    """Who holds a token, and so what it can be used for."""

    TOKEN = "token"
    """A person or a program; `scopes` say what for."""
    JOIN = "join"
    """A machine that is not a node yet. It is good for one thing: at the handshake of a new node's link it is
    exchanged for a credential."""
    CREDENTIAL = "credential"
    """The node of that `name`, which it lets speak for itself alone. A node has one at most."""


class JoinTerms(msgspec.Struct, frozen=True, kw_only=True):
    """Which nodes a join token enrols."""

    names: str = "*"
    """A pattern of names, in which `*` stands for any characters."""
    role: str | None = None
    """The role that they get, and the only one that they may ask for; None: any but `controller`."""
    domain: str | None = None
    uses_left: int | None = None
    """How many more; None: any number."""


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token, without its secret."""

    id: TokenId
    kind: TokenKind
    name: str
    """What people call it: unique among tokens and join tokens that are not revoked; a credential's is its node's."""
    digest: bytes
    """SHA-256 of the secret; 32 bytes."""
    scopes: tuple[Scope, ...] = ()
    """Of a `token`; empty for the other kinds."""
    join: JoinTerms | None = None
    joined_by: TokenId | None = None
    """Of a credential: the join token that it was exchanged for; None where an operator had it made."""
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def __repr__(self) -> str:
        return f"<Token {self.kind}:{self.name} {self.id}>"


class Outcome(StrEnum):
    """What became of what somebody wanted."""

    DONE = "done"
    REFUSED = "refused"


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who did something, or was refused it. Refusals of one kind from one place are counted in one entry."""

    id: AuditId
    at: datetime
    """When; of a count of refusals, the last of them."""
    actor: str
    """As in events, e.g. `operator:ci`, or `anonymous`."""
    action: str
    """A change's event, e.g. `cluster.node.updated`; else what was asked for."""
    outcome: Outcome
    subject: str | None = None
    """The name of the node, group or token that it is about."""
    revision: Revision | None = None
    """Of the change's first event."""
    reason: str | None = None
    """The error's code, of a refusal."""
    token_id: TokenId | None = None
    """The token by which the actor was known; a name can be another's later."""
    address: str | None = None
    """Where it came from, where that is known."""
    count: int = 1
    first_at: datetime | None = None
    """Of more than one refusal, when the first was."""


def new_secret() -> bytes:
    """A secret for a new token."""
    return secrets.token_bytes(SECRET_BYTES)


def digest_of(secret: bytes) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret).digest()


def token_text(token_id: TokenId, secret: bytes) -> str:
    """The token as its holder sends it; 78 characters, all of which may stand in a header."""
    return PREFIX + token_id.replace("-", "") + "_" + base64.urlsafe_b64encode(secret).rstrip(b"=").decode()


def read_token(text: str) -> tuple[TokenId, bytes] | None:
    """The id and the secret in a token's text; None where it is none."""
    head, _, tail = text.removeprefix(PREFIX).partition("_")
    if not text.startswith(PREFIX) or len(head) != _ID_CHARS or not text.isascii():
        return None
    try:
        token_id = str(uuid.UUID(hex=head))
        secret = base64.b64decode(tail + "=" * (-len(tail) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    return (TokenId(token_id), secret) if len(secret) == SECRET_BYTES else None


def is_secret_of(secret: bytes, token: Token) -> bool:
    """Whether it is the token's; compared in a time that tells nothing of where they differ."""
    return hmac.compare_digest(digest_of(secret), token.digest)
