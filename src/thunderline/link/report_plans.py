"""What becomes of sessions between nodes that a node reports over its link: a plan, like those of `link_plans`.

A report names all that the node sees. What it named over the same link before and names no more is closed; what others
reported, or was opened by hand, is left as it is. A session whose far end is not known, or not up, is passed over: the
next report may find it there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from thunderline.core.errors import EndNotUp, SessionTaken
from thunderline.core.ids import NodeId
from thunderline.core.inputs import InputProblem, SessionAttrs, SessionPatch
from thunderline.core.records import OPEN_SESSION_STATUSES, LinkSession, Node, SessionStatus, SessionType
from thunderline.link import session_plans
from thunderline.link.overlay import Overlay, reported_over, reporting_link

WORTH_TELLING: Final = 0.25
"""Part of a figure by which it has to change to be written: each change is an event that is kept."""


class SeenSession(Protocol):
    """A session as the node that reports it sees it."""

    @property
    def session_id(self) -> str: ...
    @property
    def remote(self) -> str: ...
    @property
    def session_type(self) -> SessionType: ...
    @property
    def connection_type(self) -> str: ...
    @property
    def status(self) -> SessionStatus: ...
    @property
    def weight(self) -> float: ...
    @property
    def latency_ms(self) -> float | None: ...
    @property
    def bandwidth_mbps(self) -> float | None: ...


def report(
    overlay: Overlay, node_id: NodeId, link_id: str, seen: Sequence[SeenSession], known: Mapping[str, LinkSession]
) -> None:
    """The node's sessions as it sees them over its link. `known` are those of the store that are not open.

    Nothing happens when that link is over meanwhile.
    """
    link = overlay.session_named(link_id)
    node = overlay.find(node_id)
    if node is None or link is None or link.status not in OPEN_SESSION_STATUSES or link.node_id != node_id:
        return
    named = {one.session_id: one for one in seen if one.status in OPEN_SESSION_STATUSES}
    for session in overlay.open_sessions(node_id):
        if reporting_link(session) == link_id and session.session_id not in named:
            session_plans.end(overlay, session, SessionStatus.CLOSED, session_plans.REASON_NOT_REPORTED)
    for one in named.values():
        remote = overlay.named(one.remote)
        if remote is None or remote.id == node_id:
            continue
        try:
            _see(overlay, node, remote, one, link_id, known.get(one.session_id))
        except (EndNotUp, SessionTaken, InputProblem):
            continue


def _see(overlay: Overlay, node: Node, remote: Node, one: SeenSession, link_id: str, known: LinkSession | None) -> None:
    present = overlay.session_named(one.session_id)
    if present is not None and present.status in OPEN_SESSION_STATUSES:
        if reporting_link(present) == link_id and set(present.ends) == {node.id, remote.id}:
            session_plans.change(overlay, present, _patch(present, one), by=f"node {node.name}")
        return
    attrs = SessionAttrs(
        session_id=one.session_id,
        role=node.role,
        session_type=one.session_type,
        connection_type=one.connection_type,
        weight=one.weight,
        latency_ms=one.latency_ms,
        bandwidth_mbps=one.bandwidth_mbps,
    )
    session_plans.open_session(
        overlay,
        node,
        attrs,
        remote=remote,
        status=one.status,
        reason=session_plans.REASON_REPORTED,
        known=known,
        holder=reported_over(link_id),
    )


def _patch(present: LinkSession, one: SeenSession) -> SessionPatch:
    """What of the report differs from what is known by enough."""
    changes: dict[str, object] = {}
    if one.status is not present.status:
        changes |= {"status": one.status.value, "reason": session_plans.REASON_REPORTED}
    if one.connection_type != present.connection_type:
        changes["connection_type"] = one.connection_type
    if one.weight != present.weight:
        changes["weight"] = one.weight
    for field in ("latency_ms", "bandwidth_mbps"):
        if _differs(getattr(one, field), getattr(present, field)):
            changes[field] = getattr(one, field)
    return SessionPatch(**changes)  # type: ignore[arg-type]  # fields of the patch, each of its own type


def _differs(new: float | None, old: float | None) -> bool:
    if new is None or old is None:
        return new is not old
    return abs(new - old) > WORTH_TELLING * max(abs(old), abs(new))
