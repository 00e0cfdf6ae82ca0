"""A backup is put in a database's place whole or not at all, as another log; what is not fit for it changes nothing."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from thunderline.block.sqlite import SqliteStore
from thunderline.block.sqlite import migrate as migrate_module
from thunderline.block.sqlite import status as status_module
from thunderline.block.store import WriteBatch
from thunderline.block.upkeep import Upkeep
from thunderline.core.errors import FileInTheWay, NotABackup, StoreLocked
from thunderline.core.ids import Revision
from thunderline.testing import ManualClock
from thunderline.testing.harness import open_cluster
from thunderline.testing.records import batch_id, make_beat, make_event, make_node, make_session


def silent(step: str, done: int, total: int) -> None:
    pass


def upkeep_of(path: Path) -> Upkeep:
    return SqliteStore(path).upkeep()


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def edit(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql)


async def fill(store: SqliteStore, numbers: range) -> None:
    for number in numbers:
        node = make_node(number)
        batch = WriteBatch(
            batch_id=batch_id(number),
            base=Revision(number - 1),
            events=[make_event(number, node)],
            nodes=[node],
            sessions=[make_session(number, node)],
            beats=[make_beat(node, seq=1)],
        )
        await store.commit(batch)


@pytest.fixture
async def backup(tmp_path: Path) -> Path:
    """A backup of three nodes with open sessions, at revision 3."""
    (tmp_path / "origin").mkdir()
    async with SqliteStore(tmp_path / "origin" / "nodes.db") as store:
        await fill(store, range(1, 4))
        store.upkeep().backup(tmp_path / "b.db", overwrite=False, report=silent)
    return tmp_path / "b.db"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory for the database that is restored."""
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


async def test_restored_database_holds_what_the_backup_holds_as_another_log(backup: Path, place: Path) -> None:
    async with SqliteStore(backup) as store:
        kept = (await store.scan_nodes(after=None, limit=9), await store.read_events(after=Revision(0), limit=9))
        log_id = store.upkeep().status().log_id
    done = upkeep_of(place / "deep" / "nodes.db").restore(backup, replace=False, report=silent)
    restored = SqliteStore(place / "deep" / "nodes.db")
    head = await restored.open()
    assert (head.log_id, head.revision, head.oldest) == (done.log_id, 3, 0)
    assert head.log_id != log_id
    assert kept == (
        await restored.scan_nodes(after=None, limit=9),
        await restored.read_events(after=Revision(0), limit=9),
    )
    assert len(await restored.scan_open_sessions(after=None, limit=9)) == 3
    assert len(await restored.read_beats(node_id=None, since_ms=0, until_ms=2**60, limit=9)) == 3
    await restored.close()


async def test_each_restore_of_one_backup_is_another_log(backup: Path, place: Path) -> None:
    done = [upkeep_of(place / name).restore(backup, replace=False, report=silent) for name in ("a.db", "b.db")]
    assert done[0].log_id != done[1].log_id


async def test_restored_registry_gives_everybody_a_deadline_and_gives_up_who_does_not_come_back(
    tmp_path: Path, place: Path
) -> None:
    async with open_cluster(store=SqliteStore(tmp_path / "nodes.db")) as cluster:
        for name in ("stays", "gone"):
            node = await cluster.node(name)
            session = {"session_id": f"of-{name}", "connection_type": "http"}
            (await node.announce(session=session)).raise_for_status()
        cluster.store.inner.upkeep().backup(tmp_path / "b.db", overwrite=False, report=silent)
        cursor = (await cluster.http.get("/api/graph")).json()["cursor"]
    upkeep_of(place / "nodes.db").restore(tmp_path / "b.db", replace=False, report=silent)
    async with open_cluster(store=SqliteStore(place / "nodes.db")) as cluster:
        answer = await cluster.http.get("/api/events", params={"since": cursor})
        assert (answer.status_code, answer.json()["code"]) == (410, "cursor_gone")
        assert {node.status for node in cluster.registry.list_nodes()} == {"online"}
        assert [cluster.registry.presence(name).sessions for name in ("stays", "gone")] == [1, 1]
        for _ in range(9):
            await cluster.turn(14)
            (await cluster.http.post("/api/nodes/stays/heartbeats", json={})).raise_for_status()
        assert cluster.registry.get_node("stays").status == "online"
        assert cluster.registry.get_node("gone").status == "offline"
        assert cluster.registry.presence("gone").sessions == 0
        assert (await cluster.http.post("/api/nodes", json={"name": "new"})).status_code == 201


async def test_held_database_is_not_replaced_and_its_holder_is_named(backup: Path, place: Path) -> None:
    async with SqliteStore(place / "nodes.db") as store:
        await fill(store, range(1, 2))
        with pytest.raises(StoreLocked) as caught:
            upkeep_of(place / "nodes.db").restore(backup, replace=True, report=silent)
        assert f"process {os.getpid()} on " in caught.value.owner
        await fill(store, range(2, 3))
    assert sorted(contents(place)) == ["nodes.db", "nodes.db.lock"]


