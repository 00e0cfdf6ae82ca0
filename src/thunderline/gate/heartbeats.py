"""The routes of heartbeats; sending one is `beat_route`."""

from __future__ import annotations

from typing import Annotated, Final

from litestar import Response, Router, get
from litestar.openapi.spec import Schema
from litestar.params import QueryParameter

from thunderline.gate.bodies import HeartbeatsBody, answer, encode
from thunderline.gate.openapi import documented
from thunderline.gate.parameters import Limit, Ref, Reg
from thunderline.link.history import BUCKETS_MAX, BUCKETS_WANTED, HEARTBEATS_MAX, MINUTES_MAX, HeartbeatSeries

Minutes = Annotated[float, QueryParameter(gt=0, le=MINUTES_MAX, description="How far back, in minutes.")]
_RESOLUTION_MAX_S: Final = MINUTES_MAX * 60


@get(
    "/nodes/{ref:str}/heartbeats",
    opt=documented(
        "A node's heartbeats, oldest first, the newest `limit` of them. The id of a deregistered node works too.",
        answers={200: HeartbeatsBody},
        errors=(404,),
    ),
)
async def node_heartbeats(
    registry: Reg,
    ref: Ref,
    minutes: Minutes = 60.0,
    limit: Limit = HEARTBEATS_MAX,
    resolution: Annotated[
        int | None,
        QueryParameter(
            ge=1,
            schema_extra={"maximum": _RESOLUTION_MAX_S},
            description="Seconds: of each such span, aligned to wall time, only the last heartbeat.",
        ),
    ] = None,
) -> Response[bytes]:
    found = await registry.recent_heartbeats(ref, minutes, limit=limit, resolution=resolution)
    return answer(encode(HeartbeatsBody(heartbeats=found)), registry)


@get(
    "/nodes/{ref:str}/series",
    opt=documented(
        "A node's heartbeats as columns. One item for each bucket of `resolution_s`: how many came, the worst status, "
        "and the least, mean and most of each figure; null where no heartbeat had it. Where heartbeats are no longer "
        "kept one by one, `resolution_s` is 60 at least. The id of a deregistered node works too.",
        answers={200: HeartbeatSeries},
        errors=(404,),
    ),
)
async def node_series(
    registry: Reg,
    ref: Ref,
    minutes: Minutes = 60.0,
    resolution: Annotated[
        int | None,
        QueryParameter(
            ge=1,
            schema_extra={"maximum": _RESOLUTION_MAX_S, "any_of": [Schema(maximum=60), Schema(multiple_of=60)]},
            description="Length of a bucket in seconds: 1 to 60, or a multiple of 60. Default: what gives at most "
            f"{BUCKETS_WANTED} buckets; {BUCKETS_MAX:,} at most.",
        ),
    ] = None,
) -> Response[bytes]:
    return answer(encode(await registry.series(ref, minutes, resolution=resolution)), registry)


@get("/heartbeats", opt=documented("All nodes' heartbeats, oldest first.", answers={200: HeartbeatsBody}))
async def all_heartbeats(registry: Reg, minutes: Minutes = 1.0, limit: Limit = HEARTBEATS_MAX) -> Response[bytes]:
    found = await registry.recent_heartbeats(None, minutes, limit=limit)
    return answer(encode(HeartbeatsBody(heartbeats=found)), registry)


ROUTES: Final = Router("/api", route_handlers=[node_heartbeats, node_series, all_heartbeats], tags=["heartbeats"])
