"""The gate's application: the edge, the hot route, and everything else under Litestar."""

from __future__ import annotations

from typing import Any, Final

from litestar import Litestar, Request
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig

from thunderline import __version__
from thunderline.core.errors import InvalidInput, ThunderlineError
from thunderline.gate import events, graph, health, heartbeats, nodes, page
from thunderline.gate.beat_route import BeatRoute
from thunderline.gate.edge import AsgiApp, Edge
from thunderline.gate.faults import answer_error
from thunderline.gate.openapi import ApiDocument
from thunderline.link.registry import Registry

_NOT_PARAMETERS: Final = frozenset({"registry", "body", "request"})


def build_litestar(registry: Registry) -> Litestar:
    """The framework's part of the gate."""
    return Litestar(
        route_handlers=[
            nodes.ROUTES,
            heartbeats.ROUTES,
            graph.ROUTES,
            events.ROUTES,
            health.healthz,
            health.readyz,
            page.live_page,
            page.asset,
            page.docs_page,
        ],
        dependencies={"registry": Provide(lambda: registry, sync_to_thread=False, use_cache=True)},
        signature_types=[Registry],
        exception_handlers={ThunderlineError: answer_error, Exception: answer_error},
        before_request=refuse_unknown_parameters,
        openapi_config=OpenAPIConfig(
            title="Thunderline", version=__version__, path="/schema", render_plugins=[ApiDocument()]
        ),
        request_max_body_size=None,  # the edge counts
        logging_config=None,
    )


def build_app(registry: Registry) -> AsgiApp:
    """The whole gate as one ASGI application."""
    settings = registry.settings
    litestar: Any = build_litestar(registry)
    return Edge(
        BeatRoute(litestar, registry),
        allowed_hosts=(*settings.allowed_hosts, settings.host),
        body_max_bytes=settings.body_max_bytes,
    )


async def refuse_unknown_parameters(request: Request[Any, Any, Any]) -> None:
    """A misspelt filter must not silently list everything. Raises: InvalidInput naming the parameter."""
    if not request.scope["query_string"]:
        return
    known = request.route_handler.parsed_fn_signature.parameters.keys() - _NOT_PARAMETERS
    known -= request.scope["path_params"].keys()
    for name in request.query_params:
        if name not in known:
            hint = f"one of {', '.join(sorted(known))}" if known else "none is taken here"
            raise InvalidInput(name[:100], f"is not a parameter of this route; {hint}")
