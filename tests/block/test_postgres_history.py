"""History in partitions: where rows land, when partitions go, and what holds nobody up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.databases import PostgresDatabases
from thunderline.block.beats import PackedBeat
from thunderline.block.postgres import PostgresStore
from thunderline.block.postgres.connection import Dialler, load_queries
from thunderline.block.postgres.history import BLOCK_SPAN_MINUTES, RAW_SPAN_MINUTES, ROLLUP_SPAN_MINUTES
from thunderline.block.rollups import MINUTE_MS, minute_of
from thunderline.block.store import Snapshot, WriteBatch
from thunderline.core.errors import StoreUnavailable
from thunderline.core.ids import Revision
from thunderline.testing.clock import START_MS, ManualClock
from thunderline.testing.history_suite import EVER_MS
from thunderline.testing.records import batch_id, make_beat, node_id

HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    connection = await Dialler(url, load_queries()).connect()
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
def beat_ms(clock: ManualClock) -> int:
    """The time of a beat that is heard now."""
    return clock.now_ms()


async def write(store: PostgresStore, *beats: PackedBeat, presence_block: int | None = None) -> int:
    batch = WriteBatch(batch_id=batch_id(1), base=Revision(0), beats=beats, presence_block=presence_block)
    block = await store.commit(batch)
    return block or 0


async def compact(store: PostgresStore) -> None:
    while (await store.compact_beats(closed_ms=EVER_MS, settled_block=0)).more:
        pass


async def trim(store: PostgresStore, *, before_ms: int = 0, max_bytes: int = EVER_MS) -> None:
    while (await store.trim_beats(raw_before_ms=before_ms, rollups_before_ms=before_ms, max_bytes=max_bytes)).more:
        pass


async def all_beats(store: PostgresStore) -> list[PackedBeat]:
    return await store.read_beats(node_id=None, since_ms=0, until_ms=EVER_MS, limit=1_000_000)


def counts(postgres: PostgresDatabases, url: str, parent: str) -> dict[str, int]:
    """How many rows each partition of a table has that has any."""
    found = postgres.execute(
        url, f"SELECT tableoid::regclass, count(*) FROM thunderline.{parent} GROUP BY 1 ORDER BY 1"
    )
    rows = (line.split("|") for line in found.splitlines())
    return {name.removeprefix(f"thunderline.{parent}_"): int(count) for name, count in rows}


def partitions(postgres: PostgresDatabases, url: str, parent: str) -> list[int]:
    """Where its partitions begin."""
    found = postgres.execute(url, f"SELECT low FROM thunderline.partitions WHERE parent = '{parent}' ORDER BY 1")
    return [int(line) for line in found.splitlines()]


async def test_blocks_and_minutes_land_in_the_partitions_of_their_time(
    postgres: PostgresDatabases, postgres_url: str, clock: ManualClock, beat_ms: int
) -> None:
    async with PostgresStore(postgres_url, clock=clock) as store:
        await write(store, make_beat(node_id(1), at_ms=beat_ms), make_beat(node_id(1), at_ms=beat_ms + HOUR_MS))
        (block,) = counts(postgres, postgres_url, "heartbeat_blocks")
        assert int(block) % BLOCK_SPAN_MINUTES == 0
        await compact(store)
        minute = minute_of(beat_ms)
        assert counts(postgres, postgres_url, "heartbeat_minutes") == {
            str(start // RAW_SPAN_MINUTES * RAW_SPAN_MINUTES): 1 for start in (minute, minute + 60)
        }
        assert sum(counts(postgres, postgres_url, "heartbeat_rollups").values()) == 2
        assert "rest" not in counts(postgres, postgres_url, "heartbeat_rollups")


async def test_rows_of_a_time_without_a_partition_go_to_the_rest_and_are_read_and_trimmed_like_others(
    postgres: PostgresDatabases, postgres_url: str, clock: ManualClock, beat_ms: int
) -> None:
    past, future = (
        make_beat(node_id(1), at_ms=beat_ms - 300 * DAY_MS),
        make_beat(node_id(1), at_ms=beat_ms + 300 * DAY_MS),
    )
    now = make_beat(node_id(1), at_ms=beat_ms)
    async with PostgresStore(postgres_url, clock=clock) as store:
        await write(store, past, now, future)
        await compact(store)
        assert counts(postgres, postgres_url, "heartbeat_minutes")["rest"] == 2
        assert await all_beats(store) == [past, now, future]
        await trim(store, before_ms=beat_ms - DAY_MS)
        assert await all_beats(store) == [now, future]
        assert counts(postgres, postgres_url, "heartbeat_minutes")["rest"] == 1


async def test_partitions_go_once_all_in_them_is_forgotten(
    postgres: PostgresDatabases, postgres_url: str, clock: ManualClock, beat_ms: int
) -> None:
    async with PostgresStore(postgres_url, clock=clock) as store:
        for hour in range(4):
            await write(store, make_beat(node_id(hour), at_ms=beat_ms + hour * HOUR_MS))
            await store.compact_beats(closed_ms=beat_ms + (hour + 1) * HOUR_MS, settled_block=0)
        await trim(store, before_ms=beat_ms + 2 * HOUR_MS)
        kept = partitions(postgres, postgres_url, "heartbeat_minutes")
        assert kept[0] == minute_of(beat_ms + 2 * HOUR_MS) // RAW_SPAN_MINUTES * RAW_SPAN_MINUTES
        assert len(await all_beats(store)) == 2


async def test_what_came_late_outlives_the_partition_that_it_would_have_been_in(
    postgres_url: str, clock: ManualClock, beat_ms: int
) -> None:
    async with PostgresStore(postgres_url, clock=clock) as store:
        await write(store, make_beat(node_id(1), at_ms=beat_ms))
        await compact(store)
        await trim(store, max_bytes=0)  # the horizon is beyond that minute now, though nothing is old
        late = make_beat(node_id(2), at_ms=beat_ms - DAY_MS)
        await write(store, late)
        await compact(store)
        await trim(store, before_ms=beat_ms - 2 * DAY_MS)
        assert await all_beats(store) == [late]
        rollups = await store.read_rollups(node_id=node_id(2), since_ms=0, until_ms=EVER_MS // HOUR_MS * HOUR_MS,
                                           bucket_ms=HOUR_MS)  # fmt: skip
        assert rollups is not None
        assert sum(bucket.rollup.beats for bucket in rollups) == 1
        await trim(store, before_ms=beat_ms)
        assert await all_beats(store) == []


async def test_a_clock_that_was_wrong_for_a_while_leaves_later_rows_their_partitions(
    postgres: PostgresDatabases, postgres_url: str, clock: ManualClock, beat_ms: int
) -> None:
    async with PostgresStore(postgres_url, clock=clock) as store:
        await store.compact_beats(closed_ms=beat_ms + 3_000 * DAY_MS, settled_block=0)
        at_ms = beat_ms + 10 * HOUR_MS  # when it is right again
        await write(store, make_beat(node_id(1), at_ms=at_ms))
        await store.compact_beats(closed_ms=at_ms + MINUTE_MS, settled_block=0)
        start = minute_of(at_ms) // RAW_SPAN_MINUTES * RAW_SPAN_MINUTES
        assert counts(postgres, postgres_url, "heartbeat_minutes") == {str(start): 1}


async def test_a_partition_in_use_holds_nobody_up_and_is_made_later(
    postgres: PostgresDatabases, postgres_url: str, clock: ManualClock, beat_ms: int
) -> None:
    async with PostgresStore(postgres_url, clock=clock) as store, connected(postgres_url) as reader:
        transaction = reader.transaction()
        await transaction.start()
        await reader.fetch("SELECT * FROM heartbeat_minutes")  # a backup, say, that takes an hour
        at_ms = beat_ms + 100 * DAY_MS
        before = partitions(postgres, postgres_url, "heartbeat_minutes")
        assert before[0] < minute_of(beat_ms)
        await write(store, make_beat(node_id(1), at_ms=beat_ms), make_beat(node_id(1), at_ms=at_ms))
        await compact_to(store, at_ms + MINUTE_MS)
        await trim(store, before_ms=at_ms - DAY_MS)
        assert partitions(postgres, postgres_url, "heartbeat_minutes") == before
        assert counts(postgres, postgres_url, "heartbeat_minutes")["rest"] == 1
        assert len(await all_beats(store)) == 1
        await transaction.rollback()
        await compact_to(store, at_ms + DAY_MS)
        await trim(store, before_ms=at_ms - DAY_MS)
        after = partitions(postgres, postgres_url, "heartbeat_minutes")
        assert set(after) - set(before)
        assert after[0] > minute_of(beat_ms)


async def compact_to(store: PostgresStore, closed_ms: int) -> None:
    async with asyncio.timeout(20):
        while (await store.compact_beats(closed_ms=closed_ms, settled_block=0)).more:
            pass


async def test_partitions_of_blocks_go_once_compaction_and_presence_are_past_them(
    postgres: PostgresDatabases, postgres_url: str, clock: ManualClock, beat_ms: int
) -> None:
    async with PostgresStore(postgres_url, clock=clock) as store:
        make_past_partition(postgres, postgres_url)
        block = await write_in_the_past(postgres, postgres_url, store, make_beat(node_id(1), at_ms=beat_ms))
        await compact(store)
        assert 0 in partitions(postgres, postgres_url, "heartbeat_blocks")
        await write(store, make_beat(node_id(1), at_ms=beat_ms), presence_block=block)
        await compact(store)
        assert 0 not in partitions(postgres, postgres_url, "heartbeat_blocks")
        assert len(await all_beats(store)) == 2


def make_past_partition(postgres: PostgresDatabases, url: str) -> None:
    """A partition of blocks whose time is long over."""
    postgres.execute(
        url, "SET search_path = thunderline; SELECT add_partition('heartbeat_blocks', 'kept_minute', 0, 10)"
    )


async def write_in_the_past(postgres: PostgresDatabases, url: str, store: PostgresStore, *beats: PackedBeat) -> int:
    """Commit a block that then stands in that partition."""
    block = await write(store, *beats)
    postgres.execute(url, f"UPDATE thunderline.heartbeat_blocks SET kept_minute = 5 WHERE id = {block}")
    return block


async def test_block_whose_commit_ends_while_its_partition_is_dropped_is_kept(
    postgres: PostgresDatabases, postgres_url: str, clock: ManualClock, beat_ms: int
) -> None:
    """Its commit began before that partition's time was over; nobody saw it when what is needed was looked up."""
    async with PostgresStore(postgres_url, clock=clock) as store, connected(postgres_url) as other:
        await write(store, make_beat(node_id(1), at_ms=beat_ms))
        make_past_partition(postgres, postgres_url)
        transaction = other.transaction()
        await transaction.start()
        await other.execute(
            "INSERT INTO heartbeat_blocks SELECT 5, nextval('heartbeat_block_ids'), min_at_ms, max_at_ms, beats, block "
            "FROM heartbeat_blocks LIMIT 1"
        )
        dropping = asyncio.ensure_future(compact(store))
        waiting = (
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation::regclass::text LIKE 'heartbeat_blocks%'"
        )
        while not await other.fetchval(waiting) and not dropping.done():
            pass
        await transaction.commit()
        await dropping
        assert len(await all_beats(store)) == 2


