"""Records as JSON for a store, which keeps `meta` apart."""

from __future__ import annotations

import hashlib
from typing import Final, assert_never

import msgspec

from thunderline.core.alerts import Alert
from thunderline.core.records import (
    CapacityReport,
    EntityKind,
    GuardReport,
    JsonObject,
    LinkSession,
    Node,
    NodeGroup,
    PersistentPayload,
)

_ENCODER: Final = msgspec.json.Encoder()
_SORTING_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_NODE: Final = msgspec.json.Decoder(Node)
_LINK: Final = msgspec.json.Decoder(LinkSession)
_GROUP: Final = msgspec.json.Decoder(NodeGroup)
_GUARD: Final = msgspec.json.Decoder(GuardReport)
_CAPACITY: Final = msgspec.json.Decoder(CapacityReport)
_ALERT: Final = msgspec.json.Decoder(Alert)
_META: Final = msgspec.json.Decoder(JsonObject)


class SplitRecord(msgspec.Struct, frozen=True, gc=False):
    """A record as JSON without its meta, and the meta beside it; both None where the meta is empty."""

    record: str
    meta_hash: bytes | None
    meta: str | None


def split_record(record: PersistentPayload) -> SplitRecord:
    """`record` ready to be stored; equal metas have equal hashes (SHA-256 of the JSON with sorted keys)."""
    if isinstance(record, GuardReport | CapacityReport | Alert) or not record.meta:
        return SplitRecord(_ENCODER.encode(record).decode(), None, None)
    meta = _SORTING_ENCODER.encode(record.meta)
    bare = msgspec.structs.replace(record, meta={})
    return SplitRecord(_ENCODER.encode(bare).decode(), hashlib.sha256(meta).digest(), meta.decode())


def join_node(record: str, meta: str | None) -> Node:
    """The node that `split_record` took apart."""
    node = _NODE.decode(record)
    return node if meta is None else msgspec.structs.replace(node, meta=_META.decode(meta))


def join_link(record: str, meta: str | None) -> LinkSession:
    """The link session that `split_record` took apart."""
    link = _LINK.decode(record)
    return link if meta is None else msgspec.structs.replace(link, meta=_META.decode(meta))


def join_group(record: str, meta: str | None) -> NodeGroup:
    """The group that `split_record` took apart."""
    group = _GROUP.decode(record)
    return group if meta is None else msgspec.structs.replace(group, meta=_META.decode(meta))


def join_payload(kind: EntityKind, record: str, meta: str | None) -> PersistentPayload:
    """The payload of a persistent event about a `kind`."""
    match kind:
        case EntityKind.NODE:
            return join_node(record, meta)
        case EntityKind.LINK:
            return join_link(record, meta)
        case EntityKind.GROUP:
            return join_group(record, meta)
        case EntityKind.GUARD:
            return _GUARD.decode(record)
        case EntityKind.CAPACITY:
            return _CAPACITY.decode(record)
        case EntityKind.ALERT:
            return _ALERT.decode(record)
        case _:
            assert_never(kind)
