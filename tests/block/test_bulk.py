"""Bulk statements write every row once, in order, however many there are."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thunderline.block.sqlite.bulk import BulkStatement

VALUES = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.text(max_size=5), st.binary(max_size=5))


@given(st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=200))
@example([(number, None, None) for number in range(64 * 3 + 16 * 3 + 4 * 3 + 3)])
def test_bulk_statement_writes_any_number_of_rows_in_order(rows: list[tuple[object, ...]]) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (a, b, c)")
        BulkStatement("INSERT INTO t (a, b, c)\nVALUES (?, ?, ?) RETURNING a").run(connection, rows)
        assert connection.execute("SELECT a, b, c FROM t ORDER BY rowid").fetchall() == rows


@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers()), max_size=150).map(
        lambda rows: [(k, v % 99) for k, v in rows]
    )
)
def test_bulk_upsert_leaves_the_last_value_of_each_key(rows: list[tuple[int, int]]) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, v)")
        statement = BulkStatement("INSERT INTO t (k, v) VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v;")
        statement.run(connection, rows)
        assert dict(connection.execute("SELECT k, v FROM t")) == dict(rows)


def test_row_that_fails_stops_the_statement_it_is_in() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (k INTEGER PRIMARY KEY)")
        rows = [(number,) for number in range(100)]
        with pytest.raises(sqlite3.IntegrityError):
            BulkStatement("INSERT INTO t (k) VALUES (?)").run(connection, [*rows, (99,)])


@pytest.mark.parametrize("sql", ["DELETE FROM t WHERE k = ?", "INSERT INTO t SELECT ?", "INSERT INTO t VALUES (1, 2)"])
def test_statement_without_a_row_of_question_marks_is_refused(sql: str) -> None:
    with pytest.raises(ValueError, match="question marks"):
        BulkStatement(sql)
