"""Groups embedded: how they nest, who is in them, what each change tells, and what is refused."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderline.block.memory import MemoryStore
from thunderline.block.sqlite import SqliteStore
from thunderline.block.store import WriteBatch
from thunderline.core.errors import (
    ContentRejected,
    GroupCycle,
    GroupInUse,
    InvalidInput,
    Mismatch,
    NotPermitted,
    ThunderlineError,
    UnknownGroup,
    UnknownMembership,
    UnknownNode,
)
from thunderline.core.ids import Revision
from thunderline.core.inputs import GROUPS_MAX, GroupAttrs, GroupPatch
from thunderline.core.records import GroupType, Node, NodeGroup
from thunderline.link import group_plans
from thunderline.link.actor import EMBEDDING_PROGRAM, NODE_SCOPES, Actor, ActorKind
from thunderline.link.group_plans import DEPTH_MAX
from thunderline.link.group_tree import GroupFilter, GroupTree, nearest_group
from thunderline.link.node_index import NodeFilter
from thunderline.link.overlay import Overlay
from thunderline.link.registry import Registry
from thunderline.link.roster import Roster
from thunderline.testing.clock import START_MS
from thunderline.testing.harness import Cluster, open_cluster
from thunderline.testing.records import START, batch_id, make_group, make_node, numbered_ids


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """A cluster with nodes a, b and c, and the groups eu > eu-1 > rack-1, and us."""
    async with open_cluster() as opened:
        for name in ("a", "b", "c"):
            await opened.node(name)
        await opened.registry.create_group({"name": "eu", "group_type": "region"})
        await opened.registry.create_group({"name": "eu-1", "group_type": "zone", "parent": "eu"})
        await opened.registry.create_group({"name": "rack-1", "parent": "eu-1"})
        await opened.registry.create_group({"name": "us", "group_type": "region"})
        yield opened


def names(registry: Registry, group: str, **more: Any) -> list[str]:
    return [node.name for node in registry.list_nodes(group=group, **more)]


async def told(cluster: Cluster, since: str) -> list[tuple[str, str, bool]]:
    """(name, subject, deleted) of the groups' events since."""
    answer = await cluster.http.get("/api/events", params={"match": "cluster.group.*", "since": since})
    return [
        (event["type"].removeprefix("cluster.group."), event["subject"], event["data"].get("deleted", False))
        for event in answer.json()["events"]
    ]


# Nesting


async def test_group_has_its_defaults_and_what_was_given(cluster: Cluster) -> None:
    plain = await cluster.registry.create_group({"name": "plain"})
    assert (plain.group_type, plain.parent, plain.meta) == (GroupType.CUSTOM, None, {})
    full = await cluster.registry.create_group(
        {"name": "x@y:1", "group_type": "shard", "parent": "us", "meta": {"k": 1}}
    )
    assert (full.group_type, full.parent, full.meta) == (GroupType.SHARD, "us", {"k": 1})
    assert cluster.registry.get_group(full.id) == cluster.registry.get_group("x@y:1") == full
    assert full.revision == cluster.registry.roster.revision


async def test_creating_the_same_group_again_changes_nothing(cluster: Cluster) -> None:
    cursor = cluster.registry.cursor
    again = await cluster.registry.create_group({"name": "eu-1", "group_type": "zone", "parent": "eu", "meta": {}})
    assert again == await cluster.registry.create_group({"name": "eu-1"}) == cluster.registry.get_group("eu-1")
    assert cluster.registry.cursor == cursor


@pytest.mark.parametrize(
    ("attrs", "field"),
    [({"group_type": "region"}, "group_type"), ({"parent": None}, "parent"), ({"meta": {"a": "x" * 9000}}, "meta")],
)
async def test_known_name_with_another_value_is_a_mismatch(cluster: Cluster, attrs: dict[str, Any], field: str) -> None:
    with pytest.raises(Mismatch) as caught:
        await cluster.registry.create_group({"name": "eu-1", **attrs})
    assert caught.value.field == field
    assert len(str(caught.value)) < 500


async def test_groups_are_listed_by_name_type_and_parent(cluster: Cluster) -> None:
    def listed(**wanted: str) -> list[str]:
        return [group.name for group in cluster.registry.list_groups(**wanted)]

    assert listed() == ["eu", "eu-1", "rack-1", "us"]
    assert listed(group_type="region") == ["eu", "us"]
    assert listed(parent="eu") == ["eu-1"]
    assert listed(parent="eu", group_type="region") == listed(parent="us") == []
    with pytest.raises(UnknownGroup):
        listed(parent="nowhere")
    with pytest.raises(InvalidInput, match="group_type"):
        listed(group_type="planet")