async def test_snapshot_that_is_kept_again_in_fewer_parts_has_those_alone(postgres_url: str) -> None:
    async with PostgresStore(postgres_url) as store:
        await store.keep_snapshot(Snapshot(revision=Revision(7), parts=[b"a", b"b", b"c"]))
        await store.keep_snapshot(Snapshot(revision=Revision(7), parts=[b"d", b"e"]))
        found = await store.read_snapshot(revision=Revision(9))
        assert found == Snapshot(revision=Revision(7), parts=[b"d", b"e"])


async def test_read_that_the_server_ends_finds_the_store_away(postgres: PostgresDatabases, postgres_url: str) -> None:
    async with PostgresStore(postgres_url) as store, connected(postgres_url) as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("LOCK TABLE nodes IN ACCESS EXCLUSIVE MODE")
        reading = asyncio.ensure_future(store.scan_nodes(after=None, limit=1))
        # Within a transaction the statistics stand still, so from outside.
        cancel = (
            "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        while await asyncio.to_thread(postgres.execute, postgres_url, cancel) == "0":
            pass
        with pytest.raises(StoreUnavailable, match="57014"):
            await reading
        await transaction.rollback()
        assert await store.scan_nodes(after=None, limit=1) == []


def test_spans_hold_what_comes_in_a_while() -> None:
    assert START_MS % MINUTE_MS == 0
    assert BLOCK_SPAN_MINUTES < RAW_SPAN_MINUTES < ROLLUP_SPAN_MINUTES
