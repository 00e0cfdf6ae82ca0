"""The schema in PostgreSQL, its migrations, and how each statement finds its rows."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any

import asyncpg
import pytest

from tests.databases import PostgresDatabases
from thunderline.block.migrations import Migration
from thunderline.block.postgres import PostgresStore
from thunderline.block.postgres import migrate as migrate_module
from thunderline.block.postgres.connection import Dialler, load_queries
from thunderline.block.postgres.migrate import migrate, migrations
from thunderline.block.store import WriteBatch
from thunderline.core.errors import StoreIncompatible
from thunderline.core.ids import Revision
from thunderline.testing.clock import ManualClock
from thunderline.testing.records import batch_id, make_node

PACKAGE = resources.files("thunderline.block.postgres")
QUERIES: Any = load_queries()
STATEMENTS = sorted(name for name in QUERIES.available_queries if not name.endswith("_cursor"))
FINDING = [name for name in STATEMENTS if re.search(r"\b(FROM|UPDATE)\b", getattr(QUERIES, name).sql)]

SMALL = {
    **dict.fromkeys(("log_head", "log_tail", "checkpoint", "heartbeat_history", "age_clock"), "one row"),
    "writers": "a row for each writer there has been",
    "migrations": "a row for each",
    "partitions": "a row for each, some hundreds",
}
"""Tables that may be read whole, and why."""

WHOLE = {
    ("sum_sizes", "heartbeat_sizes"): "a row for each minute that is kept, whatever is in it; read once a minute",
    ("minute_to_fit", "heartbeat_sizes"): "only when history is larger than it may be",
}
"""Statements that read a whole table that grows, and why."""

SORTING = {
    "blocks_between": "blocks that are not compacted yet, of partitions that each have an index",
    "blocks_of_pass": "of a pass, which takes no more than its bound",
    "minutes_of_all": "what is of one minute",
    "read_past": "a page, put together with its metas",
    "rollups_of_node": "what is found of one node; as many rows are given as there are buckets",
    "snapshot_parts": "the parts of one",
}
"""Statements that put in order what they found, and why that is little."""

CATALOGUE = {
    "relations": """
        SELECT c.relname, c.relkind, c.relpersistence, c.relispartition, pg_get_expr(c.relpartbound, c.oid),
          pg_get_partkeydef(c.oid), c.relacl::text FROM pg_class AS c WHERE c.relnamespace = 'thunderline'::regnamespace
        ORDER BY 1""",
    "columns": """
        SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
          a.attgenerated, pg_get_expr(d.adbin, d.adrelid), l.collname
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
        LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
        LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
        WHERE c.relnamespace = 'thunderline'::regnamespace AND a.attnum > 0 ORDER BY 1, 2""",
    "constraints": """
        SELECT conrelid::regclass::text, conname, contype, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = 'thunderline'::regnamespace ORDER BY 1, 2""",
    "indexes": """
        SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'thunderline' ORDER BY 1, 2""",
    "functions": """
        SELECT proname, pg_get_functiondef(oid), proacl::text FROM pg_proc
        WHERE pronamespace = 'thunderline'::regnamespace ORDER BY 1, 2""",
    "sequences": """
        SELECT sequencename, data_type::text, start_value, increment_by, cycle, cache_size FROM pg_sequences
        WHERE schemaname = 'thunderline' ORDER BY 1""",
    "triggers": """
        SELECT tgrelid::regclass::text, tgname FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
        WHERE c.relnamespace = 'thunderline'::regnamespace AND NOT tgisinternal ORDER BY 1, 2""",
}


@pytest.fixture
def empty_url(postgres: PostgresDatabases) -> Iterator[str]:
    """A database in which nothing is."""
    url = postgres.server.create_database()
    yield url
    postgres.drop(url)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    connection = await Dialler(url, QUERIES).connect()
    try:
        yield connection
    finally:
        await connection.close()


async def catalogue(connection: Any) -> dict[str, list[tuple[Any, ...]]]:
    """All that makes up the schema."""
    return {name: [tuple(row) for row in await connection.fetch(sql)] for name, sql in CATALOGUE.items()}


async def test_schema_is_what_all_migrations_leave(
    postgres: PostgresDatabases, empty_url: str, clock: ManualClock
) -> None:
    async with connected(empty_url) as connection:
        await connection.execute(QUERIES.create_schema.sql)
        await connection.execute((PACKAGE / "schema.sql").read_text(encoding="utf-8"))
        fresh = await catalogue(connection)
    other = postgres.server.create_database()
    async with connected(other) as connection:
        await migrate(connection, QUERIES, clock=clock, post=True)
        migrated = await catalogue(connection)
    postgres.drop(other)
    for name in CATALOGUE:
        assert fresh[name] == migrated[name], name
    assert len(fresh["functions"]) == 2
    assert len(fresh["relations"]) > 30


def test_migrations_are_numbered_from_one_each_number_once() -> None:
    versions = [migration.version for migration in migrations()]
    assert versions[0] == 1
    assert versions == sorted(set(versions))
    assert len(list((PACKAGE / "migrations").iterdir())) == len(migrations())


async def test_migrating_again_changes_nothing(empty_url: str, clock: ManualClock) -> None:
    async with connected(empty_url) as connection:
        assert await migrate(connection, QUERIES, clock=clock) == migrations()
        before = await catalogue(connection)
        assert await migrate(connection, QUERIES, clock=clock, post=True) == []
        assert await catalogue(connection) == before


async def test_failed_migration_leaves_the_version_before_it(
    empty_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Migration(9000, "broken", "CREATE TABLE half (a integer);\nSELECT 1;\nCREATE TABLE half (a integer);")
    async with connected(empty_url) as connection:
        await migrate(connection, QUERIES, clock=clock)
        before = await catalogue(connection)
        monkeypatch.setattr(migrate_module, "migrations", lambda: [*migrations(), broken])
        with pytest.raises(asyncpg.DuplicateTableError, match="half"):
            await migrate(connection, QUERIES, clock=clock)
        assert not connection.is_in_transaction()
        assert await catalogue(connection) == before
        assert len(await connection.fetch(QUERIES.select_migrations.sql)) == len(migrations())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("INSERT INTO migrations VALUES (9999, 'far_ahead', 'abc', 0)", r"9999_far_ahead.*later Thunderline"),
        ("UPDATE migrations SET sha256 = 'abc' WHERE version = 1", r"0001_foundation is not the one"),
    ],
    ids=["later-version", "changed-checksum"],
)
async def test_database_of_another_version_is_refused_and_kept(postgres_url: str, change: str, problem: str) -> None:
    async with PostgresStore(postgres_url) as store:
        await store.commit(WriteBatch(batch_id=batch_id(1), base=Revision(0), nodes=[make_node(1)]))
    async with connected(postgres_url) as connection:
        await connection.execute(change)
        before = await catalogue(connection), await connection.fetch("SELECT * FROM writers"), await rows(connection)
        with pytest.raises(StoreIncompatible, match=problem):
            await PostgresStore(postgres_url).open()
        assert before == (
            await catalogue(connection), await connection.fetch("SELECT * FROM writers"), await rows(connection)
        )  # fmt: skip


async def rows(connection: Any) -> list[Any]:
    return [
        await connection.fetch(f"SELECT * FROM {table} ORDER BY 1") for table in ("nodes", "migrations", "log_head")
    ]


async def test_schema_of_that_name_that_is_not_ours_is_refused_and_kept(empty_url: str) -> None:
    async with connected(empty_url) as connection:
        await connection.execute("CREATE SCHEMA thunderline; CREATE TABLE thunderline.theirs (a integer)")
        with pytest.raises(StoreIncompatible, match="not ours"):
            await PostgresStore(empty_url).open()
        assert [row[0] for row in (await catalogue(connection))["relations"]] == ["theirs"]


async def test_schema_that_was_made_for_us_is_taken(empty_url: str) -> None:
    async with connected(empty_url) as connection:
        await connection.execute("CREATE SCHEMA thunderline")
    async with PostgresStore(empty_url) as store:
        assert await store.scan_nodes(after=None, limit=1) == []


POST = Migration(9000, "drop_old", "CREATE TABLE after_all (a integer)", is_post=True)
LATER = Migration(9001, "add_new", "CREATE TABLE newer (a integer)")


async def test_post_migration_waits_unless_it_is_asked_for_or_one_comes_after_it(
    empty_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = migrations()
    async with connected(empty_url) as connection:
        await migrate(connection, QUERIES, clock=clock)
        monkeypatch.setattr(migrate_module, "migrations", lambda: [*ours, POST])
        assert await migrate(connection, QUERIES, clock=clock) == []
        monkeypatch.setattr(migrate_module, "migrations", lambda: [*ours, POST, LATER])
        assert await migrate(connection, QUERIES, clock=clock) == [POST, LATER]
        last = Migration(9002, "drop_more", "DROP TABLE newer", is_post=True)
        monkeypatch.setattr(migrate_module, "migrations", lambda: [*ours, POST, LATER, last])
        assert await migrate(connection, QUERIES, clock=clock) == []
        assert await migrate(connection, QUERIES, clock=clock, post=True) == [last]


@pytest.mark.parametrize("begun", [False, True], ids=["empty", "only-begun"])
async def test_new_database_gets_post_migrations_at_once(
    empty_url: str, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    ours = migrations()
    monkeypatch.setattr(migrate_module, "migrations", lambda: [*ours, POST])
    async with connected(empty_url) as connection:
        if begun:  # by a process that was killed before its first migration
            await connection.execute(QUERIES.create_schema.sql)
            await connection.execute(QUERIES.create_migrations.sql)
        assert await migrate(connection, QUERIES, clock=clock) == [*ours, POST]


async def test_two_that_migrate_at_once_apply_each_migration_once(empty_url: str, clock: ManualClock) -> None:
    async with connected(empty_url) as one, connected(empty_url) as two:
        applied = await asyncio.gather(*(migrate(each, QUERIES, clock=clock) for each in (one, two)))
        assert sorted(migration.version for each in applied for migration in each) == [
            migration.version for migration in migrations()
        ]


async def test_one_that_comes_while_another_makes_the_schema_waits_for_it(empty_url: str, clock: ManualClock) -> None:
    async with connected(empty_url) as one, connected(empty_url) as two:
        begun = one.transaction()
        await begun.start()
        await one.execute(QUERIES.create_schema.sql)
        await one.execute(QUERIES.create_migrations.sql)
        migrating = asyncio.ensure_future(migrate(two, QUERIES, clock=clock))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()"
        while not await one.fetchval(waiting):
            pass
        await begun.commit()
        assert await migrating == migrations()


def test_migrating_takes_as_long_as_it_needs() -> None:
    assert QUERIES.no_statement_timeout.sql.strip().startswith("SET LOCAL statement_timeout = 0")


# How rows are found

FILL = """
INSERT INTO metas SELECT ('\\x' || lpad(to_hex(i), 8, '0'))::bytea, '{}' FROM generate_series(1, 4000) AS i;
INSERT INTO nodes SELECT 'n' || i, 'name' || i, i, '{}', NULL FROM generate_series(1, 4000) AS i;
INSERT INTO link_sessions SELECT 's' || i, 'session' || i, 'n' || i, i % 2 = 0, '{}', NULL
  FROM generate_series(1, 4000) AS i;