async def test_patch_changes_what_it_names_and_null_resets(cluster: Cluster) -> None:
    registry = cluster.registry
    changed = await registry.update_group("rack-1", {"group_type": "shard", "meta": {"a": 1, "b": 2}})
    assert (changed.group_type, changed.parent, changed.meta) == (GroupType.SHARD, "eu-1", {"a": 1, "b": 2})
    reset = await registry.update_group("rack-1", {"group_type": None, "parent": None, "meta": {"a": None}})
    assert (reset.group_type, reset.parent, reset.meta) == (GroupType.CUSTOM, None, {"b": 2})
    cursor = registry.cursor
    assert await registry.update_group("rack-1", {"parent": None, "meta": {}}) == reset
    assert registry.cursor == cursor


@pytest.mark.parametrize(
    ("group", "parent", "chain"),
    [("eu", "eu", "eu in eu"), ("eu", "rack-1", "eu in rack-1 in eu-1 in eu"), ("eu-1", "rack-1", "eu-1 in rack-1")],
)
async def test_group_inside_itself_is_refused_and_the_chain_named(
    cluster: Cluster, group: str, parent: str, chain: str
) -> None:
    before = cluster.registry.list_groups()
    with pytest.raises(GroupCycle) as caught:
        await cluster.registry.update_group(group, {"parent": parent})
    assert chain in str(caught.value)
    assert cluster.registry.list_groups() == before


async def test_new_group_inside_itself_is_refused(cluster: Cluster) -> None:
    with pytest.raises(GroupCycle):
        await cluster.registry.create_group({"name": "new", "parent": "new"})


async def test_opposite_moves_in_one_batch_make_no_cycle(cluster: Cluster) -> None:
    registry = cluster.registry
    commits = len(cluster.store.commits)
    moves = (registry.update_group("eu", {"parent": "us"}), registry.update_group("us", {"parent": "eu"}))
    moved, refused = await asyncio.gather(*moves, return_exceptions=True)
    assert isinstance(moved, NodeGroup)
    assert isinstance(refused, GroupCycle)
    assert len(cluster.store.commits) == commits + 1
    assert [group.parent for group in registry.list_groups(group_type="region")] == ["us", None]


async def test_parent_that_is_not_there_is_refused(cluster: Cluster) -> None:
    for change in (
        cluster.registry.create_group({"name": "new", "parent": "nowhere"}),
        cluster.registry.update_group("eu", {"parent": "nowhere"}),
    ):
        with pytest.raises(InvalidInput, match="nowhere") as caught:
            await change
        assert caught.value.field == "parent"


async def test_groups_nest_so_deep_and_no_deeper(cluster: Cluster) -> None:
    registry = cluster.registry
    for depth in range(DEPTH_MAX):
        await registry.create_group({"name": f"d{depth}", "parent": f"d{depth - 1}" if depth else None})
    with pytest.raises(InvalidInput, match=f"{DEPTH_MAX + 1} groups inside each other"):
        await registry.create_group({"name": "deeper", "parent": f"d{DEPTH_MAX - 1}"})
    # What is moved counts with all that is in it.
    with pytest.raises(InvalidInput, match="parent"):
        await registry.update_group("d0", {"parent": "us"})
    await registry.update_group("d1", {"parent": "us"})


# Members


async def test_filter_finds_members_of_the_group_and_of_those_below_once_each(cluster: Cluster) -> None:
    registry = cluster.registry
    await registry.add_to_group("a", "rack-1")
    await registry.add_to_group("a", "eu-1")
    await registry.add_to_group("b", "eu")
    await registry.add_to_group("c", "us")
    found = {group: names(registry, group) for group in ("eu", "eu-1", "rack-1", "us")}
    assert found == {"eu": ["a", "b"], "eu-1": ["a"], "rack-1": ["a"], "us": ["c"]}
    assert registry.get_node("a").groups == ("eu-1", "rack-1")
    assert names(registry, registry.get_group("eu").id, name="b") == ["b"]
    await registry.update_group("eu", {"parent": "us"})
    assert names(registry, "us") == ["a", "b", "c"]
    with pytest.raises(UnknownGroup):
        registry.list_nodes(group="nowhere")


