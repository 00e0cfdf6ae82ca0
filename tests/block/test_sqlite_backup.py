"""Backups of a database that is in use: of one revision, whole or not there, and nobody waits for them."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from thunderline.block.sqlite import SqliteStore
from thunderline.block.sqlite import backup as backup_module
from thunderline.block.store import WriteBatch
from thunderline.core.errors import FileInTheWay, NoDatabase, StoreIncompatible, UpkeepFailed
from thunderline.core.ids import Revision
from thunderline.testing.records import batch_id, make_beat, make_event, make_node


def silent(step: str, done: int, total: int) -> None:
    pass


def left_behind(directory: Path) -> list[str]:
    """What a backup into `b.db` left."""
    return sorted(name for name in os.listdir(directory) if "b.db" in name)


class Load:
    """Commits one after the other: each changes one node's address, in its record and in an event."""

    def __init__(self, store: SqliteStore, nodes: int) -> None:
        self._store = store
        self._nodes = [make_node(number, meta={"filler": f"{number} " * 100}) for number in range(1, nodes + 1)]
        self.revision = 0

    async def commit(self, changes: int = 1) -> None:
        events = []
        for at in range(self.revision, self.revision + changes):
            node = self._nodes[at % len(self._nodes)]
            node = msgspec.structs.replace(node, address=f"at {at + 1}", revision=Revision(at + 1))
            self._nodes[at % len(self._nodes)] = node
            events.append(make_event(at + 1, node))
        latest = {event.payload.id: event.payload for event in events}
        batch = WriteBatch(
            batch_id=batch_id(self.revision + 1),
            base=Revision(self.revision),
            events=events,
            nodes=list(latest.values()),
            beats=[make_beat(self._nodes[0], seq=self.revision + 1)],
        )
        await self._store.commit(batch)
        self.revision += changes

    async def fill(self) -> None:
        while self.revision < len(self._nodes):
            await self.commit(500)


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
        return connection.execute(sql).fetchall()


async def test_backup_under_load_holds_everything_up_to_its_revision_and_nothing_after(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "nodes.db") as store:
        load = Load(store, 8_000)
        await load.fill()
        reports: list[tuple[str, int, int]] = []
        loop = asyncio.get_running_loop()
        copying = asyncio.Event()

        def report(step: str, done: int, total: int) -> None:
            reports.append((step, done, total))
            loop.call_soon_threadsafe(copying.set)

        before = load.revision
        backing_up = asyncio.create_task(
            asyncio.to_thread(store.upkeep().backup, tmp_path / "b.db", overwrite=False, report=report)
        )
        await copying.wait()
        while not backing_up.done():
            await load.commit()
        done = await backing_up
        assert before <= done.revision < load.revision
    copied = [at for step, at, _ in reports if step == "copying"]
    assert copied == sorted(copied), "the copy began anew"
    assert copied[-1] == done.size_bytes == (tmp_path / "b.db").stat().st_size
    assert rows(tmp_path / "b.db", "SELECT count(*), max(revision) FROM events") == [(done.revision, done.revision)]
    assert rows(tmp_path / "b.db", "PRAGMA integrity_check") == [("ok",)]
    newest = """
        SELECT count(*) FROM nodes AS n
        WHERE n.revision IS NOT (SELECT max(revision) FROM events WHERE entity_id = n.id)
          OR n.record IS NOT (SELECT payload FROM events WHERE entity_id = n.id ORDER BY revision DESC LIMIT 1)"""
    assert rows(tmp_path / "b.db", newest) == [(0,)]


async def test_backup_is_one_file_for_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    async with SqliteStore(tmp_path / "nodes.db") as store:
        await Load(store, 500).fill()
        store.upkeep().backup(tmp_path / "out" / "b.db", overwrite=False, report=silent)
        assert os.listdir(tmp_path / "out") == ["b.db"]
        assert (tmp_path / "out" / "b.db").stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(f"file:{tmp_path}/out/b.db?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("SELECT revision FROM log_head").fetchone() == (500,)
        assert os.listdir(tmp_path / "out") == ["b.db"]


async def test_store_keeps_its_locks_over_a_backup(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "nodes.db") as store:
        load = Load(store, 500)
        await load.fill()
        before = record_locks(tmp_path / "nodes.db-shm")
        assert before
        store.upkeep().backup(tmp_path / "b.db", overwrite=False, report=silent)
        store.upkeep().status()
        assert record_locks(tmp_path / "nodes.db-shm") == before
        await load.commit()


def record_locks(path: Path) -> list[str]:
    inode = str(path.stat().st_ino)
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return sorted(" ".join(line[1:]) for line in lines if "POSIX" in line and line[5].split(":")[-1] == inode)


async def test_file_that_exists_is_overwritten_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "b.db").write_text("mine")
    async with SqliteStore(tmp_path / "nodes.db") as store:
        with pytest.raises(FileInTheWay, match="--force"):
            store.upkeep().backup(tmp_path / "b.db", overwrite=False, report=silent)
        assert (tmp_path / "b.db").read_text() == "mine"
        done = store.upkeep().backup(tmp_path / "b.db", overwrite=True, report=silent)
        assert rows(tmp_path / "b.db", "SELECT log_id FROM log_head") == [(done.log_id,)]
        assert (tmp_path / "b.db").stat().st_mode & 0o777 == 0o600


