"""What becomes of link sessions: the parts of plans that open, change and end them.

    status       | becomes      | when
    -------------|--------------|-----------------------------------------------------------------
    (new)        | establishing | opened so, by hand
    (new)        | established  | opened, by a handshake, an announcement or by hand
    establishing | established  | opened again, or changed by hand
    open         | degraded     | changed by hand; an end is disconnected
    degraded     | what it was  | no end is disconnected any more, if that was why
    open         | closed       | by hand; an end said goodbye, was restarted or deregistered, or reports it no longer
    open         | failed       | by hand; an end is offline; its connection is gone for good
    closed       | as new       | opened again under its `session_id`
    failed       | as new       | opened again under its `session_id`

Open are establishing, established and degraded. No end of an established session is disconnected, none of an open one
offline. Sessions follow what is observed: an override changes what shows, not whether a link is there.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import UNSET

from thunderline.core.errors import EndNotUp, SessionOver, SessionTaken, UnknownSession
from thunderline.core.ids import LinkId
from thunderline.core.inputs import SessionAttrs, SessionPatch
from thunderline.core.records import OPEN_SESSION_STATUSES, LinkSession, Node, NodeStatus, SessionStatus
from thunderline.flow import taxonomy
from thunderline.link import liveness
from thunderline.link.merge_patch import merged_meta
from thunderline.link.overlay import Overlay, reporting_link

REASON_OPENED: Final = "opened"
REASON_SUPERSEDED: Final = "superseded"
REASON_DEREGISTERED: Final = "deregistered"
REASON_LINK_LOST: Final = "link_lost"
REASON_NODE_LEFT: Final = "node_left"
REASON_NODE_OFFLINE: Final = "node_offline"
REASON_NODE_DISCONNECTED: Final = "node_disconnected"
REASON_NODE_RETURNED: Final = "node_returned"
REASON_REPORTED: Final = "reported"
REASON_NOT_REPORTED: Final = "not_reported"

_DOWN: Final = frozenset({NodeStatus.DISCONNECTED, NodeStatus.OFFLINE})


class Opened(msgspec.Struct, frozen=True):
    """A session that is open; `created` if nobody knew it before."""

    session: LinkSession
    created: bool


def follow(overlay: Overlay, node: Node) -> None:
    """The node's observed status changed: so do its sessions, those that others opened to it too.

    One that this process held, and whose connection is gone, does not come back with its node.
    """
    status = node.observed_status
    for session in overlay.open_sessions(node.id):
        if _is_over(overlay, session):
            continue  # it went with another one
        if status is NodeStatus.OFFLINE:
            left = liveness.has_left(status, node.observed_reason)
            final, reason = (
                (SessionStatus.CLOSED, REASON_NODE_LEFT) if left else (SessionStatus.FAILED, REASON_NODE_OFFLINE)
            )
            end(overlay, session, final, reason)
        elif status is NodeStatus.DISCONNECTED and session.status is not SessionStatus.DEGRADED:
            _put(overlay, session, status=SessionStatus.DEGRADED, status_reason=REASON_NODE_DISCONNECTED)
        elif liveness.is_up(status) and _can_return(overlay, session):
            was = SessionStatus.ESTABLISHING if session.established_at is None else SessionStatus.ESTABLISHED
            _put(overlay, session, status=was, status_reason=REASON_NODE_RETURNED)


def _can_return(overlay: Overlay, session: LinkSession) -> bool:
    return (
        session.status is SessionStatus.DEGRADED
        and session.status_reason in (REASON_NODE_DISCONNECTED, "")
        and overlay.is_connected(session)
        and _end_down(overlay, session) is None
    )


def end(overlay: Overlay, session: LinkSession, status: SessionStatus, reason: str) -> LinkSession:
    """The session `closed` or `failed`, and what its node reported over it with it; one that is over stays so."""
    if _is_over(overlay, session):
        return session
    ended = msgspec.structs.replace(session, status=status, status_reason=reason, closed_at=overlay.now)
    overlay.put_session(taxonomy.LINK_CLOSED, ended)
    if session.remote_node_id is None:
        with overlay.consequences(overlay.events[-1]):
            for other in overlay.open_sessions(session.node_id):
                if reporting_link(other) == session.session_id:
                    end(overlay, other, status, reason)
    return ended


def _is_over(overlay: Overlay, session: LinkSession) -> bool:
    present = overlay.session_named(session.session_id)
    return present is not None and present.status not in OPEN_SESSION_STATUSES


def find(overlay: Overlay, session_id: str, known: LinkSession | None) -> LinkSession:
    """The session as the batch leaves it so far; `known` is it as the store has it, where the roster does not.

    Raises: UnknownSession.
    """
    session = overlay.session_named(session_id) or known
    # Sessions go with the node that opened them.
    if session is None or overlay.find(session.node_id) is None:
        raise UnknownSession(session_id)
    return session


def change(overlay: Overlay, session: LinkSession, patch: SessionPatch, *, by: str) -> LinkSession:
    """The session with a merge patch applied; one that changes nothing makes no event.

    Raises: SessionOver; EndNotUp when it is to be established and an end is not there; InvalidInput.
    """
    wanted = session.status if patch.status is UNSET else SessionStatus(patch.status)
    if session.status not in OPEN_SESSION_STATUSES:
        if wanted is session.status and patch == SessionPatch(status=patch.status, reason=patch.reason):
            return session
        raise SessionOver(session.session_id, status=session.status)
    if wanted is SessionStatus.ESTABLISHED and (down := _end_down(overlay, session)) is not None:
        raise EndNotUp(down.name, status=down.observed_status)
    changes: dict[str, Any] = {}
    for field in ("role", "connection_type", "local_peer_id", "remote_peer_id", "weight", "latency_ms"):
        if (value := getattr(patch, field)) is not UNSET:
            changes[field] = _DEFAULTS.get(field) if value is None else value
    if patch.bandwidth_mbps is not UNSET:
        changes["bandwidth_mbps"] = patch.bandwidth_mbps
    if patch.meta is not UNSET:
        changes["meta"] = merged_meta(session.meta, patch.meta)
    if wanted is not session.status or patch.reason is not UNSET:
        changes["status_reason"] = patch.reason or f"{wanted} by {by}"
    if wanted not in OPEN_SESSION_STATUSES:
        session = msgspec.structs.replace(session, **changes)
        return end(overlay, session, wanted, session.status_reason)
    return _put(overlay, session, status=wanted, **changes)


_DEFAULTS: Final[dict[str, Any]] = {
    field.name: field.default
    for field in msgspec.structs.fields(SessionAttrs)
    if field.name in ("role", "connection_type", "weight")
}


def open_session(
    overlay: Overlay,
    node: Node,
    attrs: SessionAttrs,
    *,
    remote: Node | None = None,
    status: SessionStatus = SessionStatus.ESTABLISHED,
    reason: str = REASON_OPENED,
    known: LinkSession | None = None,
    holder: str | None = None,
) -> Opened:
    """The session open, in `status`. `known` is it as the store has it, where the roster does not.

    Both ends may name one session: reported from the other one, it is the same. Raises: SessionTaken, EndNotUp.
    """
    for one in (node, remote):
        if one is not None and one.observed_status in _DOWN:
            raise EndNotUp(one.name, status=one.observed_status)
    session_id = attrs.session_id or overlay.new_id()
    present = overlay.session_named(session_id) or known
    if present is not None and overlay.find(present.node_id) is None:
        present = None  # it went with its node, in this very batch
    peers = (attrs.local_peer_id, attrs.remote_peer_id)
    ends = (node.id, None if remote is None else remote.id)
    if present is not None and (present.node_id, present.remote_node_id) != ends:
        if present.remote_node_id is not None and (present.remote_node_id, present.node_id) == ends:
            ends, peers = (ends[1] or ends[0], ends[0]), (peers[1], peers[0])
        elif not _is_orphan(overlay, present, ends[0]):
            raise SessionTaken(session_id)
    goes_on = present is not None and present.status in OPEN_SESSION_STATUSES
    since = present.established_at if present is not None and goes_on else None
    if holder is None and overlay.holds(session_id):
        # Named by hand while its connection stands: that is still what it lives by.
        holder = overlay.source
    elif holder is None and present is not None and goes_on:
        holder = present.holder
    session = LinkSession(
        id=LinkId(overlay.new_id()) if present is None else present.id,
        session_id=session_id,
        node_id=ends[0],
        remote_node_id=ends[1],
        role=attrs.role,
        session_type=attrs.session_type,
        connection_type=attrs.connection_type,
        local_peer_id=peers[0],
        remote_peer_id=peers[1],
        status=status,
        weight=attrs.weight,
        latency_ms=attrs.latency_ms,
        bandwidth_mbps=attrs.bandwidth_mbps,
        established_at=since,
        last_activity_at=overlay.now,
        closed_at=None,
        meta=attrs.meta,
        status_reason=reason,
        controller=overlay.source if remote is None else None,
        holder=holder,
    )
    if present is not None and goes_on:
        unchanged = msgspec.structs.replace(
            session,
            last_activity_at=present.last_activity_at,
            status_reason=present.status_reason if status is present.status else reason,
        )
        return Opened(present if unchanged == present else _settle(overlay, session), created=False)
    return Opened(_settle(overlay, session), created=present is None)


def _is_orphan(overlay: Overlay, session: LinkSession, node_id: str) -> bool:
    """Whether the session is over and its other end is gone, so that it may link its node to another one."""
    return (
        session.status not in OPEN_SESSION_STATUSES
        and session.node_id == node_id
        and session.remote_node_id is not None
        and overlay.find(session.remote_node_id) is None
    )


def _end_down(overlay: Overlay, session: LinkSession) -> Node | None:
    for node_id in session.ends:
        node = overlay.find(node_id)
        if node is not None and node.observed_status in _DOWN:
            return node
    return None


def _put(overlay: Overlay, session: LinkSession, **changes: Any) -> LinkSession:
    """The session with these changes, still open; itself if nothing differs."""
    changed = msgspec.structs.replace(session, **changes)
    if changed == session:
        return session
    return _settle(overlay, msgspec.structs.replace(changed, last_activity_at=overlay.now))


def _settle(overlay: Overlay, session: LinkSession) -> LinkSession:
    """Tell the session: as established when it is so for the first time since it was opened, else as updated."""
    if session.status is SessionStatus.ESTABLISHED and session.established_at is None:
        session = msgspec.structs.replace(session, established_at=overlay.now)
        return overlay.put_session(taxonomy.LINK_ESTABLISHED, session)
    return overlay.put_session(taxonomy.LINK_UPDATED, session)
