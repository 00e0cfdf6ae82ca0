"""Heartbeat history in SQLite: blocks, and what compaction makes of them.

A pass takes the oldest blocks to the minutes of their nodes in order of (minute, node key), a slice at a time, and
notes with each slice how far it came: readers leave out of the blocks what is in the minutes already, and a pass that
was cut off goes on from there. The work is planned beside the writer, on a connection of its own; the writer's thread
only writes what was planned, unless the state has moved meanwhile.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Iterable
from heapq import merge
from typing import Any, Final

import msgspec

from thunderline.block.beats import PackedBeat, unpack_block
from thunderline.block.recent import RecentBlocks
from thunderline.block.rollups import (
    MINUTE_MS,
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
from thunderline.block.sqlite.bulk import BulkStatement
from thunderline.block.wanted import Wanted
from thunderline.core.clock import Clock

Place = tuple[int, bytes]
"""A minute of one node: where its row stands."""

PASS_BEATS: Final = 300_000
"""Beats in one pass at most, which are held in memory meanwhile: about 50 MB."""

SLICE_BYTES: Final = 262_144
SLICE_ROWS: Final = (64, 2048)
"""Rows in one write, at least and at most; in between as many as keep it to `WRITE_S`."""

FOLD_EVERY: Final = 8
"""Steps after which the planner folds the write-ahead log into the file: else a commit would have to, and wait."""

WRITE_S: Final = 0.005
"""How long one write should take: a quarter of what commits may be made to wait, since a write now and then takes
several times as long as the one before, for want of a processor or behind a flush."""

DELETED_BLOCKS: Final = 256
DELETED_BLOCK_BYTES: Final = 1_048_576
"""Blocks that go in one write at most."""

SORTED_AT_ONCE: Final = 2_000
"""Places: a millisecond in which no other thread runs."""

RAW_OVERHEAD_BYTES: Final = 26
ROLLUP_BYTES: Final = 110
"""About what a row takes beside its beats, and a rollup."""

_NOTHING_DONE: Final[Place] = (-(2**63), b"")
_EVER: Final = 2**62

_RAWS: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])
_BEAT: Final = msgspec.msgpack.Decoder(PackedBeat)


class _Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What of a beat tells its place."""

    node_key: bytes
    at_ms: int


_HEADS: Final = msgspec.msgpack.Decoder(list[_Head])


class _State(msgspec.Struct, frozen=True):
    """The row of `heartbeat_history` that says what is where."""

    step: int
    compacted_block: int
    pass_block: int
    done_minute: int
    done_key: bytes
    size_bytes: int

    @property
    def done(self) -> Place:
        return (self.done_minute, self.done_key)


class _Pass:
    """The beats of one pass in memory, still packed, by place."""

    def __init__(self, state: _State, beats: dict[Place, list[msgspec.Raw]], *, old_minutes: frozenset[int]) -> None:
        self.first_block = state.compacted_block
        self.last_block = state.pass_block
        self.beats = beats
        self.places = _sorted_places(beats)
        self.old_minutes = old_minutes
        """Minutes that may have rows already."""

        self._written = 0

    def goes_on_from(self, state: _State) -> bool:
        return (self.first_block, self.last_block) == (state.compacted_block, state.pass_block)

    def rest(self, done: Place) -> list[Place]:
        """The places after `done`, up to which all is written and will not be needed again."""
        start = bisect_right(self.places, done)
        # Step by step: all at once, at the end of the pass, that would hold up everybody.
        for place in self.places[self._written : start]:
            self.beats.pop(place, None)
        self._written = start
        return self.places[start : start + SLICE_ROWS[1] + 1]


class HistoryPlan(msgspec.Struct):
    """One step, ready to be written."""

    state: _State
    """As the step found it."""
    after: _State
    minutes: list[tuple[int, bytes, bytes]] = msgspec.field(default_factory=list)
    rollups: list[tuple[object, ...]] = msgspec.field(default_factory=list)
    forget_minutes: Place | None = None
    """Rows up to there go."""
    forget_rollups: Place | None = None
    forget_blocks: int | None = None
    forgotten_rows: int = 0
    beats: int = 0

    @property
    def rows(self) -> int:
        return len(self.minutes) + len(self.rollups)


