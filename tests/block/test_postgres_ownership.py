"""One process at a time per database, whoever is taken for dead writes nothing, and servers that are no use to us."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from tests.databases import PostgresDatabases
from thunderline.block.migrations import Migration
from thunderline.block.postgres import PostgresStore
from thunderline.block.postgres import migrate as migrate_module
from thunderline.block.postgres import owner as owner_module
from thunderline.block.postgres.connection import Dialler, load_queries
from thunderline.block.postgres.migrate import migrations
from thunderline.block.postgres.owner import holder_of
from thunderline.block.store import WriteBatch
from thunderline.core.errors import OutcomeUnknown, SettingsError, StoreIncompatible, StoreLocked, StoreUnavailable
from thunderline.core.ids import Revision
from thunderline.testing import check_store
from thunderline.testing.clock import ManualClock
from thunderline.testing.records import batch_id, make_beat, make_node, node_id
from thunderline.testing.store_suite import StoreFactory

OPEN_AND_HOLD = """
import asyncio, sys
from thunderline.block.postgres import PostgresStore
from thunderline.core.errors import StoreLocked

async def main():
    try:
        async with PostgresStore(sys.argv[1]):
            print("open", flush=True)
            sys.stdin.readline()
    except StoreLocked as error:
        print(error.owner, flush=True)

