"""Filters of nodes, of link sessions and of groups, from how people write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from thunderline.core.errors import InvalidInput
from thunderline.core.ids import NodeId
from thunderline.core.records import (
    OPEN_SESSION_STATUSES,
    ClusterType,
    GroupType,
    NodeStatus,
    SessionStatus,
    SessionType,
)
from thunderline.link.group_tree import GroupFilter
from thunderline.link.node_index import NodeFilter
from thunderline.link.open_sessions import SessionFilter

_NOT_OFFLINE: Final = frozenset(NodeStatus) - {NodeStatus.OFFLINE}


def node_filter(
    *,
    status: str | None = None,
    role: str | None = None,
    domain: str | None = None,
    cluster_type: str | None = None,
    capability: str | None = None,
    labels: Mapping[str, str] | None = None,
    group: str | None = None,
    name: str | None = None,
) -> NodeFilter:
    """A filter from its parts as people write them. Raises: InvalidInput naming the part."""
    chosen: dict[str, Any] = {
        "role": role,
        "domain": domain,
        "group": group,
        "capability": capability,
        "labels": labels,
    }
    if status is not None:
        chosen["status"] = frozenset(_member(NodeStatus, part.strip(), "status") for part in status.split(","))
    if cluster_type is not None:
        chosen["cluster_type"] = _member(ClusterType, cluster_type, "cluster_type")
    if name is not None and name.endswith("*"):
        chosen["name_prefix"] = name[:-1]
    elif name is not None:
        chosen["name"] = name
    return NodeFilter(**chosen)


def graph_filter(*, include_offline: bool = False, domain: str | None = None, group: str | None = None) -> NodeFilter:
    """The nodes of a graph: offline ones only if asked for."""
    return NodeFilter(status=None if include_offline else _NOT_OFFLINE, domain=domain, group=group)


def session_filter(
    *,
    node_id: NodeId | None = None,
    status: str | None = None,
    session_type: str | None = None,
    connection_type: str | None = None,
    between_nodes: bool | None = None,
) -> SessionFilter:
    """A filter of open sessions from its parts as people write them. Raises: InvalidInput naming the part."""
    chosen: dict[str, Any] = {
        "node_id": node_id,
        "connection_type": connection_type,
        "between_nodes": between_nodes,
    }
    if status is not None:
        wanted = frozenset(_member(SessionStatus, part.strip(), "status") for part in status.split(","))
        if not wanted <= OPEN_SESSION_STATUSES:
            names = ", ".join(sorted(OPEN_SESSION_STATUSES))
            raise InvalidInput("status", f"should be one of {names}: only open sessions are listed")
        chosen["status"] = wanted
    if session_type is not None:
        chosen["session_type"] = _member(SessionType, session_type, "session_type")
    return SessionFilter(**chosen)


def group_filter(*, group_type: str | None = None, parent: str | None = None) -> GroupFilter:
    """A filter of groups from its parts as people write them. Raises: InvalidInput naming the part."""
    kind = None if group_type is None else _member(GroupType, group_type, "group_type")
    return GroupFilter(group_type=kind, parent=parent)


def _member(kind: Any, text: str, field: str) -> Any:
    try:
        return kind(text)
    except ValueError as error:
        raise InvalidInput(field, f"should be one of {', '.join(kind)}, not {text[:40]!r}") from error
