"""`Idempotency-Key`: a repeated request has its effect once and is answered as before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.engines import Engine, Opening, Stores
from tests.gate.callers import open_world
from tests.link.test_writer import turns_of_the_loop
from thunderline.block.memory import MemoryStore
from thunderline.block.store import Store, WriteBatch
from thunderline.core.settings import Settings
from thunderline.link.actor import LOCAL_OPERATOR
from thunderline.testing import harness
from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import Fault, FaultyStore
from thunderline.testing.harness import Cluster

REQUESTS: list[tuple[str, Any]] = [
    ("/api/nodes", {"name": "new"}),
    ("/api/nodes/a/online", {"instance": "i2", "session": {"latency_ms": 1}}),
    ("/api/nodes/a/offline", {"reason": "maintenance"}),
    ("/api/nodes/a/status", {"status": "degraded"}),
    ("/api/groups", {"name": "zone-a", "group_type": "zone"}),
    ("/api/sessions", {"node_id": "a", "remote_node_id": "b"}),
    ("/api/nodes/batch", {"nodes": [{"name": "x"}, {"name": "y", "role": "No Slug"}]}),
    ("/api/nodes/batch?atomic=true", {"nodes": [{"name": "x"}, {"name": "y"}]}),
    ("/api/heartbeats", {"heartbeats": [{"node": "a"}, {"node": "nobody"}]}),
    ("/api/heartbeats?atomic=true", {"heartbeats": [{"node": "a"}, {"node": "b"}]}),
]


async def ask(cluster: Cluster, path: str, body: Any, key: str = "k1", **options: Any) -> httpx.Response:
    return await cluster.http.post(path, json=body, headers={"idempotency-key": key}, **options)


def same(first: httpx.Response, again: httpx.Response) -> bool:
    return (
        (again.status_code, again.content) == (first.status_code, first.content)
        and "idempotency-replayed" not in first.headers
        and again.headers.get("idempotency-replayed") == "true"
    )


@pytest.mark.parametrize(("path", "body"), REQUESTS)
async def test_a_repeated_request_is_answered_as_before_and_does_nothing(
    cluster: Cluster, path: str, body: Any
) -> None:
    await cluster.node("a")
    await cluster.node("b")
    first = await ask(cluster, path, body)
    assert first.is_success, first.text
    commits, beats = len(cluster.store.commits), len(await cluster.registry.recent_heartbeats())
    await cluster.turn(1)
    again = await ask(cluster, path, body)
    assert same(first, again)
    assert again.headers.get("etag") == first.headers.get("etag")
    assert len(cluster.store.commits) == commits
    assert len(await cluster.registry.recent_heartbeats()) == beats
    other = await ask(cluster, path, body, "k2")
    assert "idempotency-replayed" not in other.headers


async def test_the_answer_is_the_one_that_it_would_have_been_without_a_key(
    open_cluster: Opening, cluster: Cluster
) -> None:
    async with open_cluster() as plain:
        for one in (cluster, plain):
            for name in ("a", "b"):
                await one.node(name)
        for number, (path, body) in enumerate(REQUESTS):
            keyed = (await ask(cluster, path, body, str(number))).json()
            unkeyed = (await plain.http.post(path, json=body)).json()
            assert shape(keyed) == shape(unkeyed), path


def shape(value: Any) -> Any:
    """`value` without what is new in every run."""
    if isinstance(value, dict):
        made = ("id", "session_id", "node_id", "remote_node_id")
        return {name: shape(item) for name, item in value.items() if name not in made}
    return [shape(item) for item in value] if isinstance(value, list) else value


async def test_the_answer_is_kept_though_the_node_has_gone_meanwhile(cluster: Cluster) -> None:
    await cluster.node("a")
    first = await ask(cluster, "/api/nodes/a/status", {"status": "degraded"})
    await cluster.http.delete("/api/nodes/a")
    assert same(first, await ask(cluster, "/api/nodes/a/status", {"status": "degraded"}))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/nodes", {"name": "b"}),
        ("/api/nodes?", {"name": "a", "role": "edge"}),
        ("/api/nodes/batch", {"nodes": [{"name": "a"}]}),
    ],
)
async def test_a_key_that_stands_for_another_request_is_refused(cluster: Cluster, path: str, body: Any) -> None:
    await ask(cluster, "/api/nodes", {"name": "a"})
    answer = await ask(cluster, path, body)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert answer.json()["field"] == "Idempotency-Key"
    assert len(cluster.registry.roster) == 1


async def test_an_answer_is_not_given_again_to_who_lost_the_token_meanwhile(open_cluster: Opening) -> None:
    async with open_world(open_cluster) as world:
        http, tokens = world.cluster.http, world.registry.tokens
        headers = {
            "authorization": f"Bearer {world.texts['operator']}",
            "idempotency-key": "k1",
            "content-type": "application/json",
        }

        async def body(*, revoking: bool) -> AsyncIterator[bytes]:
            yield b'{"name":'
            if revoking:
                await tokens.revoke("operator", actor=LOCAL_OPERATOR)
            yield b'"new"}'

        first = await http.post("/api/nodes", content=body(revoking=False), headers=headers)
        assert first.status_code == 201
        again = await http.post("/api/nodes", content=body(revoking=True), headers=headers)
        assert (again.status_code, again.json()["code"]) == (401, "token_revoked")


async def test_of_two_at_once_one_is_told_to_come_back(cluster: Cluster) -> None:
    answers = await asyncio.gather(*(ask(cluster, "/api/nodes", {"name": "a"}) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409, 409]
    refused = next(answer for answer in answers if answer.status_code == 409)
    assert (refused.json()["code"], refused.headers["retry-after"]) == ("idempotency_key_in_use", "1")
    assert (await ask(cluster, "/api/nodes", {"name": "a"})).status_code == 201


async def test_what_was_refused_may_be_tried_again_under_its_key(cluster: Cluster) -> None:
    assert (await ask(cluster, "/api/nodes/a/status", {"status": "degraded"})).status_code == 404
    await cluster.node("a")
    assert (await ask(cluster, "/api/nodes/a/status", {"status": "degraded"})).status_code == 200
    cluster.store.faults.append(Fault.AWAY)
    assert (await ask(cluster, "/api/nodes", {"name": "b"}, "k2")).status_code == 503
    await cluster.turn(2)
    assert (await ask(cluster, "/api/nodes", {"name": "b"}, "k2")).status_code == 201


async def test_after_an_unknown_outcome_the_repeated_request_finds_its_answer(cluster: Cluster) -> None:
    cluster.store.faults.append(Fault.LOST_AFTER)
    answer = await ask(cluster, "/api/nodes", {"name": "a"})
    assert answer.status_code == 201
    cluster.store.faults.append(Fault.LOST_BEFORE)
    assert (await ask(cluster, "/api/nodes", {"name": "b"}, "k2")).status_code == 503
    await cluster.turn(3)
    assert (await ask(cluster, "/api/nodes", {"name": "b"}, "k2")).status_code == 201


async def test_a_batch_that_has_to_be_tried_again_is_not_kept(open_cluster: Opening) -> None:
    async with open_cluster(settings=Settings(mutation_lane_max=2)) as cluster:
        body = {"nodes": [{"name": f"n{i}"} for i in range(3)]}
        first = await ask(cluster, "/api/nodes/batch", body)
        assert [result["status"] for result in first.json()["results"]] == [201, 201, 503]
        again = await ask(cluster, "/api/nodes/batch", body)
        assert [result["status"] for result in again.json()["results"]] == [200, 200, 503]


async def test_an_answer_is_kept_for_its_time_and_no_longer(open_cluster: Opening) -> None:
    assert Settings().idempotency_ttl_s == 24 * 3600
    async with open_cluster(settings=Settings(idempotency_ttl_s=60)) as cluster:
        first = await ask(cluster, "/api/nodes", {"name": "a"})
        await cluster.turn(59)
        assert same(first, await ask(cluster, "/api/nodes", {"name": "a"}))
        await cluster.turn(2)
        late = await ask(cluster, "/api/nodes", {"name": "b"})
        assert (late.status_code, late.json()["node"]["name"]) == (201, "b")


@pytest.mark.parametrize("key", ["", "k" * 256, "tab\t", "\u00e4"])
async def test_a_key_that_is_none_is_refused_by_name(cluster: Cluster, key: str) -> None:
    for path, body in (("/api/nodes", {"name": "a"}), ("/api/nodes/batch", {"nodes": [{"name": "a"}]})):
        headers = [(b"idempotency-key", key.encode("latin-1")), (b"content-type", b"application/json")]
        answer = await cluster.http.post(path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["field"]) == (422, "Idempotency-Key")
    assert cluster.registry.list_nodes() == []


async def test_two_keys_are_refused(cluster: Cluster) -> None:
    headers = [("idempotency-key", "a"), ("idempotency-key", "b")]
    assert (await cluster.http.post("/api/nodes", json={"name": "a"}, headers=headers)).status_code == 400


async def test_single_heartbeats_pass_a_key_over(cluster: Cluster) -> None:
    await cluster.node("a")
    for _ in range(2):
        assert (await ask(cluster, "/api/nodes/a/heartbeats", {"seq": 9})).status_code in (200, 201)
    assert await cluster.store.find_answer("operator:local", "k1") is None


@pytest.mark.parametrize("path", ["/api/nodes", "/api/nodes/batch?atomic=true"])
async def test_a_caller_who_goes_at_any_moment_and_asks_again_has_one_effect(open_cluster: Opening, path: str) -> None:
    async with open_cluster() as cluster:
        for steps in range(40):
            node = {"name": f"n{steps}"}
            body = node if path == "/api/nodes" else {"nodes": [node]}
            waiting = asyncio.ensure_future(ask(cluster, path, body, f"k{steps}"))
            for _ in range(steps):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            answer = await ask(cluster, path, body, f"k{steps}")
            assert (answer.json().get("results") or [{"status": answer.status_code}])[0]["status"] == 201
            assert cluster.registry.roster.revision == steps + 1


class LateStore(FaultyStore):
    """Tells of a commit that is durable when it is let to."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.gate, self.durable = asyncio.Event(), asyncio.Event()

    async def commit(self, batch: WriteBatch) -> int | None:
        block_id = await super().commit(batch)
        self.durable.set()
        await self.gate.wait()
        return block_id


