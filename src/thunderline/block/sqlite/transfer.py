"""An SQLite database taken out row by row, and one put together from rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from thunderline.block.sqlite.bulk import BulkStatement
from thunderline.block.sqlite.history import RAW_OVERHEAD_BYTES, ROLLUP_BYTES
from thunderline.block.sqlite.reading import load_statements, reading
from thunderline.block.store import HistoryClock
from thunderline.block.transfer import TABLES, LogState, Rows, Sink, Source, state_of
from thunderline.core.errors import StoreIncompatible

PAGE: Final = 5_000


class SqliteSource(Source):
    """What `connection` reads, in a transaction of the caller's."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._statements = load_statements("transfer.sql")

    def state(self) -> LogState:
        row = self._connection.execute(self._statements.read_state.sql).fetchone()
        if row is None:
            raise StoreIncompatible("the database holds no log; 'thunderline serve' completes it")
        return state_of(row)

    def count(self, table: str) -> int:
        (rows,) = self._connection.execute(getattr(self._statements, f"count_{table}").sql).fetchone()
        return int(rows)

    def pages(self, table: str) -> Iterator[Rows]:
        found = self._connection.execute(getattr(self._statements, f"read_{table}").sql)
        while rows := found.fetchmany(PAGE):
            yield rows


class SqliteSink(Sink):
    """Fills the migrated, empty database of `connection`, in a transaction of the caller's."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._statements = load_statements("transfer.sql")
        self._bulk = {table: BulkStatement(getattr(self._statements, f"write_{table}").sql) for table in TABLES}

    def write(self, table: str, rows: Rows) -> None:
        self._bulk[table].run(self._connection, rows)

    def finish(self, state: LogState) -> None:
        execute, statements = self._connection.execute, self._statements
        head = (state.log_id, state.revision, state.oldest, state.compacted, state.presence_block)
        execute(statements.write_head.sql, head)
        clock = (None, None, None) if state.clock is None else _clock_row(state.clock)
        done = (state.compacted_block, state.pass_block, state.done_minute, state.done_key)
        execute(statements.write_history.sql, (*done, *clock, RAW_OVERHEAD_BYTES, ROLLUP_BYTES))
        execute(statements.clear_block_ids.sql)
        execute(statements.write_block_ids.sql, (max(state.pass_block, state.presence_block),))


@contextmanager
def opened_source(path: Path) -> Iterator[SqliteSource]:
    """The database at `path`, which nobody writes to meanwhile. Raises: what `reading` does."""
    upkeep = load_statements("upkeep.sql")
    with reading(path, is_at_rest=True) as connection:
        connection.execute(upkeep.begin_reading.sql)
        yield SqliteSource(connection)


def _clock_row(clock: HistoryClock) -> tuple[int, int, int]:
    return (clock.now_ms, clock.lead_ms, clock.stood_ms)
