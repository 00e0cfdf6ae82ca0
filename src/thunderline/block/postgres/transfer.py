"""A PostgreSQL database taken out row by row, and one filled with rows, by COPY.

Upkeep blocks, and the driver does not: whatever it does runs on an event loop of its own, `Work`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from importlib import resources
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import aiosql

from thunderline.block.postgres.history import (
    RAW_OVERHEAD_BYTES,
    RAW_SPAN_MINUTES,
    ROLLUP_BYTES,
    ROLLUP_SPAN_MINUTES,
)
from thunderline.block.transfer import TABLES, LogState, Rows, Sink, Source, state_of
from thunderline.core.errors import NoDatabase

T = TypeVar("T")

PAGE: Final = 5_000
PARTITIONS_MAX: Final = 800
"""Made for what is copied; a history that would need more is wider than its retention, and goes to the `_rest`."""

_PARTITIONED: Final = {"heartbeat_minutes": RAW_SPAN_MINUTES, "heartbeat_rollups": ROLLUP_SPAN_MINUTES}
_FLAGS: Final = {"link_sessions": ("open",), "events": ("deleted",)}
"""Columns that SQLite keeps as 0 and 1."""


class Work:
    """An event loop for the length of a block, and a connection on it that `connect` makes."""

    def __init__(self, connect: Coroutine[Any, Any, Any]) -> None:
        self._runner = asyncio.Runner()
        self._connect = connect

    def __enter__(self) -> Self:
        self._runner.__enter__()
        try:
            self.connection = self._runner.run(self._connect)
        except BaseException as error:
            self._runner.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.terminate()
        self._runner.__exit__(kind, error, trace)

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        """What `step` gives."""
        return self._runner.run(step)


def load_transfer() -> Any:
    """The named statements of `transfer.sql`."""
    return aiosql.from_path(str(resources.files(__package__) / "transfer.sql"), "asyncpg", mandatory_parameters=False)


class PostgresSource(Source):
    """What the connection of `work` reads, in a transaction of the caller's that sees one moment."""

    def __init__(self, work: Work, *, location: str) -> None:
        self._work = work
        self._location = location
        self._statements = load_transfer()

    def state(self) -> LogState:
        row = self._work.run(self._work.connection.fetchrow(self._statements.read_state.sql))
        if row is None:
            raise NoDatabase(self._location)
        return state_of(tuple(row))

    def count(self, table: str) -> int:
        return int(self._work.run(self._work.connection.fetchval(self._statements.count_rows.sql, table)))

    def pages(self, table: str) -> Iterator[Rows]:
        cursor = self._work.run(self._open(getattr(self._statements, f"read_{table}").sql))
        while rows := self._work.run(cursor.fetch(PAGE)):
            yield rows

    async def _open(self, sql: str) -> Any:
        return await self._work.connection.cursor(sql)


class PostgresSink(Sink):
    """Fills the migrated, empty schema that the connection of `work` sees, in a transaction of the caller's."""

    def __init__(self, work: Work, queries: Any) -> None:
        self._work = work
        self._queries = queries
        self._statements = load_transfer()
        self._partitions: dict[str, set[int]] = {table: set() for table in _PARTITIONED}

    def write(self, table: str, rows: Rows) -> None:
        columns = TABLES[table]
        if (flags := _FLAGS.get(table)) is not None:
            places = [columns.index(flag) for flag in flags]
            rows = [[bool(value) if at in places else value for at, value in enumerate(row)] for row in rows]
        if table in _PARTITIONED:
            self._make_partitions(table, rows)
            columns, rows = (*columns, "late"), [(*row, False) for row in rows]
        self._work.run(self._work.connection.copy_records_to_table(table, records=rows, columns=columns))

    def finish(self, state: LogState) -> None:
        self._work.run(self._finish(state))

    def _make_partitions(self, table: str, rows: Rows) -> None:
        span, made = _PARTITIONED[table], self._partitions[table]
        for low in sorted({row[0] // span * span for row in rows} - made):
            if len(made) < PARTITIONS_MAX:
                made.add(low)
                self._work.run(
                    self._work.connection.fetchval(self._queries.add_partition.sql, table, "minute", low, low + span)
                )

    async def _finish(self, state: LogState) -> None:
        execute, statements = self._work.connection.execute, self._statements
        await execute(statements.write_head.sql, state.log_id, state.revision)
        await execute(statements.write_tail.sql, state.oldest, state.compacted)
        await execute(self._queries.set_presence_block.sql, state.presence_block)
        await execute(
            statements.write_history.sql, state.compacted_block, state.pass_block, state.done_minute, state.done_key
        )
        await execute(statements.write_sizes.sql, RAW_OVERHEAD_BYTES, ROLLUP_BYTES)
        await self._work.connection.fetchval(
            statements.write_block_ids.sql, max(state.pass_block, state.presence_block)
        )
        if state.clock is not None:
            clock = (state.clock.now_ms, state.clock.lead_ms, state.clock.stood_ms)
            await execute(self._queries.set_age_clock.sql, *clock)
