"""The routes of what was, apart from the graph of the past, which is the graph's own."""

from __future__ import annotations

from typing import Annotated, Final

from litestar import Response, Router, get
from litestar.params import QueryParameter

from thunderline.gate.bodies import answer, encode
from thunderline.gate.openapi import documented
from thunderline.gate.parameters import MOMENT, Ref, Reg
from thunderline.link.status_history import SPANS_DEFAULT, SPANS_MAX, StatusHistory
from thunderline.link.timeline import BINS_DEFAULT, BINS_MAX, Timeline


@get(
    "/nodes/{ref:str}/history",
    opt=documented(
        "What a node's status was, when, why, and brought about by whom; and for how long it was up. The newest "
        "`limit` spans, oldest first: where `earlier` is not null there are more, up to then. The uptime is of the "
        "whole window. The id of a deregistered node works too.",
        answers={200: StatusHistory},
        errors=(404, 410),
    ),
)
async def node_history(
    registry: Reg,
    ref: Ref,
    since: Annotated[
        str | None,
        QueryParameter(
            name="from",
            schema_extra=MOMENT,
            description="The window's begin: a time (RFC 3339), a revision, or a cursor. Default: 24 h before its end, "
            "or as far back as the log reaches.",
        ),
    ] = None,
    until: Annotated[
        str | None, QueryParameter(name="to", schema_extra=MOMENT, description="Its end, likewise; absent: now.")
    ] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=SPANS_MAX, description="Spans at most.")] = SPANS_DEFAULT,
) -> Response[bytes]:
    return answer(encode(await registry.status_history(ref, since, until, limit=limit)), registry)


@get(
    "/timeline",
    opt=documented(
        "How many events of each kind there were, as columns: one item for each bin. Bins are whole minutes, so they "
        "may be fewer than asked for. `oldest` is how far back the past can be asked for.",
        answers={200: Timeline},
        errors=(410,),
    ),
)
async def get_timeline(
    registry: Reg,
    since: Annotated[
        str | None,
        QueryParameter(
            name="from",
            schema_extra=MOMENT,
            description="The window's begin: a time (RFC 3339), a revision, or a cursor. Default: 24 h before its end.",
        ),
    ] = None,
    until: Annotated[
        str | None, QueryParameter(name="to", schema_extra=MOMENT, description="Its end, likewise; absent: now.")
    ] = None,
    bins: Annotated[int, QueryParameter(ge=1, le=BINS_MAX, description="Bins at most.")] = BINS_DEFAULT,
) -> Response[bytes]:
    return answer(encode(await registry.timeline(since, until, bins=bins)), registry)


ROUTES: Final = Router("/api", route_handlers=[node_history, get_timeline], tags=["past"])
