"""What a node's status was, when, why, and brought about by whom; and for how long it was up."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec

from thunderline.block.store import Store
from thunderline.core.clock import Clock, to_ms
from thunderline.core.errors import CursorGone, InvalidInput, UnknownNode
from thunderline.core.ids import NodeId, Revision, is_uuid
from thunderline.core.records import Event, Node, NodeStatus
from thunderline.link.event_log import EventLog
from thunderline.link.moments import Moment, Moments
from thunderline.link.roster import Roster

WINDOW_S: Final = 86_400.0
"""How far back one looks who does not say."""
SPANS_MAX: Final = 10_000
SPANS_DEFAULT: Final = 1_000
_PAGE: Final = 500
_UP: Final = (NodeStatus.ONLINE, NodeStatus.DEGRADED)


class StatusSpan(msgspec.Struct, frozen=True, kw_only=True):
    """A time in which a node's status and its reason stayed the same.

    `since` may lie before the window; `until` is null while it lasts. What begins with `event` is of the event that
    began it, and null where the log no longer has that: its name, the cursor behind it, who did it, and the event that
    brought it about.
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
    """Seconds of a window by status. `ratio` is the part of the registered time in which the node was online or
    degraded; null when it was not registered at all."""

    seconds: dict[NodeStatus, float]
    unregistered_s: float
    ratio: float | None


class StatusHistory(msgspec.Struct, frozen=True, kw_only=True, rename={"since": "from", "until": "to"}):
    """A node's status over a window, oldest first. `earlier` not null: there is more, up to then."""

    node_id: NodeId
    name: str
    since: datetime
    until: datetime
    spans: list[StatusSpan]
    earlier: datetime | None
    uptime: Uptime


class StatusHistories:
    """Status histories of one registry's nodes."""

    def __init__(self, store: Store, roster: Roster, log: EventLog, moments: Moments, *, clock: Clock) -> None:
        self._store = store
        self._roster = roster
        self._log = log
        self._moments = moments
        self._clock = clock

    async def of(self, ref: str, since: Moment | None, until: Moment | None, *, limit: int) -> StatusHistory:
        """The newest `limit` spans between two moments, and the uptime of all the time between them.

        Raises: UnknownNode, InvalidInput naming `from`, `to` or `limit`, CursorGone.
        """
        if not 1 <= limit <= SPANS_MAX:
            raise InvalidInput("limit", f"should be from 1 to {SPANS_MAX:,}")
        end_at, end = await self._end(until)
        begin_at, begin = await self._begin(since, end_at)
        if begin_at > end_at:
            raise InvalidInput("from", "should not be later than to")
        node_id = await self._find(ref)
        spans = _Spans(node_id, begin_at, end_at, self._log)
        before = await self._store.read_entity_at(node_id, begin)
        if before is not None:
            spans.begin(before, await self._beginning(before))
        after = begin
        while page := await self._store.read_entity(node_id, after=after, until=end, limit=_PAGE):
            for event in page:
                spans.take(event)
            after = page[-1].revision
        if begin < self._log.oldest:
            # It began later while this was read: something may be missing.
            raise CursorGone(str(begin), why=f"the log begins after {self._log.oldest} by now", field="from")
        return spans.told(limit)

    async def _end(self, until: Moment | None) -> tuple[datetime, Revision]:
        now = self._clock.now()
        if until is None:
            return now, self._log.revision
        at, revision = await self._moments.both(until, field="to")
        return min(at, now), revision

    async def _begin(self, since: Moment | None, end_at: datetime) -> tuple[datetime, Revision]:
        if since is not None:
            return await self._moments.both(since, field="from")
        at = end_at - timedelta(seconds=WINDOW_S)
        revision = await self._store.revision_at(to_ms(at))
        if revision >= self._log.oldest:
            return at, revision
        # Who asked for nothing in particular is given what there is.
        oldest_at, oldest = await self._moments.both(self._log.oldest, field="from")
        return min(oldest_at, end_at), oldest

    async def _find(self, ref: str) -> NodeId:
        """The id of a node, also of a deregistered one where `ref` is its id."""
        try:
            return self._roster.find(ref).node.id
        except UnknownNode:
            node_id = NodeId(ref.lower())
            if is_uuid(ref):
                event = await self._store.read_entity_at(node_id, self._log.revision)
                if event is not None and isinstance(event.payload, Node):
                    return node_id
            raise

    async def _beginning(self, event: Event) -> Event | None:
        """The event that began the status which stood after `event`; None when the log no longer has it."""
        node = _node(event)
        if event.at == node.status_since:
            return event
        revision = await self._store.revision_at(to_ms(node.status_since))
        found = await self._store.read_entity_at(node.id, revision)
        return found if found is not None and _key(_node(found)) == _key(node) else None


