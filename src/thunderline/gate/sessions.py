"""The routes of link sessions."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from litestar import Response, Router, delete, get, patch, post
from litestar.params import FromQuery, PathParameter, QueryParameter, RawBody

from thunderline.core.ids import LinkId
from thunderline.core.inputs import NewSession, SessionPatch, read_json
from thunderline.core.records import OPEN_SESSION_STATUSES, SessionType
from thunderline.gate.bodies import SessionBody, SessionsBody, answer, encode
from thunderline.gate.conditions import REVALIDATE, Asked, not_modified, view_tag
from thunderline.gate.once import Reply, change
from thunderline.gate.openapi import documented
from thunderline.gate.page_cursor import read_page_cursor, write_page_cursor
from thunderline.gate.parameters import (
    PAGE_CURSOR,
    PAGE_DEFAULT,
    Caller,
    Consistent,
    Limit,
    Ref,
    Reg,
    check_consistent,
    some_of,
)
from thunderline.link.filters import session_filter
from thunderline.link.open_sessions import SessionFilter
from thunderline.link.overlay import Overlay
from thunderline.link.registry import Registry
from thunderline.link.session_plans import Opened

_NEW: Final = msgspec.json.Decoder(NewSession)
_PATCH: Final = msgspec.json.Decoder(SessionPatch)

SessionRef = Annotated[str, PathParameter(description="A `session_id` or an id; slashes may stand as they are.")]
Status = Annotated[
    str | None,
    QueryParameter(
        schema_extra=some_of(sorted(OPEN_SESSION_STATUSES)),
        description="`establishing`, `established`, `degraded`, or several with commas.",
    ),
]
Cursor = Annotated[
    str | None, QueryParameter(schema_extra=PAGE_CURSOR, description="`next_cursor` of the page before, same filters.")
]


@get(
    "/sessions",
    opt=documented("List open link sessions, the oldest first.", answers={200: SessionsBody}, revalidates=True),
)
async def list_sessions(
    registry: Reg,
    request: Asked,
    node: Annotated[str | None, QueryParameter(description="The id or name of a node at either end.")] = None,
    status: Status = None,
    session_type: Annotated[
        str | None, QueryParameter(schema_extra={"enum": [str(kind) for kind in SessionType]})
    ] = None,
    connection_type: FromQuery[str | None] = None,
    between_nodes: Annotated[
        bool | None, QueryParameter(description="Whether both ends are nodes; false: one end is the registry.")
    ] = None,
    limit: Limit = PAGE_DEFAULT,
    cursor: Cursor = None,
    consistent: Consistent = False,
) -> Response[bytes] | Response[None]:
    check_consistent(registry, consistent)
    wanted = session_filter(
        node_id=None if node is None else registry.find_id(node),
        status=status,
        session_type=session_type,
        connection_type=connection_type,
        between_nodes=between_nodes,
    )
    return _page(registry, request, wanted, cursor=cursor, limit=limit)


@get(
    "/nodes/{ref:str}/sessions",
    opt=documented(
        "A node's open link sessions, at whichever end it is, the oldest first.",
        answers={200: SessionsBody},
        errors=(404,),
        revalidates=True,
    ),
)
async def node_sessions(
    registry: Reg,
    request: Asked,
    ref: Ref,
    status: Status = None,
    limit: Limit = PAGE_DEFAULT,
    cursor: Cursor = None,
    consistent: Consistent = False,
) -> Response[bytes] | Response[None]:
    check_consistent(registry, consistent)
    wanted = session_filter(node_id=registry.find_id(ref), status=status)
    return _page(registry, request, wanted, cursor=cursor, limit=limit)


@post(
    "/sessions",
    opt=documented(
        "Open a link session between two nodes, or of one with the registry: 201 when it is new, 200 when its "
        "`session_id` was known, which is opened again and not doubled. Either end may report it. A node that is "
        "disconnected or offline is a 409 `end_not_up`.",
        body=NewSession,
        answers={201: SessionBody, 200: SessionBody},
        errors=(404, 409),
        keyed=True,
    ),
)
async def create_session(registry: Reg, actor: Caller, request: Asked, body: RawBody) -> Response[bytes]:
    wanted = read_json(body, _NEW)

    def told(opened: Opened, overlay: Overlay | None) -> Reply:
        return Reply(201 if opened.created else 200, encode(SessionBody(session=opened.session)))

    return await change(registry, request, body, lambda domain: domain.create_link_session(wanted, actor=actor), told)


@get(
    "/sessions/{session_ref:path}",
    opt=documented("One link session, open or not.", answers={200: SessionBody}, errors=(404,)),
)
async def get_session(registry: Reg, session_ref: SessionRef) -> Response[bytes]:
    session = await registry.get_link_session(_ref(session_ref))
    return answer(encode(SessionBody(session=session)), registry)


@patch(
    "/sessions/{session_ref:path}",
    opt=documented(
        "Change an open link session by merge patch (RFC 7396): its figures, or its status; `closed` and `failed` end "
        "it. One that is over is a 409 `session_over`: open it again with POST.",
        body=SessionPatch,
        answers={200: SessionBody},
        errors=(404, 409),
    ),
)
async def update_session(registry: Reg, actor: Caller, session_ref: SessionRef, body: RawBody) -> Response[bytes]:
    wanted = read_json(body, _PATCH)
    session = await registry.domain.update_link_session(_ref(session_ref), wanted, actor=actor)
    return answer(encode(SessionBody(session=session)), registry)


@delete(
    "/sessions/{session_ref:path}",
    status_code=204,
    opt=documented(
        "Close an open link session; a node that holds its connection is told, and opens another.",
        answers={204: None},
        errors=(404,),
    ),
)
async def close_session(registry: Reg, actor: Caller, session_ref: SessionRef) -> None:
    await registry.domain.close_link_session(_ref(session_ref), actor=actor)


def _ref(path: str) -> str:
    return path.removeprefix("/")


def _page(
    registry: Registry, request: Asked, wanted: SessionFilter, *, cursor: str | None, limit: int
) -> Response[bytes] | Response[None]:
    after = None if cursor is None else LinkId(read_page_cursor(cursor, wanted, str))
    found, more = registry.domain.list_active_sessions(wanted, after=after, limit=limit)
    tag = view_tag(registry, request)
    if (unchanged := not_modified(registry, request, tag)) is not None:
        return unchanged
    next_cursor = write_page_cursor(found[-1].id, wanted) if more else None
    body = SessionsBody(sessions=found, next_cursor=next_cursor, revision=registry.roster.revision)
    return answer(encode(body), registry, tag=tag, cache=REVALIDATE)


ROUTES: Final = Router(
    "/api",
    route_handlers=[list_sessions, node_sessions, create_session, get_session, update_session, close_session],
    tags=["sessions"],
)
