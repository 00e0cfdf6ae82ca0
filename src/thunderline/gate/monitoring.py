"""The routes for Prometheus: the server's metrics, and the nodes as targets.

What they answer is made elsewhere, and handed over by the composition root: the gate knows how to ask for it.
"""

from __future__ import annotations

from typing import Annotated, Final, Protocol

from litestar import Response, Router, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from thunderline.gate.bodies import answer, answer_headers
from thunderline.gate.conditions import NEVER_KEEP, Asked, header
from thunderline.gate.openapi import documented
from thunderline.gate.parameters import (
    Reg,
    WantedCapability,
    WantedClusterType,
    WantedGroup,
    WantedLabels,
    WantedName,
    WantedStatus,
    read_labels,
)
from thunderline.link.filters import node_filter
from thunderline.link.node_index import NodeFilter

TEXT_PLAIN: Final = "text/plain"


class Exposition(Protocol):
    """Who has the server's metrics."""

    async def expose(self, accept: str | None) -> tuple[bytes, str]:
        """The text, in a format that `accept` (a header's value) names, and its media type."""


class Discovery(Protocol):
    """Who knows the nodes as targets."""

    async def targets(self, wanted: NodeFilter, *, port: int | None, port_label: str | None) -> bytes:
        """Those of the nodes that match, as the JSON of Prometheus' HTTP service discovery. Raises: UnknownGroup."""


class Monitoring:
    """What a server hands over."""

    def __init__(self, metrics: Exposition, discovery: Discovery) -> None:
        self.metrics = metrics
        self.discovery = discovery


Watched = NamedDependency[Monitoring]


@get(
    "/metrics",
    opt=documented(
        "The server's metrics, in the text format of Prometheus, or as OpenMetrics where `Accept` prefers that.",
        answers={200: None},
        text=TEXT_PLAIN,
    ),
)
async def get_metrics(registry: Reg, monitoring: Watched, request: Asked) -> Response[bytes]:
    body, media_type = await monitoring.metrics.expose(header(request.scope, b"accept"))
    headers = {**answer_headers(registry), "content-type": media_type, "cache-control": NEVER_KEEP}
    return Response(body, headers=headers)


@get(
    "/api/sd/prometheus",
    opt=documented(
        "The nodes as targets for Prometheus' HTTP service discovery, one group each, with what is known of it in "
        "labels that begin with `__meta_thunderline_`. Nodes without an address are left out. The port is what the "
        "label `port_label` says, else `port`, and where neither is given the one in the address; with `port_label` "
        "alone, nodes without that label are left out.",
        answers={200: list[dict[str, list[str] | dict[str, str]]]},
        errors=(404,),
    ),
)
async def get_targets(
    registry: Reg,
    monitoring: Watched,
    port: Annotated[int | None, QueryParameter(ge=1, le=65_535, description="The port to scrape.")] = None,
    port_label: Annotated[
        str | None, QueryParameter(min_length=1, description="The label whose value is the node's port.")
    ] = None,
    status: WantedStatus = None,
    role: FromQuery[str | None] = None,
    domain: FromQuery[str | None] = None,
    cluster_type: WantedClusterType = None,
    capability: WantedCapability = None,
    group: WantedGroup = None,
    label: WantedLabels = None,
    name: WantedName = None,
) -> Response[bytes]:
    wanted = node_filter(
        status=status,
        role=role,
        domain=domain,
        cluster_type=cluster_type,
        capability=capability,
        group=group,
        labels=read_labels(label),
        name=name,
    )
    body = await monitoring.discovery.targets(wanted, port=port, port_label=port_label)
    return answer(body, registry, cache=NEVER_KEEP)


ROUTES: Final = Router("/", route_handlers=[get_metrics, get_targets], tags=["monitoring"])
