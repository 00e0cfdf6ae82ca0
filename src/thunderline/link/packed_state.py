"""A state of the past as bytes, and back: columns, in which a value that many records have stands once.

To unpack one is mostly to make objects and touch their memory: so what is the same is one object, above all the ids of
nodes, which stand in every link, and records are made without a step of Python's for each.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Final, Generic, Self, TypeVar

import msgspec

from thunderline.core.ids import LinkId, NodeId
from thunderline.core.records import (
    ClusterType,
    JsonObject,
    NodeGroup,
    NodeStatus,
    SessionStatus,
    SessionType,
)
from thunderline.link.graph import DrawnNode, GraphLink, LinkType
from thunderline.link.group_tree import GroupFilter
from thunderline.link.past import PastState

T = TypeVar("T")
H = TypeVar("H", bound=Hashable)

PART: Final = 2_000
"""Records in one part: packing it holds the interpreter for a few milliseconds at most."""

_FORMAT: Final = 3
_LEVEL: Final = 1


class _Shared(msgspec.Struct, Generic[T], frozen=True, array_like=True):
    """A column of values that are the same in many rows: each once, and which of them each row has."""

    values: list[T]
    rows: list[int]

    def __iter__(self) -> Iterator[T]:
        return map(self.values.__getitem__, self.rows)


class _Format(msgspec.Struct, frozen=True, array_like=True):
    format: int


class _Head(msgspec.Struct, frozen=True, array_like=True):
    """The first part; parts of nodes follow, then parts of links."""

    format: int
    parts_of_nodes: int
    parts_of_links: int
    groups: list[NodeGroup]
    others: list[NodeId]
    """Ends of links that are none of the nodes; numbered after them."""


class _Nodes(msgspec.Struct, frozen=True, array_like=True):
    """Fields of `DrawnNode`."""

    id: list[NodeId]
    name: list[str]
    role: _Shared[str]
    domain: _Shared[str]
    status: list[NodeStatus]
    cluster_type: list[ClusterType]
    meta: _Shared[JsonObject]
    groups: _Shared[tuple[str, ...]]

    @classmethod
    def of(cls, nodes: list[DrawnNode]) -> Self:
        return cls(
            id=[node.id for node in nodes],
            name=[node.name for node in nodes],
            role=_shared(node.role for node in nodes),
            domain=_shared(node.domain for node in nodes),
            status=[node.status for node in nodes],
            cluster_type=[node.cluster_type for node in nodes],
            meta=_shared_metas([node.meta for node in nodes]),
            groups=_shared(node.groups for node in nodes),
        )

    def unpacked(self) -> Iterator[tuple[NodeId, DrawnNode]]:
        columns = (self.id, self.name, self.role, self.domain, self.status, self.cluster_type, self.meta, self.groups)
        return zip(self.id, map(DrawnNode, *columns), strict=True)


class _Links(msgspec.Struct, frozen=True, array_like=True):
    """Fields of `GraphLink`, the ends as numbers of nodes; with the link's id, and its controller if it has one."""

    id: list[LinkId]
    controller: _Shared[str | None]
    source: list[int]
    target: list[int]
    type: list[LinkType]
    session_id: list[str]
    session_type: list[SessionType]
    connection_type: _Shared[str]
    status: list[SessionStatus]
    value: list[float]
    latency_ms: list[float | None]
    bandwidth_mbps: list[float | None]
    established_at: list[datetime | None]

    @classmethod
    def of(cls, links: dict[LinkId, GraphLink], controllers: dict[LinkId, str], numbers: dict[NodeId, int]) -> Self:
        """`numbers` has all ends, and is given those that it lacks."""
        drawn = links.values()
        return cls(
            id=list(links),
            controller=_shared(map(controllers.get, links)),
            source=[numbers.setdefault(link.source, len(numbers)) for link in drawn],
            target=[numbers.setdefault(link.target, len(numbers)) for link in drawn],
            type=[link.type for link in drawn],
            session_id=[link.session_id for link in drawn],
            session_type=[link.session_type for link in drawn],
            connection_type=_shared(link.connection_type for link in drawn),
            status=[link.status for link in drawn],
            value=[link.value for link in drawn],
            latency_ms=[link.latency_ms for link in drawn],
            bandwidth_mbps=[link.bandwidth_mbps for link in drawn],
            established_at=[link.established_at for link in drawn],
        )

    def unpacked(self, ids: list[NodeId]) -> Iterator[tuple[LinkId, GraphLink]]:
        columns = (
            map(ids.__getitem__, self.source),
            map(ids.__getitem__, self.target),
            self.type,
            self.session_id,
            self.session_type,
            self.connection_type,
            self.status,
            self.value,
            self.latency_ms,
            self.bandwidth_mbps,
            self.established_at,
        )
        return zip(self.id, map(GraphLink, *columns), strict=True)

    def controllers(self) -> Iterator[tuple[LinkId, str]]:
        pairs = zip(self.id, self.controller, strict=True)
        return ((link_id, name) for link_id, name in pairs if name is not None)


