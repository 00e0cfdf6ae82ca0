"""Nodes that have been offline for long are deregistered; nobody else is, whatever the wall clock says."""

from __future__ import annotations

import pytest

from thunderline.block.memory import MemoryStore
from thunderline.core.settings import Settings
from thunderline.link.ages import KEEP_CLOCK_S
from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import FaultyStore
from thunderline.testing.harness import Cluster, open_cluster

AFTER_S = 1800.0
SETTINGS = Settings(forget_after_s=AFTER_S)
LOOK_S = 80.0
"""Who is due is found within that."""


def names(cluster: Cluster) -> list[str]:
    return [node.name for node in cluster.registry.list_nodes()]


async def gone(cluster: Cluster) -> None:
    """One that left, one that was silent, one that was never seen, and what is kept: held by an operator, and alive."""
    await (await cluster.node("left")).leave()
    await cluster.node("silent")
    await cluster.registry.ensure_node({"name": "unseen"})
    await (await cluster.node("held")).leave()
    await cluster.registry.mark_offline("held", "to be repaired")


async def live(cluster: Cluster, duration_s: float) -> None:
    """Let time pass, with one node that beats."""
    end = cluster.clock.monotonic() + duration_s
    while (remaining_s := end - cluster.clock.monotonic()) > 0:
        await cluster.registry.heartbeat("alive")
        await cluster.clock.advance(min(20, remaining_s))


async def test_who_is_offline_for_long_is_forgotten_and_nobody_else() -> None:
    async with open_cluster(settings=SETTINGS) as cluster:
        await cluster.node("alive")
        await gone(cluster)
        await live(cluster, AFTER_S - 1)
        assert names(cluster) == ["alive", "held", "left", "silent", "unseen"]
        await live(cluster, 60 + 30 + LOOK_S)
        assert names(cluster) == ["alive", "held"]
        events = (await cluster.http.get("/api/events?match=cluster.node.deregistered")).json()["events"]
        assert sorted(event["subject"] for event in events) == ["left", "silent", "unseen"]
        assert {event["actor"] for event in events} == {"system:liveness"}
        assert (await cluster.registry.status_history(events[0]["entityid"])).spans


async def test_lifting_an_override_begins_the_time_anew() -> None:
    async with open_cluster(settings=SETTINGS) as cluster:
        await cluster.node("alive")
        await gone(cluster)
        await live(cluster, AFTER_S + 90 + LOOK_S)
        await cluster.registry.clear_override("held")
        await live(cluster, AFTER_S - 1)
        assert names(cluster) == ["alive", "held"]
        await live(cluster, 1 + LOOK_S)
        assert names(cluster) == ["alive"]


async def test_zero_forgets_nobody() -> None:
    async with open_cluster(settings=Settings(forget_after_s=0)) as cluster:
        await cluster.node("alive")
        await gone(cluster)
        await live(cluster, 2 * AFTER_S)
        assert len(names(cluster)) == 5
        assert not cluster.registry.tasks.failed


@pytest.mark.parametrize("jump_s", [365 * 24 * 3600.0, -365 * 24 * 3600.0])
async def test_a_jump_of_the_wall_clock_forgets_nobody(jump_s: float) -> None:
    async with open_cluster(settings=SETTINGS) as cluster:
        await cluster.node("alive")
        await gone(cluster)
        await live(cluster, AFTER_S / 3)
        cluster.clock.jump_wall(jump_s)
        await live(cluster, AFTER_S / 2)
        assert len(names(cluster)) == 5


async def test_it_counts_over_restarts_and_not_from_them() -> None:
    clock, store = ManualClock(), FaultyStore(MemoryStore())
    async with open_cluster(store=store, clock=clock, settings=SETTINGS) as cluster:
        await cluster.node("alive")
        await gone(cluster)
        await live(cluster, AFTER_S / 2)
    async with open_cluster(store=store, clock=clock, settings=SETTINGS) as cluster:
        await live(cluster, AFTER_S / 2 - 10)
        assert len(names(cluster)) == 5
        # What the clock of ages had not written down by then is made up for a day later.
        await live(cluster, 100 + LOOK_S + KEEP_CLOCK_S)
        assert names(cluster) == ["alive", "held"]


async def test_a_short_time_is_kept_about_exactly() -> None:
    async with open_cluster(settings=Settings(forget_after_s=60)) as cluster:
        await (await cluster.node("left")).leave()
        await cluster.clock.advance(59)
        assert names(cluster) == ["left"]
        await cluster.clock.advance(10)
        assert names(cluster) == []
        again = await cluster.registry.ensure_node({"name": "left"})
        assert again.incarnation == 1
