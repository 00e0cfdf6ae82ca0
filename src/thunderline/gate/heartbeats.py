"""The routes of heartbeats; sending one is `beat_route`."""

from __future__ import annotations

from typing import Annotated, Final

from litestar import Response, Router, get
from litestar.params import QueryParameter

from thunderline.gate.bodies import HeartbeatsBody, answer, encode
from thunderline.gate.openapi import documented
from thunderline.gate.parameters import Limit, Ref, Reg
from thunderline.link.registry import HEARTBEATS_MAX

Minutes = Annotated[float, QueryParameter(gt=0, le=527_040, description="How far back, in minutes.")]


@get(
    "/nodes/{ref:str}/heartbeats",
    opt=documented(
        "A node's heartbeats, oldest first, the newest `limit` of them. The id of a deregistered node works too.",
        answers={200: HeartbeatsBody},
        errors=(404,),
    ),
)
async def node_heartbeats(
    registry: Reg, ref: Ref, minutes: Minutes = 60.0, limit: Limit = HEARTBEATS_MAX
) -> Response[bytes]:
    found = await registry.recent_heartbeats(ref, minutes, limit=limit)
    return answer(encode(HeartbeatsBody(heartbeats=found)), registry)


@get("/heartbeats", opt=documented("All nodes' heartbeats, oldest first.", answers={200: HeartbeatsBody}))
async def all_heartbeats(registry: Reg, minutes: Minutes = 1.0, limit: Limit = HEARTBEATS_MAX) -> Response[bytes]:
    found = await registry.recent_heartbeats(None, minutes, limit=limit)
    return answer(encode(HeartbeatsBody(heartbeats=found)), registry)


ROUTES: Final = Router("/api", route_handlers=[node_heartbeats, all_heartbeats], tags=["heartbeats"])
