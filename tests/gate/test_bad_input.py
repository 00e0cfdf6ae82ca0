"""Bad input: a 4xx that names the field, and nothing changed; never a 5xx."""

from __future__ import annotations

import json
from typing import Any

import pytest

from thunderline.testing.harness import Cluster

JSON = {"content-type": "application/json"}
DEEP = b'{"name":"x","meta":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}}"

# what is wrong, body, expected status, the field that must be named
BODIES: list[tuple[str, bytes, int, str]] = [
    ("name is a number", b'{"name":5}', 422, "name"),
    ("name is missing", b"{}", 422, "name"),
    ("name is empty", b'{"name":""}', 422, "name"),
    ("name of 300 characters", json.dumps({"name": "n" * 300}).encode(), 422, "name"),
    ("name with a space", b'{"name":"a b"}', 422, "name"),
    ("name with a newline at the end", b'{"name":"a\\n"}', 422, "name"),
    ("name that begins with a dot", b'{"name":".a"}', 422, "name"),
    ("name that is a UUID", b'{"name":"0190f5fe-7a1b-7c3d-8e4f-123456789abc"}', 422, "name"),
    ("unknown field", b'{"name":"x","colour":"red"}', 422, "colour"),
    ("unknown field below", b'{"name":"x","capabilities":{"gpu":{"valu":"a"}}}', 422, "capabilities[...].valu"),
    ("unknown cluster type", b'{"name":"x","cluster_type":"moon"}', 422, "cluster_type"),
    ("role that is no slug", b'{"name":"x","role":"Big Boss"}', 422, "role"),
    ("label that is a number", b'{"name":"x","labels":{"a":1}}', 422, "labels[...]"),
    ("65 labels", json.dumps({"name": "x", "labels": {f"l{i}": "" for i in range(65)}}).encode(), 422, "labels"),
    ("meta that is a list", b'{"name":"x","meta":[]}', 422, "meta"),
    ("meta over 16 KiB", json.dumps({"name": "x", "meta": {"a": "b" * 17_000}}).encode(), 422, "meta"),
    ("meta 40 levels deep", b'{"name":"x","meta":{"a":' + b"[" * 40 + b"]" * 40 + b"}}", 422, "meta"),
    ("number beyond a double", b'{"name":"x","meta":{"a":1e999}}', 422, "meta[...]"),
    ("interval of 0", b'{"name":"x","heartbeat_interval_ms":0}', 422, "heartbeat_interval_ms"),
    ("NaN", b'{"name":"x","meta":{"a":NaN}}', 400, "body"),
    ("Infinity", b'{"name":"x","meta":{"a":Infinity}}', 400, "body"),
    ("invalid UTF-8", b'{"name":"a\xff"}', 400, "body"),
    ("lone surrogate", b'{"name":"x","address":"\\ud800"}', 400, "body"),
    ("half a document", b'{"name":"x"', 400, "body"),
    ("two documents", b'{"name":"x"}{"name":"y"}', 400, "body"),
    ("a list", b"[]", 422, "body"),
    ("null", b"null", 422, "body"),
    ("5,000 nested brackets", DEEP, 400, "body"),
    ("65 KiB", json.dumps({"name": "x", "address": "a" * 65 * 1024}).encode(), 413, "body"),
    ("nothing", b"", 400, "body"),
]

