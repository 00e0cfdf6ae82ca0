"""The routes of capabilities: what nodes can do. A list of the nodes that can is `GET /api/nodes?capability=`."""

from __future__ import annotations

from typing import Annotated, Final, get_args

import msgspec
from litestar import Response, Router, delete, put
from litestar.params import PathParameter, RawBody

from thunderline.core.inputs import CapabilityAttrs, Key, read_json, read_key
from thunderline.gate.bodies import NodeBody, node_answer
from thunderline.gate.conditions import Asked, matching
from thunderline.gate.openapi import documented
from thunderline.gate.parameters import Caller, Ref, Reg

_ATTRS: Final = msgspec.json.Decoder(CapabilityAttrs)

_KEY: Final = get_args(Key)[1]
CapabilityKey = Annotated[
    str,
    PathParameter(
        schema_extra={"pattern": _KEY.pattern, "max_length": _KEY.max_length},
        description="The capability's key; slashes may stand as they are.",
    ),
]


@put(
    "/{ref:str}/capabilities/{key:path}",
    opt=documented(
        "Let a node have a capability: 201 when it had none under this key, 200 when it had. Without a body it has no "
        "value and is enabled.",
        body=CapabilityAttrs,
        body_required=False,
        answers={200: NodeBody, 201: NodeBody},
        errors=(404,),
        matched=True,
    ),
)
async def put_capability(
    registry: Reg, actor: Caller, request: Asked, ref: Ref, key: CapabilityKey, body: RawBody
) -> Response[bytes]:
    attrs = read_json(body, _ATTRS) if body else CapabilityAttrs()
    node_id, domain = matching(registry, request, ref)
    equipped = await domain.put_capability(node_id, _key(key), attrs, actor=actor)
    return node_answer(registry, equipped.node, status=201 if equipped.added else 200)


@delete(
    "/{ref:str}/capabilities/{key:path}",
    status_code=204,
    opt=documented("Take a capability from a node.", answers={204: None}, errors=(404,), matched=True),
)
async def remove_capability(registry: Reg, actor: Caller, request: Asked, ref: Ref, key: CapabilityKey) -> None:
    node_id, domain = matching(registry, request, ref)
    await domain.remove_capability(node_id, _key(key), actor=actor)


def _key(path: str) -> str:
    return read_key(path.removeprefix("/"))


ROUTES: Final = Router("/api/nodes", route_handlers=[put_capability, remove_capability], tags=["capabilities"])
