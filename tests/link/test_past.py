"""The cluster as it stood: what is read of a moment is what was committed there, however it is made."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest

from tests.engines import ENGINES, Stores
from tests.link.turning import turn_on
from thunderline.block.memory import MemoryStore
from thunderline.block.store import Snapshot
from thunderline.core.errors import CursorGone, InvalidInput, ThunderlineError
from thunderline.core.ids import Revision
from thunderline.link import snapshots
from thunderline.link.graph import Graph
from thunderline.link.packed_state import pack, unpack
from thunderline.link.past_graphs import diff
from thunderline.link.registry import Registry
from thunderline.link.snapshots import Snapshots, made_of
from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import FaultyStore

NAMES = [f"n-{number}" for number in range(6)]


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, stores: Stores, clock: ManualClock) -> FaultyStore:
    """Each engine."""
    return FaultyStore(stores.new(request.param, clock=clock))


async def act(registry: Registry, rng: random.Random, turn: int) -> None:
    """Something, of which some is refused."""
    name, other = rng.sample(NAMES, 2)
    actions: list[Callable[[], object]] = [
        lambda: registry.ensure_node({"name": name, "meta": {"turn": turn}}),
        lambda: registry.ensure_node({"name": other}),
        lambda: registry.mark_online(name, {"session_id": f"s-{name}"}),
        lambda: registry.mark_offline(name),
        lambda: registry.clear_override(name),
        lambda: registry.update_node(name, {"meta": {"turn": turn}}),
        lambda: registry.establish_link_session(name, other, {"session_id": f"{name}-{other}"}),
        lambda: registry.deregister(name, force=True),
        lambda: registry.create_group({"name": f"g-{turn % 3}", "group_type": "zone"}),
        lambda: registry.add_to_group(name, f"g-{turn % 3}"),
        lambda: registry.remove_group(f"g-{turn % 3}", force=True),
    ]
    try:
        await rng.choice(actions)()  # type: ignore[misc]  # each gives something to await
    except ThunderlineError:
        return


def everything(registry: Registry) -> tuple[Graph, Graph]:
    """The present, by nodes and by groups."""
    return registry.graph(include_offline=True), registry.graph(include_offline=True, level="groups")


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_the_state_at_each_commit_is_the_one_that_was_committed_there(
    store: FaultyStore, clock: ManualClock, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "EVENTS_LEAST", 25)
    rng = random.Random(seed)
    stood: dict[int, tuple[Graph, Graph]] = {}
    for life in range(3):
        async with Registry.open(store, clock=clock, rng=random.Random(seed)) as registry:
            stood[registry.roster.revision] = everything(registry)
            for turn in range(60):
                await act(registry, rng, turn)
                stood[registry.roster.revision] = everything(registry)
            if life == 1:
                # The first life is read without snapshots, all three of them with some, and again after a restart.
                keeper = Snapshots(store, registry.roster, registry.log, clock=clock, store_is_away=lambda: False)
                while await keeper.step():
                    pass
                kept = await store.read_snapshot(revision=registry.roster.revision)
                assert kept is not None
            for revision, (by_nodes, by_groups) in stood.items():
                assert await registry.graph_at(revision, include_offline=True) == by_nodes
                assert await registry.graph_at(revision, include_offline=True, level="groups") == by_groups
    assert len(stood) > 60
    assert any(by_nodes.links and by_groups.links for by_nodes, by_groups in stood.values())


async def test_snapshots_of_another_version_are_made_again(
    store: FaultyStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "EVENTS_LEAST", 25)
    rng = random.Random(9)
    async with Registry.open(store, clock=clock) as registry:
        for turn in range(80):
            await act(registry, rng, turn)
        another = Snapshot(
            revision=registry.roster.revision, parts=[zlib.compress(msgspec.msgpack.encode([2, [], []]))]
        )
        await store.keep_snapshot(another)
        # Passed over, as long as it is there.
        assert await registry.graph_at(registry.roster.revision, include_offline=True) == everything(registry)[0]
        keeper = Snapshots(store, registry.roster, registry.log, clock=clock, store_is_away=lambda: False)
        assert await keeper.step()
        kept = await store.read_snapshot(revision=registry.roster.revision)
        assert kept is not None
        assert kept.revision < another.revision
        assert unpack(kept.parts) is not None


async def test_a_moment_within_a_commit_is_its_end(store: FaultyStore, clock: ManualClock) -> None:
    async with Registry.open(store, clock=clock) as registry:
        node = await registry.ensure_node({"name": "a"})
        before = registry.roster.revision
        await registry.mark_online(node.id, {"session_id": "s"})
        end = registry.roster.revision
        assert end > before + 1
        graphs = [await registry.graph_at(revision) for revision in range(before + 1, end + 1)]
        assert all(graph == registry.graph() for graph in graphs)


async def test_moments_are_times_revisions_and_cursors(store: FaultyStore, clock: ManualClock) -> None:
    async with Registry.open(store, clock=clock) as registry:
        start = clock.now()
        await turn_on(store, clock, 60)
        await registry.ensure_node({"name": "a"})
        first, cursor = registry.graph(), registry.cursor
        await turn_on(store, clock, 60)
        await registry.ensure_node({"name": "b"})
        at = start + timedelta(seconds=90)
        plain = at.isoformat()
        for moment in (at, plain, plain.replace("+", " "), plain.replace("+00:00", "Z"), 1, "1", cursor):
            assert await registry.graph_at(moment) == first
        assert (await registry.graph_at(start)).nodes == []
        assert await registry.graph_at(start + timedelta(days=365)) == registry.graph()


@pytest.mark.parametrize("moment", ["", "yesterday", "2026-01-01T00:00:00", "3", -1, "x:1", "2026-13-01T00:00:00Z"])
async def test_what_is_no_moment_is_refused_by_name(clock: ManualClock, moment: str | int) -> None:
    async with Registry.open(MemoryStore(), clock=clock) as registry:
        with pytest.raises(InvalidInput) as refused:
            await registry.graph_at(moment)
        assert refused.value.field == "at"


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+23:59", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59"])
async def test_a_time_at_the_end_of_all_times_is_refused_by_name(clock: ManualClock, moment: str) -> None:
    async with Registry.open(MemoryStore(), clock=clock) as registry:
        node = await registry.ensure_node({"name": "a"})
        for asked in (
            registry.graph_at(moment),
            registry.timeline(None, moment),
            registry.status_history(node.id, None, moment),
        ):
            with pytest.raises(InvalidInput, match="in one of the years 2 to 9998"):
                await asked


async def test_the_first_and_the_last_time_that_may_be_asked_for_are_answered(clock: ManualClock) -> None:
    first, last = "0002-01-01T00:00:00+23:59", "9998-12-31T23:59:59-23:59"
    async with Registry.open(MemoryStore(), clock=clock) as registry:
        node = await registry.ensure_node({"name": "a"})
        assert (await registry.graph_at(first)).nodes == []
        assert await registry.graph_at(last) == registry.graph()
        for moment in (first, last):
            assert sum((await registry.timeline(None, moment)).events) == 0
            assert (await registry.status_history(node.id, None, moment)).node_id == node.id
        for bins in (1, 2, 2_000):
            assert sum((await registry.timeline(first, last, bins=bins)).events) == registry.roster.revision


async def test_a_cursor_of_another_log_is_gone(clock: ManualClock) -> None:
    async with Registry.open(MemoryStore(), clock=clock) as other:
        await other.ensure_node({"name": "a"})
        foreign = other.cursor
    async with Registry.open(MemoryStore(), clock=clock) as registry:
        with pytest.raises(CursorGone, match="at: it belongs to another"):
            await registry.graph_at(foreign)


async def test_a_diff_says_what_came_what_went_and_what_changed(store: FaultyStore, clock: ManualClock) -> None:
    async with Registry.open(store, clock=clock) as registry:
        for name in ("stays", "goes"):
            await registry.ensure_node({"name": name})
        since = registry.roster.revision
        await registry.ensure_node({"name": "comes"})
        await registry.update_node("stays", {"meta": {"v": 2}})
        await registry.deregister("goes")
        found = await registry.graph_diff(since, registry.cursor)
    assert [node.name for node in found.nodes.added] == ["comes"]
    assert [node.name for node in found.nodes.removed] == ["goes"]
    (changed,) = found.nodes.changed
    assert (changed.before.meta, changed.after.meta, changed.fields) == ({}, {"v": 2}, ["meta"])
    assert (found.since, found.links.added) == (since, [])
    assert {"from", "to"} < set(msgspec.to_builtins(found))


def test_a_graph_does_not_differ_from_itself() -> None:
    graph = Graph(nodes=[], links=[], revision=Revision(3), cursor="x:3")
    found = diff(graph, graph)
    assert found.nodes.added == found.nodes.removed == found.nodes.changed == []


async def test_a_packed_state_is_the_same_unpacked(store: FaultyStore, clock: ManualClock) -> None:
    rng = random.Random(5)
    async with Registry.open(store, clock=clock) as registry:
        for turn in range(80):
            await act(registry, rng, turn)
        state = await made_of(store, registry.log, registry.roster.revision, lambda state: state)
    unpacked = unpack(pack(state))
    assert unpacked is not None
    assert (unpacked.nodes, unpacked.links) == (state.nodes, state.links)
    assert unpacked.controllers == state.controllers
