"""What `docs/caching.md` promises to readers, where no other test holds it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from thunderline.block.memory import MemoryStore
from thunderline.block.store import WriteBatch
from thunderline.core.errors import OutcomeUnknown, StoreUnavailable, UnknownNode
from thunderline.link.drawing import DRAWINGS_MAX
from thunderline.link.registry import Registry
from thunderline.testing.faults import Fault, FaultyStore
from thunderline.testing.harness import Cluster, open_cluster

REVISION = "x-thunderline-revision"
STALE = "x-thunderline-stale-seconds"


class CountingStore(FaultyStore):
    """Counts what is read from it once it is open."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.reads = 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith(("scan_", "find_", "get_", "read_")):
            self.reads += 1
        return super().__getattribute__(name)


async def get(cluster: Cluster, path: str) -> dict[str, Any]:
    answer = await cluster.http.get(path)
    answer.raise_for_status()
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize(
    "path",
    [
        "/api/nodes",
        "/api/nodes?role=edge&sort=-last_seen_at",
        "/api/nodes/a",
        "/api/nodes/nobody",
        "/api/nodes/a/sessions",
        "/api/nodes/a?load=sessions",
        "/api/sessions",
        "/api/groups",
        "/api/graph",
        "/api/summary",
    ],
)
async def test_what_is_in_memory_is_not_read_from_the_store(path: str) -> None:
    store = CountingStore()
    async with open_cluster(store=store) as cluster:
        await cluster.node("a")
        before = store.reads
        assert (await cluster.http.get(path)).status_code in (200, 404)
        assert store.reads == before


async def test_each_answer_to_a_change_is_followed_by_reads_that_show_it_also_within_a_batch() -> None:
    async with open_cluster() as cluster:
        registry = cluster.registry
        seen: list[tuple[str, bool]] = []

        async def register(name: str) -> None:
            node = await registry.ensure_node({"name": name})
            shown = {entry.name for entry in registry.list_nodes()}
            drawn = {entry.name for entry in registry.graph().nodes}
            seen.append((name, registry.get_node(name) == node and name in shown and name in drawn))

        await asyncio.gather(*(register(f"n{number}") for number in range(20)))
        assert len(cluster.store.commits) < 20, "they did not share a batch"
        assert seen == [(f"n{number}", True) for number in range(20)]


async def test_changes_of_one_transaction_appear_together() -> None:
    glimpses: set[tuple[int, int]] = set()

    class GlimpsingStore(FaultyStore):
        async def commit(self, batch: WriteBatch) -> int | None:
            glimpses.add((len(cluster.registry.list_nodes()), len(cluster.registry.list_sessions())))
            return await super().commit(batch)

    async with open_cluster(store=GlimpsingStore(MemoryStore())) as cluster:
        await cluster.registry.ensure_node({"name": "a"})
        await cluster.registry.mark_online("a", {"session_id": "s"})
        assert (cluster.registry.get_node("a").status, len(cluster.registry.list_sessions())) == ("online", 1)
    assert glimpses == {(0, 0), (1, 0)}


@pytest.mark.parametrize("fault", [Fault.AWAY, Fault.LOST_BEFORE])
async def test_a_failed_commit_is_never_seen(fault: Fault) -> None:
    async with open_cluster() as cluster:
        await cluster.node("a")
        before = [await get(cluster, path) for path in ("/api/nodes", "/api/graph?include_offline=true")]
        cluster.store.faults = [fault]
        with pytest.raises((StoreUnavailable, OutcomeUnknown)):
            await cluster.turn_until(cluster.registry.ensure_node({"name": "b"}))
        with pytest.raises(UnknownNode):
            cluster.registry.get_node("b")
        await cluster.clock.advance(5)
        after = [await get(cluster, path) for path in ("/api/nodes", "/api/graph?include_offline=true")]
        assert after == before