async def test_a_kept_answer_is_not_given_before_its_effect_can_be_read() -> None:
    store = LateStore(MemoryStore())
    async with harness.open_cluster(store=store) as cluster:
        first = asyncio.ensure_future(ask(cluster, "/api/nodes", {"name": "a"}))
        await store.durable.wait()
        first.cancel()
        await asyncio.wait([first])
        again = asyncio.ensure_future(ask(cluster, "/api/nodes", {"name": "a"}))
        await turns_of_the_loop(200)
        early = again.done()
        store.gate.set()
        assert not early
        answer = await again
        assert (answer.status_code, answer.headers.get("idempotency-replayed")) == (201, "true")
        assert cluster.registry.get_node("a").id == answer.json()["node"]["id"]


class BlindStore(FaultyStore):
    """Finds no answer the first time: as if it were being written just then."""

    blind = 0

    async def find_answer(self, caller: str, key: str) -> Any:
        if self.blind:
            self.blind -= 1
            return None
        return await super().find_answer(caller, key)


@pytest.mark.parametrize(("path", "body"), REQUESTS)
async def test_what_the_look_before_misses_the_store_refuses(
    open_cluster: Opening, engine: Engine, stores: Stores, path: str, body: Any, clock: ManualClock
) -> None:
    store = BlindStore(stores.new(engine, clock=clock))
    async with open_cluster(store=store, clock=clock) as cluster:
        await cluster.node("a")
        await cluster.node("b")
        first = await ask(cluster, path, body)
        before = cluster.registry.roster.revision
        store.blind = 1
        again = await ask(cluster, path, body)
        if path.endswith("batch") or path.endswith("/heartbeats"):
            assert again.status_code == 200  # done again, item by item
        else:
            assert same(first, again)
            assert cluster.registry.roster.revision == before


async def test_answers_outlive_a_restart(
    open_cluster: Opening, engine: Engine, stores: Stores, clock: ManualClock
) -> None:
    store = stores.new(engine, clock=clock)
    async with open_cluster(store=store, clock=clock) as cluster:
        first = await ask(cluster, "/api/nodes", {"name": "a"})
        await cluster.http.delete("/api/nodes/a")
    async with open_cluster(store=store, clock=clock) as cluster:
        assert same(first, await ask(cluster, "/api/nodes", {"name": "a"}))
        assert cluster.registry.list_nodes() == []
