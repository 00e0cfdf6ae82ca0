"""The part of the store's contract that is about history: compaction, rollups, retention.

`HISTORY_CHECKS` are among `STORE_CHECKS`. Not checked, since it differs between engines: how much one step does, and
how long it takes.
"""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from thunderline.block.beats import PackedBeat, node_key
from thunderline.block.rollups import MINUTE_MS, Bucket, Figure, Rollup, minute_of
from thunderline.block.store import HistoryClock, Store, WriteBatch
from thunderline.core.ids import NodeId, Revision
from thunderline.core.records import BeatStatus
from thunderline.testing.clock import START_MS
from thunderline.testing.records import batch_id, make_beat, node_id

if TYPE_CHECKING:
    from thunderline.testing.store_suite import StoreCheck, StoreFactory

EVER_MS: Final = 2**52
"""Beyond the time of every beat."""

_ALL: Final = 1_000_000
_STATUSES: Final = list(BeatStatus)


class HistoryLog:
    """An open store, what was committed to it, and what of that should still be kept."""

    def __init__(self, store: Store, *, committed: Sequence[PackedBeat] = ()) -> None:
        self.store = store
        self.committed = list(committed)
        self.forgotten: list[PackedBeat] = []
        """Those that should live on in rollups only."""
        self._batches = 0

    async def write(self, *beats: PackedBeat, presence_block: int | None = None) -> int | None:
        """Commit a block of `beats`; gives its id."""
        self._batches += 1
        batch = WriteBatch(
            batch_id=batch_id(self._batches), base=Revision(0), beats=beats, presence_block=presence_block
        )
        block = await self.store.commit(batch)
        self.committed += beats
        return block

    async def compact(self, *, closed_ms: int = EVER_MS, settled_block: int = 0) -> int:
        """Compact what may be; gives how many beats went to their minutes."""
        moved = 0
        while (step := await self.store.compact_beats(closed_ms=closed_ms, settled_block=settled_block)).more:
            moved += step.beats
        return moved

    async def trim(
        self, *, raw_before_ms: int = 0, rollups_before_ms: int = 0, max_bytes: int = EVER_MS
    ) -> tuple[int, int]:
        """Trim until history is within these limits; gives how many steps that took, and the size that is left."""
        steps = 0
        while True:
            step = await self.store.trim_beats(
                raw_before_ms=raw_before_ms, rollups_before_ms=rollups_before_ms, max_bytes=max_bytes
            )
            if not step.more:
                return steps, step.size_bytes
            steps += 1

    async def check_beats(self, what: str, *, limit: int = _ALL, nodes: Sequence[NodeId | None] = (None,)) -> None:
        """Return if the beats that are kept one by one are those that should be. Raises: AssertionError."""
        for wanted_id in nodes:
            wanted = in_order(self.kept, wanted_id)[-limit:]
            found = await self.store.read_beats(node_id=wanted_id, since_ms=0, until_ms=EVER_MS, limit=limit)
            expect(found, wanted, f"beats of {wanted_id} {what}")

    async def check_rollups(
        self, what: str, *, of: NodeId, bucket_ms: int, since_ms: int = 0, until_ms: int = START_MS * 2
    ) -> None:
        """Return if the node's rollups are those of its beats, one by one. Raises: AssertionError."""
        since_ms, until_ms = since_ms // bucket_ms * bucket_ms, -(-until_ms // bucket_ms) * bucket_ms
        found = await self.store.read_rollups(node_id=of, since_ms=since_ms, until_ms=until_ms, bucket_ms=bucket_ms)
        beats = [beat for beat in in_order(self.committed, of) if since_ms <= beat.at_ms < until_ms]
        forgotten = in_order(self.forgotten, of)
        touched = {minute_of(beat.at_ms) for beat in forgotten}
        window = range(minute_of(since_ms), minute_of(until_ms - 1) + 1)
        if bucket_ms % MINUTE_MS and any(minute in window for minute in touched):
            expect(found, None, f"rollups of {of} by {bucket_ms} ms where beats were forgotten {what}")
        else:
            expect_buckets(found, naive_buckets(beats, bucket_ms), f"rollups of {of} by {bucket_ms} ms {what}")

    @property
    def kept(self) -> list[PackedBeat]:
        """The beats that should be kept one by one."""
        gone = {id(beat) for beat in self.forgotten}
        return [beat for beat in self.committed if id(beat) not in gone]