async def test_filter_finds_few_among_many_once_each(cluster: Cluster) -> None:
    registry = cluster.registry
    await asyncio.gather(*(registry.ensure_node({"name": f"n{at}"}) for at in range(100)))
    await registry.add_to_group("n7", "rack-1")
    await registry.add_to_group("n7", "eu")
    assert names(registry, "eu") == ["n7"]


async def test_joining_and_leaving_are_one_event_each(cluster: Cluster) -> None:
    registry = cluster.registry
    cursor = registry.cursor
    joined = await registry.add_to_group("a", "eu-1")
    assert await registry.add_to_group("a", "eu-1") == joined
    await registry.remove_from_group("a", "eu-1")
    assert registry.get_node("a").groups == ()
    assert await told(cluster, cursor) == [("joined", "a", False), ("left", "a", False)]


async def test_membership_that_is_not_there_cannot_be_removed(cluster: Cluster) -> None:
    await cluster.registry.add_to_group("a", "rack-1")
    with pytest.raises(UnknownMembership):
        await cluster.registry.remove_from_group("a", "eu")
    with pytest.raises(UnknownNode):
        await cluster.registry.add_to_group("nobody", "eu")
    with pytest.raises(UnknownGroup):
        await cluster.registry.add_to_group("a", "nowhere")


async def test_a_node_is_in_so_many_groups_at_most(cluster: Cluster) -> None:
    registry = cluster.registry
    for number in range(GROUPS_MAX):
        await registry.create_group({"name": f"g{number}"})
        await registry.add_to_group("a", f"g{number}")
    with pytest.raises(InvalidInput, match=f"{GROUPS_MAX} groups already"):
        await registry.add_to_group("a", "eu")
    await registry.add_to_group("a", "g0")


async def test_deregistered_node_is_in_no_group_any_more(cluster: Cluster) -> None:
    registry = cluster.registry
    await registry.add_to_group("a", "eu")
    await registry.deregister("a", force=True)
    assert names(registry, "eu") == []
    await registry.remove_group("rack-1")
    await registry.ensure_node({"name": "a"})
    assert names(registry, "eu") == []


async def test_member_keeps_its_groups_over_other_changes(cluster: Cluster) -> None:
    registry = cluster.registry
    await registry.add_to_group("a", "eu")
    await registry.update_node("a", {"labels": {"k": "v"}})
    await registry.ensure_node({"name": "a", "meta": {"k": 1}})
    await registry.mark_online("a", instance="other")
    assert names(registry, "eu") == ["a"]


# Deletion


async def test_group_that_holds_something_is_not_deleted(cluster: Cluster) -> None:
    registry = cluster.registry
    with pytest.raises(GroupInUse, match="0 members and 1 groups"):
        await registry.remove_group("eu")
    await registry.add_to_group("a", "us")
    with pytest.raises(GroupInUse, match="1 members and 0 groups"):
        await registry.remove_group("us")
    await registry.remove_from_group("a", "us")
    await registry.remove_group("us")
    with pytest.raises(UnknownGroup):
        registry.get_group("us")


async def test_forced_deletion_lets_members_go_and_subgroups_up_in_one_commit(cluster: Cluster) -> None:
    registry = cluster.registry
    await registry.add_to_group("b", "eu-1")
    await registry.add_to_group("a", "eu-1")
    await registry.add_to_group("c", "rack-1")
    cursor, commits = registry.cursor, len(cluster.store.commits)
    last = await registry.remove_group("eu-1", force=True)
    assert last.revision == registry.roster.revision
    assert len(cluster.store.commits) == commits + 1
    assert await told(cluster, cursor) == [
        ("left", "a", False),
        ("left", "b", False),
        ("updated", "rack-1", False),
        ("removed", "eu-1", True),
    ]
    assert registry.get_group("rack-1").parent == "eu"
    assert names(registry, "eu") == ["c"]


async def test_name_of_a_deleted_group_is_free_in_the_same_batch(cluster: Cluster) -> None:
    registry = cluster.registry
    await registry.add_to_group("a", "eu-1")
    old = registry.get_group("eu-1")
    _, new, _ = await asyncio.gather(
        registry.remove_group("eu-1", force=True),
        registry.create_group({"name": "eu-1", "parent": "us"}),
        registry.create_group({"name": "eu-1b", "parent": "eu-1"}),
    )
    assert new.id != old.id
    assert registry.list_groups(parent="us") == [new]
    assert names(registry, "us") == []
    assert [group.name for group in registry.list_groups(parent="eu-1")] == ["eu-1b"]


