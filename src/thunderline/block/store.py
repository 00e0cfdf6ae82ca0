"""The store contract: what the commit pipeline and the readers of history need of an engine, and nothing more.

The store decides nothing. It applies batches whole or not at all, keeps them over a crash, and reads back in keyset
order; filters run in the roster. `thunderline.testing.check_store` proves an implementation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import msgspec

from thunderline.block.beats import PackedBeat
from thunderline.block.rollups import Bucket
from thunderline.block.upkeep import Upkeep
from thunderline.core.access import AuditEntry, Token
from thunderline.core.clock import Clock
from thunderline.core.errors import ContentRejected
from thunderline.core.ids import AuditId, BatchId, GroupId, IdSource, LinkId, LogId, NodeId, Revision, TokenId
from thunderline.core.records import Event, LinkSession, Node, NodeGroup, Payload


class LogHead(msgspec.Struct, frozen=True, kw_only=True):
    """Where the event log stands: `oldest` is the revision before the oldest event that is kept."""

    log_id: LogId
    revision: Revision
    oldest: Revision


class PresenceRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A node's presence as of one checkpoint; beats of later blocks are not in it.

    `seen_high` and `seen_mask` are the sequence numbers taken of `incarnation`: see `link.presence.SequenceWindow`.
    """

    node_id: NodeId
    incarnation: int
    last_seen_ms: int | None
    seen_high: int | None
    seen_mask: bytes
    last_beat: PackedBeat | None


class StoredBlock(msgspec.Struct, frozen=True, kw_only=True):
    """One heartbeat block; `id` grows with each commit that holds beats."""

    id: int
    beats: list[PackedBeat]


class CompactionStep(msgspec.Struct, frozen=True, kw_only=True):
    """What one step of compaction did."""

    more: bool
    """Whether another step may find something to do; false: what may be compacted is."""
    beats: int
    """Beats that were brought from blocks to their minutes."""
    newest_block: int
    """The newest block that there is; 0 when there is none."""


class TrimStep(msgspec.Struct, frozen=True, kw_only=True):
    """What one step of retention did."""

    more: bool
    """Whether another step may find something to do; false: history is within its limits, or all of it is gone."""
    size_bytes: int
    """About what history takes now, blocks included."""


class HistoryClock(msgspec.Struct, frozen=True, kw_only=True):
    """Where the clock stands by which ages are measured; see `link.ages.AgeClock`."""

    now_ms: int
    lead_ms: int
    stood_ms: int


class KeptAnswer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What `caller` was answered to the request that it named `key`, written with what the request brought about.

    `request` tells that request from others; `status` and `body` are the answer's.
    """

    caller: str
    key: str
    request: bytes
    status: int
    body: bytes
    kept_at_ms: int
    expires_at_ms: int


class EntityChange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What of an event the state after it depends on: the entity's record as it left it, or the last there was."""

    entity_id: str
    payload: Payload
    deleted: bool


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The state at a revision, packed by whoever keeps it; the store does not look into its parts."""

    revision: Revision
    parts: list[bytes]


class LogMark(msgspec.Struct, frozen=True, kw_only=True):
    """Where the log stood at an age, in milliseconds by the clock of ages."""

    revision: Revision
    age_ms: int


class Document(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Something small that a part of the registry keeps in a form of its own, found by its shelf and key."""

    shelf: str
    key: str
    body: bytes


