"""The commit pipeline: its five invariants, and what it does when the store fails."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.engines import ENGINES, Stores
from thunderline.block.memory import MemoryStore
from thunderline.block.store import Store, WriteBatch
from thunderline.core.errors import (
    ContentRejected,
    Mismatch,
    OutcomeUnknown,
    Overloaded,
    ShuttingDown,
    StoreUnavailable,
    UnknownNode,
)
from thunderline.core.inputs import HeartbeatInput
from thunderline.core.records import Event
from thunderline.core.settings import Settings
from thunderline.flow.bus import LocalBus
from thunderline.link.actor import EMBEDDING_PROGRAM
from thunderline.link.registry import Registry
from thunderline.link.writer import COMMIT_PATIENCE_S, WATCH_S
from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import Fault, FaultyStore
from thunderline.testing.harness import Cluster, open_cluster


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, stores: Stores) -> FaultyStore:
    return FaultyStore(stores.new(request.param))


class HeldStore(FaultyStore):
    """Holds every commit until it is let go."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = asyncio.Event()

    async def commit(self, batch: WriteBatch) -> int | None:
        self.waiting.set()
        await self.gate.wait()
        return await super().commit(batch)


async def turns_of_the_loop(count: int) -> None:
    """Let every chain of ready callbacks run to its end."""
    for _ in range(count):
        await asyncio.sleep(0)


def revisions(store: FaultyStore) -> list[int]:
    return [event.revision for batch in store.commits for event in batch.events]


async def test_nobody_is_answered_before_the_commit_returns() -> None:
    store = HeldStore(MemoryStore())
    async with open_cluster(store=store) as cluster:
        store.gate.clear()
        registering = asyncio.ensure_future(cluster.registry.ensure_node({"name": "a"}))
        await store.waiting.wait()
        assert not registering.done()
        with pytest.raises(UnknownNode):
            cluster.registry.get_node("a")
        store.gate.set()
        assert (await registering).name == "a"
        assert cluster.registry.get_node("a").revision == 1


async def test_what_arrives_during_a_commit_is_one_batch() -> None:
    store = HeldStore(MemoryStore())
    async with open_cluster(store=store) as cluster:
        store.gate.clear()
        first = asyncio.ensure_future(cluster.registry.ensure_node({"name": "first"}))
        await store.waiting.wait()
        rest = [asyncio.ensure_future(cluster.registry.ensure_node({"name": f"n{i}"})) for i in range(50)]
        await asyncio.sleep(0)
        store.gate.set()
        await asyncio.gather(first, *rest)
    assert [len(batch.events) for batch in store.commits] == [1, 50]
    assert revisions(store) == list(range(1, 52))


async def test_callers_are_answered_before_subscribers_are_told() -> None:
    answered: list[bool] = []

    class SpyBus(LocalBus):
        def publish(self, events: Sequence[Event]) -> None:
            answered.append(beating.done())

    async with Registry.open("memory://", bus=SpyBus()) as registry:
        beating: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        beating.set_result(None)
        await registry.ensure_node({"name": "a"})
        beating = registry.domain.update_heartbeat(registry.roster.find("a"), HeartbeatInput(), actor=EMBEDDING_PROGRAM)
        await beating
    assert answered == [True, True]


async def test_a_reader_sees_its_own_write_and_events_follow_the_log(store: FaultyStore) -> None:
    async with open_cluster(store=store) as cluster, cluster.registry.subscribe(since="0") as events:
        for i in range(20):
            node = await cluster.registry.ensure_node({"name": f"n{i}"})
            assert cluster.registry.get_node(node.id) == node
        told = [(await anext(events)).revision for _ in range(20)]
    assert told == revisions(store) == list(range(1, 21))


