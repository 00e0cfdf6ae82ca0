"""One process per SQLite file, told apart by the kernel; and files that are not ours are left alone."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from thunderline.block.sqlite import SqliteStore
from thunderline.block.sqlite import owner as owner_module
from thunderline.block.store import WriteBatch
from thunderline.core.errors import SettingsError, StoreIncompatible, StoreLocked, StoreUnavailable
from thunderline.core.ids import Revision
from thunderline.testing.records import batch_id, make_node

OPEN_AND_HOLD = """
import asyncio, sys
from thunderline.block.sqlite import SqliteStore
from thunderline.core.errors import StoreLocked

async def main():
    try:
        async with SqliteStore(sys.argv[1]):
            print("open", flush=True)
            sys.stdin.readline()
    except StoreLocked as error:
        print(error.owner, flush=True)

asyncio.run(main())
"""


@contextmanager
def another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that opens the store at `path` and keeps it until a line comes in, or says who owns it."""
    with subprocess.Popen(
        [sys.executable, "-c", OPEN_AND_HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def test_second_process_is_refused_with_the_owners_pid_until_the_owner_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    with another_process(path) as owner:
        assert said(owner) == "open"
        with pytest.raises(StoreLocked) as caught:
            await SqliteStore(path).open()
        assert f"process {owner.pid} on " in caught.value.owner
        assert str(path) in str(caught.value)
        owner.kill()  # SIGKILL: no handler of ours runs, the kernel alone gives the lock back
        owner.wait()
        async with SqliteStore(path) as store:
            assert await store.scan_nodes(after=None, limit=1) == []


async def test_owner_in_this_process_refuses_another(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    async with SqliteStore(path):
        with another_process(path) as second:
            assert said(second).startswith(f"process {os.getpid()} on ")


async def test_database_that_another_connection_of_this_process_uses_keeps_its_locks_when_refused(
    tmp_path: Path,
) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as theirs:
        theirs.execute("CREATE TABLE bookmarks (url TEXT)")
        theirs.execute("BEGIN IMMEDIATE")
        before = record_locks(path)
        assert before
        with pytest.raises(StoreIncompatible, match="another program"):
            await SqliteStore(path).open()
        assert record_locks(path) == before


async def test_second_open_in_the_same_process_is_refused_and_harms_nobody(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    async with SqliteStore(path) as store:
        second = SqliteStore(path)
        with pytest.raises(StoreLocked) as caught:
            await second.open()
        assert f"process {os.getpid()} on " in caught.value.owner
        await second.close()
        await store.commit(WriteBatch(batch_id=batch_id(1), base=Revision(0), nodes=[make_node(1)]))
        with pytest.raises(StoreLocked):
            await SqliteStore(path).open()
        with pytest.raises(StoreLocked):
            await store.open()
    async with SqliteStore(path) as store:
        assert await store.scan_nodes(after=None, limit=9) == [make_node(1)]


async def test_symlinked_path_meets_the_same_lock(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link-to-directory").symlink_to("data")
    (tmp_path / "link-to-file.db").symlink_to("data/nodes.db")
    async with SqliteStore(tmp_path / "data" / "nodes.db"):
        for other in ("link-to-file.db", "link-to-directory/nodes.db", "data/../data/nodes.db"):
            with pytest.raises(StoreLocked):
                await SqliteStore(tmp_path / other).open()


async def test_hard_link_is_refused_with_the_owners_pid_and_gets_nothing_beside_it(tmp_path: Path) -> None:
    path, link = tmp_path / "nodes.db", tmp_path / "link.db"
    async with SqliteStore(path) as store:
        link.hardlink_to(path)
        with another_process(link) as second:
            assert said(second).startswith(f"process {os.getpid()} on ")
        assert [name for name in os.listdir(tmp_path) if name.startswith("link.db")] == ["link.db"]
        await store.commit(WriteBatch(batch_id=batch_id(1), base=Revision(0), nodes=[make_node(1)]))
    async with SqliteStore(link) as store:
        assert await store.scan_nodes(after=None, limit=9) == [make_node(1)]


def record_locks(path: Path) -> list[str]:
    """The record locks on a file, which are those of SQLite."""
    inode = str(path.stat().st_ino)
    lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return sorted(" ".join(line[1:]) for line in lines if "POSIX" in line and line[5].split(":")[-1] == inode)


@pytest.mark.parametrize("kernel_tells", [True, False])
async def test_hard_link_in_the_same_process_is_refused_and_leaves_the_owner_its_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel_tells: bool
) -> None:
    if not kernel_tells:
        monkeypatch.setattr(owner_module, "_KERNEL_LOCKS", tmp_path / "none")
    path, link = tmp_path / "nodes.db", tmp_path / "link.db"
    async with SqliteStore(path) as store:
        link.hardlink_to(path)
        before = record_locks(path)
        assert before
        with pytest.raises(StoreLocked) as caught:
            await SqliteStore(link).open()
        assert caught.value.owner.startswith(f"process {os.getpid()} on " if kernel_tells else "another process")
        assert record_locks(path) == before
        await store.commit(WriteBatch(batch_id=batch_id(1), base=Revision(0), nodes=[make_node(1)]))
    assert record_locks(path) == []


async def test_removed_lock_file_frees_nothing(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    async with SqliteStore(path):
        (tmp_path / "nodes.db.lock").unlink()
        with another_process(path) as second:
            assert said(second).startswith(f"process {os.getpid()} on ")
    async with SqliteStore(path):
        pass


async def test_dangling_symlink_leads_to_one_database(tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to("data/nodes.db")
    async with SqliteStore(tmp_path / "link.db"):
        with pytest.raises(StoreLocked):
            await SqliteStore(tmp_path / "data" / "nodes.db").open()
    assert (tmp_path / "data" / "nodes.db").is_file()


async def test_relative_path_survives_a_change_of_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = SqliteStore("nodes.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    async with store:
        pass
    assert (tmp_path / "nodes.db").is_file()
    assert list((tmp_path / "elsewhere").iterdir()) == []


async def test_owner_that_wrote_no_name_yet_is_another_process(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "nodes.db"):
        (tmp_path / "nodes.db.lock").write_bytes(b'{"pid": \xff')
        with pytest.raises(StoreLocked) as caught:
            await SqliteStore(tmp_path / "nodes.db").open()
    assert caught.value.owner == "another process"


async def test_lock_file_that_takes_no_name_leaves_the_database_free(tmp_path: Path) -> None:
    lock = tmp_path / "nodes.db.lock"
    lock.symlink_to("/dev/full")
    with pytest.raises(StoreUnavailable, match=r"nodes\.db\.lock"):
        await SqliteStore(tmp_path / "nodes.db").open()
    lock.unlink()
    async with SqliteStore(tmp_path / "nodes.db"):
        pass


async def test_failed_open_gives_the_lock_back(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreIncompatible):
        await SqliteStore(path).open()
    path.unlink()
    async with SqliteStore(path):
        pass


async def test_close_cancelled_while_a_commit_runs_still_frees_the_database(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    store = SqliteStore(path)
    await store.open()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # the commit now waits, and the close behind it
        batch = WriteBatch(batch_id=batch_id(1), base=Revision(0), nodes=[make_node(1)])
        committing = asyncio.ensure_future(store.commit(batch))
        closing_ = asyncio.ensure_future(store.close())
        while any(thread.name.startswith("sqlite-reader") for thread in threading.enumerate()):  # noqa: ASYNC110
            await asyncio.sleep(0)  # until the reader has ended: then the close is under way
        closing_.cancel()
        await asyncio.wait([closing_])
        assert closing_.cancelled()
        with pytest.raises(StoreUnavailable, match="not open"):
            await store.scan_nodes(after=None, limit=1)
        other.execute("ROLLBACK")
    await committing
    await store.close()
    async with SqliteStore(path) as reopened:
        assert await reopened.scan_nodes(after=None, limit=9) == [make_node(1)]


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


async def refused_untouched(path: Path, match: str) -> None:
    before = contents(path.parent)
    with pytest.raises(StoreIncompatible, match=match):
        await SqliteStore(path).open()
    after = contents(path.parent)
    assert {name: after.pop(name) for name in before} == before
    # Whoever reads a database in WAL mode leaves these beside it.
    assert after.pop(f"{path.name}-wal", b"") == b""
    after.pop(f"{path.name}-shm", None)
    assert after == {}


@pytest.mark.parametrize("journal_mode", ["DELETE", "WAL"])
async def test_database_of_another_program_is_refused_and_left_untouched(tmp_path: Path, journal_mode: str) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA journal_mode = {journal_mode}")
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    await refused_untouched(path, "another program")


async def test_log_that_another_program_left_behind_is_not_folded_into_its_file(tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    (tmp_path / "left").mkdir()
    with closing(sqlite3.connect(tmp_path / "live" / "theirs.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
        for name in ("theirs.db", "theirs.db-wal"):  # as after their crash
            shutil.copy(tmp_path / "live" / name, tmp_path / "left" / name)
    await refused_untouched(tmp_path / "left" / "theirs.db", "another program")


async def test_empty_database_with_the_mark_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA application_id = 1196444487")
    await refused_untouched(path, "another program")


@pytest.mark.parametrize("content", [b"hello", b"hello " * 5000, b"SQLite format 3\0", b"\0" * 4096])
async def test_file_that_is_no_database_is_refused_and_left_untouched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    await refused_untouched(path, r"notes\.txt is not an SQLite database|another program")


async def test_empty_file_becomes_a_database(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    path.touch()
    async with SqliteStore(path) as store:
        assert await store.scan_nodes(after=None, limit=1) == []


async def test_missing_directories_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b c" / "50%" / "nodes?#.db"
    async with SqliteStore(path) as store:
        assert store.location == str(path)
    async with SqliteStore(path):
        assert path.is_file()


@pytest.mark.parametrize("path", ["/proc/nodes.db", "/proc/none/nodes.db", "/dev/null/nodes.db"])
async def test_place_that_takes_no_file_is_named_and_keeps_nothing(path: str) -> None:
    if not Path(path).parents[-2].exists():
        pytest.skip(f"no {path} on this system")
    with pytest.raises(StoreUnavailable, match=str(Path(path).parent)):
        await SqliteStore(path).open()


async def test_unwritable_directory_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root writes everywhere")
    directory = tmp_path / "read-only"
    directory.mkdir(mode=0o500)
    with pytest.raises(StoreUnavailable, match="read-only"):
        await SqliteStore(directory / "nodes.db").open()


async def test_directory_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nodes.db").mkdir()
    with pytest.raises(StoreIncompatible, match=r"nodes\.db is a directory"):
        await SqliteStore(tmp_path / "nodes.db").open()
    assert os.listdir(tmp_path) == ["nodes.db"]


async def test_device_in_the_place_of_the_file_is_refused() -> None:
    with pytest.raises(StoreIncompatible, match="/dev/null is not a regular file"):
        await SqliteStore("/dev/null").open()


async def test_pipe_in_the_place_of_the_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "nodes.db")
    with pytest.raises(StoreIncompatible, match="not a regular file"):
        await SqliteStore(tmp_path / "nodes.db").open()


@pytest.mark.parametrize("path", ["a\0b.db", "\ud800.db", "loop.db", "loop.db/nodes.db"])
def test_path_that_can_name_no_file_is_a_bad_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop.db").symlink_to("loop.db")
    with pytest.raises(SettingsError, match="is not the path of a file") as caught:
        SqliteStore(path)
    assert caught.value.field == "store"


async def test_damaged_database_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    async with SqliteStore(path):
        pass
    (tmp_path / "nodes.db.lock").unlink()
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996  # the first page's tree, behind a header that is whole
    path.write_bytes(content)
    with pytest.raises(StoreIncompatible, match=r"nodes\.db is damaged .*backup"):
        await SqliteStore(path).open()
    assert path.read_bytes() == content
    assert not (tmp_path / "nodes.db.lock").exists()


async def test_database_with_our_mark_and_other_tables_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    async with SqliteStore(path):
        pass
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TABLE log_head")
    with pytest.raises(StoreIncompatible, match="no such table: log_head"):
        await SqliteStore(path).open()


async def test_two_databases_have_two_logs(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "a.db") as one, SqliteStore(tmp_path / "b.db") as two:
        await one.close()
        await two.close()
        heads = [await one.open(), await two.open()]
    assert heads[0].log_id != heads[1].log_id


async def test_files_of_the_database_are_not_for_others_to_read(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "nodes.db"):
        assert (tmp_path / "nodes.db.lock").stat().st_mode & 0o077 == 0