async def test_a_commit_of_unknown_outcome_is_seen_once_it_is_known_to_be_written() -> None:
    async with open_cluster() as cluster:
        await cluster.node("a")
        cluster.store.away = True
        cluster.store.faults = [Fault.LOST_AFTER]
        registering = asyncio.ensure_future(cluster.registry.ensure_node({"name": "b"}))
        await cluster.clock.advance(3)
        answer = await cluster.http.get("/api/nodes")
        assert [node["name"] for node in answer.json()["nodes"]] == ["a"]
        assert float(answer.headers[STALE]) > 0
        cluster.store.away = False
        await cluster.clock.advance(5)
        assert (await registering).name == "b"
        answer = await cluster.http.get("/api/nodes")
        assert [node["name"] for node in answer.json()["nodes"]] == ["a", "b"]
        assert STALE not in answer.headers


async def test_the_stale_header_grows_and_goes() -> None:
    async with open_cluster() as cluster:
        await cluster.node("a")
        assert STALE not in (await cluster.http.get("/api/nodes/a")).headers
        cluster.store.away = True
        await cluster.http.post("/api/nodes", json={"name": "b"})
        ages = []
        for _ in range(3):
            await cluster.clock.advance(4)
            ages.append(float((await cluster.http.get("/api/nodes/a")).headers[STALE]))
        assert ages == [4, 8, 12]
        cluster.store.away = False
        await cluster.clock.advance(5)
        assert STALE not in (await cluster.http.get("/api/nodes/a")).headers


@pytest.mark.parametrize("path", ["/api/nodes", "/api/nodes/a", "/api/sessions", "/api/graph", "/api/summary"])
async def test_who_asks_for_a_consistent_answer_gets_none_while_the_store_is_away(path: str) -> None:
    async with open_cluster() as cluster:
        await cluster.node("a")
        assert (await cluster.http.get(f"{path}?consistent=true")).status_code == 200
        cluster.store.away = True
        await cluster.http.post("/api/nodes", json={"name": "b"})
        refused = await cluster.http.get(f"{path}?consistent=true")
        assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
        assert (await cluster.http.get(path)).status_code == 200


async def test_the_revision_of_an_answer_covers_the_change_and_only_grows() -> None:
    async with open_cluster() as cluster:
        revisions = []
        for number in range(3):
            answer = await cluster.http.post("/api/nodes", json={"name": f"n{number}"})
            assert int(answer.headers[REVISION]) >= answer.json()["node"]["revision"]
            revisions.append(int(answer.headers[REVISION]))
            listed = await cluster.http.get("/api/nodes")
            assert int(listed.headers[REVISION]) == listed.json()["revision"] == revisions[-1]
        assert revisions == sorted(set(revisions))


async def test_the_graph_is_the_roster_at_the_revision_that_it_names() -> None:
    async with open_cluster() as cluster:
        for number in range(4):
            await cluster.node(f"n{number}", labels={"number": str(number)})
            await cluster.registry.mark_status("n0", "degraded" if number % 2 else "online")
            graph, nodes = await get(cluster, "/api/graph"), await get(cluster, "/api/nodes")
            past = await get(cluster, f"/api/graph?revision={graph['revision']}")
            assert graph["revision"] == nodes["revision"] == cluster.registry.roster.revision
            told = [(node["id"], node["name"], node["status"]) for node in nodes["nodes"]]
            assert [(node["id"], node["name"], node["status"]) for node in graph["nodes"]] == told
            assert past == graph


async def test_a_watch_from_the_cursor_of_a_read_tells_everything_after_it_once() -> None:
    async with open_cluster() as cluster:
        await cluster.node("a")
        cursor = (await get(cluster, "/api/graph"))["cursor"]
        await cluster.registry.ensure_node({"name": "b"})
        async with cluster.registry.subscribe(">", since=cursor, transient=False) as events:
            await cluster.registry.ensure_node({"name": "c"})
            told = [(await anext(events)).subject for _ in range(2)]
        assert told == ["b", "c"]


