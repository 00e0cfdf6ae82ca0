"""What was acknowledged is there, whatever happened; what failed is not; and nothing blocks the event loop."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

from thunderline.block.sqlite import SqliteStore
from thunderline.block.sqlite import store as store_module
from thunderline.block.store import PresenceRow, WriteBatch
from thunderline.core.errors import ContentRejected, OutcomeUnknown, StoreUnavailable
from thunderline.core.ids import Revision
from thunderline.testing.records import batch_id, make_beat, make_event, make_node, make_session

DURABLE = {
    "journal_mode": "wal",
    "synchronous": 2,
    "foreign_keys": 1,
    "busy_timeout": 2000,
    "wal_autocheckpoint": 4000,
    "journal_size_limit": 67_108_864,
}


def registration(number: int, *, meta_bytes: int = 0) -> WriteBatch:
    node = make_node(number, meta={"filler": f"{number} ".ljust(meta_bytes, "x")} if meta_bytes else {})
    return WriteBatch(
        batch_id=batch_id(number),
        base=Revision(number - 1),
        events=[make_event(number, node)],
        nodes=[node],
        beats=[make_beat(node, seq=number)],
    )


async def names(store: SqliteStore) -> list[str]:
    return [node.name for node in await store.scan_nodes(after=None, limit=100_000)]


async def test_every_commit_is_flushed(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "nodes.db") as store:
        assert await store.writer_pragmas() == DURABLE
        await store.commit(registration(1))
        assert await store.writer_pragmas() == DURABLE


async def test_a_log_that_a_reader_made_grow_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(store_module._WRITER_PRAGMAS, "journal_size_limit", ("65536", 65_536))
    path = tmp_path / "nodes.db"
    async with SqliteStore(path) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM nodes").fetchone()
            for number in range(1, 21):
                await store.commit(registration(number, meta_bytes=15_000))
            log = path.with_name("nodes.db-wal")
            assert log.stat().st_size > 500_000
        with closing(sqlite3.connect(path)) as folding:
            folding.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        await store.commit(registration(21))
        assert log.stat().st_size < 131_072


async def test_fresh_connection_after_a_lost_one_is_as_durable(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "nodes.db") as store:
        await store.commit(registration(1))
        assert await store.committed(batch_id(1))
        assert await store.writer_pragmas() == DURABLE
        await store.commit(registration(2))


async def test_engine_that_does_not_take_the_settings_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(store_module._WRITER_PRAGMAS, "synchronous", ("NORMAL", 2))
    with pytest.raises(store_module.StoreIncompatible, match="synchronous"):
        await SqliteStore(tmp_path / "nodes.db").open()


async def test_engine_without_strict_tables_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(store_module.StoreIncompatible, match=r"3\.37 or later"):
        await SqliteStore(tmp_path / "nodes.db").open()


COMMIT_UNTIL_KILLED = """
import asyncio, sys
sys.path.insert(0, sys.argv[2])
from test_sqlite_durability import registration
from thunderline.block.sqlite import SqliteStore

async def main():
    async with SqliteStore(sys.argv[1]) as store:
        number = 0
        while True:
            number += 1
            await store.commit(registration(number, meta_bytes=500))
            print(number, flush=True)