@asynccontextmanager
async def opened_history(make: StoreFactory, *, after: HistoryLog | None = None) -> AsyncIterator[HistoryLog]:
    """A log on a store of `make`, the data of which `after` wrote, if it is given."""
    store = make()
    await store.open()
    log = HistoryLog(store)
    if after is not None:
        log.committed, log.forgotten, log._batches = after.committed, after.forgotten, after._batches
    try:
        yield log
    finally:
        await store.close()


def in_order(beats: Sequence[PackedBeat], of: NodeId | None) -> list[PackedBeat]:
    """The beats of one node, or of all, in the order in which a store gives them."""
    key = None if of is None else node_key(of)
    mine = [beat for beat in beats if key in (None, beat.node_key)]
    return sorted(mine, key=lambda beat: (beat.at_ms, beat.node_key))


def naive_buckets(beats: Sequence[PackedBeat], bucket_ms: int) -> list[Bucket]:
    """`beats` of one node by buckets, each figure computed from all that there is."""
    buckets = []
    for start in sorted({beat.at_ms - beat.at_ms % bucket_ms for beat in beats}):
        inside = [beat for beat in beats if start <= beat.at_ms < start + bucket_ms]
        figures = []
        for name in ("cpu_load", "mem_used_mb", "latency_ms"):
            values = [value for beat in inside if (value := getattr(beat, name)) is not None]
            figures.append(Figure(len(values), min(values), math.fsum(values), max(values)) if values else None)
        worst = max((beat.status for beat in inside), key=["online", "degraded", "offline"].index)
        buckets.append(Bucket(start, Rollup(len(inside), worst, *figures)))
    return buckets


def expect(found: object, wanted: object, what: str) -> None:
    """Return if they are the same. Raises: AssertionError."""
    if found != wanted:
        raise AssertionError(f"{what}: found {_short(found)}, not {_short(wanted)}")


def expect_buckets(found: list[Bucket] | None, wanted: list[Bucket], what: str) -> None:
    """Return if they are the same but for the rounding of sums. Raises: AssertionError."""
    if found is None:
        raise AssertionError(f"{what}: there are none, as if some beats were forgotten")
    expect([_without_sums(bucket) for bucket in found], [_without_sums(bucket) for bucket in wanted], what)
    for one, other in zip(found, wanted, strict=True):
        for name in ("cpu_load", "mem_used_mb", "latency_ms"):
            ours, theirs = getattr(one.rollup, name), getattr(other.rollup, name)
            if ours is not None and not math.isclose(ours.total, theirs.total, rel_tol=1e-9, abs_tol=1e-300):
                raise AssertionError(f"{what}: the sum of {name} is {ours.total}, not {theirs.total}")


def _without_sums(bucket: Bucket) -> tuple[object, ...]:
    rollup = bucket.rollup
    figures = [f and (f.count, f.least, f.most) for f in (rollup.cpu_load, rollup.mem_used_mb, rollup.latency_ms)]
    return (bucket.at_ms, rollup.beats, rollup.worst, *figures)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 600 else f"{text[:400]} ... {text[-200:]}"


