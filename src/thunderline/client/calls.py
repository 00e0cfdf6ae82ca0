"""Every call of the API as a value: what is sent, and what the answer is read as. Nothing here speaks to anybody.

Both clients send these, so that a call is described once. Arguments that no server would take are refused here where
sending them would mean something else: a name that would change the path, a number that JSON does not have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

import msgspec

from thunderline.client.alerts import AlertAnswer, AlertPage, SilenceAnswer, SilencesAnswer
from thunderline.client.answers import (
    CountedGroup,
    EventPage,
    EventsAnswer,
    Graph,
    GraphLevel,
    GroupAnswer,
    GroupPage,
    Health,
    HeartbeatResults,
    HeartbeatsAnswer,
    HeartbeatSeries,
    KeptHeartbeat,
    NodeAnswer,
    NodePage,
    NodeResults,
    OnlineNode,
    PresentNode,
    SessionAnswer,
    SessionPage,
)
from thunderline.client.events import read_event
from thunderline.core.alerts import Matcher, parse_matcher
from thunderline.core.errors import InvalidInput
from thunderline.core.inputs import NodeName, read_key

T = TypeVar("T")
Query = tuple[tuple[str, str], ...]

NODES_PAGE: Final = 1_000
"""Nodes asked for at a time: about 1 MB of answer, which keeps the server's loop busy for a few milliseconds."""
GROUPS_PAGE: Final = 1_000
"""Groups asked for at a time."""
ALERTS_PAGE: Final = 1_000
"""Alerts asked for at a time."""
_ID: Final = re.compile(r"[0-9a-f-]{1,64}")
_ATOMIC: Final[Query] = (("atomic", "true"),)
HEARTBEATS_MAX: Final = 10_000
"""Beats in one answer at most, the newest."""


class Call(msgspec.Struct, Generic[T], frozen=True):
    """One request; `kind` is what its answer is read as: `msgspec.Raw` is the body as it came, None's type nothing."""

    method: str
    path: str
    kind: type[T]
    query: Query = ()
    body: bytes | None = None
    headers: Query = ()


def with_conditions(call: Call[T], *, idempotency_key: str | None = None, if_match: str | None = None) -> Call[T]:
    """`call`, done once however often it is sent under that key, and only if the node has that tag.

    Raises: InvalidInput for what no header can hold.
    """
    given = (("idempotency-key", idempotency_key), ("if-match", if_match))
    for name, value in given:
        if value is not None and not (value.isascii() and value.isprintable()):
            # As a header it would be refused on the way, in words that are not ours.
            raise InvalidInput(name.replace("-", "_"), "should be printable ASCII characters")
    headers = tuple((name, value) for name, value in given if value is not None)
    return msgspec.structs.replace(call, headers=headers) if headers else call


def node_path(node_id: str) -> str:
    """The path of the node with this id or name. Raises: InvalidInput for a text that can be neither."""
    try:
        msgspec.convert(node_id, NodeName)  # an id has the form of a name, too
    except msgspec.ValidationError as error:
        # An empty one would name the list, and one with a slash another route.
        raise InvalidInput("node_id", f"{str(node_id)[:100]!r} cannot be a node's name or id") from error
    return f"/api/nodes/{quote(node_id, safe='')}"


def group_path(group: str) -> str:
    """The path of the group with this id or name. Raises: InvalidInput for a text that can be neither."""
    try:
        msgspec.convert(group, NodeName)  # names of groups have the form of nodes' names
    except msgspec.ValidationError as error:
        raise InvalidInput("group", f"{str(group)[:100]!r} cannot be a group's name or id") from error
    return f"/api/groups/{quote(group, safe='')}"


def ensure_node(attrs: Mapping[str, object]) -> Call[NodeAnswer]:
    """Register a node, or find it by its name."""
    return Call("POST", "/api/nodes", NodeAnswer, body=_body(attrs))


def ensure_nodes(items: Iterable[Mapping[str, object]], *, atomic: bool) -> Call[NodeResults]:
    """Register many nodes, or find them by their names."""
    body = _body({"nodes": [dict(item) for item in items]})
    return Call("POST", "/api/nodes/batch", NodeResults, query=_ATOMIC if atomic else (), body=body)


