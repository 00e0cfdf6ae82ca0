"""HTTP as RFC 9110 has it: methods, `Allow`, and what may be given once."""

from __future__ import annotations

from typing import Any

import pytest

from thunderline.gate.app import build_app
from thunderline.testing.harness import Cluster

JSON = "application/json"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/docs", "/schema", "/api/nodes", "/api/nodes/known"])
async def test_head_is_get_without_the_body(cluster: Cluster, path: str) -> None:
    await cluster.node("known")
    full, bare = await cluster.http.get(path), await cluster.http.head(path)
    assert (bare.status_code, bare.content) == (200, b"")
    assert bare.headers == full.headers
    assert int(bare.headers["content-length"]) == len(full.content)


async def test_head_of_what_is_not_there_is_what_get_says(cluster: Cluster) -> None:
    assert (await cluster.http.head("/api/nodes/nobody")).status_code == 404


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/healthz", "GET, HEAD, OPTIONS"),
        ("/api/nodes", "GET, HEAD, OPTIONS, POST"),
        ("/api/nodes/", "GET, HEAD, OPTIONS, POST"),
        ("/api/nodes/a", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        ("/api/nodes/a/heartbeats", "GET, HEAD, OPTIONS, POST"),
        ("/api/nodes/a/online", "OPTIONS, POST"),
    ],
)
async def test_options_and_a_405_tell_all_methods_of_the_path(cluster: Cluster, path: str, methods: str) -> None:
    options = await cluster.http.options(path)
    assert (options.status_code, options.headers["allow"]) == (204, methods)
    wrong = await cluster.http.request("PUT", path)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, methods)
    assert wrong.headers["content-type"] == "application/problem+json"


async def test_the_document_is_the_same_at_its_usual_name(cluster: Cluster) -> None:
    document = (await cluster.http.get("/schema/openapi.json")).json()
    assert document == (await cluster.http.get("/schema")).json()


async def test_a_beat_takes_no_parameters(cluster: Cluster) -> None:
    await cluster.node("known")
    revision = len(await cluster.registry.recent_heartbeats())
    answer = await cluster.http.post("/api/nodes/known/heartbeats?foo=1", json={})
    assert (answer.status_code, answer.json()["field"]) == (422, "foo")
    assert len(await cluster.registry.recent_heartbeats()) == revision


async def test_a_beat_is_taken_with_a_slash_at_the_end(cluster: Cluster) -> None:
    await cluster.node("known")
    assert (await cluster.http.post("/api/nodes/known/heartbeats/", json={})).status_code == 201


@pytest.mark.parametrize(
    ("before", "status"), [("abc", 422), ("-1", 422), ("5000", 410), ("other-log:1", 410), ("since:1", 410)]
)
async def test_a_bad_end_of_a_page_of_events_is_named(cluster: Cluster, before: str, status: int) -> None:
    answer = await cluster.http.get("/api/events", params={"before": before})
    assert (answer.status_code, answer.json()["field"]) == (status, "before")
    assert answer.json()["detail"].startswith("before: ")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=online&status=offline", "status"),
        ("limit=1&limit=2", "limit"),
        ("limit=1&limit=1", "limit"),
        ("label=zone%3Da&label=zone%3Db", "label"),
    ],
)
async def test_a_parameter_that_can_hold_once_is_refused_twice(cluster: Cluster, query: str, field: str) -> None:
    answer = await cluster.http.get(f"/api/nodes?{query}")
    assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_several_labels_must_all_hold(cluster: Cluster) -> None:
    await cluster.node("both", labels={"zone": "a", "tier": "b"})
    await cluster.node("one", labels={"zone": "a"})
    answer = await cluster.http.get("/api/nodes?label=zone%3Da&label=tier%3Db&label=zone%3Da")
    assert [node["name"] for node in answer.json()["nodes"]] == ["both"]


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("host", "evil.example", "127.0.0.1"),
        ("host", "127.0.0.1", "127.0.0.1"),
        ("origin", "http://evil.example", "http://127.0.0.1"),
        ("content-type", "text/plain", JSON),
        ("authorization", "Bearer tl_a", "Bearer tl_b"),
        ("cookie", "thunderline=a", "thunderline=b"),
    ],
)
async def test_a_header_that_decides_is_refused_twice(cluster: Cluster, name: str, first: str, second: str) -> None:
    given = {"host": "127.0.0.1", "content-type": JSON}
    given.pop(name, None)
    headers = [*given.items(), (name, first), (name, second)]
    status = await status_of(cluster, headers)
    assert status == 400
    assert cluster.registry.list_nodes() == []


async def status_of(cluster: Cluster, headers: list[tuple[str, str]]) -> int:
    """The status of a registration with exactly these headers, which a client library would tidy up."""
    sent: list[Any] = []
    body = b'{"name":"x"}'

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers]
    scope = {
        "type": "http",
        "method": "POST",
        "scheme": "http",
        "path": "/api/nodes",
        "raw_path": b"/api/nodes",
        "query_string": b"",
        "root_path": "",
        "http_version": "1.1",
        "headers": [*raw, (b"content-length", str(len(body)).encode())],
    }
    await build_app(cluster.registry)(scope, receive, send)
    return int(sent[0]["status"])