async def test_member_that_joins_in_the_batch_of_the_deletion_is_refused_or_let_go(cluster: Cluster) -> None:
    registry = cluster.registry
    results = await asyncio.gather(
        registry.add_to_group("a", "us"),
        registry.remove_group("us", force=True),
        registry.add_to_group("b", "us"),
        return_exceptions=True,
    )
    assert isinstance(results[2], UnknownGroup)
    assert (registry.get_node("a").groups, registry.get_node("b").groups) == ((), ())


# Who may, faults, restarts


async def test_groups_are_the_operators_alone(cluster: Cluster) -> None:
    registry = cluster.registry
    node = Actor(kind=ActorKind.NODE, name="a", scopes=NODE_SCOPES, node_id=registry.get_node("a").id)
    changes: list[Awaitable[object]] = [
        registry.create_group({"name": "new"}, actor=node),
        registry.update_group("eu", {"meta": {"a": 1}}, actor=node),
        registry.remove_group("us", actor=node),
        registry.add_to_group("a", "eu", actor=node),
        registry.remove_from_group("a", "eu", actor=Actor(kind=ActorKind.SYSTEM, name="liveness")),
    ]
    for change in changes:
        with pytest.raises(NotPermitted):
            await change


async def test_change_that_the_store_refuses_leaves_the_groups_as_they_were(cluster: Cluster) -> None:
    registry = cluster.registry
    await registry.add_to_group("a", "eu-1")
    before = (registry.list_groups(), registry.get_node("a"))
    cluster.store.rejects = lambda batch: bool(batch.removed_groups)
    with pytest.raises(ContentRejected):
        await registry.remove_group("eu-1", force=True)
    assert (registry.list_groups(), registry.get_node("a")) == before
    assert names(registry, "eu") == ["a"]


async def test_groups_and_members_are_found_again_after_a_restart(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "nodes.db")
    async with Registry.open(store, rng=random.Random(0)) as registry:
        await registry.ensure_node({"name": "a"})
        await registry.create_group({"name": "eu", "group_type": "region", "meta": {"k": [1]}})
        # Its id sorts behind that of its child from here on: loading does not depend on parents coming first.
        await registry.create_group({"name": "world"})
        await registry.update_group("eu", {"parent": "world"})
        await registry.create_group({"name": "gone"})
        await registry.remove_group("gone")
        await registry.add_to_group("a", "eu")
        before = (registry.list_groups(), registry.list_nodes(group="world"))
        assert len(before[1]) == 1
    async with Registry.open(store, rng=random.Random(0)) as registry:
        assert (registry.list_groups(), registry.list_nodes(group="world")) == before
        await registry.remove_group("world", force=True)
        assert registry.get_group("eu").parent is None


# The nearest group


TREE = {
    "world": (GroupType.CUSTOM, None),
    "eu": (GroupType.REGION, "world"),
    "eu-1": (GroupType.ZONE, "eu"),
    "rack-1": (GroupType.CUSTOM, "eu-1"),
    "us": (GroupType.REGION, "world"),
    "us-1": (GroupType.ZONE, "us"),
}


@pytest.mark.parametrize(
    ("groups", "group_type", "nearest"),
    [
        (["rack-1"], GroupType.ZONE, "eu-1"),
        (["rack-1"], GroupType.REGION, "eu"),
        (["rack-1"], GroupType.CUSTOM, "rack-1"),
        (["eu"], GroupType.ZONE, None),
        ([], GroupType.ZONE, None),
        (["rack-1", "us-1"], GroupType.ZONE, "us-1"),  # nearer by one
        (["us-1", "eu-1"], GroupType.ZONE, "eu-1"),  # as near: by name
        (["us-1", "eu-1"], GroupType.REGION, "eu"),
        (["gone", "us"], GroupType.REGION, "us"),
    ],
)
def test_nearest_group_of_a_type_is_found_upwards(
    groups: list[str], group_type: GroupType, nearest: str | None
) -> None:
    tree = GroupTree()
    for number, (name, (kind, parent)) in enumerate(TREE.items()):
        tree.put(make_group(number, name=name, group_type=kind, parent=parent))
    for order in (groups, groups[::-1]):
        found = nearest_group(order, group_type, named=tree.named)
        assert (found and found.name) == nearest