async def test_a_refused_operation_fails_alone() -> None:
    async with open_cluster() as cluster:
        await cluster.registry.ensure_node({"name": "a", "role": "edge"})
        results = await asyncio.gather(
            cluster.registry.ensure_node({"name": "b"}),
            cluster.registry.ensure_node({"name": "a", "role": "relay"}),
            cluster.registry.ensure_node({"name": "c"}),
            return_exceptions=True,
        )
        assert isinstance(results[1], Mismatch)
        assert {node.name for node in cluster.registry.list_nodes()} == {"a", "b", "c"}
    assert revisions(cluster.store) == [1, 2, 3]


async def test_a_full_lane_refuses_with_a_time_to_retry() -> None:
    store = HeldStore(MemoryStore())
    async with open_cluster(store=store, settings=Settings(mutation_lane_max=3)) as cluster:
        store.gate.clear()
        held = [asyncio.ensure_future(cluster.registry.ensure_node({"name": "first"}))]
        await store.waiting.wait()
        held += [asyncio.ensure_future(cluster.registry.ensure_node({"name": f"n{i}"})) for i in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="mutation lane is full") as refused:
            await cluster.registry.ensure_node({"name": "one-too-many"})
        assert refused.value.retry_after_s > 0
        store.gate.set()
        await asyncio.gather(*held)
        assert len(cluster.registry.list_nodes()) == 4


async def test_a_full_beat_lane_does_not_hold_up_mutations() -> None:
    store = HeldStore(MemoryStore())
    async with open_cluster(store=store, settings=Settings(heartbeat_lane_max=1)) as cluster:
        await cluster.node("a")
        store.gate.clear()
        store.waiting.clear()
        waiting = asyncio.ensure_future(cluster.registry.ensure_node({"name": "b"}))
        await store.waiting.wait()
        beat = asyncio.ensure_future(cluster.registry.heartbeat("a"))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="heartbeat lane"):
            await cluster.registry.heartbeat("a")
        mutation = asyncio.ensure_future(cluster.registry.ensure_node({"name": "c"}))
        store.gate.set()
        await asyncio.gather(waiting, beat, mutation)


async def test_a_cancelled_caller_does_not_withdraw_its_operation() -> None:
    store = HeldStore(MemoryStore())
    async with open_cluster(store=store) as cluster:
        store.gate.clear()
        registering = asyncio.ensure_future(cluster.registry.ensure_node({"name": "a"}))
        await store.waiting.wait()
        registering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await registering
        store.gate.set()
        await cluster.registry.ensure_node({"name": "b"})
        assert cluster.registry.get_node("a").revision == 1


async def test_a_write_during_shutdown_raises_and_what_was_queued_is_committed() -> None:
    store = HeldStore(MemoryStore())
    opening = open_cluster(store=store)
    cluster = await opening.__aenter__()
    store.gate.clear()
    queued = [asyncio.ensure_future(cluster.registry.ensure_node({"name": f"n{i}"})) for i in range(10)]
    await store.waiting.wait()
    closing = asyncio.ensure_future(opening.__aexit__(None, None, None))
    await turns_of_the_loop(20)
    with pytest.raises(ShuttingDown):
        await cluster.registry.ensure_node({"name": "late"})
    store.gate.set()
    await closing
    assert [(await node).name for node in queued] == [f"n{i}" for i in range(10)]
    assert revisions(store) == list(range(1, 11))


@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE, Fault.LOST_AFTER])
async def test_an_unknown_outcome_is_looked_up_before_anything_else(store: FaultyStore, fault: Fault) -> None:
    async with open_cluster(store=store) as cluster:
        await cluster.registry.ensure_node({"name": "before"})
        store.faults.append(fault)
        lost = asyncio.ensure_future(cluster.registry.ensure_node({"name": "lost"}))
        if fault is Fault.LOST_AFTER:
            node = await lost
            assert cluster.registry.get_node("lost") == node
        else:
            with pytest.raises(StoreUnavailable):
                await lost
            with pytest.raises(UnknownNode):
                cluster.registry.get_node("lost")
        after = await cluster.registry.ensure_node({"name": "after"})
        assert after.revision == len(revisions(store))
    await assert_store_equals_roster(cluster, store)


