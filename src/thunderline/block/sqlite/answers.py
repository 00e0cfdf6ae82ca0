"""Answers to requests that carried a key: kept with what the requests brought about, and removed once they expired."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from thunderline.block.rows import answer_row
from thunderline.block.sqlite.bulk import BulkStatement
from thunderline.block.store import KeptAnswer

EXPIRED_STEP: Final = 64
"""Expired answers that a commit removes at most, besides two for each that it keeps."""


def keep_answers(
    connection: sqlite3.Connection, answers: Sequence[KeptAnswer], queries: Any, insert: BulkStatement
) -> None:
    """Write `answers` in the open transaction. Raises: sqlite3.IntegrityError when one is there already."""
    now_ms = max(answer.kept_at_ms for answer in answers)
    for answer in answers:
        connection.execute(queries.delete_expired_answer.sql, (answer.caller, answer.key, now_ms))
    # More than are added, so that they cannot pile up; few, since everybody waits for this commit.
    limit = EXPIRED_STEP + 2 * len(answers)
    expired = connection.execute(queries.select_expired_answers.sql, (now_ms, limit)).fetchall()
    for row in expired:
        connection.execute(queries.delete_answer.sql, row)
    insert.run(connection, [answer_row(answer) for answer in answers])
