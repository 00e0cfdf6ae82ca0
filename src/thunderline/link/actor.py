"""Who does something, and what each kind of actor may do: one table for every face of the registry."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from thunderline.core.errors import NotPermitted
from thunderline.core.ids import NodeId


class ActorKind(StrEnum):
    """Detection (`system`), a person or a program of theirs (`operator`), or a node speaking for itself."""

    SYSTEM = "system"
    OPERATOR = "operator"
    NODE = "node"


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who is behind an action; `str(actor)` stands in the action's events. A node acts on itself alone."""

    kind: ActorKind
    name: str
    node_id: NodeId | None = None

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


class Action(StrEnum):
    """What can be done to nodes and to groups of them."""

    REGISTER = "register nodes"
    CLAIM = "take the registry's own name"
    UPDATE = "change a node's attributes"
    EQUIP = "change a node's capabilities"
    GROUP = "change groups, and who is in them"
    LINK = "change a node's link sessions"
    ANNOUNCE = "announce a node"
    MARK = "set a node's status"
    LIFT = "lift an override"
    BEAT = "send a node's heartbeats"
    DEREGISTER = "deregister a node"
    CONVICT = "declare a node silent"


_ALL: Final = frozenset(ActorKind)
_POLICY: Final[dict[Action, frozenset[ActorKind]]] = {
    Action.REGISTER: _ALL,
    Action.CLAIM: frozenset({ActorKind.SYSTEM}),
    Action.UPDATE: frozenset({ActorKind.OPERATOR, ActorKind.NODE}),
    Action.EQUIP: frozenset({ActorKind.OPERATOR, ActorKind.NODE}),
    Action.GROUP: frozenset({ActorKind.OPERATOR}),
    Action.LINK: frozenset({ActorKind.OPERATOR, ActorKind.NODE}),
    Action.ANNOUNCE: _ALL,
    Action.MARK: frozenset({ActorKind.OPERATOR, ActorKind.NODE}),
    Action.LIFT: frozenset({ActorKind.OPERATOR}),
    Action.BEAT: _ALL,
    Action.DEREGISTER: frozenset({ActorKind.OPERATOR, ActorKind.SYSTEM}),
    Action.CONVICT: frozenset({ActorKind.SYSTEM}),
}

LOCAL_OPERATOR: Final = Actor(kind=ActorKind.OPERATOR, name="local")
"""Whoever reaches the server over loopback, where no token is needed."""

EMBEDDING_PROGRAM: Final = Actor(kind=ActorKind.OPERATOR, name="embedded")
DETECTION: Final = Actor(kind=ActorKind.SYSTEM, name="liveness")


def authorise(actor: Actor, action: Action, *, node_id: NodeId | None = None) -> None:
    """Return if `actor` may do `action`, to `node_id` where it is about one. Raises: NotPermitted."""
    if actor.kind not in _POLICY[action]:
        raise NotPermitted(str(actor), action)
    if actor.kind is ActorKind.NODE and node_id is not None and actor.node_id != node_id:
        raise NotPermitted(str(actor), f"{action} other than itself")
