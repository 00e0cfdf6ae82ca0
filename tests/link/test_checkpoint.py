"""Presence checkpoints: whenever the process ends, the next one knows each node's latest beat and what it took."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thunderline.block.beats import PackedBeat
from thunderline.block.memory import MemoryStore
from thunderline.block.store import Store, WriteBatch
from thunderline.core.ids import NodeId, Revision
from thunderline.link import checkpoint as checkpoint_module
from thunderline.link.checkpoint import ROUND_S, SLICE, PresenceCheckpoint
from thunderline.link.presence import Taken
from thunderline.link.roster import Roster
from thunderline.testing.clock import START_MS, ManualClock
from thunderline.testing.records import batch_id, make_beat, make_node, node_id


class Process:
    """One process over a store: its roster, its checkpoint, and commits as the writer makes them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.clock = ManualClock()
        self.roster = Roster()
        self.checkpoint = PresenceCheckpoint(self.roster, clock=self.clock)
        self.replayed = 0
        self.rows = 0
        self._batches = 0

    async def start(self) -> Process:
        self.roster.load(await self.store.scan_nodes(after=None, limit=10_000))
        self.replayed = await self.checkpoint.restore(self.store)
        return self

    async def commit(self, beats: Iterable[PackedBeat], *, fate: str = "committed") -> WriteBatch:
        """Write a batch as the pipeline does; its fate is what the store makes of it."""
        self._batches += 1
        rows = self.checkpoint.take_rows()
        batch = WriteBatch(
            batch_id=batch_id(self._batches),
            base=Revision(0),
            beats=list(beats),
            presence=rows,
            presence_block=self.checkpoint.finished_block(),
        )
        if fate == "refused":
            self.checkpoint.put_back()
            return batch
        block_id = await self.store.commit(batch)
        self.rows += len(rows)
        for beat in batch.beats:
            entry = self.roster.by_key(beat.node_key)
            assert entry is not None
            entry.keep(beat)
        # After a lost connection it is known that the batch is there, but not the id of its block.
        self.checkpoint.beats_committed(batch.beats, None if fate == "found" else block_id)
        return batch

    async def remove(self, node: NodeId) -> None:
        self._batches += 1
        await self.store.commit(WriteBatch(batch_id=batch_id(self._batches), base=Revision(0), removed_nodes=[node]))
        self.roster.remove_node(node)


async def a_store_with(nodes: int) -> MemoryStore:
    store = MemoryStore()
    await store.open()
    await store.commit(
        WriteBatch(batch_id=batch_id(0), base=Revision(0), nodes=[make_node(n) for n in range(1, nodes + 1)])
    )
    return store


async def check_restart(process: Process) -> Process:
    """Hold a process that starts now to what this one knows."""
    restarted = await Process(process.store).start()
    assert len(restarted.roster) == len(process.roster)
    for entry in process.roster:
        other = restarted.roster.get(entry.node.id)
        assert other is not None
        assert other.last_beat == entry.last_beat
        assert other.last_seen_ms == entry.last_seen_ms
        assert (other.window.high, other.window.mask()) == (entry.window.high, entry.window.mask())
    return restarted


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_module, "SLICE", 2)


STEPS = st.lists(
    st.tuples(
        st.lists(st.integers(1, 6), max_size=4),
        st.sampled_from(["committed", "committed", "committed", "refused", "found"]),
        st.sampled_from([0.0, 0.0, 1.0, ROUND_S]),
    ),
    max_size=25,
)


@given(STEPS, st.integers(0, 25))
@example([([1, 2, 3, 4, 5], "committed", ROUND_S), ([6], "refused", 0.0), ([6], "committed", 0.0)], 2)
def test_process_may_end_after_any_commit(steps: list[tuple[list[int], str, float]], restart_at: int) -> None:
    async def play() -> None:
        process = await Process(await a_store_with(6)).start()
        seq = 0
        for number, (nodes, fate, pause_s) in enumerate(steps):
            if number == restart_at:
                process = await check_restart(process)
            beats = [make_beat(node_id(node), START_MS + number, seq=(seq := seq + 1)) for node in nodes]
            await process.commit(beats, fate=fate)
            await check_restart(process)
            await process.clock.advance(pause_s)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint_module, "SLICE", 2)
        asyncio.run(play())


async def test_between_rounds_no_rows_are_written() -> None:
    process = await Process(await a_store_with(3)).start()
    for second in range(29):
        batch = await process.commit([make_beat(node_id(1), seq=second)])
        assert (batch.presence, batch.presence_block) == ([], None)
        await process.clock.advance(1)
    await process.clock.advance(1)
    batch = await process.commit([])
    assert [row.node_id for row in batch.presence] == [node_id(1)]
    assert batch.presence_block == 29
    batch = await process.commit([make_beat(node_id(1), seq=99)])
    assert (batch.presence, batch.presence_block) == ([], None)


