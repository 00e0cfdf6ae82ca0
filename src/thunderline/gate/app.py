"""The gate's application: the edge, the hot route, batches, and everything else under Litestar."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import msgspec
from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.routes import HTTPRoute
from litestar.typing import FieldDefinition

from thunderline import __version__
from thunderline.core.errors import InvalidInput, ThunderlineError
from thunderline.core.settings import Settings
from thunderline.gate import (
    alerts,
    browser_session,
    capabilities,
    events,
    graph,
    groups,
    health,
    heartbeats,
    monitoring,
    nodes,
    page,
    past,
    sessions,
    tokens,
)
from thunderline.gate.answer_headers import AnswerHeaders
from thunderline.gate.batch_route import BatchRoute
from thunderline.gate.beat_route import BeatRoute
from thunderline.gate.doorkeeper import Doorkeeper, actor_in
from thunderline.gate.edge import AsgiApp, Edge, HostRules, Receive, Scope, Send
from thunderline.gate.encoded import EncodedEvents
from thunderline.gate.faults import answer_error
from thunderline.gate.logins import Logins
from thunderline.gate.methods import allow
from thunderline.gate.monitoring import Monitoring
from thunderline.gate.openapi import ASKS, ApiDocument
from thunderline.gate.page import Dashboard, NoDashboard
from thunderline.gate.parameters import unknown_parameter
from thunderline.gate.traced import Traced
from thunderline.link.actor import Actor
from thunderline.link.registry import Registry

PARTS: Final = "thunderline.parts"
_NOT_PARAMETERS: Final = frozenset(
    {"registry", "encoded", "logins", "monitoring", "dashboard", "actor", "body", "request", "last_event_id"}
)


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the routes of one server work with; a request's scope has it under `PARTS`."""

    registry: Registry
    encoded: EncodedEvents
    logins: Logins
    monitoring: Monitoring | None
    dashboard: Dashboard


@cache
def build_litestar(*, asks: bool = False) -> Litestar:
    """The framework's part of the gate, which knows no server and is made once; `asks`: of those that want a token."""
    return Litestar(
        route_handlers=[
            nodes.ROUTES,
            capabilities.ROUTES,
            groups.ROUTES,
            sessions.ROUTES,
            heartbeats.ROUTES,
            graph.ROUTES,
            events.ROUTES,
            past.ROUTES,
            tokens.ROUTES,
            alerts.ROUTES,
            browser_session.ROUTES,
            monitoring.ROUTES,
            health.healthz,
            health.readyz,
            page.front_page,
            page.asset,
            page.docs_page,
        ],
        dependencies={
            "registry": Provide(_registry_of, sync_to_thread=False),
            "encoded": Provide(_encoded_of, sync_to_thread=False),
            "logins": Provide(_logins_of, sync_to_thread=False),
            "monitoring": Provide(_monitoring_of, sync_to_thread=False),
            "actor": Provide(_actor_of, sync_to_thread=False),
            "dashboard": Provide(_dashboard_of, sync_to_thread=False),
        },
        signature_types=[Registry, EncodedEvents, Logins, Monitoring, Dashboard],
        state=State({ASKS: asks}),
        exception_handlers={ThunderlineError: answer_error, Exception: answer_error},
        before_request=before_route,
        openapi_config=OpenAPIConfig(
            title="Thunderline", version=__version__, path="/schema", render_plugins=[ApiDocument()]
        ),
        request_max_body_size=None,  # the edge counts
        logging_config=None,
    )


def host_rules(settings: Settings) -> HostRules:
    """The hosts that a server with these settings answers for."""
    return HostRules((*settings.allowed_hosts, settings.host))


