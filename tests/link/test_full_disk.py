"""A store that is full for longer than every deadline: nobody is convicted for what could not be written."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter
from pathlib import Path

import pytest

from thunderline.block.memory import MemoryStore
from thunderline.block.sqlite import SqliteStore
from thunderline.block.store import WriteBatch
from thunderline.core.errors import OutcomeUnknown, StoreUnavailable
from thunderline.core.ids import Revision
from thunderline.link.writer import RETRY_MAX_S
from thunderline.testing.faults import FaultyStore
from thunderline.testing.harness import Cluster, ClusterNode, open_cluster

DEADLINE_S = 30.0
OUTAGE_S = 400.0
"""Longer than deadline and `offline_after` together, several times."""


async def fill(store: SqliteStore, *, spare_pages: int) -> None:
    def limit(connection: sqlite3.Connection) -> None:
        (used,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {used + spare_pages}")

    await store._writing.run(limit)


async def statuses_shown(cluster: Cluster, name: str) -> Counter[str]:
    events = await cluster.store.read_events(after=Revision(0), limit=100_000)
    return Counter(event.payload.status for event in events if event.subject == name)


async def live(cluster: Cluster, nodes: list[ClusterNode], duration_s: float) -> set[int]:
    """Let `nodes` beat every 10 s; gives the answers they got."""
    answers = set()
    for _ in range(round(duration_s / 10)):
        for node in nodes:
            answers.add((await node.beat()).status_code)
        await cluster.turn(10)
    return answers


async def test_nobody_is_convicted_while_the_disk_is_full_and_a_dead_node_a_full_deadline_later(
    tmp_path: Path,
) -> None:
    inner = SqliteStore(tmp_path / "t.db")
    async with open_cluster(store=inner) as cluster:
        beating = [await cluster.node(f"beating-{i}") for i in range(3)]
        dying = [await cluster.node(f"dying-{i}") for i in range(3)]
        await cluster.node("silent")
        await cluster.turn(5)
        await fill(inner, spare_pages=0)
        too_much = [{"name": f"filler-{i}", "meta": {"filler": "x" * 8_000}} for i in range(100)]
        refused = await asyncio.gather(*map(cluster.registry.ensure_node, too_much), return_exceptions=True)
        assert any(isinstance(error, StoreUnavailable) for error in refused)
        assert cluster.registry.stale_s is not None
        assert await live(cluster, beating + dying, 50) == {503}
        assert await live(cluster, beating, OUTAGE_S - 50) == {503}
        answer = await beating[0].beat()
        assert answer.json()["code"] == "store_unavailable"
        assert int(answer.headers["retry-after"]) >= 1
        listed = await cluster.http.get("/api/nodes")
        assert float(listed.headers["x-thunderline-stale-seconds"]) >= OUTAGE_S
        assert {node["status"] for node in listed.json()["nodes"] if "filler" not in node["name"]} == {"online"}
        assert (await cluster.http.get("/api/nodes?consistent=true")).status_code == 503
        assert (await cluster.http.get("/readyz")).status_code == 503

        await fill(inner, spare_pages=2**30)
        await cluster.turn(RETRY_MAX_S + 1)
        assert (await cluster.http.get("/readyz")).status_code == 200
        assert await live(cluster, beating, 20) == {201}
        for node in dying:
            assert (await cluster.registry.recent_heartbeats(node.name))[-1].seq == 1
            assert cluster.registry.get_node(node.name).status == "online"
        await live(cluster, beating, DEADLINE_S)
        for node in dying:
            assert cluster.registry.get_node(node.name).status == "disconnected"
        for node in beating:
            assert await statuses_shown(cluster, node.name) == {"connecting": 1, "online": 1}
        # Silent since before the disk was full: that silence counts.
        assert cluster.registry.get_node("silent").status == "disconnected"
        events = await inner.read_events(after=Revision(0), limit=100_000)
        assert [event.revision for event in events] == list(range(1, len(events) + 1))


async def test_what_a_node_had_left_of_its_deadline_it_still_has_when_the_store_is_back() -> None:
    async with open_cluster() as cluster:
        await cluster.node("a")
        await cluster.clock.advance(20)
        cluster.store.away = True
        with pytest.raises(StoreUnavailable):
            await cluster.registry.ensure_node({"name": "lost"})
        await cluster.clock.advance(OUTAGE_S)
        cluster.store.away = False
        await cluster.clock.advance(9)
        assert cluster.registry.get_node("a").status == "online"
        await cluster.clock.advance(4)
        assert cluster.registry.get_node("a").status == "disconnected"


async def test_a_store_that_comes_and_goes_delays_a_conviction_and_does_not_prevent_it() -> None:
    async with open_cluster() as cluster:
        await cluster.node("dead")
        for _ in range(12):
            cluster.store.away = True
            with pytest.raises(StoreUnavailable):
                await cluster.registry.ensure_node({"name": "lost"})
            await cluster.clock.advance(10)
            cluster.store.away = False
            await cluster.clock.advance(5)
        assert cluster.registry.get_node("dead").status == "disconnected"


class HopefulStore(FaultyStore):
    """Answers every question, and takes nothing while `full`: a disk on which only what is small finds room."""

    full = False
    tried = 0
    unknown = False

    async def commit(self, batch: WriteBatch) -> int | None:
        if self.full:
            self.tried += 1
            raise OutcomeUnknown("disk full") if self.unknown else StoreUnavailable("disk full")
        return await super().commit(batch)


@pytest.mark.parametrize("unknown", [False, True], ids=["refused", "outcome-unknown"])
async def test_a_store_that_answers_but_takes_nothing_is_not_tried_many_times_a_second(unknown: bool) -> None:
    store = HopefulStore(MemoryStore())
    async with open_cluster(store=store) as cluster:
        node = await cluster.node("a")
        store.full, store.unknown = True, unknown
        for _ in range(600):
            assert (await node.beat()).status_code == 503
            await cluster.clock.advance(0.1)
        assert store.tried <= 60 / (RETRY_MAX_S / 2) + 10
        store.full = False
        await cluster.clock.advance(RETRY_MAX_S)
        assert (await node.beat()).status_code == 201
        assert cluster.registry.get_node("a").status == "online"


async def test_a_disk_that_is_full_for_long_is_told_of_once_and_once_more_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "thunderline")
    async with open_cluster() as cluster:
        nodes = [await cluster.node(f"n{i}") for i in range(20)]
        await cluster.clock.advance(29)
        caplog.clear()
        cluster.store.away = True
        for _ in range(20):
            for node in nodes[:10]:
                await node.beat()
            await cluster.clock.advance(10)
        cluster.store.away = False
        await cluster.clock.advance(RETRY_MAX_S)
        told = [record.getMessage() for record in caplog.records if record.name.startswith("thunderline")]
        assert told == ["store is away", "store is back"]