async def test_round_writes_each_changed_presence_once_and_its_block_last() -> None:
    nodes = SLICE * 2 + 10
    process = await Process(await a_store_with(nodes)).start()
    await process.commit([make_beat(node_id(number), seq=1) for number in range(1, nodes + 1)])
    await process.clock.advance(ROUND_S)
    batches = [await process.commit([]) for _ in range(4)]
    assert [len(batch.presence) for batch in batches] == [SLICE, SLICE, 10, 0]
    assert [batch.presence_block for batch in batches] == [None, None, 1, None]
    assert len({row.node_id for batch in batches for row in batch.presence}) == nodes
    assert (await check_restart(process)).replayed == 0


@pytest.mark.usefixtures("small_slices")
async def test_beat_in_the_middle_of_a_round_is_replayed() -> None:
    process = await Process(await a_store_with(4)).start()
    await process.commit([make_beat(node_id(number), seq=1) for number in range(1, 5)])
    await process.clock.advance(ROUND_S)
    await process.commit([make_beat(node_id(4), START_MS + 1, seq=2)])
    await process.commit([make_beat(node_id(1), START_MS + 2, seq=2)])
    restarted = await check_restart(process)
    assert restarted.replayed == 2
    assert await process.store.presence_block() == 1


@pytest.mark.usefixtures("small_slices")
async def test_refused_slice_goes_out_again_before_the_round_ends() -> None:
    process = await Process(await a_store_with(4)).start()
    await process.commit([make_beat(node_id(number), seq=1) for number in range(1, 5)])
    await process.clock.advance(ROUND_S)
    refused = await process.commit([], fate="refused")
    taken = [await process.commit([]) for _ in range(2)]
    assert {row.node_id for batch in taken for row in batch.presence} == {node_id(number) for number in range(1, 5)}
    assert {row.node_id for row in refused.presence} <= {row.node_id for batch in taken for row in batch.presence}
    assert [batch.presence_block for batch in taken] == [None, 1]
    await check_restart(process)


@pytest.mark.usefixtures("small_slices")
async def test_refused_last_slice_does_not_end_the_round() -> None:
    process = await Process(await a_store_with(1)).start()
    await process.commit([make_beat(node_id(1), seq=1)])
    await process.clock.advance(ROUND_S)
    refused = await process.commit([], fate="refused")
    assert refused.presence_block == 1
    assert await process.store.presence_block() == 0
    again = await process.commit([])
    assert (len(again.presence), again.presence_block) == (1, 1)


async def test_node_removed_in_the_middle_of_a_round_is_left_out() -> None:
    process = await Process(await a_store_with(3)).start()
    await process.commit([make_beat(node_id(number), seq=1) for number in (1, 2, 3)])
    await process.remove(node_id(2))
    await process.clock.advance(ROUND_S)
    batch = await process.commit([])
    assert {row.node_id for row in batch.presence} == {node_id(1), node_id(3)}
    restarted = await check_restart(process)
    assert restarted.roster.get(node_id(2)) is None


async def test_restart_recognises_every_beat_that_was_taken() -> None:
    process = await Process(await a_store_with(1)).start()
    for seq in (3, 1, 7, 5):
        await process.commit([make_beat(node_id(1), seq=seq)])
        await process.clock.advance(ROUND_S / 2)
    restarted = await check_restart(process)
    entry = restarted.roster.get(node_id(1))
    assert entry is not None
    assert [seq for seq in range(9) if entry.look(1, seq) is Taken.REPEATED] == [1, 3, 5, 7]


async def test_start_replays_only_what_is_after_the_checkpoint() -> None:
    process = await Process(await a_store_with(1)).start()
    for seq in range(100):
        await process.commit([make_beat(node_id(1), START_MS + seq, seq=seq)])
        await process.clock.advance(10)
    restarted = await check_restart(process)
    assert restarted.replayed <= 5
    assert process.rows <= 100 * 10 / ROUND_S + 1


async def test_replayed_presences_are_in_the_next_round() -> None:
    process = await Process(await a_store_with(2)).start()
    await process.commit([make_beat(node_id(1), seq=1)])
    restarted = await check_restart(process)
    assert restarted.replayed == 1
    await restarted.clock.advance(ROUND_S)
    batch = await restarted.commit([make_beat(node_id(2), seq=1)])
    assert [row.node_id for row in batch.presence] == [node_id(1)]
    assert batch.presence_block == 1
    await check_restart(restarted)
