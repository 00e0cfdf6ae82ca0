"""What channels can be joined: the whole topology, or one node; what each shows first, and which events it tells."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from thunderline.core.errors import NotFound
from thunderline.core.ids import NodeId
from thunderline.core.records import EntityKind, Event, LinkSession
from thunderline.gate.bodies import encode, node_json
from thunderline.link.registry import Registry

GRAPH_TOPIC: Final = "thunderlink:graph"
NODE_TOPIC: Final = "thunderlink:node:"

_SINCE_MAX: Final = 128


class UnmatchedTopic(NotFound):
    """There is no such topic."""

    code = "unmatched topic"  # the word that clients of this protocol know

    def __init__(self) -> None:
        super().__init__(f"the topics are {GRAPH_TOPIC}, and {NODE_TOPIC} with a node's id or name behind it")


class JoinParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The payload of a join. With `since`, a cursor, what followed it is told instead of a snapshot."""

    since: Annotated[str, Meta(max_length=_SINCE_MAX)] | Annotated[int, Meta(ge=0, le=0)] | None = None
    heartbeats: bool = False
    damped: bool = False
    include_offline: bool = False


class Topic(ABC):
    """One of the topics, as a client joined it."""

    @abstractmethod
    def snapshot(self) -> list[bytes]:
        """The present as JSON, in parts."""

    @abstractmethod
    def concerns(self, event: Event) -> bool:
        """Whether `event` is told."""

    @abstractmethod
    def ends_with(self, event: Event) -> bool:
        """Whether there is nothing left to tell of behind `event`."""


class GraphTopic(Topic):
    """The whole topology."""

    def __init__(self, registry: Registry, *, include_offline: bool) -> None:
        self._registry = registry
        self._include_offline = include_offline

    def snapshot(self) -> list[bytes]:
        return self._registry.graph_parts(include_offline=self._include_offline)

    def concerns(self, event: Event) -> bool:
        return True

    def ends_with(self, event: Event) -> bool:
        return False


class NodeTopic(Topic):
    """One node and its link sessions, those that others opened to it among them."""

    def __init__(self, registry: Registry, node: str) -> None:
        """`node` is its id or name. Raises: UnknownNode."""
        self._registry = registry
        self._id: NodeId = registry.find_id(node)

    def snapshot(self) -> list[bytes]:
        node = node_json(self._registry.roster.find(self._id), self._registry)
        sessions = encode(self._registry.list_sessions(self._id))
        return [b'{"node":' + node + b',"sessions":' + sessions + b"}"]

    def concerns(self, event: Event) -> bool:
        if event.entity_kind is EntityKind.NODE:
            return event.entity_id == self._id
        session = event.payload
        return isinstance(session, LinkSession) and self._id in (session.node_id, session.remote_node_id)

    def ends_with(self, event: Event) -> bool:
        return event.deleted and event.entity_id == self._id


def find_topic(name: str, registry: Registry, wanted: JoinParameters) -> Topic:
    """The topic of that name. Raises: UnmatchedTopic, UnknownNode."""
    if name == GRAPH_TOPIC:
        return GraphTopic(registry, include_offline=wanted.include_offline)
    if name.startswith(NODE_TOPIC):
        return NodeTopic(registry, name.removeprefix(NODE_TOPIC))
    raise UnmatchedTopic
