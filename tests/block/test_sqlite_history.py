"""Compaction and retention over real files: what is interleaved, cut off, or planned on a state that has moved."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thunderline.block import recent
from thunderline.block.beats import PackedBeat, node_key
from thunderline.block.recent import Known, RecentBlocks
from thunderline.block.rollups import MINUTE_MS, minute_of
from thunderline.block.sqlite import SqliteStore, history
from thunderline.block.store import WriteBatch
from thunderline.core.errors import StoreUnavailable
from thunderline.core.ids import Revision
from thunderline.testing.clock import START_MS
from thunderline.testing.history_suite import EVER_MS, HistoryLog, opened_history, random_beat
from thunderline.testing.records import batch_id, make_beat, make_event, make_node, node_id


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes and slices of a few beats, so that little data takes many steps."""
    monkeypatch.setattr(history, "PASS_BEATS", 25)
    monkeypatch.setattr(history, "SLICE_BYTES", 150)
    monkeypatch.setattr(history, "DELETED_BLOCKS", 2)


STEPS = st.lists(
    st.sampled_from(["write", "write", "compact", "compact", "compact", "trim raw", "reopen", "checkpoint", "check"]),
    min_size=5,
    max_size=40,
)


@pytest.mark.usefixtures("small_steps")
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(), STEPS)
def test_every_beat_is_read_once_however_steps_are_interleaved(seed: int, steps: list[str]) -> None:
    asyncio.run(interleave(random.Random(seed), steps))