async def test_last_seen_moves_with_a_beat_that_is_refused_and_the_last_heartbeat_does_not() -> None:
    async with open_cluster() as cluster:
        node = await cluster.node("a")
        before = cluster.registry.presence("a")
        cluster.store.away = True
        await cluster.clock.advance(2)
        assert (await node.beat()).status_code == 503
        after = cluster.registry.presence("a")
        assert after.last_seen_at is not None
        assert before.last_seen_at is not None
        assert (after.last_seen_at - before.last_seen_at).total_seconds() == 2
        assert after.last_heartbeat == before.last_heartbeat


async def test_what_is_kept_encoded_of_a_node_goes_with_its_record_and_outlives_beats() -> None:
    async with open_cluster() as cluster:
        node = await cluster.node("a")
        entry = cluster.registry.roster.find("a")
        kept = entry.encoded()
        await node.beat(cpu_load=1.0)
        assert entry.encoded() is kept
        await cluster.registry.update_node("a", {"labels": {"zone": "b"}})
        assert entry.encoded() is not kept
        assert (await get(cluster, "/api/nodes/a?presence=false"))["node"]["labels"] == {"zone": "b"}


@pytest.mark.parametrize("level", ["nodes", "groups"])
async def test_a_graph_is_the_same_whether_it_was_kept_or_not(level: str) -> None:
    async with open_cluster() as cluster:
        for number in range(DRAWINGS_MAX + 1):
            await cluster.node(f"n{number}", domain=f"d{number}")
        paths = [f"/api/graph?domain=d{number}&level={level}" for number in range(DRAWINGS_MAX + 1)]
        first = [await get(cluster, path) for path in paths]
        assert [await get(cluster, path) for path in paths] == first


async def test_lookups_of_one_node_count_and_lists_do_not() -> None:
    async with open_cluster() as cluster:
        assert (await get(cluster, "/api/summary"))["cache"]["hit_rate"] is None
        await cluster.registry.ensure_node({"name": "a"})
        for path in ("/api/nodes", "/api/graph", "/api/sessions", "/api/summary"):
            await cluster.http.get(path)
        assert (cluster.registry.roster.hits, cluster.registry.roster.misses) == (0, 0)
        await cluster.http.get("/api/nodes/a")
        await cluster.http.post("/api/nodes/a/heartbeats", json={})
        await cluster.http.patch("/api/nodes/a", json={"address": "a:1"})
        await cluster.http.get("/api/nodes/nobody")
        cache = (await get(cluster, "/api/summary"))["cache"]
        assert (cache["hits"], cache["misses"], cache["hit_rate"]) == (3, 1, 0.75)


async def test_a_restart_goes_on_at_its_revision_with_everything_in_memory_and_counts_anew(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/nodes.db"
    async with Registry.open(url) as registry:
        await registry.ensure_node({"name": "a"})
        await registry.mark_online("a", {"session_id": "s"})
        await registry.heartbeat("a", "online", {"cpu_load": 2.0})
        before = (registry.list_nodes(), registry.list_sessions(), registry.cursor, registry.presence("a"))
    async with Registry.open(url) as registry:
        cache = registry.summary().cache
        assert (cache.nodes, cache.hits, cache.misses, cache.stale_s) == (1, 0, 0, None)
        after = (registry.list_nodes(), registry.list_sessions(), registry.cursor, registry.presence("a"))
    assert after == before


async def test_a_node_is_shown_with_what_it_has_when_its_heartbeats_have_been_read() -> None:
    reading, go_on = asyncio.Event(), asyncio.Event()

    class HeldReads(FaultyStore):
        async def read_beats(self, **wanted: Any) -> list[Any]:
            reading.set()
            await go_on.wait()
            return await super().read_beats(**wanted)

    async with open_cluster(store=HeldReads(MemoryStore())) as cluster:
        await cluster.node("a")
        asked = asyncio.ensure_future(cluster.http.get("/api/nodes/a?load=sessions,heartbeats"))
        await reading.wait()
        await cluster.registry.mark_online("a", {"session_id": "s"})
        go_on.set()
        answer = await asked
        assert int(answer.headers[REVISION]) == cluster.registry.roster.revision
        assert [session["session_id"] for session in answer.json()["sessions"]] == ["s"]
