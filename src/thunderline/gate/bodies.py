"""The shapes of answers: what the API documents, and how each is written from what the roster keeps encoded."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Final

import msgspec
from litestar import Response
from litestar.response import Stream

from thunderline.core.envelope import CloudEvent, encode_event
from thunderline.core.ids import Revision
from thunderline.core.records import Event, Heartbeat, LinkSession, Node, NodeGroup, Presence
from thunderline.link.conditions import entity_tag
from thunderline.link.registry import Registry
from thunderline.link.roster import Entry

REVISION_HEADER: Final = "x-thunderline-revision"
STALE_HEADER: Final = "x-thunderline-stale-seconds"

WHOLE_MAX_BYTES: Final = 1_048_576
"""Of a body in parts: up to so much is put together, which takes less than the writes that it spares."""

_ENCODER: Final = msgspec.json.Encoder()


class PresentNode(Node, frozen=True, kw_only=True):
    """A node with its presence beside it, which is left out where `presence=false` asked for that."""

    presence: Presence | msgspec.UnsetType = msgspec.UNSET


class NodeBody(msgspec.Struct, frozen=True, kw_only=True):
    """One node; with `load`, also its open sessions and its latest heartbeats."""

    node: PresentNode
    sessions: list[LinkSession] | msgspec.UnsetType = msgspec.UNSET
    heartbeats: list[Heartbeat] | msgspec.UnsetType = msgspec.UNSET


class OnlineBody(msgspec.Struct, frozen=True, kw_only=True):
    """A node that was announced, and the session it opened."""

    node: PresentNode
    session: LinkSession | None


class NodesBody(msgspec.Struct, frozen=True, kw_only=True):
    """A page of nodes, by name; `next_cursor` null at the end."""

    nodes: list[PresentNode]
    next_cursor: str | None
    revision: int


class SessionBody(msgspec.Struct, frozen=True, kw_only=True):
    """One link session."""

    session: LinkSession


class SessionsBody(msgspec.Struct, frozen=True, kw_only=True):
    """A page of open link sessions, the oldest first; `next_cursor` null at the end."""

    sessions: list[LinkSession]
    next_cursor: str | None
    revision: int


class CountedGroup(NodeGroup, frozen=True, kw_only=True):
    """A group with the number of nodes that are themselves members of it; those of the groups below do not count."""

    members: int


class GroupBody(msgspec.Struct, frozen=True, kw_only=True):
    """One group."""

    group: CountedGroup


class GroupsBody(msgspec.Struct, frozen=True, kw_only=True):
    """A page of groups, by name; `next_cursor` null at the end."""

    groups: list[CountedGroup]
    next_cursor: str | None
    revision: int


class HeartbeatBody(msgspec.Struct, frozen=True, kw_only=True):
    """A heartbeat that is in history, and when the next one is due."""

    heartbeat: Heartbeat
    next_interval_ms: int


class HeartbeatsBody(msgspec.Struct, frozen=True, kw_only=True):
    """Heartbeats in ascending time."""

    heartbeats: list[Heartbeat]


class EventsBody(msgspec.Struct, frozen=True, kw_only=True):
    """A page of events in revision order; go on from `next_since`."""

    events: list[CloudEvent]
    next_since: str
    revision: int


class HealthBody(msgspec.Struct, frozen=True, kw_only=True):
    """That the process answers."""

    status: str
    version: str


def encode(value: object) -> bytes:
    """`value` as JSON."""
    return _ENCODER.encode(value)


def node_json(entry: Entry, registry: Registry, *, presence: bool = True) -> bytes:
    """A roster entry as the API shows it."""
    if not presence:
        return entry.encoded()
    return _beside(entry.encoded(), registry.presence_of(entry))


def changed_node_json(node: Node, registry: Registry, *, sessions: int | None = None) -> bytes:
    """A record that a change gave, as the API shows it; another change of the same commit may have removed the node.

    `sessions` are those that are open once the change is committed, where it is not yet.
    """
    entry = registry.roster.get(node.id)
    if entry is None:
        unheard = Presence(
            last_seen_at=None, last_heartbeat_at=None, last_heartbeat=None, sessions=sessions or 0, owner=registry.owner
        )
        return _beside(_ENCODER.encode(node), unheard)
    record = entry.encoded() if entry.node is node else _ENCODER.encode(node)
    presence = registry.presence_of(entry)
    if sessions is not None:
        presence = msgspec.structs.replace(presence, sessions=sessions)
    return _beside(record, presence)


def _beside(record: bytes, presence: Presence) -> bytes:
    return record[:-1] + b',"presence":' + _ENCODER.encode(presence) + b"}"


def nodes_json(
    entries: Iterable[Entry], registry: Registry, *, presence: bool, next_cursor: str | None, revision: Revision
) -> bytes:
    """A page of nodes."""
    parts = b",".join(node_json(entry, registry, presence=presence) for entry in entries)
    tail = b'],"next_cursor":' + _ENCODER.encode(next_cursor) + b',"revision":' + str(revision).encode() + b"}"
    return b'{"nodes":[' + parts + tail


def events_json(events: Iterable[Event], *, next_since: str, revision: Revision) -> bytes:
    """A page of events."""
    parts = b",".join(encode_event(event) for event in events)
    tail = b'],"next_since":' + _ENCODER.encode(next_since) + b',"revision":' + str(revision).encode() + b"}"
    return b'{"events":[' + parts + tail


def answer(
    body: bytes, registry: Registry, *, status: int = 200, tag: str | None = None, cache: str | None = None
) -> Response[bytes]:
    """A JSON answer, marked with the revision it reflects and, while the store is away, with how old it may be.

    `tag` is its entity tag; `cache` says what caches may do with it.
    """
    headers = _headers(registry, tag, cache)
    return Response(body, status_code=status, media_type="application/json", headers=headers)


def answer_in_parts(
    parts: Sequence[bytes], registry: Registry, *, tag: str | None = None, cache: str | None = None
) -> Response[bytes] | Stream:
    """As `answer`, of a body in parts. A large one is written part by part, as the client takes it: put together, it
    would hold up everybody for as long as the copy takes, and be there once for each client."""
    size_bytes = sum(map(len, parts))
    if size_bytes <= WHOLE_MAX_BYTES:
        return answer(b"".join(parts), registry, tag=tag, cache=cache)

    async def write() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    headers = {**_headers(registry, tag, cache), "content-length": str(size_bytes)}
    return Stream(write(), media_type="application/json", headers=headers)


def _headers(registry: Registry, tag: str | None, cache: str | None) -> dict[str, str]:
    headers = answer_headers(registry)
    if tag is not None:
        headers["etag"] = tag
    if cache is not None:
        headers["cache-control"] = cache
    return headers


def answer_headers(registry: Registry) -> dict[str, str]:
    """What every answer is marked with."""
    headers = {REVISION_HEADER: str(registry.roster.revision)}
    if (stale_s := registry.stale_s) is not None:
        headers[STALE_HEADER] = f"{stale_s:.1f}"
    return headers


def node_tag(registry: Registry, node: Node) -> str:
    """The entity tag of a node's record, which `If-Match` names."""
    return entity_tag(registry.roster.log_id, node.revision)


def node_answer(registry: Registry, node: Node, *, status: int = 200) -> Response[bytes]:
    """A node that was changed."""
    body = with_node(changed_node_json(node, registry), {})
    return answer(body, registry, status=status, tag=node_tag(registry, node))


def with_node(node: bytes, extra: Mapping[str, bytes]) -> bytes:
    """A body of one node and what else goes with it."""
    parts = [b'"node":' + node, *(b'"' + name.encode() + b'":' + value for name, value in extra.items())]
    return b"{" + b",".join(parts) + b"}"