_ENCODER: Final = msgspec.msgpack.Encoder()
_KEYS: Final = msgspec.json.Encoder()
_LOOK: Final = msgspec.msgpack.Decoder(_Format)
_HEAD: Final = msgspec.msgpack.Decoder(_Head)
_NODES: Final = msgspec.msgpack.Decoder(_Nodes)
_LINKS: Final = msgspec.msgpack.Decoder(_Links)


def pack(state: PastState) -> list[bytes]:
    """The state in parts; at least one."""
    numbers = {node_id: number for number, node_id in enumerate(state.nodes)}
    nodes = [_Nodes.of(chunk) for chunk in _chunks(state.nodes.values())]
    links = [_Links.of(dict(chunk), state.controllers, numbers) for chunk in _chunks(state.links.items())]
    groups, _ = state.groups.select(GroupFilter())
    head = _Head(_FORMAT, len(nodes), len(links), groups, list(islice(numbers, len(state.nodes), None)))
    return [zlib.compress(_ENCODER.encode(part), _LEVEL) for part in (head, *nodes, *links)]


def is_known(parts: list[bytes]) -> bool:
    """Whether it was packed as this version does."""
    return bool(parts) and _LOOK.decode(zlib.decompress(parts[0])).format == _FORMAT


def unpack(parts: list[bytes]) -> PastState | None:
    """The state that was packed; None: by another version, in a way that this one does not know, or not all of it."""
    if not is_known(parts):
        return None
    bodies = map(zlib.decompress, parts[1:])
    head = _HEAD.decode(zlib.decompress(parts[0]))
    if head.parts_of_nodes + head.parts_of_links != len(parts) - 1:
        return None
    state = PastState.empty()
    for group in head.groups:
        state.groups.put(group)
    for body in islice(bodies, head.parts_of_nodes):
        state.nodes.update(_NODES.decode(body).unpacked())
    ids = [*state.nodes, *head.others]
    for body in bodies:
        part = _LINKS.decode(body)
        state.links.update(part.unpacked(ids))
        state.controllers.update(part.controllers())
    return state


def _shared(column: Iterable[H]) -> _Shared[H]:
    numbers: dict[H, int] = {}
    rows = [numbers.setdefault(value, len(numbers)) for value in column]
    return _Shared(list(numbers), rows)


def _shared_metas(column: list[JsonObject]) -> _Shared[JsonObject]:
    keys = [_KEYS.encode(meta) for meta in column]
    shared = _shared(keys)
    metas = dict(zip(keys, column, strict=True))
    return _Shared([metas[key] for key in shared.values], shared.rows)


def _chunks(values: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(values)
    while chunk := list(islice(rest, PART)):
        yield chunk
