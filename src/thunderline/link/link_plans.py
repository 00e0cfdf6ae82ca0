"""What becomes of a node as its links come and go: plans, like those of `plans`."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from thunderline.core.inputs import NodeAttrs, OnlineInput, SessionAttrs
from thunderline.core.records import OPEN_SESSION_STATUSES, LinkSession, Node, NodeStatus, SessionStatus
from thunderline.link import plans, session_plans
from thunderline.link.liveness import Signal, is_up, observe
from thunderline.link.overlay import Overlay

CONNECTION_TYPE = "websocket"


class Opened(msgspec.Struct, frozen=True):
    """A node that is up over a new link; `before` is the instance that spoke for it until now."""

    node: Node
    session: LinkSession
    before: str | None


def open_link(
    overlay: Overlay,
    attrs: NodeAttrs,
    *,
    instance: str,
    session_id: str,
    holder: str,
    admit: Callable[[Node, str], None],
    default_interval_ms: int,
) -> Opened:
    """The node registered, up and linked; sessions whose connection is gone are closed.

    `admit` refuses a process that may not speak for a known node. Raises: what it raises, Mismatch, InvalidInput.
    """
    ensured = plans.register(overlay, attrs, default_interval_ms)
    node = ensured.node
    registered = overlay.events[-1] if ensured.created else None
    admit(node, instance)
    for session in overlay.open_sessions(node.id):
        if session.holder == holder and not overlay.is_connected(session):
            session_plans.end(overlay, session, SessionStatus.CLOSED, session_plans.REASON_LINK_LOST)
    wanted = SessionAttrs(session_id=session_id, role=node.role, connection_type=CONNECTION_TYPE)
    with overlay.consequences(registered):
        announced = plans.announce(
            overlay,
            node.id,
            OnlineInput(instance=instance, session=wanted),
            holder=holder,
            interval_ms=attrs.heartbeat_interval_ms,
        )
    assert announced.session is not None
    return Opened(announced.node, announced.session, node.instance)


def lose_link(overlay: Overlay, session_id: str, *, is_alive: bool) -> None:
    """The end of the grace of a link that broke: its session failed where the node is alive without it (`is_alive`).

    Else the node is disconnected, and the session with it degraded.
    """
    found = _open_with_node(overlay, session_id)
    if found is None:
        return
    session, node = found
    if not is_up(node.observed_status):
        return
    if is_alive:
        session_plans.end(overlay, session, SessionStatus.FAILED, session_plans.REASON_LINK_LOST)
    else:
        plans.set_observed(overlay, node, observe(node.observed_status, node.observed_reason, Signal.LINK_LOST))


def leave(overlay: Overlay, session_id: str, *, reason: str | None, is_last: bool) -> None:
    """The node's goodbye over a link: the link's session closed, and with its last one the node gone."""
    found = _open_with_node(overlay, session_id)
    if found is None:
        return
    session, node = found
    if is_last:
        plans.set_observed(overlay, node, plans.stated(NodeStatus.OFFLINE, reason))
    else:
        session_plans.end(overlay, session, SessionStatus.CLOSED, session_plans.REASON_NODE_LEFT)


def reap(overlay: Overlay, session_id: str) -> None:
    """A session without a connection failed, though its node is up."""
    found = _open_with_node(overlay, session_id)
    if found is not None and not overlay.is_connected(found[0]) and is_up(found[1].observed_status):
        session_plans.end(overlay, found[0], SessionStatus.FAILED, session_plans.REASON_LINK_LOST)


def _open_with_node(overlay: Overlay, session_id: str) -> tuple[LinkSession, Node] | None:
    session = overlay.session_named(session_id)
    if session is None or session.status not in OPEN_SESSION_STATUSES:
        return None
    node = overlay.find(session.node_id)
    return None if node is None else (session, node)