def random_beat(rng: random.Random, at_ms: int, **changes: Any) -> PackedBeat:
    """A beat of one of three nodes with some of the figures."""

    def figure() -> float | None:
        return rng.choice((None, 0.0, rng.uniform(0, 100), float(rng.randrange(10**15))))

    figures = {"cpu_load": figure(), "mem_used_mb": figure(), "latency_ms": figure()}
    details: dict[str, Any] = {"peers": {"a": None, "b": 0.5}, "meta": {"x": [1]}} if rng.random() < 0.1 else {}
    return make_beat(
        node_id(rng.randrange(1, 4)),
        at_ms,
        status=rng.choice(_STATUSES),
        incarnation=rng.randrange(1, 3),
        seq=rng.choice((None, rng.randrange(100))),
        late_ms=rng.choice((0, 0, 5000)),
        **{**figures, **details, **changes},
    )


_NODES: Final = tuple(node_id(number) for number in range(1, 5))


async def beats_are_read_the_same_whatever_is_compacted(make: StoreFactory) -> None:
    """Each exactly once, after every commit and every step, by node and of all; their rollups too, by any bucket."""
    rng = random.Random(5)
    async with opened_history(make) as log:
        for _ in range(25):
            now_ms = START_MS + rng.randrange(6 * MINUTE_MS)
            await log.write(*(random_beat(rng, now_ms - rng.randrange(1, 90_000)) for _ in range(rng.randrange(1, 12))))
            for _ in range(rng.randrange(4)):
                await log.store.compact_beats(closed_ms=now_ms, settled_block=rng.randrange(20))
            await log.check_beats("between steps", nodes=(None, rng.choice(_NODES)), limit=rng.choice((1, 7, _ALL)))
            for bucket_ms in (1000, MINUTE_MS, 3 * MINUTE_MS):
                await log.check_rollups("between steps", of=rng.choice(_NODES), bucket_ms=bucket_ms)
        await log.compact()
        await log.check_beats("when all is compacted", nodes=(None, *_NODES))


async def compaction_goes_on_after_a_restart(make: StoreFactory) -> None:
    """Wherever it was cut off: no beat is lost, none is there twice."""
    rng = random.Random(6)
    beats = [random_beat(rng, START_MS + rng.randrange(10 * MINUTE_MS)) for _ in range(120)]
    async with opened_history(make) as log:
        for start in range(0, len(beats), 20):
            await log.write(*beats[start : start + 20])
    more = True
    while more:
        async with opened_history(make, after=log) as log:
            step = await log.store.compact_beats(closed_ms=EVER_MS, settled_block=0)
            more = step.more
        async with opened_history(make, after=log) as log:
            await log.check_beats("after a restart", nodes=(None, node_id(1)))
            await log.check_rollups("after a restart", of=node_id(1), bucket_ms=MINUTE_MS)


async def beats_are_found_however_often_a_store_is_opened(make: StoreFactory) -> None:
    """Also where each start scans from another block on, as behind a checkpoint of presence."""
    log = HistoryLog(make())
    nodes, scanned = (node_id(1), node_id(2)), 0
    for number in range(4):
        await log.store.open()
        try:
            await log.check_beats(f"after {number} openings", nodes=nodes)
            while blocks := await log.store.scan_blocks(after=scanned, limit=1):
                scanned = blocks[-1].id
            await log.check_beats(f"after {number} openings and a scan", nodes=nodes)
            await log.write(make_beat(nodes[number % 2], START_MS + number, cpu_load=1.0))
        finally:
            await log.store.close()


async def a_pass_takes_closed_minutes_and_settled_blocks(make: StoreFactory) -> None:
    """The oldest blocks, up to the first with a beat that is not yet closed, unless its id is settled."""
    minutes = [START_MS + number * MINUTE_MS for number in range(4)]
    async with opened_history(make) as log:
        first = await log.write(make_beat(node_id(1), minutes[0]))
        second = await log.write(make_beat(node_id(1), minutes[0] + 1), make_beat(node_id(1), minutes[2]))
        await log.write(make_beat(node_id(1), minutes[0] + 2))
        assert first is not None
        assert second is not None
        expect(await log.compact(closed_ms=minutes[0], settled_block=0), 0, "beats compacted before their minute ends")
        expect(await log.compact(closed_ms=minutes[1], settled_block=0), 1, "beats before the first open block")
        expect(await log.compact(closed_ms=minutes[1], settled_block=first), 0, "beats when nothing is settled anew")
        expect(await log.compact(closed_ms=minutes[1], settled_block=second), 3, "beats once the open block is settled")
        step = await log.store.compact_beats(closed_ms=EVER_MS, settled_block=0)
        expect((step.more, step.newest_block > 0), (False, True), "a step when all is compacted")
        await log.check_beats("when all is compacted")


