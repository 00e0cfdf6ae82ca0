"""The one table of who may do what, written out once more: by kind and scope, and what is whose own."""

from __future__ import annotations

import pytest

from thunderline.core.access import ALL_SCOPES, Scope
from thunderline.core.errors import NotPermitted
from thunderline.core.ids import NodeId
from thunderline.link.actor import DETECTION, LOCAL_OPERATOR, NOBODY, Action, Actor, ActorKind, authorise

MINE, OTHERS = NodeId("0190a000-0000-7000-8000-000000000001"), NodeId("0190a000-0000-7000-8000-000000000002")

ACTORS = {
    "detection": DETECTION,
    "local": LOCAL_OPERATOR,
    "nobody": NOBODY,
    "reader": Actor(kind=ActorKind.READER, name="r", scopes=frozenset({Scope.READ})),
    "gateway": Actor(kind=ActorKind.NODE, name="g", scopes=frozenset({Scope.NODE}), any_node=True),
    "node": Actor(kind=ActorKind.NODE, name="w", scopes=frozenset({Scope.NODE}), node_id=MINE),
    "bare node": Actor(kind=ActorKind.NODE, name="w", node_id=MINE),
    "operator": Actor(kind=ActorKind.OPERATOR, name="o", scopes=ALL_SCOPES - {Scope.ADMIN}),
    "admin": Actor(kind=ActorKind.OPERATOR, name="a", scopes=ALL_SCOPES),
}

MAY = {
    Action.READ: {"local", "reader", "operator", "admin", "detection"},
    Action.REGISTER: {"detection", "local", "gateway", "node", "operator", "admin"},
    Action.CLAIM: {"detection"},
    Action.UPDATE: {"local", "gateway", "node", "operator", "admin"},
    Action.PLACE: {"local", "gateway", "operator", "admin"},
    Action.EQUIP: {"local", "gateway", "node", "operator", "admin"},
    Action.GROUP: {"local", "operator", "admin"},
    Action.LINK: {"local", "gateway", "node", "operator", "admin"},
    Action.ANNOUNCE: {"detection", "local", "gateway", "node", "operator", "admin"},
    Action.MARK: {"local", "gateway", "node", "operator", "admin"},
    Action.LIFT: {"local", "operator", "admin"},
    Action.BEAT: {"detection", "local", "gateway", "node", "operator", "admin"},
    Action.DEREGISTER: {"detection", "local", "operator", "admin"},
    Action.CONVICT: {"detection"},
    Action.TOKENS: {"local", "admin"},
    Action.AUDIT: {"local", "admin"},
    Action.SILENCE: {"local", "operator", "admin"},
    Action.ALERT: {"detection"},
}


def allowed(who: str, action: Action, *, node_id: NodeId | None = None, name: str | None = None) -> bool:
    try:
        authorise(ACTORS[who], action, node_id=node_id, name=name)
    except NotPermitted:
        return False
    return True


def test_every_action_has_its_line() -> None:
    assert set(MAY) == set(Action)


@pytest.mark.parametrize("action", Action, ids=lambda action: action.name)
def test_who_may(action: Action) -> None:
    assert {who for who in ACTORS if allowed(who, action, node_id=MINE)} == MAY[action]


@pytest.mark.parametrize("action", Action, ids=lambda action: action.name)
def test_a_node_acts_on_itself_alone(action: Action) -> None:
    assert not allowed("node", action, node_id=OTHERS)
    assert not allowed("node", action, name="other")
    assert allowed("gateway", action, node_id=OTHERS) is ("gateway" in MAY[action])


def test_an_actor_may_nothing_unless_it_is_said() -> None:
    bare = Actor(kind=ActorKind.OPERATOR, name="o")
    for action in Action:
        with pytest.raises(NotPermitted, match="operator:o may not"):
            authorise(bare, action)