def heartbeats(items: Iterable[Mapping[str, object]], *, atomic: bool) -> Call[HeartbeatResults]:
    """Send many beats, each with its `node`."""
    body = _body({"heartbeats": [dict(item) for item in items]})
    return Call("POST", "/api/heartbeats", HeartbeatResults, query=_ATOMIC if atomic else (), body=body)


def get_node(node_id: str) -> Call[NodeAnswer]:
    """One node."""
    return Call("GET", node_path(node_id), NodeAnswer)


def update_node(node_id: str, patch: Mapping[str, object]) -> Call[NodeAnswer]:
    """A merge patch of a node."""
    return Call("PATCH", node_path(node_id), NodeAnswer, body=_body(patch))


def deregister(node_id: str, *, force: bool) -> Call[None]:
    """Remove a node."""
    return Call("DELETE", node_path(node_id), type(None), query=(("force", "true"),) if force else ())


def mark_online(node_id: str, session: Mapping[str, object] | None, *, instance: str | None) -> Call[OnlineNode]:
    """Announce that a node is up."""
    given = {"instance": instance, "session": None if session is None else dict(session)}
    return Call("POST", f"{node_path(node_id)}/online", OnlineNode, body=_body(_present(given)))


def mark_offline(node_id: str, reason: str | None) -> Call[NodeAnswer]:
    """Take a node down."""
    return Call("POST", f"{node_path(node_id)}/offline", NodeAnswer, body=_body(_present({"reason": reason})))


def mark_status(node_id: str, status: str, reason: str | None) -> Call[NodeAnswer]:
    """Lay an override over a node's status."""
    body = _body(_present({"status": status, "reason": reason}))
    return Call("POST", f"{node_path(node_id)}/status", NodeAnswer, body=body)


def clear_override(node_id: str) -> Call[NodeAnswer]:
    """Lift a node's override."""
    return Call("DELETE", f"{node_path(node_id)}/override", NodeAnswer)


def add_capability(node_id: str, key: str, value: str | None, *, enabled: bool) -> Call[NodeAnswer]:
    """Let a node have a capability. Raises: InvalidInput for a key that no capability may have."""
    body = _body(_present({"value": value, "enabled": enabled}))
    return Call("PUT", _capability_path(node_id, key), NodeAnswer, body=body)


def remove_capability(node_id: str, key: str) -> Call[None]:
    """Take a capability from a node. Raises: InvalidInput for a key that no capability may have."""
    return Call("DELETE", _capability_path(node_id, key), type(None))


def _capability_path(node_id: str, key: str) -> str:
    return f"{node_path(node_id)}/capabilities/{quote(read_key(key), safe='/')}"


def create_group(attrs: Mapping[str, object]) -> Call[GroupAnswer]:
    """Create a group, or find it by its name."""
    return Call("POST", "/api/groups", GroupAnswer, body=_body(attrs))


def get_group(group: str) -> Call[GroupAnswer]:
    """One group."""
    return Call("GET", group_path(group), GroupAnswer)


def update_group(group: str, patch: Mapping[str, object]) -> Call[GroupAnswer]:
    """A merge patch of a group."""
    return Call("PATCH", group_path(group), GroupAnswer, body=_body(patch))


def remove_group(group: str, *, force: bool) -> Call[None]:
    """Delete a group."""
    return Call("DELETE", group_path(group), type(None), query=(("force", "true"),) if force else ())


def add_to_group(node_id: str, group: str) -> Call[NodeAnswer]:
    """Let a node be a member of a group."""
    return Call("PUT", _member_path(node_id, group), NodeAnswer)


def remove_from_group(node_id: str, group: str) -> Call[None]:
    """Take a node out of a group."""
    return Call("DELETE", _member_path(node_id, group), type(None))


def _member_path(node_id: str, group: str) -> str:
    return f"{group_path(group)}/members/{node_path(node_id).rpartition('/')[2]}"


def list_groups(*, group_type: str | None, parent: str | None, cursor: str | None) -> Call[GroupPage[CountedGroup]]:
    """One page of the groups that match."""
    given = {"group_type": group_type, "parent": parent, "limit": str(GROUPS_PAGE), "cursor": cursor}
    return Call("GET", "/api/groups", GroupPage[CountedGroup], query=tuple(_present(given).items()))


