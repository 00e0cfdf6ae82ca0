"""Traces: which spans there are, whose they are part of, what they tell; and that heartbeats have none."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
from websockets.asyncio.client import connect

pytest.importorskip("opentelemetry.sdk", reason="traces need the extra otel")

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.gate.links import Links
from tests.prism.collector import collecting
from thunderline.core.errors import SettingsError
from thunderline.core.settings import Settings
from thunderline.core.tracing import caller_in
from thunderline.prism.tracing import LINKS_MAX, OtelTracer, open_tracing
from thunderline.server import open_server
from thunderline.testing.harness import Cluster, open_cluster

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


class Traced:
    """A cluster, and the spans that have ended."""

    def __init__(self, cluster: Cluster, exporter: InMemorySpanExporter) -> None:
        self.cluster = cluster
        self._exporter = exporter

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        """Those of that name, by when they began."""
        found = [span for span in self._exporter.get_finished_spans() if name in (None, span.name)]
        return sorted(found, key=lambda span: span.start_time)

    def one(self, name: str) -> ReadableSpan:
        """The only one of that name."""
        (span,) = self.spans(name)
        return span

    def forget(self) -> None:
        """What came so far counts no more."""
        self._exporter.clear()


@pytest.fixture
async def traced() -> AsyncIterator[Traced]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with open_cluster(tracer=OtelTracer(provider)) as cluster:
        yield Traced(cluster, exporter)


def told(span: ReadableSpan) -> dict[str, object]:
    """What it tells, with no prefix of ours."""
    return {name.removeprefix("thunderline."): value for name, value in (span.attributes or {}).items()}


def parent(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


async def test_a_request_goes_on_in_its_callers_trace_down_to_the_fan_out(traced: Traced) -> None:
    http = traced.cluster.http
    (await http.post("/api/nodes", json={"name": "a"}, headers=TRACEPARENT)).raise_for_status()
    request, commit, fan_out = (traced.one(name) for name in ("POST /api/nodes", "commit", "fan-out"))
    assert {span.context.trace_id for span in (request, commit, fan_out)} == {int(TRACE, 16)}
    assert parent(request) == int(PARENT, 16)
    assert parent(commit) == request.context.span_id
    assert parent(fan_out) == commit.context.span_id
    assert request.kind is SpanKind.SERVER
    assert told(request) == {
        "http.request.method": "POST",
        "http.response.status_code": 201,
        "http.route": "/api/nodes",
        "url.path": "/api/nodes",
        "url.scheme": "http",
    }
    revision = traced.cluster.registry.roster.revision
    assert {**told(commit), **told(fan_out)} == {
        "operations": 1,
        "heartbeats": 0,
        "events": 1,
        "revision": revision,
        "waiting": 1,
        "watchers": 0,
        # Under a clock that nobody turned nothing took any time.
        "plan_seconds": 0.0,
        "store_seconds": 0.0,
        "answer_seconds": 0.0,
        "fan_out_seconds": 0.0,
    }


async def test_spans_are_named_by_their_route_and_only_a_bug_or_an_absence_fails_them(traced: Traced) -> None:
    http = traced.cluster.http
    await http.get("/api/nodes/nobody")
    span = traced.one("GET /api/nodes/{ref}")
    assert (told(span)["http.response.status_code"], span.status.status_code) == (404, StatusCode.UNSET)
    await http.get("/no/such/page")
    assert told(traced.one("GET"))["url.path"] == "/no/such/page"
    traced.cluster.store.away = True
    await http.post("/api/nodes", json={"name": "a"})
    span = traced.one("POST /api/nodes")
    assert (told(span)["error.type"], span.status.status_code) == ("503", StatusCode.ERROR)
    commit = traced.one("commit")
    assert (told(commit)["error.type"], commit.status.status_code) == ("unavailable", StatusCode.ERROR)
    assert traced.spans("fan-out") == []
    traced.cluster.store.away = False


async def test_a_commit_for_many_is_a_trace_of_its_own_that_links_to_theirs(traced: Traced) -> None:
    http = traced.cluster.http
    count = LINKS_MAX + 8
    await asyncio.gather(*(http.post("/api/nodes", json={"name": f"n{i}"}) for i in range(count)))
    requests = {span.context.span_id for span in traced.spans("POST /api/nodes")}
    commits = traced.spans("commit")
    waited = [parent(span) for span in commits if span.parent is not None]
    linked = [link.context.span_id for span in commits for link in span.links]
    assert len(requests) == count
    assert len(set(waited + linked)) == len(waited + linked) <= count
    assert set(waited + linked) <= requests
    assert sum(told(span)["waiting"] for span in commits) == count
    many = [span for span in commits if told(span)["waiting"] > 1]
    assert many != []
    assert all(span.parent is None and len(span.links) == min(told(span)["waiting"], LINKS_MAX) for span in many)


async def test_heartbeats_are_in_no_trace_and_their_commits_are_nobodys(traced: Traced) -> None:
    node = await traced.cluster.node("a")
    traced.forget()
    (await node.beat()).raise_for_status()
    (await traced.cluster.http.get("/healthz")).raise_for_status()
    [commit] = traced.spans()
    assert (commit.name, commit.parent, commit.links) == ("commit", None, ())
    assert (told(commit)["heartbeats"], told(commit)["waiting"]) == (1, 0)


async def test_a_handshake_has_its_commit_and_says_whether_it_was_resumed(traced: Traced) -> None:
    links = Links(traced.cluster)
    node = await links.open("worker-1")
    span, commit = traced.one("handshake"), traced.one("commit")
    assert told(span) == {"node": "worker-1", "resumed": False, "incarnation": 1}
    assert parent(commit) == span.context.span_id
    traced.forget()
    welcome = node.welcome
    node.cut()
    again = links.connect()
    again.hello(resume={"session_id": welcome["session_id"], "secret": welcome["secret"]})
    assert again.welcome["resumed"]
    [span] = traced.spans()
    assert (span.name, told(span)["resumed"]) == ("handshake", True)


async def test_a_handshake_that_fails_says_why(traced: Traced) -> None:
    links = Links(traced.cluster)
    await links.open("worker-1")
    traced.forget()
    other = links.connect()
    other.hello(role="edge")
    await traced.cluster.clock.advance(0)
    assert other.closed is not None
    span = traced.one("handshake")
    assert (told(span)["error.type"], span.status.status_code) == (other.closed[1], StatusCode.ERROR)


@pytest.mark.parametrize("value", ["", "00-0-0-01", f"00-{'0' * 32}-{PARENT}-01", "\xff" * 55])
async def test_a_traceparent_that_is_none_begins_a_trace_of_its_own(traced: Traced, value: str) -> None:
    headers = [(b"traceparent", value.encode("latin-1"))]
    (await traced.cluster.http.get("/api/nodes", headers=headers)).raise_for_status()
    span = traced.one("GET /api/nodes")
    assert span.parent is None
    assert span.context.trace_id != 0


def test_of_two_traceparents_neither_is_believed_and_tracestates_are_one_list() -> None:
    parent = (b"traceparent", TRACEPARENT["traceparent"].encode())
    assert caller_in([parent, parent]) is None
    states = [(b"tracestate", b"a=1"), (b"tracestate", b"b=2")]
    assert caller_in([parent, *states]) == (TRACEPARENT["traceparent"], "a=1,b=2")


async def test_a_server_sends_its_traces_where_the_standard_variables_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(port=0, store=f"sqlite:///{tmp_path / 't.db'}", traces=True, node_name="registry@test")
    hello = {"type": "hello", "name": "linked", "instance": "a"}
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=fleet,deployment.environment=test")
        async with open_server(settings) as server:
            async with httpx.AsyncClient(base_url=server.url, trust_env=False, headers=TRACEPARENT) as http:
                (await http.post("/api/nodes", json={"name": "a"})).raise_for_status()
            url = server.url.replace("http", "ws") + "/link"
            async with connect(
                url, subprotocols=["thunderline.link.v1+json"], additional_headers=TRACEPARENT, proxy=None
            ) as link:
                await link.send(msgspec.json.encode(hello).decode())
                assert msgspec.json.decode(await link.recv())["type"] == "welcome"
    ours = [span for span in collector.spans if span.trace_id.hex() == TRACE]
    assert sorted(span.name for span in ours) == [
        "POST /api/nodes",
        "commit",
        "commit",
        "fan-out",
        "fan-out",
        "handshake",
    ]
    assert all(span.end_time_unix_nano >= span.start_time_unix_nano > 0 for span in ours)
    assert collector.resource["service.name"] == "fleet"
    assert collector.resource["service.instance.id"] == "registry@test"
    assert collector.resource["deployment.environment"] == "test"


async def test_without_the_extra_traces_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "thunderline.prism.tracing")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    settings = Settings(port=0, store=f"sqlite:///{tmp_path / 't.db'}", traces=True)
    with pytest.raises(SettingsError, match=r"pip install 'thunderline\[otel\]'"):
        async with open_server(settings):
            raise AssertionError("it started")
    assert not (tmp_path / "t.db").exists()


async def test_a_variable_that_cannot_be_used_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "0")
    with pytest.raises(SettingsError, match="OTEL_"):
        async with open_tracing(instance="a"):
            raise AssertionError("it started")
