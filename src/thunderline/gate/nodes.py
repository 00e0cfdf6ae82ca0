"""The routes of nodes."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from litestar import Response, Router, delete, get, patch, post
from litestar.params import FromQuery, QueryParameter, RawBody

from thunderline.core.errors import InvalidInput, UnknownNode
from thunderline.core.inputs import NodeAttrs, NodePatch, OfflineInput, OnlineInput, StatusInput, read_json
from thunderline.core.records import Node
from thunderline.gate.bodies import (
    NodeBody,
    NodesBody,
    OnlineBody,
    answer,
    encode,
    node_answer,
    node_json,
    node_tag,
    nodes_json,
    with_node,
)
from thunderline.gate.conditions import NEVER_KEEP, REVALIDATE, Asked, matching, not_modified, only_if, view_tag
from thunderline.gate.once import Reply, change, node_reply
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
    WantedCapability,
    WantedClusterType,
    WantedGroup,
    WantedLabels,
    WantedName,
    WantedStatus,
    check_consistent,
    read_labels,
    some_of,
)
from thunderline.link.actor import Actor
from thunderline.link.domain import NodeDomain
from thunderline.link.filters import node_filter
from thunderline.link.listing import BY_NAME, SORTS, UNREVISIONED_SORTS, Listing, ListKey, list_page
from thunderline.link.overlay import Overlay
from thunderline.link.plans import Announced, Ensured
from thunderline.link.registry import Registry

LOADED_HEARTBEATS: Final = 60
_LOADABLE: Final = frozenset({"sessions", "heartbeats"})

_ATTRS: Final = msgspec.json.Decoder(NodeAttrs)
_PATCH: Final = msgspec.json.Decoder(NodePatch)
_ONLINE: Final = msgspec.json.Decoder(OnlineInput)
_OFFLINE: Final = msgspec.json.Decoder(OfflineInput)
_STATUS: Final = msgspec.json.Decoder(StatusInput)


@get(
    "/",
    opt=documented(
        "List nodes, by name or as `sort` says. Without presence the answer can be revalidated by its `ETag`.",
        answers={200: NodesBody},
        errors=(404,),
        revalidates=True,
    ),
)
async def list_nodes(
    registry: Reg,
    request: Asked,
    status: WantedStatus = None,
    role: FromQuery[str | None] = None,
    domain: FromQuery[str | None] = None,
    cluster_type: WantedClusterType = None,
    capability: WantedCapability = None,
    group: WantedGroup = None,
    label: WantedLabels = None,
    name: WantedName = None,
    presence: Annotated[bool, QueryParameter(description="Whether nodes carry what each beat changes.")] = True,
    sort: Annotated[
        str,
        QueryParameter(
            schema_extra={"pattern": f"^-?({'|'.join(SORTS)})$"},
            description=f"One of {', '.join(SORTS)}; `-` in front turns the order around.",
        ),
    ] = BY_NAME,
    limit: Limit = PAGE_DEFAULT,
    cursor: Annotated[
        str | None,
        QueryParameter(
            schema_extra=PAGE_CURSOR, description="`next_cursor` of the page before, same filters and order."
        ),
    ] = None,
    consistent: Consistent = False,
) -> Response[bytes] | Response[None]:
    check_consistent(registry, consistent)
    wanted = node_filter(
        status=status,
        role=role,
        domain=domain,
        cluster_type=cluster_type,
        group=group,
        capability=capability,
        labels=read_labels(label),
        name=name,
    )
    listing = Listing(wanted=wanted, sort=sort)
    after = None if cursor is None else read_page_cursor(cursor, listing, ListKey)
    page = list_page(registry.roster, listing, after=after, limit=limit)
    # Behind the page: also `If-None-Match: *` is for what there is, not for a filter or a cursor that is none.
    tag = None if presence or sort in UNREVISIONED_SORTS else view_tag(registry, request)
    if tag is not None and (unchanged := not_modified(registry, request, tag)) is not None:
        return unchanged
    next_cursor = None if page.last is None else write_page_cursor(page.last, listing)
    body = nodes_json(
        page.entries, registry, presence=presence, next_cursor=next_cursor, revision=registry.roster.revision
    )
    return answer(body, registry, tag=tag, cache=NEVER_KEEP if tag is None else REVALIDATE)


@post(
    "/",
    opt=documented(
        "Ensure that a node of this name exists: 201 when it was registered now, 200 when it was known. Of a known "
        "node, absent fields are filled and present ones stay; another role or domain is a 409 `mismatch`.",
        body=NodeAttrs,
        answers={201: NodeBody, 200: NodeBody},
        errors=(409,),
        keyed=True,
    ),
)
async def ensure_node(registry: Reg, actor: Caller, request: Asked, body: RawBody) -> Response[bytes]:
    attrs = read_json(body, _ATTRS)

    def told(ensured: Ensured, overlay: Overlay | None) -> Reply:
        return node_reply(registry, ensured.node, overlay, status=201 if ensured.created else 200)

    return await change(registry, request, body, lambda domain: domain.register_node(attrs, actor=actor), told)


@get(
    "/{ref:str}",
    opt=documented(
        "One node. Its `ETag` names its record, for `If-Match`; without presence it can be revalidated by it, too.",
        answers={200: NodeBody},
        errors=(404,),
        revalidates=True,
    ),
)
async def get_node(
    registry: Reg,
    request: Asked,
    ref: Ref,
    load: Annotated[
        str | None,
        QueryParameter(
            schema_extra=some_of(sorted(_LOADABLE)), description="`sessions`, `heartbeats`, or `sessions,heartbeats`."
        ),
    ] = None,
    presence: FromQuery[bool] = True,
    consistent: Consistent = False,
) -> Response[bytes] | Response[None]:
    check_consistent(registry, consistent)
    wanted = () if load is None else load.split(",")
    for part in wanted:
        if part not in _LOADABLE:
            raise InvalidInput("load", f"should be sessions, heartbeats or both, not {part[:40]!r}")
    entry = registry.roster.find(ref)
    extra = {}
    if "heartbeats" in wanted:
        extra["heartbeats"] = encode(await registry.recent_heartbeats(entry.node.id, limit=LOADED_HEARTBEATS))
        # The cluster went on meanwhile; all the rest is as of the revision that the answer names.
        if registry.roster.get(entry.node.id) is None:
            raise UnknownNode(ref)
    if "sessions" in wanted:
        extra["sessions"] = encode(list(entry.sessions.values()))
    tag = node_tag(registry, entry.node)
    is_record = not presence and load is None
    if is_record and (unchanged := not_modified(registry, request, tag)) is not None:
        return unchanged
    body = with_node(node_json(entry, registry, presence=presence), extra)
    return answer(body, registry, tag=tag, cache=REVALIDATE if is_record else NEVER_KEEP)


@patch(
    "/{ref:str}",
    opt=documented(
        "Change attributes by merge patch (RFC 7396): absent stays, null resets.",
        body=NodePatch,
        answers={200: NodeBody},
        errors=(404,),
        matched=True,
    ),
)
async def update_node(registry: Reg, actor: Caller, request: Asked, ref: Ref, body: RawBody) -> Response[bytes]:
    wanted = read_json(body, _PATCH)
    node_id, domain = matching(registry, request, ref)
    return node_answer(registry, await domain.update_node(node_id, wanted, actor=actor))


@delete(
    "/{ref:str}",
    status_code=204,
    opt=documented(
        "Deregister a node. Its name is free at once.", answers={204: None}, errors=(404, 409), matched=True
    ),
)
async def deregister_node(
    registry: Reg,
    actor: Caller,
    request: Asked,
    ref: Ref,
    force: Annotated[bool, QueryParameter(description="Also when it holds a live link, which is cut.")] = False,
) -> None:
    node_id, domain = matching(registry, request, ref)
    await domain.deregister_node(node_id, force=force, actor=actor)


@post(
    "/{ref:str}/online",
    status_code=200,
    opt=documented(
        "Announce that a node is up. A new `instance` is a new incarnation; a session is opened, or opened again. An "
        "override stays.",
        body=OnlineInput,
        body_required=False,
        answers={200: OnlineBody},
        errors=(404, 409),
        keyed=True,
    ),
)
async def mark_online(registry: Reg, actor: Caller, request: Asked, ref: Ref, body: RawBody) -> Response[bytes]:
    wanted = read_json(body, _ONLINE) if body else OnlineInput()

    async def act(domain: NodeDomain) -> Announced:
        return await domain.mark_node_online(registry.find_id(ref), wanted, actor=actor)

    def told(announced: Announced, overlay: Overlay | None) -> Reply:
        return node_reply(registry, announced.node, overlay, extra={"session": encode(announced.session)})

    return await change(registry, request, body, act, told)


@post(
    "/{ref:str}/offline",
    status_code=200,
    opt=documented(
        "Take a node down as an operator: an override, which beats do not touch, until it is lifted. A node that "
        "leaves by itself sends a heartbeat with status `offline` instead.",
        body=OfflineInput,
        body_required=False,
        answers={200: NodeBody},
        errors=(404,),
        keyed=True,
        matched=True,
    ),
)
async def mark_offline(registry: Reg, actor: Caller, request: Asked, ref: Ref, body: RawBody) -> Response[bytes]:
    wanted = read_json(body, _OFFLINE) if body else OfflineInput()
    return await _marked(registry, actor, request, ref, body, StatusInput(status="offline", reason=wanted.reason))


@post(
    "/{ref:str}/status",
    status_code=200,
    opt=documented(
        "Lay an override over a node's status. A node that is not heard still shows as disconnected or offline under "
        "an override of `degraded`.",
        body=StatusInput,
        answers={200: NodeBody},
        errors=(404,),
        keyed=True,
        matched=True,
    ),
)
async def mark_status(registry: Reg, actor: Caller, request: Asked, ref: Ref, body: RawBody) -> Response[bytes]:
    return await _marked(registry, actor, request, ref, body, read_json(body, _STATUS))


@delete(
    "/{ref:str}/override",
    status_code=200,
    opt=documented(
        "Lift a node's override; without one nothing happens.", answers={200: NodeBody}, errors=(404,), matched=True
    ),
)
async def clear_override(registry: Reg, actor: Caller, request: Asked, ref: Ref) -> Response[bytes]:
    node_id, domain = matching(registry, request, ref)
    return node_answer(registry, await domain.clear_override(node_id, actor=actor))


async def _marked(
    registry: Registry, actor: Actor, request: Asked, ref: str, body: bytes, wanted: StatusInput
) -> Response[bytes]:
    async def act(domain: NodeDomain) -> Node:
        node_id = registry.find_id(ref)
        domain = only_if(domain, registry, request.scope, node_id)
        return await domain.mark_node_status(node_id, wanted, actor=actor)

    return await change(registry, request, body, act, lambda node, overlay: node_reply(registry, node, overlay))


ROUTES: Final = Router(
    "/api/nodes",
    route_handlers=[
        list_nodes,
        ensure_node,
        get_node,
        update_node,
        deregister_node,
        mark_online,
        mark_offline,
        mark_status,
        clear_override,
    ],
    tags=["nodes"],
)