asyncio.run(main())
"""

RIGHTS = """
GRANT USAGE ON SCHEMA thunderline TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA thunderline TO {role};
GRANT USAGE ON ALL SEQUENCES IN SCHEMA thunderline TO {role};
GRANT EXECUTE ON FUNCTION thunderline.add_partition, thunderline.drop_partitions TO {role}
"""
"""What a server needs, and no more."""


@contextmanager
def another_process(url: str) -> Iterator[subprocess.Popen[str]]:
    """A process that opens the store at `url` and keeps it until a line comes in, or says who owns it."""
    with subprocess.Popen(
        [sys.executable, "-c", OPEN_AND_HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    """A connection of somebody else."""
    connection = await Dialler(url, load_queries()).connect()
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def locked(url: str, table: str, mode: str) -> AsyncIterator[None]:
    """A lock of somebody else on a table of ours."""
    async with connected(url) as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(f"LOCK TABLE {table} IN {mode} MODE")
        try:
            yield
        finally:
            await transaction.rollback()


async def until_waiting(postgres: PostgresDatabases, url: str) -> None:
    """Return once a session waits for a lock on a table."""
    ask = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
        "AND query NOT LIKE '%advisory%'"
    )
    while await asyncio.to_thread(postgres.execute, url, ask) == "0":
        pass


def nodes_batch(number: int, *, node: int = 1) -> WriteBatch:
    return WriteBatch(batch_id=batch_id(number), base=Revision(0), nodes=[make_node(node)])


def beats_batch(number: int) -> WriteBatch:
    return WriteBatch(batch_id=batch_id(number), base=Revision(0), beats=[make_beat(node_id(1))])


async def count_beats(store: PostgresStore) -> int:
    return len(await store.read_beats(node_id=None, since_ms=0, until_ms=2**52, limit=9))


# Who gets in


async def test_second_process_is_refused_with_the_owners_pid_until_the_owner_is_killed(postgres_url: str) -> None:
    with another_process(postgres_url) as owner:
        assert said(owner) == "open"
        with pytest.raises(StoreLocked) as caught:
            await PostgresStore(postgres_url).open()
        assert caught.value.owner.startswith(f"process {owner.pid} on ")
        owner.kill()  # SIGKILL: no handler of ours runs, the server alone lets go of the lock
        owner.wait()
        async with PostgresStore(postgres_url) as store:
            assert await store.scan_nodes(after=None, limit=1) == []


async def test_owner_in_this_process_refuses_another(postgres_url: str) -> None:
    async with PostgresStore(postgres_url):
        with another_process(postgres_url) as second:
            assert (await asyncio.to_thread(said, second)).startswith(f"process {os.getpid()} on ")


async def test_second_open_in_the_same_process_is_refused_and_harms_nobody(postgres_url: str) -> None:
    async with PostgresStore(postgres_url) as store:
        second = PostgresStore(postgres_url)
        with pytest.raises(StoreLocked) as caught:
            await second.open()
        assert f"process {os.getpid()} on " in caught.value.owner
        await second.close()
        await store.commit(nodes_batch(1))
        with pytest.raises(StoreLocked):
            await store.open()
        await store.commit(nodes_batch(2, node=2))
    async with PostgresStore(postgres_url) as store:
        assert await store.scan_nodes(after=None, limit=9) == [make_node(1), make_node(2)]


async def test_writers_of_two_names_are_told_apart_by_their_rows(postgres_url: str) -> None:
    async with PostgresStore(postgres_url, writer_id="one"), connected(postgres_url) as connection:
        queries = load_queries()
        held = await holder_of(connection, queries, writer="one")
        assert held is not None
        assert held.pid == os.getpid()
        assert await holder_of(connection, queries, writer="two") is None


async def test_closed_store_leaves_the_database_free_at_once(postgres_url: str) -> None:
    for _ in range(3):
        async with PostgresStore(postgres_url):
            pass
    async with connected(postgres_url) as connection:
        assert await holder_of(connection, load_queries(), writer="registry") is None


async def test_close_cancelled_while_a_commit_runs_still_frees_the_database(
    postgres: PostgresDatabases, postgres_url: str
) -> None:
    store = PostgresStore(postgres_url)
    await store.open()
    async with locked(postgres_url, "nodes", "SHARE"):
        committing = asyncio.ensure_future(store.commit(nodes_batch(1)))
        await until_waiting(postgres, postgres_url)
        closing = asyncio.ensure_future(store.close())
        await asyncio.sleep(0)
        closing.cancel()
        await asyncio.wait([closing])
        with pytest.raises(StoreUnavailable, match="not open"):
            await store.scan_nodes(after=None, limit=1)
    await committing
    await store.close()
    async with PostgresStore(postgres_url) as reopened:
        assert await reopened.scan_nodes(after=None, limit=9) == [make_node(1)]


# Who was taken over


@pytest.mark.parametrize("make_batch", [nodes_batch, beats_batch])
async def test_holder_that_was_taken_over_says_who_has_the_database_and_writes_nothing(
    postgres: PostgresDatabases,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    make_batch: Callable[[int], WriteBatch],
) -> None:
    monkeypatch.setattr(owner_module, "PATIENCE_S", 0.05)
    async with PostgresStore(postgres_url) as store:
        await asyncio.to_thread(postgres.end_sessions, postgres_url)
        with another_process(postgres_url) as heir:
            assert await asyncio.to_thread(said, heir) == "open"
            with contextlib.suppress(StoreUnavailable, OutcomeUnknown):
                await store.commit(make_batch(1))  # which may find no more than that its connection has ended
            for call in (lambda: store.commit(make_batch(2)), store.probe, lambda: store.committed(batch_id(1))):
                with pytest.raises(StoreUnavailable, match=f"belongs to process {heir.pid} on "):
                    await call()
        with pytest.raises(StoreUnavailable, match=f"belongs to process {heir.pid} on .*restart"):
            await store.commit(make_batch(3))
        assert await store.scan_nodes(after=None, limit=9) == []
        assert await count_beats(store) == 0


@pytest.mark.parametrize(("make_batch", "table"), [(nodes_batch, "writers"), (beats_batch, "heartbeat_blocks")])
async def test_what_a_holder_has_under_way_when_it_is_taken_over_is_not_written(
    postgres: PostgresDatabases, postgres_url: str, make_batch: Callable[[int], WriteBatch], table: str
) -> None:
    async with PostgresStore(postgres_url, clock=ManualClock()) as store, connected(postgres_url) as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
        committing = asyncio.ensure_future(store.commit(make_batch(1)))
        await until_waiting(postgres, postgres_url)
        await other.execute("UPDATE writers SET epoch = epoch + 1, holder = 'the heir', pid = 7, host = 'elsewhere'")
        await transaction.commit()
        with pytest.raises(StoreUnavailable, match="belongs to process 7 on elsewhere"):
            await committing
        assert await store.scan_nodes(after=None, limit=9) == []
        assert await count_beats(store) == 0


# What was lost on its way


@asynccontextmanager
async def lost(postgres: PostgresDatabases, store: PostgresStore, url: str) -> AsyncIterator[None]:
    """A commit of beats of which the server has all, but does not get on, when the line is cut at our end."""
    await store.commit(beats_batch(0))  # so that the next one goes in one piece, its statement being prepared
    async with locked(url, "heartbeat_blocks", "SHARE"):
        committing = asyncio.ensure_future(store.commit(beats_batch(1)))
        await until_waiting(postgres, url)
        assert store._writer is not None
        store._writer._connection.terminate()
        with pytest.raises(OutcomeUnknown):
            await committing
        yield


async def test_commit_that_was_lost_on_its_way_is_never_applied_later(
    postgres: PostgresDatabases, postgres_url: str
) -> None:
    async with PostgresStore(postgres_url) as store:
        async with lost(postgres, store, postgres_url):
            assert await store.committed(batch_id(1)) is False
        assert await count_beats(store) == 1
        await store.commit(beats_batch(2))
        assert await count_beats(store) == 2


async def test_committed_does_not_answer_while_the_transaction_is_under_way(
    postgres: PostgresDatabases, postgres_url: str
) -> None:
    async with PostgresStore(postgres_url) as store:
        store._owner._session = None  # as where a role may not end its own sessions
        async with lost(postgres, store, postgres_url):
            with pytest.raises(StoreUnavailable, match="has not ended yet"):
                await store.committed(batch_id(1))
        assert await store.committed(batch_id(1)) is True
        assert await count_beats(store) == 2


# Without advisory locks


@pytest.fixture
def lockless_url(postgres: PostgresDatabases, postgres_url: str) -> str:
    """The database by a role that has the rights of a server, in an engine without advisory locks."""
    make_role(postgres, "lockless")
    for function in ("pg_advisory_lock(bigint)", "pg_try_advisory_lock(bigint)"):
        postgres.execute(postgres_url, f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")
    postgres.execute(postgres_url, RIGHTS.format(role="lockless"))
    return postgres.server.url(postgres.name_of(postgres_url), user="lockless")


def make_role(postgres: PostgresDatabases, name: str, *, password: str = "none") -> None:
    if not postgres.server.execute("postgres", f"SELECT 1 FROM pg_roles WHERE rolname = '{name}'"):
        postgres.server.execute("postgres", f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")


async def test_without_locks_a_lease_that_is_renewed_refuses_another(lockless_url: str) -> None:
    async with PostgresStore(lockless_url, clock=ManualClock()) as store:
        assert not store._owner.by_lock
        opening = asyncio.ensure_future(PostgresStore(lockless_url).open())
        while not opening.done():
            await store.probe()
        with pytest.raises(StoreLocked, match=f"process {os.getpid()} on "):
            await opening
        await store.commit(nodes_batch(1))
    async with PostgresStore(lockless_url) as store:  # at once
        assert await store.scan_nodes(after=None, limit=9) == [make_node(1)]


async def test_without_locks_the_next_one_gets_in_when_the_lease_has_run_out_and_the_former_writes_nothing(
    postgres: PostgresDatabases, postgres_url: str, lockless_url: str
) -> None:
    async with PostgresStore(lockless_url, clock=ManualClock()) as store:
        postgres.execute(postgres_url, "UPDATE thunderline.writers SET lease_until = '-infinity'")
        heir = PostgresStore(lockless_url)
        await heir.open()
        for batch in (nodes_batch(1), beats_batch(2)):
            with pytest.raises(StoreUnavailable, match=f"belongs to process {os.getpid()} on "):
                await store.commit(batch)
        assert await store.scan_nodes(after=None, limit=9) == []
        assert await count_beats(store) == 0
        await heir.close()


async def test_without_locks_what_was_lost_on_its_way_is_barred(
    postgres: PostgresDatabases, postgres_url: str, lockless_url: str
) -> None:
    async with PostgresStore(lockless_url, clock=ManualClock()) as store:
        store._owner._session = None
        async with lost(postgres, store, postgres_url):
            assert await store.committed(batch_id(1)) is False
        await store.commit(beats_batch(2))
        async with connected(postgres_url) as connection:  # nobody is at it any more
            await connection.execute("BEGIN; LOCK TABLE heartbeat_blocks IN ACCESS EXCLUSIVE MODE; COMMIT")
        assert await count_beats(store) == 2


# Rights


@pytest.fixture
def server_url(postgres: PostgresDatabases, postgres_url: str) -> str:
    """The database by a role that has the rights of a server."""
    return with_rights(postgres, postgres_url)


def with_rights(postgres: PostgresDatabases, url: str) -> str:
    make_role(postgres, "serving")
    postgres.execute(url, RIGHTS.format(role="serving"))
    return postgres.server.url(postgres.name_of(url), user="serving")


async def test_role_with_the_rights_of_a_server_can_serve(server_url: str) -> None:
    async with PostgresStore(server_url) as store:
        await store.commit(nodes_batch(1))
        await store.commit(beats_batch(2))
        await store.compact_beats(closed_ms=2**52, settled_block=0)
        await store.trim_beats(raw_before_ms=2**51, rollups_before_ms=0, max_bytes=0)
        await store.trim_beats(raw_before_ms=2**51, rollups_before_ms=0, max_bytes=2**52)
        assert await store.scan_nodes(after=None, limit=9) == [make_node(1)]


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_role_with_the_rights_of_a_server_keeps_the_whole_contract(postgres: PostgresDatabases) -> None:
    def make_database() -> StoreFactory:
        url = with_rights(postgres, postgres.new())
        return lambda: PostgresStore(url)

    await check_store(make_database)


async def test_role_that_may_not_make_the_schema_is_told_what_to_do(postgres: PostgresDatabases) -> None:
    make_role(postgres, "serving")
    database = postgres.name_of(postgres.server.create_database())
    with pytest.raises(StoreIncompatible, match=r"thunderline db migrate.*docs/postgresql\.md"):
        await PostgresStore(postgres.server.url(database, user="serving")).open()


async def test_role_that_may_not_migrate_is_told_what_to_do(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = [*migrations(), Migration(9000, "more", "CREATE TABLE more (a integer)")]
    monkeypatch.setattr(migrate_module, "migrations", lambda: ours)
    with pytest.raises(StoreIncompatible, match="thunderline db migrate"):
        await PostgresStore(server_url).open()


async def test_role_that_may_not_read_is_told_so(postgres: PostgresDatabases, postgres_url: str) -> None:
    make_role(postgres, "nobody_much")
    with pytest.raises(StoreIncompatible, match="permission denied"):
        await PostgresStore(postgres.server.url(postgres.name_of(postgres_url), user="nobody_much")).open()


async def test_only_the_owner_and_who_was_granted_may_make_and_drop_partitions(
    postgres: PostgresDatabases, postgres_url: str
) -> None:
    for function in ("add_partition(text,text,bigint,bigint)", "drop_partitions(text,text,bigint)"):
        granted = postgres.execute(
            postgres_url, f"SELECT has_function_privilege('public', 'thunderline.{function}', 'EXECUTE')"
        )
        assert granted == "f"


@pytest.mark.parametrize("table", ["nodes", "pg_catalog.pg_class", "heartbeat_blocks; DROP TABLE nodes"])
async def test_partitions_are_those_of_history_alone(postgres_url: str, table: str) -> None:
    async with connected(postgres_url) as connection:
        for statement in ("SELECT add_partition($1, 'minute', 0, 10)", "SELECT drop_partitions($1, 'minute', 10)"):
            with pytest.raises(Exception, match="no table in partitions"):
                await connection.fetchval(statement, table)


# Servers that are no use to us

SECRET = "s3cret"


async def refusal(url: str, error: type[StoreIncompatible | StoreUnavailable]) -> str:
    """What an open is refused with, which shows no password."""
    with pytest.raises(error) as caught:
        await PostgresStore(url).open()
    shown = f"{caught.value}{caught.value.__cause__}"
    assert SECRET not in shown
    return str(caught.value)


async def test_server_that_is_not_there_may_come(postgres: PostgresDatabases) -> None:
    said = await refusal(f"postgresql://me:{SECRET}@127.0.0.1:1/nodes", StoreUnavailable)
    assert "cannot be reached" in said
    await refusal(f"postgresql://me:{SECRET}@/nodes?host=/nowhere", StoreUnavailable)


async def test_database_that_is_not_there_is_named_with_what_to_do(postgres: PostgresDatabases) -> None:
    said = await refusal(postgres.server.url("nowhere", password=SECRET), StoreIncompatible)
    assert 'database "nowhere" does not exist' in said
    assert "create that database with ENCODING 'UTF8'" in said


async def test_wrong_password_is_told_with_what_to_do(postgres: PostgresDatabases, postgres_url: str) -> None:
    make_role(postgres, "careful", password="right")
    access = postgres.server.folder / "data" / "pg_hba.conf"
    before = access.read_text(encoding="utf-8")
    access.write_text(f"local all careful scram-sha-256\n{before}", encoding="utf-8")
    try:
        postgres.server.reload()
        said = await refusal(
            postgres.server.url(postgres.name_of(postgres_url), user="careful", password=SECRET), StoreIncompatible
        )
        assert "password authentication failed" in said
        assert "check the user and its password" in said
    finally:
        access.write_text(before, encoding="utf-8")
        postgres.server.reload()


async def test_database_of_another_encoding_is_refused_with_what_to_do(postgres: PostgresDatabases) -> None:
    postgres.server.execute("postgres", "CREATE DATABASE ascii TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    said = await refusal(postgres.server.url("ascii"), StoreIncompatible)
    assert "create one with ENCODING 'UTF8'" in said
    postgres.server.drop_database(postgres.server.url("ascii"))


async def test_server_that_does_not_flush_is_refused_with_what_to_do(
    postgres: PostgresDatabases, postgres_url: str
) -> None:
    postgres.server.reload(fsync="off")
    try:
        while postgres.server.execute("postgres", "SHOW fsync") != "off":
            pass
        assert "set fsync = on" in await refusal(postgres_url, StoreIncompatible)
    finally:
        postgres.server.reload(fsync="on")
        while postgres.server.execute("postgres", "SHOW fsync") != "on":
            pass


async def test_server_that_takes_no_writes_may_take_them_later(postgres: PostgresDatabases, postgres_url: str) -> None:
    database = postgres.name_of(postgres_url)
    postgres.server.execute("postgres", f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    assert "standby, or read-only" in await refusal(postgres_url, StoreUnavailable)
    postgres.server.execute("postgres", f"ALTER DATABASE {database} RESET default_transaction_read_only")
    async with PostgresStore(postgres_url) as store:
        await store.probe()


async def test_commits_are_flushed_whatever_the_database_has_as_default(
    postgres: PostgresDatabases, postgres_url: str
) -> None:
    database = postgres.name_of(postgres_url)
    postgres.server.execute("postgres", f"ALTER DATABASE {database} SET synchronous_commit = off")
    async with connected(postgres_url) as connection:
        assert await connection.fetchval("SHOW synchronous_commit") == "on"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}/more@host/db",
        f"postgresql://me:more/{SECRET}@host/db",
        f"postgresql://me:{SECRET}?more@host/db",
        f"postgresql://me:12?{SECRET}@host/db",
        f"postgresql://me:12?{SECRET}=@host/db",
        f"postgresql://me:{SECRET}#more@host/db",
        f"postgresql://me:{SECRET}@host:port/db",
        f"postgresql://me:{SECRET}@[::1/db",
        f"postgresql://me:{SECRET}@host/db?pasword={SECRET}",
    ],
)
def test_url_that_is_not_one_is_a_bad_setting_and_not_shown(url: str) -> None:
    with pytest.raises(SettingsError, match="should be postgresql://USER:PASSWORD@HOST") as caught:
        PostgresStore(url)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:a%2Fb%40c@host:5433/db", "postgresql://host:5433/db"),
        ("postgresql://me@one:1,two:2/db?target_session_attrs=read-write", "postgresql://one:1,two:2/db"),
        ("postgresql://me@[::1]:5432/db", "postgresql://[::1]:5432/db"),
        ("postgresql:///db?host=/run/postgresql&user=me@server&password=p@ss", "postgresql:///run/postgresql/db"),
        ("postgresql://me@%2Frun%2Fpostgresql/db", "postgresql:///run/postgresql/db"),
    ],
)
def test_url_is_shown_without_user_and_password(url: str, shown: str) -> None:
    assert PostgresStore(url).location == shown
