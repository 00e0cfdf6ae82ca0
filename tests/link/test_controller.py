"""The registry as a node: it is itself whatever was done to its record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from thunderline.block.memory import MemoryStore
from thunderline.core.host import HostMeter
from thunderline.core.settings import Settings
from thunderline.link.controller import Controller
from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import FaultyStore
from thunderline.testing.harness import Cluster, open_cluster

OWN = "registry@here"


@asynccontextmanager
async def controlled(
    store: FaultyStore, clock: ManualClock, *, interval_s: float = 10.0, address: str = "http://127.0.0.1:1"
) -> AsyncIterator[Cluster]:
    settings = Settings(node_name=OWN, heartbeat_interval_s=interval_s)
    async with open_cluster(store=store, clock=clock, settings=settings) as cluster:
        controller = Controller(cluster.registry, HostMeter(clock), address=address)
        await controller.start()
        cluster.registry.tasks.start(controller.run(), name="controller")
        yield cluster


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_each_start_takes_its_own_address_interval_and_role(clock: ManualClock) -> None:
    store = FaultyStore(MemoryStore())
    async with controlled(store, clock, interval_s=0.2, address="http://127.0.0.1:1") as cluster:
        await cluster.registry.update_node(OWN, {"role": "edge"})
    async with controlled(store, clock, interval_s=10, address="http://127.0.0.1:2") as cluster:
        node = cluster.registry.get_node(OWN)
        assert (node.role, node.address) == ("controller", "http://127.0.0.1:2")
        assert (node.heartbeat_interval_ms, node.incarnation) == (10_000, 2)
        await clock.advance(120)
        await cluster.registry.update_node(OWN, {})
        assert cluster.registry.get_node(OWN).status == "online"


async def test_it_takes_its_name_from_a_node_that_registered_under_it(clock: ManualClock) -> None:
    store = FaultyStore(MemoryStore())
    async with open_cluster(store=store, clock=clock) as cluster:
        await cluster.node(OWN, role="worker")
    async with controlled(store, clock) as cluster:
        assert cluster.registry.get_node(OWN).role == "controller"


async def test_it_beats_at_the_interval_that_its_record_says(clock: ManualClock) -> None:
    async with controlled(FaultyStore(MemoryStore()), clock) as cluster:
        await clock.advance(15)
        await cluster.registry.update_node(OWN, {"heartbeat_interval_ms": 1000})
        await clock.advance(60)
        await cluster.registry.update_node(OWN, {})
        assert cluster.registry.get_node(OWN).status == "online"
        assert len(await cluster.registry.recent_heartbeats(OWN, minutes=0.5)) >= 29


async def test_deregistered_while_the_store_is_away_it_comes_back_with_the_store(clock: ManualClock) -> None:
    store = FaultyStore(MemoryStore())
    async with controlled(store, clock) as cluster:
        await cluster.registry.deregister(OWN)
        store.away = True
        await clock.advance(30)
        store.away = False
        await clock.advance(30)
        assert cluster.registry.get_node(OWN).status == "online"
        cluster.registry.check_ready()