asyncio.run(main())
"""


def commit_until_killed(path: Path, *, commits: int) -> int:
    """Let another process commit, kill it without warning, and give the number of its last acknowledgement."""
    acknowledged = 0
    script = [sys.executable, "-c", COMMIT_UNTIL_KILLED, str(path), str(Path(__file__).parent)]
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while acknowledged < commits:
            acknowledged = int(process.stdout.readline())
        process.kill()
        for line in process.stdout:
            acknowledged = int(line)
    return acknowledged


async def test_every_acknowledged_commit_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    acknowledged = commit_until_killed(path, commits=60)
    async with SqliteStore(path) as store:
        events = await store.read_events(after=Revision(0), limit=100_000)
        kept = len(events)
        # The last one may have been committed and killed before it could say so; it is whole nevertheless.
        assert acknowledged <= kept <= acknowledged + 1
        assert [event.revision for event in events] == list(range(1, kept + 1))
        assert await names(store) == [f"node-{number}" for number in range(1, kept + 1)]
        assert [beat.seq for beat in await store.read_beats(node_id=None, since_ms=0, until_ms=2**62, limit=10**6)] == [
            *range(1, kept + 1)
        ]
        assert await store.committed(batch_id(kept))
        await store.commit(registration(kept + 1))


class SmallStore(SqliteStore):
    """Its database may hold `pages` pages at most: what a full disk is to SQLite."""

    pages = 60

    def _connect_writer(self) -> sqlite3.Connection:
        connection = super()._connect_writer()
        connection.execute(f"PRAGMA max_page_count = {self.pages}")
        return connection


async def commit_while_there_is_room(store: SqliteStore) -> int:
    """The number of the last commit that was taken."""
    number = 0
    while True:
        try:
            await store.commit(registration(number + 1, meta_bytes=15_000))
        except StoreUnavailable:
            return number
        number += 1


async def test_full_database_writes_nothing_and_serves_again_when_there_is_room(tmp_path: Path) -> None:
    async with SmallStore(tmp_path / "nodes.db") as store:
        number = await commit_while_there_is_room(store)
        assert number > 1
        kept = [f"node-{n}" for n in range(1, number + 1)]
        assert await names(store) == kept
        assert len(await store.read_events(after=Revision(0), limit=1000)) == number
        assert len(await store.scan_blocks(after=0, limit=1000)) == number
        with pytest.raises(StoreUnavailable, match="SQLITE_FULL"):
            await store.commit(registration(number + 1, meta_bytes=15_000))
        store.pages = 10_000
        assert await store.committed(batch_id(number))  # over a fresh connection, which has the room
        await store.probe()
        await store.commit(registration(number + 1, meta_bytes=15_000))
        assert await names(store) == [*kept, f"node-{number + 1}"]


WRITE_TO_A_FULL_DISK = """
import asyncio, contextlib, resource, sys
sys.path.insert(0, sys.argv[2])
from test_sqlite_durability import registration
from thunderline.block.sqlite import SqliteStore
from thunderline.core.errors import OutcomeUnknown, StoreUnavailable
from thunderline.core.ids import Revision
from thunderline.testing.records import batch_id

async def main():
    async with SqliteStore(sys.argv[1]) as store:
        await store.commit(registration(1, meta_bytes=500))
        # No file may grow any more: every write that would is refused by the kernel, as on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
        for _ in range(3):
            with contextlib.suppress(StoreUnavailable, OutcomeUnknown):
                await store.commit(registration(2, meta_bytes=500))
                print("taken")
            try:
                print("landed" if await store.committed(batch_id(2)) else "not there")
            except StoreUnavailable:
                print("away")
        try:
            await store.probe()
            print("probed")
        except (StoreUnavailable, OutcomeUnknown):
            print("still away")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print("landed" if await store.committed(batch_id(2)) else "not there")
        await store.probe()
        await store.commit(registration(2, meta_bytes=500))
        print(len(await store.read_events(after=Revision(0), limit=9)))

asyncio.run(main())
"""


async def test_disk_that_takes_no_more_writes_nothing_and_says_so(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WRITE_TO_A_FULL_DISK, str(tmp_path / "nodes.db"), str(Path(__file__).parent)),
        stdout=subprocess.PIPE,
    )
    output, _ = await process.communicate()
    said = output.decode().split("\n")
    assert process.returncode == 0
    assert set(said[:3]) <= {"not there", "away"}
    assert said[3:] == ["still away", "not there", "2", ""]


FAIL_ONE_FLUSH = """
import asyncio, shutil, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_sqlite_durability import registration
from thunderline.block.sqlite import SqliteStore
from thunderline.core.errors import OutcomeUnknown
from thunderline.testing.records import batch_id

