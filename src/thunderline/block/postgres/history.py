"""Heartbeat history in PostgreSQL: blocks, what compaction makes of them, and what is forgotten.

A step of compaction is a whole pass, in one transaction: commits do not wait for it, and readers see all of it or
nothing. Forgetting moves a horizon, before which rows no longer count, and drops partitions that lie before it.

Not guaranteed: that the rows of a partition which was half forgotten take no room.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg
import msgspec

from thunderline.block import rows
from thunderline.block.beats import PackedBeat, unpack_block
from thunderline.block.postgres.failures import describe, is_about
from thunderline.block.postgres.writing import columns
from thunderline.block.recent import RecentBlocks
from thunderline.block.rollups import (
    MINUTE_MS,
    ROLLUP_COLUMNS,
    Bucket,
    Rollup,
    add_buckets,
    in_time,
    minute_of,
    pack_minute,
    read_rollup,
    roll_up,
    roll_up_buckets,
    rollup_columns,
    thin,
    unpack_minute,
)
from thunderline.block.store import CompactionStep, TrimStep
from thunderline.block.wanted import Wanted
from thunderline.core.clock import Clock
from thunderline.core.logging import get_logger

log = get_logger(__name__)

Place = tuple[int, bytes]
"""A minute of one node: where its row stands."""

PASS_BEATS: Final = 200_000
"""Beats in one pass at most, which are held in memory meanwhile."""
PASS_BLOCKS: Final = 50_000
WRITTEN_AT_ONCE: Final = 1_000
"""Rows in one statement: about a millisecond in which the event loop does nothing else."""

RAW_OVERHEAD_BYTES: Final = 50
ROLLUP_BYTES: Final = 220
"""About what a row takes beside its beats, and a rollup, their indexes included."""

BLOCK_SPAN_MINUTES: Final = 10
RAW_SPAN_MINUTES: Final = 60
ROLLUP_SPAN_MINUTES: Final = 60 * 24
PARTITIONS_AHEAD: Final = 2
"""Partitions that are there before their time comes."""
_SPANS: Final = {
    ("heartbeat_blocks", "kept_minute"): BLOCK_SPAN_MINUTES,
    ("heartbeat_minutes", "minute"): RAW_SPAN_MINUTES,
    ("heartbeat_rollups", "minute"): ROLLUP_SPAN_MINUTES,
}
_SANE_MINUTES: Final = range(0, 2**32)
"""Partitions are made for these; whoever asks for more does not mean the time."""

_NO_PLACE: Final = -(2**63)
_EVER: Final = 2**62


class _State(msgspec.Struct, frozen=True):
    """The row of `heartbeat_history` that says what is where."""

    compacted_block: int
    pass_block: int
    done_minute: int
    done_key: bytes
    raw_from: int
    rollups_from: int

    @property
    def done(self) -> Place:
        return (self.done_minute, self.done_key)

    def rest(self, block_id: int, beats: list[PackedBeat]) -> list[PackedBeat]:
        """Those of a block's beats that are in no minute yet."""
        if block_id > self.pass_block:
            return beats
        return [beat for beat in beats if (minute_of(beat.at_ms), beat.node_key) > self.done]


class _Pass(msgspec.Struct):
    """What a pass writes."""

    minutes: list[rows.Row]
    rollups: list[rows.Row]
    sizes: dict[int, list[int]]
    beats: int


class _Attempt(msgspec.Struct):
    succeeded: bool = False


@asynccontextmanager
async def _unless_in_use() -> AsyncIterator[_Attempt]:
    """Try what needs a lock that others must not wait for; not having it is no error."""
    attempt = _Attempt()
    try:
        yield attempt
    except asyncpg.PostgresError as error:
        if not is_about(error, "55P03", "40P01"):
            raise
        log.debug("partitions are in use, later", reason=describe(error))
    else:
        attempt.succeeded = True