async def test_nothing_is_written_while_an_outcome_is_unknown() -> None:
    store = FaultyStore(MemoryStore())
    async with open_cluster(store=store) as cluster:
        store.faults.append(Fault.LOST_AFTER)
        store_committed = store.committed

        async def lost_connection(batch_id: object) -> bool:
            store.away = True
            try:
                return await store_committed(batch_id)  # type: ignore[arg-type]
            finally:
                store.committed = store_committed  # type: ignore[method-assign]

        store.committed = lost_connection  # type: ignore[method-assign]
        lost = asyncio.ensure_future(cluster.registry.ensure_node({"name": "lost"}))
        await turns_of_the_loop(20)
        assert cluster.registry.stale_s is not None
        with pytest.raises(StoreUnavailable):
            await cluster.registry.ensure_node({"name": "meanwhile"})
        assert not lost.done()
        store.away = False
        assert (await cluster.turn_until(lost)).name == "lost"
        assert cluster.registry.stale_s is None
    assert revisions(store) == [1]


async def test_nobody_waits_for_ever_behind_an_outcome_that_stays_unknown() -> None:
    store = HeldStore(MemoryStore())
    async with open_cluster(store=store) as cluster:
        await cluster.node("a")
        store.gate.clear()
        store.waiting.clear()
        store.faults.append(Fault.LOST_BEFORE)
        lost = asyncio.ensure_future(cluster.registry.ensure_node({"name": "lost"}))
        await store.waiting.wait()
        queued = asyncio.ensure_future(cluster.registry.ensure_node({"name": "queued"}))
        beat = asyncio.ensure_future(cluster.registry.heartbeat("a"))
        await turns_of_the_loop(5)
        store.away = True
        store.gate.set()
        for refused in (queued, beat):
            with pytest.raises(StoreUnavailable):
                await refused
        await cluster.clock.advance(COMMIT_PATIENCE_S + 2 * WATCH_S)
        with pytest.raises(OutcomeUnknown):
            await lost
        store.away = False
        await cluster.clock.advance(5)
        assert (await cluster.registry.ensure_node({"name": "after"})).revision == 3


async def test_a_commit_that_hangs_keeps_nobody_waiting_and_is_told_to_who_asks() -> None:
    store = HeldStore(MemoryStore())
    async with open_cluster(store=store) as cluster:
        store.gate.clear()
        hung = asyncio.ensure_future(cluster.registry.ensure_node({"name": "hung"}))
        await store.waiting.wait()
        queued = asyncio.ensure_future(cluster.registry.ensure_node({"name": "queued"}))
        await cluster.clock.advance(COMMIT_PATIENCE_S + 2 * WATCH_S)
        with pytest.raises(OutcomeUnknown):
            await hung
        with pytest.raises(StoreUnavailable):
            await queued
        assert (await cluster.http.get("/readyz")).status_code == 503
        assert "x-thunderline-stale-seconds" in (await cluster.http.get("/api/nodes")).headers
        store.gate.set()
        await turns_of_the_loop(5)
        assert cluster.registry.get_node("hung").revision == 1  # it had only been slow
        assert (await cluster.http.get("/readyz")).status_code == 200


async def test_a_pause_of_our_own_does_not_make_a_commit_look_hung() -> None:
    store = HeldStore(MemoryStore())
    async with open_cluster(store=store) as cluster:
        store.gate.clear()
        registering = asyncio.ensure_future(cluster.registry.ensure_node({"name": "a"}))
        await store.waiting.wait()
        await cluster.clock.advance(2)
        cluster.clock.pause(3600)
        await cluster.clock.advance(2)
        assert cluster.registry.stale_s is None
        store.gate.set()
        assert (await registering).revision == 1


async def test_an_outcome_that_stays_unknown_at_shutdown_is_told_as_unknown() -> None:
    store = FaultyStore(MemoryStore())
    clock = ManualClock()
    opening = open_cluster(store=store, clock=clock)
    cluster = await opening.__aenter__()
    store.faults.append(Fault.LOST_BEFORE)
    store.away = True
    lost = asyncio.ensure_future(cluster.registry.ensure_node({"name": "lost"}))
    await turns_of_the_loop(20)
    assert cluster.registry.stale_s is not None
    await cluster.turn_until(opening.__aexit__(None, None, None))
    with pytest.raises(OutcomeUnknown):
        await lost


