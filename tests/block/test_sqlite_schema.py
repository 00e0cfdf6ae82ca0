"""The schema, its migrations, and how each statement finds its rows."""

from __future__ import annotations

import ast
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Any

import aiosql
import pytest

import thunderline
from thunderline.block.migrations import Migration
from thunderline.block.sqlite import SqliteStore
from thunderline.block.sqlite import migrate as migrate_module
from thunderline.block.sqlite.migrate import APPLICATION_ID, migrate, migrations
from thunderline.block.store import WriteBatch
from thunderline.core.errors import StoreIncompatible
from thunderline.core.ids import Revision
from thunderline.testing.clock import ManualClock
from thunderline.testing.records import batch_id, make_event, make_node, make_session

PACKAGE = resources.files("thunderline.block.sqlite")
QUERIES: Any = aiosql.from_path(str(PACKAGE / "queries.sql"), "sqlite3", mandatory_parameters=False)
STATEMENTS = sorted(name for name in QUERIES.available_queries if not name.endswith("_cursor"))
READING = [name for name in STATEMENTS if "SELECT" in getattr(QUERIES, name).sql]

SMALL = {
    "count_tables": "SQLite's own table of tables, read at open",
    "select_migrations": "one row per migration, read at open",
}
"""Statements that may read a whole table, and why."""

GROUPED = (
    ("rollups_of_node", "USE TEMP B-TREE FOR GROUP BY"),
    # One row for each name and minute, which come in order of time: as many bins as are given, a few names in each.
    ("events_by_bin", "USE TEMP B-TREE FOR GROUP BY"),
)
"""Statements that put together what they find, which is sorted but for the names in it."""


@pytest.fixture
def migrated(clock: ManualClock) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, QUERIES, clock=clock)
        yield connection


def schema_of(connection: sqlite3.Connection) -> list[tuple[str, ...]]:
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").fetchall()
    # SQLite keeps the text of each statement, with IF NOT EXISTS, line ends, and a space where a column came later.
    return [
        (kind, name, table, re.sub(r"\s*([,()]|\s)\s*", r"\1", sql or "").replace("IF NOT EXISTS ", ""))
        for kind, name, table, sql in rows
    ]


def test_schema_is_what_all_migrations_leave(migrated: sqlite3.Connection) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as fresh:
        fresh.executescript((PACKAGE / "schema.sql").read_text(encoding="utf-8"))
        assert schema_of(fresh) == schema_of(migrated)


def test_migrations_are_numbered_from_one_each_number_once() -> None:
    # Numbers are given out when work begins, so that one may be missing for a while.
    versions = [migration.version for migration in migrations()]
    assert versions[0] == 1
    assert versions == sorted(set(versions))
    assert len(list((PACKAGE / "migrations").iterdir())) == len(migrations())


def test_migrating_again_changes_nothing(migrated: sqlite3.Connection, clock: ManualClock) -> None:
    before = schema_of(migrated)
    assert migrate(migrated, QUERIES, clock=clock) == 0
    assert schema_of(migrated) == before
    assert migrated.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


def test_failed_migration_leaves_the_version_before_it(
    migrated: sqlite3.Connection, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = schema_of(migrated)
    broken = Migration(9000, "broken", "CREATE TABLE half (a);\nINSERT INTO half VALUES (1);\nCREATE TABLE half (a);")
    monkeypatch.setattr(migrate_module, "migrations", lambda: [*migrations(), broken])
    with pytest.raises(sqlite3.OperationalError, match="half"):
        migrate(migrated, QUERIES, clock=clock)
    assert not migrated.in_transaction
    assert schema_of(migrated) == before
    assert len(migrated.execute(QUERIES.select_migrations.sql).fetchall()) == len(migrations())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("INSERT INTO migrations VALUES (9999, 'far_ahead', 'abc', 0)", r"9999_far_ahead.*later Thunderline"),
        ("UPDATE migrations SET sha256 = 'abc' WHERE version = 1", r"0001_foundation is not the one"),
    ],
    ids=["later-version", "changed-checksum"],
)
async def test_database_of_another_version_is_refused_and_kept(tmp_path: Path, change: str, problem: str) -> None:
    path = tmp_path / "nodes.db"
    async with SqliteStore(path) as store:
        await store.commit(WriteBatch(batch_id=batch_id(1), base=Revision(0), nodes=[make_node(1)]))
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(change)
        before = list(connection.iterdump())
    with pytest.raises(StoreIncompatible, match=problem):
        await SqliteStore(path).open()
    with closing(sqlite3.connect(path)) as connection:
        assert list(connection.iterdump()) == before


