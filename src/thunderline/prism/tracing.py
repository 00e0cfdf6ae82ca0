"""Traces for OpenTelemetry, sent as OTLP over HTTP; of the extra `otel`, and imported where traces are wanted alone.

Where they go, how many are kept and what the service is called say the `OTEL_*` variables, which the library reads
itself. What is told waits in a bounded queue for a thread that sends it: where the receiver is away, or too slow, the
oldest goes and nobody else waits.

Sources: W3C Trace Context; OpenTelemetry's semantic conventions for HTTP and for resources.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from thunderline import __version__
from thunderline.core.errors import SettingsError
from thunderline.core.logging import get_logger
from thunderline.core.tracing import Attributes, Caller, CommitReport

log = get_logger(__name__)

SCOPE: Final = "thunderline"

LINKS_MAX: Final = 32
"""Traces that a commit for many names, of those that wait for it."""

SEND_AT_END_S: Final = 5.0
"""How long the end of a server waits for what is left to be sent."""

_NS_PER_S: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000


class OtelSpan:
    """A span of the library, as the port has it."""

    __slots__ = ("_is_open", "_span", "_within")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._is_open = True
        self._within: contextvars.Token[Context] | None = None

    def __enter__(self) -> OtelSpan:
        self._within = attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        assert self._within is not None
        detach(self._within)
        if kind is not None:
            self.fail(kind.__name__)

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def tell(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def fail(self, reason: str) -> None:
        self._span.set_attribute("error.type", reason)
        self._span.set_status(trace.StatusCode.ERROR)

    def end(self) -> None:
        if self._is_open:
            self._is_open = False
            self._span.end()


class OtelTracer:
    """Makes spans of one provider, which stays the caller's."""

    def __init__(self, provider: TracerProvider) -> None:
        self._tracer = provider.get_tracer(SCOPE, __version__)
        self._propagator = TraceContextTextMapPropagator()

    def start(self, name: str, *, caller: Caller | None = None, attributes: Attributes | None = None) -> OtelSpan:
        # Of nobody but the caller: a task may have inherited the span of whoever started it.
        within = Context() if caller is None else self._context_of(caller)
        return OtelSpan(self._tracer.start_span(name, within, kind=trace.SpanKind.SERVER, attributes=attributes))

    def current(self) -> trace.SpanContext | None:
        span = trace.get_current_span()
        return span.get_span_context() if span.is_recording() else None

    def committed(self, report: CommitReport) -> None:
        waiting = [each for each in report.waiting if isinstance(each, trace.SpanContext)]
        # What is done for one is a part of that trace; what is done for many belongs to none of theirs.
        within = trace.set_span_in_context(trace.NonRecordingSpan(waiting[0]), Context()) if len(waiting) == 1 else None
        links = [trace.Link(each) for each in waiting[:LINKS_MAX]] if within is None else []
        began_ns = report.at_ms * _NS_PER_MS
        told_ns = began_ns + round((report.plan_s + report.store_s + report.answer_s) * _NS_PER_S)
        ended_ns = told_ns + round(report.fan_out_s * _NS_PER_S)
        span = self._tracer.start_span(
            "commit", within or Context(), links=links, start_time=began_ns, attributes=_attributes(report)
        )
        if report.error is not None:
            OtelSpan(span).fail(report.error)
        elif report.events:
            fan_out = self._tracer.start_span(
                "fan-out",
                trace.set_span_in_context(span, Context()),
                start_time=told_ns,
                attributes={
                    "thunderline.events": report.events,
                    "thunderline.watchers": report.listeners,
                    "thunderline.revision": report.revision,
                },
            )
            fan_out.end(ended_ns)
        span.end(ended_ns)

    def _context_of(self, caller: Caller) -> Context:
        carrier = {"traceparent": caller.traceparent}
        if caller.tracestate is not None:
            carrier["tracestate"] = caller.tracestate
        return self._propagator.extract(carrier, Context())


@asynccontextmanager
async def open_tracing(*, instance: str) -> AsyncIterator[OtelTracer]:
    """A tracer of what `instance` does, for the length of a block, at whose end what is left is sent.

    Raises: SettingsError for variables that cannot be used.
    """
    try:
        exporter = OTLPSpanExporter()
        provider = TracerProvider(resource=_resource(instance), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter))
    except (ValueError, OSError) as error:
        raise SettingsError("traces", f"an OTEL_* variable cannot be used: {error}", source="environment") from error
    try:
        yield OtelTracer(provider)
    finally:
        ending = asyncio.ensure_future(asyncio.to_thread(provider.shutdown))
        done, _ = await asyncio.wait([ending], timeout=SEND_AT_END_S)
        if not done:
            log.warning("traces not sent in time, the rest is lost", waited_s=SEND_AT_END_S)
            await asyncio.to_thread(exporter.shutdown)  # ends its waits between two attempts
        await ending


def _resource(instance: str) -> Resource:
    ours = Resource({"service.name": SCOPE, "service.version": __version__, "service.instance.id": instance})
    return Resource.create().merge(ours).merge(OTELResourceDetector().detect())


def _attributes(report: CommitReport) -> Attributes:
    return {
        "thunderline.operations": report.operations,
        "thunderline.heartbeats": report.beats,
        "thunderline.events": report.events,
        "thunderline.revision": report.revision,
        "thunderline.waiting": len(report.waiting),
        "thunderline.plan_seconds": report.plan_s,
        "thunderline.store_seconds": report.store_s,
        "thunderline.answer_seconds": report.answer_s,
        "thunderline.fan_out_seconds": report.fan_out_s,
    }
