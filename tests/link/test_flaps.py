"""Flapping: who is marked, for how long, and what watchers who ask for it are spared; the status stays true."""

from __future__ import annotations

from thunderline.block.memory import MemoryStore
from thunderline.core.ids import Revision
from thunderline.core.settings import Settings
from thunderline.flow.match import Pattern
from thunderline.link.flaps import Flaps
from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import FaultyStore
from thunderline.testing.harness import Cluster, open_cluster
from thunderline.testing.records import node_id

A = node_id(1)


def test_more_changes_than_allowed_within_the_window_mark_a_node_once() -> None:
    flaps = Flaps(Settings())
    assert [flaps.changed(A, now) for now in (0, 100, 200, 300, 400, 500, 599, 600)] == [False] * 6 + [True, False]


def test_changes_over_a_longer_time_do_not() -> None:
    flaps = Flaps(Settings())
    assert not any(flaps.changed(A, now * 101.0) for now in range(100))


def test_it_is_calm_once_it_is_down_to_half() -> None:
    flaps = Flaps(Settings())
    for now in range(7):
        flaps.changed(A, float(now))
    assert flaps.look(602.9) == []
    assert flaps.look(603.0) == [A]
    assert flaps.look(1000.0) == []


def test_a_mark_that_was_found_at_a_start_lasts_a_window() -> None:
    flaps = Flaps(Settings())
    flaps.start(A, 0.0)
    assert flaps.look(599.0) == []
    assert flaps.look(600.0) == [A]


# In a registry

QUICK = Settings(deadline_intervals=1.5, heartbeat_interval_s=10)


async def flap(cluster: Cluster, times: int) -> list[str]:
    """Silence and a beat, so often; the statuses that were shown."""
    shown = []
    for _ in range(times):
        await cluster.clock.advance(16)
        shown.append(cluster.registry.get_node("a").status.value)
        await cluster.registry.heartbeat("a")
        shown.append(cluster.registry.get_node("a").status.value)
    return shown


async def names(cluster: Cluster, *, damped: bool) -> list[str]:
    page = await cluster.registry.log.page(
        since=Revision(0), pattern=Pattern("cluster.node.*", damped=damped), limit=1000
    )
    return [event.name.rpartition(".")[2] for event in page.events if event.subject == "a"]


async def test_a_node_that_flaps_is_marked_stays_true_and_is_calm_again() -> None:
    async with open_cluster(settings=QUICK) as cluster:
        await cluster.node("a")
        assert await flap(cluster, 3) == ["disconnected", "online"] * 3
        assert not cluster.registry.get_node("a").flapping
        assert await flap(cluster, 7) == ["disconnected", "online"] * 7
        assert cluster.registry.get_node("a").flapping
        assert (await names(cluster, damped=False)).count("updated") == 1
        for _ in range(70):
            await cluster.clock.advance(10)
            await cluster.registry.heartbeat("a")
        assert not cluster.registry.get_node("a").flapping
        assert (await names(cluster, damped=False)).count("updated") == 2


async def test_a_damped_watcher_is_told_of_the_mark_and_not_of_each_change() -> None:
    async with open_cluster(settings=QUICK) as cluster:
        told = []
        async with cluster.registry.subscribe("cluster.node.*", damped=True) as events:
            await cluster.node("a")
            await flap(cluster, 20)
            await cluster.registry.update_node("a", {"meta": {"last": True}})
            while not told or told[-1].payload.meta == {}:
                told.append(await anext(events))
        told = [event.name.rpartition(".")[2] for event in told]
        assert told == await names(cluster, damped=True)
        assert told[-2:] == ["updated", "updated"]
        assert told.count("updated") == 2
        assert len(told) < 12
        assert len(await names(cluster, damped=False)) > 40
        page = (await cluster.http.get("/api/events?damped=true&match=cluster.node.*&limit=1000")).json()
        assert [event["type"].rpartition(".")[2] for event in page["events"]] == told
        assert page["next_since"].endswith(f":{page['revision']}")


async def test_goodbyes_and_returns_flap_too_and_a_first_arrival_does_not() -> None:
    async with open_cluster(settings=Settings(flapping_transitions=2)) as cluster:
        node = await cluster.node("a")
        await node.leave()
        await node.announce()
        await cluster.clock.advance(1)
        assert not cluster.registry.get_node("a").flapping
        await node.leave()
        await cluster.clock.advance(1)
        assert cluster.registry.get_node("a").flapping


async def test_a_mark_outlives_a_restart_and_ends_by_itself() -> None:
    clock, store = ManualClock(), FaultyStore(MemoryStore())
    async with open_cluster(store=store, clock=clock, settings=QUICK) as cluster:
        await cluster.node("a")
        await flap(cluster, 5)
        assert cluster.registry.get_node("a").flapping
    async with open_cluster(store=store, clock=clock, settings=QUICK) as cluster:
        await clock.advance(590)
        assert cluster.registry.get_node("a").flapping
        await clock.advance(20)
        assert not cluster.registry.get_node("a").flapping
        await cluster.registry.deregister("a", force=True)
        await clock.advance(20)
