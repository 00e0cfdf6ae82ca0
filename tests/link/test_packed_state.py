"""A packed state is the same unpacked, whatever is in it and however many parts it takes."""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderline.block.store import EntityChange
from thunderline.core.clock import from_ms
from thunderline.core.records import ClusterType, NodeStatus, PersistentPayload, SessionStatus, SessionType
from thunderline.link import packed_state
from thunderline.link.group_tree import GroupFilter
from thunderline.link.node_index import NodeFilter
from thunderline.link.packed_state import pack, unpack
from thunderline.link.past import PastState
from thunderline.testing.records import make_group, make_node, make_session, node_id

FEW = st.sampled_from(["alpha", "beta", ""])
FIGURES = st.one_of(st.none(), st.floats(0, 1e12))
METAS = st.dictionaries(FEW, st.one_of(FEW, st.integers(0, 2), st.booleans(), st.none(), st.lists(FEW, max_size=2)))
NODES = st.fixed_dictionaries(
    {
        "role": FEW,
        "domain": FEW,
        "status": st.sampled_from(NodeStatus),
        "cluster_type": st.sampled_from(ClusterType),
        "meta": METAS,
        "groups": st.lists(st.sampled_from(["group-0", "group-1"]), unique=True).map(tuple),
    }
)
SESSIONS = st.fixed_dictionaries(
    {
        # Nodes 6 and 7 are none of the state's.
        "node": st.integers(0, 7),
        "remote_node_id": st.one_of(st.none(), st.integers(0, 7).map(node_id)),
        "controller": st.one_of(st.none(), FEW, st.just("node-1")),
        "session_type": st.sampled_from(SessionType),
        "connection_type": FEW,
        "status": st.sampled_from(SessionStatus),
        "weight": st.floats(0, 1e6),
        "latency_ms": FIGURES,
        "bandwidth_mbps": FIGURES,
        "established_at": st.one_of(st.none(), st.integers(0, 2**41).map(from_ms)),
    }
)


def state_of(nodes: list[dict[str, Any]], sessions: list[dict[str, Any]], groups: int) -> PastState:
    records: list[PersistentPayload] = [make_group(number) for number in range(groups)]
    records += [make_node(number, **fields) for number, fields in enumerate(nodes)]
    for number, fields in enumerate(sessions):
        records.append(make_session(number, node_id(fields.pop("node")), **fields))
    state = PastState.empty()
    state.apply(EntityChange(entity_id=record.id, payload=record, deleted=False) for record in records)
    return state


@given(
    nodes=st.lists(NODES, max_size=6),
    sessions=st.lists(SESSIONS, max_size=8),
    groups=st.integers(0, 3),
    part=st.integers(1, 9),
)
def test_a_packed_state_is_the_same_unpacked(
    nodes: list[dict[str, Any]], sessions: list[dict[str, Any]], groups: int, part: int
) -> None:
    state = state_of(nodes, sessions, groups)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_state, "PART", part)
        unpacked = unpack(pack(state))
    assert unpacked is not None
    assert (unpacked.nodes, unpacked.links) == (state.nodes, state.links)
    assert unpacked.controllers == state.controllers
    assert unpacked.groups.select(GroupFilter()) == state.groups.select(GroupFilter())
    assert unpacked.scene(NodeFilter()).links() == state.scene(NodeFilter()).links()


def test_a_state_of_which_parts_are_missing_is_not_taken_for_a_whole_one() -> None:
    nodes = [{"meta": {"number": number}} for number in range(3)]
    sessions = [{"node": 0, "remote_node_id": node_id(1)}, {"node": 1, "remote_node_id": node_id(2)}]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_state, "PART", 1)
        parts = pack(state_of(nodes, sessions, 1))
    assert len(parts) == 6
    assert unpack(parts) is not None
    assert all(unpack(parts[:length]) is None for length in range(len(parts)))


def test_metas_keep_the_order_of_their_keys_and_weights_their_sign() -> None:
    nodes = [{"meta": {"a": 1, "b": 2}}, {"meta": {"b": 2, "a": 1}}]
    sessions = [{"node": 0, "remote_node_id": node_id(1), "weight": weight} for weight in (0.0, -0.0)]
    state = state_of(nodes, sessions, 0)
    unpacked = unpack(pack(state))
    assert unpacked is not None
    assert msgspec.json.encode(unpacked.nodes) == msgspec.json.encode(state.nodes)
    assert msgspec.json.encode(unpacked.links) == msgspec.json.encode(state.links)


def test_a_state_of_another_version_is_not_taken_for_one_of_this() -> None:
    parts = pack(state_of([], [], 0))
    another = zlib.compress(msgspec.msgpack.encode([2, [], [], []]))
    assert unpack(parts) is not None
    assert unpack([another, *parts]) is None
