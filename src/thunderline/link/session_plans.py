"""What becomes of link sessions: the parts of plans that open, change and end them."""

from __future__ import annotations

import msgspec

from thunderline.core.errors import Conflict
from thunderline.core.ids import LinkId
from thunderline.core.inputs import SessionAttrs
from thunderline.core.records import LinkSession, Node, NodeStatus, SessionStatus
from thunderline.flow import taxonomy
from thunderline.link import liveness
from thunderline.link.overlay import Overlay


def follow(overlay: Overlay, node: Node) -> None:
    """Sessions follow what is observed: an override changes what shows, not whether a link is there.

    One that this process held, and whose connection is gone, does not come back with its node.
    """
    status = node.observed_status
    for session in overlay.open_sessions(node.id):
        if status is NodeStatus.OFFLINE:
            left = liveness.has_left(status, node.observed_reason)
            end(overlay, session, SessionStatus.CLOSED if left else SessionStatus.FAILED)
        elif status is NodeStatus.DISCONNECTED and session.status is not SessionStatus.DEGRADED:
            update(overlay, session, SessionStatus.DEGRADED)
        elif liveness.is_up(status) and session.status is SessionStatus.DEGRADED and overlay.is_connected(session):
            update(overlay, session, SessionStatus.ESTABLISHED)


def update(overlay: Overlay, session: LinkSession, status: SessionStatus) -> None:
    """The session in that status, still open."""
    overlay.put_session(
        taxonomy.LINK_UPDATED, msgspec.structs.replace(session, status=status, last_activity_at=overlay.now)
    )


def end(overlay: Overlay, session: LinkSession, status: SessionStatus) -> None:
    """The session `closed` or `failed`."""
    overlay.put_session(taxonomy.LINK_CLOSED, msgspec.structs.replace(session, status=status, closed_at=overlay.now))


def open_session(
    overlay: Overlay, node: Node, attrs: SessionAttrs, *, known: LinkSession | None, holder: str | None
) -> LinkSession:
    """The session open. `known` is it as the store has it, where the roster does not. Raises: Conflict."""
    session_id = attrs.session_id or overlay.new_id()
    present = overlay.session_named(session_id) or known
    if present is not None and present.node_id != node.id:
        raise Conflict(f"session.session_id: {session_id!r} belongs to another node")
    session = LinkSession(
        id=LinkId(overlay.new_id()) if present is None else present.id,
        session_id=session_id,
        node_id=node.id,
        remote_node_id=None,
        role=attrs.role,
        session_type=attrs.session_type,
        connection_type=attrs.connection_type,
        local_peer_id=attrs.local_peer_id,
        remote_peer_id=attrs.remote_peer_id,
        status=SessionStatus.ESTABLISHED,
        weight=attrs.weight,
        latency_ms=attrs.latency_ms,
        bandwidth_mbps=attrs.bandwidth_mbps,
        established_at=overlay.now,
        last_activity_at=overlay.now,
        closed_at=None,
        meta=attrs.meta,
        holder=holder,
    )
    if present is not None and present.status is SessionStatus.ESTABLISHED:
        session = msgspec.structs.replace(
            session, established_at=present.established_at, last_activity_at=present.last_activity_at
        )
        if session == present:
            return present
        return overlay.put_session(
            taxonomy.LINK_UPDATED, msgspec.structs.replace(session, last_activity_at=overlay.now)
        )
    return overlay.put_session(taxonomy.LINK_ESTABLISHED, session)