async def test_a_poisoned_batch_is_halved_until_the_culprit_fails_alone() -> None:
    store = HeldStore(MemoryStore())
    store.rejects = lambda batch: any(node.name == "poison" for node in batch.nodes)
    async with open_cluster(store=store) as cluster:
        store.gate.clear()
        first = asyncio.ensure_future(cluster.registry.ensure_node({"name": "first"}))
        await store.waiting.wait()
        names = [*(f"n{i}" for i in range(6)), "poison", *(f"m{i}" for i in range(6))]
        rest = [asyncio.ensure_future(cluster.registry.ensure_node({"name": name})) for name in names]
        await asyncio.sleep(0)
        store.gate.set()
        results = await asyncio.gather(first, *rest, return_exceptions=True)
        failed = [
            name for name, result in zip(["first", *names], results, strict=True) if isinstance(result, Exception)
        ]
        assert failed == ["poison"]
        assert isinstance(results[7], ContentRejected)
        assert {node.name for node in cluster.registry.list_nodes()} == {"first", *names} - {"poison"}
    assert revisions(store) == list(range(1, 14))


async def test_while_the_store_is_away_writes_are_refused_and_reads_say_how_stale_they_are() -> None:
    async with open_cluster() as cluster:
        await cluster.node("a")
        cluster.store.away = True
        with pytest.raises(StoreUnavailable):
            await cluster.registry.ensure_node({"name": "b"})
        with pytest.raises(StoreUnavailable) as refused:
            await cluster.registry.ensure_node({"name": "c"})
        assert refused.value.retry_after_s > 0
        await cluster.clock.advance(7)
        answer = await cluster.http.get("/api/nodes")
        assert answer.status_code == 200
        assert float(answer.headers["x-thunderline-stale-seconds"]) >= 7
        assert (await cluster.http.get("/api/nodes?consistent=true")).status_code == 503
        ready = await cluster.http.get("/readyz")
        assert (ready.status_code, ready.headers["retry-after"]) == (503, "1")
        cluster.store.away = False
        await cluster.clock.advance(5)
        assert (await cluster.registry.ensure_node({"name": "b"})).name == "b"
        assert "x-thunderline-stale-seconds" not in (await cluster.http.get("/api/nodes")).headers


async def test_a_beat_that_the_store_refuses_still_counts_as_a_sign_of_life() -> None:
    async with open_cluster() as cluster:
        node = await cluster.node("a")
        cluster.store.away = True
        for _ in range(9):
            await cluster.clock.advance(10)
            assert (await node.beat()).status_code == 503
        cluster.store.away = False
        await cluster.clock.advance(5)
        assert cluster.registry.get_node("a").status == "online"


async def test_a_writer_that_breaks_leaves_nobody_waiting() -> None:
    store = FaultyStore(MemoryStore())
    async with open_cluster(store=store) as cluster:

        async def broken(batch: WriteBatch) -> int | None:
            raise ZeroDivisionError

        store.commit = broken  # type: ignore[method-assign]
        with pytest.raises(OutcomeUnknown):
            await cluster.registry.ensure_node({"name": "a"})
        with pytest.raises(StoreUnavailable):
            await cluster.registry.ensure_node({"name": "b"})
        with pytest.raises(StoreUnavailable, match="writer"):
            cluster.registry.check_ready()


async def assert_store_equals_roster(cluster: Cluster, store: FaultyStore) -> None:
    """A second registry over the same data knows exactly what the first one knew."""
    known = {entry.node.id: entry.node for entry in cluster.registry.roster}
    async with Registry.open(store, clock=ManualClock()) as again:
        assert {entry.node.id: entry.node for entry in again.roster} == known
        assert again.roster.revision == cluster.registry.roster.revision