BEATS: list[tuple[str, bytes, int, str]] = [
    ("NaN", b'{"cpu_load":NaN}', 400, "body"),
    ("infinity", b'{"cpu_load":1e999}', 422, "cpu_load"),
    ("negative load", b'{"cpu_load":-0.1}', 422, "cpu_load"),
    ("load as text", b'{"cpu_load":"12"}', 422, "cpu_load"),
    ("unknown status", b'{"status":"dead"}', 422, "status"),
    ("status that only detection gives", b'{"status":"disconnected"}', 422, "status"),
    ("negative seq", b'{"seq":-1}', 422, "seq"),
    ("seq beyond 64 bits", b'{"seq":123456789012345678901234567890}', 422, "seq"),
    ("65 peers", json.dumps({"peers": {f"n{i}": 1 for i in range(65)}}).encode(), 422, "peers"),
    ("peer with a bad name", b'{"peers":{"a b":1}}', 422, "peers"),
    ("unknown field", b'{"cpu":1}', 422, "cpu"),
    ("older incarnation", b'{"incarnation":0}', 409, "incarnation"),
    ("5,000 nested brackets", b'{"meta":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}}", 400, "body"),
    ("nothing", b"", 400, "body"),
]


async def snapshot(cluster: Cluster) -> Any:
    """Everything that a caller can see of the state, but for the time of the last sign of life."""
    registry = cluster.registry
    return (
        registry.roster.revision,
        [entry.node for entry in registry.roster],
        [(registry.presence_of(entry).last_heartbeat, len(entry.sessions)) for entry in registry.roster],
        len(await registry.recent_heartbeats()),
    )


def named(answer: Any) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["detail"]
    return str(problem.get("field"))


@pytest.mark.parametrize(("what", "body", "status", "field"), BODIES, ids=[case[0] for case in BODIES])
async def test_a_bad_registration_is_refused_by_name(
    cluster: Cluster, what: str, body: bytes, status: int, field: str
) -> None:
    await cluster.node("known")
    before = await snapshot(cluster)
    answer = await cluster.http.post("/api/nodes", content=body, headers=JSON)
    assert (answer.status_code, named(answer)) == (status, field), answer.text
    assert await snapshot(cluster) == before


@pytest.mark.parametrize(("what", "body", "status", "field"), BEATS, ids=[case[0] for case in BEATS])
async def test_a_bad_heartbeat_is_refused_by_name(
    cluster: Cluster, what: str, body: bytes, status: int, field: str
) -> None:
    await cluster.node("known")
    before = await snapshot(cluster)
    answer = await cluster.http.post("/api/nodes/known/heartbeats", content=body, headers=JSON)
    assert (answer.status_code, named(answer)) == (status, field), answer.text
    assert await snapshot(cluster) == before


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/api/nodes/known/status", {"status": "disconnected"}, "status"),
        ("/api/nodes/known/status", {"status": "connecting"}, "status"),
        ("/api/nodes/known/status", {}, "status"),
        ("/api/nodes/known/status", {"status": "offline", "reason": "x" * 501}, "reason"),
        ("/api/nodes/known/status", {"status": "offline", "reason": "a\x00b"}, "reason"),
        ("/api/nodes/known/online", {"instance": ""}, "instance"),
        ("/api/nodes/known/online", {"session": {"weight": 2}}, "session.weight"),
        ("/api/nodes/known/online", {"session": {"session_type": "x"}}, "session.session_type"),
        ("/api/nodes/known/offline", {"why": "x"}, "why"),
    ],
)
async def test_a_bad_status_or_announcement_is_refused_by_name(
    cluster: Cluster, path: str, body: dict[str, Any], field: str
) -> None:
    await cluster.node("known")
    before = await snapshot(cluster)
    answer = await cluster.http.post(path, json=body)
    assert (answer.status_code, named(answer)) == (422, field), answer.text
    assert await snapshot(cluster) == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/nodes/nobody"),
        ("PATCH", "/api/nodes/nobody"),
        ("DELETE", "/api/nodes/nobody"),
        ("POST", "/api/nodes/nobody/online"),
        ("POST", "/api/nodes/nobody/offline"),
        ("POST", "/api/nodes/nobody/heartbeats"),
        ("GET", "/api/nodes/nobody/heartbeats"),
        ("DELETE", "/api/nodes/nobody/override"),
        ("GET", "/api/nodes/01a20925-53fe-7230-808d-cad59ba10008"),
        ("GET", "/api/nodes/%FF%FE"),
    ],
)
async def test_an_unknown_node_is_a_404_that_says_so(cluster: Cluster, method: str, path: str) -> None:
    body = {"json": {}} if method in ("POST", "PATCH") else {}
    answer = await cluster.http.request(method, path, **body)
    assert answer.status_code == 404
    assert answer.json()["code"] == "unknown_node"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("statu=online", "statu"),
        ("status=onlin", "status"),
        ("status=", "status"),
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=ten", "limit"),
        ("cluster_type=moon", "cluster_type"),
        ("label=zone", "label"),
        ("presence=perhaps", "presence"),
        ("cursor=nonsense", "cursor"),
        ("cursor=%C3%A4", "cursor"),
    ],
)
async def test_a_bad_parameter_is_refused_by_name(cluster: Cluster, query: str, field: str) -> None:
    answer = await cluster.http.get(f"/api/nodes?{query}")
    assert (answer.status_code, named(answer)) == (422, field), answer.text


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("since=abc", 422, "since"),
        ("since=-1", 422, "since"),
        ("since=5000", 410, "since"),
        ("since=other-log:1", 410, "since"),
        ("match=cluster..node", 422, "match"),
        ("match=%3E.node", 422, "match"),
        ("match=", 422, "match"),
        ("limit=-5", 422, "limit"),
    ],
)
async def test_a_bad_event_query_is_refused_by_name(cluster: Cluster, query: str, status: int, field: str) -> None:
    answer = await cluster.http.get(f"/api/events?{query}")
    assert (answer.status_code, named(answer)) == (status, field), answer.text


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
@pytest.mark.parametrize("path", ["/api/nodes", "/api/nodes/known/heartbeats", "/api/nodes/known/status"])
async def test_a_body_that_is_not_declared_json_is_a_415(cluster: Cluster, content_type: str, path: str) -> None:
    await cluster.node("known")
    before = await snapshot(cluster)
    headers = {"content-type": content_type} if content_type else {}
    answer = await cluster.http.post(path, content=b'{"name":"x"}', headers=headers)
    assert answer.status_code == 415
    assert answer.json()["code"] == "wrong_content_type"
    assert await snapshot(cluster) == before


