"""Fleets as they are drawn: whole, consistent, the same for the same seed."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from thunderline.core.inputs import NodeAttrs, read_mapping
from thunderline.testing.fleet import FleetPlan, PlannedNode, draw_plan
from thunderline.testing.fleet.figures import cpu_load, latency_ms, mem_used_mb


def attrs_of(node: PlannedNode) -> dict[str, object]:
    kept = ("name", "role", "domain", "address", "labels", "meta")
    return {**{field: getattr(node, field) for field in kept}, "capabilities": {key: {} for key in node.capabilities}}


@pytest.mark.parametrize("count", [1, 2, 3, 7, 30, 99, 180, 1_003])
def test_a_fleet_has_the_nodes_asked_for_and_each_is_one_that_a_registry_takes(count: int) -> None:
    plan = draw_plan(count, domains=1 + count % 8, seed=count)
    assert len({node.name for node in plan.nodes}) == len(plan.nodes) == count
    known: set[str] = set()
    for node in plan.nodes:
        read_mapping(attrs_of(node), NodeAttrs)
        assert {link.remote for link in node.links} <= known
        known.add(node.name)


def test_every_node_is_in_a_group_and_every_group_behind_the_one_that_it_is_in() -> None:
    plan = draw_plan(400)
    known: set[str | None] = {None}
    for group in plan.groups:
        assert group.parent in known
        known.add(group.name)
    assert {node.group for node in plan.nodes} <= known
    assert Counter(group.group_type for group in plan.groups)["zone"] == 6


def test_the_same_seed_draws_the_same_and_another_one_does_not() -> None:
    def drawn(seed: int) -> FleetPlan:
        return draw_plan(120, seed=seed)

    assert msgspec.json.encode(drawn(4)) == msgspec.json.encode(drawn(4))
    assert msgspec.json.encode(drawn(4)) != msgspec.json.encode(drawn(5))


def test_a_name_says_role_and_domain_so_that_no_two_seeds_contradict_each_other() -> None:
    seen: dict[str, tuple[str, str]] = {}
    for seed in range(8):
        for node in draw_plan(150, domains=1 + seed, seed=seed).nodes:
            assert seen.setdefault(node.name, (node.role, node.domain)) == (node.role, node.domain)


@pytest.mark.parametrize(("nodes", "domains"), [(0, 1), (20_001, 1), (10, 0), (10, 9)])
def test_what_no_fleet_can_be_is_refused(nodes: int, domains: int) -> None:
    with pytest.raises(ValueError, match="a fleet has"):
        draw_plan(nodes, domains=domains)


def test_figures_are_a_machines_and_a_rack_goes_up_and_down_together() -> None:
    plan = draw_plan(400, seed=2)
    day = [1_767_225_600 + 600 * step for step in range(144)]
    for node in plan.nodes[::40]:
        loads = [cpu_load(node, at) for at in day]
        assert all(0 < load < 100 for load in loads)
        assert max(loads) - min(loads) > 0.2 * (sum(loads) / len(loads))
        assert all(0 < mem_used_mb(node, at, 50) < node.mem_mb for at in day)
        assert latency_ms(node, day[0], is_slow=True) > 10 * latency_ms(node, day[0])
        assert cpu_load(node, day[0], is_slow=True) > 90

    def together(one: PlannedNode, other: PlannedNode) -> float:
        pairs = [(cpu_load(one, at) / one.cpu_load - 1, cpu_load(other, at) / other.cpu_load - 1) for at in day[::6]]
        return sum(a * b for a, b in pairs)

    cool = [node for node in plan.nodes if node.role == "worker" and not node.is_hot]
    rack = [node for node in cool if node.group == cool[0].group]
    others = [node for node in cool if node.region != cool[0].region]
    assert sum(together(rack[0], one) for one in rack[1:6]) > sum(together(rack[0], one) for one in others[:5])
