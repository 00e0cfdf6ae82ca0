"""Heartbeats in bulk: the packed form of a beat and of a block, the unit in which history is appended.

A block is one MessagePack array of the beats of one commit, in the order in which they were taken. It does not tell
what a beat means: `link` decides that, this module only keeps it.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

import msgspec

from thunderline.core.clock import from_ms
from thunderline.core.ids import NodeId
from thunderline.core.records import BeatStatus, Heartbeat, JsonObject


class PackedBeat(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One beat as a block holds it. `node_key` is the node id's 16 bytes; fields may be added at the end only."""

    node_key: bytes
    at_ms: int
    incarnation: int
    seq: int | None
    status: BeatStatus
    cpu_load: float | None
    mem_used_mb: float | None
    latency_ms: float | None
    peers: dict[str, float | None] | None = None
    meta: JsonObject | None = None
    late_ms: int = 0
    """How long after it was taken the beat arrived; more than 0: it came with a backlog, for history only."""


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(list[PackedBeat])


def node_key(node_id: NodeId) -> bytes:
    """The 16 bytes of `node_id`."""
    return bytes.fromhex(node_id.replace("-", ""))


def pack_block(beats: list[PackedBeat]) -> bytes:
    """`beats` as one block."""
    return _ENCODER.encode(beats)


def unpack_block(block: bytes) -> list[PackedBeat]:
    """The beats of `block`, in order."""
    return _DECODER.decode(block)


def to_heartbeat(beat: PackedBeat, *, node_id: NodeId | None = None) -> Heartbeat:
    """The public record of `beat`; who already has its node's id spares reading it from the key."""
    return Heartbeat(
        node_id=NodeId(str(UUID(bytes=beat.node_key))) if node_id is None else node_id,
        at=from_ms(beat.at_ms),
        incarnation=beat.incarnation,
        seq=beat.seq,
        status=beat.status,
        cpu_load=beat.cpu_load,
        mem_used_mb=beat.mem_used_mb,
        latency_ms=beat.latency_ms,
        peers=beat.peers or {},
        meta=beat.meta or {},
    )
