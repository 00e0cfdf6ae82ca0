"""The routes of the topology, and of the cluster in figures."""

from __future__ import annotations

from typing import Annotated, Any, Final

from litestar import Response, Router, get
from litestar.params import QueryParameter

from thunderline.core.errors import InvalidInput
from thunderline.gate.bodies import answer, answer_in_parts, encode
from thunderline.gate.conditions import REVALIDATE, Asked, not_modified, view_tag
from thunderline.gate.openapi import documented
from thunderline.gate.parameters import MOMENT, Consistent, Reg, check_consistent
from thunderline.link.filters import graph_filter
from thunderline.link.graph import Graph, GraphLevel
from thunderline.link.past_graphs import GraphDiff
from thunderline.link.summary import Summary


@get(
    "/graph",
    opt=documented(
        "The topology, as `force-graph` and `3d-force-graph` read it.",
        answers={200: Graph},
        errors=(404, 410),
        revalidates=True,
    ),
)
async def get_graph(
    registry: Reg,
    request: Asked,
    include_offline: Annotated[bool, QueryParameter(description="Whether offline nodes are drawn.")] = False,
    domain: Annotated[str | None, QueryParameter(description="Only nodes of this domain.")] = None,
    group: Annotated[
        str | None, QueryParameter(description="Only members of this group, or of those below it: its id or name.")
    ] = None,
    level: Annotated[
        GraphLevel, QueryParameter(description="`groups` draws each group as one node, its members counted.")
    ] = "nodes",
    at: Annotated[
        str | None,
        QueryParameter(
            schema_extra=MOMENT, description="As it stood then: a time (RFC 3339), a revision, or a cursor."
        ),
    ] = None,
    revision: Annotated[int | None, QueryParameter(description="As it stood at this revision.")] = None,
    consistent: Consistent = False,
) -> Response[Any]:
    check_consistent(registry, consistent)
    if revision is not None or at is not None:
        if revision is not None and at is not None:
            raise InvalidInput("at", "should not be given together with revision")
        moment, field = (revision, "revision") if at is None else (at, "at")
        assert moment is not None
        wanted = graph_filter(include_offline=include_offline, domain=domain, group=group)
        return answer(await registry.past.json_at(moment, wanted, level, field=field), registry)
    if group is not None:
        registry.get_group(group)  # one that is not there has no graph, whatever the client holds
    tag = view_tag(registry, request)
    if (unchanged := not_modified(registry, request, tag)) is not None:
        return unchanged
    parts = registry.graph_parts(include_offline=include_offline, domain=domain, group=group, level=level)
    return answer_in_parts(parts, registry, tag=tag, cache=REVALIDATE)


@get(
    "/graph/diff",
    opt=documented(
        "What differs between the topologies of two moments: what came, what went, and what changed, with before and "
        "after. A link is the same as long as its `session_id` is.",
        answers={200: GraphDiff},
        errors=(404, 410),
        needs=("from",),
    ),
)
async def get_graph_diff(
    registry: Reg,
    since: Annotated[
        str | None,
        QueryParameter(
            name="from",
            schema_extra=MOMENT,
            description="The earlier moment, required: a time (RFC 3339), a revision, or a cursor.",
        ),
    ] = None,
    until: Annotated[
        str | None,
        QueryParameter(name="to", schema_extra=MOMENT, description="The later moment, likewise; absent: now."),
    ] = None,
    include_offline: Annotated[bool, QueryParameter(description="Whether offline nodes are drawn.")] = False,
    domain: Annotated[str | None, QueryParameter(description="Only nodes of this domain.")] = None,
    group: Annotated[
        str | None, QueryParameter(description="Only members of this group, or of those below it: its id or name.")
    ] = None,
    level: Annotated[
        GraphLevel, QueryParameter(description="`groups` draws each group as one node, its members counted.")
    ] = "nodes",
) -> Response[bytes]:
    wanted = graph_filter(include_offline=include_offline, domain=domain, group=group)
    if since is None:
        raise InvalidInput("from", "is required: the earlier moment")
    later = registry.cursor if until is None else until
    return answer(await registry.past.diff_json(since, later, wanted, level), registry)


@get(
    "/summary",
    opt=documented(
        "The cluster in figures: nodes by status, role and domain, open sessions, how the cache serves.",
        answers={200: Summary},
    ),
)
async def get_summary(registry: Reg, consistent: Consistent = False) -> Response[bytes]:
    check_consistent(registry, consistent)
    return answer(encode(registry.summary()), registry)


ROUTES: Final = Router("/api", route_handlers=[get_graph, get_graph_diff, get_summary], tags=["topology"])
