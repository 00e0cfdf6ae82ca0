"""How often nodes are asked to beat: the rate stays under its limit, intervals within theirs, and sums are exact."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderline.core.settings import Settings
from thunderline.link.pace import SPREAD, STEP, Pace
from thunderline.testing.clock import ManualClock
from thunderline.testing.harness import open_cluster
from thunderline.testing.records import node_id

SMALL = Settings(max_heartbeats_per_second=10, max_interval_s=60, heartbeat_interval_s=1)


def pace(**changes: float) -> Pace:
    return Pace(msgspec.structs.replace(SMALL, **changes), rng=random.Random(0))


def test_small_fleet_has_the_intervals_that_it_asks_for() -> None:
    p = pace()
    for i in range(10):
        p.count(node_id(i), 1000)
    assert {p.interval_ms(1000) for _ in range(20)} == {1000}
    assert p.most_ms(1000) == 1000


@pytest.mark.parametrize("nodes", [11, 50, 100, 500])
def test_rate_of_a_large_fleet_stays_under_the_limit(nodes: int) -> None:
    p = pace()
    for i in range(nodes):
        p.count(node_id(i), 1000)
    granted = [p.interval_ms(1000) for _ in range(nodes)]
    assert sum(1000 / interval_ms for interval_ms in granted) <= 10
    assert len(set(granted)) > nodes // 4, "no jitter"
    assert max(granted) <= p.most_ms(1000) <= 1000 * nodes / 10 * STEP * SPREAD + 1


def test_longest_interval_wins_over_the_limit_unless_a_node_asks_for_more() -> None:
    p = pace()
    for i in range(2000):
        p.count(node_id(i), 1000)
    assert p.interval_ms(1000) == 60_000
    assert p.interval_ms(90_000) == 90_000
    assert p.least_per_second == pytest.approx(2000 / 60)


def test_grants_change_in_steps_and_not_with_every_node() -> None:
    p = pace()
    changes = set()
    for i in range(1000):
        p.count(node_id(i), 1000)
        changes.add(p.terms)
    assert len(changes) < 60
    before = p.terms
    for i in range(50):
        p.discount(node_id(i))
        p.count(node_id(i), 1000)
    assert p.terms == before


COMINGS = st.lists(
    st.tuples(st.integers(0, 30), st.none() | st.sampled_from([100, 1000, 7000, 10_000, 90_000])), max_size=80
)


@given(COMINGS)
def test_sums_are_those_of_the_nodes_that_are_there(comings: list[tuple[int, int | None]]) -> None:
    p, there = pace(), dict[int, int]()
    for number, asked_ms in comings:
        if asked_ms is None:
            p.discount(node_id(number))
            there.pop(number, None)
        else:
            p.count(node_id(number), asked_ms)
            there[number] = asked_ms
    assert len(p) == len(there)
    assert p.wanted_per_second == pytest.approx(sum(1000 / ms for ms in there.values()), abs=1e-6)
    assert p.least_per_second == pytest.approx(sum(1000 / max(ms, 60_000) for ms in there.values()), abs=1e-6)
    for number in list(there):
        p.discount(node_id(number))
    assert (p.wanted_per_second, p.least_per_second, p.factor) == (0, 0, 1.0)


async def test_granted_interval_is_told_with_the_answer_and_not_written() -> None:
    async with open_cluster(settings=Settings(max_heartbeats_per_second=1)) as cluster:
        nodes = [await cluster.node(f"n{i}") for i in range(40)]
        revision = cluster.registry.roster.revision
        told = [(await node.beat()).json()["next_interval_ms"] for node in nodes]
        assert min(told) > 39_000
        assert cluster.registry.roster.revision == revision
        assert cluster.registry.get_node("n0").heartbeat_interval_ms == 10_000


async def test_longer_interval_is_granted_its_deadline_at_once() -> None:
    async with open_cluster(settings=Settings(max_heartbeats_per_second=1, guard_fraction=1)) as cluster:
        nodes = [await cluster.node(f"n{i}") for i in range(40)]
        for node in nodes:
            await node.beat()
        await cluster.clock.advance(100)
        assert {node.status for node in cluster.registry.list_nodes()} == {"online"}
        await cluster.clock.advance(80)
        assert "online" not in {node.status for node in cluster.registry.list_nodes()}


async def test_fleet_that_shrinks_beats_at_its_own_interval_again() -> None:
    async with open_cluster(settings=Settings(max_heartbeats_per_second=1)) as cluster:
        nodes = [await cluster.node(f"n{i}") for i in range(40)]
        for node in nodes[5:]:
            await node.leave()
        assert (await nodes[0].beat()).json()["next_interval_ms"] == 10_000


async def test_after_a_restart_the_fleet_is_granted_what_it_had() -> None:
    clock = ManualClock()
    settings = Settings(max_heartbeats_per_second=1)
    async with open_cluster(settings=settings, clock=clock) as cluster:
        for i in range(40):
            await cluster.node(f"n{i}")
        store = cluster.store
    async with open_cluster(settings=settings, clock=clock, store=store) as cluster:
        await cluster.clock.advance(110)
        assert {node.status for node in cluster.registry.list_nodes()} == {"online"}