async def test_existing_database_is_replaced_only_when_asked_and_kept_with_its_newest_commits(
    backup: Path, place: Path
) -> None:
    (place / "live").mkdir()
    async with SqliteStore(place / "live" / "nodes.db") as store:
        await fill(store, range(1, 8))
        for suffix in ("", "-wal", "-shm"):  # as after `kill -9`
            shutil.copy(place / "live" / f"nodes.db{suffix}", place / f"nodes.db{suffix}")
    with pytest.raises(FileInTheWay, match="--force"):
        upkeep_of(place / "nodes.db").restore(backup, replace=False, report=silent)
    assert upkeep_of(place / "nodes.db").status().revision == 7
    done = upkeep_of(place / "nodes.db").restore(backup, replace=True, report=silent)
    assert done.replaced is not None
    assert Path(done.replaced).name.startswith("nodes.db.before-restore-")
    assert sorted(contents(place)) == ["nodes.db", Path(done.replaced).name]
    assert upkeep_of(Path(done.replaced)).status().revision == 7
    assert upkeep_of(place / "nodes.db").status().revision == 3


async def test_two_restores_in_one_second_keep_both_databases(backup: Path, place: Path, clock: ManualClock) -> None:
    kept = set()
    for _ in range(3):
        upkeep = SqliteStore(place / "nodes.db", clock=clock).upkeep()
        kept.add(upkeep.restore(backup, replace=True, report=silent).replaced)
    assert len(kept) == 3
    assert len(contents(place)) == 3


async def test_mode_of_the_replaced_database_stays(backup: Path, place: Path) -> None:
    upkeep = upkeep_of(place / "nodes.db")
    upkeep.restore(backup, replace=False, report=silent)
    assert (place / "nodes.db").stat().st_mode & 0o777 == 0o600
    (place / "nodes.db").chmod(0o640)
    upkeep.restore(backup, replace=True, report=silent)
    assert (place / "nodes.db").stat().st_mode & 0o777 == 0o640


async def test_damaged_database_is_replaced_and_kept_with_its_log(backup: Path, place: Path) -> None:
    (place / "nodes.db").write_bytes(b"damaged" * 1000)
    (place / "nodes.db-wal").write_bytes(b"its log")
    (place / "nodes.db-journal").write_bytes(b"its journal")
    done = upkeep_of(place / "nodes.db").restore(backup, replace=True, report=silent)
    assert done.replaced is not None
    kept, after = Path(done.replaced).name, contents(place)
    assert (after[kept], after[f"{kept}-wal"]) == (b"damaged" * 1000, b"its log")
    assert sorted(after) == ["nodes.db", kept, f"{kept}-journal", f"{kept}-wal"]
    async with SqliteStore(place / "nodes.db") as store:
        assert len(await store.scan_nodes(after=None, limit=9)) == 3


async def test_log_without_its_database_is_not_applied_to_the_new_one(
    tmp_path: Path, backup: Path, place: Path
) -> None:
    async with SqliteStore(tmp_path / "other.db") as store:
        await fill(store, range(1, 9))
        shutil.copy(tmp_path / "other.db-wal", place / "nodes.db-wal")
    done = upkeep_of(place / "nodes.db").restore(backup, replace=False, report=silent)
    assert done.replaced is None
    assert upkeep_of(place / "nodes.db").status().revision == 3
    async with SqliteStore(place / "nodes.db") as store:
        assert len(await store.scan_nodes(after=None, limit=99)) == 3


async def test_file_system_without_hard_links_gets_a_copy(
    backup: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upkeep = upkeep_of(place / "nodes.db")
    first = upkeep.restore(backup, replace=False, report=silent)

    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    second = upkeep.restore(backup, replace=True, report=silent)
    assert second.replaced is not None
    assert upkeep_of(Path(second.replaced)).status().log_id == first.log_id
    again = upkeep.backup(place / "again.db", overwrite=False, report=silent)
    assert upkeep_of(place / "again.db").status().log_id == again.log_id == second.log_id


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def scribble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 5] = os.urandom(4096 * 2)
    path.write_bytes(content)


SPOILED = {
    "missing": (lambda path: path.unlink(), "no such file"),
    "a directory": (lambda path: (path.unlink(), path.mkdir()), "is a directory"),
    "empty": (lambda path: path.write_bytes(b""), "it is empty"),
    "no database": (lambda path: path.write_bytes(b"hello " * 5000), "not an SQLite database"),
    "cut off": (cut, "damaged"),
    "scribbled over": (scribble, "damaged"),
    "of another program": (lambda path: edit(path, "PRAGMA application_id = 7"), "another program"),
    "without a log": (lambda path: edit(path, "DELETE FROM log_head"), "holds no log"),
    "newer": (
        lambda path: edit(path, "INSERT INTO migrations VALUES (9000, 'later', 'x', 0)"),
        r"later Thunderline \(migration 9000_later\)",
    ),
    "of another history": (lambda path: edit(path, "UPDATE migrations SET sha256 = 'x'"), "not the one"),
}