class _Pace:
    """How many rows a write should have, from how long the last ones took."""

    def __init__(self) -> None:
        self.rows = 512

    def took(self, duration_s: float, *, rows: int) -> None:
        """Learn from a write of so many rows; one that was short of rows tells nothing but that it was too slow."""
        factor = min(max(WRITE_S / max(duration_s, 1e-6), 0.25), 1.25)
        if factor < 1 or rows >= self.rows:
            least, most = SLICE_ROWS
            self.rows = min(max(int(self.rows * factor), least), most)


class HistoryTables:
    """What the store does with its history tables. Planning, writing and reading have a connection each."""

    def __init__(self, queries: Any, *, clock: Clock) -> None:
        self._queries = queries
        self._clock = clock
        self._bulk = {name: BulkStatement(getattr(queries, name).sql) for name in ("upsert_minutes", "merge_rollups")}
        self.recent = RecentBlocks()
        self._pass: _Pass | None = None
        self._writing = _Pace()
        self._forgetting = _Pace()
        self._unfolded_steps = 0

    # Compaction

    def plan_compaction(
        self, connection: sqlite3.Connection, *, closed_ms: int, settled_block: int
    ) -> tuple[HistoryPlan | None, int]:
        """The next step, None when there is nothing to do; and the newest block."""
        self._fold(connection)
        connection.execute(self._queries.begin_read.sql)
        state = self._state(connection)
        self.recent.forget(state.compacted_block)
        (newest,) = connection.execute(self._queries.newest_block.sql).fetchone()
        if state.pass_block > state.compacted_block:
            plan: HistoryPlan | None = self._plan_slice(connection, state)
        else:
            self._pass = None
            plan = self._plan_deletion(connection, state)
            if plan is None:
                last = self._last_block(connection, state, closed_ms=closed_ms, settled_block=settled_block)
                if last > state.compacted_block:
                    plan = HistoryPlan(state, msgspec.structs.replace(state, pass_block=last))
        connection.execute(self._queries.commit.sql)
        return plan, newest or 0

    def _last_block(self, connection: sqlite3.Connection, state: _State, *, closed_ms: int, settled_block: int) -> int:
        """The last block that a pass takes which begins now."""
        last, beats = state.compacted_block, 0
        blocks = connection.execute(self._queries.blocks_to_compact.sql, (last,))
        for id_, max_at_ms, count in blocks:
            beats += count
            if (max_at_ms >= closed_ms and id_ > settled_block) or (beats > PASS_BEATS and beats > count):
                break
            last = id_
        blocks.close()
        return last

    def _plan_deletion(self, connection: sqlite3.Connection, state: _State) -> HistoryPlan | None:
        (needed_after,) = connection.execute(self._queries.select_presence_block.sql).fetchone()
        bounds = (min(state.compacted_block, needed_after), DELETED_BLOCKS)
        last, size_bytes = None, 0
        for id_, block_bytes in connection.execute(self._queries.compacted_blocks.sql, bounds).fetchall():
            size_bytes += block_bytes
            if last is not None and size_bytes > DELETED_BLOCK_BYTES:
                break
            last = id_
        return None if last is None else HistoryPlan(state, state, forget_blocks=last)

    def _plan_slice(self, connection: sqlite3.Connection, state: _State) -> HistoryPlan:
        if self._pass is None or not self._pass.goes_on_from(state):
            self._pass = self._load(connection, state)
        under_way = self._pass
        plan = HistoryPlan(state, state)
        written_bytes, size_bytes = 0, state.size_bytes
        for place in under_way.rest(state.done):
            if plan.rows >= self._writing.rows or written_bytes > SLICE_BYTES:
                done = plan.rollups[-1][:2]
                plan.after = msgspec.structs.replace(
                    state, done_minute=done[0], done_key=done[1], size_bytes=size_bytes
                )
                return plan
            beats = [_BEAT.decode(raw) for raw in under_way.beats[place]]
            beats.sort(key=in_time)
            plan.beats += len(beats)
            plan.rollups.append((*place, *rollup_columns(roll_up(beats))))
            known = None
            if place[0] in under_way.old_minutes:
                known = connection.execute(self._queries.select_minute.sql, place).fetchone()
            if known is None:
                size_bytes += ROLLUP_BYTES + RAW_OVERHEAD_BYTES
            elif known[0] is None:
                continue  # its beats were forgotten: these go to the rollup only
            else:
                size_bytes -= len(known[0])
                beats = unpack_minute(known[0], node_key=place[1], minute=place[0]) + beats
                beats.sort(key=in_time)  # stable: those of one time stay in the order of commits
            row = pack_minute(place[0], beats)
            plan.minutes.append((*place, row))
            size_bytes += len(row)
            written_bytes += len(row)
        plan.after = msgspec.structs.replace(
            state,
            compacted_block=state.pass_block,
            done_minute=_NOTHING_DONE[0],
            done_key=_NOTHING_DONE[1],
            size_bytes=size_bytes,
        )
        return plan

    def _load(self, connection: sqlite3.Connection, state: _State) -> _Pass:
        beats: dict[Place, list[msgspec.Raw]] = {}
        for (block,) in connection.execute(
            self._queries.blocks_of_pass.sql, (state.compacted_block, state.pass_block)
        ).fetchall():
            for head, raw in zip(_HEADS.decode(block), _RAWS.decode(block), strict=True):
                place = (minute_of(head.at_ms), head.node_key)
                if place > state.done:
                    beats.setdefault(place, []).append(raw)
        minutes = {minute for minute, _ in beats}
        old = {m for m in minutes if connection.execute(self._queries.has_minute.sql, (m,)).fetchone() is not None}
        return _Pass(state, beats, old_minutes=frozenset(old))

    # Retention

    def plan_trim(
        self, connection: sqlite3.Connection, *, raw_before_ms: int, rollups_before_ms: int, max_bytes: int
    ) -> tuple[HistoryPlan | None, int]:
        """The next step, None when there is nothing to do; and about what history takes after it."""
        self._fold(connection)
        connection.execute(self._queries.begin_read.sql)
        state = self._state(connection)
        (in_blocks,) = connection.execute(self._queries.bytes_in_blocks.sql, (state.compacted_block,)).fetchone()
        excess = state.size_bytes + (in_blocks or 0) - max_bytes
        plan = self._plan_forgetting(connection, state, before=minute_of(rollups_before_ms), at_least_bytes=_EVER)
        if plan is None:
            plan = self._plan_forgetting_raw(connection, state, before=minute_of(raw_before_ms))
        if plan is None and excess > 0:
            plan = self._plan_forgetting(connection, state, before=_EVER, at_least_bytes=excess)
        connection.execute(self._queries.commit.sql)
        after = state if plan is None else plan.after
        return plan, after.size_bytes + (in_blocks or 0)

    def _plan_forgetting(
        self, connection: sqlite3.Connection, state: _State, *, before: int, at_least_bytes: int
    ) -> HistoryPlan | None:
        last, freed, rows = None, 0, 0
        bounds = (before, self._forgetting.rows)
        for minute, key, raw_bytes in connection.execute(self._queries.oldest_rollups.sql, bounds).fetchall():
            if freed >= at_least_bytes:
                break
            last = (minute, key)
            rows += 1
            freed += ROLLUP_BYTES + (0 if raw_bytes is None else raw_bytes + RAW_OVERHEAD_BYTES)
        if last is None:
            return None
        return HistoryPlan(state, _less(state, freed), forget_minutes=last, forget_rollups=last, forgotten_rows=rows)

    def _plan_forgetting_raw(self, connection: sqlite3.Connection, state: _State, *, before: int) -> HistoryPlan | None:
        bounds = (before, self._forgetting.rows)
        rows = connection.execute(self._queries.oldest_minutes.sql, bounds).fetchall()
        if not rows:
            return None
        freed = sum(raw_bytes + RAW_OVERHEAD_BYTES for _, _, raw_bytes in rows)
        return HistoryPlan(state, _less(state, freed), forget_minutes=rows[-1][:2], forgotten_rows=len(rows))

    def _fold(self, connection: sqlite3.Connection) -> None:
        self._unfolded_steps += 1
        if self._unfolded_steps >= FOLD_EVERY:
            self._unfolded_steps = 0
            # Passive: it waits for nobody and nobody waits for it; what it leaves is folded at another time.
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    # On the writer's thread

    def write(self, connection: sqlite3.Connection, plan: HistoryPlan, *, check: Callable[[], None]) -> bool:
        """Write the step; false when the state is no longer the one that it was planned on. `check` runs before the
        commit and may refuse it."""
        started = self._clock.monotonic()
        connection.execute(self._queries.begin.sql)
        after = plan.after
        columns = (after.compacted_block, after.pass_block, after.done_minute, after.done_key, after.size_bytes)
        if connection.execute(self._queries.step_history.sql, (*columns, plan.state.step)).rowcount != 1:
            connection.execute(self._queries.rollback.sql)
            return False
        self._bulk["merge_rollups"].run(connection, plan.rollups)
        self._bulk["upsert_minutes"].run(connection, plan.minutes)
        for query, last in (
            (self._queries.delete_minutes, plan.forget_minutes),
            (self._queries.delete_rollups, plan.forget_rollups),
        ):
            if last is not None:
                connection.execute(query.sql, last)
        if plan.forget_blocks is not None:
            connection.execute(self._queries.delete_blocks.sql, (plan.forget_blocks,))
        check()
        connection.execute(self._queries.commit.sql)
        took_s = self._clock.monotonic() - started
        if plan.rows:
            self._writing.took(took_s, rows=plan.rows)
        elif plan.forgotten_rows:
            self._forgetting.took(took_s, rows=plan.forgotten_rows)
        return True

    # Reading

    def read_beats(
        self,
        connection: sqlite3.Connection,
        *,
        key: bytes | None,
        since_ms: int,
        until_ms: int,
        limit: int,
        every_ms: int | None,
    ) -> list[PackedBeat]:
        """See `Store.read_beats`."""
        if limit <= 0 or since_ms >= until_ms:
            return []
        wanted = Wanted(key, since_ms, until_ms, _EVER if every_ms is not None else limit)
        self._begin_read(connection, wanted)
        if key is None:
            bounds: tuple[object, ...] = (minute_of(since_ms), minute_of(until_ms - 1))
            minutes = connection.execute(self._queries.minutes_of_all.sql, bounds)
        else:
            bounds = (minute_of(since_ms), minute_of(until_ms - 1), key)
            minutes = connection.execute(self._queries.minutes_of_node.sql, bounds)
        for minute, node_key, row in minutes:
            if wanted.is_beyond((minute + 1) * MINUTE_MS - 1):
                break
            beats = unpack_minute(row, node_key=node_key, minute=minute)
            if every_ms is not None:
                # Now already, so that what is held in memory follows from the answer.
                beats = thin([beat for beat in beats if since_ms <= beat.at_ms < until_ms], every_ms)
            wanted.add(beats, block=0)
        minutes.close()
        connection.execute(self._queries.commit.sql)
        found = wanted.beats()
        if every_ms is not None:
            found = thin(found, every_ms)
        return found[-limit:]

    def _begin_read(self, connection: sqlite3.Connection, wanted: Wanted) -> None:
        """Begin to read, with what is wanted of the blocks that are not compacted."""
        while True:
            connection.execute(self._queries.begin_read.sql)
            state = self._state(connection)
            if wanted.key is None:
                self._search_blocks(connection, state, wanted, up_to=_EVER)
                return
            # Asked for behind the state: blocks are in the index before a reader can see them.
            known = self.recent.of(wanted.key)
            if known.forgotten <= state.compacted_block:
                break
            # Compaction got on in between, and the index has forgotten what this moment still needs of it.
            connection.execute(self._queries.commit.sql)
        self._search_blocks(connection, state, wanted, up_to=known.since)
        after = max(known.since, state.compacted_block)
        for id_ in known.blocks[bisect_right(known.blocks, after) :]:
            bounds = (id_, wanted.since_ms, wanted.until_ms)
            for (block,) in connection.execute(self._queries.block_between.sql, bounds).fetchall():
                wanted.add(_beats_of_block(state, wanted, id_, block), block=id_)

    def _search_blocks(self, connection: sqlite3.Connection, state: _State, wanted: Wanted, *, up_to: int) -> None:
        if up_to <= state.compacted_block:
            return
        bounds = (wanted.since_ms, wanted.until_ms, state.compacted_block, up_to)
        blocks = connection.execute(self._queries.blocks_between.sql, bounds)
        for id_, max_at_ms, block in blocks:
            # Blocks come by their newest beat: in this one and those after it none is newer.
            if wanted.is_beyond(max_at_ms):
                break
            wanted.add(_beats_of_block(state, wanted, id_, block), block=id_)
        blocks.close()

    def read_rollups(
        self, connection: sqlite3.Connection, *, key: bytes, since_ms: int, until_ms: int, bucket_ms: int
    ) -> list[Bucket] | None:
        """See `Store.read_rollups`."""
        if since_ms >= until_ms:
            return []
        minutes = (minute_of(since_ms), minute_of(until_ms - 1), key)
        fresh = Wanted(key, since_ms, until_ms, _EVER)
        self._begin_read(connection, fresh)
        found: dict[int, Rollup] = {}
        is_whole = True
        if bucket_ms % MINUTE_MS == 0:
            rows = connection.execute(self._queries.rollups_of_node.sql, (*minutes, bucket_ms // MINUTE_MS)).fetchall()
            found = {since_ms + bucket * bucket_ms: read_rollup(columns) for bucket, *columns in rows}
        elif connection.execute(self._queries.rolled_up_only.sql, minutes).fetchone() is not None:
            is_whole = False
        else:
            for minute, _, row in connection.execute(self._queries.minutes_of_node.sql, minutes).fetchall():
                beats = unpack_minute(row, node_key=key, minute=minute)
                beats = [beat for beat in beats if since_ms <= beat.at_ms < until_ms]
                add_buckets(found, roll_up_buckets(beats, bucket_ms))
        connection.execute(self._queries.commit.sql)
        if not is_whole:
            return None
        add_buckets(found, roll_up_buckets(fresh.beats(), bucket_ms))
        return [Bucket(at_ms, rollup) for at_ms, rollup in sorted(found.items())]

    def _state(self, connection: sqlite3.Connection) -> _State:
        return _State(*connection.execute(self._queries.select_history.sql).fetchone())


def _sorted_places(places: Iterable[Place]) -> list[Place]:
    """`places` in order; sorted at once, many would hold up every other thread for as long as it takes."""
    everything = list(places)
    runs = (sorted(everything[start : start + SORTED_AT_ONCE]) for start in range(0, len(everything), SORTED_AT_ONCE))
    return list(merge(*runs))


def _beats_of_block(state: _State, wanted: Wanted, id_: int, block: bytes) -> Iterable[PackedBeat]:
    """The beats of `block` that may be wanted and are in no minute yet."""
    beats = unpack_block(block) if wanted.key is None else _beats_with(wanted.key, block)
    if id_ > state.pass_block:
        return beats
    done = state.done
    return [beat for beat in beats if (minute_of(beat.at_ms), beat.node_key) > done]


def _beats_with(key: bytes, block: bytes) -> list[PackedBeat]:
    """The beats of `block` that hold these bytes, as those of the node do; the rest is not worth unpacking."""
    if key not in block:  # many times as fast as SQLite's own search for it
        return []
    return [_BEAT.decode(raw) for raw in _RAWS.decode(block) if key in bytes(raw)]


def _less(state: _State, freed_bytes: int) -> _State:
    return msgspec.structs.replace(state, size_bytes=max(state.size_bytes - freed_bytes, 0))