def explain(connection: sqlite3.Connection, sql: str) -> list[str]:
    """The steps of the query plan of `sql`, with nothing bound to its parameters."""
    for parameters in range(10):
        try:
            rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", (None,) * parameters).fetchall()
        except sqlite3.ProgrammingError:
            continue
        return [row[3] for row in rows]
    raise AssertionError(f"too many parameters: {sql}")


@pytest.mark.parametrize("name", READING)
def test_no_query_reads_a_whole_table(migrated: sqlite3.Connection, name: str) -> None:
    # A recursion is made up as it is read: each of its rows is one search for the next one.
    steps = explain(migrated, getattr(QUERIES, name).sql)
    scans = [step for step in steps if step.startswith("SCAN") and step not in ("SCAN walk", "SCAN entities")]
    assert (scans != []) == (name in SMALL)


def test_all_reading_queries_are_explained() -> None:
    assert set(SMALL) < set(READING)
    assert {"scan_nodes", "scan_open_sessions", "find_session", "read_past", "delete_superseded"} < set(READING)


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("blocks_between", "USING INDEX heartbeat_blocks_at (max_at_ms>?)"),
        ("block_between", "USING INTEGER PRIMARY KEY (rowid=?)"),
        ("scan_open_sessions", "USING INDEX link_sessions_open (id>?)"),
        ("find_session", "(session_id=?)"),
        ("scan_nodes", "USING PRIMARY KEY (id>?)"),
        ("scan_groups", "USING PRIMARY KEY (id>?)"),
        ("scan_presence", "USING PRIMARY KEY (node_id>?)"),
        ("scan_blocks", "USING INTEGER PRIMARY KEY (rowid>?)"),
        ("read_events", "USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("read_changes", "USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("read_past", "USING COVERING INDEX events_of_entity (entity_id=? AND revision<?)"),
        ("read_entity", "e USING INDEX events_of_entity (entity_id=? AND revision>? AND revision<?)"),
        ("read_entity_at", "e USING INDEX events_of_entity (entity_id=? AND revision<?)"),
        ("events_by_bin", "USING PRIMARY KEY (minute>? AND minute<?)"),
        ("delete_event_minutes", "USING PRIMARY KEY (minute<?)"),
        ("clock_steps", "USING INTEGER PRIMARY KEY (rowid<?)"),
        ("event_time", "USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("commit_end", "USING INTEGER PRIMARY KEY (rowid=?)"),
        ("read_snapshot", "USING COVERING INDEX sqlite_autoindex_snapshots_1 (revision>? AND revision<?)"),
        ("delete_snapshots", "USING COVERING INDEX sqlite_autoindex_snapshots_1 (revision<?)"),
        ("delete_superseded", "e USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("delete_superseded", "earlier USING COVERING INDEX events_of_entity (entity_id=? AND revision<?)"),
        ("delete_closed_sessions", "link_sessions USING PRIMARY KEY (id=?)"),
        ("delete_closed_sessions", "e USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("delete_closed_sessions", "later USING COVERING INDEX events_of_entity (entity_id=? AND revision>?)"),
        ("delete_ends", "USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("mark_below", "USING INTEGER PRIMARY KEY (rowid<?)"),
        ("read_snapshot", "USING INDEX sqlite_autoindex_snapshots_1 (revision=?)"),
        ("get_session", "(id=?)"),
        ("scan_tokens", "USING PRIMARY KEY (id>?)"),
        ("read_audit", "USING PRIMARY KEY (id<?)"),
        ("scan_documents", "USING PRIMARY KEY (shelf=? AND key>?)"),
        ("trim_audit", "USING COVERING INDEX audit_at (at_ms<?)"),
        ("trim_audit", "USING PRIMARY KEY (id=?)"),
        ("newest_block", "SEARCH heartbeat_blocks"),
        ("blocks_to_compact", "USING INTEGER PRIMARY KEY (rowid>?)"),
        ("blocks_of_pass", "USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ("bytes_in_blocks", "USING INTEGER PRIMARY KEY (rowid>?)"),
        ("compacted_blocks", "USING INTEGER PRIMARY KEY (rowid<?)"),
        ("delete_blocks", "USING INTEGER PRIMARY KEY (rowid<?)"),
        ("has_minute", "USING PRIMARY KEY (minute=?)"),
        ("select_minute", "m USING PRIMARY KEY (minute=? AND node_key=?) LEFT-JOIN"),
        ("select_minute", "r USING PRIMARY KEY (minute=? AND node_key=?)"),
        ("oldest_minutes", "USING PRIMARY KEY (minute<?)"),
        ("oldest_rollups", "r USING PRIMARY KEY (minute<?)"),
        ("oldest_rollups", "m USING PRIMARY KEY (minute=? AND node_key=?) LEFT-JOIN"),
        ("delete_minutes", "USING PRIMARY KEY ((minute,node_key)<(?,?))"),
        ("delete_rollups", "USING PRIMARY KEY ((minute,node_key)<(?,?))"),
        ("minutes_of_all", "USING PRIMARY KEY (minute>? AND minute<?)"),
        ("minutes_of_node", "heartbeat_minutes USING PRIMARY KEY (minute<?)"),
        ("minutes_of_node", "earlier USING PRIMARY KEY (minute<?)"),
        ("minutes_of_node", "m USING PRIMARY KEY (minute=? AND node_key=?)"),
        ("rollups_of_node", "heartbeat_rollups USING PRIMARY KEY (minute>?)"),
        ("rollups_of_node", "later USING PRIMARY KEY (minute>?)"),
        ("rollups_of_node", "r USING PRIMARY KEY (minute=? AND node_key=?)"),
        ("rolled_up_only", "r USING PRIMARY KEY (minute=? AND node_key=?)"),
        ("rolled_up_only", "m USING PRIMARY KEY (minute=? AND node_key=?) LEFT-JOIN"),
    ],
)
def test_query_uses_its_index(migrated: sqlite3.Connection, name: str, index: str) -> None:
    assert any(
        step.startswith("SEARCH") and step.endswith(index) for step in explain(migrated, getattr(QUERIES, name).sql)
    )


@pytest.mark.parametrize("name", READING)
def test_no_query_sorts_all_it_finds(migrated: sqlite3.Connection, name: str) -> None:
    sorts = [step for step in explain(migrated, getattr(QUERIES, name).sql) if "TEMP B-TREE" in step]
    # Blocks of one millisecond are put in order among themselves; the index has the rest. One node's rollups come in
    # order of time, so that grouping them sorts what is sorted, and as many rows as there are buckets are given.
    assert all(re.search(r"(LAST TERM|RIGHT PART) OF ORDER BY", step) or (name, step) in GROUPED for step in sorts)


def test_every_cascade_finds_its_rows_by_an_index(migrated: sqlite3.Connection) -> None:
    tables = [row[0] for row in migrated.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    cascades = [
        (table, key[3])
        for table in tables
        for key in migrated.execute(f"PRAGMA foreign_key_list({table})")
        if key[6] == "CASCADE"
    ]
    assert sorted(cascades) == [("link_sessions", "node_id"), ("presence", "node_id")]
    for table, column in cascades:
        steps = explain(migrated, f"DELETE FROM {table} WHERE {column} = ?")
        assert [step.partition(" ")[0] for step in steps] == ["SEARCH"]


def test_every_table_checks_its_types(migrated: sqlite3.Connection) -> None:
    loose = [row[1] for row in migrated.execute("PRAGMA table_list") if not row[5] and not row[1].startswith("sqlite_")]
    assert loose == []


async def test_equal_metas_are_stored_once(tmp_path: Path) -> None:
    path = tmp_path / "nodes.db"
    meta = {"rack": "r1", "disks": [1, 2]}
    node, twin = make_node(1, meta=meta), make_node(2, meta=dict(reversed(meta.items())))
    session = make_session(1, node, meta=meta)
    async with SqliteStore(path) as store:
        events = [make_event(revision, record) for revision, record in enumerate((node, twin, session), start=1)]
        batch = WriteBatch(
            batch_id=batch_id(1), base=Revision(0), events=events, nodes=[node, twin], sessions=[session]
        )
        await store.commit(batch)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM metas").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM events WHERE payload LIKE '%rack%'").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM nodes WHERE record LIKE '%rack%'").fetchone() == (0,)


SQL_VERBS = re.compile(
    r"\b(SELECT\s+\S|INSERT\s+(OR\s+\w+\s+)?INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|BEGIN\s+(IMMEDIATE|EXCLUSIVE)|"
    r"(CREATE|DROP|ALTER)\s+(UNIQUE\s+)?(TABLE|INDEX|VIEW|TRIGGER)|EXPLAIN\s|COMMIT;|ROLLBACK;|VACUUM)"
)


def strings_of(source: str) -> Iterator[str]:
    """Every text in `source` that is not a docstring."""
    tree = ast.parse(source)
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
            yield node.value


def test_sql_stands_in_sql_files_only() -> None:
    root = Path(thunderline.__file__).parent
    files = sorted(root.rglob("*.py"))
    assert len(files) > 30
    found = [
        (str(file.relative_to(root)), text)
        for file in files
        for text in strings_of(file.read_text(encoding="utf-8"))
        if SQL_VERBS.search(text)
    ]
    assert found == []


def test_the_search_for_sql_finds_it() -> None:
    source = 'def f():\n    """SELECT a FROM b"""\n    run(f"SELECT a FROM {b}", "PRAGMA x = 1", "BEGIN IMMEDIATE;")\n'
    assert [text for text in strings_of(source) if SQL_VERBS.search(text)] == ["BEGIN IMMEDIATE;", "SELECT a FROM "]