def heartbeat(node_id: str, status: str, metrics: Mapping[str, object] | None) -> Call[KeptHeartbeat]:
    """Send one beat."""
    body = _body({**(metrics or {}), "status": status})
    return Call("POST", f"{node_path(node_id)}/heartbeats", KeptHeartbeat, body=body)


def recent_heartbeats(
    node_id: str | None, minutes: float, *, limit: int, resolution: int | None
) -> Call[HeartbeatsAnswer]:
    """The latest beats of one node, or of all."""
    path = "/api/heartbeats" if node_id is None else f"{node_path(node_id)}/heartbeats"
    query = [("minutes", str(minutes)), ("limit", str(limit))]
    if resolution is not None:
        query.append(("resolution", str(resolution)))
    return Call("GET", path, HeartbeatsAnswer, query=tuple(query))


def series(node_id: str, minutes: float, *, resolution: int | None) -> Call[HeartbeatSeries]:
    """A node's beats in buckets."""
    query = [("minutes", str(minutes))]
    if resolution is not None:
        query.append(("resolution", str(resolution)))
    return Call("GET", f"{node_path(node_id)}/series", HeartbeatSeries, query=tuple(query))


def node_filter(
    *,
    status: str | None,
    role: str | None,
    domain: str | None,
    cluster_type: str | None,
    capability: str | None,
    labels: Mapping[str, str] | None,
    group: str | None,
    name: str | None,
    sort: str,
) -> Query:
    """The query of a list's conditions and its order."""
    given = {
        "status": status,
        "role": role,
        "domain": domain,
        "cluster_type": cluster_type,
        "capability": capability,
        "group": group,
        "name": name,
        "sort": None if sort == "name" else sort,
    }
    return (
        *((key, value) for key, value in given.items() if value is not None),
        *(("label", f"{key}={value}") for key, value in (labels or {}).items()),
    )


def list_nodes(conditions: Iterable[tuple[str, str]], *, cursor: str | None) -> Call[NodePage[PresentNode]]:
    """One page of the nodes that match."""
    place = () if cursor is None else (("cursor", cursor),)
    query = (*conditions, ("limit", str(NODES_PAGE)), *place)
    return Call("GET", "/api/nodes", NodePage[PresentNode], query=query)


def establish_link_session(
    node_id: str, remote_node_id: str | None, session: Mapping[str, object] | None
) -> Call[SessionAnswer]:
    """Open a link session."""
    ends = _present({"node_id": node_id, "remote_node_id": remote_node_id})
    return Call("POST", "/api/sessions", SessionAnswer, body=_body({**(session or {}), **ends}))


def get_link_session(session_id: str) -> Call[SessionAnswer]:
    """One link session."""
    return Call("GET", _session_path(session_id), SessionAnswer)


def update_link_session(session_id: str, patch: Mapping[str, object]) -> Call[SessionAnswer]:
    """A merge patch of a link session."""
    return Call("PATCH", _session_path(session_id), SessionAnswer, body=_body(patch))


def close_link_session(session_id: str, reason: str | None) -> Call[SessionAnswer]:
    """Close a link session."""
    return update_link_session(session_id, _present({"status": "closed", "reason": reason}))


def session_filter(
    node_id: str | None, *, status: str | None, session_type: str | None, connection_type: str | None
) -> Query:
    """The query of a list's conditions."""
    given = {"node": node_id, "status": status, "session_type": session_type, "connection_type": connection_type}
    return tuple((key, value) for key, value in given.items() if value is not None)


def list_sessions(conditions: Iterable[tuple[str, str]], *, cursor: str | None) -> Call[SessionPage]:
    """One page of the open sessions that match."""
    place = () if cursor is None else (("cursor", cursor),)
    return Call("GET", "/api/sessions", SessionPage, query=(*conditions, ("limit", str(NODES_PAGE)), *place))


def _session_path(session_id: str) -> str:
    return f"/api/sessions/{quote(session_id, safe='')}"