INSERT INTO groups SELECT 'g' || i, 'group' || i, i, '{}', NULL FROM generate_series(1, 4000) AS i;
INSERT INTO presence SELECT 'n' || i, '' FROM generate_series(1, 4000) AS i;
INSERT INTO events SELECT i, 'e' || i, 'cluster.node.online', i * 1000, '', '', '', 'node', 'n' || i % 500, '', NULL, 1,
  i % 100 = 0, '{}', ('\\x' || lpad(to_hex(i % 4000), 8, '0'))::bytea, i FROM generate_series(1, 20000) AS i;
INSERT INTO event_minutes SELECT i, 'cluster.node.online', 1 FROM generate_series(1, 4000) AS i;
INSERT INTO clock_steps SELECT i * 10 FROM generate_series(1, 2000) AS i;
INSERT INTO log_marks SELECT i * 5, i FROM generate_series(1, 4000) AS i;
INSERT INTO snapshots SELECT i * 10, part, '' FROM generate_series(1, 1000) AS i, generate_series(0, 3) AS part;
INSERT INTO tokens SELECT 't' || i, 'token', 'name' || i, NULL, '{}' FROM generate_series(1, 4000) AS i;
INSERT INTO audit SELECT 'a' || i, i, '{}' FROM generate_series(1, 20000) AS i;
INSERT INTO documents SELECT 's' || i % 4, 'k' || i, '' FROM generate_series(1, 4000) AS i;
INSERT INTO kept_answers SELECT 'c', 'k' || i, '', 200, '', i, i FROM generate_series(1, 4000) AS i;
SELECT add_partition('heartbeat_blocks', 'kept_minute', i * 10, i * 10 + 10) FROM generate_series(0, 3) AS i;
SELECT add_partition('heartbeat_minutes', 'minute', i * 60, i * 60 + 60) FROM generate_series(0, 3) AS i;
SELECT add_partition('heartbeat_rollups', 'minute', i * 120, i * 120 + 120) FROM generate_series(0, 1) AS i;
INSERT INTO heartbeat_blocks (kept_minute, min_at_ms, max_at_ms, beats, block)
  SELECT i / 200, i * 300, i * 300 + 300, 1, '\\x00' FROM generate_series(1, 8000) AS i;
