"""The upkeep of an SQLite database: what `thunderline db` asks for, beside the threads of a store that may be open.

POSIX drops SQLite's locks when any descriptor of the database is closed; so nothing here opens the file but SQLite.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from thunderline.block.sqlite.backup import write_backup
from thunderline.block.sqlite.migrate import check_ours, migrate
from thunderline.block.sqlite.owner import holding, owner_of
from thunderline.block.sqlite.reading import beside, load_statements, reading, told_as_ours
from thunderline.block.sqlite.restore import Restore
from thunderline.block.sqlite.status import applied_migrations, read_status
from thunderline.block.upkeep import Backup, DatabaseStatus, Holder, Report, Restored, Upkeep
from thunderline.core.clock import Clock
from thunderline.core.errors import NoDatabase, UpkeepFailed
from thunderline.core.ids import IdSource


class SqliteUpkeep(Upkeep):
    """The upkeep of the database at `path`, a real one."""

    def __init__(self, path: Path, *, clock: Clock, ids: IdSource) -> None:
        self.control_path = beside(path, ".sock")
        self._path = path
        self._clock = clock
        self._ids = ids
        self._queries = load_statements("queries.sql")
        self._upkeep = load_statements("upkeep.sql")

    def holder(self) -> Holder | None:
        owner = owner_of(self._path)
        return None if owner is None else Holder(pid=owner.pid, host=owner.host, since=owner.since or None)

    def status(self) -> DatabaseStatus:
        holder = self.holder()
        with reading(self._path, is_at_rest=holder is None) as connection:
            return read_status(connection, self._path, queries=self._queries, upkeep=self._upkeep, holder=holder)

    def migrate(self, *, post: bool) -> list[str]:
        if not self._path.exists():
            raise NoDatabase(str(self._path))
        with told_as_ours(self._path), holding(self._path, clock=self._clock):
            check_ours(self._path, self._queries)
            with closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
                before = applied_migrations(connection, queries=self._queries, upkeep=self._upkeep)
                migrate(connection, self._queries, clock=self._clock)
                after = applied_migrations(connection, queries=self._queries, upkeep=self._upkeep)
        return [name for version, name in after.items() if version not in before]

    def backup(self, file: Path, *, overwrite: bool, report: Report) -> Backup:
        target = file.absolute()
        if target.resolve() in {beside(self._path, suffix) for suffix in ("", "-wal", "-shm", ".lock", ".sock")}:
            raise UpkeepFailed(str(file), problem="belongs to the database itself; choose another name")
        # Not at rest, even when nobody holds it: a server may start and write while the copy is made.
        with told_as_ours(target), reading(self._path, is_at_rest=False) as source:
            return write_backup(
                source, target, queries=self._queries, upkeep=self._upkeep, overwrite=overwrite, report=report
            )

    def restore(self, file: Path, *, replace: bool, report: Report) -> Restored:
        restore = Restore(self._path, clock=self._clock, ids=self._ids, queries=self._queries, upkeep=self._upkeep)
        return restore.run(file.resolve(), replace=replace, report=report)
