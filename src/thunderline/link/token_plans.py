"""What becomes of tokens: plans, like those of `plans`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from thunderline.core.access import JoinTerms, Scope, Token, TokenKind, digest_of, new_secret, token_text
from thunderline.core.errors import (
    InvalidInput,
    JoinRefused,
    NotPermitted,
    TokenExpired,
    TokenNameTaken,
    TokenRevoked,
    UnknownToken,
)
from thunderline.core.ids import TokenId
from thunderline.core.inputs import NodeAttrs
from thunderline.link.actor import Action, Actor, ActorKind
from thunderline.link.overlay import Overlay
from thunderline.link.plans import DEFAULT_DOMAIN, DEFAULT_ROLE

CONTROLLER: Final = "controller"
"""The role of nodes that others trust to say what the cluster is: no node takes it for itself."""

OWN_NAMES: Final = "registry@"
"""Names of the registry's own nodes begin like this: no join token enrols one."""

JOIN_RETRY_S: Final = 600.0
"""For so long a process that was enrolled, and did not hear of it, may join again; unless its credential was used."""


class Issued(msgspec.Struct, frozen=True):
    """A new token, and its text, which is nowhere kept."""

    token: Token
    text: str

    def __repr__(self) -> str:
        return f"<Issued {self.token!r}>"  # a secret must not reach a log


def create(
    overlay: Overlay,
    *,
    name: str,
    scopes: Sequence[Scope],
    expires_at: datetime | None,
    by: str,
    made: tuple[TokenId, bytes] | None = None,
) -> Issued:
    """A token for a person or a program, of the id and secret `made` before, if they were.

    Raises: TokenNameTaken, InvalidInput.
    """
    if not scopes:
        raise InvalidInput("scopes", "is empty; a token without a scope is good for nothing")
    ordered = tuple(scope for scope in Scope if scope in scopes)
    return _issue(overlay, TokenKind.TOKEN, name, by=by, expires_at=expires_at, scopes=ordered, made=made)


def create_join(overlay: Overlay, *, name: str, terms: JoinTerms, expires_at: datetime | None, by: str) -> Issued:
    """A token by which new nodes are enrolled. Raises: TokenNameTaken, InvalidInput."""
    return _issue(overlay, TokenKind.JOIN, name, by=by, expires_at=expires_at, join=terms)


def reissue(overlay: Overlay, node: str, *, expires_at: datetime | None, by: str) -> Issued:
    """A credential for the node of that name, registered or not; the one that it had is good no more."""
    return _issue(overlay, TokenKind.CREDENTIAL, node, by=by, expires_at=expires_at)


def revoke(overlay: Overlay, ref: str) -> Token:
    """The token with this id, or name, revoked; one that is revoked already stays as it is.

    A name is that of a token or join token; else of a node, whose credential is meant. Raises: UnknownToken;
    InvalidInput where the name fits both.
    """
    token = overlay.token(TokenId(ref.lower()))
    if token is None:
        named, credential = overlay.token_named(ref), overlay.credential_of(ref)
        if named is not None and credential is not None and credential.revoked_at is None:
            raise InvalidInput(
                "token", f"{ref!r} is the name of a token and of a node; give the id of the one you mean"
            )
        token = named or credential
    if token is None:
        raise UnknownToken(ref)
    if token.revoked_at is not None:
        return token
    overlay.note("token.revoked", subject=token.name)
    return overlay.put_token(msgspec.structs.replace(token, revoked_at=overlay.now))


def revoke_credential(overlay: Overlay, node: str) -> None:
    """The node's credential revoked, if it has one."""
    credential = overlay.credential_of(node)
    if credential is not None and credential.revoked_at is None:
        revoke(overlay, credential.id)