# Any order of changes, in any batches

NODES = (make_node(1, name="m"), make_node(2, name="n"))
GROUPS = st.sampled_from(["g1", "g2", "g3", "g4", "g5"])
CHANGES = st.tuples(
    st.sampled_from(["create", "create", "move", "move", "join", "join", "leave", "remove", "force"]),
    GROUPS,
    st.none() | GROUPS,
    st.sampled_from(NODES),
)
Change = tuple[str, str, str | None, Node]


@dataclass
class Model:
    """Parents and memberships as one would first write them down."""

    parents: dict[str, str | None] = field(default_factory=dict)
    members: set[tuple[str, str]] = field(default_factory=set)

    def up_from(self, name: str) -> list[str]:
        chain: list[str] = []
        at: str | None = name
        while at is not None:
            assert at not in chain
            chain.append(at)
            at = self.parents[at]
        return chain

    def take(self, change: Change) -> bool:
        """Make the change if it may be made; gives whether it was."""
        what, group, other, node = change
        member = (node.name, group)
        if what == "create":
            may = self.parents[group] == other if group in self.parents else other in (None, *self.parents)
            if may:
                self.parents[group] = other
            return may
        if group not in self.parents:
            return False
        if what == "move":
            may = other is None or (other in self.parents and group not in self.up_from(other))
            if may:
                self.parents[group] = other
            return may
        if what in ("join", "leave"):
            may = what == "join" or member in self.members
            (self.members.add if what == "join" else self.members.discard)(member)
            return may
        if what == "remove" and (group in self.parents.values() or any(held == group for _, held in self.members)):
            return False
        up = self.parents.pop(group)
        self.parents = {name: up if parent == group else parent for name, parent in self.parents.items()}
        self.members = {(name, held) for name, held in self.members if held != group}
        return True

    def found_in(self, group: str) -> list[str]:
        return sorted({name for name, held in self.members if group in self.up_from(held)})


def plan(overlay: Overlay, change: Change) -> bool:
    """Plan the change as the writer does; gives whether it was taken."""
    what, name, parent, node = change
    savepoint = overlay.begin(EMBEDDING_PROGRAM)
    try:
        if what == "create":
            group_plans.create(overlay, GroupAttrs(name=name, parent=parent))
            return True
        group = overlay.group_named(name)
        if group is None:
            raise UnknownGroup(name)
        match what:
            case "move":
                group_plans.update(overlay, group.id, GroupPatch(parent=parent))
            case "join":
                group_plans.join(overlay, node.id, group.id)
            case "leave":
                group_plans.leave(overlay, node.id, group.id)
            case _:
                group_plans.remove(overlay, group.id, what == "force")
    except ThunderlineError:
        overlay.roll_back(savepoint)
        return False
    return True


async def loaded(store: MemoryStore) -> Roster:
    roster = Roster()
    roster.load(await store.scan_nodes(after=None, limit=100))
    for group in await store.scan_groups(after=None, limit=100):
        roster.put_group(group)
    return roster


@given(st.lists(st.lists(CHANGES, min_size=1, max_size=8), max_size=8))
async def test_any_changes_in_any_batches_leave_a_tree_that_filters_walk(batches: list[list[Change]]) -> None:
    model, roster, store, ids = Model(), Roster(), MemoryStore(), numbered_ids()
    roster.load(NODES)
    await store.open()
    await store.commit(WriteBatch(batch_id=batch_id(1), base=Revision(0), nodes=NODES))
    for number, changes in enumerate(batches, start=2):
        overlay = Overlay(roster, now=START, now_ms=START_MS, source="test", ids=ids)
        for change in changes:
            assert plan(overlay, change) is model.take(change)
        await store.commit(overlay.batch(batch_id(number)))
        overlay.apply()
        for found in (roster, await loaded(store)):
            assert {group.name: group.parent for group in found.groups.select(GroupFilter())[0]} == model.parents
            for name in model.parents:
                assert [entry.node.name for entry in found.select(NodeFilter(group=name))[0]] == model.found_in(name)
                assert found.groups.inside(name) == {low for low, high in model.parents.items() if high == name}
                assert len(found.members_of(name)) == sum(held == name for _, held in model.members)
