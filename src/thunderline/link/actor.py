"""Who does something, and what each kind of actor may do: one table for every face of the registry."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from thunderline.core.access import ALL_SCOPES, Scope
from thunderline.core.errors import NotPermitted
from thunderline.core.ids import NodeId, TokenId


class ActorKind(StrEnum):
    """Detection (`system`), a person or a program of theirs (`operator`), a reader, or a node speaking for itself."""

    SYSTEM = "system"
    OPERATOR = "operator"
    READER = "reader"
    NODE = "node"


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """Who is behind an action; `str(actor)` stands in the action's events. By default it may nothing at all.

    A node acts on itself alone: on the node `node_id`, and on the name `name` before that is a node. What speaks for
    others (`any_node`) is a gateway.
    """

    kind: ActorKind
    name: str
    scopes: frozenset[Scope] = frozenset()
    node_id: NodeId | None = None
    any_node: bool = False
    token_id: TokenId | None = None
    """The token by which it is known; it is looked at again when the action's turn comes."""
    address: str | None = None
    """Where it speaks from, for the audit log."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"

    @property
    def caller(self) -> str:
        """Tells this caller from all others, also from one of the same name."""
        return str(self) if self.token_id is None else f"token:{self.token_id}"


class Action(StrEnum):
    """What can be done to nodes and to groups of them, and with tokens."""

    READ = "read the cluster"
    REGISTER = "register nodes"
    CLAIM = "take the registry's own name"
    UPDATE = "change a node's attributes"
    PLACE = "change a node's role or domain"
    EQUIP = "change a node's capabilities"
    GROUP = "change groups, and who is in them"
    LINK = "change a node's link sessions"
    ANNOUNCE = "announce a node"
    MARK = "set a node's status"
    LIFT = "lift an override"
    BEAT = "send a node's heartbeats"
    DEREGISTER = "deregister a node"
    CONVICT = "declare a node silent"
    TOKENS = "manage tokens"
    AUDIT = "read the audit log"
    SILENCE = "silence or acknowledge alerts"
    ALERT = "raise alerts"


class Need(msgspec.Struct, frozen=True):
    """Who may do an action: actors of these kinds, with that scope. Detection needs none."""

    kinds: frozenset[ActorKind]
    scope: Scope


_SYSTEM: Final = frozenset({ActorKind.SYSTEM})
_PEOPLE: Final = frozenset({ActorKind.OPERATOR})
_PEOPLE_AND_NODES: Final = frozenset({ActorKind.OPERATOR, ActorKind.NODE})
_ALL: Final = frozenset({ActorKind.SYSTEM, ActorKind.OPERATOR, ActorKind.NODE})
_POLICY: Final[dict[Action, Need]] = {
    Action.READ: Need(frozenset(ActorKind), Scope.READ),
    Action.REGISTER: Need(_ALL, Scope.NODE),
    Action.CLAIM: Need(_SYSTEM, Scope.ADMIN),
    Action.UPDATE: Need(_PEOPLE_AND_NODES, Scope.NODE),
    Action.PLACE: Need(_PEOPLE_AND_NODES, Scope.NODE),
    Action.EQUIP: Need(_PEOPLE_AND_NODES, Scope.NODE),
    Action.GROUP: Need(_PEOPLE, Scope.OPERATOR),
    Action.LINK: Need(_PEOPLE_AND_NODES, Scope.NODE),
    Action.ANNOUNCE: Need(_ALL, Scope.NODE),
    Action.MARK: Need(_PEOPLE_AND_NODES, Scope.NODE),
    Action.LIFT: Need(_PEOPLE, Scope.OPERATOR),
    Action.BEAT: Need(_ALL, Scope.NODE),
    Action.DEREGISTER: Need(frozenset({ActorKind.OPERATOR, ActorKind.SYSTEM}), Scope.OPERATOR),
    Action.CONVICT: Need(_SYSTEM, Scope.ADMIN),
    Action.TOKENS: Need(_PEOPLE, Scope.ADMIN),
    Action.AUDIT: Need(_PEOPLE, Scope.ADMIN),
    Action.SILENCE: Need(_PEOPLE, Scope.OPERATOR),
    Action.ALERT: Need(_SYSTEM, Scope.ADMIN),
}
_OWN_HANDS_OFF: Final = frozenset({Action.PLACE})
"""What a node may not change even of itself: by these, others tell what it is."""

NODE_SCOPES: Final = frozenset({Scope.NODE})
"""Of a node that speaks for itself."""

LOCAL_OPERATOR: Final = Actor(kind=ActorKind.OPERATOR, name="local", scopes=ALL_SCOPES)
"""Whoever reaches a server over loopback that asks for no token, or over its socket beside the store."""

EMBEDDING_PROGRAM: Final = Actor(kind=ActorKind.OPERATOR, name="embedded", scopes=ALL_SCOPES)
DETECTION: Final = Actor(kind=ActorKind.SYSTEM, name="liveness")
ALERTING: Final = Actor(kind=ActorKind.SYSTEM, name="alerts")
NOBODY: Final = Actor(kind=ActorKind.READER, name="anonymous")
"""Who shows no token where one is needed."""


def authorise(actor: Actor, action: Action, *, node_id: NodeId | None = None, name: str | None = None) -> None:
    """Return if `actor` may do `action`, to the node `node_id` or to what is to be called `name` where it is about one.

    Raises: NotPermitted.
    """
    need = _POLICY[action]
    kind = actor.kind
    if kind not in need.kinds or (need.scope not in actor.scopes and kind is not ActorKind.SYSTEM):
        raise NotPermitted(str(actor), action)
    if kind is ActorKind.NODE and not actor.any_node:
        if (node_id is not None and actor.node_id != node_id) or (name is not None and actor.name != name):
            raise NotPermitted(str(actor), f"{action} other than itself")
        if action in _OWN_HANDS_OFF:
            raise NotPermitted(str(actor), action)
