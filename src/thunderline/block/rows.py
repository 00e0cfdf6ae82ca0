"""Records to rows of a database and back, the same for every engine that speaks SQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from thunderline.block.rollups import MINUTE_MS
from thunderline.block.store import Document, EntityChange, KeptAnswer, PresenceRow
from thunderline.core.access import AuditEntry, Token
from thunderline.core.clock import from_ms, to_ms
from thunderline.core.codec import SplitRecord, join_payload
from thunderline.core.ids import EventId, Revision
from thunderline.core.records import OPEN_SESSION_STATUSES, EntityKind, Event, LinkSession, Node, NodeGroup

Row = tuple[Any, ...]

_ENCODER: Final = msgspec.msgpack.Encoder()
_PRESENCE: Final = msgspec.msgpack.Decoder(PresenceRow)
_JSON: Final = msgspec.json.Encoder()
_TOKEN: Final = msgspec.json.Decoder(Token)
_AUDIT: Final = msgspec.json.Decoder(AuditEntry)

BEYOND_IDS: Final = "~"
"""Sorts after every id."""


def node_row(node: Node, split: SplitRecord) -> Row:
    """A row of `nodes`."""
    return (node.id, node.name, node.revision, split.record, split.meta_hash)


def session_row(session: LinkSession, split: SplitRecord) -> Row:
    """A row of `link_sessions`."""
    is_open = session.status in OPEN_SESSION_STATUSES
    return (session.id, session.session_id, session.node_id, is_open, split.record, split.meta_hash)


def group_row(group: NodeGroup, split: SplitRecord) -> Row:
    """A row of `groups`."""
    return (group.id, group.name, group.revision, split.record, split.meta_hash)


def event_row(event: Event, split: SplitRecord, *, commit_end: Revision) -> Row:
    """A row of `events`."""
    return (
        event.revision,
        event.id,
        event.name,
        to_ms(event.at),
        event.source,
        event.actor,
        event.subject,
        event.entity_kind.value,
        event.entity_id,
        event.correlation_id,
        event.causation_id,
        event.event_version,
        event.deleted,
        split.record,
        split.meta_hash,
        commit_end,
    )


def read_event(row: Sequence[Any]) -> Event:
    """The event of a row of `read_events`."""
    values = tuple(row)
    (revision, id_, name, at_ms, source, actor, subject, kind, entity_id, correlation, causation, version) = values[:12]
    deleted, payload, meta = values[12:]
    return Event(
        id=EventId(id_),
        revision=Revision(revision),
        name=name,
        at=from_ms(at_ms),
        source=source,
        actor=actor,
        subject=subject,
        entity_kind=EntityKind(kind),
        entity_id=entity_id,
        correlation_id=correlation,
        causation_id=causation,
        event_version=version,
        payload=join_payload(EntityKind(kind), payload, meta),
        deleted=bool(deleted),
    )


def read_change(row: Sequence[Any]) -> EntityChange:
    """The change of a row of `read_changes`."""
    entity_id, kind, deleted, payload, meta = row[:5]
    return EntityChange(
        entity_id=entity_id, payload=join_payload(EntityKind(kind), payload, meta), deleted=bool(deleted)
    )


def minute_rows(events: Sequence[Event]) -> list[Row]:
    """How many events of each name came in each minute, in order: two commits then lock their rows in one order."""
    counts = Counter((to_ms(event.at) // MINUTE_MS, event.name) for event in events)
    return [(minute, name, count) for (minute, name), count in sorted(counts.items())]


def presence_row(presence: PresenceRow) -> Row:
    """A row of `presence`."""
    return (presence.node_id, _ENCODER.encode(presence))


def read_presence(row: Sequence[Any]) -> PresenceRow:
    """The presence of a row of `scan_presence`."""
    return _PRESENCE.decode(row[0])


def answer_row(kept: KeptAnswer) -> Row:
    """A row of `kept_answers`."""
    return (kept.caller, kept.key, kept.request, kept.status, kept.body, kept.kept_at_ms, kept.expires_at_ms)


def read_answer(row: Sequence[Any]) -> KeptAnswer:
    """The answer of a row of `find_answer`."""
    caller, key, request, status, body, kept_at_ms, expires_at_ms = row
    return KeptAnswer(
        caller=caller,
        key=key,
        request=request,
        status=status,
        body=body,
        kept_at_ms=kept_at_ms,
        expires_at_ms=expires_at_ms,
    )


def token_rows(tokens: Sequence[Token]) -> list[Row]:
    """Rows of `tokens`, the revoked ones first: a name that is freed and taken again is unique at every step."""
    ordered = sorted(tokens, key=lambda token: token.revoked_at is None)
    return [(token.id, token.kind.value, token.name, _revoked_at(token), _json(token)) for token in ordered]


def read_token(row: Sequence[Any]) -> Token:
    """The token of a row of `scan_tokens`."""
    return _TOKEN.decode(row[0])


def audit_row(entry: AuditEntry) -> Row:
    """A row of `audit`."""
    return (entry.id, to_ms(entry.at), _json(entry))


def read_entry(row: Sequence[Any]) -> AuditEntry:
    """The entry of a row of `read_audit`."""
    return _AUDIT.decode(row[0])


def document_row(document: Document) -> Row:
    """A row of `documents`."""
    return (document.shelf, document.key, document.body)


def read_document(row: Sequence[Any]) -> Document:
    """The document of a row of `scan_documents`."""
    shelf, key, body = row
    return Document(shelf=shelf, key=key, body=body)


def _revoked_at(token: Token) -> int | None:
    return None if token.revoked_at is None else to_ms(token.revoked_at)


def _json(record: Token | AuditEntry) -> str:
    return _JSON.encode(record).decode()
