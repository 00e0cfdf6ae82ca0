"""Answers of operations on one node that are committed together."""

from __future__ import annotations

import asyncio

from tests.link.test_writer import HeldStore, turns_of_the_loop
from thunderline.block.memory import MemoryStore
from thunderline.testing.harness import open_cluster


async def test_a_committed_change_is_answered_though_the_node_went_in_the_same_batch() -> None:
    store = HeldStore(MemoryStore())
    async with open_cluster(store=store) as cluster:
        await cluster.http.post("/api/nodes", json={"name": "a"})
        store.gate.clear()
        store.waiting.clear()
        first = asyncio.ensure_future(cluster.http.post("/api/nodes", json={"name": "first"}))
        await store.waiting.wait()
        rest = asyncio.gather(
            cluster.http.patch("/api/nodes/a", json={"address": "10.0.0.1"}),
            cluster.http.post("/api/nodes", json={"name": "a", "labels": {"x": "y"}}),
            cluster.http.post("/api/nodes/a/online", json={}),
            cluster.http.delete("/api/nodes/a"),
        )
        await turns_of_the_loop(200)
        store.gate.set()
        await first
        patched, ensured, online, deleted = await rest
        assert len(store.commits) == 3
    statuses = [answer.status_code for answer in (patched, ensured, online, deleted)]
    assert statuses == [200, 200, 200, 204]
    assert patched.json()["node"]["address"] == "10.0.0.1"
    assert ensured.json()["node"]["labels"] == {"x": "y"}
    node = online.json()["node"]
    assert node["status"] == "online"
    assert (node["presence"]["last_heartbeat"], node["presence"]["sessions"]) == (None, 0)
    assert node["presence"]["owner"] == cluster.registry.owner
