"""Bulk writes in few steps.

Each step of a statement gives up the interpreter's lock and has to win it back from the event loop, which under load
costs more than the row itself. So rows are written many to a statement, by repeating the `VALUES` row of the SQL file.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from typing import Final

# Few distinct sizes, so that every statement stays in the connection's statement cache.
_CHUNKS: Final = (64, 16, 4, 1)
_VALUES: Final = re.compile(r"VALUES\s*(\([?, ]+\))")


class BulkStatement:
    """A statement of the form `INSERT ... VALUES (?, ...) ...`, written for any number of rows."""

    def __init__(self, sql: str) -> None:
        row = _VALUES.search(sql)
        if row is None:
            raise ValueError("the statement has no VALUES row of question marks")
        self._by_rows = {
            rows: f"{sql[: row.start(1)]}{', '.join([row[1]] * rows)}{sql[row.end(1) :]}" for rows in _CHUNKS
        }

    def run(self, connection: sqlite3.Connection, rows: Sequence[Sequence[object]]) -> None:
        """Write `rows`, in order."""
        start = 0
        for size in _CHUNKS:
            while len(rows) - start >= size:
                flat = [value for row in rows[start : start + size] for value in row]
                connection.execute(self._by_rows[size], flat)
                start += size
