"""The routes of tokens, and of the audit log. All of them take the scope `admin`, and none of their answers is kept."""

from __future__ import annotations

from typing import Annotated, Final, get_args

import msgspec
from litestar import Response, Router, delete, get, post
from litestar.params import PathParameter, QueryParameter, RawBody

from thunderline.core.errors import IdempotencyKeyRefused, UnknownNode
from thunderline.core.ids import AuditId, TokenId, is_uuid
from thunderline.core.inputs import NewToken, NodeName, ReissueInput, read_json, read_node_name
from thunderline.gate.access_bodies import AuditBody, IssuedBody, TokenBody, TokensBody, shown_token
from thunderline.gate.bodies import answer, encode
from thunderline.gate.conditions import NEVER_KEEP, Asked, header
from thunderline.gate.openapi import documented
from thunderline.gate.page_cursor import read_page_cursor, write_page_cursor
from thunderline.gate.parameters import PAGE_CURSOR, PAGE_DEFAULT, Caller, Limit, Reg
from thunderline.link.actor import Action
from thunderline.link.registry import Registry
from thunderline.link.token_plans import Issued

_NEW: Final = msgspec.json.Decoder(NewToken)
_REISSUE: Final = msgspec.json.Decoder(ReissueInput)

_NAME: Final = get_args(NodeName)[1]

TokenRef = Annotated[
    str, PathParameter(description="A token's id or name, or the name of a node, whose credential is then meant.")
]
NodeRef = Annotated[
    str,
    PathParameter(
        schema_extra={"pattern": _NAME.pattern, "max_length": _NAME.max_length},
        description="A node's id or name; or the name of one that is not registered yet.",
    ),
]
Cursor = Annotated[
    str | None, QueryParameter(schema_extra=PAGE_CURSOR, description="`next_cursor` of the page before.")
]


class TokenListing(msgspec.Struct, frozen=True):
    """What a list of tokens shows."""

    revoked: bool


class AuditListing(msgspec.Struct, frozen=True):
    """What a list of audit entries shows: all there are."""


@get(
    "/tokens",
    opt=documented(
        "List tokens, join tokens and the credentials of nodes, the oldest first.", answers={200: TokensBody}
    ),
)
async def list_tokens(
    registry: Reg,
    actor: Caller,
    revoked: Annotated[bool, QueryParameter(description="Whether those are shown, too, that were revoked.")] = False,
    limit: Limit = PAGE_DEFAULT,
    cursor: Cursor = None,
) -> Response[bytes]:
    listing = TokenListing(revoked)
    after = None if cursor is None else TokenId(read_page_cursor(cursor, listing, str))
    found, more = registry.tokens.list_tokens(actor=actor, revoked=revoked, after=after, limit=limit)
    next_cursor = write_page_cursor(found[-1].id, listing) if more else None
    body = TokensBody(tokens=[shown_token(token) for token in found], next_cursor=next_cursor)
    return answer(encode(body), registry, cache=NEVER_KEEP)


@post(
    "/tokens",
    opt=documented(
        "Create a token: with `scopes` for a person or a program, with `join` for machines that are to become nodes. "
        "Its `text` is what callers send, and is told this once. An `Idempotency-Key` is a 400: the secret would have "
        "to be kept. A request whose answer was lost is mended by revoking that name and creating it again.",
        body=NewToken,
        answers={201: IssuedBody},
        errors=(400, 403, 409),
    ),
)
async def create_token(registry: Reg, actor: Caller, request: Asked, body: RawBody) -> Response[bytes]:
    _refuse_key(request)
    wanted = read_json(body, _NEW)
    return _issued(registry, await registry.tokens.create_token(wanted, actor=actor))


@get("/tokens/{ref:str}", opt=documented("One token.", answers={200: TokenBody}, errors=(404,)))
async def get_token(registry: Reg, actor: Caller, ref: TokenRef) -> Response[bytes]:
    token = registry.tokens.get_token(ref, actor=actor)
    return answer(encode(TokenBody(token=shown_token(token))), registry, cache=NEVER_KEEP)


@delete(
    "/tokens/{ref:str}",
    status_code=204,
    opt=documented(
        "Revoke a token. Links, sockets, streams and sessions of browsers that it opened end within seconds; its name "
        "is free at once. A name that is both a token's and a node's is a 422: give the id.",
        answers={204: None},
        errors=(404,),
    ),
)
async def revoke_token(registry: Reg, actor: Caller, ref: TokenRef) -> None:
    await registry.tokens.revoke(ref, actor=actor)


@post(
    "/nodes/{ref:str}/reissue",
    opt=documented(
        "Give a node a new credential; the one that it had is good no more, and its links end. The node need not be "
        "registered yet. The credential's `text` is told this once; an `Idempotency-Key` is a 400.",
        body=ReissueInput,
        body_required=False,
        answers={201: IssuedBody},
        errors=(400, 403, 404),
    ),
)
async def reissue(registry: Reg, actor: Caller, request: Asked, ref: NodeRef, body: RawBody) -> Response[bytes]:
    _refuse_key(request)
    wanted = read_json(body, _REISSUE) if body else ReissueInput()
    # First, so that nobody else learns which names there are.
    registry.access.authorise(actor, Action.TOKENS)
    return _issued(registry, await registry.tokens.reissue(_node_name(registry, ref), wanted, actor=actor))


@get(
    "/audit",
    opt=documented(
        "The audit log, the newest entries first: who changed what, and who was refused what. Refusals of one kind "
        "from one place are counted for some seconds, and are one entry.",
        answers={200: AuditBody},
        errors=(503,),
    ),
)
async def read_audit(
    registry: Reg, actor: Caller, limit: Limit = PAGE_DEFAULT, cursor: Cursor = None
) -> Response[bytes]:
    listing = AuditListing()
    before = None if cursor is None else AuditId(read_page_cursor(cursor, listing, str))
    found = await registry.tokens.read_audit(actor=actor, before=before, limit=limit + 1)
    entries = found[:limit]
    next_cursor = write_page_cursor(entries[-1].id, listing) if len(found) > limit else None
    return answer(encode(AuditBody(entries=entries, next_cursor=next_cursor)), registry, cache=NEVER_KEEP)


def _refuse_key(request: Asked) -> None:
    if header(request.scope, b"idempotency-key") is not None:
        raise IdempotencyKeyRefused


def _node_name(registry: Registry, ref: str) -> str:
    try:
        return registry.roster.find(ref).node.name
    except UnknownNode:
        if is_uuid(ref):
            raise
        return read_node_name(ref)


def _issued(registry: Registry, issued: Issued) -> Response[bytes]:
    body = IssuedBody(token=shown_token(issued.token), text=issued.text)
    return answer(encode(body), registry, status=201, cache=NEVER_KEEP)


ROUTES: Final = Router(
    "/api",
    route_handlers=[list_tokens, create_token, get_token, revoke_token, reissue, read_audit],
    tags=["access"],
)
