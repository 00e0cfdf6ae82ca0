"""A store that keeps everything in memory and nothing over a restart: for tests and for trying things out."""

from __future__ import annotations

from bisect import bisect_right
from typing import Self, TypeVar

from thunderline.block.beats import PackedBeat, node_key
from thunderline.block.store import LogHead, PresenceRow, Store, StoredBlock, WriteBatch, check_revisions
from thunderline.core.clock import Clock
from thunderline.core.errors import ContentRejected, StoreUnavailable
from thunderline.core.ids import BatchId, IdSource, LinkId, LogId, NodeId, Revision, new_uuid7
from thunderline.core.records import OPEN_SESSION_STATUSES, Event, LinkSession, Node


class MemoryStore(Store):
    """Holds what a database would; reopening the same object finds it again, as a restart on a file would."""

    location = "memory"

    def __init__(self, *, ids: IdSource = new_uuid7) -> None:
        self._log_id = LogId(ids())
        self._events: list[Event] = []
        self._nodes: dict[NodeId, Node] = {}
        self._names: dict[str, NodeId] = {}
        self._sessions: dict[LinkId, LinkSession] = {}
        self._session_ids: dict[str, LinkId] = {}
        self._presence: dict[NodeId, PresenceRow] = {}
        self._presence_block = 0
        self._blocks: list[list[PackedBeat]] = []
        self._last_batch: BatchId | None = None
        self._is_open = False

    @classmethod
    def from_url(cls, rest: str, *, clock: Clock, ids: IdSource, writer_id: str) -> Self:
        return cls(ids=ids)

    async def open(self) -> LogHead:
        self._is_open = True
        return LogHead(log_id=self._log_id, revision=self._revision, oldest=Revision(0))

    async def close(self) -> None:
        self._is_open = False

    async def commit(self, batch: WriteBatch) -> int | None:
        self._check_open()
        self._check(batch)
        self._last_batch = batch.batch_id
        self._events.extend(batch.events)
        for node_id in batch.removed_nodes:
            self._remove(node_id)
        self._nodes |= {node.id: node for node in batch.nodes}
        self._names |= {node.name: node.id for node in batch.nodes}
        self._sessions |= {session.id: session for session in batch.sessions}
        self._session_ids |= {session.session_id: session.id for session in batch.sessions}
        self._presence |= {row.node_id: row for row in batch.presence}
        if batch.presence_block is not None:
            self._presence_block = batch.presence_block
        if not batch.beats:
            return None
        self._blocks.append(list(batch.beats))
        return len(self._blocks)

    def _check(self, batch: WriteBatch) -> None:
        """Refuse what the constraints of a database would."""
        if batch.events and batch.base != self._revision:
            raise ContentRejected(f"the batch follows revision {batch.base}, the log stands at {self._revision}")
        check_revisions(batch)
        removed = set(batch.removed_nodes)
        names: dict[str, NodeId] = {}
        for node in batch.nodes:
            holder = self._names.get(node.name, node.id)
            if names.setdefault(node.name, node.id) != node.id or (holder != node.id and holder not in removed):
                raise ContentRejected(f"the name {node.name!r} is taken")
        added = set(names.values())
        session_ids: dict[str, LinkId] = {}
        for session in batch.sessions:
            known = self._sessions.get(self._session_ids.get(session.session_id, session.id))
            is_other = known is not None and known.id != session.id and known.node_id not in removed
            if session_ids.setdefault(session.session_id, session.id) != session.id or is_other:
                raise ContentRejected(f"the session_id {session.session_id!r} is taken")
        for node_id in [*(session.node_id for session in batch.sessions), *(row.node_id for row in batch.presence)]:
            if node_id not in added and (node_id in removed or node_id not in self._nodes):
                raise ContentRejected(f"there is no node {node_id}")

    def _remove(self, node_id: NodeId) -> None:
        if (removed := self._nodes.pop(node_id, None)) is not None:
            del self._names[removed.name]
        self._presence.pop(node_id, None)
        for session in [s for s in self._sessions.values() if s.node_id == node_id]:
            del self._sessions[session.id]
            del self._session_ids[session.session_id]

    async def committed(self, batch_id: BatchId) -> bool:
        self._check_open()
        return self._last_batch == batch_id

    async def probe(self) -> None:
        self._check_open()

    async def scan_nodes(self, *, after: NodeId | None, limit: int) -> list[Node]:
        self._check_open()
        return _page(self._nodes, after, limit)

    async def scan_open_sessions(self, *, after: LinkId | None, limit: int) -> list[LinkSession]:
        self._check_open()
        open_ones = {k: s for k, s in self._sessions.items() if s.status in OPEN_SESSION_STATUSES}
        return _page(open_ones, after, limit)

    async def find_session(self, session_id: str) -> LinkSession | None:
        self._check_open()
        link_id = self._session_ids.get(session_id)
        return None if link_id is None else self._sessions[link_id]

    async def get_session(self, link_id: LinkId) -> LinkSession | None:
        self._check_open()
        return self._sessions.get(link_id)

    async def scan_presence(self, *, after: NodeId | None, limit: int) -> list[PresenceRow]:
        self._check_open()
        return _page(self._presence, after, limit)

    async def presence_block(self) -> int:
        self._check_open()
        return self._presence_block

    async def scan_blocks(self, *, after: int, limit: int) -> list[StoredBlock]:
        self._check_open()
        chosen = self._blocks[after : after + limit]
        return [StoredBlock(id=after + i, beats=beats) for i, beats in enumerate(chosen, start=1)]

    async def read_beats(self, *, node_id: NodeId | None, since_ms: int, until_ms: int, limit: int) -> list[PackedBeat]:
        self._check_open()
        key = None if node_id is None else node_key(node_id)
        found = [
            beat
            for block in self._blocks
            for beat in block
            if since_ms <= beat.at_ms < until_ms and (key is None or beat.node_key == key)
        ]
        found.sort(key=lambda beat: beat.at_ms)
        return found[-limit:] if limit > 0 else []

    async def read_events(self, *, after: Revision, limit: int, before: Revision | None = None) -> list[Event]:
        self._check_open()
        end = len(self._events) if before is None else max(before - 1, 0)
        return self._events[after : min(end, after + limit)]

    async def read_past(self, *, revision: Revision, after: str | None, limit: int) -> list[Event]:
        self._check_open()
        return _page({event.entity_id: event for event in self._events[:revision]}, after, limit)

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailable("it is not open")

    @property
    def _revision(self) -> Revision:
        return self._events[-1].revision if self._events else Revision(0)


K = TypeVar("K", bound=str)
V = TypeVar("V")


def _page(rows: dict[K, V], after: K | None, limit: int) -> list[V]:
    keys = sorted(rows)
    start = 0 if after is None else bisect_right(keys, after)
    return [rows[key] for key in keys[start : start + limit]]
