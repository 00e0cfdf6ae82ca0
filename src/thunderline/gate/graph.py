"""The route of the topology."""

from __future__ import annotations

from typing import Annotated, Final

from litestar import Response, Router, get
from litestar.params import QueryParameter

from thunderline.gate.bodies import answer, encode
from thunderline.gate.openapi import documented
from thunderline.gate.parameters import Consistent, Reg, check_consistent
from thunderline.link.graph import Graph


@get("/", opt=documented("The topology, as `force-graph` and `3d-force-graph` read it.", answers={200: Graph}))
async def get_graph(
    registry: Reg,
    include_offline: Annotated[bool, QueryParameter(description="Whether offline nodes are drawn.")] = False,
    domain: Annotated[str | None, QueryParameter(description="Only nodes of this domain.")] = None,
    consistent: Consistent = False,
) -> Response[bytes]:
    check_consistent(registry, consistent)
    return answer(encode(registry.graph(include_offline=include_offline, domain=domain)), registry)


ROUTES: Final = Router("/api/graph", route_handlers=[get_graph], tags=["topology"])