async def interleave(rng: random.Random, steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nodes.db"
        log = HistoryLog(SqliteStore(path))
        await log.store.open()
        now_ms, newest = START_MS, 0
        for step in steps:
            now_ms += rng.randrange(MINUTE_MS)
            if step == "write":
                ages = (0, 10, 70_000, 3_600_000)
                beats = [
                    random_beat(rng, now_ms - rng.randrange(rng.choice(ages) + 1)) for _ in range(rng.randrange(12))
                ]
                newest = await log.write(*beats) or newest
            elif step == "checkpoint":
                await log.write(presence_block=rng.randrange(newest + 1))
            elif step == "compact":
                settled = rng.choice((0, newest))
                await log.store.compact_beats(closed_ms=now_ms // MINUTE_MS * MINUTE_MS, settled_block=settled)
            elif step == "trim raw":
                # What is in its minute already goes, so all of it is brought there first.
                await log.compact()
                before_ms = now_ms - rng.choice((0, 90_000, 1_800_000))
                await log.trim(raw_before_ms=before_ms)
                log.forgotten = [
                    b for b in log.committed if minute_of(b.at_ms) < minute_of(before_ms) or b in log.forgotten
                ]
            elif step == "reopen":
                await log.store.close()
                log.store = SqliteStore(path)
                await log.store.open()
            else:
                await check(log, rng)
        await check(log, rng)
        await log.store.close()


async def check(log: HistoryLog, rng: random.Random) -> None:
    # A late beat to a minute whose beats were forgotten is itself kept until it is compacted.
    forgotten = {(b.node_key, minute_of(b.at_ms)) for b in log.forgotten}
    if all((b.node_key, minute_of(b.at_ms)) not in forgotten for b in log.kept):
        await log.check_beats("of all steps", nodes=(None, node_id(1)), limit=rng.choice((1, 5, 10_000)))
        await log.check_rollups("of all steps", of=node_id(1), bucket_ms=10_000)
    for bucket_ms in (MINUTE_MS, 15 * MINUTE_MS):
        await log.check_rollups("of all steps", of=node_id(rng.randrange(1, 4)), bucket_ms=bucket_ms)


@pytest.mark.usefixtures("small_steps")
async def test_a_pass_that_is_cut_off_anywhere_goes_on_after_a_restart(tmp_path: Path) -> None:
    rng = random.Random(1)
    path = tmp_path / "nodes.db"
    moved, restarts, more = 0, 0, True
    async with opened_history(lambda: SqliteStore(path)) as log:
        await log.write(*(random_beat(rng, START_MS + rng.randrange(5 * MINUTE_MS)) for _ in range(20)))
    while more:
        async with opened_history(lambda: SqliteStore(path), after=log) as log:
            step = await log.store.compact_beats(closed_ms=EVER_MS, settled_block=0)
            await log.check_beats("in the middle of a pass")
            moved, more, restarts = moved + step.beats, step.more, restarts + 1
    assert (moved, restarts > 5) == (20, True)


async def test_a_step_planned_on_a_state_that_has_moved_is_not_written(tmp_path: Path) -> None:
    async with opened_history(lambda: SqliteStore(tmp_path / "nodes.db")) as log:
        await log.write(*(make_beat(node_id(n), START_MS) for n in range(9)))
        # The contract forbids two at once; a step whose caller was cancelled may still be under way all the same.
        steps: list[Any] = [log.store.compact_beats(closed_ms=EVER_MS, settled_block=0) for _ in range(6)]
        await asyncio.gather(*steps)
        await log.compact()
        await log.check_beats("after steps that overlapped")
        await log.check_rollups("after steps that overlapped", of=node_id(1), bucket_ms=MINUTE_MS)


async def test_a_step_whose_caller_goes_away_is_written_once(tmp_path: Path) -> None:
    async with opened_history(lambda: SqliteStore(tmp_path / "nodes.db")) as log:
        for turns in range(12):
            await log.write(make_beat(node_id(1), START_MS + turns))
            step = asyncio.ensure_future(log.store.compact_beats(closed_ms=EVER_MS, settled_block=0))
            for _ in range(turns):
                await asyncio.sleep(0)
            step.cancel()
            await asyncio.wait([step])
            await log.compact()
            await log.check_beats(f"after a step cancelled after {turns} turns")
            await log.check_rollups("after a cancelled step", of=node_id(1), bucket_ms=MINUTE_MS)


async def test_a_step_writes_nothing_once_the_file_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    async with opened_history(lambda: SqliteStore(path)) as log:
        await log.write(make_beat(node_id(1)))
        path.rename(tmp_path / "elsewhere.db")
        with pytest.raises(StoreUnavailable):
            await log.compact()
        (tmp_path / "elsewhere.db").rename(path)
        assert await log.compact() == 1
        await log.check_beats("once the file is back")


async def test_commits_go_on_between_steps(tmp_path: Path) -> None:
    async with opened_history(lambda: SqliteStore(tmp_path / "nodes.db")) as log:
        await log.write(*(make_beat(node_id(n), START_MS) for n in range(2000)))
        compacting = asyncio.ensure_future(log.compact())
        commits = 0
        while not compacting.done():
            node = make_node(commits)
            event = make_event(commits + 1, node)
            await log.store.commit(
                WriteBatch(batch_id=batch_id(1000 + commits), base=Revision(commits), events=[event], nodes=[node])
            )
            commits += 1
        assert await compacting == 2000
        assert commits > 2


def count(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        (rows,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(rows)


async def test_every_minute_of_beats_has_a_rollup(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    rng = random.Random(2)
    async with opened_history(lambda: SqliteStore(path)) as log:
        await log.write(*(random_beat(rng, START_MS + rng.randrange(20 * MINUTE_MS)) for _ in range(200)))
        await log.compact()
        rollups = count(path, "heartbeat_rollups")
        assert count(path, "heartbeat_minutes") == rollups
        await log.trim(raw_before_ms=START_MS + 5 * MINUTE_MS)
        assert 0 < count(path, "heartbeat_minutes") < count(path, "heartbeat_rollups") == rollups
        await log.trim(max_bytes=2000)
        assert 0 < count(path, "heartbeat_minutes") <= count(path, "heartbeat_rollups") < rollups


async def test_the_size_that_is_told_is_about_what_the_file_takes(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    async with opened_history(lambda: SqliteStore(path)) as log:
        figures = {"cpu_load": 1.5, "mem_used_mb": 2.5, "latency_ms": 3.5}
        for minute in range(30):
            beats = [
                make_beat(node_id(n), START_MS + minute * MINUTE_MS + at * 10_000, seq=minute * 6 + at, **figures)
                for n in range(50)
                for at in range(6)
            ]
            block = await log.write(*beats)
        await log.write(presence_block=block)
        empty = (await log.trim())[1]
        await log.compact()
        _, told = await log.trim()
        # Compacted, a beat takes less than in its block.
        assert 0.2 * empty < told < empty
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("VACUUM")
    assert 0.75 < told / path.stat().st_size < 1.1


def test_writes_are_paced_by_how_long_the_last_ones_took() -> None:
    pace = history._Pace()
    for _ in range(20):
        pace.took(history.WRITE_S * 4, rows=pace.rows)
    assert pace.rows == history.SLICE_ROWS[0]
    pace.took(history.WRITE_S / 10, rows=pace.rows - 1)
    assert pace.rows == history.SLICE_ROWS[0]  # a write that was short says nothing about longer ones
    for _ in range(20):
        pace.took(history.WRITE_S / 10, rows=pace.rows)
    assert pace.rows == history.SLICE_ROWS[1]


async def test_compaction_folds_the_log_that_it_fills(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    async with opened_history(lambda: SqliteStore(path)) as log:
        for minute in range(10):
            await log.write(*(make_beat(node_id(n), START_MS + minute * MINUTE_MS) for n in range(4000)))
            await log.compact()
        # Unfolded it would be twice that by now; a commit folds it only from 16 MiB on.
        assert path.with_name("nodes.db-wal").stat().st_size < 4 * 2**20


async def test_what_a_read_of_one_node_costs_does_not_grow_with_the_store(tmp_path: Path) -> None:
    async def steps(store: SqliteStore) -> int:
        """Instructions of SQLite's virtual machine, in hundreds, that reading one node's hour takes."""
        counted = 0

        def count_one() -> int:
            nonlocal counted
            counted += 1
            return 0

        def watch(connection: sqlite3.Connection) -> None:
            connection.set_progress_handler(count_one, 100)

        await store._reading.run(watch)
        until_ms = START_MS + 60 * MINUTE_MS
        found = await store.read_beats(node_id=node_id(1), since_ms=START_MS, until_ms=until_ms, limit=10_000)
        assert len(found) == 60
        rolled_up = await store.read_rollups(
            node_id=node_id(1), since_ms=START_MS, until_ms=until_ms, bucket_ms=5 * MINUTE_MS
        )
        assert rolled_up is not None
        assert len(rolled_up) == 12
        return counted

    found = []
    for nodes, minutes in ((1, 60), (200, 60), (200, 180)):
        store = SqliteStore(tmp_path / f"{nodes}-{minutes}.db")
        await store.open()
        log = HistoryLog(store)
        for minute in range(minutes):
            await log.write(*(make_beat(node_id(n + 1), START_MS + minute * MINUTE_MS) for n in range(nodes)))
        await log.write(presence_block=minutes)
        await log.compact()
        found.append(await steps(store))
        await store.close()
    assert max(found) <= min(found) + 2


async def test_what_a_read_of_one_node_costs_does_not_grow_with_what_others_have_in_new_blocks(tmp_path: Path) -> None:
    async def steps(store: SqliteStore) -> int:
        """Instructions of SQLite's virtual machine, in tens, that reading one node's minute takes."""
        counted = 0

        def count_one() -> int:
            nonlocal counted
            counted += 1
            return 0

        await store._reading.run(lambda connection: connection.set_progress_handler(count_one, 10))
        bounds = {"node_id": node_id(1), "since_ms": START_MS, "until_ms": START_MS + MINUTE_MS}
        assert len(await store.read_beats(**bounds, limit=10_000)) == 6
        assert len(await store.read_rollups(**bounds, bucket_ms=MINUTE_MS) or []) == 1
        return counted

    found = []
    for others in (0, 50):
        path = tmp_path / f"{others}.db"
        log = HistoryLog(SqliteStore(path))
        await log.store.open()
        for second in range(0, 60, 10):
            await log.write(make_beat(node_id(1), START_MS + second * 1000))
            for other in range(others):
                await log.write(make_beat(node_id(2 + other), START_MS + second * 1000))
        found.append(await steps(log.store))
        await log.store.close()
        # As after a crash: a start comes by all blocks, to replay them.
        log.store = SqliteStore(path)
        await log.store.open()
        after = 0
        while page := await log.store.scan_blocks(after=after, limit=100):
            after = page[-1].id
        found.append(await steps(log.store))
        await log.store.close()
    assert max(found) <= min(found) + 2


async def test_blocks_from_before_the_start_are_searched_where_nothing_came_by_them(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    log = HistoryLog(SqliteStore(path))
    await log.store.open()
    for second in range(5):
        await log.write(make_beat(node_id(1), START_MS + second), make_beat(node_id(2), START_MS + second))
    await log.store.close()
    log.store = SqliteStore(path)
    await log.store.open()
    await log.store.scan_blocks(after=3, limit=100)
    await log.write(make_beat(node_id(1), START_MS + 5))
    found = await log.store.read_beats(node_id=node_id(1), since_ms=START_MS, until_ms=START_MS + 9, limit=100)
    assert [beat.at_ms - START_MS for beat in found] == list(range(6))
    await log.store.close()


async def test_a_read_that_compaction_overtakes_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = HistoryLog(SqliteStore(tmp_path / "nodes.db"))
    await log.store.open()
    await log.write(make_beat(node_id(1), START_MS))
    tables = log.store._history
    asked = tables.recent.of
    waiting, passed = threading.Event(), threading.Event()

    def of(key: bytes) -> Known:
        if not waiting.is_set():
            waiting.set()
            assert passed.wait(10)
        return asked(key)

    monkeypatch.setattr(tables.recent, "of", of)
    reading = asyncio.create_task(
        log.store.read_beats(node_id=node_id(1), since_ms=START_MS, until_ms=START_MS + 1, limit=9)
    )
    await asyncio.to_thread(waiting.wait, 10)
    await log.compact()
    passed.set()
    assert len(await reading) == 1
    await log.store.close()


def beats_of(*nodes: int) -> list[PackedBeat]:
    return [make_beat(node_id(node), START_MS) for node in nodes]


def test_the_index_of_new_blocks_names_each_block_once_and_forgets_what_is_compacted() -> None:
    index, key = RecentBlocks(), node_key(node_id(1))
    index.begin(4)
    index.add(5, beats_of(1, 2, 1))
    index.add(6, beats_of(2))
    index.add(7, beats_of(1))
    assert index.of(key) == Known([5, 7], since=4, forgotten=0)
    index.forget(5)
    assert index.of(key) == Known([7], since=4, forgotten=5)
    index.forget(7)
    assert index.of(key) == Known([], since=4, forgotten=7)
    assert index._beats == 0


def test_the_index_of_new_blocks_begins_anew_when_it_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "BEATS_MAX", 3)
    index, key = RecentBlocks(), node_key(node_id(1))
    index.add(1, beats_of(1, 2))
    index.add(2, beats_of(1, 2))
    assert index.of(key).blocks == [1, 2]
    index.add(3, beats_of(1))
    assert index.of(key) == Known([], since=3, forgotten=0)
    index.add(4, beats_of(1))
    assert index.of(key) == Known([4], since=3, forgotten=0)


def test_the_index_knows_what_pages_in_a_row_came_by() -> None:
    index, key = RecentBlocks(), node_key(node_id(1))
    index.begin(9)
    index.seed(2, [(3, beats_of(1))])
    index.seed(5, [(6, beats_of(1)), (8, beats_of(1))])
    assert index.of(key).since == 9
    index.seed(8, [(9, beats_of(2))])
    assert index.of(key).since == 5
    assert [block for block in index.of(key).blocks if block > 5] == [6, 8]


def test_an_index_that_begins_anew_does_not_go_on_with_an_earlier_scan() -> None:
    index, key = RecentBlocks(), node_key(node_id(1))
    index.begin(3)
    index.seed(0, [(1, beats_of(1)), (2, beats_of(2)), (3, beats_of(1))])
    index.begin(4)
    index.seed(3, [(4, beats_of(2))])
    assert index.of(key) == Known([], since=3, forgotten=0)


def test_a_page_during_which_the_index_began_anew_is_none_to_go_on_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "BEATS_MAX", 1)
    index, key = RecentBlocks(), node_key(node_id(1))
    index.begin(2)

    def page() -> Iterator[tuple[int, list[PackedBeat]]]:
        yield 1, beats_of(1, 2)
        index.add(3, beats_of(2))

    index.seed(0, page())
    index.seed(1, [(2, beats_of(1)), (3, beats_of(2))])
    assert index.of(key) == Known([2], since=1, forgotten=0)
