"""Puts a backup in a database's place, as a log of its own.

The order of steps is what a crash cannot harm: the new database is finished under another name and on stable storage;
the old one gets a second name; then one rename replaces it. A write-ahead log or journal that cannot be folded into the
old database goes with its second name first, since SQLite would take it for the new one's.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from thunderline.block.sqlite.backup import FLUSHING
from thunderline.block.sqlite.checked import CheckedBackup
from thunderline.block.sqlite.migrate import check_claimed
from thunderline.block.sqlite.owner import holding
from thunderline.block.sqlite.partial import PartialFile, flush_directory
from thunderline.block.sqlite.reading import beside, reading, told_as_ours
from thunderline.block.upkeep import Report, Restored
from thunderline.core.clock import Clock
from thunderline.core.errors import (
    FileInTheWay,
    NotABackup,
    StoreFault,
    UpkeepFailed,
)
from thunderline.core.ids import IdSource

_LOGS: Final = ("-wal", "-journal")
"""What SQLite keeps beside a database and would apply to whatever has its name."""


class Restore:
    """Restores into `target`, which nobody may hold."""

    def __init__(self, target: Path, *, clock: Clock, ids: IdSource, queries: Any, upkeep: Any) -> None:
        self._target = target
        self._clock = clock
        self._ids = ids
        self._queries = queries
        self._upkeep = upkeep
        self._checked = CheckedBackup(clock=clock, queries=queries, upkeep=upkeep)

    def run(self, file: Path, *, replace: bool, report: Report) -> Restored:
        """See `Upkeep.restore`."""
        with told_as_ours(self._target):
            # Told before anything is made or locked.
            if not file.exists():
                raise NotABackup(str(file), problem="there is no such file")
            self._target.parent.mkdir(parents=True, exist_ok=True)
            with holding(self._target, clock=self._clock):
                exists = self._target.exists()
                if exists and file.samefile(self._target):
                    raise NotABackup(str(file), problem="it is the database itself")
                if exists and not replace:
                    raise FileInTheWay(
                        str(self._target), hint="pass --force to replace it; it is then kept beside under another name"
                    )
                with PartialFile(self._target) as partial:
                    migrated = self._checked.prepare(file, partial, report)
                    log_id, revision = self._begin_log(partial.path)
                    self._dress(partial)
                    report(FLUSHING, 0, 1)
                    partial.flush()
                    replaced = self._keep_beside()
                    partial.place(overwrite=True)
                report(FLUSHING, 1, 1)
        return Restored(
            location=str(self._target), log_id=log_id, revision=revision, migrated=migrated, replaced=replaced
        )

    def _begin_log(self, path: Path) -> tuple[str, int]:
        """Make its log another one, so that cursors into the old one are found out; gives its id and its head."""
        log_id = self._ids()
        with closing(sqlite3.connect(path, isolation_level=None)) as copy:
            copy.execute("PRAGMA journal_mode = MEMORY")
            copy.execute(self._upkeep.renew_log.sql, (log_id,))
            read, revision, _ = copy.execute(self._queries.select_head.sql).fetchone()
        if read != log_id:
            raise UpkeepFailed(str(self._target), problem="the copy does not read back as it was written")
        return log_id, revision

    def _dress(self, partial: PartialFile) -> None:
        """Give the copy the owner and the mode of what it replaces: root may restore what a server of less serves."""
        exists = self._target.exists()
        like = (self._target if exists else self._target.parent).stat()
        if os.geteuid() == 0:
            os.chown(partial.fd, like.st_uid, like.st_gid)
        if exists:
            os.chmod(partial.fd, like.st_mode & 0o777)

    def _keep_beside(self) -> str | None:
        """Give what is there a second name, whole, and leave nothing that SQLite would apply to the new database."""
        if self._target.exists():
            self._fold()
        found = [suffix for suffix in ("", *_LOGS) if beside(self._target, suffix).exists()]
        if not found:
            return None
        kept = self._free_name()
        for suffix in found:
            _name_twice(beside(self._target, suffix), beside(kept, suffix))
        flush_directory(self._target.parent)
        for suffix in (*_LOGS, "-shm"):
            beside(self._target, suffix).unlink(missing_ok=True)
        flush_directory(self._target.parent)
        return str(kept) if "" in found else None

    def _fold(self) -> None:
        """Bring what the old database's log holds into its file, unless it is too damaged to be read."""
        try:
            # First without writing: of a file that it cannot read SQLite would remove the log.
            with reading(self._target, is_at_rest=True) as old:
                check_claimed(old, self._queries)
        except StoreFault:
            return
        with suppress(sqlite3.Error), closing(sqlite3.connect(self._target, isolation_level=None)) as old:
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _free_name(self) -> Path:
        name = f"{self._target.name}.before-restore-{self._clock.now():%Y%m%dT%H%M%SZ}"
        kept, number = self._target.with_name(name), 1
        while any(beside(kept, suffix).exists() for suffix in ("", *_LOGS)):
            number += 1
            kept = self._target.with_name(f"{name}-{number}")
        return kept


def _name_twice(file: Path, name: Path) -> None:
    try:
        name.hardlink_to(file)
    except OSError:  # a file system without hard links
        shutil.copy2(file, name)
        fd = os.open(name, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
