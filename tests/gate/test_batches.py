"""Batches: many single calls in one request, in order; or all of them as one change."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engines import Opening
from thunderline.core.settings import Settings
from thunderline.testing.faults import Fault
from thunderline.testing.harness import Cluster

NODES = "/api/nodes/batch"
BEATS = "/api/heartbeats"
JSON = {"content-type": "application/json"}


async def send(cluster: Cluster, path: str, items: list[Any], **options: Any) -> httpx.Response:
    kind = "nodes" if path == NODES else "heartbeats"
    return await cluster.http.post(path, json={kind: items}, **options)


def statuses(answer: httpx.Response) -> list[int]:
    results = answer.json()["results"]
    assert [result["index"] for result in results] == list(range(len(results)))
    return [result["status"] for result in results]


async def test_nodes_of_a_batch_are_ensured_in_order(cluster: Cluster) -> None:
    answer = await send(cluster, NODES, [{"name": "a"}, {"name": "b", "role": "edge"}, {"name": "a"}])
    assert answer.status_code == 200
    assert statuses(answer) == [201, 201, 200]
    nodes = [result["node"] for result in answer.json()["results"]]
    assert [node["name"] for node in nodes] == ["a", "b", "a"]
    assert nodes[0] == nodes[2]
    assert nodes[1] == (await cluster.http.get("/api/nodes/b")).json()["node"]


async def test_items_share_commits(cluster: Cluster) -> None:
    await send(cluster, NODES, [{"name": f"n{i}"} for i in range(1_000)])
    assert len(cluster.store.commits) <= 10
    assert len(cluster.registry.roster) == 1_000


async def test_a_bad_item_fails_alone_with_its_field_named(cluster: Cluster) -> None:
    items = [{"name": "a"}, {"name": "b", "role": "No Slug"}, {"name": "c", "colour": 1}, 7, {"name": "d"}]
    answer = await send(cluster, NODES, items)
    assert statuses(answer) == [201, 422, 422, 422, 201]
    problems = [result.get("problem", {}).get("field") for result in answer.json()["results"]]
    assert problems == [None, "nodes[1].role", "nodes[2].colour", "nodes[3]", None]
    assert [node.name for node in cluster.registry.list_nodes()] == ["a", "d"]


async def test_an_item_that_conflicts_fails_alone(cluster: Cluster) -> None:
    await cluster.node("a", role="edge")
    answer = await send(cluster, NODES, [{"name": "a", "role": "relay"}, {"name": "b"}])
    assert statuses(answer) == [409, 201]
    problem = answer.json()["results"][0]["problem"]
    assert (problem["code"], problem["field"]) == ("mismatch", "nodes[0].role")


async def test_beats_of_a_batch_are_single_beats(cluster: Cluster) -> None:
    for name in ("a", "b"):
        await cluster.http.post("/api/nodes", json={"name": name})
    items = [
        {"node": "a", "seq": 1, "cpu_load": 5},
        {"node": "b", "status": "degraded"},
        {"node": "nobody"},
        {"node": "a", "seq": 1},
        {"node": "a", "incarnation": 9},
        {"node": "a", "cpu_load": -1},
        {"cpu_load": 1},
    ]
    answer = await send(cluster, BEATS, items)
    assert statuses(answer) == [201, 201, 404, 200, 409, 422, 422]
    results = answer.json()["results"]
    assert results[0]["heartbeat"]["cpu_load"] == 5
    assert results[0]["next_interval_ms"] == 10_000
    fields = [result.get("problem", {}).get("field") for result in results]
    assert fields == [
        *(None, None, None, None),
        *("heartbeats[4].incarnation", "heartbeats[5].cpu_load", "heartbeats[6].node"),
    ]
    assert results[2]["problem"]["code"] == "unknown_node"
    assert [node.status for node in cluster.registry.list_nodes()] == ["online", "degraded"]
    assert len(await cluster.registry.recent_heartbeats()) == 2


async def test_all_or_nothing_does_all(cluster: Cluster) -> None:
    answer = await send(cluster, NODES, [{"name": "a"}, {"name": "a"}, {"name": "b"}], params={"atomic": "true"})
    assert answer.status_code == 200
    assert statuses(answer) == [201, 200, 201]
    correlated = {event.correlation_id for batch in cluster.store.commits for event in batch.events}
    assert len(correlated) == 1
    beats = [{"node": "a", "seq": 1}, {"node": "b"}, {"node": "a", "seq": 1}]
    assert statuses(await send(cluster, BEATS, beats, params={"atomic": "true"})) == [201, 201, 200]


@pytest.mark.parametrize("bad", [{"name": "z", "role": "No Slug"}, {"name": "known", "role": "relay"}])
async def test_all_or_nothing_does_nothing_when_an_item_cannot_be_done(cluster: Cluster, bad: dict[str, Any]) -> None:
    await cluster.node("known", role="edge")
    before = cluster.registry.roster.revision
    answer = await send(cluster, NODES, [{"name": "a"}, bad, {"name": "b"}], params={"atomic": "true"})
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (problem["code"], problem["field"], problem["status"]) == ("batch_refused", "nodes[1].role", 409)
    assert statuses(answer) == [424, 409 if bad["name"] == "known" else 422, 424]
    assert problem["results"][0]["problem"]["code"] == "not_done"
    assert cluster.registry.roster.revision == before


async def test_a_refused_atomic_batch_of_beats_counts_as_signs_of_life(cluster: Cluster) -> None:
    node = await cluster.node("a")
    await cluster.turn(29)
    answer = await send(cluster, BEATS, [{"node": "a", "seq": 50}, {"node": "nobody"}], params={"atomic": "true"})
    assert (answer.status_code, statuses(answer)) == (409, [424, 404])
    assert len(await cluster.registry.recent_heartbeats()) == 1
    await cluster.turn(29)
    assert cluster.registry.get_node("a").status == "online"
    assert (await node.beat(seq=50)).status_code == 201


async def test_a_stale_number_refuses_an_atomic_batch(cluster: Cluster) -> None:
    await cluster.node("a")
    await cluster.http.post("/api/nodes/a/heartbeats", json={"seq": 10_000_000})
    items = [{"node": "a", "seq": 10_000_001}, {"node": "a", "seq": 2}]
    answer = await send(cluster, BEATS, items, params={"atomic": "true"})
    assert statuses(answer) == [424, 409]
    assert (await send(cluster, BEATS, items)).json()["results"][0]["status"] == 201


async def test_items_beyond_a_full_lane_are_told_when_to_come_back(open_cluster: Opening) -> None:
    async with open_cluster(settings=Settings(mutation_lane_max=50)) as cluster:
        answer = await send(cluster, NODES, [{"name": f"n{i}"} for i in range(100)])
        assert answer.status_code == 200
        got = statuses(answer)
        assert got[:50] == [201] * 50
        assert set(got[50:]) == {503}
        problem = answer.json()["results"][-1]["problem"]
        assert (problem["code"], problem["retry_after_s"], problem["retryable"]) == ("overloaded", 1.0, True)
        assert len(cluster.registry.roster) == 50


async def test_a_lost_store_is_told_of_each_item_and_all_beats_count(cluster: Cluster) -> None:
    await cluster.node("a")
    await cluster.turn(29)
    cluster.store.faults.append(Fault.AWAY)
    answer = await send(cluster, BEATS, [{"node": "a"}, {"node": "a"}])
    assert statuses(answer) == [503, 503]
    assert answer.json()["results"][0]["problem"]["retry_after_s"] == 1.0
    await cluster.turn(2)
    assert cluster.registry.presence("a").last_seen_at is not None
    assert cluster.registry.get_node("a").status == "online"


async def test_an_atomic_batch_without_a_store_is_a_503_of_the_whole(cluster: Cluster) -> None:
    cluster.store.faults.append(Fault.AWAY)
    answer = await send(cluster, NODES, [{"name": "a"}], params={"atomic": "true"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    await cluster.turn(2)


MANY = json.dumps({"nodes": [{"name": f"n{i}"} for i in range(1_001)]}).encode()
DEEP = b'{"nodes":[{"name":"x","meta":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}}]}"


@pytest.mark.parametrize(
    ("what", "body", "status", "field"),
    [
        ("nothing", b"", 400, "body"),
        ("half a document", b'{"nodes":[{"name":"a"}', 400, "body"),
        ("a list", b"[]", 422, "body"),
        ("no items", b"{}", 422, "nodes"),
        ("items of another kind", b'{"heartbeats":[]}', 422, "heartbeats"),
        ("items that are no list", b'{"nodes":{}}', 422, "nodes"),
        ("an unknown field", b'{"nodes":[],"atomic":true}', 422, "atomic"),
        ("1,001 items", MANY, 422, "nodes"),
        ("5,000 nested brackets", DEEP, 400, "body"),
    ],
)
async def test_a_body_that_is_no_batch_is_refused_whole(
    cluster: Cluster, what: str, body: bytes, status: int, field: str
) -> None:
    for query in ("", "?atomic=true"):
        answer = await cluster.http.post(NODES + query, content=body, headers=JSON)
        assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text
    assert cluster.registry.list_nodes() == []


@pytest.mark.parametrize(
    ("item", "field"),
    [
        (b'{"name":"a\xff"}', "nodes[0]"),
        (b'{"name":"a","meta":{"a":1e999}}', "nodes[0].meta[...]"),
        (b'{"name":"a","meta":{"a":"' + b"b" * 17_000 + b'"}}', "nodes[0].meta"),
        (b"null", "nodes[0]"),
        (b"{}", "nodes[0].name"),
    ],
)
async def test_an_item_that_cannot_be_read_fails_alone(cluster: Cluster, item: bytes, field: str) -> None:
    body = b'{"nodes":[' + item + b',{"name":"good"}]}'
    answer = await cluster.http.post(NODES, content=body, headers=JSON)
    assert answer.status_code == 200, answer.text
    first, second = answer.json()["results"]
    assert (first["problem"]["field"], second["status"]) == (field, 201)
    assert first["status"] in (400, 422)


@pytest.mark.parametrize(
    ("query", "field"), [("atomic=perhaps", "atomic"), ("atom=true", "atom"), ("atomic=true&atomic=false", "atomic")]
)
async def test_a_bad_parameter_is_refused_by_name(cluster: Cluster, query: str, field: str) -> None:
    answer = await cluster.http.post(f"{NODES}?{query}", json={"nodes": [{"name": "a"}]})
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert cluster.registry.list_nodes() == []


async def test_a_batch_may_be_longer_than_other_bodies_up_to_its_own_bound(open_cluster: Opening) -> None:
    async with open_cluster(settings=Settings(batch_body_max_bytes=200_000)) as cluster:
        items = [{"name": f"n{i}", "meta": {"a": "b" * 1_000}} for i in range(150)]
        assert statuses(await send(cluster, NODES, items)) == [201] * 150
        answer = await send(cluster, NODES, items * 2)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")

        async def chunks() -> Any:
            for _ in range(300):
                yield b" " * 1_000

        assert (await cluster.http.post(NODES, content=chunks(), headers=JSON)).status_code == 413


async def test_an_empty_batch_has_no_results(cluster: Cluster) -> None:
    for query in ("", "?atomic=true"):
        assert (await cluster.http.post(NODES + query, json={"nodes": []})).json() == {"results": []}


async def test_a_node_may_have_the_name_batch(cluster: Cluster) -> None:
    await cluster.node("batch")
    assert (await cluster.http.get(NODES)).json()["node"]["name"] == "batch"
    assert (await cluster.http.post(f"{NODES}/status", json={"status": "degraded"})).status_code == 200
    assert (await cluster.http.options(NODES)).headers["allow"] == "DELETE, GET, HEAD, OPTIONS, PATCH, POST"
    assert (await cluster.http.delete(NODES)).status_code == 204


NAMES = st.sampled_from(["a", "b", "c"])
ROLES = st.sampled_from([None, "edge", "relay", "No Slug"])
REGISTRATIONS = st.fixed_dictionaries({"name": NAMES}, optional={"role": ROLES, "address": st.sampled_from(["x", 5])})
HEARTBEATS = st.fixed_dictionaries(
    {"node": st.sampled_from(["a", "b", "nobody"])},
    optional={
        "seq": st.integers(1, 3),
        "status": st.sampled_from(["online", "degraded", "offline", "dead"]),
        "incarnation": st.integers(1, 2),
    },
)


def seen(cluster: Cluster) -> Any:
    nodes = cluster.registry.list_nodes()
    return [
        (
            node.name,
            node.role,
            node.address,
            node.status,
            node.status_reason,
            node.revision,
            cluster.registry.presence(node.name).last_heartbeat is not None,
        )
        for node in nodes
    ]


async def one_by_one(cluster: Cluster, nodes: list[Any], beats: list[Any]) -> list[int]:
    got = [(await cluster.http.post("/api/nodes", json=item)).status_code for item in nodes]
    for item in beats:
        beat = {name: value for name, value in item.items() if name != "node"}
        got.append((await cluster.http.post(f"/api/nodes/{item['node']}/heartbeats", json=beat)).status_code)
    return got


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(REGISTRATIONS, max_size=8), st.lists(HEARTBEATS, max_size=8))
async def test_a_batch_is_the_same_single_calls_in_order(
    open_cluster: Opening, nodes: list[Any], beats: list[Any]
) -> None:
    async with open_cluster() as single, open_cluster() as batched:
        wanted = await one_by_one(single, nodes, beats)
        got = statuses(await send(batched, NODES, nodes)) + statuses(await send(batched, BEATS, beats))
        assert got == wanted
        assert seen(batched) == seen(single)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(REGISTRATIONS, max_size=8))
async def test_an_atomic_batch_is_all_single_calls_or_none(open_cluster: Opening, nodes: list[Any]) -> None:
    async with open_cluster() as single, open_cluster() as atomic:
        wanted = await one_by_one(single, nodes, [])
        answer = await send(atomic, NODES, nodes, params={"atomic": "true"})
        if max(wanted, default=200) < 400:
            assert (answer.status_code, statuses(answer)) == (200, wanted)
            assert seen(atomic) == seen(single)
        else:
            assert answer.status_code == 409
            assert set(statuses(answer)) - {424}
            assert seen(atomic) == []
            assert atomic.store.commits == []
