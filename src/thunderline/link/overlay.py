"""The private state on which one batch is planned: the roster as it will be if the batch is committed.

Operations are planned in order, each seeing what those before it did. One that is refused is rolled back alone.
Nothing here is visible to a reader; `batch` gives what the store has to write, `apply` brings a committed overlay into
the roster.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final

import msgspec

from thunderline.block.beats import PackedBeat
from thunderline.block.store import Document, KeptAnswer, PresenceRow, WriteBatch
from thunderline.core.access import AuditEntry, Outcome, Token, TokenKind
from thunderline.core.alerts import Alert, Silence
from thunderline.core.errors import TokenExpired, TokenRevoked, UnknownGroup, UnknownNode
from thunderline.core.ids import AuditId, BatchId, EventId, GroupId, IdSource, LinkId, NodeId, Revision, TokenId
from thunderline.core.records import (
    OPEN_SESSION_STATUSES,
    Event,
    LinkSession,
    Node,
    NodeGroup,
    PersistentPayload,
    RegistryReport,
)
from thunderline.flow.taxonomy import TAXONOMY, check_event
from thunderline.link.actor import NOBODY, Actor, ActorKind
from thunderline.link.alert_book import alert_document, silence_document
from thunderline.link.roster import Roster

_ABSENT: Final = object()


class Savepoint(msgspec.Struct, frozen=True):
    """Where an overlay stood before an operation."""

    events: int
    beats: int
    answers: int
    audit: int
    undo: int


_REPORTED: Final = "link:"


def reported_over(session_id: str) -> str:
    """The holder of sessions that a node reports over its link of that `session_id`."""
    return _REPORTED + session_id


def reporting_link(session: LinkSession) -> str | None:
    """The `session_id` of the link over which the session is reported; None if it is not."""
    holder = session.holder
    return holder[len(_REPORTED) :] if holder is not None and holder.startswith(_REPORTED) else None


class Overlay:
    """One batch in the making. `now` is the wall time of all its records and events."""

    def __init__(self, roster: Roster, *, now: datetime, now_ms: int, source: str, ids: IdSource) -> None:
        self.now = now
        self.now_ms = now_ms
        self.events: list[Event] = []
        self.beats: list[PackedBeat] = []
        self.answers: list[KeptAnswer] = []
        self.audit: list[AuditEntry] = []
        self.new_id = ids
        self._roster = roster
        self.source = source
        """The replica that makes the batch."""
        self._actor: Actor = NOBODY
        self._correlation_id: str | None = None
        self._causation_id: EventId | None = None
        self._nodes: dict[NodeId, Node | None] = {}
        self._names: dict[str, NodeId | None] = {}
        self._sessions: dict[LinkId, LinkSession] = {}
        self._session_ids: dict[str, LinkId] = {}
        # Which sessions of the batch might be a node's: also those of operations that were undone.
        self._sessions_at: dict[NodeId, dict[LinkId, None]] = {}
        self._groups: dict[GroupId, NodeGroup | None] = {}
        self._group_names: dict[str, GroupId | None] = {}
        self._tokens: dict[TokenId, Token | None] = {}
        self._token_names: dict[tuple[bool, str], TokenId | None] = {}
        self._alerts: dict[str, Alert] = {}
        self._silences: dict[str, Silence | None] = {}
        self._documents: dict[tuple[str, str], Document | None] = {}
        self._taken: dict[tuple[bytes, int, int], None] = {}
        self._highest: dict[tuple[bytes, int], int] = {}
        self._undo: list[tuple[dict[Any, Any], Any, Any]] = []

    @property
    def base(self) -> Revision:
        """The revision that the batch follows."""
        return self._roster.revision

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (
            self.events or self.beats or self.answers or self.audit or self._tokens or self._silences or self._documents
        )

    def begin(self, actor: Actor) -> Savepoint:
        """Start the next operation: what it changes is `actor`'s doing, under one correlation id."""
        self._actor = actor
        self._correlation_id = None
        return self.savepoint()

    def check_actor(self) -> None:
        """Return if the token by which the operation's actor is known is still good: it was, when the call came.

        Raises: TokenRevoked, TokenExpired.
        """
        actor = self._actor
        if actor.token_id is None:
            return
        token = self.token(actor.token_id)
        if token is None or token.revoked_at is not None:
            raise TokenRevoked(actor.name)
        if token.expires_at is not None and token.expires_at <= self.now:
            raise TokenExpired(actor.name)

    @contextmanager
    def consequences(self, of: Event | None) -> Iterator[None]:
        """A block whose events came about by an event of the same operation; None: by what the block around it did."""
        outer = self._causation_id
        if of is not None:
            self._causation_id = of.id
        try:
            yield
        finally:
            self._causation_id = outer

    def savepoint(self) -> Savepoint:
        """Where the overlay stands now, inside an operation or between two."""
        return Savepoint(len(self.events), len(self.beats), len(self.answers), len(self.audit), len(self._undo))

    def roll_back(self, savepoint: Savepoint) -> None:
        """Undo all since `savepoint`."""
        del self.events[savepoint.events :]
        del self.beats[savepoint.beats :]
        del self.answers[savepoint.answers :]
        del self.audit[savepoint.audit :]
        while len(self._undo) > savepoint.undo:
            changed, key, before = self._undo.pop()
            if before is _ABSENT:
                del changed[key]
            else:
                changed[key] = before

    # Reading

    def find(self, node_id: NodeId) -> Node | None:
        """The node with this id, as the batch leaves it so far."""
        if node_id in self._nodes:
            return self._nodes[node_id]
        entry = self._roster.get(node_id)
        return None if entry is None else entry.node

    def node(self, node_id: NodeId) -> Node:
        """The node with this id. Raises: UnknownNode."""
        node = self.find(node_id)
        if node is None:
            raise UnknownNode(node_id)
        return node

    def named(self, name: str) -> Node | None:
        """The node with this name."""
        if name in self._names:
            node_id = self._names[name]
            return None if node_id is None else self._nodes[node_id]
        entry = self._roster.named(name)
        # A node of the roster may have changed in this batch, though not its name.
        return None if entry is None else self.find(entry.node.id)

    def open_sessions(self, node_id: NodeId) -> list[LinkSession]:
        """The open sessions of which the node is an end."""
        entry = self._roster.get(node_id)
        sessions = {} if entry is None else dict(entry.sessions)
        for link_id in self._sessions_at.get(node_id, ()):
            if (session := self._sessions.get(link_id)) is not None:
                sessions[link_id] = session
        return [session for session in sessions.values() if session.status in OPEN_SESSION_STATUSES]

    def session_named(self, session_id: str) -> LinkSession | None:
        """The session with this `session_id` if it is open, or was changed in this batch."""
        if session_id in self._session_ids:
            return self._sessions[self._session_ids[session_id]]
        return self._roster.sessions.named(session_id)

    def holds(self, session_id: str) -> bool:
        """Whether this process holds the session's connection, or it may still be resumed."""
        return session_id in self._roster.held

    def is_connected(self, session: LinkSession) -> bool:
        """Whether the session's connection is there, as far as this process can tell."""
        link = reporting_link(session)
        return session.holder is None or (session.session_id if link is None else link) in self._roster.held

    def group(self, group_id: GroupId) -> NodeGroup:
        """The group with this id. Raises: UnknownGroup."""
        group = self._groups[group_id] if group_id in self._groups else self._roster.groups.get(group_id)
        if group is None:
            raise UnknownGroup(group_id)
        return group

    def group_named(self, name: str) -> NodeGroup | None:
        """The group with this name."""
        if name in self._group_names:
            group_id = self._group_names[name]
            return None if group_id is None else self._groups[group_id]
        return self._roster.groups.named(name)

    def groups_inside(self, name: str) -> list[NodeGroup]:
        """The groups whose parent is this one, by name."""
        changed = {group.name for group in self._groups.values() if group is not None}
        names = self._roster.groups.inside(name) | changed
        groups = [group for each in sorted(names) if (group := self.group_named(each)) is not None]
        return [group for group in groups if group.parent == name]

    def members_of(self, name: str) -> list[Node]:
        """The nodes that are themselves members of this group, by name."""
        ids = dict.fromkeys(self._nodes)
        ids |= {entry.node.id: None for each in self._roster.members_of(name) if (entry := self._roster.named(each))}
        nodes = [node for node_id in ids if (node := self.find(node_id)) is not None and name in node.groups]
        return sorted(nodes, key=lambda node: node.name)

    def token(self, token_id: TokenId) -> Token | None:
        """The token with this id."""
        return self._tokens[token_id] if token_id in self._tokens else self._roster.tokens.get(token_id)

    def token_named(self, name: str) -> Token | None:
        """The token or join token of that name that is not revoked."""
        return self._named_token(False, name)

    def credential_of(self, name: str) -> Token | None:
        """The credential of the node of that name, revoked or not; None: the name was never enrolled."""
        return self._named_token(True, name)

    def _named_token(self, is_credential: bool, name: str) -> Token | None:
        key = (is_credential, name)
        if key in self._token_names:
            token_id = self._token_names[key]
            return None if token_id is None else self._tokens[token_id]
        book = self._roster.tokens
        return book.credential_of(name) if is_credential else book.named(name)

    def alert(self, alert_id: str) -> Alert | None:
        """The alert with this id, firing or over and still shown."""
        return self._alerts[alert_id] if alert_id in self._alerts else self._roster.alerts.get(alert_id)

    def silence(self, silence_id: str) -> Silence | None:
        """The silence with this id."""
        return self._silences[silence_id] if silence_id in self._silences else self._roster.alerts.silence(silence_id)

    def is_taken(self, key: bytes, incarnation: int, seq: int) -> bool:
        """Whether this batch already holds the beat with that number."""
        return (key, incarnation, seq) in self._taken

    def highest(self, key: bytes, incarnation: int) -> int:
        """The highest number of a live beat of that incarnation in this batch; -1 when there is none."""
        return self._highest.get((key, incarnation), -1)

    # Changing

    def put_node(self, event_name: str, node: Node) -> Node:
        """Make `node` the node's record, told by an event of that name; gives it as of the event's revision."""
        node = msgspec.structs.replace(node, revision=self._next_revision(), updated_at=self.now)
        self._set(self._nodes, node.id, node)
        self._set(self._names, node.name, node.id)
        self._emit(event_name, node, subject=node.name, entity_id=node.id)
        return node

    def remove_node(self, event_name: str, node: Node) -> Node:
        """Drop `node`; gives its last record, as of the event's revision."""
        node = msgspec.structs.replace(node, revision=self._next_revision(), updated_at=self.now)
        self._set(self._nodes, node.id, None)
        self._set(self._names, node.name, None)
        self._emit(event_name, node, subject=node.name, entity_id=node.id)
        return node

    def put_session(self, event_name: str, session: LinkSession) -> LinkSession:
        """Make `session` the session's record."""
        self._set(self._sessions, session.id, session)
        self._set(self._session_ids, session.session_id, session.id)
        for node_id in session.ends:
            self._sessions_at.setdefault(node_id, {})[session.id] = None
        self._emit(event_name, session, subject=self.node(session.node_id).name, entity_id=session.id)
        return session

    def put_group(self, event_name: str, group: NodeGroup) -> NodeGroup:
        """Make `group` the group's record, told by an event of that name; gives it as of the event's revision."""
        group = msgspec.structs.replace(group, revision=self._next_revision(), updated_at=self.now)
        self._set(self._groups, group.id, group)
        self._set(self._group_names, group.name, group.id)
        self._emit(event_name, group, subject=group.name, entity_id=group.id)
        return group

    def remove_group(self, event_name: str, group: NodeGroup) -> NodeGroup:
        """Drop `group`; gives its last record, as of the event's revision."""
        group = msgspec.structs.replace(group, revision=self._next_revision(), updated_at=self.now)
        self._set(self._groups, group.id, None)
        self._set(self._group_names, group.name, None)
        self._emit(event_name, group, subject=group.name, entity_id=group.id)
        return group

    def put_token(self, token: Token) -> Token:
        """Make `token` the token's record; of a credential, it takes the place of the one that its node had."""
        is_credential = token.kind is TokenKind.CREDENTIAL
        if is_credential and (before := self.credential_of(token.name)) is not None and before.id != token.id:
            self._set(self._tokens, before.id, None)
        self._set(self._tokens, token.id, token)
        is_named = is_credential or token.revoked_at is None
        self._set(self._token_names, (is_credential, token.name), token.id if is_named else None)
        return token

    def put_alert(self, event_name: str, alert: Alert) -> Alert:
        """Make `alert` the alert's record, told by an event of that name; gives it as of the event's revision."""
        alert = msgspec.structs.replace(alert, revision=self._next_revision())
        self._set(self._alerts, alert.id, alert)
        self.put_document(alert_document(alert))
        self._emit(event_name, alert, subject=alert.labels.get("node", alert.rule), entity_id=alert.id)
        return alert

    def put_silence(self, silence: Silence) -> None:
        """Make `silence` the silence's record."""
        self._set(self._silences, silence.id, silence)
        self.put_document(silence_document(silence))

    def remove_silence(self, silence: Silence) -> None:
        """Drop `silence`."""
        self._set(self._silences, silence.id, None)
        document = silence_document(silence)
        self.remove_document(document.shelf, document.key)

    def put_document(self, document: Document) -> None:
        """Keep `document`, in place of what was kept there."""
        self._set(self._documents, (document.shelf, document.key), document)

    def remove_document(self, shelf: str, key: str) -> None:
        """Keep it no longer; one that is not there is fine."""
        self._set(self._documents, (shelf, key), None)

    def note(self, action: str, *, subject: str | None, revision: Revision | None = None) -> None:
        """Say in the audit log that the operation's actor did this."""
        self.audit.append(
            AuditEntry(
                id=AuditId(self.new_id()),
                at=self.now,
                actor=str(self._actor),
                action=action,
                outcome=Outcome.DONE,
                subject=subject,
                revision=revision,
                token_id=self._actor.token_id,
                address=self._actor.address,
            )
        )

    def note_change(self, since: Savepoint) -> None:
        """Say in the audit log that the operation's actor did what has happened since: each change once of each thing,
        without those that came about by another."""
        if self._actor.kind is ActorKind.SYSTEM:
            return
        done = {
            (event.name, event.subject): event.revision
            for event in reversed(self.events[since.events :])
            if event.causation_id is None
        }
        for (name, subject), revision in reversed(done.items()):
            self.note(name, subject=subject, revision=revision)

    def add_audit(self, entry: AuditEntry) -> None:
        """Append an entry that tells of what happened elsewhere."""
        self.audit.append(entry)

    def report(self, event_name: str, report: RegistryReport, *, subject: str) -> None:
        """Tell something of the registry itself, which stands in the log alone."""
        self._emit(event_name, report, subject=subject, entity_id=report.id)

    def add_beat(self, beat: PackedBeat) -> None:
        """Append a beat to history."""
        if beat.seq is not None:
            self._set(self._taken, (beat.node_key, beat.incarnation, beat.seq), None)
            if not beat.late_ms and beat.seq > self.highest(beat.node_key, beat.incarnation):
                self._set(self._highest, (beat.node_key, beat.incarnation), beat.seq)
        self.beats.append(beat)

    def keep_answer(self, answer: KeptAnswer) -> None:
        """Keep what a caller is answered, for as long as what it was answered for is kept."""
        self.answers.append(answer)

    # The end of the batch

    def batch(
        self, batch_id: BatchId, *, presence: Sequence[PresenceRow] = (), presence_block: int | None = None
    ) -> WriteBatch:
        """What the store has to write."""
        alive = {node.id for node in self._nodes.values() if node is not None}
        removed = [node_id for node_id, node in self._nodes.items() if node is None]
        return WriteBatch(
            batch_id=batch_id,
            base=self._roster.revision,
            events=self.events,
            nodes=[node for node in self._nodes.values() if node is not None],
            removed_nodes=removed,
            sessions=[
                session
                for session in self._sessions.values()
                if session.node_id in alive or self.find(session.node_id) is not None
            ],
            groups=[group for group in self._groups.values() if group is not None],
            removed_groups=[group_id for group_id, group in self._groups.items() if group is None],
            beats=self.beats,
            presence=[row for row in presence if self.find(row.node_id) is not None],
            presence_block=presence_block,
            answers=self.answers,
            tokens=[token for token in self._tokens.values() if token is not None],
            removed_tokens=[token_id for token_id, token in self._tokens.items() if token is None],
            audit=self.audit,
            documents=[document for document in self._documents.values() if document is not None],
            removed_documents=[place for place, document in self._documents.items() if document is None],
        )

    def apply(self) -> None:
        """Bring the committed batch into the roster."""
        roster = self._roster
        for node_id, node in self._nodes.items():
            if node is None:
                roster.remove_node(node_id)
        for node in self._nodes.values():
            if node is not None:
                roster.put_node(node)
        for session in self._sessions.values():
            roster.put_session(session)
        for group_id, group in self._groups.items():
            if group is None:
                roster.remove_group(group_id)
        for group in self._groups.values():
            if group is not None:
                roster.put_group(group)
        for token_id, token in self._tokens.items():
            if token is None:
                roster.tokens.remove(token_id)
        for token in self._tokens.values():
            if token is not None:
                roster.tokens.put(token)
        for alert in self._alerts.values():
            roster.alerts.put(alert)
        for silence_id, silence in self._silences.items():
            roster.alerts.put_silence(silence_id, silence)
        for beat in self.beats:
            entry = roster.by_key(beat.node_key)
            if entry is not None:
                entry.keep(beat)
        if self.events:
            roster.revision = self.events[-1].revision

    def changed_nodes(self) -> list[NodeId]:
        """The nodes that the batch touched or whose sessions it did, the removed ones too."""
        ends = (node_id for session in self._sessions.values() for node_id in session.ends)
        return list(dict.fromkeys([*self._nodes, *ends]))

    def changed_tokens(self) -> list[TokenId]:
        """The tokens that the batch touched, the removed ones too."""
        return list(self._tokens)

    def _next_revision(self) -> Revision:
        return Revision(self._roster.revision + len(self.events) + 1)

    def _emit(self, name: str, payload: PersistentPayload, *, subject: str, entity_id: str) -> None:
        declared = TAXONOMY[name]
        if self._correlation_id is None:
            self._correlation_id = self.new_id()
        event = Event(
            id=EventId(self.new_id()),
            revision=self._next_revision(),
            name=name,
            at=self.now,
            source=self.source,
            actor=str(self._actor),
            subject=subject,
            entity_kind=declared.kind,
            entity_id=entity_id,
            correlation_id=self._correlation_id,
            causation_id=self._causation_id,
            event_version=declared.version,
            payload=payload,
            deleted=declared.deletion,
        )
        check_event(event)
        self.events.append(event)

    def _set(self, changed: dict[Any, Any], key: Any, value: Any) -> None:
        self._undo.append((changed, key, changed.get(key, _ABSENT)))
        changed[key] = value
