"""The guard against mass expiry: when it holds nodes, for how long at most, and who is told."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thunderline.block.memory import MemoryStore
from thunderline.core.ids import NodeId, Revision
from thunderline.core.records import GroupType, GuardReport
from thunderline.core.settings import Settings
from thunderline.flow.match import Pattern
from thunderline.link.group_tree import GroupTree
from thunderline.link.guard import EVERYTHING, Fall, Guard, Population, Scope
from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import FaultyStore
from thunderline.testing.harness import Cluster, open_cluster
from thunderline.testing.records import START, make_group, node_id

DEFAULT = Settings()


def tree(*groups: tuple[str, GroupType, str | None]) -> GroupTree:
    made = GroupTree()
    for number, (name, kind, parent) in enumerate(groups, start=1):
        made.put(make_group(number, name=name, group_type=kind, parent=parent))
    return made


class Fleet:
    """A guard over nodes of which the test says how they fare."""

    def __init__(
        self, nodes: int, groups: tuple[str, ...] = (), *, settings: Settings = DEFAULT, seed: int = 0
    ) -> None:
        self.guard = Guard(tree(("z", GroupType.ZONE, None)), settings=settings, rng=random.Random(seed))
        self.groups = groups
        self.heard_at: dict[NodeId, float] = {}
        for number in range(nodes):
            self.guard.population.count(node_id(number), groups)

    def hold(self, number: int, now: float, fall: Fall = Fall.DISCONNECTED) -> float | None:
        until = self.guard.hold(node_id(number), self.groups, fall, now=now)
        if until is None and fall is Fall.OFFLINE:
            self.guard.population.discount(node_id(number))
            self.guard.recovered(node_id(number))
        return until

    def look(self, now: float) -> list[GuardReport]:
        return self.guard.look(now=now, at=START, was_heard=lambda node, since: self.heard_at.get(node, -1.0) > since)


# Scopes


def test_scope_is_the_nearest_zone_then_region_then_everything() -> None:
    groups = tree(
        ("eu", GroupType.REGION, None),
        ("eu-1", GroupType.ZONE, "eu"),
        ("rack", GroupType.CUSTOM, "eu-1"),
        ("shared", GroupType.CUSTOM, "eu"),
        ("lone", GroupType.ROLE, None),
    )
    population = Population(groups)
    assert population.scope(("rack",)) == Scope("eu-1", GroupType.ZONE)
    assert population.scope(("eu", "rack")) == Scope("eu-1", GroupType.ZONE)
    assert population.scope(("shared",)) == Scope("eu", GroupType.REGION)
    assert population.scope(("lone",)) == population.scope(()) == Scope(EVERYTHING, None)


def test_a_group_called_everything_is_another_scope() -> None:
    assert Scope(EVERYTHING, None).id != Scope(EVERYTHING, GroupType.ZONE).id


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([None, (), ("a",), ("b",), ("a", "c")])), max_size=60))
def test_population_is_what_counting_anew_would_give(changes: list[tuple[int, tuple[str, ...] | None]]) -> None:
    groups = tree(("a", GroupType.ZONE, None), ("b", GroupType.CUSTOM, "a"), ("c", GroupType.REGION, None))
    population, truth = Population(groups), dict[NodeId, tuple[str, ...]]()
    for step, (number, wanted) in enumerate(changes):
        if wanted is None:
            population.discount(node_id(number))
            truth.pop(node_id(number), None)
        else:
            population.count(node_id(number), wanted)
            truth[node_id(number)] = wanted
        if step % 7 == 3:
            groups.put(make_group(2, name="b", group_type=GroupType.CUSTOM, parent=None if step % 2 else "a"))
        for scope in {population.scope(each) for each in truth.values()} | {Scope("a", GroupType.ZONE)}:
            assert population.of(scope) == sum(population.scope(each) == scope for each in truth.values())


# Who is held


def test_a_fraction_falls_at_once_and_the_rest_is_held() -> None:
    fleet = Fleet(100)
    held = [fleet.hold(number, now=10.0) for number in range(45)]
    assert held[:30] == [None] * 30
    assert all(until is not None and 10.0 <= until <= 130.0 for until in held[30:])
    assert len(set(held[30:])) == 15


def test_a_few_nodes_fall_at_once_however_small_the_cluster() -> None:
    fleet = Fleet(6)
    assert [fleet.hold(number, now=10.0) for number in range(5)] == [None] * 5
    assert fleet.hold(5, now=10.0) is not None


def test_nodes_that_fall_over_a_longer_time_did_not_fall_together() -> None:
    fleet = Fleet(100)
    assert [fleet.hold(number, now=number * 2.1) for number in range(100)] == [None] * 100


def test_one_scope_does_not_guard_another() -> None:
    guard = Fleet(100, ("z",)).guard
    for number in range(100, 200):
        guard.population.count(node_id(number), ())

    def hold(number: int, groups: tuple[str, ...]) -> float | None:
        return guard.hold(node_id(number), groups, Fall.DISCONNECTED, now=0.0)

    assert sum(hold(number, ("z",)) is not None for number in range(40)) == 10
    assert [hold(number, ()) for number in range(100, 130)] == [None] * 30
    told = guard.look(now=0.0, at=START, was_heard=lambda node, since: False)
    assert [report.scope for report in told] == [report.scope for report in guard.reports()] == ["z"]


def test_a_fraction_of_one_switches_the_guard_off() -> None:
    fleet = Fleet(100, settings=msgspec.structs.replace(DEFAULT, guard_fraction=1.0))
    assert [fleet.hold(number, now=0.0) for number in range(100)] == [None] * 100


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(7, 60), st.floats(0.5, 70.0))
def test_nobody_is_held_for_longer_than_the_limit_from_first_silence_to_the_end(
    seed: int, nodes: int, offline_after_s: float
) -> None:
    """As the sentinel does it: a held node comes back when its time is over, and after its first fall once more."""
    fleet, rng = Fleet(nodes, seed=seed), random.Random(seed)
    spent, most = dict.fromkeys(range(nodes), 0.0), DEFAULT.guard_max_delay_s
    due = [(rng.uniform(0, 10), number, Fall.DISCONNECTED) for number in range(nodes)]
    while due:
        due.sort(key=lambda each: each[0])
        now, number, fall = due.pop(0)
        fleet.look(now)
        until = fleet.hold(number, now, fall)
        if until is not None:
            spent[number] += until - now
            due.append((until, number, fall))
        elif fall is Fall.DISCONNECTED:
            due.append((now + offline_after_s, number, Fall.OFFLINE))
    assert max(spent.values()) <= most + 1e-6
    assert sum(1 for each in spent.values() if each) >= nodes - 2 * max(5, int(nodes * 0.3)) - 1


def test_asking_again_changes_nothing() -> None:
    fleet = Fleet(100)
    for number in range(31):
        fleet.hold(number, now=0.0)
    first = fleet.hold(31, now=1.0)
    assert first is not None
    assert fleet.hold(0, now=1.5) is None
    assert fleet.hold(31, now=first - 0.001) == first
    assert fleet.hold(31, now=first) is None
    assert fleet.hold(31, now=first + 1) is None  # its fall is tried again


def test_who_fell_far_once_more_is_held_for_what_is_left() -> None:
    fleet = Fleet(100)
    for number in range(31):
        fleet.hold(number, now=0.0)
    first = fleet.hold(40, now=0.0)
    assert first is not None
    assert fleet.hold(40, now=first) is None
    for number in range(31):
        fleet.hold(number, now=first + 60, fall=Fall.OFFLINE)
    second = fleet.hold(40, now=first + 60, fall=Fall.OFFLINE)
    assert second is not None
    assert second - (first + 60) <= 120 - first


def test_who_was_heard_is_held_no_longer() -> None:
    fleet = Fleet(100)
    for number in range(40):
        fleet.hold(number, now=0.0)
    assert fleet.look(1.0)[0].held == 10
    fleet.heard_at = {node_id(number): 2.0 for number in range(30, 40)}
    fleet.look(3.0)
    assert [report.held for report in fleet.guard.reports()] == [0]


# Who is told


def test_it_is_told_once_when_it_engages_and_once_when_it_is_released() -> None:
    fleet = Fleet(100, ("z",))
    for number in range(40):
        fleet.hold(number, now=0.0)
    (engaged,) = fleet.look(0.0)
    assert (engaged.engaged, engaged.scope, engaged.scope_type) == (True, "z", GroupType.ZONE)
    assert (engaged.nodes, engaged.fallen, engaged.held) == (100, 30, 10)
    assert fleet.look(0.5) == []
    for number in range(30, 40):
        assert (until := fleet.hold(number, now=1.0)) is not None
        assert fleet.hold(number, now=until) is None
    assert fleet.look(59.9) == []
    (released,) = fleet.look(60.0)
    assert (released.engaged, released.id, released.engaged_at) == (False, engaged.id, engaged.engaged_at)
    assert fleet.look(300.0) == []
    assert fleet.guard.reports() == []


# In a registry


async def fleet_of(cluster: Cluster, count: int) -> None:
    for number in range(count):
        await cluster.registry.ensure_node({"name": f"n{number}"})
        await cluster.registry.mark_online(f"n{number}")


def statuses(cluster: Cluster) -> list[str]:
    return [node.observed_status for node in cluster.registry.list_nodes(name="n*")]


async def guard_events(cluster: Cluster) -> list[str]:
    page = await cluster.registry.log.page(since=Revision(0), pattern=Pattern("cluster.guard.*"), limit=100)
    return [event.name.rpartition(".")[2] for event in page.events]


async def test_a_registry_holds_expiry_tells_of_it_and_gives_up_all_the_same() -> None:
    async with open_cluster() as cluster:
        await fleet_of(cluster, 20)
        await cluster.clock.advance(31)
        assert statuses(cluster).count("disconnected") == 6
        summary = (await cluster.http.get("/api/summary")).json()
        (guard,) = summary["liveness"]["guards"]
        assert (guard["scope"], guard["held"], guard["fallen"], guard["nodes"]) == ("everything", 14, 6, 20)
        await cluster.clock.advance(61)
        # While it is engaged nobody is given up at once either.
        assert statuses(cluster).count("offline") < 6
        assert 0 < statuses(cluster).count("online") < 14
        await cluster.clock.advance(120)
        assert set(statuses(cluster)) == {"offline"}
        await cluster.clock.advance(61)
        assert (await cluster.http.get("/api/summary")).json()["liveness"]["guards"] == []
        assert await guard_events(cluster) == ["engaged", "released"]


async def test_a_held_node_that_is_heard_was_never_disconnected() -> None:
    async with open_cluster() as cluster:
        await fleet_of(cluster, 20)
        await cluster.clock.advance(31)
        held = [node.name for node in cluster.registry.list_nodes(name="n*", status="online")]
        revisions = [cluster.registry.get_node(name).revision for name in held]
        for _ in range(20):
            for name in held:
                await cluster.registry.heartbeat(name)
            await cluster.clock.advance(9)
        assert [cluster.registry.get_node(name).revision for name in held] == revisions


async def test_changing_a_held_node_lets_it_neither_fall_nor_stay() -> None:
    async with open_cluster() as cluster:
        await fleet_of(cluster, 20)
        await cluster.clock.advance(31)
        held = [node.name for node in cluster.registry.list_nodes(name="n*", status="online")]
        for turn in range(121):
            for name in held:
                await cluster.registry.update_node(name, {"meta": {"turn": turn}})
            if turn == 0:
                assert statuses(cluster).count("online") == 14
            await cluster.clock.advance(1)
        assert "online" not in statuses(cluster)


async def test_nodes_that_leave_or_were_never_seen_are_not_held() -> None:
    async with open_cluster() as cluster:
        for number in range(20):
            await cluster.registry.ensure_node({"name": f"n{number}"})
        await cluster.clock.advance(61)
        assert set(statuses(cluster)) == {"offline"}
        for number in range(20):
            await cluster.registry.mark_online(f"n{number}")
        for number in range(20):
            await cluster.registry.heartbeat(f"n{number}", "offline")
        assert set(statuses(cluster)) == {"offline"}
        assert await guard_events(cluster) == []


@pytest.mark.parametrize("left", ["engaged", "released"])
async def test_a_guard_that_a_killed_process_left_engaged_is_released_by_the_next(left: str) -> None:
    clock, store = ManualClock(), FaultyStore(MemoryStore())
    async with open_cluster(store=store, clock=clock) as cluster:
        await fleet_of(cluster, 20)
        await clock.advance(31)
        if left == "released":
            await clock.advance(400)
        told = await guard_events(cluster)
    async with open_cluster(store=store, clock=clock) as cluster:
        await clock.advance(1)
        assert told == (["engaged"] if left == "engaged" else ["engaged", "released"])
        assert await guard_events(cluster) == ["engaged", "released"]
