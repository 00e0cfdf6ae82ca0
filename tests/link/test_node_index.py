"""The index of nodes against plain sets: names kept in order, and groups that move while nodes are in them."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from thunderline.core.errors import UnknownGroup
from thunderline.core.records import Node, NodeGroup, NodeStatus
from thunderline.link import ordered
from thunderline.link.node_index import NodeFilter
from thunderline.link.ordered import Names
from thunderline.link.roster import Roster
from thunderline.testing.records import make_group, make_node

NAMES = st.text("ab-", max_size=3)


@pytest.mark.parametrize("many", [0, 3, 16])
def test_names_stay_in_order(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordered, "MANY", many)

    @given(st.lists(st.tuples(st.sampled_from(["add", "discard", "read"]), NAMES), max_size=40), NAMES, NAMES)
    def play(steps: list[tuple[str, str]], after: str, prefix: str) -> None:
        names, model = Names(["b"]), {"b"}
        for step, name in steps:
            if step == "read":
                assert list(names.in_order()) == sorted(model)
            else:
                getattr(names, step)(name)
                getattr(model, step)(name)
        assert len(names) == len(model)
        assert list(names.walk()) == sorted(model)
        assert list(names.walk(after=after)) == sorted(name for name in model if name > after)
        assert list(names.walk(after=after, prefix=prefix)) == sorted(
            name for name in model if name > after and name.startswith(prefix)
        )

    play()


def test_a_long_walk_gives_every_name_once() -> None:
    names = Names(f"{number:04}" for number in range(3000))
    assert list(names.walk(after="0007")) == [f"{number:04}" for number in range(8, 3000)]
    assert list(names.walk(prefix="1")) == [f"{number:04}" for number in range(1000, 2000)]


class Grouped(RuleBasedStateMachine):
    """Groups are made, moved and dropped, in any order with the nodes in them, as the parts of a commit may be."""

    GROUPS = st.integers(0, 5)

    def __init__(self) -> None:
        super().__init__()
        self.roster = Roster()
        self.groups: dict[int, NodeGroup] = {}
        self.nodes: dict[int, Node] = {}

    @rule(number=GROUPS, parent=st.none() | GROUPS)
    def put_group(self, number: int, parent: int | None) -> None:
        above, each = [], parent
        while each is not None:
            above.append(each)
            known = self.groups.get(each)
            each = None if known is None or known.parent is None else int(known.parent.removeprefix("g"))
        if number in above:
            return  # a plan refuses it: a circle
        group = make_group(number, name=f"g{number}", parent=None if parent is None else f"g{parent}")
        self.groups[number] = group
        self.roster.put_group(group)

    @rule(number=GROUPS)
    def remove_group(self, number: int) -> None:
        if (group := self.groups.pop(number, None)) is not None:
            self.roster.remove_group(group.id)

    @rule(number=st.integers(1, 4), inside=st.sets(GROUPS, max_size=3), status=st.sampled_from(NodeStatus))
    def put_node(self, number: int, inside: set[int], status: NodeStatus) -> None:
        node = make_node(number, groups=tuple(f"g{each}" for each in sorted(inside)), status=status)
        self.nodes[number] = node
        self.roster.put_node(node)

    @rule(number=st.integers(1, 4))
    def remove_node(self, number: int) -> None:
        if (node := self.nodes.pop(number, None)) is not None:
            self.roster.remove_node(node.id)

    @invariant()
    def lists_are_right(self) -> None:
        for number in range(6):
            name = f"g{number}"
            wanted = NodeFilter(group=name)
            if number not in self.groups:
                with pytest.raises(UnknownGroup):
                    self.roster.select(wanted)
                continue
            below = self.roster.groups_below(name)
            expected = {node.name for node in self.nodes.values() if wanted.holds(node, groups=below)}
            found = [entry.node.name for entry in self.roster.select(wanted)[0]]
            assert found == sorted(expected)
            assert {entry.node.name for entry in self.roster.matching(wanted)} == expected
            assert self.roster.at_most(wanted) == len(expected)
            assert self.roster.members_of(name) == {n.name for n in self.nodes.values() if name in n.groups}


def test_groups_and_their_members_come_and_go_in_any_order() -> None:
    run_state_machine_as_test(Grouped, settings=settings(max_examples=150, stateful_step_count=25, deadline=None))


def test_counts_leave_out_what_nobody_is() -> None:
    roster = Roster()
    nodes = [make_node(number, role="a" if number < 3 else "b") for number in range(1, 6)]
    roster.load(nodes)
    assert roster.counts("role") == {"a": 2, "b": 3}
    for node in nodes[2:]:
        roster.put_node(msgspec.structs.replace(node, role="c"))
    assert roster.counts("role") == {"a": 2, "c": 3}
