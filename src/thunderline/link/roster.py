"""The roster: every node in memory, with its open sessions and latest beat, indexed for reading.

It holds committed state only: the writer changes it after a commit and before anybody is answered. A point query is a
dictionary lookup; a listing walks the narrowest part of the index. One task changes it; on one event loop no reader
sees a half.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from thunderline.block.beats import PackedBeat, node_key, to_heartbeat
from thunderline.block.store import PresenceRow
from thunderline.core.clock import from_ms
from thunderline.core.errors import UnknownNode
from thunderline.core.ids import GroupId, LinkId, LogId, NodeId, Revision
from thunderline.core.records import (
    OPEN_SESSION_STATUSES,
    LinkSession,
    Node,
    NodeGroup,
    NodeStatus,
    Presence,
)
from thunderline.link.alert_book import AlertBook
from thunderline.link.detectors import Rhythm
from thunderline.link.group_tree import GroupTree
from thunderline.link.node_index import NodeFilter, NodeIndex
from thunderline.link.open_sessions import OpenSessions, SessionFilter
from thunderline.link.presence import SequenceWindow, Taken
from thunderline.link.tokens import TokenBook

if TYPE_CHECKING:
    from thunderline.link.health import Strain

_NODE_ENCODER: Final = msgspec.json.Encoder()


class Entry:
    """One node in the roster: its record, and beside it what each beat changes."""

    __slots__ = (
        "_encoded",
        "former_ms",
        "heard_at",
        "interval_ms",
        "key",
        "last_beat",
        "last_seen_ms",
        "node",
        "patience_s",
        "rhythm",
        "sessions",
        "settled_status",
        "strain",
        "terms",
        "window",
        "window_incarnation",
    )

    def __init__(self, node: Node) -> None:
        self.node = node
        self.key = node_key(node.id)
        self.sessions: dict[LinkId, LinkSession] = {}
        """The open ones of which the node is an end."""
        self.last_seen_ms: int | None = None
        self.last_beat: PackedBeat | None = None
        self.heard_at: float | None = None
        """When the newest sign of life came, committed or not, in the sentinel's time; None: none yet."""
        self.patience_s = 0.0
        """The silence that the newest sign of life allows."""
        self.interval_ms = 0
        """The interval that the node was granted last; 0: it was not heard yet."""
        self.former_ms = 0
        """The longer one that it had before, until it was heard once more; else 0."""
        self.terms = 0
        """Of which grant `interval_ms` is, see `Pace.terms`."""
        self.rhythm: Rhythm | None = None
        self.strain: Strain | None = None
        """What its figures say, where some are too high or about to be."""
        self.settled_status: NodeStatus | None = None
        """The observed status as of the commit that was looked at last; None: none was yet."""
        self.window = SequenceWindow()
        self.window_incarnation = node.incarnation
        self._encoded: bytes | None = None

    def replace(self, node: Node) -> None:
        """Take the node's newer record."""
        self.node = node
        self._encoded = None

    def keep(self, beat: PackedBeat) -> None:
        """Take a committed beat; a late one only as a number that was taken."""
        if not beat.late_ms:
            if beat.seq is None or not self.is_behind(beat.incarnation, beat.seq):
                self.last_beat = beat
            if self.last_seen_ms is None or beat.at_ms > self.last_seen_ms:
                self.last_seen_ms = beat.at_ms
        if beat.seq is not None:
            if beat.incarnation > self.window_incarnation:
                self.window, self.window_incarnation = SequenceWindow(), beat.incarnation
            if beat.incarnation == self.window_incarnation:
                self.window.take(beat.seq)

    def look(self, incarnation: int, seq: int) -> Taken:
        """What a beat of the node's present incarnation with that number would be."""
        return Taken.NEW if incarnation > self.window_incarnation else self.window.look(seq)

    def is_behind(self, incarnation: int, seq: int) -> bool:
        """Whether a beat with a later number of that incarnation, or of a later one, was taken already."""
        high = self.window.high
        if incarnation != self.window_incarnation:
            return incarnation < self.window_incarnation
        return high is not None and seq < high

    def encoded(self) -> bytes:
        """The node's record as a JSON object, kept until it changes."""
        if self._encoded is None:
            self._encoded = _NODE_ENCODER.encode(self.node)
        return self._encoded

    def presence(self, owner: str) -> Presence:
        """What stands beside the record; `owner` is the replica that answers for the node."""
        beat = self.last_beat
        return Presence(
            last_seen_at=None if self.last_seen_ms is None else from_ms(self.last_seen_ms),
            last_heartbeat_at=None if beat is None else from_ms(beat.at_ms),
            last_heartbeat=None if beat is None else to_heartbeat(beat, node_id=self.node.id),
            sessions=len(self.sessions),
            owner=owner,
        )

    def presence_row(self) -> PresenceRow:
        """The presence as a checkpoint keeps it."""
        return PresenceRow(
            self.node.id,
            self.window_incarnation,
            self.last_seen_ms,
            self.window.high,
            self.window.mask(),
            self.last_beat,
        )

    def restore_presence(self, row: PresenceRow) -> None:
        """Take back what a checkpoint kept."""
        self.last_seen_ms, self.last_beat = row.last_seen_ms, row.last_beat
        self.window = SequenceWindow(row.seen_high, row.seen_mask)
        self.window_incarnation = row.incarnation


