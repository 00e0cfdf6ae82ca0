"""The PostgreSQL store: one connection that writes batches, one that looks after what is old, a few that read.

A batch with events locks the counter row first, so that the order of revisions is the order of commits; what it was
planned on is asserted by conditional updates. Beats alone take no counter, and are one statement.

Not guaranteed: more than one process on a database at a time; a second one is refused. A pooler between us that hands
a session to several clients in turn takes away what is set on it, and the locks; see `docs/postgresql.md`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Self, TypeVar

import asyncpg

from thunderline.block import rows
from thunderline.block.beats import PackedBeat, node_key, unpack_block
from thunderline.block.postgres.address import Address
from thunderline.block.postgres.connection import (
    CLOSE_TIMEOUT_S,
    COMMAND_TIMEOUT_S,
    WRITE_TIMEOUT_S,
    Dialler,
    OwnedConnection,
    load_queries,
)
from thunderline.block.postgres.failures import DRIVER_ERRORS, is_about, told
from thunderline.block.postgres.history import HistoryTables
from thunderline.block.postgres.migrate import migrate
from thunderline.block.postgres.owner import LEASE_S, Owner
from thunderline.block.postgres.past import LogTail, PastTables
from thunderline.block.postgres.upkeep import PostgresUpkeep
from thunderline.block.postgres.writing import BatchWriter
from thunderline.block.rollups import Bucket, minute_of
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
)
from thunderline.core.access import AuditEntry, Token
from thunderline.core.clock import Clock, SystemClock
from thunderline.core.codec import join_group, join_link, join_node
from thunderline.core.errors import ContentRejected, OutcomeUnknown, StoreIncompatible, StoreLocked, StoreUnavailable
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

READERS: Final = 4
READER_WAIT_S: Final = 10.0
"""How long a read waits for one of them."""

CHANGES_PAGE: Final = 10_000
DECODED_AT_ONCE: Final = 100
"""Rows from which on a page is decoded in a thread: it would hold up the event loop."""

_MAX_REVISION: Final = 2**63 - 1


class PostgresStore(Store):
    """Keeps everything in the schema `thunderline` of one database. `writer_id` names this writer."""

    def __init__(
        self, url: str, *, clock: Clock | None = None, ids: IdSource = new_uuid7, writer_id: str = "registry"
    ) -> None:
        """`url` is `postgresql://...`, as libpq takes it. Raises: SettingsError."""
        self._address = Address.parse(url)
        self.location = self._address.shown
        self._clock = clock or SystemClock()
        self._ids = ids
        self._writer_id = writer_id
        self._queries = load_queries()
        self._dialler = Dialler(self._address.url, self._queries)
        self._history = HistoryTables(self._queries, clock=self._clock)
        self._past = PastTables(self._queries)
        self._tail = LogTail(self._queries, clock=self._clock)
        self._owner = self._new_owner()
        self._batches = BatchWriter(self._queries, self._owner)
        self._writer: OwnedConnection | None = None
        self._keeper: OwnedConnection | None = None
        self._readers: Any = None
        self._renewing: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    def from_url(cls, rest: str, *, clock: Clock, ids: IdSource, writer_id: str) -> Self:
        return cls(f"postgresql://{rest}", clock=clock, ids=ids, writer_id=writer_id)

    async def open(self) -> LogHead:
        if self._writer is not None:
            raise StoreLocked(self.location, owner="this very store, which is open")
        self._closing = None
        self._owner = self._new_owner()
        self._batches = BatchWriter(self._queries, self._owner)
        self._writer = self._owned(self._connect_writer)
        self._keeper = self._owned(self._connect)
        try:
            head = await self._writer.run(self._prepare)
            self._readers = await asyncpg.create_pool(
                min_size=0, max_size=READERS, connect=self._connect_reader, reset=_keep_settings
            )
        except DRIVER_ERRORS as error:
            await self.close()
            raise told(error) from error
        except BaseException:
            await self.close()
            raise
        self._renewing = asyncio.create_task(self._renew(), name="postgres lease")
        return head

    async def close(self) -> None:
        if self._closing is None:
            # Begun at once and carried out by a task of its own, so that a cancelled close gives back no less.
            self._closing = asyncio.create_task(self._close(), name="close postgres")
        await asyncio.shield(self._closing)

    async def commit(self, batch: WriteBatch) -> int | None:
        return await self._writing.run(lambda connection: self._commit(connection, batch))

    async def committed(self, batch_id: BatchId) -> bool:
        await self._writing.drop()
        # Over a new connection: what the former one may still have under way is barred or done by then.
        return await self._writing.run(self._newest_batch) == batch_id

    async def probe(self) -> None:
        await self._writing.run(self._renew_lease)

    async def scan_nodes(self, *, after: NodeId | None, limit: int) -> list[Node]:
        return await self._page(self._queries.scan_nodes, lambda row: join_node(*row), after or "", limit)

    async def scan_open_sessions(self, *, after: LinkId | None, limit: int) -> list[LinkSession]:
        return await self._page(self._queries.scan_open_sessions, lambda row: join_link(*row), after or "", limit)

    async def find_session(self, session_id: str) -> LinkSession | None:
        found = await self._page(self._queries.find_session, lambda row: join_link(*row), session_id)
        return found[0] if found else None

    async def get_session(self, link_id: LinkId) -> LinkSession | None:
        found = await self._page(self._queries.get_session, lambda row: join_link(*row), link_id)
        return found[0] if found else None

    async def scan_groups(self, *, after: GroupId | None, limit: int) -> list[NodeGroup]:
        return await self._page(self._queries.scan_groups, lambda row: join_group(*row), after or "", limit)

    async def find_answer(self, caller: str, key: str) -> KeptAnswer | None:
        found = await self._page(self._queries.find_answer, rows.read_answer, caller, key)
        return found[0] if found else None

    async def scan_tokens(self, *, after: TokenId | None, limit: int) -> list[Token]:
        return await self._page(self._queries.scan_tokens, rows.read_token, after or "", limit)

    async def read_audit(self, *, before: AuditId | None, limit: int) -> list[AuditEntry]:
        return await self._page(self._queries.read_audit, rows.read_entry, before or rows.BEYOND_IDS, limit)

    async def trim_audit(self, *, before_ms: int, limit: int) -> int:
        sql = self._queries.trim_audit.sql
        return int(await self._keep(lambda connection: connection.fetchval(sql, before_ms, limit)))

    async def scan_documents(self, shelf: str, *, after: str | None, limit: int) -> list[Document]:
        return await self._page(self._queries.scan_documents, rows.read_document, shelf, after or "", limit)

    async def scan_presence(self, *, after: NodeId | None, limit: int) -> list[PresenceRow]:
        return await self._page(self._queries.scan_presence, rows.read_presence, after or "", limit)

    async def presence_block(self) -> int:
        (block,) = await self._page(self._queries.select_presence_block, lambda row: int(row[0]))
        return block

    async def scan_blocks(self, *, after: int, limit: int) -> list[StoredBlock]:
        found = await self._page(
            self._queries.scan_blocks, lambda row: StoredBlock(id=row[0], beats=unpack_block(row[1])), after, limit
        )
        self._history.recent.seed(after, ((block.id, block.beats) for block in found))
        return found

    async def read_beats(
        self, *, node_id: NodeId | None, since_ms: int, until_ms: int, limit: int, every_ms: int | None = None
    ) -> list[PackedBeat]:
        if limit <= 0 or since_ms >= until_ms:
            self._check_open()
            return []
        return await self._read(
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
        if since_ms >= until_ms:
            self._check_open()
            return []
        key = node_key(node_id)
        return await self._read(
            lambda connection: self._history.read_rollups(
                connection, key=key, since_ms=since_ms, until_ms=until_ms, bucket_ms=bucket_ms
            )
        )

    async def compact_beats(self, *, closed_ms: int, settled_block: int) -> CompactionStep:
        return await self._keep(
            lambda connection: self._history.compact(connection, closed_ms=closed_ms, settled_block=settled_block)
        )

    async def trim_beats(self, *, raw_before_ms: int, rollups_before_ms: int, max_bytes: int) -> TrimStep:
        return await self._keep(
            lambda connection: self._history.trim(
                connection, raw_before_ms=raw_before_ms, rollups_before_ms=rollups_before_ms, max_bytes=max_bytes
            )
        )

    async def history_clock(self) -> HistoryClock | None:
        def read(row: rows.Row) -> HistoryClock:
            return HistoryClock(now_ms=row[0], lead_ms=row[1], stood_ms=row[2])

        found = await self._page(self._queries.select_age_clock, read)
        return found[0] if found else None

    async def set_history_clock(self, clock: HistoryClock) -> None:
        columns = (clock.now_ms, clock.lead_ms, clock.stood_ms)
        await self._keep(lambda connection: connection.execute(self._queries.set_age_clock.sql, *columns))

    async def read_events(self, *, after: Revision, limit: int, before: Revision | None = None) -> list[Event]:
        end = _MAX_REVISION if before is None else before
        return await self._page(self._queries.read_events, rows.read_event, after, end, limit)

    async def read_past(self, *, revision: Revision, after: str | None, limit: int) -> list[Event]:
        return await self._page(self._queries.read_past, rows.read_event, after or "", revision, limit)

    async def read_entity(self, entity_id: str, *, after: Revision, until: Revision, limit: int) -> list[Event]:
        return await self._page(self._queries.read_entity, rows.read_event, entity_id, after, until, limit)

    async def read_entity_at(self, entity_id: str, revision: Revision) -> Event | None:
        found = await self._page(self._queries.read_entity_at, rows.read_event, entity_id, revision)
        return found[0] if found else None

    async def count_events(self, *, since_minute: int, until_minute: int, width: int) -> list[tuple[int, str, int]]:
        return await self._page(
            self._queries.events_by_bin, lambda row: (row[0], row[1], row[2]), since_minute, until_minute, width
        )

    async def read_changes(self, *, after: Revision, until: Revision) -> list[EntityChange]:
        # Of many rows of one entity only the newest is held, and decoded.
        newest: dict[str, Any] = {}
        while page := await self._rows(self._queries.read_changes, after, until, CHANGES_PAGE):
            newest.update((row["entity_id"], row) for row in page)
            after = page[-1]["revision"]
            if len(page) < CHANGES_PAGE:
                break
        return await asyncio.to_thread(lambda: [rows.read_change(row) for row in newest.values()])

    async def revision_at(self, at_ms: int) -> Revision:
        return await self._read(lambda connection: self._past.revision_at(connection, at_ms))

    async def commit_end(self, revision: Revision) -> Revision:
        found = await self._page(self._queries.commit_end, lambda row: Revision(row[0]), revision)
        return found[0] if found else revision

    async def keep_snapshot(self, snapshot: Snapshot) -> None:
        await self._keep(partial(_in_transaction, lambda connection: self._past.keep(connection, snapshot)))

    async def drop_snapshots(self) -> bool:
        return await self._keep(partial(self._tail.drop_snapshots, below=_MAX_REVISION))

    async def read_snapshot(self, *, revision: Revision, least: int = 0) -> Snapshot | None:
        return await self._read(lambda connection: self._past.snapshot(connection, revision, least))

    async def mark_log(self, mark: LogMark) -> None:
        row = (mark.revision, mark.age_ms)
        await self._keep(partial(self._execute, self._queries.insert_mark.sql, row))

    async def read_mark(self, *, age_ms: int, revision: Revision) -> LogMark | None:
        return await self._read(lambda connection: self._past.mark(connection, age_ms=age_ms, revision=revision))

    async def begin_log(self, oldest: Revision) -> None:
        await self._keep(partial(_in_transaction, lambda connection: self._tail.begin(connection, oldest)))

    async def compact_log(self) -> bool:
        return await self._keep(partial(_in_transaction, self._tail.compact))

    def upkeep(self) -> PostgresUpkeep:
        return PostgresUpkeep(
            self._dialler, location=self.location, writer=self._writer_id, clock=self._clock, ids=self._ids
        )

    # Connections

    def _new_owner(self) -> Owner:
        return Owner(self._writer_id, self._ids(), self._queries, location=self.location, clock=self._clock)

    def _owned(self, connect: Callable[[], Awaitable[Any]]) -> OwnedConnection:
        return OwnedConnection(connect, rollback=self._queries.rollback.sql)

    async def _connect(self, *, command_timeout_s: float = COMMAND_TIMEOUT_S) -> Any:
        try:
            return await self._dialler.connect(command_timeout_s=command_timeout_s)
        except StoreIncompatible as error:
            if not self._owner.epoch:
                raise
            # It was not so when this store was opened, and need not stay so.
            raise StoreUnavailable(str(error)) from error

    async def _connect_writer(self) -> Any:
        connection = await self._connect(command_timeout_s=WRITE_TIMEOUT_S)
        if self._owner.epoch:
            try:
                await self._owner.resume(connection)
                newest = await connection.fetchval(self._queries.newest_block.sql)
            except BaseException:
                connection.terminate()
                raise
            # A block of which nobody heard here may have been committed.
            self._history.recent.begin(newest or 0)
        return connection

    async def _connect_reader(self, *_: Any, **__: Any) -> Any:
        return await self._connect()

    async def _prepare(self, connection: Any) -> LogHead:
        applied = await migrate(connection, self._queries, clock=self._clock)
        if applied:
            log.info("schema migrated", store=self.location, migrations=len(applied))
        await self._owner.claim(connection)
        try:
            await connection.execute(self._queries.create_head.sql, self._ids())
            await self._history.make_partitions(connection, minute=minute_of(self._clock.now_ms()))
            self._history.recent.begin(await connection.fetchval(self._queries.newest_block.sql) or 0)
            log_id, revision, oldest = await connection.fetchrow(self._queries.select_head.sql)
        except asyncpg.PostgresError as error:
            if is_about(error, "42"):
                raise StoreIncompatible(f"the schema is not as it should be, or not for this role: {error}") from error
            raise
        return LogHead(log_id=LogId(log_id), revision=Revision(revision), oldest=Revision(oldest))

    async def _close(self) -> None:
        writer, keeper, readers = self._writer, self._keeper, self._readers
        self._writer = self._keeper = self._readers = None
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
            self._renewing = None
        if readers is not None:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await readers.close()
            except DRIVER_ERRORS:
                readers.terminate()
        if keeper is not None:
            await keeper.end(patience_s=CLOSE_TIMEOUT_S)
        if writer is not None:
            if self._owner.epoch:
                try:
                    async with asyncio.timeout(CLOSE_TIMEOUT_S):
                        await writer.run(self._owner.release)
                except (StoreUnavailable, ContentRejected, OutcomeUnknown, TimeoutError) as error:
                    log.debug("claim not released, the end of the session does it", reason=str(error))
            await writer.end(patience_s=CLOSE_TIMEOUT_S)

    async def _renew(self) -> None:
        """Keep the lease up while nothing is committed, until cancelled."""
        told = ""
        while True:
            await self._clock.sleep(LEASE_S / 3)
            try:
                await self.probe()
            except (StoreUnavailable, ContentRejected, OutcomeUnknown) as error:
                # Once for each reason: the writer tells, too, that the store is away.
                if str(error) != told:
                    log.warning("lease not renewed", reason=str(error))
                told = str(error)
            else:
                told = ""

    # On the writer's connection

    async def _commit(self, connection: Any, batch: WriteBatch) -> int | None:
        block_id = await self._batches.write(connection, batch)
        if block_id is not None:
            # Nobody was answered yet: a reader that misses it reads what was before this commit.
            self._history.recent.add(block_id, batch.beats)
        return block_id

    async def _newest_batch(self, _: Any) -> str | None:
        return self._owner.newest_batch

    async def _renew_lease(self, connection: Any) -> None:
        done = await connection.execute(self._queries.renew_lease.sql, self._owner.writer, self._owner.epoch, LEASE_S)
        if done != "UPDATE 1":
            raise await self._owner.lost(connection)

    # On the keeper's connection

    async def _keep(self, body: Callable[[Any], Awaitable[T]]) -> T:
        """What `body` gives, beside the commits, as long as the database is ours."""

        async def guarded(connection: Any) -> T:
            if not await connection.fetchval(self._queries.is_holder.sql, self._owner.writer, self._owner.holder):
                raise await self._owner.lost(connection)
            return await body(connection)

        return await self._keeping.run(guarded)

    async def _execute(self, statement: str, arguments: Sequence[object], connection: Any) -> None:
        await connection.execute(statement, *arguments)

    # Reading

    async def _read(self, body: Callable[[Any], Awaitable[T]]) -> T:
        """What `body` gives, in a transaction that sees one moment and changes nothing."""
        self._check_open()
        try:
            async with (
                self._readers.acquire(timeout=READER_WAIT_S) as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                return await body(connection)
        except DRIVER_ERRORS as error:
            raise _not_read(error) from error

    async def _rows(self, query: Any, *arguments: object) -> list[Any]:
        """The rows of one statement."""
        self._check_open()
        try:
            async with self._readers.acquire(timeout=READER_WAIT_S) as connection:
                found: list[Any] = await connection.fetch(query.sql, *arguments)
        except DRIVER_ERRORS as error:
            raise _not_read(error) from error
        return found

    async def _page(self, query: Any, decode: Callable[[rows.Row], T], *arguments: object) -> list[T]:
        """The rows of one statement, decoded."""
        found = await self._rows(query, *arguments)
        if len(found) < DECODED_AT_ONCE:
            return [decode(row) for row in found]
        return await asyncio.to_thread(lambda: [decode(row) for row in found])

    def _check_open(self) -> None:
        if self._readers is None:
            raise StoreUnavailable("it is not open")

    @property
    def _writing(self) -> OwnedConnection:
        if self._writer is None:
            raise StoreUnavailable("it is not open")
        return self._writer

    @property
    def _keeping(self) -> OwnedConnection:
        if self._keeper is None:
            raise StoreUnavailable("it is not open")
        return self._keeper


async def _in_transaction(body: Callable[[Any], Awaitable[T]], connection: Any) -> T:
    async with connection.transaction():
        return await body(connection)


async def _keep_settings(connection: Any) -> None:
    """Between two readers of one connection nothing has to be undone: they change nothing on it."""


def _not_read(error: BaseException) -> StoreUnavailable:
    failure = told(error)
    return failure if isinstance(failure, StoreUnavailable) else StoreUnavailable(str(failure))