def build_app(
    registry: Registry,
    encoded: EncodedEvents | None = None,
    doorkeeper: Doorkeeper | None = None,
    monitoring: Monitoring | None = None,
    *,
    dashboard: Dashboard | None = None,
) -> AsgiApp:
    """The whole gate as one ASGI application; `encoded` are the events, and `doorkeeper` knows the sessions of
    browsers, that it shares with what is beside it. Without `monitoring` there is nothing for Prometheus, without a
    `dashboard` `/` says that there is none."""
    settings = registry.settings
    doorkeeper = doorkeeper or Doorkeeper(registry, Logins(registry))
    litestar: Any = build_litestar(asks=settings.auth)
    parts = Parts(
        registry=registry,
        encoded=encoded or EncodedEvents(registry.log),
        logins=doorkeeper.logins,
        monitoring=monitoring,
        dashboard=dashboard or NoDashboard(),
    )

    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        scope[PARTS] = parts
        await litestar(scope, receive, send)

    answering: AsgiApp = BatchRoute(routed, registry, doorkeeper)
    if registry.tracer is not None:
        # Behind the edge, where everybody may name a trace, and behind the route of beats, which have none.
        answering = Traced(answering, registry.tracer)
    return AnswerHeaders(
        Edge(
            BeatRoute(answering, registry, doorkeeper),
            rules=host_rules(settings),
            doorkeeper=doorkeeper,
            body_max_bytes=settings.body_max_bytes,
            batch_body_max_bytes=settings.batch_body_max_bytes,
        )
    )


def _parts_of(request: Request[Any, Any, Any]) -> Parts:
    parts: Parts = request.scope[PARTS]  # type: ignore[typeddict-item]  # a key of ours
    return parts


def _registry_of(request: Request[Any, Any, Any]) -> Registry:
    return _parts_of(request).registry


def _encoded_of(request: Request[Any, Any, Any]) -> EncodedEvents:
    return _parts_of(request).encoded


def _logins_of(request: Request[Any, Any, Any]) -> Logins:
    return _parts_of(request).logins


def _monitoring_of(request: Request[Any, Any, Any]) -> Monitoring:
    watched = _parts_of(request).monitoring
    if watched is None:
        raise NotFoundException
    return watched


def _dashboard_of(request: Request[Any, Any, Any]) -> Dashboard:
    return _parts_of(request).dashboard


def _actor_of(request: Request[Any, Any, Any]) -> Actor:
    return actor_in(request.scope)


async def before_route(request: Request[Any, Any, Any]) -> Response[None] | None:
    """The answer to `OPTIONS`; any other request goes on, once its parameters are known. Raises: InvalidInput."""
    if request.method == "OPTIONS":
        return Response(None, status_code=204, headers={"allow": _allowed(request)})
    refuse_unknown_parameters(request)
    return None


def refuse_unknown_parameters(request: Request[Any, Any, Any]) -> None:
    """A misspelt filter must not silently list everything, nor one of two that differ silently win; nor must a `null`,
    which the framework takes for a parameter that is left out.

    Raises: InvalidInput naming the parameter.
    """
    if not request.scope["query_string"]:
        return
    fields = request.route_handler.parsed_fn_signature.parameters
    taken = {_name_outside(name, field): field for name, field in fields.items()}
    known = taken.keys() - _NOT_PARAMETERS - request.scope["path_params"].keys()
    seen = set()
    for name, value in request.query_params.multi_items():
        if name not in known:
            raise unknown_parameter(name, known=known)
        if name in seen and not _takes_several(taken[name]):
            raise InvalidInput(name, "is given more than once")
        if value.lower() == "null" and not _takes_text(taken[name]):
            raise InvalidInput(name, "cannot be null; leave it out")
        seen.add(name)


def _name_outside(name: str, parameter: FieldDefinition) -> str:
    # Not every word that a query may hold can be the name of something in Python.
    return getattr(parameter.kwarg_definition, "name", None) or name


def _takes_text(parameter: FieldDefinition) -> bool:
    return any(kind.annotation is str for kind in (parameter, *parameter.inner_types))


def _takes_several(parameter: FieldDefinition) -> bool:
    return any(kind.is_non_string_sequence for kind in (parameter, *parameter.inner_types))


def _allowed(request: Request[Any, Any, Any]) -> str:
    # The framework keeps one route for each handler of a path, and answers with the methods of one.
    template = request.scope["path_template"]
    routes = [route for route in request.app.routes if isinstance(route, HTTPRoute) and route.path_format == template]
    return allow((method for route in routes for method in route.methods), request.scope["path"])