async def test_file_that_appears_during_a_backup_is_not_overwritten(tmp_path: Path) -> None:
    def appear(step: str, done: int, total: int) -> None:
        (tmp_path / "b.db").write_text("mine")

    async with SqliteStore(tmp_path / "nodes.db") as store:
        with pytest.raises(FileInTheWay):
            store.upkeep().backup(tmp_path / "b.db", overwrite=False, report=appear)
    assert (tmp_path / "b.db").read_text() == "mine"
    assert left_behind(tmp_path) == ["b.db"]


@pytest.mark.parametrize("name", ["nodes.db", "nodes.db-wal", "nodes.db.lock", "link.db"])
async def test_database_is_never_its_own_backup(tmp_path: Path, name: str) -> None:
    async with SqliteStore(tmp_path / "nodes.db") as store:
        (tmp_path / "link.db").symlink_to("nodes.db")
        with pytest.raises(UpkeepFailed, match="belongs to the database itself"):
            store.upkeep().backup(tmp_path / name, overwrite=True, report=silent)
        await Load(store, 500).fill()


async def test_backup_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def report(step: str, done: int, total: int) -> None:
        assert (tmp_path / ".b.db.partial").exists()
        raise Enough

    async with SqliteStore(tmp_path / "nodes.db") as store:
        await Load(store, 500).fill()
        with pytest.raises(Enough):
            store.upkeep().backup(tmp_path / "b.db", overwrite=False, report=report)
        assert left_behind(tmp_path) == []


async def test_copy_that_does_not_read_back_is_no_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup_module, "copy_database", lambda source, partial, **given: ("another", 1, 0))
    async with SqliteStore(tmp_path / "nodes.db") as store:
        with pytest.raises((UpkeepFailed, StoreIncompatible)):
            store.upkeep().backup(tmp_path / "b.db", overwrite=False, report=silent)
    assert left_behind(tmp_path) == []


async def test_what_a_killed_backup_left_is_taken_away_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".b.db.partial").write_bytes(b"half" * 10_000)
    async with SqliteStore(tmp_path / "nodes.db") as store:
        store.upkeep().backup(tmp_path / "b.db", overwrite=False, report=silent)
    assert rows(tmp_path / "b.db", "PRAGMA integrity_check") == [("ok",)]
    assert not (tmp_path / ".b.db.partial").exists()


async def test_two_backups_into_one_file_at_a_time_are_refused(tmp_path: Path) -> None:
    with (tmp_path / ".b.db.partial").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        async with SqliteStore(tmp_path / "nodes.db") as store:
            with pytest.raises(UpkeepFailed, match="another backup"):
                store.upkeep().backup(tmp_path / "b.db", overwrite=False, report=silent)


@pytest.mark.parametrize(("file", "problem"), [("none/b.db", "No such file"), ("dir", "is a directory")])
async def test_place_that_takes_no_file_is_named(tmp_path: Path, file: str, problem: str) -> None:
    (tmp_path / "dir").mkdir()
    async with SqliteStore(tmp_path / "nodes.db") as store:
        with pytest.raises(UpkeepFailed, match=problem):
            store.upkeep().backup(tmp_path / file, overwrite=True, report=silent)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root mounts a disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=64k tmpfs {disk} 2>/dev/null") != 0:
        pytest.skip("no disk can be mounted here")
    yield disk
    os.system(f"umount {disk}")


async def test_full_disk_is_told_and_keeps_nothing(tmp_path: Path, small_disk: Path) -> None:
    async with SqliteStore(tmp_path / "nodes.db") as store:
        await Load(store, 500).fill()
        with pytest.raises(UpkeepFailed, match="full"):
            store.upkeep().backup(small_disk / "b.db", overwrite=False, report=silent)
    assert os.listdir(small_disk) == []


async def test_database_that_nobody_holds_is_backed_up_with_what_its_log_holds(tmp_path: Path) -> None:
    (tmp_path / "left").mkdir()
    async with SqliteStore(tmp_path / "nodes.db") as store:
        await Load(store, 500).fill()
        for suffix in ("", "-wal"):  # as after `kill -9`
            shutil.copy(tmp_path / f"nodes.db{suffix}", tmp_path / "left" / f"nodes.db{suffix}")
    upkeep = SqliteStore(tmp_path / "left" / "nodes.db").upkeep()
    assert upkeep.backup(tmp_path / "b.db", overwrite=False, report=silent).revision == 500


def test_database_that_is_not_there_is_said_so_and_not_made(tmp_path: Path) -> None:
    upkeep = SqliteStore(tmp_path / "none" / "nodes.db").upkeep()
    with pytest.raises(NoDatabase, match="thunderline serve"):
        upkeep.backup(tmp_path / "b.db", overwrite=False, report=silent)
    with pytest.raises(NoDatabase):
        upkeep.status()
    assert os.listdir(tmp_path) == []