class RosterObserver(Protocol):
    """Is told of each change, after it was made."""

    def node_changed(self, node_id: NodeId) -> None:
        """The node was added, replaced or removed."""

    def session_changed(self, session: LinkSession) -> None:
        """The session was opened, replaced or dropped."""


class Roster:
    """All nodes by id and by name, and their indexes. `revision` is the newest event that it reflects."""

    def __init__(self) -> None:
        self.log_id = LogId("")
        self.revision = Revision(0)
        self.held: set[str] = set()
        """The `session_id`s whose connection this process holds, or which may still be resumed."""
        self.groups = GroupTree()
        self.tokens = TokenBook()
        self.alerts = AlertBook()
        self.observers: list[RosterObserver] = []
        self.hits = self.misses = 0
        """Point queries that found a node, and that did not; both are answered from here."""
        self._by_id: dict[NodeId, Entry] = {}
        self._by_name: dict[str, Entry] = {}
        self._by_key: dict[bytes, Entry] = {}
        self._index = NodeIndex(self.groups)
        self.sessions = OpenSessions()

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._by_id.values())

    def by_name(self) -> Iterator[Entry]:
        """All entries, by name."""
        return map(self._by_name.__getitem__, self._index.everyone.in_order())

    def get(self, node_id: NodeId) -> Entry | None:
        """The entry with this id."""
        return self._by_id.get(node_id)

    def named(self, name: str) -> Entry | None:
        """The entry with this name."""
        return self._by_name.get(name)

    def by_key(self, key: bytes) -> Entry | None:
        """The entry whose id has these 16 bytes."""
        return self._by_key.get(key)

    def find(self, ref: str) -> Entry:
        """The entry with this id or name; the two never collide. Raises: UnknownNode."""
        entry = self._by_id.get(NodeId(ref)) or self._by_name.get(ref) or self._by_id.get(NodeId(ref.lower()))
        if entry is None:
            self.misses += 1
            raise UnknownNode(ref)
        self.hits += 1
        return entry

    def members_of(self, name: str) -> Set[str]:
        """The names of the nodes that are themselves members of the group with this name; a view, not a copy."""
        return self._index.members_of(name)

    def groups_below(self, ref: str) -> frozenset[str]:
        """The name of the group with this id or name, and those of all groups below it. Raises: UnknownGroup."""
        return self.groups.below(ref)

    def load(self, nodes: Iterable[Node]) -> None:
        """Add many nodes at once, at start."""
        entries = [Entry(node) for node in nodes]
        for entry in entries:
            self._keep(entry)
        self._index.load(entry.node for entry in entries)

    def put_node(self, node: Node) -> Entry:
        """Add or replace a node."""
        entry = self._by_id.get(node.id)
        if entry is None:
            entry = Entry(node)
            self._add(entry)
        else:
            self._index.replace(entry.node, node)
            entry.replace(node)
        for observer in self.observers:
            observer.node_changed(node.id)
        return entry

    def remove_node(self, node_id: NodeId) -> None:
        """Drop a node and its sessions."""
        entry = self._by_id.pop(node_id, None)
        if entry is None:
            return
        self._index.remove(entry.node)
        del self._by_key[entry.key]
        for session in list(entry.sessions.values()):
            self._drop_session(session)
        del self._by_name[entry.node.name]
        for observer in self.observers:
            observer.node_changed(node_id)

    def put_group(self, group: NodeGroup) -> None:
        """Add or replace a group."""
        former = self.groups.above(group.name)
        self.groups.put(group)
        self._index.regroup(group.name, former=former, above=self.groups.above(group.name))

    def remove_group(self, group_id: GroupId) -> None:
        """Drop a group; nobody is a member of it by then, or will be within the same commit."""
        group = self.groups.get(group_id)
        if group is not None:
            former = self.groups.above(group.name)
            self.groups.remove(group_id)
            self._index.regroup(group.name, former=former, above=self.groups.above(group.name))

    def put_session(self, session: LinkSession) -> None:
        """Add or replace an open session, or drop one that is no longer open or whose node is gone."""
        if session.node_id not in self._by_id or session.status not in OPEN_SESSION_STATUSES:
            self._drop_session(session)
            return
        self.sessions.put(session)
        for node_id in session.ends:
            if (entry := self._by_id.get(node_id)) is not None:
                entry.sessions[session.id] = session
        for observer in self.observers:
            observer.session_changed(session)

    def open_sessions(self, wanted: SessionFilter, *, after: LinkId | None = None) -> Iterator[LinkSession]:
        """The open sessions that match, with an id beyond `after`, by id."""
        candidates: Iterable[LinkSession] = self.sessions.after(after)
        if wanted.node_id is not None:
            entry = self._by_id.get(wanted.node_id)
            own = () if entry is None else entry.sessions.values()
            candidates = sorted((s for s in own if after is None or s.id > after), key=lambda session: session.id)
        return (session for session in candidates if wanted.holds(session))

    def _drop_session(self, session: LinkSession) -> None:
        self.sessions.drop(session.id)
        for node_id in session.ends:
            if (entry := self._by_id.get(node_id)) is not None:
                entry.sessions.pop(session.id, None)
        for observer in self.observers:
            observer.session_changed(session)

    def select(
        self, wanted: NodeFilter, *, after: str | None = None, limit: int | None = None
    ) -> tuple[list[Entry], bool]:
        """At most `limit` matching entries with a name beyond `after`, by name, and whether there are more.

        Raises: UnknownGroup when they should be of a group that is not there.
        """
        names = self._index.walk(wanted, after=after)
        if limit is None:
            return [self._by_name[name] for name in names], False
        found = [self._by_name[name] for name in islice(names, limit)]
        return found, next(names, None) is not None

    def sift(self, wanted: NodeFilter, names: Iterator[str]) -> Iterator[str]:
        """Those of `names`, of nodes that there are, that match; to be used up before anything changes.

        Raises: UnknownGroup.
        """
        return self._index.sift(wanted, names)

    def at_most(self, wanted: NodeFilter) -> int:
        """A number of nodes that those who match cannot exceed, known without looking at them. Raises: UnknownGroup."""
        return self._index.at_most(wanted)

    def matching(self, wanted: NodeFilter) -> list[Entry]:
        """All that match, in no order. Raises: UnknownGroup."""
        return [self._by_name[name] for name in self._index.matching(wanted)]

    def counts(self, kind: str) -> dict[str, int]:
        """How many nodes there are of each `status`, `role` or `domain` (`kind`), those of none left out."""
        return self._index.counts(kind)

    def _add(self, entry: Entry) -> None:
        self._keep(entry)
        self._index.add(entry.node)

    def _keep(self, entry: Entry) -> None:
        self._by_id[entry.node.id] = self._by_name[entry.node.name] = self._by_key[entry.key] = entry
