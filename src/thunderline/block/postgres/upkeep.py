"""The upkeep of a PostgreSQL database: what `thunderline db` asks for, over a connection of its own.

A backup is an SQLite database like every other backup of ours, so that one restores into either engine.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiosql

from thunderline.block.migrations import title_of
from thunderline.block.postgres.connection import Dialler, load_queries
from thunderline.block.postgres.failures import DRIVER_ERRORS, describe
from thunderline.block.postgres.migrate import migrate, migrations
from thunderline.block.postgres.owner import Owner, holder_of
from thunderline.block.postgres.transfer import PostgresSink, PostgresSource, Work, load_transfer
from thunderline.block.sqlite.backup import FLUSHING
from thunderline.block.sqlite.checked import CheckedBackup
from thunderline.block.sqlite.migrate import migrate as migrate_file
from thunderline.block.sqlite.partial import PartialFile
from thunderline.block.sqlite.reading import load_statements, told_as_ours
from thunderline.block.sqlite.transfer import SqliteSink, opened_source
from thunderline.block.transfer import LogState, transfer
from thunderline.block.upkeep import Backup, DatabaseStatus, HeartbeatHistory, Holder, Report, Restored, Upkeep
from thunderline.core.clock import Clock
from thunderline.core.errors import (
    FileInTheWay,
    NoDatabase,
    NotABackup,
    StoreIncompatible,
    StoreUnavailable,
    UpkeepFailed,
)
from thunderline.core.ids import IdSource


class PostgresUpkeep(Upkeep):
    """The upkeep of the database that `dialler` reaches; `location` is how it is shown."""

    control_path = None

    def __init__(self, dialler: Dialler, *, location: str, writer: str, clock: Clock, ids: IdSource) -> None:
        self._dialler = dialler
        self._location = location
        self._writer = writer
        self._clock = clock
        self._ids = ids
        self._queries = load_queries()
        self._statements: Any = aiosql.from_path(
            str(resources.files(__package__) / "upkeep.sql"), "asyncpg", mandatory_parameters=False
        )

    def holder(self) -> Holder | None:
        with self._working() as work:
            if not work.run(self._is_ours(work.connection)):
                return None
            return work.run(holder_of(work.connection, self._queries, writer=self._writer))

    def status(self) -> DatabaseStatus:
        with self._working() as work:
            return work.run(self._status(work.connection))

    def migrate(self, *, post: bool) -> list[str]:
        with self._working() as work:
            done = work.run(migrate(work.connection, self._queries, clock=self._clock, post=post))
            return [migration.title for migration in done]

    def backup(self, file: Path, *, overwrite: bool, report: Report) -> Backup:
        in_the_way = FileInTheWay(str(file), hint="pass --force to overwrite it, or choose another name")
        if file.is_dir():
            raise UpkeepFailed(str(file), problem="is a directory; give the path of a file")
        if file.exists() and not overwrite:
            raise in_the_way
        target = file.absolute()
        with told_as_ours(target), self._working() as work, PartialFile(target) as partial:
            work.run(self._check_current(work.connection))
            reading = work.connection.transaction(isolation="repeatable_read", readonly=True)
            work.run(reading.start())
            state = self._take_out(PostgresSource(work, location=self._location), partial, report)
            report(FLUSHING, 0, 1)
            partial.flush()
            try:
                partial.place(overwrite=overwrite)
            except FileExistsError as error:
                raise in_the_way from error
            report(FLUSHING, 1, 1)
            size_bytes = os.fstat(partial.fd).st_size
        return Backup(file=str(target), log_id=state.log_id, revision=state.revision, size_bytes=size_bytes)

    def restore(self, file: Path, *, replace: bool, report: Report) -> Restored:
        if not file.exists():
            raise NotABackup(str(file), problem="there is no such file")
        with TemporaryDirectory(prefix="thunderline-restore-") as folder, self._working() as work:
            owner = Owner(self._writer, self._ids(), self._queries, location=self._location, clock=self._clock)
            work.run(self._claim(work.connection, owner))
            in_the_way = not work.run(self._is_empty(work.connection))
            if in_the_way and not replace:
                raise FileInTheWay(
                    self._location, hint="pass --force to replace it; it is then kept beside as another schema"
                )
            with told_as_ours(Path(folder)), PartialFile(Path(folder) / "backup.db") as partial:
                queries, upkeep = load_statements("queries.sql"), load_statements("upkeep.sql")
                migrated = CheckedBackup(clock=self._clock, queries=queries, upkeep=upkeep).prepare(
                    file.resolve(), partial, report
                )
                filling = work.connection.transaction()
                work.run(filling.start())
                replaced = work.run(self._step_aside(work.connection)) if in_the_way else None
                work.run(migrate(work.connection, self._queries, clock=self._clock, post=True))
                with opened_source(partial.path) as source:
                    sink = PostgresSink(work, self._queries)
                    state = transfer(source, sink, log_id=self._ids(), report=report)
                report(FLUSHING, 0, 1)
                work.run(filling.commit())
            # Else the first queries would be planned as if everything were empty.
            work.run(work.connection.execute(load_transfer().analyze.sql))
            report(FLUSHING, 1, 1)
            if replaced is None:
                work.run(owner.release(work.connection))
        return Restored(
            location=self._location,
            log_id=state.log_id,
            revision=state.revision,
            migrated=migrated,
            replaced=replaced,
        )

    @contextmanager
    def _working(self) -> Iterator[Work]:
        """A connection for the length of a block, in which its errors are told as ours."""
        try:
            with Work(self._dialler.connect()) as work:
                for statement in self._statements.begin_work.sql.split(";"):
                    if statement.strip():
                        work.run(work.connection.execute(statement))
                yield work
        except StoreUnavailable as error:
            raise UpkeepFailed(self._location, problem=error.reason) from error
        except DRIVER_ERRORS as error:
            if isinstance(error, OSError) and not isinstance(error, ConnectionError | TimeoutError):
                raise
            raise UpkeepFailed(self._location, problem=describe(error)) from error

    async def _is_ours(self, connection: Any) -> bool:
        found = await connection.fetchrow(self._queries.has_schema.sql)
        if found["relations"] and not found["is_ours"]:
            raise StoreIncompatible(
                "the database has a schema named thunderline that is not ours; use another database"
            )
        return bool(found["is_ours"])

    async def _status(self, connection: Any) -> DatabaseStatus:
        if not await self._is_ours(connection):
            raise NoDatabase(self._location)
        held_by = await holder_of(connection, self._queries, writer=self._writer)
        applied = {row["version"]: row["name"] for row in await connection.fetch(self._queries.select_migrations.sql)}
        known = {migration.version: migration for migration in migrations()}
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            # Of a schema that lacks migrations, or has later ones, not all can be read.
            is_current = applied.keys() == known.keys()
            head = await connection.fetchrow(self._queries.select_head.sql) if is_current else None
            history = await connection.fetchrow(self._statements.sum_history.sql) if is_current else None

            async def count(query: Any) -> int | None:
                return int(await connection.fetchval(query.sql)) if is_current else None

            return DatabaseStatus(
                location=self._location,
                held_by=held_by,
                schema_version=max(applied, default=0),
                pending=[migration.title for version, migration in known.items() if version not in applied],
                unknown=[title_of(version, name) for version, name in applied.items() if version not in known],
                log_id=head and head["log_id"],
                revision=head and head["revision"],
                oldest=head and head["oldest"],
                nodes=await count(self._statements.count_nodes),
                open_sessions=await count(self._statements.count_open_sessions),
                events=await count(self._statements.count_events),
                heartbeats=None
                if history is None
                else HeartbeatHistory(rows=int(history[0]), beats=int(history[1]), size_bytes=int(history[2])),
                file_bytes=await connection.fetchval(self._statements.schema_bytes.sql),
                wal_bytes=None,
                engine=f"PostgreSQL {await connection.fetchval(self._statements.version_text.sql)}",
            )

    async def _check_current(self, connection: Any) -> None:
        """Return if the schema is this version's. Raises: NoDatabase, StoreIncompatible."""
        if not await self._is_ours(connection):
            raise NoDatabase(self._location)
        applied = {row["version"] for row in await connection.fetch(self._queries.select_migrations.sql)}
        if applied != {migration.version for migration in migrations()}:
            raise StoreIncompatible("its schema is of another version; run 'thunderline db migrate' first")

    def _take_out(self, source: PostgresSource, partial: PartialFile, report: Report) -> LogState:
        """Fill `partial` with an SQLite database of what `source` holds."""
        with closing(sqlite3.connect(partial.path, isolation_level=None)) as copy:
            # The file counts only once it is whole: nothing of it need be undone after a crash.
            copy.execute("PRAGMA journal_mode = OFF")
            copy.execute("PRAGMA synchronous = OFF")
            queries = load_statements("queries.sql")
            migrate_file(copy, queries, clock=self._clock)
            copy.execute(queries.begin.sql)
            state = transfer(source, SqliteSink(copy), log_id=None, report=report)
            copy.execute(queries.commit.sql)
        return state

    async def _claim(self, connection: Any, owner: Owner) -> None:
        """Hold the database while it is filled. Raises: StoreLocked."""
        if await self._is_ours(connection):
            await owner.claim(connection)

    async def _is_empty(self, connection: Any) -> bool:
        if not await self._is_ours(connection):
            return True
        statements = load_transfer()
        if not await connection.fetchval(statements.is_empty.sql):
            return False
        # A schema of before there were tokens can be replaced, too.
        knows_tokens = await connection.fetchval(statements.knows_tokens.sql)
        return not (knows_tokens and await connection.fetchval(statements.has_tokens.sql))

    async def _step_aside(self, connection: Any) -> str:
        """Give the schema that is there another name; gives that."""
        base = f"thunderline_before_restore_{self._clock.now():%Y%m%dt%H%M%Sz}"
        name, number = base, 1
        while await connection.fetchval(self._statements.has_schema_named.sql, name):
            number += 1
            name = f"{base}_{number}"
        await connection.execute(load_transfer().step_aside.sql.replace("{name}", name))
        return name
