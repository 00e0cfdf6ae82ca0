"""How a database stands: told without changing a byte of it, also when it is of another version."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from thunderline.block.memory import MemoryStore
from thunderline.block.sqlite import SqliteStore
from thunderline.block.sqlite import owner as owner_module
from thunderline.block.store import WriteBatch
from thunderline.block.upkeep import HeartbeatHistory
from thunderline.core.clock import SystemClock
from thunderline.core.errors import StoreIncompatible, UpkeepFailed
from thunderline.core.ids import Revision, new_uuid7
from thunderline.testing.records import batch_id, make_beat, make_event, make_node, make_session


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


async def fill(store: SqliteStore) -> None:
    for number in (1, 2):
        node = make_node(number)
        batch = WriteBatch(
            batch_id=batch_id(number),
            base=Revision(number - 1),
            events=[make_event(number, node)],
            nodes=[node],
            sessions=[make_session(number, node)],
            beats=[make_beat(node, seq=seq) for seq in (1, 2, 3)],
        )
        await store.commit(batch)


async def test_status_counts_what_is_there(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "nodes.db")
    head = await store.open()
    await fill(store)
    status = store.upkeep().status()
    assert status.held_by is not None
    assert status.held_by.pid == os.getpid()
    assert status.held_by.since is not None
    assert (status.log_id, status.revision, status.oldest) == (head.log_id, 2, 0)
    assert (status.nodes, status.open_sessions, status.events) == (2, 2, 2)
    assert status.heartbeats is not None
    assert status.heartbeats == HeartbeatHistory(rows=2, beats=6, size_bytes=status.heartbeats.size_bytes)
    assert status.heartbeats.size_bytes > 0
    assert (status.schema_version, status.pending, status.unknown) == (status.schema_version, [], [])
    assert status.wal_bytes == (tmp_path / "nodes.db-wal").stat().st_size > 0
    assert status.engine == f"SQLite {sqlite3.sqlite_version}"
    await store.close()
    closed = store.upkeep().status()
    assert (closed.held_by, closed.wal_bytes, closed.revision) == (None, 0, 2)
    assert closed.file_bytes == (tmp_path / "nodes.db").stat().st_size


async def test_closed_database_is_looked_at_without_a_trace(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "nodes.db") as store:
        await fill(store)
    before = contents(tmp_path)
    assert SqliteStore(tmp_path / "nodes.db").upkeep().status().revision == 2
    assert contents(tmp_path) == before


@pytest.mark.parametrize("with_index", [True, False])
async def test_database_of_a_killed_server_is_looked_at_as_it_is(tmp_path: Path, with_index: bool) -> None:
    (tmp_path / "left").mkdir()
    async with SqliteStore(tmp_path / "nodes.db") as store:
        await fill(store)
        for suffix in ("", "-wal", "-shm") if with_index else ("", "-wal"):
            shutil.copy(tmp_path / f"nodes.db{suffix}", tmp_path / "left" / f"nodes.db{suffix}")
    before = contents(tmp_path / "left")
    status = SqliteStore(tmp_path / "left" / "nodes.db").upkeep().status()
    assert (status.revision, status.nodes) == (2, 2)
    assert status.wal_bytes == len(before["nodes.db-wal"])
    after = contents(tmp_path / "left")
    if not with_index:
        del after["nodes.db-shm"]  # of nothing but what the log says
    assert after == before


async def test_holder_is_seen_without_the_kernels_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner_module, "_KERNEL_LOCKS", tmp_path / "none")
    async with SqliteStore(tmp_path / "nodes.db") as store:
        holder = store.upkeep().holder()
        assert holder is not None
        assert holder.pid == os.getpid()
    assert store.upkeep().holder() is None


async def test_holder_is_known_to_the_kernel_when_its_lock_file_tells_nothing(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux lists locks")
    async with SqliteStore(tmp_path / "nodes.db") as store:
        (tmp_path / "nodes.db.lock").write_bytes(b"")
        holder = store.upkeep().holder()
        assert holder is not None
        assert (holder.pid, holder.since) == (os.getpid(), None)


async def test_database_of_a_later_version_is_described(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "nodes.db") as store:
        await fill(store)
    with closing(sqlite3.connect(tmp_path / "nodes.db", isolation_level=None)) as connection:
        connection.execute("INSERT INTO migrations VALUES (9000, 'later', 'x', 0)")
        connection.execute("ALTER TABLE heartbeat_blocks RENAME TO beats_of_later")
    status = SqliteStore(tmp_path / "nodes.db").upkeep().status()
    assert (status.schema_version, status.unknown, status.revision) == (9000, ["9000_later"], 2)
    assert status.heartbeats is None
    with pytest.raises(StoreIncompatible):
        await SqliteStore(tmp_path / "nodes.db").open()


def test_empty_file_lacks_everything(tmp_path: Path) -> None:
    (tmp_path / "nodes.db").touch()
    status = SqliteStore(tmp_path / "nodes.db").upkeep().status()
    assert (status.schema_version, status.revision, status.nodes) == (0, None, None)
    assert status.pending[0] == "0001_foundation"


def test_foreign_and_damaged_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello " * 1000)
    with pytest.raises(StoreIncompatible, match="not an SQLite database"):
        SqliteStore(tmp_path / "notes.txt").upkeep().status()
    with closing(sqlite3.connect(tmp_path / "theirs.db")) as theirs:
        theirs.execute("CREATE TABLE bookmarks (url TEXT)")
    with pytest.raises(StoreIncompatible, match="another program"):
        SqliteStore(tmp_path / "theirs.db").upkeep().status()
    with pytest.raises(StoreIncompatible, match="is a directory"):
        SqliteStore(tmp_path).upkeep().status()


def test_path_below_a_file_is_told(tmp_path: Path) -> None:
    long = tmp_path / ("n" * 300)
    with pytest.raises(UpkeepFailed, match="File name too long"):
        SqliteStore(long).upkeep().status()


def test_store_in_memory_needs_no_upkeep() -> None:
    assert MemoryStore.from_url("", clock=SystemClock(), ids=new_uuid7, writer_id="registry").upkeep() is None


async def test_status_counts_heartbeats_that_were_compacted_too(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "nodes.db") as store:
        await fill(store)
        batch = WriteBatch(batch_id=batch_id(3), base=Revision(2), presence_block=2)
        await store.commit(batch)
        before = store.upkeep().status().heartbeats
        while (await store.compact_beats(closed_ms=2**60, settled_block=2)).more:
            pass
        after = store.upkeep().status().heartbeats
        assert before is not None
        assert after is not None
        assert (before.beats, after.beats, after.rows) == (6, 6, 2)
        assert after.size_bytes > 0
