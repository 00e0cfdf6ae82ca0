"""A fleet whose longest intervals are still too short: it is told once, and once more when that is over."""

from __future__ import annotations

import random

import msgspec
import pytest

from thunderline.block.memory import MemoryStore
from thunderline.core.ids import Revision
from thunderline.core.records import CapacityReport
from thunderline.core.settings import Settings
from thunderline.flow.match import Pattern
from thunderline.link.capacity import Capacity
from thunderline.link.pace import Pace
from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import FaultyStore
from thunderline.testing.harness import Cluster, open_cluster
from thunderline.testing.records import node_id

SMALL = Settings(max_heartbeats_per_second=1, max_interval_s=10, heartbeat_interval_s=1)


def test_it_is_exceeded_when_the_longest_intervals_are_too_short() -> None:
    pace = Pace(SMALL, rng=random.Random(0))
    capacity = Capacity(pace, settings=SMALL)
    for number in range(10):
        pace.count(node_id(number), 1000)
        assert capacity.look() is None
    pace.count(node_id(10), 1000)
    told = capacity.look()
    assert told is not None
    assert (told.exceeded, told.nodes, told.heartbeats_per_second) == (True, 11, pytest.approx(1.1))
    assert capacity.look() is None


def test_it_is_restored_well_below() -> None:
    pace = Pace(SMALL, rng=random.Random(0))
    capacity = Capacity(pace, settings=SMALL)
    for number in range(11):
        pace.count(node_id(number), 1000)
    capacity.look()
    pace.discount(node_id(0))
    assert capacity.look() is None
    pace.discount(node_id(1))
    told = capacity.look()
    assert told is not None
    assert not told.exceeded


async def events(cluster: Cluster) -> list[str]:
    page = await cluster.registry.log.page(since=Revision(0), pattern=Pattern("cluster.capacity.*"), limit=100)
    assert all(isinstance(event.payload, CapacityReport) for event in page.events)
    return [event.name.rpartition(".")[2] for event in page.events]


async def test_a_registry_tells_of_it_shows_it_and_remembers_it() -> None:
    clock, store = ManualClock(), FaultyStore(MemoryStore())
    async with open_cluster(store=store, clock=clock, settings=SMALL) as cluster:
        for number in range(11):
            await cluster.node(f"n{number}")
        await clock.advance(1)
        assert await events(cluster) == ["exceeded"]
        shown = (await cluster.http.get("/api/summary")).json()["liveness"]["capacity"]
        assert (shown["exceeded"], shown["max_heartbeats_per_second"]) == (True, 1.0)
    async with open_cluster(store=store, clock=clock, settings=SMALL) as cluster:
        await clock.advance(1)
        assert await events(cluster) == ["exceeded"]
    wide = msgspec.structs.replace(SMALL, max_heartbeats_per_second=100.0)
    async with open_cluster(store=store, clock=clock, settings=wide) as cluster:
        await clock.advance(1)
        assert await events(cluster) == ["exceeded", "restored"]