async def blocks_stay_until_the_presence_checkpoint_has_them(make: StoreFactory) -> None:
    """A start replays the blocks after `presence_block`: compaction takes their beats, and leaves them."""
    async with opened_history(make) as log:
        blocks = [await log.write(make_beat(node_id(1), START_MS + number)) for number in range(5)]
        await log.compact()
        kept = [block.id for block in await log.store.scan_blocks(after=0, limit=_ALL)]
        expect(kept, blocks, "blocks before any checkpoint")
        await log.write(presence_block=blocks[2])
        await log.compact()
        kept = [block.id for block in await log.store.scan_blocks(after=0, limit=_ALL)]
        expect(kept, blocks[3:], "blocks after the third was checkpointed")
        await log.check_beats("whose blocks are partly gone")
        later = await log.write(make_beat(node_id(1)))
        expect(later is not None and later > (blocks[-1] or 0), True, "whether a later block has a later id")


async def late_beats_join_their_minute(make: StoreFactory) -> None:
    """In their place by time; of one time, behind those that were committed before."""
    first, late, tie = (make_beat(node_id(1), START_MS + at, seq=seq) for at, seq in ((500, 1), (100, 2), (500, 3)))
    async with opened_history(make) as log:
        for beat in (first, late, tie):
            await log.write(beat)
            expect(await log.compact(), 1, "beats compacted")
        await log.check_beats("that came late", nodes=(None, node_id(1)))
        await log.check_rollups("of late beats", of=node_id(1), bucket_ms=MINUTE_MS)


async def beats_go_and_rollups_stay(make: StoreFactory) -> None:
    """Of minutes that ended by then; late beats of such a minute go to its rollup only, those of other nodes stay."""
    rng = random.Random(7)
    async with opened_history(make) as log:
        old = [random_beat(rng, START_MS + rng.randrange(MINUTE_MS)) for _ in range(20)]
        new = [random_beat(rng, START_MS + MINUTE_MS + rng.randrange(MINUTE_MS)) for _ in range(20)]
        await log.write(*old, *new)
        await log.compact()
        await log.trim(raw_before_ms=START_MS + MINUTE_MS - 1)
        await log.check_beats("before their minute ended")
        await log.trim(raw_before_ms=START_MS + MINUTE_MS)
        log.forgotten = old
        late, other = make_beat(node_id(1), START_MS + 7, cpu_load=1e6), make_beat(node_id(4), START_MS + 7)
        await log.write(late, other)
        await log.check_beats("of which some were forgotten")
        await log.compact()
        log.forgotten = [*old, late]
        for node in _NODES:
            await log.check_beats("of which some were forgotten", nodes=(node,))
            for bucket_ms in (MINUTE_MS, 2 * MINUTE_MS, 30_000):
                await log.check_rollups("of forgotten beats", of=node, bucket_ms=bucket_ms)


async def old_rollups_go_with_their_beats(make: StoreFactory) -> None:
    """Nothing of a minute that ended by then is left, and everything of the next; steps end by themselves."""
    minutes = [START_MS + number * MINUTE_MS for number in range(6)]
    async with opened_history(make) as log:
        await log.write(*(make_beat(node, at, cpu_load=1.0) for at in minutes for node in _NODES))
        await log.compact()
        steps, left = await log.trim(rollups_before_ms=minutes[2] + 59_999)
        expect(steps > 0, True, "whether there was something to do")
        log.committed = [beat for beat in log.committed if beat.at_ms >= minutes[2]]
        await log.check_beats("of young minutes", nodes=(None, *_NODES))
        await log.check_rollups("of young minutes", of=node_id(2), bucket_ms=MINUTE_MS)
        expect(await log.trim(rollups_before_ms=minutes[2]), (0, left), "steps and bytes when nothing is old")
        await log.trim(rollups_before_ms=EVER_MS)
        log.committed = []
        await log.check_beats("when all are old")


