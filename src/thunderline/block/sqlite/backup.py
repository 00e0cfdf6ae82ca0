"""Copies a database page by page as of one moment, while others write to it.

The copy is made inside one read transaction. So every page is that of one commit, and the copy does not begin anew when
somebody writes, which SQLite's backup does otherwise. Nobody waits for it; only the write-ahead log cannot be taken up
again from its beginning before the copy is done, and grows by what is written meanwhile.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from thunderline.block.sqlite.migrate import check_claimed
from thunderline.block.sqlite.partial import PartialFile
from thunderline.block.sqlite.reading import reading
from thunderline.block.upkeep import Backup, Report
from thunderline.core.errors import FileInTheWay, StoreIncompatible, UpkeepFailed

COPYING: Final = "copying"
FLUSHING: Final = "flushing"

_STEP_PAGES: Final = 256
_FLUSH_BYTES: Final = 32 * 2**20
"""Flushed as it grows: one flush of everything at the end would hold up the flushes of commits behind it."""

_FORMAT_VERSIONS_AT: Final = 18
_NO_LOG: Final = b"\x01\x01"
"""Write and read version of a file that is used without a write-ahead log. Source: SQLite, file format, 1.3.3."""


def write_backup(
    source: sqlite3.Connection, file: Path, *, queries: Any, upkeep: Any, overwrite: bool, report: Report
) -> Backup:
    """Copy the database that `source` reads into `file`. Raises: FileInTheWay, StoreIncompatible, UpkeepFailed."""
    in_the_way = FileInTheWay(str(file), hint="pass --force to overwrite it, or choose another name")
    if file.is_dir():
        raise UpkeepFailed(str(file), problem="is a directory; give the path of a file")
    if file.exists() and not overwrite:
        raise in_the_way
    check_claimed(source, queries)
    with PartialFile(file) as partial:
        head = copy_database(source, partial, queries=queries, upkeep=upkeep, report=report)
        report(FLUSHING, 0, 1)
        partial.flush()
        with reading(partial.path, is_at_rest=True) as copy:
            if copy.execute(queries.select_head.sql).fetchone() != head:
                raise UpkeepFailed(str(file), problem="the copy does not read back as it was written; check the disk")
        try:
            partial.place(overwrite=overwrite)
        except FileExistsError as error:
            raise in_the_way from error
        report(FLUSHING, 1, 1)
        log_id, revision, _ = head
        return Backup(file=str(file), log_id=log_id, revision=revision, size_bytes=os.fstat(partial.fd).st_size)


def copy_database(
    source: sqlite3.Connection, partial: PartialFile, *, queries: Any, upkeep: Any, report: Report
) -> tuple[str, int, int]:
    """Fill `partial` with the database that `source` reads, as of now; gives the head of its log.

    Raises: StoreIncompatible when it has none; sqlite3.Error; OSError.
    """
    with closing(sqlite3.connect(partial.path, isolation_level=None)) as copy:
        # The file counts only once it is whole: nothing of it need be undone after a crash.
        copy.execute("PRAGMA journal_mode = OFF")
        copy.execute("PRAGMA synchronous = OFF")
        flushed_bytes = 0
        (page_bytes,) = source.execute("PRAGMA page_size").fetchone()

        def progress(_status: int, remaining: int, total: int) -> None:
            nonlocal flushed_bytes
            report(COPYING, (total - remaining) * page_bytes, total * page_bytes)
            if (total - remaining) * page_bytes - flushed_bytes >= _FLUSH_BYTES:
                flushed_bytes = (total - remaining) * page_bytes
                partial.flush()

        source.execute(upkeep.begin_reading.sql)
        try:
            head: tuple[str, int, int] | None = source.execute(queries.select_head.sql).fetchone()
            if head is None:
                raise StoreIncompatible("the database holds no log; 'thunderline serve' completes it")
            source.backup(copy, pages=_STEP_PAGES, progress=progress)
        finally:
            source.execute(queries.rollback.sql)
    os.pwrite(partial.fd, _NO_LOG, _FORMAT_VERSIONS_AT)
    return head