def graph(*, include_offline: bool, domain: str | None, group: str | None, level: GraphLevel) -> Call[Graph]:
    """The topology."""
    given = {
        "include_offline": "true" if include_offline else None,
        "domain": domain,
        "group": group,
        "level": None if level == "nodes" else level,
    }
    return Call("GET", "/api/graph", Graph, query=tuple(_present(given).items()))


def events(since: str | None, *, before: str | None, pattern: str, limit: int) -> Call[EventsAnswer]:
    """One page of the log."""
    given = {"since": since, "before": before, "match": pattern, "limit": str(limit)}
    return Call("GET", "/api/events", EventsAnswer, query=tuple(_present(given).items()))


def log_end() -> Call[EventsAnswer]:
    """A page from which `page_of` tells where the log stands; one event is the least that a page can be asked for."""
    return events(None, before=None, pattern=">", limit=1)


def page_of(answer: EventsAnswer) -> EventPage:
    """The page with its events read. Raises: msgspec.DecodeError."""
    log_id = answer.next_since.rpartition(":")[0]
    found = []
    for body in answer.events:
        event = read_event(bytes(body), cursor=None)
        # A page comes from the log, in which every event has a place of its own.
        found.append(msgspec.structs.replace(event, cursor=f"{log_id}:{event.revision}"))
    return EventPage(found, answer.next_since, answer.revision, cursor=f"{log_id}:{answer.revision}")


def list_alerts(conditions: Iterable[tuple[str, str]], *, cursor: str | None) -> Call[AlertPage]:
    """One page of the alerts that match."""
    place = () if cursor is None else (("cursor", cursor),)
    return Call("GET", "/api/alerts", AlertPage, query=(*conditions, ("limit", str(ALERTS_PAGE)), *place))


def alert_filter(**conditions: str | bool | None) -> Query:
    """The query of a list's conditions."""
    return tuple(
        (name, str(value).lower() if isinstance(value, bool) else value)
        for name, value in conditions.items()
        if value is not None
    )


def get_alert(alert_id: str) -> Call[AlertAnswer]:
    """One alert."""
    return Call("GET", f"/api/alerts/{_id('alert_id', alert_id)}", AlertAnswer)


def acknowledge_alert(alert_id: str, note: str | None) -> Call[AlertAnswer]:
    """Take an alert on."""
    path = f"/api/alerts/{_id('alert_id', alert_id)}/ack"
    return Call("POST", path, AlertAnswer, body=_body(_present({"note": note})))


def silence_alerts(matchers: Iterable[str], for_s: int, reason: str | None) -> Call[SilenceAnswer]:
    """Silence what matches."""
    body = {"matchers": [_matcher(text) for text in matchers], "for_s": for_s, **_present({"reason": reason})}
    return Call("POST", "/api/alerts/silences", SilenceAnswer, body=_body(body))


def list_silences() -> Call[SilencesAnswer]:
    """All silences."""
    return Call("GET", "/api/alerts/silences", SilencesAnswer)


def unsilence_alerts(silence_id: str) -> Call[None]:
    """End a silence."""
    return Call("DELETE", f"/api/alerts/silences/{_id('silence_id', silence_id)}", type(None))


def _matcher(text: str) -> Matcher:
    if (matcher := parse_matcher(text)) is None:
        raise InvalidInput("matchers", f"{text[:100]!r} should look like zone=eu-1, or have !=, ~ or !~ for the =")
    return matcher


def _id(field: str, text: str) -> str:
    if _ID.fullmatch(text) is None:
        raise InvalidInput(field, f"{text[:100]!r} is no id")
    return text


def health() -> Call[Health]:
    """Whether the process answers."""
    return Call("GET", "/healthz", Health)


def ready() -> Call[Health]:
    """Whether changes are taken."""
    return Call("GET", "/readyz", Health)


def _present(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _body(value: Mapping[str, object]) -> bytes:
    try:
        # Not msgspec's encoder, which writes NaN and infinity as null: "unknown" to whoever reads it.
        return json.dumps(dict(value), allow_nan=False, default=_plain).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput("body", f"cannot be written as JSON: {error}") from error


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return msgspec.to_builtins(value)