class HistoryTables:
    """What the store does with its history tables; each method within a connection that the caller has."""

    def __init__(self, queries: Any, *, clock: Clock) -> None:
        self._queries = queries
        self._clock = clock
        self.recent = RecentBlocks()
        self._made: dict[str, int] = {}
        """By table, the span for which this process has last seen to its partitions."""

    # Compaction

    async def compact(self, connection: Any, *, closed_ms: int, settled_block: int) -> CompactionStep:
        """See `Store.compact_beats`."""
        await self.make_partitions(connection, minute=minute_of(min(closed_ms, _EVER)))
        async with connection.transaction():
            state = await self._state(connection, lock=True)
            newest = await connection.fetchval(self._queries.newest_block.sql) or 0
            last = await self._last_block(connection, state, closed_ms=closed_ms, settled_block=settled_block)
            beats = 0
            if last > state.compacted_block:
                beats = await self._take(connection, state, last)
                await connection.execute(self._queries.set_compacted_block.sql, last)
        if last > state.compacted_block:
            self.recent.forget(last)
        else:
            await self._drop_blocks(connection)
        return CompactionStep(more=last > state.compacted_block, beats=beats, newest_block=newest)

    async def _last_block(self, connection: Any, state: _State, *, closed_ms: int, settled_block: int) -> int:
        """The last block that this pass takes."""
        last, beats = state.compacted_block, 0
        for id_, max_at_ms, count in await connection.fetch(
            self._queries.blocks_to_compact.sql, state.compacted_block, PASS_BLOCKS
        ):
            beats += count
            if max_at_ms >= closed_ms and id_ > max(settled_block, state.pass_block):
                break
            if beats > PASS_BEATS and beats > count and id_ > state.pass_block:
                break
            last = id_
        return last

    async def _take(self, connection: Any, state: _State, last: int) -> int:
        """Bring the beats of the blocks up to `last` to their minutes; gives how many."""
        blocks = await connection.fetch(self._queries.blocks_of_pass.sql, state.compacted_block, last)
        by_place = await asyncio.to_thread(_by_place, state, blocks)
        known = await self._known(connection, state, list(by_place))
        work = await asyncio.to_thread(_put_together, state, by_place, known)
        for start in range(0, len(work.rollups), WRITTEN_AT_ONCE):
            part = work.rollups[start : start + WRITTEN_AT_ONCE]
            await connection.execute(self._queries.merge_rollups.sql, *columns(part, width=3 + ROLLUP_COLUMNS))
        for start in range(0, len(work.minutes), WRITTEN_AT_ONCE):
            part = work.minutes[start : start + WRITTEN_AT_ONCE]
            await connection.execute(self._queries.upsert_minutes.sql, *columns(part, width=4))
        sizes: list[rows.Row] = [(minute, raw, rollup) for minute, (raw, rollup) in work.sizes.items()]
        if sizes:
            await connection.execute(self._queries.add_sizes.sql, *columns(sizes, width=3))
        return work.beats

    async def _known(self, connection: Any, state: _State, places: Sequence[Place]) -> dict[Place, bytes | None]:
        """Of these places, those that have a rollup, and the beats of those that have them."""
        minutes = {minute for minute, _ in places}
        old = {row["minute"] for row in await connection.fetch(self._queries.old_minutes.sql, list(minutes))}
        forgotten = {minute for minute in minutes if minute < max(state.raw_from, state.rollups_from)}
        if not old and not forgotten:
            return {}
        known: dict[Place, bytes | None] = {}
        asked = [place for place in places if place[0] in old or place[0] in forgotten]
        for start in range(0, len(asked), WRITTEN_AT_ONCE):
            part = columns(asked[start : start + WRITTEN_AT_ONCE], width=2)
            if forgotten:
                await connection.execute(self._queries.delete_forgotten_minutes.sql, *part, state.raw_from)
                await connection.execute(self._queries.delete_forgotten_rollups.sql, *part, state.rollups_from)
            for minute, key, raw in await connection.fetch(self._queries.select_places.sql, *part):
                known[minute, key] = raw
        return known

    # Partitions

    async def make_partitions(self, connection: Any, *, minute: int) -> None:
        """See that there are partitions for that minute and some after it, those of blocks by the database's clock."""
        now = None
        for (table, key), span in _SPANS.items():
            if key == "kept_minute":
                if now is None:
                    now = await connection.fetchval(self._queries.kept_minute.sql)
                wanted = now
            else:
                wanted = minute
            first = wanted // span * span
            if wanted not in _SANE_MINUTES or self._made.get(table) == first:
                continue
            for low in range(first - span, first + (PARTITIONS_AHEAD + 1) * span, span):
                async with _unless_in_use() as attempt:
                    await connection.fetchval(self._queries.add_partition.sql, table, key, low, low + span)
                if not attempt.succeeded:
                    break
            else:
                self._made[table] = first

    async def _drop_blocks(self, connection: Any) -> None:
        """Drop partitions of blocks that nobody needs any more."""
        before = await self._blocks_needed_from(connection)
        if not await connection.fetchval(self._queries.has_blocks_before.sql, before):
            return
        async with _unless_in_use(), connection.transaction():
            # A commit that is under way may have a block in there that nobody sees yet; so may one that comes
            # meanwhile, after a step of the database's clock.
            await connection.execute(self._queries.lock_blocks.sql)
            before = await self._blocks_needed_from(connection)
            await connection.fetchval(self._queries.drop_partitions.sql, "heartbeat_blocks", "kept_minute", before)

    async def _blocks_needed_from(self, connection: Any) -> int:
        needed = await connection.fetchval(self._queries.oldest_needed_minute.sql)
        now: int = await connection.fetchval(self._queries.kept_minute.sql)
        return now if needed is None else min(needed, now)

    async def _drop_minutes(self, connection: Any, state: _State) -> None:
        """Drop partitions of minutes in which all is forgotten."""
        late = await connection.fetchrow(self._queries.oldest_late.sql)
        for table, before, oldest_late in (
            ("heartbeat_minutes", state.raw_from, late["minutes"]),
            ("heartbeat_rollups", state.rollups_from, late["rollups"]),
        ):
            if before > _NO_PLACE:
                before = before if oldest_late is None else min(before, oldest_late)
                async with _unless_in_use():
                    await connection.fetchval(self._queries.drop_partitions.sql, table, "minute", before)

    # Retention

    async def trim(self, connection: Any, *, raw_before_ms: int, rollups_before_ms: int, max_bytes: int) -> TrimStep:
        """See `Store.trim_beats`."""
        rollups_before = minute_of(rollups_before_ms)
        raw_before = max(minute_of(raw_before_ms), rollups_before)
        async with connection.transaction():
            state = await self._state(connection, lock=True)
            found = await connection.fetchrow(self._queries.has_old_minutes.sql, raw_before, rollups_before)
            changed = found["raw"] or found["rollups"]
            if changed:
                state = await self._forget(connection, state, raw_before=raw_before, rollups_before=rollups_before)
            in_blocks = await connection.fetchval(self._queries.bytes_in_blocks.sql, state.compacted_block)
            size_bytes = await connection.fetchval(self._queries.sum_sizes.sql)
            excess = size_bytes + in_blocks - max_bytes
            if excess > 0 and size_bytes > 0:
                minute = await connection.fetchval(self._queries.minute_to_fit.sql, excess)
                # Null: all of it does not suffice, and goes.
                cut = await connection.fetchval(self._queries.newest_size.sql) + 1 if minute is None else minute
                state = await self._forget(connection, state, raw_before=cut, rollups_before=cut)
                size_bytes = await connection.fetchval(self._queries.sum_sizes.sql)
                changed = True
        if not changed:
            await self._drop_minutes(connection, state)
        return TrimStep(more=changed, size_bytes=size_bytes + in_blocks)

    async def _forget(self, connection: Any, state: _State, *, raw_before: int, rollups_before: int) -> _State:
        """Let nothing before these minutes count."""
        queries = self._queries
        await connection.execute(queries.delete_late_minutes.sql, raw_before)
        await connection.execute(queries.delete_late_rollups.sql, rollups_before)
        await connection.execute(queries.forget_raw_sizes.sql, raw_before)
        await connection.execute(queries.forget_sizes.sql, rollups_before)
        after = msgspec.structs.replace(
            state,
            raw_from=max(state.raw_from, raw_before),
            rollups_from=max(state.rollups_from, rollups_before),
        )
        await connection.execute(queries.set_horizon.sql, after.raw_from, after.rollups_from)
        return after

    # Reading, each within a transaction that sees one moment

    async def read_beats(
        self, connection: Any, *, key: bytes | None, since_ms: int, until_ms: int, limit: int, every_ms: int | None
    ) -> list[PackedBeat]:
        """See `Store.read_beats`."""
        wanted = Wanted(key, since_ms, until_ms, _EVER if every_ms is not None else limit)
        state = await self._read_blocks(connection, wanted)
        since, until = minute_of(since_ms), minute_of(until_ms - 1)
        if key is None:
            await self._read_minutes_of_all(connection, state, wanted, since=since, until=until)
        else:
            found = await connection.fetch(self._queries.minutes_of_node.sql, key, since, until, state.raw_from)
            await asyncio.to_thread(_add_minutes, wanted, key, found, every_ms)
        beats = wanted.beats()
        if every_ms is not None:
            beats = thin(beats, every_ms)
        return beats[-limit:]

    async def _read_minutes_of_all(
        self, connection: Any, state: _State, wanted: Wanted, *, since: int, until: int
    ) -> None:
        minute = until
        while True:
            minute = await connection.fetchval(self._queries.minute_before.sql, minute, since, state.raw_from)
            if minute is None or wanted.is_beyond((minute + 1) * MINUTE_MS - 1):
                return
            found = await connection.fetch(self._queries.minutes_of_all.sql, minute, state.raw_from)
            await asyncio.to_thread(_add_minute_of_all, wanted, minute, found)
            minute -= 1

    async def read_rollups(
        self, connection: Any, *, key: bytes, since_ms: int, until_ms: int, bucket_ms: int
    ) -> list[Bucket] | None:
        """See `Store.read_rollups`."""
        minutes = (key, minute_of(since_ms), minute_of(until_ms - 1))
        fresh = Wanted(key, since_ms, until_ms, _EVER)
        state = await self._read_blocks(connection, fresh)
        found: dict[int, Rollup] = {}
        if bucket_ms % MINUTE_MS == 0:
            merged = await connection.fetch(
                self._queries.rollups_of_node.sql, *minutes, state.rollups_from, bucket_ms // MINUTE_MS
            )
            found = {since_ms + bucket * bucket_ms: read_rollup(rest) for bucket, *rest in merged}
        elif await connection.fetchval(self._queries.rolled_up_only.sql, *minutes, state.rollups_from, state.raw_from):
            return None
        else:
            kept = await connection.fetch(self._queries.minutes_of_node.sql, *minutes, state.raw_from)
            for minute, raw in kept:
                beats = unpack_minute(raw, node_key=key, minute=minute)
                beats = [beat for beat in beats if since_ms <= beat.at_ms < until_ms]
                add_buckets(found, roll_up_buckets(beats, bucket_ms))
        add_buckets(found, roll_up_buckets(fresh.beats(), bucket_ms))
        return [Bucket(at_ms, rollup) for at_ms, rollup in sorted(found.items())]

    async def _read_blocks(self, connection: Any, wanted: Wanted) -> _State:
        """Collect what is wanted of the blocks that are not compacted; gives the state of that moment."""
        state = await self._state(connection)
        up_to, ids = _EVER, list[int]()
        if wanted.key is not None:
            known = self.recent.of(wanted.key)
            # Else compaction got on since this moment, and the index has forgotten what it still needs.
            if known.forgotten <= state.compacted_block:
                up_to = known.since
                ids = known.blocks[bisect_right(known.blocks, max(up_to, state.compacted_block)) :]
        if up_to > state.compacted_block:
            bounds = (wanted.since_ms, wanted.until_ms, state.compacted_block, up_to)
            await self._search_blocks(connection, state, wanted, bounds)
        if ids:
            found = await connection.fetch(self._queries.blocks_of_ids.sql, ids, wanted.since_ms, wanted.until_ms)
            await asyncio.to_thread(_add_blocks, state, wanted, found)
        return state

    async def _search_blocks(self, connection: Any, state: _State, wanted: Wanted, bounds: tuple[int, ...]) -> None:
        async for id_, max_at_ms, block in connection.cursor(self._queries.blocks_between.sql, *bounds, prefetch=200):
            # Blocks come by their newest beat: in this one and those after it none is newer.
            if wanted.is_beyond(max_at_ms):
                return
            if wanted.key is None or wanted.key in block:
                wanted.add(state.rest(id_, unpack_block(block)), block=id_)

    async def _state(self, connection: Any, *, lock: bool = False) -> _State:
        query = self._queries.lock_history if lock else self._queries.select_history
        return _State(*await connection.fetchrow(query.sql))


