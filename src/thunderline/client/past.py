"""What the API answers about the past: what differs between two moments, and what became of a node."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, Generic, TypeAlias, TypeVar

import msgspec

from thunderline.client.answers import Graph, GraphLevel, GraphLink, GraphNode
from thunderline.client.calls import Call, Query, graph, node_path
from thunderline.core.errors import InvalidInput
from thunderline.core.records import NodeStatus

T = TypeVar("T")

Moment: TypeAlias = datetime | int | str
"""A time with its offset from UTC, a revision, or either as text, or a cursor."""

SPANS_DEFAULT: Final = 1_000
BINS_DEFAULT: Final = 120


class Changed(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One that is in both graphs, and not the same; `fields` are those that differ."""

    before: T
    after: T
    fields: list[str]


class Differences(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What is only in the later graph, only in the earlier one, and in both but changed."""

    added: list[T]
    removed: list[T]
    changed: list[Changed[T]]


class GraphDiff(msgspec.Struct, frozen=True, kw_only=True, rename={"since": "from", "until": "to"}):
    """What differs between the graphs at two revisions; `cursor` is behind the later one."""

    since: int
    until: int
    cursor: str
    nodes: Differences[GraphNode]
    links: Differences[GraphLink]


class StatusSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which a node's status and its reason stayed the same; `until` None while it lasts.

    `event` and what follows is of the event that began it, None where the log no longer has that.
    """

    status: NodeStatus
    reason: str
    observed_status: NodeStatus
    override: NodeStatus | None
    since: datetime
    until: datetime | None
    event: str | None = None
    event_id: str | None = None
    cursor: str | None = None
    actor: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None


class Uptime(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of a window by status; `ratio` is the part of the registered time in which the node was up."""

    seconds: dict[NodeStatus, float]
    unregistered_s: float
    ratio: float | None


class StatusHistory(msgspec.Struct, frozen=True, kw_only=True, rename={"since": "from", "until": "to"}):
    """A node's status over a window, oldest first. `earlier` not None: there is more, up to then."""

    node_id: str
    name: str
    since: datetime
    until: datetime
    spans: list[StatusSpan]
    earlier: datetime | None
    uptime: Uptime


class Timeline(msgspec.Struct, frozen=True, kw_only=True, rename={"since": "from", "until": "to"}):
    """Events in columns: one item for each bin of `bin_s` seconds, which begins `at`.

    `counts` has a column for each kind, `events` their sum; `oldest` is how far back the past can be asked for.
    """

    since: datetime
    until: datetime
    bin_s: int
    at: list[datetime]
    events: list[int]
    counts: dict[str, list[int]]
    oldest: datetime | None
    newest: datetime | None
    cursor: str


def graph_at(
    at: Moment, *, include_offline: bool, domain: str | None, group: str | None, level: GraphLevel
) -> Call[Graph]:
    """The topology as it stood."""
    call = graph(include_offline=include_offline, domain=domain, group=group, level=level)
    return msgspec.structs.replace(call, query=(("at", written(at, field="at")), *call.query))


def graph_diff(
    since: Moment,
    until: Moment,
    *,
    include_offline: bool,
    domain: str | None,
    group: str | None,
    level: GraphLevel,
) -> Call[GraphDiff]:
    """What differs between two moments."""
    chosen = graph(include_offline=include_offline, domain=domain, group=group, level=level).query
    window = (("from", written(since, field="since")), ("to", written(until, field="until")))
    return Call("GET", "/api/graph/diff", GraphDiff, query=(*window, *chosen))


def timeline(since: Moment | None, until: Moment | None, *, bins: int) -> Call[Timeline]:
    """How many events there were when."""
    return Call("GET", "/api/timeline", Timeline, query=(*_window(since, until), ("bins", str(bins))))


def status_history(node_id: str, since: Moment | None, until: Moment | None, *, limit: int) -> Call[StatusHistory]:
    """A node's status over time."""
    asked: Query = (*_window(since, until), ("limit", str(limit)))
    return Call("GET", f"{node_path(node_id)}/history", StatusHistory, query=asked)


def _window(since: Moment | None, until: Moment | None) -> Query:
    ends = (("from", "since", since), ("to", "until", until))
    return tuple((name, written(at, field=field)) for name, field, at in ends if at is not None)


def written(at: Moment, *, field: str) -> str:
    """A moment as a query has it. Raises: InvalidInput for a time without its offset."""
    if not isinstance(at, datetime):
        return str(at)
    if at.tzinfo is None:
        raise InvalidInput(field, "should say its offset from UTC: a datetime with a timezone")
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