class _Spans:
    """Spans as they are put together from a node's events, oldest first."""

    def __init__(self, node_id: NodeId, begin_at: datetime, end_at: datetime, log: EventLog) -> None:
        self._node_id = node_id
        self._name = ""
        self._begin_at = begin_at
        self._end_at = end_at
        self._log = log
        self._spans: list[StatusSpan] = []
        self._open: StatusSpan | None = None
        self._seconds = dict.fromkeys(NodeStatus, 0.0)

    def begin(self, event: Event, beginning: Event | None) -> None:
        """The newest event at the window's begin, and the one that brought about what it says of the status."""
        node = _node(event)
        self._name = node.name
        if not event.deleted:
            self._open = self._span(node, node.status_since if beginning is None else beginning.at, beginning)

    def take(self, event: Event) -> None:
        """The next event within the window."""
        node = _node(event)
        self._name = node.name
        span = self._open
        if span is not None and not event.deleted and _key(node) == _key_of(span):
            return
        # Where the wall clock went back, what came later did not end before it began.
        at = event.at if span is None else max(event.at, span.since)
        self._close(at)
        if not event.deleted:
            self._open = self._span(node, at, event)

    def told(self, limit: int) -> StatusHistory:
        """All of it."""
        spans = [*self._spans]
        if self._open is not None:
            spans.append(self._open)
            self._count(self._open.status, self._open.since, self._end_at)
        window_s = (self._end_at - self._begin_at).total_seconds()
        registered_s = sum(self._seconds.values())
        return StatusHistory(
            node_id=self._node_id,
            name=self._name,
            since=self._begin_at,
            until=self._end_at,
            spans=spans[-limit:],
            earlier=spans[-limit].since if len(spans) > limit else None,
            uptime=Uptime(
                seconds={status: round(passed_s, 3) for status, passed_s in self._seconds.items()},
                unregistered_s=round(max(window_s - registered_s, 0.0), 3),
                ratio=sum(self._seconds[status] for status in _UP) / registered_s if registered_s else None,
            ),
        )

    def _close(self, at: datetime) -> None:
        if self._open is not None:
            self._spans.append(msgspec.structs.replace(self._open, until=at))
            self._count(self._open.status, self._open.since, at)
            self._open = None

    def _count(self, status: NodeStatus, since: datetime, until: datetime) -> None:
        passed = min(until, self._end_at) - max(since, self._begin_at)
        self._seconds[status] += max(passed.total_seconds(), 0.0)

    def _span(self, node: Node, since: datetime, event: Event | None) -> StatusSpan:
        span = StatusSpan(
            status=node.status,
            reason=node.status_reason,
            observed_status=node.observed_status,
            override=None if node.override is None else node.override.status,
            since=since,
            until=None,
        )
        if event is None:
            return span
        return msgspec.structs.replace(
            span,
            event=event.name,
            event_id=event.id,
            cursor=self._log.cursor_at(event.revision),
            actor=event.actor,
            correlation_id=event.correlation_id,
            causation_id=event.causation_id,
        )


def _node(event: Event) -> Node:
    assert isinstance(event.payload, Node)
    return event.payload


def _key(node: Node) -> tuple[object, ...]:
    return (
        node.status,
        node.status_reason,
        node.observed_status,
        None if node.override is None else node.override.status,
    )


def _key_of(span: StatusSpan) -> tuple[object, ...]:
    return span.status, span.reason, span.observed_status, span.override