@pytest.mark.parametrize("origin", ["http://evil.example", "https://127.0.0.1", "http://127.0.0.1:1", "null", ""])
async def test_an_unsafe_request_of_a_foreign_page_is_refused(cluster: Cluster, origin: str) -> None:
    answer = await cluster.http.post("/api/nodes", json={"name": "x"}, headers={"origin": origin})
    assert answer.status_code == 403
    assert answer.json()["code"] == "origin_refused"
    assert cluster.registry.list_nodes() == []


async def test_a_page_of_our_own_may_send_unsafe_requests_and_any_may_read(cluster: Cluster) -> None:
    own = {"origin": "http://127.0.0.1"}
    assert (await cluster.http.post("/api/nodes", json={"name": "x"}, headers=own)).status_code == 201
    assert (await cluster.http.get("/api/nodes", headers={"origin": "http://evil.example"})).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:4040", "127.0.0.1.evil.example", "10.0.0.1", ""])
async def test_a_host_that_is_not_ours_is_refused(cluster: Cluster, host: str) -> None:
    answer = await cluster.http.get("/api/nodes", headers={"host": host})
    assert answer.status_code == 421
    assert answer.json()["code"] == "host_refused"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:4040", "127.0.0.1:9", "[::1]:4040", "[::1]", "127.8.8.8"])
async def test_a_loopback_host_is_ours(cluster: Cluster, host: str) -> None:
    assert (await cluster.http.get("/api/nodes", headers={"host": host})).status_code == 200


async def test_a_chunked_body_over_the_limit_is_refused_as_it_comes(cluster: Cluster) -> None:
    async def endless() -> Any:
        yield b'{"name":"x","address":"'
        for _ in range(100):
            yield b"a" * 1024

    for path in ("/api/nodes", "/api/nodes/x/heartbeats"):
        answer = await cluster.http.post(path, content=endless(), headers=JSON)
        assert (answer.status_code, named(answer)) == (413, "body")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/api/nothing", 404), ("PUT", "/api/nodes", 405), ("GET", "/assets/../app.py", 404), ("POST", "/", 405)],
)
async def test_an_unknown_route_is_a_problem_too(cluster: Cluster, method: str, path: str, status: int) -> None:
    answer = await cluster.http.request(method, path)
    assert answer.status_code == status
    named(answer)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/nodes", "cluster_type"),
        ("/api/sessions", "between_nodes"),
        ("/api/groups", "group_type"),
        ("/api/graph", "revision"),
        ("/api/events", "transient"),
    ],
)
async def test_a_filter_of_null_is_refused_and_none_that_is_left_out(cluster: Cluster, path: str, name: str) -> None:
    for null in ("null", "NULL"):
        answer = await cluster.http.get(path, params={name: null})
        assert (answer.status_code, named(answer)) == (422, name)


async def test_null_is_a_name_like_others_where_names_are_taken(cluster: Cluster) -> None:
    await cluster.node("null")
    answer = await cluster.http.get("/api/nodes", params={"name": "null"})
    assert [node["name"] for node in answer.json()["nodes"]] == ["null"]
