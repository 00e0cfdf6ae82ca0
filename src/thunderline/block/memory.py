"""A store that keeps everything in memory and nothing over a restart: for tests and for trying things out."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from typing import Self, TypeVar

from thunderline.block.beats import PackedBeat, node_key, pack_block
from thunderline.block.rollups import (
    MINUTE_MS,
    Bucket,
    Rollup,
    add_buckets,
    bucket_of,
    in_time,
    minute_of,
    pack_minute,
    roll_up,
    roll_up_buckets,
    thin,
)
from thunderline.block.rollups import merge as merge_rollups
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
from thunderline.core.access import AuditEntry, Token, TokenKind
from thunderline.core.clock import Clock, from_ms, to_ms
from thunderline.core.errors import ContentRejected, StoreUnavailable
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
from thunderline.core.records import OPEN_SESSION_STATUSES, Event, LinkSession, Node, NodeGroup


class MemoryStore(Store):
    """Holds what a database would; reopening the same object finds it again, as a restart on a file would."""

    location = "memory"

    def __init__(self, *, ids: IdSource = new_uuid7) -> None:
        self._log_id = LogId(ids())
        self._events: list[Event] = []
        self._commit_ends: list[Revision] = []
        self._snapshots: dict[Revision, Snapshot] = {}
        self._oldest = Revision(0)
        self._marks: list[LogMark] = []
        self._nodes: dict[NodeId, Node] = {}
        self._names: dict[str, NodeId] = {}
        self._sessions: dict[LinkId, LinkSession] = {}
        self._session_ids: dict[str, LinkId] = {}
        self._groups: dict[GroupId, NodeGroup] = {}
        self._presence: dict[NodeId, PresenceRow] = {}
        self._presence_block = 0
        self._blocks: dict[int, list[PackedBeat]] = {}
        self._newest_block = self._compacted_block = 0
        self._minutes: dict[tuple[int, bytes], list[PackedBeat]] = {}
        self._rollups: dict[tuple[int, bytes], Rollup] = {}
        self._history_clock: HistoryClock | None = None
        self._answers: dict[tuple[str, str], KeptAnswer] = {}
        self._tokens: dict[TokenId, Token] = {}
        self._audit: dict[AuditId, AuditEntry] = {}
        self._documents: dict[tuple[str, str], Document] = {}
        self._last_batch: BatchId | None = None
        self._is_open = False

    @classmethod
    def from_url(cls, rest: str, *, clock: Clock, ids: IdSource, writer_id: str) -> Self:
        return cls(ids=ids)

    async def open(self) -> LogHead:
        self._is_open = True
        return LogHead(log_id=self._log_id, revision=self._revision, oldest=self._oldest)

    async def close(self) -> None:
        self._is_open = False

    async def commit(self, batch: WriteBatch) -> int | None:
        self._check_open()
        self._check(batch)
        self._last_batch = batch.batch_id
        self._events.extend(batch.events)
        if batch.events:
            self._commit_ends.append(batch.events[-1].revision)
        for node_id in batch.removed_nodes:
            self._remove(node_id)
        self._nodes |= {node.id: node for node in batch.nodes}
        self._names |= {node.name: node.id for node in batch.nodes}
        self._sessions |= {session.id: session for session in batch.sessions}
        self._session_ids |= {session.session_id: session.id for session in batch.sessions}
        for group_id in batch.removed_groups:
            self._groups.pop(group_id, None)
        self._groups |= {group.id: group for group in batch.groups}
        self._presence |= {row.node_id: row for row in batch.presence}
        if batch.presence_block is not None:
            self._presence_block = batch.presence_block
        if batch.answers:
            now_ms = max(answer.kept_at_ms for answer in batch.answers)
            self._answers = {key: kept for key, kept in self._answers.items() if kept.expires_at_ms > now_ms}
            self._answers |= {(answer.caller, answer.key): answer for answer in batch.answers}
        for token_id in batch.removed_tokens:
            self._tokens.pop(token_id, None)
        self._tokens |= {token.id: token for token in batch.tokens}
        self._audit |= {entry.id: entry for entry in batch.audit}
        for place in batch.removed_documents:
            self._documents.pop(place, None)
        self._documents |= {(document.shelf, document.key): document for document in batch.documents}
        if not batch.beats:
            return None
        self._newest_block += 1
        self._blocks[self._newest_block] = list(batch.beats)
        return self._newest_block

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
        self._check_groups(batch)
        self._check_access(batch)
        for node_id in [*(session.node_id for session in batch.sessions), *(row.node_id for row in batch.presence)]:
            if node_id not in added and (node_id in removed or node_id not in self._nodes):
                raise ContentRejected(f"there is no node {node_id}")

        keys: set[tuple[str, str]] = set()
        now_ms = max((answer.kept_at_ms for answer in batch.answers), default=0)
        for answer in batch.answers:
            key = (answer.caller, answer.key)
            kept = self._answers.get(key)
            if key in keys or (kept is not None and kept.expires_at_ms > now_ms):
                raise ContentRejected(f"an answer to {answer.key!r} is kept already")
            keys.add(key)

    def _check_groups(self, batch: WriteBatch) -> None:
        names = {group.name: group.id for group in self._groups.values() if group.id not in batch.removed_groups}
        for group in batch.groups:
            if names.setdefault(group.name, group.id) != group.id:
                raise ContentRejected(f"the group name {group.name!r} is taken")

    def _check_access(self, batch: WriteBatch) -> None:
        removed = set(batch.removed_tokens)
        names: set[tuple[bool, str]] = set()
        after = self._tokens | {token.id: token for token in batch.tokens} if batch.tokens else {}
        for token in after.values():
            is_credential = token.kind is TokenKind.CREDENTIAL
            if token.id in removed or (token.revoked_at is not None and not is_credential):
                continue
            if (is_credential, token.name) in names:
                raise ContentRejected(f"the name {token.name!r} is another token's")
            names.add((is_credential, token.name))
        entries = {entry.id for entry in batch.audit}
        if len(entries) != len(batch.audit) or not entries.isdisjoint(self._audit):
            raise ContentRejected("an audit entry of that id is there already")

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

    async def scan_groups(self, *, after: GroupId | None, limit: int) -> list[NodeGroup]:
        self._check_open()
        return _page(self._groups, after, limit)

    async def find_answer(self, caller: str, key: str) -> KeptAnswer | None:
        self._check_open()
        return self._answers.get((caller, key))

    async def scan_tokens(self, *, after: TokenId | None, limit: int) -> list[Token]:
        self._check_open()
        return _page(self._tokens, after, limit)

    async def read_audit(self, *, before: AuditId | None, limit: int) -> list[AuditEntry]:
        self._check_open()
        ids = sorted((id_ for id_ in self._audit if before is None or id_ < before), reverse=True)
        return [self._audit[id_] for id_ in ids[:limit]]

    async def trim_audit(self, *, before_ms: int, limit: int) -> int:
        self._check_open()
        old = sorted((to_ms(entry.at), entry.id) for entry in self._audit.values() if to_ms(entry.at) < before_ms)
        for _, id_ in old[:limit]:
            del self._audit[id_]
        return len(old[:limit])

    async def scan_documents(self, shelf: str, *, after: str | None, limit: int) -> list[Document]:
        self._check_open()
        return _page({key: each for (on, key), each in self._documents.items() if on == shelf}, after, limit)

    async def scan_presence(self, *, after: NodeId | None, limit: int) -> list[PresenceRow]:
        self._check_open()
        return _page(self._presence, after, limit)

    async def presence_block(self) -> int:
        self._check_open()
        return self._presence_block

    async def scan_blocks(self, *, after: int, limit: int) -> list[StoredBlock]:
        self._check_open()
        chosen = [id_ for id_ in self._blocks if id_ > after][:limit]
        return [StoredBlock(id=id_, beats=self._blocks[id_]) for id_ in chosen]

    async def read_beats(
        self, *, node_id: NodeId | None, since_ms: int, until_ms: int, limit: int, every_ms: int | None = None
    ) -> list[PackedBeat]:
        self._check_open()
        key = None if node_id is None else node_key(node_id)
        found = [
            beat
            for beats in (*self._minutes.values(), *self._fresh_blocks())
            for beat in beats
            if since_ms <= beat.at_ms < until_ms and (key is None or beat.node_key == key)
        ]
        found.sort(key=in_time)
        if every_ms is not None:
            found = thin(found, every_ms)
        return found[-limit:] if limit > 0 else []

    async def read_rollups(
        self, *, node_id: NodeId, since_ms: int, until_ms: int, bucket_ms: int
    ) -> list[Bucket] | None:
        self._check_open()
        key = node_key(node_id)
        rolled_up = {
            minute: rollup
            for (minute, of), rollup in self._rollups.items()
            if of == key and minute_of(since_ms) <= minute <= minute_of(until_ms - 1)
        }
        buckets: dict[int, Rollup] = {}
        if bucket_ms % MINUTE_MS == 0:
            for minute, rollup in rolled_up.items():
                add_buckets(buckets, {bucket_of(minute * MINUTE_MS, bucket_ms): rollup})
            parts = [beat for block in self._fresh_blocks() for beat in block if beat.node_key == key]
            beats = [beat for beat in parts if since_ms <= beat.at_ms < until_ms]
        elif any((minute, key) not in self._minutes for minute in rolled_up):
            return None
        else:
            beats = await self.read_beats(node_id=node_id, since_ms=since_ms, until_ms=until_ms, limit=2**62)
        add_buckets(buckets, roll_up_buckets(beats, bucket_ms))
        return [Bucket(at_ms, rollup) for at_ms, rollup in sorted(buckets.items())]

    async def compact_beats(self, *, closed_ms: int, settled_block: int) -> CompactionStep:
        self._check_open()
        gone = [id_ for id_ in self._blocks if id_ <= min(self._compacted_block, self._presence_block)]
        for id_ in gone:
            del self._blocks[id_]
        id_ = self._compacted_block + 1
        beats = self._blocks.get(id_)
        if beats is None or (max(beat.at_ms for beat in beats) >= closed_ms and id_ > settled_block):
            return CompactionStep(more=bool(gone), beats=0, newest_block=self._newest_block)
        by_place: dict[tuple[int, bytes], list[PackedBeat]] = {}
        for beat in beats:
            by_place.setdefault((minute_of(beat.at_ms), beat.node_key), []).append(beat)
        for place, found in by_place.items():
            known = self._rollups.get(place)
            if known is None or place in self._minutes:
                self._minutes[place] = sorted([*self._minutes.get(place, ()), *found], key=in_time)
            rollup = roll_up(found)
            self._rollups[place] = rollup if known is None else merge_rollups(known, rollup)
        self._compacted_block = id_
        return CompactionStep(more=True, beats=len(beats), newest_block=self._newest_block)

    async def trim_beats(self, *, raw_before_ms: int, rollups_before_ms: int, max_bytes: int) -> TrimStep:
        self._check_open()
        old = [place for place in self._rollups if place[0] < minute_of(rollups_before_ms)]
        raw = [place for place in self._minutes if place[0] < minute_of(raw_before_ms)]
        if not old and not raw and self._rollups and self._history_bytes > max_bytes:
            old = [min(self._rollups)]
        for place in old:
            del self._rollups[place]
        for place in (*old, *raw):
            self._minutes.pop(place, None)
        return TrimStep(more=bool(old or raw), size_bytes=self._history_bytes)

    @property
    def _history_bytes(self) -> int:
        rows = sum(len(pack_minute(minute, beats)) for (minute, _), beats in self._minutes.items())
        return rows + 128 * len(self._rollups) + sum(len(pack_block(beats)) for beats in self._fresh_blocks())

    def _fresh_blocks(self) -> list[list[PackedBeat]]:
        return [beats for id_, beats in self._blocks.items() if id_ > self._compacted_block]

    async def history_clock(self) -> HistoryClock | None:
        self._check_open()
        return self._history_clock

    async def set_history_clock(self, clock: HistoryClock) -> None:
        self._check_open()
        self._history_clock = clock

    async def read_events(self, *, after: Revision, limit: int, before: Revision | None = None) -> list[Event]:
        self._check_open()
        return self._between(after, None if before is None else before - 1)[:limit]

    async def read_past(self, *, revision: Revision, after: str | None, limit: int) -> list[Event]:
        self._check_open()
        return _page({event.entity_id: event for event in self._between(0, revision)}, after, limit)

    async def read_entity(self, entity_id: str, *, after: Revision, until: Revision, limit: int) -> list[Event]:
        self._check_open()
        return [event for event in self._between(after, until) if event.entity_id == entity_id][:limit]

    async def read_entity_at(self, entity_id: str, revision: Revision) -> Event | None:
        self._check_open()
        return next((event for event in reversed(self._between(0, revision)) if event.entity_id == entity_id), None)

    async def count_events(self, *, since_minute: int, until_minute: int, width: int) -> list[tuple[int, str, int]]:
        self._check_open()
        counts = Counter(
            ((minute - since_minute) // width, event.name)
            for event in self._between(max(self._oldest - 1, 0), None)
            if since_minute <= (minute := minute_of(to_ms(event.at))) < until_minute
        )
        return [(bin_, name, count) for (bin_, name), count in counts.items()]

    async def read_changes(self, *, after: Revision, until: Revision) -> list[EntityChange]:
        self._check_open()
        newest = {event.entity_id: event for event in self._between(after, until)}
        return [
            EntityChange(entity_id=entity_id, payload=event.payload, deleted=event.deleted)
            for entity_id, event in newest.items()
        ]

    def _between(self, after: int, until: int | None) -> list[Event]:
        """The events with after < revision <= until."""
        start = bisect_right(self._events, after, key=_revision)
        end = len(self._events) if until is None else bisect_right(self._events, until, key=_revision)
        return self._events[start:end]

    async def revision_at(self, at_ms: int) -> Revision:
        self._check_open()
        at = from_ms(at_ms)
        return next((event.revision for event in reversed(self._events) if event.at <= at), Revision(0))

    async def commit_end(self, revision: Revision) -> Revision:
        self._check_open()
        place = bisect_left(self._commit_ends, revision)
        return self._commit_ends[place] if revision and place < len(self._commit_ends) else revision

    async def keep_snapshot(self, snapshot: Snapshot) -> None:
        self._check_open()
        self._snapshots[snapshot.revision] = snapshot

    async def drop_snapshots(self) -> bool:
        self._check_open()
        had, self._snapshots = bool(self._snapshots), {}
        return had

    async def read_snapshot(self, *, revision: Revision, least: int = 0) -> Snapshot | None:
        self._check_open()
        kept = [found for found in self._snapshots if least <= found <= revision]
        return self._snapshots[max(kept)] if kept else None

    async def mark_log(self, mark: LogMark) -> None:
        self._check_open()
        self._marks.append(mark)

    async def read_mark(self, *, age_ms: int, revision: Revision) -> LogMark | None:
        self._check_open()
        found = [mark for mark in self._marks if mark.age_ms <= age_ms and mark.revision <= revision]
        return found[-1] if found else None

    async def begin_log(self, oldest: Revision) -> None:
        self._check_open()
        self._oldest = max(self._oldest, oldest)
        self._marks = [mark for mark in self._marks if mark.revision >= self._oldest]

    async def compact_log(self) -> bool:
        self._check_open()
        self._snapshots = {at: kept for at, kept in self._snapshots.items() if at >= self._oldest}
        newest: dict[str, Event] = {event.entity_id: event for event in self._between(0, self._oldest)}
        ends = [event for event in newest.values() if _is_end(event)]
        kept = [event for event in newest.values() if not _is_end(event) or event.revision == self._oldest]
        since = self._between(self._oldest, None)
        opened_since = {event.entity_id for event in since}
        for event in ends:
            if isinstance(event.payload, LinkSession) and event.entity_id not in opened_since:
                gone = self._sessions.pop(event.payload.id, None)
                if gone is not None:
                    self._session_ids.pop(gone.session_id, None)
        self._events = [*sorted(kept, key=_revision), *since]
        return False

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreUnavailable("it is not open")

    @property
    def _revision(self) -> Revision:
        return self._events[-1].revision if self._events else Revision(0)


def _revision(event: Event) -> int:
    return event.revision


def _is_end(event: Event) -> bool:
    is_closed = isinstance(event.payload, LinkSession) and event.payload.status not in OPEN_SESSION_STATUSES
    return event.deleted or is_closed


K = TypeVar("K", bound=str)
V = TypeVar("V")


def _page(rows: dict[K, V], after: K | None, limit: int) -> list[V]:
    keys = sorted(rows)
    start = 0 if after is None else bisect_right(keys, after)
    return [rows[key] for key in keys[start : start + limit]]
