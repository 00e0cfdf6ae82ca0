"""The log's beginning: what is forgotten when, and that nothing after it changes by that."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.engines import ENGINES, Stores
from tests.link.test_past import act, everything
from tests.link.turning import turn_on
from thunderline.block.memory import MemoryStore
from thunderline.core.errors import CursorGone, StoreUnavailable
from thunderline.core.ids import Revision
from thunderline.core.records import Event
from thunderline.core.settings import Settings
from thunderline.link import snapshots
from thunderline.link.graph import Graph
from thunderline.link.registry import Registry
from thunderline.link.retention import Retention
from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import FaultyStore

MINUTE_S = 60
DAY_S = 24 * 60 * MINUTE_S
KEPT = Settings(log_retention_s=10 * MINUTE_S, log_events_min=0)


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, stores: Stores, clock: ManualClock) -> FaultyStore:
    """Each engine."""
    return FaultyStore(stores.new(request.param, clock=clock))


def retention(registry: Registry) -> Retention:
    """The registry's own, which tests call when they want it to look."""
    return registry._engine.retention


async def rows(store: FaultyStore) -> list[Event]:
    """The events that are kept at all."""
    return await store.read_events(after=Revision(0), limit=100_000)


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
async def test_what_is_kept_is_as_it_was(
    store: FaultyStore, clock: ManualClock, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "EVENTS_LEAST", 25)
    rng = random.Random(seed)
    stood: dict[int, tuple[Graph, Graph]] = {}
    begins: list[int] = []
    for _ in range(3):
        async with Registry.open(store, KEPT, clock=clock, rng=random.Random(seed)) as registry:
            stood[registry.roster.revision] = everything(registry)
            for turn in range(60):
                await act(registry, rng, turn)
                stood[registry.roster.revision] = everything(registry)
                await turn_on(store, clock, rng.choice((1, 10, MINUTE_S)))
                # Time brought things about, too.
                stood[registry.roster.revision] = everything(registry)
            await retention(registry).look_after()
            begins.append(oldest := registry.log.oldest)
            for revision, (by_nodes, by_groups) in stood.items():
                if revision < oldest:
                    with pytest.raises(CursorGone, match=f"the oldest moment that is kept is revision {oldest}, at 20"):
                        await registry.graph_at(revision)
                else:
                    assert await registry.graph_at(revision, include_offline=True) == by_nodes
                    assert await registry.graph_at(revision, include_offline=True, level="groups") == by_groups
    assert 0 < begins[0] < begins[1] < begins[2]
    assert sum(revision >= begins[-1] for revision in stood) > 5


async def test_what_nobody_needs_is_removed(store: FaultyStore, clock: ManualClock) -> None:
    async with Registry.open(store, KEPT, clock=clock) as registry:
        await registry.ensure_node({"name": "stays"})
        for turn in range(500):
            await registry.update_node("stays", {"labels": {"turn": str(turn)}})
        await registry.ensure_node({"name": "goes"})
        await registry.deregister("goes")
        await retention(registry).look_after()
        await turn_on(store, clock, 2 * MINUTE_S)
        await registry.update_node("stays", {"labels": {}})
        await turn_on(store, clock, 11 * MINUTE_S)
        await retention(registry).look_after()
        kept = await rows(store)
        assert registry.log.oldest > 500
        assert len([event for event in kept if event.revision <= registry.log.oldest]) < 10
        assert {event.subject for event in kept if event.revision < registry.log.oldest} <= {"stays", registry.owner}


async def test_so_many_events_stay_whatever_their_age(clock: ManualClock) -> None:
    store = MemoryStore()
    async with Registry.open(store, Settings(log_retention_s=60, log_events_min=50), clock=clock) as registry:
        await registry.ensure_node({"name": "a"})
        for turn in range(100):
            await registry.update_node("a", {"labels": {"turn": str(turn)}})
            await clock.advance(60)
            await retention(registry).look_after()
            head = registry.log.revision
            assert head - registry.log.oldest >= min(head, 50)
        assert registry.log.oldest > 20


@pytest.mark.parametrize("jump_s", [365 * DAY_S, -365 * DAY_S])
async def test_a_step_of_the_wall_clock_costs_nobody_their_past(clock: ManualClock, jump_s: float) -> None:
    store = MemoryStore()
    async with Registry.open(store, KEPT, clock=clock) as registry:
        await registry.ensure_node({"name": "a"})
        await retention(registry).look_after()
        clock.jump_wall(jump_s)
        for _ in range(5):
            await registry.update_node("a", {"labels": {"at": str(clock.now_ms())}})
            await clock.advance(MINUTE_S)
            await retention(registry).look_after()
        clock.jump_wall(-jump_s)
        for _ in range(4):
            await registry.update_node("a", {"labels": {"at": str(clock.now_ms())}})
            await clock.advance(MINUTE_S)
            await retention(registry).look_after()
        assert registry.log.oldest == 0


async def test_who_reads_while_the_log_is_cut_is_told_so(clock: ManualClock) -> None:
    store = FaultyStore(MemoryStore())
    async with Registry.open(store, KEPT, clock=clock) as registry:
        await registry.tasks.end("retention")
        await registry.ensure_node({"name": "a"})
        early = registry.log.revision
        for turn in range(10):
            await registry.update_node("a", {"labels": {"turn": str(turn)}})
        stood = registry.graph()
        await retention(registry).look_after()
        later = registry.log.revision
        await clock.advance(2 * MINUTE_S)
        await registry.update_node("a", {"labels": {}})
        await clock.advance(9 * MINUTE_S)

        @contextmanager
        def cut_before(method: str) -> Iterator[None]:
            """The log is cut when that is called, once."""
            original = getattr(store, method)

            async def cut(*args: Any, **kwargs: Any) -> Any:
                setattr(store, method, original)
                await retention(registry).look_after()
                return await original(*args, **kwargs)

            setattr(store, method, cut)
            yield
            assert getattr(store, method) == original

        watch = registry.subscribe(since=str(early))
        with cut_before("read_past"), pytest.raises(CursorGone):
            await registry.graph_at(early)
        assert registry.log.oldest == later
        assert await registry.graph_at(later) == stood
        with pytest.raises(CursorGone):
            await anext(watch)
        with pytest.raises(CursorGone):
            await registry.log.page(since=Revision(early), pattern=watch.pattern, limit=10)
        with pytest.raises(CursorGone):
            registry.subscribe(since=str(early))


async def test_a_store_that_is_away_is_tried_again(clock: ManualClock) -> None:
    store = FaultyStore(MemoryStore())
    async with Registry.open(store, KEPT, clock=clock) as registry:
        await registry.tasks.end("retention")
        await registry.ensure_node({"name": "a"})
        await retention(registry).look_after()
        await clock.advance(11 * MINUTE_S)
        store.away = True
        with pytest.raises(StoreUnavailable):
            await retention(registry).look_after()
        assert registry.log.oldest == 0
        store.away = False
        await retention(registry).look_after()
        assert registry.log.oldest > 0