@pytest.mark.parametrize("kind", SPOILED)
async def test_file_that_is_no_backup_is_refused_and_nothing_changes(
    tmp_path: Path, backup: Path, place: Path, kind: str
) -> None:
    spoil, problem = SPOILED[kind]
    spoil(backup)
    async with SqliteStore(place / "nodes.db") as store:
        await fill(store, range(1, 3))
    before = contents(place)
    del before["nodes.db.lock"]  # names who had it last
    with pytest.raises(NotABackup, match=problem) as caught:
        upkeep_of(place / "nodes.db").restore(backup, replace=True, report=silent)
    assert str(backup) in str(caught.value)
    assert "--store" not in str(caught.value)
    after = contents(place)
    del after["nodes.db.lock"]
    assert after == before


async def test_database_is_not_restored_from_itself(place: Path) -> None:
    async with SqliteStore(place / "nodes.db"):
        pass
    (place / "link.db").hardlink_to(place / "nodes.db")
    for name in ("nodes.db", "link.db"):
        with pytest.raises(NotABackup, match="the database itself"):
            upkeep_of(place / "nodes.db").restore(place / name, replace=True, report=silent)


async def test_older_backup_is_migrated(backup: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = migrate_module.migrations()
    later = migrate_module.Migration(9000, "later", "CREATE TABLE later (id INTEGER) STRICT;")
    for module in (migrate_module, status_module):
        monkeypatch.setattr(module, "migrations", lambda: [*known, later])
    assert upkeep_of(backup).status().pending == ["9000_later"]
    done = upkeep_of(place / "nodes.db").restore(backup, replace=False, report=silent)
    assert done.migrated == ["9000_later"]
    assert upkeep_of(place / "nodes.db").status().pending == []
    assert upkeep_of(backup).status().pending == ["9000_later"]


async def test_backup_is_read_where_nothing_can_be_written(backup: Path, place: Path) -> None:
    async with SqliteStore(backup):  # leaves it marked as one with a write-ahead log
        pass
    before = contents(backup.parent)
    upkeep_of(place / "nodes.db").restore(backup, replace=False, report=silent)
    assert contents(backup.parent) == before


async def test_restore_that_is_broken_off_leaves_the_old_database(backup: Path, place: Path) -> None:
    async with SqliteStore(place / "nodes.db") as store:
        await fill(store, range(1, 3))
    for step in ("copying", "checking", "flushing"):

        def report(at: str, done: int, total: int, step: str = step) -> None:
            if at == step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            upkeep_of(place / "nodes.db").restore(backup, replace=True, report=report)
        assert sorted(contents(place)) == ["nodes.db", "nodes.db.lock"]
        assert upkeep_of(place / "nodes.db").status().revision == 2


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from thunderline.block.sqlite import SqliteStore, partial, restore

calls = 0

def counted(module, name):
    body = getattr(module, name)
    def count(*args, **kwargs):
        global calls
        calls += 1
        if calls == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        return body(*args, **kwargs)
    setattr(module, name, count)

for name in ("hardlink_to", "unlink", "replace"):
    counted(Path, name)
for module, name in ((restore, "flush_directory"), (partial, "flush_directory"), (os, "fsync"), (os, "fdatasync")):
    counted(module, name)
SqliteStore(sys.argv[1]).upkeep().restore(Path(sys.argv[2]), replace=True, report=lambda *args: None)
"""


def restore_and_die(database: Path, backup: Path, *, step: int) -> bool:
    """A restore that is killed when it begins its `step`; whether it came so far."""
    command = [sys.executable, "-c", KILLED_AT, str(database), str(backup), str(step)]
    return subprocess.run(command, check=False, capture_output=True, timeout=30).returncode == -signal.SIGKILL


def kept_by_restores(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if ".before-restore-" in path.name]


async def test_kill_at_any_step_leaves_the_old_database_or_the_new_one_whole(backup: Path, place: Path) -> None:
    async with SqliteStore(place / "nodes.db") as store:
        await fill(store, range(1, 8))
    old = upkeep_of(place / "nodes.db").status()
    steps = 0
    while True:
        steps += 1
        assert restore_and_die(place / "nodes.db", backup, step=steps), "it was done before it was killed"
        found = upkeep_of(place / "nodes.db").status()
        async with SqliteStore(place / "nodes.db") as store:
            assert len(await store.scan_nodes(after=None, limit=99)) == found.revision
        if found.log_id != old.log_id:
            break
        assert found.revision == 7
    assert found.revision == 3
    assert steps > 4
    # Those of earlier attempts are further names of the old database.
    assert {upkeep_of(kept).status().revision for kept in kept_by_restores(place)} == {7}
