"""Who comes to the gate in these tests: a token of each kind and state; and what the audit log tells of refusals."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from thunderline.core.access import AuditEntry, Outcome, Scope
from thunderline.core.inputs import JoinInput, NewToken, ReissueInput
from thunderline.core.settings import Settings
from thunderline.link.actor import LOCAL_OPERATOR
from thunderline.link.registry import Registry
from thunderline.testing.harness import Cluster

WITH_TOKENS: Final = Settings(auth=True)
NODE: Final = "worker-1"
"""Whose credential `own` is."""

NO_TOKEN: Final = "tl_" + "0" * 32 + "_" + "A" * 43
"""In the form of one."""


async def token(registry: Registry, name: str, *scopes: Scope, expires_in_s: int | None = None) -> str:
    """The text of a new token for a person or a program."""
    wanted = NewToken(name=name, scopes=scopes, expires_in_s=expires_in_s)
    return (await registry.tokens.create_token(wanted, actor=LOCAL_OPERATOR)).text


async def join_token(registry: Registry, name: str = "join", *, expires_in_s: int | None = None, **terms: Any) -> str:
    """The text of a new join token."""
    wanted = NewToken(name=name, join=JoinInput(**terms), expires_in_s=expires_in_s)
    return (await registry.tokens.create_token(wanted, actor=LOCAL_OPERATOR)).text


async def credential(registry: Registry, node: str) -> str:
    """The text of a new credential of the node; the one before is good no more."""
    return (await registry.tokens.reissue(node, ReissueInput(), actor=LOCAL_OPERATOR)).text


class Holders(msgspec.Struct, frozen=True, kw_only=True):
    """A token of each kind, as text."""

    admin: str
    operator: str
    reader: str
    gateway: str
    own: str
    other: str
    """The credential of another node."""
    join: str
    expired: str
    revoked: str
    unknown: str = NO_TOKEN
    none: None = None


async def make_holders(registry: Registry) -> Holders:
    """All of them; `expired` is so once a minute has passed."""
    revoked = await token(registry, "revoked", Scope.ADMIN)
    await registry.tokens.revoke("revoked", actor=LOCAL_OPERATOR)
    return Holders(
        admin=await token(registry, "admin", Scope.ADMIN),
        operator=await token(registry, "operator", Scope.OPERATOR),
        reader=await token(registry, "reader", Scope.READ),
        gateway=await token(registry, "gateway", Scope.NODE),
        own=await credential(registry, NODE),
        other=await credential(registry, "worker-2"),
        join=await join_token(registry),
        expired=await token(registry, "expired", Scope.ADMIN, expires_in_s=60),
        revoked=revoked,
    )


async def refusals(cluster: Cluster) -> list[AuditEntry]:
    """What was refused so far, the oldest first."""
    registry = cluster.registry
    await registry.access.refusals.tell(registry._engine.writer)
    entries = await registry.tokens.read_audit(actor=LOCAL_OPERATOR, limit=1_000)
    return [entry for entry in reversed(entries) if entry.outcome is Outcome.REFUSED]
