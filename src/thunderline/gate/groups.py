"""The routes of groups, and of who is in them. A list of a group's nodes is `GET /api/nodes?group=`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from litestar import Response, Router, delete, get, patch, post, put
from litestar.params import FromQuery, PathParameter, QueryParameter, RawBody

from thunderline.core.inputs import GroupAttrs, GroupPatch, MembershipInput, read_json
from thunderline.core.records import NodeGroup
from thunderline.gate.bodies import CountedGroup, GroupBody, GroupsBody, NodeBody, answer, encode, node_answer
from thunderline.gate.conditions import REVALIDATE, Asked, matching, not_modified, view_tag
from thunderline.gate.once import Reply, change
from thunderline.gate.openapi import documented
from thunderline.gate.page_cursor import read_page_cursor, write_page_cursor
from thunderline.gate.parameters import (
    PAGE_CURSOR,
    PAGE_DEFAULT,
    Caller,
    Consistent,
    GroupRef,
    Limit,
    Reg,
    check_consistent,
)
from thunderline.link.filters import group_filter
from thunderline.link.group_plans import Created
from thunderline.link.overlay import Overlay
from thunderline.link.registry import Registry

_ATTRS: Final = msgspec.json.Decoder(GroupAttrs)
_PATCH: Final = msgspec.json.Decoder(GroupPatch)
_MEMBERSHIP: Final = msgspec.json.Decoder(MembershipInput)

MemberRef = Annotated[str, PathParameter(description="The member's id or name.")]


@get("/", opt=documented("List groups, by name.", answers={200: GroupsBody}, errors=(404,), revalidates=True))
async def list_groups(
    registry: Reg,
    request: Asked,
    group_type: FromQuery[Literal["zone", "shard", "region", "role", "project", "custom"] | None] = None,
    parent: Annotated[
        str | None, QueryParameter(description="A group's id or name: the groups that are directly in it.")
    ] = None,
    limit: Limit = PAGE_DEFAULT,
    cursor: Annotated[
        str | None,
        QueryParameter(schema_extra=PAGE_CURSOR, description="`next_cursor` of the page before, same filters."),
    ] = None,
    consistent: Consistent = False,
) -> Response[bytes] | Response[None]:
    check_consistent(registry, consistent)
    wanted = group_filter(group_type=group_type, parent=parent)
    after = None if cursor is None else read_page_cursor(cursor, wanted, str)
    found, more = registry.roster.groups.select(wanted, after=after, limit=limit)
    tag = view_tag(registry, request)
    if (unchanged := not_modified(registry, request, tag)) is not None:
        return unchanged
    body = GroupsBody(
        groups=[_counted(group, registry) for group in found],
        next_cursor=write_page_cursor(found[-1].name, wanted) if more else None,
        revision=registry.roster.revision,
    )
    return answer(encode(body), registry, tag=tag, cache=REVALIDATE)


@post(
    "/",
    opt=documented(
        "Ensure that a group of this name exists: 201 when it was created now, 200 when it was known. A known one "
        "with other values than those given is a 409 `mismatch`.",
        body=GroupAttrs,
        answers={201: GroupBody, 200: GroupBody},
        errors=(409,),
        keyed=True,
    ),
)
async def create_group(registry: Reg, actor: Caller, request: Asked, body: RawBody) -> Response[bytes]:
    attrs = read_json(body, _ATTRS)

    def told(created: Created, overlay: Overlay | None) -> Reply:
        return Reply(201 if created.created else 200, _group_json(registry, created.group))

    return await change(registry, request, body, lambda domain: domain.create_group(attrs, actor=actor), told)


@get("/{group:str}", opt=documented("One group.", answers={200: GroupBody}, errors=(404,), revalidates=True))
async def get_group(
    registry: Reg, request: Asked, group: GroupRef, consistent: Consistent = False
) -> Response[bytes] | Response[None]:
    check_consistent(registry, consistent)
    found, tag = registry.get_group(group), view_tag(registry, request)
    if (unchanged := not_modified(registry, request, tag)) is not None:
        return unchanged
    return answer(_group_json(registry, found), registry, tag=tag, cache=REVALIDATE)


@patch(
    "/{group:str}",
    opt=documented(
        "Change a group by merge patch (RFC 7396): absent stays, null resets; a `parent` of null moves it to the top. "
        "A group that would be inside itself is a 409 `group_cycle`.",
        body=GroupPatch,
        answers={200: GroupBody},
        errors=(404, 409),
    ),
)
async def update_group(registry: Reg, actor: Caller, group: GroupRef, body: RawBody) -> Response[bytes]:
    wanted = read_json(body, _PATCH)
    changed = await registry.domain.update_group(registry.get_group(group).id, wanted, actor=actor)
    return answer(_group_json(registry, changed), registry)


@delete(
    "/{group:str}",
    status_code=204,
    opt=documented("Delete a group. Its name is free at once.", answers={204: None}, errors=(404, 409)),
)
async def remove_group(
    registry: Reg,
    actor: Caller,
    group: GroupRef,
    force: Annotated[
        bool,
        QueryParameter(description="Also when it is in use: its members leave it, the groups in it move up."),
    ] = False,
) -> None:
    await registry.domain.remove_group(registry.get_group(group).id, force=force, actor=actor)


@put(
    "/{group:str}/members/{ref:str}",
    opt=documented(
        "Let a node be a member of a group: 201 when it joined now, 200 when it was one.",
        body=MembershipInput,
        body_required=False,
        answers={201: NodeBody, 200: NodeBody},
        errors=(404,),
        matched=True,
    ),
)
async def add_member(
    registry: Reg, actor: Caller, request: Asked, group: GroupRef, ref: MemberRef, body: RawBody
) -> Response[bytes]:
    if body:
        read_json(body, _MEMBERSHIP)
    into = registry.get_group(group).id
    node_id, domain = matching(registry, request, ref)
    joined = await domain.join_group(node_id, into, actor=actor)
    return node_answer(registry, joined.node, status=201 if joined.joined else 200)


@delete(
    "/{group:str}/members/{ref:str}",
    status_code=204,
    opt=documented(
        "Take a node out of a group of which it is itself a member.",
        answers={204: None},
        errors=(404,),
        matched=True,
    ),
)
async def remove_member(registry: Reg, actor: Caller, request: Asked, group: GroupRef, ref: MemberRef) -> None:
    out_of = registry.get_group(group).id
    node_id, domain = matching(registry, request, ref)
    await domain.leave_group(node_id, out_of, actor=actor)


def _group_json(registry: Registry, group: NodeGroup) -> bytes:
    return encode(GroupBody(group=_counted(group, registry)))


def _counted(group: NodeGroup, registry: Registry) -> CountedGroup:
    record = {field: getattr(group, field) for field in group.__struct_fields__}
    return CountedGroup(**record, members=len(registry.roster.members_of(group.name)))


ROUTES: Final = Router(
    "/api/groups",
    route_handlers=[list_groups, create_group, get_group, update_group, remove_group, add_member, remove_member],
    tags=["groups"],
)
