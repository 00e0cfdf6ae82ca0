"""A span for each request that is more than a heartbeat or a look whether the server is there."""

from __future__ import annotations

from typing import Final

from thunderline.core.tracing import Tracer, caller_in
from thunderline.gate.edge import AsgiApp, Message, Receive, Scope, Send
from thunderline.gate.methods import is_batch

_LOOKS: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked for every few seconds by machines, which learn nothing from a trace of it."""

SERVER_ERRORS: Final = 500


class Traced:
    """Hands every request on to `app`, and tells of it from there to the beginning of its answer: that of a stream has
    no end."""

    def __init__(self, app: AsgiApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _LOOKS:
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        attributes = {"http.request.method": method, "url.path": path, "url.scheme": scope["scheme"]}
        span = self._tracer.start(method, caller=caller_in(scope["headers"]), attributes=attributes)

        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                status = int(message["status"])
                span.tell({"http.response.status_code": status})
                # The framework says which route it was; those in front of it have no parameters.
                route = path if is_batch(method, path) else scope.get("path_template")
                if route is not None:
                    span.rename(f"{method} {route}")
                    span.tell({"http.route": route})
                if status >= SERVER_ERRORS:
                    span.fail(str(status))
                span.end()
            await send(message)

        try:
            with span:
                await self._app(scope, receive, telling)
        finally:
            span.end()