def enrol(overlay: Overlay, join_id: TokenId, attrs: NodeAttrs, *, may_retry: bool) -> tuple[Issued, NodeAttrs]:
    """A credential for a new node, and the attributes that it gets, by a join token, of which that takes one use.

    `may_retry`: the process is the one that was enrolled already, has no link, and has not used its credential.
    Raises: JoinRefused, TokenRevoked, TokenExpired.
    """
    join = overlay.token(join_id)
    if join is None or join.join is None or join.revoked_at is not None:
        raise TokenRevoked("that this node wants to join with")
    if join.expires_at is not None and join.expires_at <= overlay.now:
        raise TokenExpired(join.name)
    terms = join.join
    before = overlay.credential_of(attrs.name)
    if before is not None and may_retry and _is_fresh(overlay, before, join_id):
        issued = _issue(overlay, TokenKind.CREDENTIAL, attrs.name, by=f"join:{join.name}", joined_by=join_id)
        return issued, attrs
    if before is not None or overlay.named(attrs.name) is not None:
        raise JoinRefused(
            f"{attrs.name} is known already; a join token enrols new names only. An operator gives it a new "
            f"credential: thunderline node reissue {attrs.name}"
        )
    if not _matches(terms.names, attrs.name) or attrs.name.lower().startswith(OWN_NAMES):
        raise JoinRefused(f"the join token {join.name} enrols no node of the name {attrs.name!r}")
    given = _terms_kept(terms, attrs)
    if terms.uses_left is not None:
        if terms.uses_left < 1:
            raise JoinRefused(f"the join token {join.name} has been used up")
        used = msgspec.structs.replace(terms, uses_left=terms.uses_left - 1)
        overlay.put_token(msgspec.structs.replace(join, join=used))
    issued = _issue(overlay, TokenKind.CREDENTIAL, attrs.name, by=f"join:{join.name}", joined_by=join_id)
    return issued, given


def attrs_for(overlay: Overlay, actor: Actor, attrs: NodeAttrs) -> NodeAttrs:
    """What a node gets that registers itself by its credential, where its name is not known now: what it was enrolled
    with, and of what an operator made, any role but `controller`.

    Raises: NotPermitted, JoinRefused.
    """
    if actor.kind is not ActorKind.NODE or actor.any_node or actor.token_id is None:
        return attrs
    if overlay.named(attrs.name) is not None:
        return attrs
    credential = overlay.token(actor.token_id)
    join = None if credential is None or credential.joined_by is None else overlay.token(credential.joined_by)
    if join is not None and join.join is not None:
        return _terms_kept(join.join, attrs)
    if attrs.role == CONTROLLER:
        raise NotPermitted(str(actor), f"{Action.REGISTER} of the role {CONTROLLER}; let an operator do so first")
    return attrs


def _terms_kept(terms: JoinTerms, attrs: NodeAttrs) -> NodeAttrs:
    for field in ("role", "domain"):
        granted, wanted = getattr(terms, field), getattr(attrs, field)
        if granted is not None and wanted not in (None, granted):
            raise JoinRefused(f"{field}: this join token enrols nodes of the {field} {granted!r} only, not {wanted!r}")
    if terms.role is None and attrs.role == CONTROLLER:
        raise JoinRefused(f"this join token enrols no {CONTROLLER}; make one with --role {CONTROLLER}")
    return msgspec.structs.replace(
        attrs,
        role=terms.role or attrs.role or DEFAULT_ROLE,
        domain=terms.domain or attrs.domain or DEFAULT_DOMAIN,
    )


def _is_fresh(overlay: Overlay, credential: Token, join_id: TokenId) -> bool:
    age = overlay.now - credential.created_at
    return (
        credential.joined_by == join_id
        and credential.revoked_at is None
        and timedelta(0) <= age < timedelta(seconds=JOIN_RETRY_S)
    )


def _matches(pattern: str, name: str) -> bool:
    first, *between = pattern.split("*")
    if not between:
        return name == pattern
    last = between.pop()
    if len(name) < len(first) + len(last) or not name.startswith(first) or not name.endswith(last):
        return False
    at, end = len(first), len(name) - len(last)
    for part in between:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _issue(
    overlay: Overlay,
    kind: TokenKind,
    name: str,
    *,
    by: str,
    expires_at: datetime | None = None,
    scopes: tuple[Scope, ...] = (),
    join: JoinTerms | None = None,
    joined_by: TokenId | None = None,
    made: tuple[TokenId, bytes] | None = None,
) -> Issued:
    if kind is not TokenKind.CREDENTIAL and overlay.token_named(name) is not None:
        raise TokenNameTaken(name)
    if expires_at is not None and expires_at <= overlay.now:
        raise InvalidInput("expires_at", "has passed already; give a moment that is still to come")
    token_id, secret = made or (TokenId(overlay.new_id()), new_secret())
    token = Token(
        id=token_id,
        kind=kind,
        name=name,
        digest=digest_of(secret),
        scopes=scopes,
        join=join,
        joined_by=joined_by,
        created_at=overlay.now,
        created_by=by,
        expires_at=expires_at,
    )
    overlay.note("node.enrolled" if joined_by is not None else "token.created", subject=name)
    return Issued(overlay.put_token(token), token_text(token.id, secret))
