"""The packed form of heartbeats."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from thunderline.block.beats import PackedBeat, node_key, pack_block, to_heartbeat, unpack_block
from thunderline.core.clock import to_ms
from thunderline.core.ids import NodeId
from thunderline.core.records import BeatStatus
from thunderline.testing.records import make_beat, node_id

FIGURES = st.none() | st.floats(0, 1e15)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
BEATS = st.builds(
    PackedBeat,
    node_key=st.binary(min_size=16, max_size=16),
    at_ms=st.integers(0, 253_402_300_799_999),
    incarnation=st.integers(0, 2**63 - 1),
    seq=st.none() | st.integers(0, 2**63 - 1),
    status=st.sampled_from(BeatStatus),
    cpu_load=FIGURES,
    mem_used_mb=FIGURES,
    latency_ms=FIGURES,
    peers=st.none() | st.dictionaries(st.text(max_size=8), FIGURES, max_size=4),
    meta=st.none() | st.dictionaries(st.text(max_size=5), JSON, max_size=3),
)


@given(st.lists(BEATS, max_size=4))
def test_block_gives_back_its_beats_in_order(beats: list[PackedBeat]) -> None:
    assert unpack_block(pack_block(beats)) == beats


@given(st.uuids())
def test_node_key_is_the_ids_sixteen_bytes(uuid: Any) -> None:
    key = node_key(NodeId(str(uuid)))
    assert key == uuid.bytes
    assert to_heartbeat(make_beat(NodeId(str(uuid)))).node_id == str(uuid)


@given(BEATS)
def test_heartbeat_says_what_its_beat_does(beat: PackedBeat) -> None:
    heartbeat = to_heartbeat(beat, node_id=node_id(1))
    assert heartbeat.node_id == node_id(1)
    assert to_ms(heartbeat.at) == beat.at_ms
    assert (heartbeat.peers, heartbeat.meta) == (beat.peers or {}, beat.meta or {})
    for field in ("incarnation", "seq", "status", "cpu_load", "mem_used_mb", "latency_ms"):
        assert getattr(heartbeat, field) == getattr(beat, field)


def test_block_of_an_older_version_reads_with_what_it_has() -> None:
    # Fields are added at the end only: a beat without the last two is what an earlier version may have written.
    beat = make_beat(node_id(1), seq=7, cpu_load=1.5)
    fields = list(msgspec.to_builtins(beat, builtin_types=(bytes,)))
    assert unpack_block(msgspec.msgpack.encode([fields[:8]])) == [beat]


def test_block_of_a_later_version_reads_without_what_is_unknown() -> None:
    beat = make_beat(node_id(1), seq=7, peers={"node-2": 1.5})
    fields = list(msgspec.to_builtins(beat, builtin_types=(bytes,)))
    assert unpack_block(msgspec.msgpack.encode([[*fields, "new", 1]])) == [beat]