async def the_oldest_minutes_go_when_history_is_too_large(make: StoreFactory) -> None:
    """Until it fits, and no more than a step beyond; what is left is the newest, whole."""
    minutes = [START_MS + number * MINUTE_MS for number in range(40)]
    async with opened_history(make) as log:
        for start in (0, 20):
            # The newer ones first: what counts is the time of beats, not of commits.
            await log.write(
                *(make_beat(node, at + 5, cpu_load=1.0) for at in minutes[20 - start :][:20] for node in _NODES)
            )
            await log.compact()
        _, full = await log.trim()
        for part in (0.75, 0.4, 0.0):
            _, left = await log.trim(max_bytes=int(full * part))
            expect(left <= full * part, True, f"whether {left} of {full} bytes are within {part}")
            found = await log.store.read_beats(node_id=None, since_ms=0, until_ms=EVER_MS, limit=_ALL)
            wanted = in_order(log.committed, None)
            expect(found, wanted[len(wanted) - len(found) :], f"beats in {part} of the room")
            expect(abs(len(found) - len(wanted) * part) <= len(_NODES), True, f"whether {len(found)} fill {part}")


async def beats_are_thinned_as_asked(make: StoreFactory) -> None:
    """The last of each node in each span, aligned to wall time; the limit counts what is left."""
    rng = random.Random(8)
    async with opened_history(make) as log:
        await log.write(*(random_beat(rng, START_MS + rng.randrange(5 * MINUTE_MS)) for _ in range(100)))
        await log.compact()
        await log.write(*(random_beat(rng, START_MS + rng.randrange(5 * MINUTE_MS)) for _ in range(60)))
        for every_ms in (1, 7000, MINUTE_MS, 2 * MINUTE_MS):
            for node in (node_id(1), node_id(2)):
                wanted = list({(b.node_key, b.at_ms // every_ms): b for b in in_order(log.committed, node)}.values())
                for limit in (3, _ALL):
                    found = await log.store.read_beats(
                        node_id=node, since_ms=0, until_ms=EVER_MS, limit=limit, every_ms=every_ms
                    )
                    expect(found, in_order(wanted, node)[-limit:], f"beats every {every_ms} ms, {limit} at most")


async def the_clock_of_ages_is_kept(make: StoreFactory) -> None:
    """None at first; then the last that was given, over a restart too."""
    async with opened_history(make) as log:
        expect(await log.store.history_clock(), None, "the clock of a new database")
        await log.store.set_history_clock(HistoryClock(now_ms=1, lead_ms=2, stood_ms=3))
        await log.store.set_history_clock(HistoryClock(now_ms=START_MS, lead_ms=0, stood_ms=0))
    async with opened_history(make) as log:
        expect(await log.store.history_clock(), HistoryClock(now_ms=START_MS, lead_ms=0, stood_ms=0), "the clock")


HISTORY_CHECKS: Final[tuple[StoreCheck, ...]] = (
    beats_are_read_the_same_whatever_is_compacted,
    compaction_goes_on_after_a_restart,
    beats_are_found_however_often_a_store_is_opened,
    a_pass_takes_closed_minutes_and_settled_blocks,
    blocks_stay_until_the_presence_checkpoint_has_them,
    late_beats_join_their_minute,
    beats_go_and_rollups_stay,
    old_rollups_go_with_their_beats,
    the_oldest_minutes_go_when_history_is_too_large,
    beats_are_thinned_as_asked,
    the_clock_of_ages_is_kept,
)
"""Every rule about history; a part of `STORE_CHECKS`."""
