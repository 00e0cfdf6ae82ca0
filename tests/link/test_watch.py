"""Watching: everything after a revision exactly once, in order, whether it is in the log or yet to come."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from thunderline.block.memory import MemoryStore
from thunderline.block.store import WriteBatch
from thunderline.core.errors import CursorGone, InvalidInput, ShuttingDown, WatchCut
from thunderline.core.ids import Revision
from thunderline.core.settings import Settings
from thunderline.flow.match import Pattern
from thunderline.link.registry import Registry
from thunderline.link.watch import Watch
from thunderline.testing.clock import ManualClock
from thunderline.testing.harness import open_cluster


async def cut_off(events: Watch, heard: list[int]) -> WatchCut:
    """Hear what is left; gives the error that ends it."""
    while True:
        try:
            heard.append((await anext(events)).revision)
        except WatchCut as cut:
            return cut


async def test_a_watch_from_now_hears_only_what_follows() -> None:
    async with open_cluster() as cluster:
        await cluster.node("before")
        async with cluster.registry.subscribe() as events:
            hearing = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            await cluster.registry.ensure_node({"name": "after"})
            assert (await hearing).subject == "after"


@pytest.mark.parametrize("seed", range(5))
async def test_a_watch_that_starts_amid_changes_misses_and_doubles_nothing(seed: int) -> None:
    rng = random.Random(seed)
    async with open_cluster() as cluster:
        for i in range(rng.randrange(700)):
            await cluster.registry.ensure_node({"name": f"old{i}"})

        async def change() -> None:
            for i in range(600):
                await cluster.registry.ensure_node({"name": f"new{i}"})
                for _ in range(rng.randrange(3)):
                    await asyncio.sleep(0)

        changing = asyncio.ensure_future(change())
        since = rng.randrange(cluster.registry.roster.revision + 1)
        async with cluster.registry.subscribe(since=str(since)) as events:
            last = cluster.registry.roster.revision + 600
            heard = [(await anext(events)).revision for _ in range(last - since)]
        await changing
        assert heard == list(range(since + 1, last + 1))


async def test_a_filtered_watch_gives_only_what_matches() -> None:
    async with open_cluster() as cluster:
        for i in range(5):
            await cluster.node(f"n{i}")
        async with cluster.registry.subscribe("cluster.node.online", since="0") as events:
            assert [(await anext(events)).subject for _ in range(5)] == [f"n{i}" for i in range(5)]
            await cluster.node("live")
            assert (await anext(events)).subject == "live"


async def test_take_gives_what_is_in_the_log_in_parts_and_then_what_happens() -> None:
    async with open_cluster() as cluster:
        for i in range(700):
            await cluster.registry.ensure_node({"name": f"n{i}"})
        async with cluster.registry.subscribe(since="0", transient=False) as events:
            heard: list[int] = []
            while len(heard) < 700:
                taken = await events.take(300)
                assert 0 < len(taken) <= 300
                heard += [event.revision for event in taken]
                assert events.cursor == heard[-1]
            taking = asyncio.ensure_future(events.take())
            await asyncio.sleep(0)
            await cluster.node("live")
            heard += [event.revision for event in await taking]
            while heard[-1] < cluster.registry.roster.revision:
                heard += [event.revision for event in await events.take()]
        assert heard == list(range(1, 703))


async def test_a_watcher_behind_its_backlog_is_cut_and_resumes_where_it_was() -> None:
    async with open_cluster(settings=Settings(watch_backlog_max=16)) as cluster:
        async with cluster.registry.subscribe() as events:
            first = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            for i in range(30):
                await cluster.registry.ensure_node({"name": f"n{i}"})
            heard = [(await first).revision]
            cut = await cut_off(events, heard)
        assert cut.resume_from == heard[-1]
        async with cluster.registry.subscribe(since=str(cut.resume_from)) as events:
            heard += [(await anext(events)).revision for _ in range(30 - len(heard))]
        assert heard == list(range(1, 31))


async def test_heartbeats_are_told_to_who_asks_and_make_no_revision() -> None:
    async with open_cluster() as cluster:
        node = await cluster.node("a")
        revision = cluster.registry.roster.revision
        async with cluster.registry.subscribe("cluster.node.heartbeat") as events:
            hearing = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            await node.beat(cpu_load=7.0)
            event = await hearing
        assert (event.subject, event.payload.cpu_load, event.reliability) == ("a", 7.0, "transient")
        assert cluster.registry.roster.revision == revision


async def test_without_transient_events_a_watch_makes_no_heartbeats() -> None:
    async with open_cluster() as cluster:
        node = await cluster.node("a")
        async with cluster.registry.subscribe(transient=False) as events:
            hearing = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            assert not cluster.registry._engine.bus.wants("cluster.node.heartbeat")
            await node.beat()
            await cluster.registry.ensure_node({"name": "b"})
            assert (await hearing).subject == "b"


async def test_the_position_of_a_watch_moves_on_past_what_does_not_match() -> None:
    async with open_cluster() as cluster:
        await cluster.node("a")
        async with cluster.registry.subscribe("cluster.link.*", since="0") as events:
            assert events.position == 0
            hearing = asyncio.ensure_future(anext(events))
            for _ in range(10):
                await asyncio.sleep(0)
            assert events.position == 2
            await cluster.node("b")
            assert (events.position, events.cursor) == (4, 2)
            hearing.cancel()
            await asyncio.wait([hearing])


async def test_a_watch_that_begins_after_the_end_of_watches_is_told() -> None:
    async with open_cluster() as cluster:
        cluster.registry.log.end_watches()
        with pytest.raises(ShuttingDown):
            await anext(cluster.registry.subscribe())


async def test_a_cursor_of_another_log_or_ahead_is_told_to_list_again() -> None:
    async with Registry.open("memory://") as registry:
        node = await registry.ensure_node({"name": "a"})
        assert registry.cursor.endswith(f":{node.revision}")
        with pytest.raises(CursorGone, match="another event log"):
            registry.subscribe(since="0190f5fe-7a1b-7c3d-8e4f-123456789abc:1")
        with pytest.raises(CursorGone, match="ahead"):
            registry.subscribe(since="2")
        with pytest.raises(InvalidInput, match="since"):
            registry.subscribe(since="yesterday")


async def test_a_watch_that_reads_the_log_is_told_when_compaction_goes_past_it() -> None:
    async with open_cluster() as cluster:
        for i in range(600):
            await cluster.registry.ensure_node({"name": f"n{i}"})
        async with cluster.registry.subscribe(since="0") as events:
            assert len(await events.take()) == 500
            cluster.registry.log.oldest = Revision(550)
            with pytest.raises(CursorGone, match="begins after 550"):
                await events.take()


async def test_heartbeats_are_told_where_the_pattern_spells_the_word() -> None:
    async with open_cluster() as cluster:
        for pattern, asked in ((">", False), ("cluster.node.*", False), ("cluster.*.heartbeat", True)):
            async with cluster.registry.subscribe(pattern) as events:
                waiting = asyncio.ensure_future(events.take())
                await asyncio.sleep(0)
                assert cluster.registry._engine.bus.wants("cluster.node.heartbeat") is asked
                waiting.cancel()
                await asyncio.wait([waiting])


async def test_a_watch_ends_with_the_registry() -> None:
    async with open_cluster() as cluster:
        events = cluster.registry.subscribe()
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
    with pytest.raises(ShuttingDown):
        await waiting


async def test_a_page_looks_at_a_bounded_part_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thunderline.link.event_log.LOOKED_AT_MAX", 700)
    async with open_cluster() as cluster:
        for i in range(1_200):
            await cluster.registry.ensure_node({"name": f"n{i}"})
        await cluster.node("last")
        pattern, since, pages = Pattern("cluster.node.online"), Revision(0), 0
        while True:
            page = await cluster.registry.log.page(since=since, pattern=pattern, limit=10)
            pages, since = pages + 1, page.next_since
            if page.events or since == page.revision:
                break
        assert [event.subject for event in page.events] == ["last"]
        assert pages > 1


class Overtaken(MemoryStore):
    """A store in which readers see a commit before whoever committed it knows."""

    def __init__(self) -> None:
        super().__init__()
        self.between: Callable[[], Awaitable[None]] | None = None

    async def commit(self, batch: WriteBatch) -> int | None:
        block = await super().commit(batch)
        if self.between is not None and batch.events:
            between, self.between = self.between, None
            await between()
        return block


async def test_what_is_read_before_it_is_told_is_given_once(clock: ManualClock) -> None:
    store = Overtaken()
    async with Registry.open(store, clock=clock) as registry:
        await registry.ensure_node({"name": "before"})
        async with registry.subscribe(since="0") as watch:
            heard: list[int] = []

            async def listen() -> None:
                while True:
                    heard.append((await anext(watch)).revision)

            async def read_meanwhile() -> None:
                nonlocal listening
                listening = asyncio.create_task(listen())
                await clock.advance(0)

            listening: asyncio.Task[None] | None = None
            store.between = read_meanwhile
            await registry.ensure_node({"name": "overtaken"})
            await registry.ensure_node({"name": "after"})
            await clock.advance(0)
            assert heard == list(range(1, registry.roster.revision + 1))
            assert listening is not None
            listening.cancel()
            await asyncio.wait([listening])
