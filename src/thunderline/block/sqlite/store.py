"""The SQLite store: WAL, `synchronous=FULL`, one thread to write, one to read, one to plan the compaction of history.

Each has a connection of its own.

Not guaranteed: safety on network file systems whose locks or flushes do not hold what they promise; that a `-wal` file
which somebody removes under a running server is missed.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from urllib.parse import unquote

import aiosql

from thunderline.block import rows
from thunderline.block.beats import PackedBeat, node_key, pack_block, unpack_block
from thunderline.block.rollups import Bucket
from thunderline.block.splits import Splits, weight
from thunderline.block.sqlite.answers import keep_answers
from thunderline.block.sqlite.bulk import BulkStatement
from thunderline.block.sqlite.forgetting import LogTail
from thunderline.block.sqlite.history import HistoryPlan, HistoryTables
from thunderline.block.sqlite.migrate import check_kind, check_ours, migrate
from thunderline.block.sqlite.owner import OwnerLock
from thunderline.block.sqlite.past import PastTables
from thunderline.block.sqlite.paths import home_path, real_path
from thunderline.block.sqlite.thread import ConnectionThread, describe
from thunderline.block.sqlite.upkeep import SqliteUpkeep
from thunderline.block.store import (
    CompactionStep,
    Document,
    EntityChange,
    HistoryClock,
    KeptAnswer,
    LogHead,
    LogMark,
    PresenceRow,
    Snapshot,
    Store,
    StoredBlock,
    TrimStep,
    WriteBatch,
    check_revisions,
)
from thunderline.core.access import AuditEntry, Token
from thunderline.core.clock import Clock, SystemClock, to_ms
from thunderline.core.codec import join_group, join_link, join_node
from thunderline.core.errors import (
    ContentRejected,
    OutcomeUnknown,
    SettingsError,
    StoreIncompatible,
    StoreUnavailable,
)
from thunderline.core.ids import (
    AuditId,
    BatchId,
    GroupId,
    IdSource,
    LinkId,
    LogId,
    NodeId,
    Revision,
    TokenId,
    new_uuid7,
)
from thunderline.core.logging import get_logger
from thunderline.core.records import Event, LinkSession, Node, NodeGroup

log = get_logger(__name__)

T = TypeVar("T")

OLDEST_SQLITE: Final = (3, 37, 0)
"""The first with STRICT tables."""

_WRITER_PRAGMAS: Final[dict[str, tuple[str, object]]] = {
    # name: (value to set, value that must be read back)
    "journal_mode": ("WAL", "wal"),
    "synchronous": ("FULL", 2),  # EXTRA adds nothing in WAL mode; NORMAL would acknowledge before the flush
    "foreign_keys": ("ON", 1),
    "busy_timeout": ("2000", 2000),
    "wal_autocheckpoint": ("4000", 4000),  # 16 MiB of log, a few milliseconds of copying at a time
    "journal_size_limit": ("67108864", 67_108_864),  # what the log grew to beside a backup is given back
}
_MAX_REVISION: Final = 2**63 - 1
PROBE_MAX_BYTES: Final = 4 * 2**20
"""Most that a probe writes to find out whether there is room for the batch that failed."""
# What SQLite says of a file that no waiting mends: damaged, not a database, tables that are not ours.
_UNUSABLE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})
_PRIMARY_CODE: Final = 0xFF


class SqliteStore(Store):
    """Keeps everything in one file. `writer_id` names this writer in the batch table."""

    def __init__(
        self,
        path: Path | str,
        *,
        clock: Clock | None = None,
        ids: IdSource = new_uuid7,
        writer_id: str = "registry",
    ) -> None:
        # The real path, here and for the lock: neither a symlink nor a later chdir leads them to two files.
        self._path = real_path(path)
        self.location = str(self._path)
        self._clock = clock or SystemClock()
        self._ids = ids
        self._writer_id = writer_id
        self._lock = OwnerLock(self._path, clock=self._clock)
        self._queries: Any = aiosql.from_path(
            str(resources.files(__package__) / "queries.sql"), "sqlite3", mandatory_parameters=False
        )
        self._bulk = {
            name: BulkStatement(getattr(self._queries, name).sql)
            for name in (
                "insert_metas",
                "upsert_nodes",
                "upsert_sessions",
                "upsert_groups",
                "insert_events",
                "count_events",
                "upsert_presence",
                "insert_answers",
                "upsert_tokens",
                "insert_audit",
                "upsert_documents",
            )
        }
        self._history = HistoryTables(self._queries, clock=self._clock)
        self._past_tables = PastTables(self._queries)
        self._tail = LogTail(self._queries, clock=self._clock)
        self._writer: ConnectionThread | None = None
        self._planner: ConnectionThread | None = None
        self._reader: ConnectionThread | None = None
        self._closed: Future[None] | None = None
        self._refused_bytes = 0  # about the size of the batch that was written last, and failed; the writer's thread's

    @classmethod
    def from_url(cls, rest: str, *, clock: Clock, ids: IdSource, writer_id: str) -> Self:
        path = unquote(rest.removeprefix("/"))
        if not rest.startswith("/") or not path or path.endswith("/"):
            raise SettingsError("store", "should be sqlite:/// and the path of a file", source="store")
        return cls(home_path(path), clock=clock, ids=ids, writer_id=writer_id)

    async def open(self) -> LogHead:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StoreIncompatible(
                f"this Python has SQLite {sqlite3.sqlite_version}; 3.37 or later is needed (a newer Python brings it)"
            )
        check_kind(self._path)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"{self._path.parent}: {error.strerror}") from error
        self._lock.acquire()
        try:
            self._writer = ConnectionThread("sqlite-writer", self._connect_writer)
            self._reader = ConnectionThread("sqlite-reader", self._connect_reader)
            self._planner = ConnectionThread("sqlite-planner", self._connect_reader)
            head = await self._writer.run(self._prepare)
            # The first read opens the log, for which the database has to be in its place; later ones go on without.
            await self.presence_block()
        except StoreUnavailable as error:
            await self.close()
            self._raise_if_unusable(error.__cause__)
            raise
        except BaseException:
            await self.close()
            raise
        self._lock.keep()
        return head

    def _raise_if_unusable(self, error: BaseException | None) -> None:
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE in _UNUSABLE:
            raise StoreIncompatible(
                f"{self._path} is damaged ({describe(error)}); put a backup in its place or give --store another path"
            ) from error

    async def close(self) -> None:
        if self._reader is not None and self._planner is not None and self._writer is not None:
            # Begun at once and carried out by the threads, so that a cancelled close gives back no less. The writer
            # is last: the connection that closes last folds the write-ahead log into the file. Then the lock.
            reading = [self._reader.end(), self._planner.end()]
            self._closed = self._writer.end(after=reading, then=self._lock.release)
            self._reader = self._planner = self._writer = None
        if self._closed is not None:
            await asyncio.shield(asyncio.wrap_future(self._closed))

    async def commit(self, batch: WriteBatch) -> int | None:
        return await self._writing.run(lambda connection: self._commit(connection, batch))

    async def committed(self, batch_id: BatchId) -> bool:
        await self._writing.disconnect()
        return await self._writing.run(self._newest_batch) == batch_id

    async def probe(self) -> None:
        await self._writing.run(self._rehearse)

    async def scan_nodes(self, *, after: NodeId | None, limit: int) -> list[Node]:
        return await self._read("scan_nodes", (after or "", limit), lambda row: join_node(*row))

    async def scan_open_sessions(self, *, after: LinkId | None, limit: int) -> list[LinkSession]:
        return await self._read("scan_open_sessions", (after or "", limit), lambda row: join_link(*row))

    async def find_session(self, session_id: str) -> LinkSession | None:
        found = await self._read("find_session", (session_id,), lambda row: join_link(*row))
        return found[0] if found else None

    async def get_session(self, link_id: LinkId) -> LinkSession | None:
        found = await self._read("get_session", (link_id,), lambda row: join_link(*row))
        return found[0] if found else None

    async def scan_groups(self, *, after: GroupId | None, limit: int) -> list[NodeGroup]:
        return await self._read("scan_groups", (after or "", limit), lambda row: join_group(*row))

    async def find_answer(self, caller: str, key: str) -> KeptAnswer | None:
        found = await self._read("find_answer", (caller, key), rows.read_answer)
        return found[0] if found else None

    async def scan_tokens(self, *, after: TokenId | None, limit: int) -> list[Token]:
        return await self._read("scan_tokens", (after or "", limit), rows.read_token)

    async def read_audit(self, *, before: AuditId | None, limit: int) -> list[AuditEntry]:
        return await self._read("read_audit", (before or rows.BEYOND_IDS, limit), rows.read_entry)

    async def trim_audit(self, *, before_ms: int, limit: int) -> int:
        sql = self._queries.trim_audit.sql
        return await self._write_beside(lambda connection: connection.execute(sql, (before_ms, limit)).rowcount)

    async def scan_documents(self, shelf: str, *, after: str | None, limit: int) -> list[Document]:
        return await self._read("scan_documents", (shelf, after or "", limit), rows.read_document)

    async def scan_presence(self, *, after: NodeId | None, limit: int) -> list[PresenceRow]:
        return await self._read("scan_presence", (after or "", limit), rows.read_presence)

    async def presence_block(self) -> int:
        (block,) = await self._read("select_presence_block", (), lambda row: int(row[0]))
        return block

    async def scan_blocks(self, *, after: int, limit: int) -> list[StoredBlock]:
        def read(connection: sqlite3.Connection) -> list[StoredBlock]:
            found = connection.execute(self._queries.scan_blocks.sql, (after, limit)).fetchall()
            blocks = [StoredBlock(id=id_, beats=unpack_block(block)) for id_, block in found]
            self._history.recent.seed(after, ((block.id, block.beats) for block in blocks))
            return blocks

        return await self._reading.run(read)

    async def read_beats(
        self, *, node_id: NodeId | None, since_ms: int, until_ms: int, limit: int, every_ms: int | None = None
    ) -> list[PackedBeat]:
        return await self._reading.run(
            lambda connection: self._history.read_beats(
                connection,
                key=None if node_id is None else node_key(node_id),
                since_ms=since_ms,
                until_ms=until_ms,
                limit=limit,
                every_ms=every_ms,
            )
        )

    async def read_rollups(
        self, *, node_id: NodeId, since_ms: int, until_ms: int, bucket_ms: int
    ) -> list[Bucket] | None:
        key = node_key(node_id)
        return await self._reading.run(
            lambda connection: self._history.read_rollups(
                connection, key=key, since_ms=since_ms, until_ms=until_ms, bucket_ms=bucket_ms
            )
        )

    async def compact_beats(self, *, closed_ms: int, settled_block: int) -> CompactionStep:
        plan, newest_block = await self._planning.run(
            lambda connection: self._history.plan_compaction(
                connection, closed_ms=closed_ms, settled_block=settled_block
            )
        )
        wrote = plan is not None and await self._write_history(plan)
        return CompactionStep(
            more=plan is not None, beats=plan.beats if plan is not None and wrote else 0, newest_block=newest_block
        )

    async def trim_beats(self, *, raw_before_ms: int, rollups_before_ms: int, max_bytes: int) -> TrimStep:
        plan, size_bytes = await self._planning.run(
            lambda connection: self._history.plan_trim(
                connection, raw_before_ms=raw_before_ms, rollups_before_ms=rollups_before_ms, max_bytes=max_bytes
            )
        )
        if plan is not None:
            await self._write_history(plan)
        return TrimStep(more=plan is not None, size_bytes=size_bytes)

    async def _write_history(self, plan: HistoryPlan) -> bool:
        writing = self._writing
        try:
            return await writing.run(
                lambda connection: self._history.write(connection, plan, check=self._lock.check_in_place)
            )
        except StoreUnavailable:
            # After a flush that failed only a fresh connection sees what a crash would leave.
            await writing.disconnect()
            raise

    async def history_clock(self) -> HistoryClock | None:
        def read(row: rows.Row) -> HistoryClock:
            return HistoryClock(now_ms=row[0], lead_ms=row[1], stood_ms=row[2])

        found = await self._read("select_history_clock", (), read)
        return found[0] if found else None

    async def set_history_clock(self, clock: HistoryClock) -> None:
        def write(connection: sqlite3.Connection) -> None:
            self._lock.check_in_place()
            columns = (clock.now_ms, clock.lead_ms, clock.stood_ms)
            connection.execute(self._queries.set_history_clock.sql, columns)

        await self._writing.run(write)

    async def read_events(self, *, after: Revision, limit: int, before: Revision | None = None) -> list[Event]:
        bounds = (after, _MAX_REVISION if before is None else before, limit)
        return await self._read("read_events", bounds, rows.read_event)

    async def read_entity(self, entity_id: str, *, after: Revision, until: Revision, limit: int) -> list[Event]:
        return await self._read("read_entity", (entity_id, after, until, limit), rows.read_event)

    async def read_entity_at(self, entity_id: str, revision: Revision) -> Event | None:
        found = await self._read("read_entity_at", (entity_id, revision), rows.read_event)
        return found[0] if found else None

    async def count_events(self, *, since_minute: int, until_minute: int, width: int) -> list[tuple[int, str, int]]:
        return await self._read("events_by_bin", (since_minute, until_minute, width), lambda row: tuple(row))

    async def read_changes(self, *, after: Revision, until: Revision) -> list[EntityChange]:
        return await self._past(lambda past, connection: past.changes(connection, after=after, until=until))

    async def revision_at(self, at_ms: int) -> Revision:
        return await self._past(lambda past, connection: past.revision_at(connection, at_ms))

    async def commit_end(self, revision: Revision) -> Revision:
        return await self._past(lambda past, connection: past.commit_end(connection, revision))

    async def read_snapshot(self, *, revision: Revision, least: int = 0) -> Snapshot | None:
        return await self._past(lambda past, connection: past.snapshot(connection, revision, least))

    async def keep_snapshot(self, snapshot: Snapshot) -> None:
        # Each part a write of its own, of which commits wait for one at most; without the first, the others are none.
        await self._writing.run(partial(self._drop_parts, snapshot.revision))
        for part in reversed(range(len(snapshot.parts))):
            row = (snapshot.revision, part, snapshot.parts[part])
            await self._writing.run(partial(self._keep_part, row))

    def _drop_parts(self, revision: Revision, connection: sqlite3.Connection) -> None:
        self._lock.check_in_place()
        connection.execute(self._queries.delete_snapshot.sql, (revision,))

    def _keep_part(self, row: rows.Row, connection: sqlite3.Connection) -> None:
        self._lock.check_in_place()
        connection.execute(self._queries.insert_snapshot.sql, row)

    async def drop_snapshots(self) -> bool:
        return await self._write_beside(partial(self._tail.drop_snapshots, below=_MAX_REVISION))

    async def mark_log(self, mark: LogMark) -> None:
        await self._write_beside(
            lambda connection: connection.execute(self._queries.insert_mark.sql, (mark.revision, mark.age_ms))
        )

    async def read_mark(self, *, age_ms: int, revision: Revision) -> LogMark | None:
        return await self._past(lambda past, connection: past.mark(connection, age_ms=age_ms, revision=revision))

    async def begin_log(self, oldest: Revision) -> None:
        await self._write_beside(lambda connection: self._tail.begin(connection, oldest))

    async def compact_log(self) -> bool:
        return await self._write_beside(self._tail.compact)

    async def _write_beside(self, write: Callable[[sqlite3.Connection], T]) -> T:
        def transact(connection: sqlite3.Connection) -> T:
            connection.execute(self._queries.begin.sql)
            done = write(connection)
            self._lock.check_in_place()
            connection.execute(self._queries.commit.sql)
            return done

        return await self._writing.run(transact)

    async def _past(self, read: Callable[[PastTables, sqlite3.Connection], T]) -> T:
        return await self._reading.run(lambda connection: read(self._past_tables, connection))

    def upkeep(self) -> SqliteUpkeep:
        return SqliteUpkeep(self._path, clock=self._clock, ids=self._ids)

    async def read_past(self, *, revision: Revision, after: str | None, limit: int) -> list[Event]:
        return await self._read("read_past", (after or "", revision, limit), rows.read_event)

    async def writer_pragmas(self) -> dict[str, object]:
        """The settings that durability rests on, read back on the writer's own connection."""
        return await self._writing.run(_read_pragmas)

    # On the writer's thread.

    def _connect_writer(self) -> sqlite3.Connection:
        if not self._lock.holds_file:
            # Held before it is looked into: under another name than the owner's, SQLite would see half a database.
            self._lock.hold_file()
            try:
                check_ours(self._path, self._queries)
            except BaseException:
                self._lock.disown_file()
                raise
        # A connection made again would else open, or create, another file.
        self._lock.check_in_place()
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            for name, (value, _) in _WRITER_PRAGMAS.items():
                connection.execute(f"PRAGMA {name} = {value}")
            wanted = {name: back for name, (_, back) in _WRITER_PRAGMAS.items()}
            if (found := _read_pragmas(connection)) != wanted:
                raise StoreIncompatible(
                    f"SQLite does not take the settings that durability needs: {found}, not {wanted}"
                )
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> LogHead:
        applied = migrate(connection, self._queries, clock=self._clock)
        if applied:
            log.info("schema migrated", store=self.location, migrations=applied)
        connection.execute(self._queries.create_head.sql, (self._ids(),))
        connection.execute(self._queries.create_history.sql)
        (newest_block,) = connection.execute(self._queries.newest_block.sql).fetchone()
        self._history.recent.begin(newest_block or 0)
        log_id, revision, oldest = connection.execute(self._queries.select_head.sql).fetchone()
        return LogHead(log_id=LogId(log_id), revision=Revision(revision), oldest=Revision(oldest))

    def _commit(self, connection: sqlite3.Connection, batch: WriteBatch) -> int | None:
        try:
            return self._transact(connection, batch)
        except (sqlite3.DatabaseError, OutcomeUnknown):
            self._refused_bytes = min(weight(batch), PROBE_MAX_BYTES)
            raise

    def _transact(self, connection: sqlite3.Connection, batch: WriteBatch) -> int | None:
        connection.execute(self._queries.begin.sql)
        try:
            block_id = self._write(connection, batch)
        except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError, UnicodeEncodeError) as error:
            raise ContentRejected(str(error)) from error
        self._lock.check_in_place()
        try:
            connection.execute(self._queries.commit.sql)
        except sqlite3.Error as error:
            # Busy leaves the transaction open, and full means that the log could not be appended to, before its flush:
            # neither is written. After anything else only a look over a fresh connection can tell.
            if connection.in_transaction or error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise
            raise OutcomeUnknown(describe(error)) from error
        return block_id

    def _write(self, connection: sqlite3.Connection, batch: WriteBatch) -> int | None:
        check_revisions(batch)
        queries, bulk = self._queries, self._bulk
        splits = Splits()
        head = Revision(batch.base + len(batch.events))
        event_rows = [rows.event_row(event, splits.of(event.payload), commit_end=head) for event in batch.events]
        node_rows = [rows.node_row(node, splits.of(node)) for node in batch.nodes]
        session_rows = [rows.session_row(session, splits.of(session)) for session in batch.sessions]
        group_rows = [rows.group_row(group, splits.of(group)) for group in batch.groups]
        bulk["insert_metas"].run(connection, list(splits.metas.items()))
        # Removals first: a name that is freed and taken again in one batch is unique at every step.
        for node_id in batch.removed_nodes:
            connection.execute(queries.delete_node.sql, (node_id,))
        for group_id in batch.removed_groups:
            connection.execute(queries.delete_group.sql, (group_id,))
        bulk["upsert_nodes"].run(connection, node_rows)
        bulk["upsert_sessions"].run(connection, session_rows)
        bulk["upsert_groups"].run(connection, group_rows)
        bulk["insert_events"].run(connection, event_rows)
        bulk["count_events"].run(connection, rows.minute_rows(batch.events))
        if event_rows:
            before = connection.execute(queries.event_time.sql, (batch.base, batch.base)).fetchone()
            if before is not None and before[1] > to_ms(batch.events[0].at):
                connection.execute(queries.note_clock_step.sql, (batch.base + 1,))
            if connection.execute(queries.advance_head.sql, (head, batch.base)).rowcount != 1:
                raise ContentRejected(f"the log does not stand at revision {batch.base}, which the batch follows")
        block_id = None
        if batch.beats:
            beats = list(batch.beats)
            times = [beat.at_ms for beat in beats]
            block = (min(times), max(times), len(beats), pack_block(beats))
            block_id = connection.execute(queries.insert_block.sql, block).lastrowid
            assert block_id is not None
            # Before the commit: no reader may see a block that the index does not know.
            self._history.recent.add(block_id, beats)
        if batch.presence:
            bulk["upsert_presence"].run(connection, [rows.presence_row(row) for row in batch.presence])
        if batch.presence_block is not None:
            connection.execute(queries.set_presence_block.sql, (batch.presence_block,))
        if batch.answers:
            keep_answers(connection, batch.answers, queries, bulk["insert_answers"])
        for token_id in batch.removed_tokens:
            connection.execute(queries.delete_token.sql, (token_id,))
        bulk["upsert_tokens"].run(connection, rows.token_rows(batch.tokens))
        bulk["insert_audit"].run(connection, [rows.audit_row(entry) for entry in batch.audit])
        for place in batch.removed_documents:
            connection.execute(queries.delete_document.sql, place)
        bulk["upsert_documents"].run(connection, [rows.document_row(document) for document in batch.documents])
        connection.execute(queries.note_batch.sql, (self._writer_id, batch.batch_id))
        return block_id

    def _newest_batch(self, connection: sqlite3.Connection) -> str | None:
        """This writer's newest batch, as a crash from here on would leave it.

        After a commit whose flush failed, its frames stand in the write-ahead log beyond what connections see, and
        recovery would find them. The write that follows here takes their place, or stands behind them if they count.
        """
        connection.execute(self._queries.begin.sql)
        found = connection.execute(self._queries.select_batch.sql, (self._writer_id,)).fetchone()
        self._note_probe(connection, filler_bytes=0)
        return None if found is None else str(found[0])

    def _rehearse(self, connection: sqlite3.Connection) -> None:
        """Write about as much as the batch that failed, and take it away again.

        On a full disk something small often fits: into free pages, or into what the failed batch has added to the log.
        The pages that this one frees are room for the batch that comes next.
        """
        if self._refused_bytes:
            connection.execute(self._queries.begin.sql)
            self._note_probe(connection, filler_bytes=self._refused_bytes)
        connection.execute(self._queries.begin.sql)
        self._note_probe(connection, filler_bytes=0)
        self._refused_bytes = 0

    def _note_probe(self, connection: sqlite3.Connection, *, filler_bytes: int) -> None:
        note = (f"{self._writer_id}/probe", self._ids() + " " * filler_bytes)
        connection.execute(self._queries.note_batch.sql, note)
        self._lock.check_in_place()
        connection.execute(self._queries.commit.sql)

    # On the reader's thread.

    def _connect_reader(self) -> sqlite3.Connection:
        self._lock.check_in_place()
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA busy_timeout = 2000")
        return connection

    async def _read(self, query: str, parameters: tuple[object, ...], decode: Callable[[rows.Row], T]) -> list[T]:
        sql = getattr(self._queries, query).sql

        def read(connection: sqlite3.Connection) -> list[T]:
            # Fetched before they are decoded, so that no open statement keeps the log from being folded; and decoded
            # here, since a large page would hold up the event loop.
            return [decode(row) for row in connection.execute(sql, parameters).fetchall()]

        return await self._reading.run(read)

    @property
    def _writing(self) -> ConnectionThread:
        if self._writer is None:
            raise StoreUnavailable("it is not open")
        return self._writer

    @property
    def _reading(self) -> ConnectionThread:
        if self._reader is None:
            raise StoreUnavailable("it is not open")
        return self._reader

    @property
    def _planning(self) -> ConnectionThread:
        if self._planner is None:
            raise StoreUnavailable("it is not open")
        return self._planner


def _read_pragmas(connection: sqlite3.Connection) -> dict[str, object]:
    return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in _WRITER_PRAGMAS}