INSERT INTO heartbeat_minutes SELECT i % 240, ('\\x' || lpad(to_hex(i / 240), 8, '0'))::bytea, i % 1000 = 0, '\\x00'
  FROM generate_series(1, 9600) AS i;
INSERT INTO heartbeat_rollups SELECT i % 240, ('\\x' || lpad(to_hex(i / 240), 8, '0'))::bytea, i % 1000 = 0, 1, 0,
  0, NULL, NULL, NULL, 0, NULL, NULL, NULL, 0, NULL, NULL, NULL FROM generate_series(1, 9600) AS i;
INSERT INTO heartbeat_sizes SELECT i, 100, 100 FROM generate_series(0, 239) AS i;
UPDATE heartbeat_history SET compacted_block = 4000, pass_block = 4000;
UPDATE checkpoint SET presence_block = 3900;
"""


@pytest.fixture(scope="module")
def filled(postgres: PostgresDatabases) -> Iterator[str]:
    """A database in which there is something."""
    url = postgres.server.create_database()
    asyncio.run(_fill(url))
    yield url
    postgres.drop(url)


@pytest.fixture(scope="module")
def plans(postgres: PostgresDatabases, filled: str) -> dict[str, Any]:
    """By statement, its plan for whatever it is given."""

    def plan_of(name: str) -> Any:
        # What a plan still reads in the order of its pages it cannot find otherwise.
        settings = "SET search_path = thunderline; SET enable_seqscan = off;"
        sql = getattr(QUERIES, name).sql
        return json.loads(postgres.execute(filled, f"{settings} EXPLAIN (GENERIC_PLAN, FORMAT JSON) {sql}"))[0]["Plan"]

    return {name: plan_of(name) for name in FINDING}


async def _fill(url: str) -> None:
    async with connected(url) as connection:
        await migrate(connection, QUERIES, clock=ManualClock())
        await connection.execute(FILL)
        await connection.execute("ANALYZE")


def scans_of(plan: dict[str, Any], *, limited: bool = False) -> Iterator[tuple[dict[str, Any], bool]]:
    """Every step of a plan, and whether whoever asks for its rows takes but a few of the first."""
    yield plan, limited
    kind = plan["Node Type"]
    limited = kind == "Limit" or (limited and kind in ("Append", "Merge Append", "Result", "Subquery Scan", "LockRows"))
    for inner in plan.get("Plans", ()):
        yield from scans_of(inner, limited=limited)


def table_of(step: dict[str, Any]) -> str:
    """The table that a step reads, partitions being their parent; empty where it reads none."""
    name = step.get("Relation Name") or step.get("Index Name", "")
    return re.sub(r"^(heartbeat_(blocks|minutes|rollups))_.*", r"\1", name)


@pytest.mark.parametrize("name", FINDING)
def test_no_statement_reads_a_whole_table(plans: dict[str, Any], name: str) -> None:
    whole = {
        table_of(step)
        for step, limited in scans_of(plans[name])
        if step["Node Type"] == "Seq Scan"
        or (
            re.fullmatch(r"(Bitmap )?Index (Only )?Scan", step["Node Type"])
            and "Index Cond" not in step
            and not limited
        )
    }
    assert {table for table in whole if table not in SMALL} == {table for each, table in WHOLE if each == name}


@pytest.mark.parametrize("name", FINDING)
def test_no_statement_sorts_all_it_finds(plans: dict[str, Any], name: str) -> None:
    sorts = [step["Sort Key"] for step, _ in scans_of(plans[name]) if step["Node Type"] == "Sort"]
    assert (sorts != []) == (name in SORTING), sorts


@pytest.mark.parametrize(
    ("name", "index", "columns"),
    [
        ("scan_nodes", "nodes_pkey", "id"),
        ("scan_open_sessions", "link_sessions_open", "id"),
        ("find_session", "link_sessions_session_id_key", "session_id"),
        ("read_events", "events_pkey", "revision"),
        ("read_past", "events_of_entity", "entity_id revision"),
        ("read_entity", "events_of_entity", "entity_id revision"),
        ("read_entity_at", "events_of_entity", "entity_id revision"),
        ("read_changes", "events_pkey", "revision"),
        ("events_by_bin", "event_minutes_pkey", "minute"),
        ("delete_event_minutes", "event_minutes_pkey", "minute"),
        ("delete_superseded", "events_of_entity", "entity_id revision"),
        ("delete_closed_sessions", "link_sessions_pkey", "id"),
        ("delete_expired_answers", "kept_answers_expiring", "expires_at_ms"),
        ("find_answer", "kept_answers_pkey", "caller key"),
        ("scan_tokens", "tokens_pkey", "id"),
        ("read_audit", "audit_pkey", "id"),
        ("scan_documents", "documents_pkey", "shelf key"),
        ("trim_audit", "audit_at", "at_ms"),
        ("snapshot_below", "snapshots_pkey", "revision part"),
        ("rollups_of_node", "heartbeat_rollups_0_pkey", "node_key minute"),
        ("blocks_of_ids", "heartbeat_blocks_0_pkey", "id"),
        ("scan_blocks", "heartbeat_blocks_0_pkey", "id"),
    ],
)
def test_statement_uses_its_index(plans: dict[str, Any], name: str, index: str, columns: str) -> None:
    conditions = [step["Index Cond"] for step, _ in scans_of(plans[name]) if step.get("Index Name") == index
                  and "Index Cond" in step]  # fmt: skip
    assert any(all(column in condition for column in columns.split()) for condition in conditions)


def test_all_statements_that_find_rows_are_explained() -> None:
    assert {name for name, _ in WHOLE} | set(SORTING) < set(FINDING)
    assert {"scan_nodes", "read_past", "delete_superseded", "append_block", "set_oldest"} < set(FINDING)


async def test_every_cascade_finds_its_rows_by_an_index(empty_url: str, clock: ManualClock) -> None:
    async with connected(empty_url) as connection:
        await migrate(connection, QUERIES, clock=clock)
        keys = await connection.fetch(
            "SELECT k.conrelid::regclass::text AS child, k.conkey, array_agg(i.indkey::text) AS indexes "
            "FROM pg_constraint AS k JOIN pg_index AS i ON i.indrelid = k.conrelid "
            "WHERE k.contype = 'f' AND k.connamespace = 'thunderline'::regnamespace GROUP BY 1, 2 ORDER BY 1"
        )
    assert [key["child"] for key in keys] == ["link_sessions", "presence"]
    assert all(str(key["conkey"][0]) in [index.split()[0] for index in key["indexes"]] for key in keys)