class WriteBatch(msgspec.Struct, frozen=True, kw_only=True):
    """All that one transaction writes.

    `events` are persistent ones and follow `base` without a gap, in revision order. `nodes`, `sessions` and `groups`
    are records as they stand after the batch, each at most once; a node in `removed_nodes` takes its sessions and its
    presence with it and is not in `nodes`, nor is a group in both `removed_groups` and `groups`. A node and a group
    keep their names, and a session its `session_id` and node. `sessions` and `presence` belong to nodes that exist
    after the batch. `presence_block` not None: every presence up to and with that block is now in the store.
    `answers` are kept until they expire: a batch that holds some also removes expired ones, as of its newest, those of
    its own keys and a bounded number of others. `tokens` are records as they stand after the batch, each at most once,
    and none is in `removed_tokens`; a token keeps its kind and name, a name has one credential, revoked or not, and one
    token of the other kinds that is not revoked. `audit` is appended. `documents` are as they stand after the batch,
    each at most once, and none is among `removed_documents`, which are named by shelf and key.
    """

    batch_id: BatchId
    base: Revision
    events: Sequence[Event] = ()
    nodes: Sequence[Node] = ()
    removed_nodes: Sequence[NodeId] = ()
    sessions: Sequence[LinkSession] = ()
    groups: Sequence[NodeGroup] = ()
    removed_groups: Sequence[GroupId] = ()
    beats: Sequence[PackedBeat] = ()
    presence: Sequence[PresenceRow] = ()
    presence_block: int | None = None
    answers: Sequence[KeptAnswer] = ()
    tokens: Sequence[Token] = ()
    removed_tokens: Sequence[TokenId] = ()
    audit: Sequence[AuditEntry] = ()
    documents: Sequence[Document] = ()
    removed_documents: Sequence[tuple[str, str]] = ()


def check_revisions(batch: WriteBatch) -> None:
    """Return if the events follow the batch's base one by one. Raises: ContentRejected."""
    for wanted, event in enumerate(batch.events, start=batch.base + 1):
        if event.revision != wanted:
            raise ContentRejected(f"an event has revision {event.revision} where {wanted} should follow")