# In threads: what takes more than an instant for a large answer.


def _by_place(state: _State, blocks: Iterable[tuple[int, bytes]]) -> dict[Place, list[PackedBeat]]:
    """The beats of `blocks` that are in no minute yet, in the order of commits."""
    found: dict[Place, list[PackedBeat]] = {}
    for id_, block in blocks:
        for beat in state.rest(id_, unpack_block(block)):
            found.setdefault((minute_of(beat.at_ms), beat.node_key), []).append(beat)
    return found


def _put_together(state: _State, by_place: dict[Place, list[PackedBeat]], known: dict[Place, bytes | None]) -> _Pass:
    """The rows of a pass; a minute that has lost its beats gets none back."""
    work = _Pass([], [], {}, 0)
    for place in sorted(by_place):
        minute, key = place
        beats = sorted(by_place[place], key=in_time)
        work.beats += len(beats)
        work.rollups.append((*place, minute < state.rollups_from, *rollup_columns(roll_up(beats))))
        size = work.sizes.setdefault(minute, [0, 0])
        if place not in known:
            size[0] += RAW_OVERHEAD_BYTES
            size[1] += ROLLUP_BYTES
        elif (raw := known[place]) is None:
            continue
        else:
            size[0] -= len(raw)
            beats = unpack_minute(raw, node_key=key, minute=minute) + beats
            beats.sort(key=in_time)  # stable: those of one time stay in the order of commits
        row = pack_minute(minute, beats)
        size[0] += len(row)
        work.minutes.append((*place, minute < state.raw_from, row))
    return work


def _add_minutes(wanted: Wanted, key: bytes, found: Iterable[tuple[int, bytes]], every_ms: int | None) -> None:
    for minute, raw in found:
        if wanted.is_beyond((minute + 1) * MINUTE_MS - 1):
            return
        beats = unpack_minute(raw, node_key=key, minute=minute)
        if every_ms is not None:
            # Now already, so that what is held in memory follows from the answer.
            beats = thin([beat for beat in beats if wanted.since_ms <= beat.at_ms < wanted.until_ms], every_ms)
        wanted.add(beats, block=0)


def _add_minute_of_all(wanted: Wanted, minute: int, found: Iterable[tuple[bytes, bytes]]) -> None:
    for key, raw in found:
        wanted.add(unpack_minute(raw, node_key=key, minute=minute), block=0)


def _add_blocks(state: _State, wanted: Wanted, found: Iterable[tuple[int, bytes]]) -> None:
    for id_, block in found:
        wanted.add(state.rest(id_, unpack_block(block)), block=id_)