path = Path(sys.argv[1])

def crash_as(name):
    # What a restart would find if the machine stopped now, and the kernel had written all it was given.
    (path.parent / name).mkdir()
    for file in ("nodes.db", "nodes.db-wal"):
        shutil.copy(path.with_name(file), path.parent / name / file)

async def main():
    async with SqliteStore(path) as store:
        await store.scan_nodes(after=None, limit=1)  # a reader keeps the log from being folded with the lost connection
        number = 0
        try:
            while True:
                number += 1
                await store.commit(registration(number, meta_bytes=500))
        except OutcomeUnknown:
            crash_as("unsettled")
            landed = await store.committed(batch_id(number))
            crash_as("settled")
            print(number, landed, flush=True)

asyncio.run(main())
"""


async def newest_is(path: Path, number: int) -> bool:
    """Whether a restart finds commit `number`, and all before it."""
    async with SqliteStore(path) as store:
        events = await store.read_events(after=Revision(0), limit=1000)
        assert len(events) in (number - 1, number)
        return len(events) == number


async def test_commit_whose_flush_failed_is_after_a_crash_what_was_answered(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    # The 20th flush of a thread is one of the writer's commits: making the schema takes fewer.
    strace = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-e", "inject=fdatasync,fsync:error=EIO:when=20"]
    script = [sys.executable, "-c", FAIL_ONE_FLUSH, str(tmp_path / "nodes.db"), str(Path(__file__).parent)]
    process = await asyncio.create_subprocess_exec(*strace, *script, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    number, landed = output.decode().split()
    assert await newest_is(tmp_path / "unsettled" / "nodes.db", int(number))  # or the test shows nothing
    assert await newest_is(tmp_path / "settled" / "nodes.db", int(number)) == (landed == "True")


async def test_question_whose_own_write_fails_has_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(store_module._WRITER_PRAGMAS, "busy_timeout", ("1", 1))
    async with SqliteStore(tmp_path / "nodes.db") as store:
        await store.commit(registration(1))
        with closing(sqlite3.connect(tmp_path / "nodes.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for number in (1, 2):
                with pytest.raises(StoreUnavailable, match="SQLITE_BUSY"):
                    await store.committed(batch_id(number))
        assert await store.committed(batch_id(1))
        assert not await store.committed(batch_id(2))


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
async def test_database_that_is_not_in_its_place_takes_no_commit_until_it_is_back(
    tmp_path: Path, replaced: bool
) -> None:
    path, elsewhere = tmp_path / "nodes.db", tmp_path / "elsewhere.db"
    async with SqliteStore(path) as store:
        await store.commit(registration(1))
        path.rename(elsewhere)
        if replaced:
            shutil.copy(elsewhere, path)
        problem = "was replaced under" if replaced else "was removed under"
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=problem):
                await store.commit(registration(2))
            with pytest.raises(StoreUnavailable, match=problem):
                await store.probe()
            with pytest.raises(StoreUnavailable, match=problem):
                await store.committed(batch_id(1))  # whose fresh connection must not go to another file
        assert path.exists() == replaced
        assert await names(store) == ["node-1"]
        elsewhere.rename(path)
        await store.probe()
        assert await store.committed(batch_id(1))
        await store.commit(registration(2))
    async with SqliteStore(path) as store:
        assert await names(store) == ["node-1", "node-2"]


async def test_database_held_by_a_foreign_writer_is_away_until_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(store_module._WRITER_PRAGMAS, "busy_timeout", ("1", 1))
    async with SqliteStore(tmp_path / "nodes.db") as store:
        with closing(sqlite3.connect(tmp_path / "nodes.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="SQLITE_BUSY"):
                await store.commit(registration(1))
            with pytest.raises(StoreUnavailable, match="SQLITE_BUSY"):
                await store.probe()
            assert await names(store) == []
        await store.probe()
        await store.commit(registration(1))


async def test_commit_that_ends_the_transaction_with_an_error_has_an_unknown_outcome(tmp_path: Path) -> None:
    class Lost(SqliteStore):
        lost = True

        def _write(self, connection: sqlite3.Connection, batch: WriteBatch) -> int | None:
            block = super()._write(connection, batch)
            if self.lost:
                connection.execute("ROLLBACK")  # so that the COMMIT that follows finds no transaction
            return block

    async with Lost(tmp_path / "nodes.db") as store:
        with pytest.raises(OutcomeUnknown, match="no transaction is active"):
            await store.commit(registration(1))
        store.lost = False
        assert not await store.committed(batch_id(1))
        await store.commit(registration(1))
        assert await store.committed(batch_id(1))


@pytest.mark.parametrize(
    "changes",
    [
        {"revision": 2**63},
        {"name": "\ud800"},
        {"meta": {"a": "\udfff"}},
        {"id": None},
    ],
    ids=["number-beyond-64-bits", "surrogate-in-text", "surrogate-in-meta", "no-id"],
)
async def test_content_that_sqlite_cannot_hold_is_rejected_for_good(tmp_path: Path, changes: dict[str, object]) -> None:
    async with SqliteStore(tmp_path / "nodes.db") as store:
        with pytest.raises(ContentRejected):
            await store.commit(WriteBatch(batch_id=batch_id(1), base=Revision(0), nodes=[make_node(1, **changes)]))
        await store.commit(registration(1))


async def test_nothing_of_a_commit_or_a_read_blocks_the_event_loop(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "nodes.db")
    await store.open()
    with blockbuster_ctx():
        await store.commit(registration(1, meta_bytes=5000))
        await store.probe()
        assert await store.committed(batch_id(1))
        assert await names(store) == ["node-1"]
        assert len(await store.read_beats(node_id=None, since_ms=0, until_ms=2**62, limit=5)) == 1
        assert len(await store.read_events(after=Revision(0), limit=5)) == 1
        await store.close()


async def test_nothing_is_decoded_on_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[int]] = {}

    def watch(where: object, name: str) -> None:
        decode = getattr(where, name)

        def watched(*arguments: object) -> object:
            seen.setdefault(name, set()).add(threading.get_ident())
            return decode(*arguments)

        monkeypatch.setattr(where, name, watched)

    for name in ("join_node", "join_link", "unpack_block"):
        watch(store_module, name)
    for name in ("read_event", "read_presence"):
        watch(store_module.rows, name)
    node = make_node(1)
    session = make_session(1, node)
    presence = PresenceRow(node.id, 1, None, None, b"", None)
    async with SqliteStore(tmp_path / "nodes.db") as store:
        await store.commit(registration(1))
        await store.commit(
            WriteBatch(
                batch_id=batch_id(2), base=Revision(1), sessions=[session], presence=[presence], presence_block=1
            )
        )
        await names(store)
        assert await store.scan_open_sessions(after=None, limit=9) == [session]
        assert await store.find_session(session.session_id) == session
        assert await store.scan_presence(after=None, limit=9) == [presence]
        assert len(await store.scan_blocks(after=0, limit=9)) == 1
        assert len(await store.read_events(after=Revision(0), limit=9)) == 1
    assert len(seen) == 5
    assert threading.get_ident() not in set().union(*seen.values())


async def test_cancelled_open_leaves_the_database_free(tmp_path: Path) -> None:
    for turns in range(1, 5):
        opening = asyncio.ensure_future(SqliteStore(tmp_path / "nodes.db").open())
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        await asyncio.wait([opening])
        async with SqliteStore(tmp_path / "nodes.db") as store:
            assert await names(store) == []


async def test_many_readers_wait_for_no_writer(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "nodes.db") as store:
        await store.commit(registration(1))
        with closing(sqlite3.connect(tmp_path / "nodes.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            committing = asyncio.ensure_future(store.commit(registration(2)))
            found = await asyncio.gather(*(names(store) for _ in range(20)))
            assert found == [["node-1"]] * 20
            other.execute("ROLLBACK")
        await committing