class Store(ABC):
    """One opened database. One task at a time calls `commit`, `committed` and `probe`; reads may come from any task.

    Every method but `open` and `close` raises StoreUnavailable when the engine cannot be reached or refuses service.
    """

    location: str
    """Where the data lies, for people."""

    @classmethod
    @abstractmethod
    def from_url(cls, rest: str, *, clock: Clock, ids: IdSource, writer_id: str) -> Self:
        """A store, not yet opened, from what stands behind `://` in its URL.

        `writer_id` names this process among the writers of one database. Raises: SettingsError naming `store`, also
        for a place that can never hold a database.
        """

    @abstractmethod
    async def open(self) -> LogHead:
        """Make ready, creating or migrating the schema.

        Raises: StoreLocked when another process owns the database, under whatever name; StoreIncompatible when the
        database or the engine is not one that this version can work with, or the database is damaged; nothing is then
        left beside what is not ours. StoreUnavailable when a later try may succeed.
        """

    @abstractmethod
    async def close(self) -> None:
        """Give everything back; idempotent, also when an earlier call was cancelled.

        Nothing that was acknowledged waits for this. Calls that come later raise StoreUnavailable, until `open`.
        """

    @abstractmethod
    async def commit(self, batch: WriteBatch) -> int | None:
        """Write `batch` in one transaction; on return it is durable (flushed to stable storage).

        Gives the id of the heartbeat block, None when the batch holds no beats. Cancelling the caller does not stop
        the transaction.

        Raises: ContentRejected when this content can never be written: the log does not stand at `base`, the events
        have a gap, a name or `session_id` is another's, a session's or presence's node does not exist, an answer of
        this caller and key is kept already and has not expired, an audit entry's id is taken, or the engine cannot hold
        a value; StoreUnavailable when nothing was written and a later try may succeed, also when what was opened is no
        longer where a restart would look for it; OutcomeUnknown when the engine was lost in the commit itself, after
        which only `committed` may follow.
        """

    @abstractmethod
    async def committed(self, batch_id: BatchId) -> bool:
        """Whether the newest batch of this writer is `batch_id`, read over a fresh connection.

        The answer holds over a crash: it is given once a durable write succeeded behind what was read, so that a batch
        which is not there cannot turn up later. Raises: StoreUnavailable when that write fails; ask again.
        """

    @abstractmethod
    async def probe(self) -> None:
        """Return if the store takes durable writes again. Raises: StoreUnavailable."""

    @abstractmethod
    async def scan_nodes(self, *, after: NodeId | None, limit: int) -> list[Node]:
        """At most `limit` nodes with an id beyond `after`, by id; an empty list is the end."""

    @abstractmethod
    async def scan_open_sessions(self, *, after: LinkId | None, limit: int) -> list[LinkSession]:
        """At most `limit` open sessions with an id beyond `after`, by id; an empty list is the end."""

    @abstractmethod
    async def find_session(self, session_id: str) -> LinkSession | None:
        """The session that the caller's `session_id` names, open or closed."""

    @abstractmethod
    async def get_session(self, link_id: LinkId) -> LinkSession | None:
        """The session with this id, open or closed."""

    @abstractmethod
    async def scan_groups(self, *, after: GroupId | None, limit: int) -> list[NodeGroup]:
        """At most `limit` groups with an id beyond `after`, by id; an empty list is the end."""

    @abstractmethod
    async def find_answer(self, caller: str, key: str) -> KeptAnswer | None:
        """The answer that is kept for this caller under this key; one that expired may or may not be there still."""

    @abstractmethod
    async def scan_tokens(self, *, after: TokenId | None, limit: int) -> list[Token]:
        """At most `limit` tokens with an id beyond `after`, by id, the revoked ones too; an empty list is the end."""

    @abstractmethod
    async def read_audit(self, *, before: AuditId | None, limit: int) -> list[AuditEntry]:
        """The newest `limit` audit entries with an id below `before` (None: of all), the newest first."""

    @abstractmethod
    async def trim_audit(self, *, before_ms: int, limit: int) -> int:
        """Forget at most `limit` audit entries from before that time, the oldest first; gives how many went.

        A write of a few milliseconds, then flushed, beside which commits go on.
        """

    @abstractmethod
    async def scan_documents(self, shelf: str, *, after: str | None, limit: int) -> list[Document]:
        """At most `limit` documents of a shelf with a key beyond `after`, by key; an empty list is the end."""

    @abstractmethod
    async def scan_presence(self, *, after: NodeId | None, limit: int) -> list[PresenceRow]:
        """At most `limit` presences of the last checkpoints, by node id; an empty list is the end."""

    @abstractmethod
    async def presence_block(self) -> int:
        """The newest block that the stored presences cover; 0 when there was no checkpoint yet."""

    @abstractmethod
    async def scan_blocks(self, *, after: int, limit: int) -> list[StoredBlock]:
        """At most `limit` heartbeat blocks with an id beyond `after`, by id; an empty list is the end."""

    @abstractmethod
    async def read_beats(
        self, *, node_id: NodeId | None, since_ms: int, until_ms: int, limit: int, every_ms: int | None = None
    ) -> list[PackedBeat]:
        """The newest `limit` beats of one node (None: of all) with since <= at < until, in ascending time.

        Beats of one time stand by node, and those of one node in the order in which they were committed. With
        `every_ms`, only with a node, only the last beat in each span of that length counts; spans are aligned to wall
        time. Beats outlive their node: those of a deregistered one are read by its id. How long this takes follows
        from what lies in the window (with a node: from its beats there), not from what else is kept.
        """

    @abstractmethod
    async def read_rollups(
        self, *, node_id: NodeId, since_ms: int, until_ms: int, bucket_ms: int
    ) -> list[Bucket] | None:
        """The node's beats with since <= at < until rolled up by buckets of that length, in ascending time.

        Only buckets with beats are given. `since_ms` and `until_ms` are multiples of `bucket_ms`. Where that is a
        multiple of a minute, what is kept of beats as rollups only counts too; where it is not, None: some beats of
        the window are no longer kept one by one.
        """

    @abstractmethod
    async def compact_beats(self, *, closed_ms: int, settled_block: int) -> CompactionStep:
        """Bring some beats from blocks to the minutes of their nodes; a write of a few milliseconds, then flushed.

        Taken are the oldest blocks, as long as all beats of each lie before `closed_ms` or its id is at most
        `settled_block`. A block goes once all its beats have gone to their minutes and `presence_block` has reached
        it. At every moment, over a crash too, readers see each beat exactly once. A beat whose minute has lost its
        beats to `trim_beats` goes to that minute's rollup only.

        One task at a time calls this and `trim_beats`; commits may go on meanwhile, and wait for one step at most.
        """

    @abstractmethod
    async def trim_beats(self, *, raw_before_ms: int, rollups_before_ms: int, max_bytes: int) -> TrimStep:
        """Forget some of what was compacted: a write of a few milliseconds, then flushed.

        Of minutes that ended by `raw_before_ms` the beats go and the rollups stay; of those that ended by
        `rollups_before_ms` all goes; then, while history takes more than `max_bytes`, the oldest minutes go. A node's
        minute keeps all its beats or none. What lies in blocks stays.
        """

    @abstractmethod
    async def history_clock(self) -> HistoryClock | None:
        """What `set_history_clock` was last given; None before."""

    @abstractmethod
    async def set_history_clock(self, clock: HistoryClock) -> None:
        """Keep `clock` over a restart."""

    @abstractmethod
    async def read_events(self, *, after: Revision, limit: int, before: Revision | None = None) -> list[Event]:
        """At most `limit` events with after < revision (< before), in revision order, payloads whole."""

    @abstractmethod
    async def read_past(self, *, revision: Revision, after: str | None, limit: int) -> list[Event]:
        """The newest event at or below `revision` of at most `limit` entities with an id beyond `after`, by entity id.

        Together they are the state at that revision; what was deleted by then has its deletion here. An empty list is
        the end.
        """

    @abstractmethod
    async def read_entity(self, entity_id: str, *, after: Revision, until: Revision, limit: int) -> list[Event]:
        """At most `limit` events of one entity with after < revision <= until, in revision order."""

    @abstractmethod
    async def read_entity_at(self, entity_id: str, revision: Revision) -> Event | None:
        """The newest event of one entity at or below `revision`."""

    @abstractmethod
    async def count_events(self, *, since_minute: int, until_minute: int, width: int) -> list[tuple[int, str, int]]:
        """How many events of each name there were, by bins of `width` minutes: (bin, name, events), in no order.

        Bins are counted from `since_minute`, in minutes since 1970; what has none is left out. How long this takes
        follows from how many minutes lie between. Minutes before the log's beginning may be gone.
        """

    @abstractmethod
    async def read_changes(self, *, after: Revision, until: Revision) -> list[EntityChange]:
        """Of each entity the newest event among those with after < revision <= until, in no order.

        Laid over the state at `after` they give the state at `until`. How long this takes follows from how many
        events lie between.
        """

    @abstractmethod
    async def revision_at(self, at_ms: int) -> Revision:
        """The highest revision of an event at or before that time; 0 when there is none."""

    @abstractmethod
    async def commit_end(self, revision: Revision) -> Revision:
        """The last revision of the commit that wrote this one; itself where that is not known."""

    @abstractmethod
    async def keep_snapshot(self, snapshot: Snapshot) -> None:
        """Keep a state for `read_snapshot`, in writes of a few milliseconds, beside which commits go on.

        What a crash leaves of it is never read. A later one of the same revision takes its place.
        """

    @abstractmethod
    async def drop_snapshots(self) -> bool:
        """Remove some of the snapshots, the oldest first; whether there were any. Raises: StoreUnavailable."""

    @abstractmethod
    async def read_snapshot(self, *, revision: Revision, least: int = 0) -> Snapshot | None:
        """The newest snapshot at or below `revision`, of those at or above `least`."""

    @abstractmethod
    async def mark_log(self, mark: LogMark) -> None:
        """Keep a mark for `read_mark`; its age is not below that of an earlier one."""

    @abstractmethod
    async def read_mark(self, *, age_ms: int, revision: Revision) -> LogMark | None:
        """The newest mark that is at or below both."""

    @abstractmethod
    async def begin_log(self, oldest: Revision) -> None:
        """Let the log begin behind `oldest`, the end of a commit: no moment before it is asked for any more.

        It never begins earlier again. Nothing that is asked for afterwards changes, but marks before it are gone.
        """

    @abstractmethod
    async def compact_log(self) -> bool:
        """Remove some of what only moments before the log's beginning need; whether there may be more of it.

        Of the events at or below the beginning each entity's newest stays, and the one at the beginning itself; none
        does of an entity that was deleted by then, or of a session that was closed. Such a session goes, too, unless it
        was opened again since; and so do snapshots from before the beginning. One call takes a few milliseconds, beside
        which commits go on.
        """

    def upkeep(self) -> Upkeep | None:
        """What `thunderline db` does with the database, opened or not. None: there is nothing that it could do."""
        return None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
