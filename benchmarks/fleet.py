"""A store with a large fleet in it, written directly through the store contract: nodes, sessions, groups, beats.

Every fleet has the same make-up whatever its size: the same share of each status, role and domain, and 100 nodes in
each rack. So what a query returns can be held equal between a large store and a small one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from benchmarks.stores import store_at
from thunderline.block.beats import PackedBeat, node_key
from thunderline.block.store import PresenceRow, Store, WriteBatch
from thunderline.core.clock import Clock, from_ms
from thunderline.core.ids import BatchId, NodeId, Revision, new_uuid7
from thunderline.core.records import (
    BeatStatus,
    Capability,
    ClusterType,
    GroupType,
    LinkSession,
    Node,
    NodeGroup,
    NodeStatus,
    Record,
)
from thunderline.flow.taxonomy import GROUP_CREATED, LINK_ESTABLISHED, NODE_REGISTERED
from thunderline.link.presence import WINDOW
from thunderline.testing.records import make_event, make_group, make_node, make_session, node_id

CONTROLLER: Final = "registry@bench"
RACK: Final = 100
"""Nodes in one rack, which is a group and a label."""

ZONES: Final = 20
INTERVAL_MS: Final = 3_600_000
"""Nobody beats while reads are measured; a long interval keeps detection from convicting everybody meanwhile."""

BEAT_MS: Final = 10_000
MINUTE_MS: Final = 60_000
BEATS_A_MINUTE: Final = MINUTE_MS // BEAT_MS
BATCH: Final = 2_000
FOREVER_MS: Final = 2**52


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much a store holds. `sessions` counts one of each node with the registry, the rest are between nodes."""

    nodes: int
    sessions: int
    beats: int
    hours: float

    def tenth(self) -> Sizes:
        """A fleet a tenth of the size, with as many sessions and beats for each node."""
        return Sizes(nodes=self.nodes // 10, sessions=self.sessions // 10, beats=self.beats // 10, hours=self.hours)


async def fill(url: str, sizes: Sizes, *, clock: Clock, told: Callable[[str], None]) -> None:
    """Write such a fleet to the empty database at `url`.

    All beats are compacted but those of the newest minute, which are stamped as if they had just arrived: what a
    server leaves that is killed now.
    """
    async with store_at(url, clock=clock) as store:
        records = [*_groups(sizes), *_nodes(sizes), *_sessions(sizes)]
        for start in range(0, len(records), BATCH):
            await store.commit(_with_events(records[start : start + BATCH], base=start))
        told(f"{len(records):,} records")
        await _fill_beats(store, sizes, clock=clock, base=len(records), told=told)


async def compact_all(url: str, sizes: Sizes, *, clock: Clock) -> int:
    """Bring the newest minute of a filled store to the others; gives how many beats that were."""
    store = store_at(url, clock=clock)
    head = await store.open()
    try:
        newest = 0
        while blocks := await store.scan_blocks(after=newest, limit=64):
            newest = blocks[-1].id
        rows = [_presence(i, _seq_end(sizes), clock.now_ms()) for i in range(sizes.nodes)]
        await _checkpoint(store, rows, base=head.revision, block=newest)
        return await _compact(store)
    finally:
        await store.close()


def _groups(sizes: Sizes) -> Iterator[NodeGroup]:
    yield make_group(0, name="region-0", group_type=GroupType.REGION)
    for zone in range(ZONES):
        yield make_group(1 + zone, name=f"zone-{zone}", group_type=GroupType.ZONE, parent="region-0")
    for rack in range(-(-sizes.nodes // RACK)):
        yield make_group(1 + ZONES + rack, name=f"rack-{rack}", parent=f"zone-{rack % ZONES}")


def _nodes(sizes: Sizes) -> Iterator[Node]:
    statuses = [
        *[NodeStatus.ONLINE] * 90,
        *[NodeStatus.DEGRADED] * 4,
        *[NodeStatus.DISCONNECTED] * 3,
        *[NodeStatus.OFFLINE] * 2,
        NodeStatus.CONNECTING,
    ]
    roles = [*["worker"] * 80, *["edge"] * 15, *["gateway"] * 4, "relay"]
    rng = random.Random(sizes.nodes)
    for i in range(sizes.nodes):
        status = NodeStatus.ONLINE if i == 0 else rng.choice(statuses)
        rack = i // RACK
        yield make_node(
            i,
            name=CONTROLLER if i == 0 else f"node-{i:07}@prod",
            role="controller" if i == 0 else rng.choice(roles),
            domain=f"domain-{rng.randrange(20)}",
            cluster_type=ClusterType.OUT_OF_CLUSTER if rng.random() < 0.1 else ClusterType.IN_CLUSTER,
            status=status,
            observed_status=status,
            address=f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}:7000",
            labels={"rack": f"r{rack}", "tier": f"t{rng.randrange(3)}"},
            capabilities={"gpu": Capability(value=rng.choice(("a100", "h100")))} if rng.random() < 0.1 else {},
            groups=(f"rack-{rack}",),
            meta={"version": f"1.{i % 5}.0", "serial": f"SN{i:09}"},
            heartbeat_interval_ms=INTERVAL_MS,
            updated_at=from_ms(1_750_000_000_000 + rng.randrange(10**9)),
            revision=Revision(1),
        )


def _sessions(sizes: Sizes) -> Iterator[LinkSession]:
    for i in range(sizes.sessions):
        node = i % sizes.nodes
        far = None if i < sizes.nodes else node_id((node * 7 + 1 + i // sizes.nodes) % sizes.nodes)
        yield make_session(i, node_id(node), remote_node_id=far, controller=CONTROLLER if far is None else None)


def _with_events(records: list[Record], *, base: int) -> WriteBatch:
    events = []
    for revision, record in enumerate(records, start=base + 1):
        name = _CREATED[type(record)]
        events.append(make_event(revision, record, name=name))
    return WriteBatch(
        batch_id=BatchId(new_uuid7()),
        base=Revision(base),
        events=events,
        groups=[record for record in records if isinstance(record, NodeGroup)],
        nodes=[record for record in records if isinstance(record, Node)],
        sessions=[record for record in records if isinstance(record, LinkSession)],
    )


_CREATED: Final[dict[type[Record], str]] = {
    NodeGroup: GROUP_CREATED,
    Node: NODE_REGISTERED,
    LinkSession: LINK_ESTABLISHED,
}


def _seq_end(sizes: Sizes) -> int:
    return sizes.beats // sizes.nodes


async def _fill_beats(store: Store, sizes: Sizes, *, clock: Clock, base: int, told: Callable[[str], None]) -> None:
    """Whole minutes in which every node beats every 10 s, spread over the hours; the newest last, and not compacted."""
    seq_end = _seq_end(sizes)
    rounds = -(-seq_end // BEATS_A_MINUTE)
    window_ms = round(sizes.hours * 60) * MINUTE_MS
    between_ms = window_ms // max(1, rounds - 1) // MINUTE_MS * MINUTE_MS
    first_ms = (clock.now_ms() - window_ms) // MINUTE_MS * MINUTE_MS
    keys = [node_key(node_id(i)) for i in range(sizes.nodes)]
    seq = 0
    for number in range(rounds):
        newest = number == rounds - 1
        minute_ms = clock.now_ms() - MINUTE_MS if newest else first_ms + number * between_ms
        # The first minute takes what does not fill one.
        beats = BEATS_A_MINUTE if number else seq_end - (rounds - 1) * BEATS_A_MINUTE
        block = await _fill_minute(store, keys, minute_ms, seqs=range(seq, seq + beats), base=base)
        seq += beats
        if newest:
            break
        # Presences are written once, with the last of these: nobody reads the store before.
        rows = [_presence(i, seq, minute_ms) for i in range(sizes.nodes)] if number == rounds - 2 else []
        await _checkpoint(store, rows, base=base, block=block)
        await _compact(store)
        told(f"{seq * sizes.nodes:,} of {seq_end * sizes.nodes:,} beats")


async def _fill_minute(store: Store, keys: list[bytes], minute_ms: int, *, seqs: range, base: int) -> int:
    rng = random.Random(minute_ms)
    newest = 0
    for seq in seqs:
        at_ms = minute_ms + (seq - seqs.start) * BEAT_MS
        for start in range(0, len(keys), BATCH):
            beats = [
                PackedBeat(
                    *(key, at_ms + i * BEAT_MS // len(keys), 1, seq, BeatStatus.ONLINE),
                    *(round(rng.random() * 100, 1), float(rng.randrange(64_000)), round(rng.random() * 5, 2)),
                )
                for i, key in enumerate(keys[start : start + BATCH], start=start)
            ]
            written = await store.commit(WriteBatch(batch_id=BatchId(new_uuid7()), base=Revision(base), beats=beats))
            newest = written or newest
    return newest


async def _checkpoint(store: Store, rows: list[PresenceRow], *, base: int, block: int) -> None:
    for start in range(0, len(rows), BATCH):
        presence = rows[start : start + BATCH]
        await store.commit(WriteBatch(batch_id=BatchId(new_uuid7()), base=Revision(base), presence=presence))
    await store.commit(WriteBatch(batch_id=BatchId(new_uuid7()), base=Revision(base), presence_block=block))


async def _compact(store: Store) -> int:
    beats = 0
    while (step := await store.compact_beats(closed_ms=FOREVER_MS, settled_block=0)).more:
        beats += step.beats
    return beats


def _presence(number: int, seq_end: int, at_ms: int) -> PresenceRow:
    of: NodeId = node_id(number)
    beat = PackedBeat(node_key(of), at_ms, 1, seq_end - 1, BeatStatus.ONLINE, 50.0, 2048.0, 1.0)
    bits = min(seq_end, WINDOW)
    mask = ((1 << bits) - 1).to_bytes(-(-bits // 8), "little")
    return PresenceRow(of, 1, at_ms, seq_end - 1, mask, beat)
