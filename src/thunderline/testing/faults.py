"""A store that fails on demand, around a real one: what a disk that is full or a lost connection looks like."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, Self

from thunderline.block.beats import PackedBeat
from thunderline.block.rollups import Bucket
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
from thunderline.core.clock import Clock
from thunderline.core.errors import ContentRejected, OutcomeUnknown, StoreUnavailable
from thunderline.core.ids import AuditId, BatchId, GroupId, IdSource, LinkId, NodeId, Revision, TokenId
from thunderline.core.records import Event, LinkSession, Node, NodeGroup


class Fault(Enum):
    """What the next commit meets."""

    AWAY = "away"
    """Nothing is written, and the caller is told so."""
    LOST_BEFORE = "lost before"
    """The connection is lost in the commit; nothing was written."""
    LOST_AFTER = "lost after"
    """The connection is lost in the commit; all of it was written."""


class FaultyStore(Store):
    """Passes everything on to `inner`, but for the faults that were asked for."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.location = inner.location
        self.faults: list[Fault] = []
        """Met by the next commits, in order."""
        self.away = False
        """While true, every call that writes raises StoreUnavailable, unless it meets a fault of its own."""
        self.rejects: Callable[[WriteBatch], bool] = lambda batch: False
        """Batches for which this holds are refused for their content."""
        self.commits: list[WriteBatch] = []
        """What was committed, in order."""
        self.idle = asyncio.Event()
        """Clear while `inner` is busy: that takes real time, ahead of which no manual clock should run."""
        self.idle.set()
        self._busy = 0

    @classmethod
    def from_url(cls, rest: str, *, clock: Clock, ids: IdSource, writer_id: str) -> Self:
        raise TypeError("a FaultyStore is put around a store, not opened by a URL")

    async def open(self) -> LogHead:
        return await self.inner.open()

    async def close(self) -> None:
        await self.inner.close()

    async def commit(self, batch: WriteBatch) -> int | None:
        if self.rejects(batch):
            raise ContentRejected("poisoned")
        fault = self.faults.pop(0) if self.faults else None
        if fault is Fault.LOST_BEFORE:
            raise OutcomeUnknown("connection lost")
        if fault is Fault.AWAY or (self.away and fault is None):
            raise StoreUnavailable("disk full")
        with self._counted():
            block_id = await self.inner.commit(batch)
        self.commits.append(batch)
        if fault is Fault.LOST_AFTER:
            raise OutcomeUnknown("connection lost")
        return block_id

    async def committed(self, batch_id: BatchId) -> bool:
        self._check()
        with self._counted():
            return await self.inner.committed(batch_id)

    async def probe(self) -> None:
        self._check()
        with self._counted():
            await self.inner.probe()

    async def scan_nodes(self, *, after: NodeId | None, limit: int) -> list[Node]:
        with self._counted():
            return await self.inner.scan_nodes(after=after, limit=limit)

    async def scan_open_sessions(self, *, after: LinkId | None, limit: int) -> list[LinkSession]:
        with self._counted():
            return await self.inner.scan_open_sessions(after=after, limit=limit)

    async def find_session(self, session_id: str) -> LinkSession | None:
        with self._counted():
            return await self.inner.find_session(session_id)

    async def get_session(self, link_id: LinkId) -> LinkSession | None:
        with self._counted():
            return await self.inner.get_session(link_id)

    async def scan_groups(self, *, after: GroupId | None, limit: int) -> list[NodeGroup]:
        with self._counted():
            return await self.inner.scan_groups(after=after, limit=limit)

    async def find_answer(self, caller: str, key: str) -> KeptAnswer | None:
        with self._counted():
            return await self.inner.find_answer(caller, key)

    async def scan_tokens(self, *, after: TokenId | None, limit: int) -> list[Token]:
        with self._counted():
            return await self.inner.scan_tokens(after=after, limit=limit)

    async def read_audit(self, *, before: AuditId | None, limit: int) -> list[AuditEntry]:
        with self._counted():
            return await self.inner.read_audit(before=before, limit=limit)

    async def trim_audit(self, *, before_ms: int, limit: int) -> int:
        self._check()
        with self._counted():
            return await self.inner.trim_audit(before_ms=before_ms, limit=limit)

    async def scan_documents(self, shelf: str, *, after: str | None, limit: int) -> list[Document]:
        with self._counted():
            return await self.inner.scan_documents(shelf, after=after, limit=limit)

    async def scan_presence(self, *, after: NodeId | None, limit: int) -> list[PresenceRow]:
        with self._counted():
            return await self.inner.scan_presence(after=after, limit=limit)

    async def presence_block(self) -> int:
        with self._counted():
            return await self.inner.presence_block()

    async def scan_blocks(self, *, after: int, limit: int) -> list[StoredBlock]:
        with self._counted():
            return await self.inner.scan_blocks(after=after, limit=limit)

    async def read_beats(self, **wanted: Any) -> list[PackedBeat]:
        with self._counted():
            return await self.inner.read_beats(**wanted)

    async def read_rollups(self, **wanted: Any) -> list[Bucket] | None:
        with self._counted():
            return await self.inner.read_rollups(**wanted)

    async def compact_beats(self, **limits: int) -> CompactionStep:
        self._check()
        with self._counted():
            return await self.inner.compact_beats(**limits)

    async def trim_beats(self, **limits: int) -> TrimStep:
        self._check()
        with self._counted():
            return await self.inner.trim_beats(**limits)

    async def history_clock(self) -> HistoryClock | None:
        with self._counted():
            return await self.inner.history_clock()

    async def set_history_clock(self, clock: HistoryClock) -> None:
        self._check()
        with self._counted():
            await self.inner.set_history_clock(clock)

    async def read_events(self, *, after: Revision, limit: int, before: Revision | None = None) -> list[Event]:
        with self._counted():
            return await self.inner.read_events(after=after, limit=limit, before=before)

    async def read_past(self, *, revision: Revision, after: str | None, limit: int) -> list[Event]:
        with self._counted():
            return await self.inner.read_past(revision=revision, after=after, limit=limit)

    async def read_entity(self, entity_id: str, *, after: Revision, until: Revision, limit: int) -> list[Event]:
        with self._counted():
            return await self.inner.read_entity(entity_id, after=after, until=until, limit=limit)

    async def read_entity_at(self, entity_id: str, revision: Revision) -> Event | None:
        with self._counted():
            return await self.inner.read_entity_at(entity_id, revision)

    async def count_events(self, *, since_minute: int, until_minute: int, width: int) -> list[tuple[int, str, int]]:
        with self._counted():
            return await self.inner.count_events(since_minute=since_minute, until_minute=until_minute, width=width)

    async def read_changes(self, *, after: Revision, until: Revision) -> list[EntityChange]:
        with self._counted():
            return await self.inner.read_changes(after=after, until=until)

    async def revision_at(self, at_ms: int) -> Revision:
        with self._counted():
            return await self.inner.revision_at(at_ms)

    async def commit_end(self, revision: Revision) -> Revision:
        with self._counted():
            return await self.inner.commit_end(revision)

    async def keep_snapshot(self, snapshot: Snapshot) -> None:
        self._check()
        with self._counted():
            await self.inner.keep_snapshot(snapshot)

    async def drop_snapshots(self) -> bool:
        self._check()
        with self._counted():
            return await self.inner.drop_snapshots()

    async def read_snapshot(self, *, revision: Revision, least: int = 0) -> Snapshot | None:
        with self._counted():
            return await self.inner.read_snapshot(revision=revision, least=least)

    async def mark_log(self, mark: LogMark) -> None:
        self._check()
        with self._counted():
            await self.inner.mark_log(mark)

    async def read_mark(self, *, age_ms: int, revision: Revision) -> LogMark | None:
        with self._counted():
            return await self.inner.read_mark(age_ms=age_ms, revision=revision)

    async def begin_log(self, oldest: Revision) -> None:
        self._check()
        with self._counted():
            await self.inner.begin_log(oldest)

    async def compact_log(self) -> bool:
        self._check()
        with self._counted():
            return await self.inner.compact_log()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        # One task commits and one compacts, as the contract of a store has it, and many read: they may overlap.
        self._busy += 1
        self.idle.clear()
        try:
            yield
        finally:
            self._busy -= 1
            if not self._busy:
                self.idle.set()

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailable("disk full")
