"""A backup made ready to be restored, into whatever engine: copied, found whole, and in this version's schema."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from thunderline.block.sqlite.backup import copy_database
from thunderline.block.sqlite.migrate import check_claimed, migrate
from thunderline.block.sqlite.partial import PartialFile
from thunderline.block.sqlite.reading import reading, told_as_ours
from thunderline.block.sqlite.status import applied_migrations, check_known
from thunderline.block.upkeep import Report
from thunderline.core.clock import Clock
from thunderline.core.errors import NoDatabase, NotABackup, StoreIncompatible, UpkeepFault

CHECKING: Final = "checking"

_OPS_BETWEEN_REPORTS: Final = 200_000
_PROBLEMS_TOLD: Final = 3


class CheckedBackup:
    """Makes checked copies of backups."""

    def __init__(self, *, clock: Clock, queries: Any, upkeep: Any) -> None:
        self._clock = clock
        self._queries = queries
        self._upkeep = upkeep

    def prepare(self, file: Path, partial: PartialFile, report: Report) -> list[str]:
        """Fill `partial` with the backup `file`; gives the migrations that it took.

        Raises: NotABackup.
        """
        try:
            with reading(file, is_at_rest=True) as source:
                if not check_claimed(source, self._queries):
                    raise StoreIncompatible("it is empty")
                check_known(source, queries=self._queries, upkeep=self._upkeep)
                copy_database(source, partial, queries=self._queries, upkeep=self._upkeep, report=report)
            # Apart from what others could make of it: nothing of it is written beside, and nobody else has it.
            with told_as_ours(file), closing(sqlite3.connect(partial.path, isolation_level=None)) as copy:
                copy.execute("PRAGMA journal_mode = MEMORY")
                self._check_whole(copy, file, report)
                before = applied_migrations(copy, queries=self._queries, upkeep=self._upkeep)
                migrate(copy, self._queries, clock=self._clock)
                after = applied_migrations(copy, queries=self._queries, upkeep=self._upkeep)
                return [name for version, name in after.items() if version not in before]
        except NoDatabase as error:
            raise NotABackup(str(file), problem="it is no file") from error
        except UpkeepFault:
            raise
        except StoreIncompatible as error:
            # Their hints are about --store, which is not what is wrong here.
            raise NotABackup(str(file), problem=str(error).replace(f"{file} ", "it ", 1).partition("; ")[0]) from error

    def _check_whole(self, copy: sqlite3.Connection, file: Path, report: Report) -> None:
        raised: list[BaseException] = []

        def look() -> bool:
            try:
                report(CHECKING, 0, 0)
            except BaseException as error:  # SQLite would drop it; it is raised below
                raised.append(error)
                return True
            return False

        report(CHECKING, 0, 0)
        copy.set_progress_handler(look, _OPS_BETWEEN_REPORTS)
        try:
            found = [row[0] for row in copy.execute(f"PRAGMA integrity_check({_PROBLEMS_TOLD})")]
        except sqlite3.Error:
            if raised:
                raise raised[0] from None
            raise
        finally:
            copy.set_progress_handler(None, 0)
        if found != ["ok"]:
            told = ", ".join(line for problem in found for line in str(problem).splitlines())
            raise NotABackup(str(file), problem=f"it is damaged ({told})")
