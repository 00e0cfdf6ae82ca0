"""`Client` for programs without an event loop: the same calls, each of which blocks until it is answered."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx
import msgspec

from thunderline.client import calls, past
from thunderline.client.alerts import AlertList, ToldAlert, ToldSilence
from thunderline.client.answers import (
    CountedGroup,
    EventPage,
    EventsAnswer,
    Graph,
    GraphLevel,
    Health,
    HeartbeatResult,
    HeartbeatSeries,
    KeptHeartbeat,
    NodeResult,
    OnlineNode,
    PresentNode,
    TaggedNode,
)
from thunderline.client.blocking_watch import BlockingWatch
from thunderline.client.calls import HEARTBEATS_MAX, Call
from thunderline.client.errors import NotThunderline
from thunderline.client.exchange import (
    ANSWER_TIMEOUT_S,
    Answer,
    http_options,
    naming_failures,
    read_answer,
    request_options,
)
from thunderline.client.following import Following, OnBack, OnLost
from thunderline.client.past import BINS_DEFAULT, SPANS_DEFAULT, GraphDiff, Moment, StatusHistory, Timeline
from thunderline.client.trust import trust
from thunderline.core.records import Heartbeat, LinkSession

T = TypeVar("T")


class BlockingClient:
    """The server at `url`, for the length of a `with` block; threads may share one.

    `token`, `token_file` and `ca` as for `Client`. `timeout_s` bounds each wait for the server. `transport` stands in
    for the network in tests, `sleep` for waiting. Raises: InvalidInput naming the argument.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        token_file: str | Path | None = None,
        ca: str | Path | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], object] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        # An event that nobody sets: Ctrl-C ends the wait.
        self._sleep = sleep or threading.Event().wait
        self._rng = rng or random.Random()
        shown = trust(self.url, token=token, token_file=token_file, ca=ca)
        self._http = httpx.Client(transport=transport, **http_options(self.url, timeout_s, shown))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection; idempotent."""
        self._http.close()

    def ask(self, call: Call[T]) -> Answer[T]:
        """What the server answers to `call`, with when it did. Raises: ClientError."""
        with naming_failures(self.url, timeout_s=self._timeout_s):
            response = self._http.request(**request_options(call))
        return read_answer(self.url, call, response)

    # Registration

    def ensure_node(self, attrs: Mapping[str, object], *, idempotency_key: str | None = None) -> PresentNode:
        """The node of that name, registered now if it was not. Raises: InvalidRequest, Conflict."""
        return self.ask(calls.with_conditions(calls.ensure_node(attrs), idempotency_key=idempotency_key)).value.node

    def ensure_nodes(
        self, items: Iterable[Mapping[str, object]], *, atomic: bool = False, idempotency_key: str | None = None
    ) -> list[NodeResult]:
        """Ensure many nodes, 1,000 at most: what became of each, in order. With `atomic` all or none.

        An item that fails raises nothing: look at its `problem`. Raises: InvalidRequest; with `atomic` BatchRefused.
        """
        call = calls.with_conditions(calls.ensure_nodes(items, atomic=atomic), idempotency_key=idempotency_key)
        return self.ask(call).value.results

    def update_node(self, node_id: str, patch: Mapping[str, object], *, if_match: str | None = None) -> PresentNode:
        """The node with a merge patch (RFC 7396) applied. Raises: NotFound, InvalidRequest."""
        return self.ask(calls.with_conditions(calls.update_node(node_id, patch), if_match=if_match)).value.node

    def deregister(self, node_id: str, *, force: bool = False, if_match: str | None = None) -> None:
        """Remove the node. Raises: NotFound; Conflict if it holds a live link and `force` is not given."""
        self.ask(calls.with_conditions(calls.deregister(node_id, force=force), if_match=if_match))

    # Status

    def mark_online(
        self,
        node_id: str,
        session: Mapping[str, object] | None = None,
        *,
        instance: str | None = None,
        idempotency_key: str | None = None,
    ) -> OnlineNode:
        """The node is up: `.node`, and `.session` if one was given. Raises: NotFound, InvalidRequest, Conflict."""
        return self.ask(
            calls.with_conditions(
                calls.mark_online(node_id, session, instance=instance), idempotency_key=idempotency_key
            )
        ).value

    def mark_offline(
        self,
        node_id: str,
        reason: str | None = None,
        *,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> PresentNode:
        """Take the node down, as an operator does, until the override is lifted. Raises: NotFound, InvalidRequest."""
        return self.ask(
            calls.with_conditions(
                calls.mark_offline(node_id, reason), if_match=if_match, idempotency_key=idempotency_key
            )
        ).value.node

    def mark_status(
        self,
        node_id: str,
        status: str,
        reason: str | None = None,
        *,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> PresentNode:
        """Set `online`, `degraded` or `offline` by hand. Raises: NotFound, InvalidRequest."""
        return self.ask(
            calls.with_conditions(
                calls.mark_status(node_id, status, reason), if_match=if_match, idempotency_key=idempotency_key
            )
        ).value.node

    def clear_override(self, node_id: str, *, if_match: str | None = None) -> PresentNode:
        """Let the observed status show again. Raises: NotFound."""
        return self.ask(calls.with_conditions(calls.clear_override(node_id), if_match=if_match)).value.node

    # Capabilities

    def add_capability(self, node_id: str, key: str, value: str | None = None, *, enabled: bool = True) -> PresentNode:
        """The node with this capability, whatever it was before. Raises: NotFound, InvalidInput, InvalidRequest."""
        return self.ask(calls.add_capability(node_id, key, value, enabled=enabled)).value.node

    def remove_capability(self, node_id: str, key: str) -> None:
        """Take a capability from the node. Raises: NotFound, InvalidInput."""
        self.ask(calls.remove_capability(node_id, key))

    # Groups

    def create_group(self, attrs: Mapping[str, object], *, idempotency_key: str | None = None) -> CountedGroup:
        """The group of that name, created now if it was not. Raises: InvalidRequest, Conflict."""
        return self.ask(calls.with_conditions(calls.create_group(attrs), idempotency_key=idempotency_key)).value.group

    def update_group(self, group: str, patch: Mapping[str, object]) -> CountedGroup:
        """The group with a merge patch (RFC 7396) applied. Raises: NotFound, InvalidRequest, Conflict."""
        return self.ask(calls.update_group(group, patch)).value.group

    def remove_group(self, group: str, *, force: bool = False) -> None:
        """Delete the group. Forced, its members leave it, and the groups in it move up. Raises: NotFound, Conflict."""
        self.ask(calls.remove_group(group, force=force))

    def add_to_group(self, node_id: str, group: str) -> PresentNode:
        """The node as a member of the group. Raises: NotFound, InvalidRequest when it is in too many."""
        return self.ask(calls.add_to_group(node_id, group)).value.node

    def remove_from_group(self, node_id: str, group: str) -> None:
        """Take the node out of the group. Raises: NotFound."""
        self.ask(calls.remove_from_group(node_id, group))

    def get_group(self, group: str) -> CountedGroup:
        """The group with this id or name. Raises: NotFound."""
        return self.ask(calls.get_group(group)).value.group

    def list_groups(self, *, group_type: str | None = None, parent: str | None = None) -> list[CountedGroup]:
        """The groups of that type, and those in that parent, by name. Raises: InvalidRequest, NotFound."""
        found: list[CountedGroup] = []
        cursor = None
        while True:
            call = calls.list_groups(group_type=group_type, parent=parent, cursor=cursor)
            page = self.ask(call).value
            found += page.groups
            cursor = page.next_cursor
            if cursor is None:
                return found

    # Alerts

    def list_alerts(
        self,
        *,
        state: str | None = None,
        severity: str | None = None,
        rule: str | None = None,
        node: str | None = None,
        silenced: bool | None = None,
        acknowledged: bool | None = None,
    ) -> AlertList:
        """Alerts for which all given conditions hold: `.alerts`, the newest first, and what is `.pending`.

        `node` finds what is about the node of that name, among others, too. Raises: InvalidRequest.
        """
        conditions = calls.alert_filter(
            state=state, severity=severity, rule=rule, node=node, silenced=silenced, acknowledged=acknowledged
        )
        page = self.ask(calls.list_alerts(conditions, cursor=None)).value
        alerts, pending = page.alerts, page.pending
        while page.next_cursor is not None:
            page = self.ask(calls.list_alerts(conditions, cursor=page.next_cursor)).value
            alerts += page.alerts
        return AlertList(alerts=alerts, pending=pending)

    def get_alert(self, alert_id: str) -> ToldAlert:
        """The alert with this id. Raises: NotFound."""
        return self.ask(calls.get_alert(alert_id)).value.alert

    def acknowledge_alert(
        self, alert_id: str, note: str | None = None, *, idempotency_key: str | None = None
    ) -> ToldAlert:
        """The alert, taken on, so that others know; one that is already stays as it is.

        Raises: NotFound; Conflict once it is over.
        """
        call = calls.acknowledge_alert(alert_id, note)
        return self.ask(calls.with_conditions(call, idempotency_key=idempotency_key)).value.alert

    def silence_alerts(
        self, matchers: Iterable[str], for_s: int, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> ToldSilence:
        """A silence of so many seconds of alerts for which all matchers hold: `zone=eu-1`, `rule~node-*`, `node!=a`.

        Raises: InvalidRequest.
        """
        call = calls.silence_alerts(matchers, for_s, reason)
        return self.ask(calls.with_conditions(call, idempotency_key=idempotency_key)).value.silence

    def list_silences(self) -> list[ToldSilence]:
        """All silences, those that ended within the last day, too, the oldest first."""
        return self.ask(calls.list_silences()).value.silences

    def unsilence_alerts(self, silence_id: str) -> None:
        """End the silence: what it kept and fires still is told. Raises: NotFound."""
        self.ask(calls.unsilence_alerts(silence_id))

    # Heartbeats

    def heartbeat(
        self, node_id: str, status: str = "online", metrics: Mapping[str, object] | None = None
    ) -> KeptHeartbeat:
        """Keep one beat, as `Client.heartbeat` does. Raises: NotFound, InvalidRequest, Conflict."""
        return self.ask(calls.heartbeat(node_id, status, metrics)).value

    def heartbeats(
        self, items: Iterable[Mapping[str, object]], *, atomic: bool = False, idempotency_key: str | None = None
    ) -> list[HeartbeatResult]:
        """Keep many beats, 1,000 at most, each with its `node`: what became of them; with `atomic` all or none.

        An item that fails raises nothing: look at its `problem`. Raises: InvalidRequest; with `atomic` BatchRefused.
        """
        call = calls.with_conditions(calls.heartbeats(items, atomic=atomic), idempotency_key=idempotency_key)
        return self.ask(call).value.results

    def recent_heartbeats(
        self,
        node_id: str | None = None,
        minutes: float = 60,
        *,
        limit: int = HEARTBEATS_MAX,
        resolution: int | None = None,
    ) -> list[Heartbeat]:
        """The latest beats, as `Client.recent_heartbeats` gives them. Raises: NotFound, InvalidRequest."""
        return self.ask(calls.recent_heartbeats(node_id, minutes, limit=limit, resolution=resolution)).value.heartbeats

    def series(self, node_id: str, minutes: float = 60, *, resolution: int | None = None) -> HeartbeatSeries:
        """A node's beats in buckets, as `Client.series` gives them. Raises: NotFound, InvalidRequest."""
        return self.ask(calls.series(node_id, minutes, resolution=resolution)).value

    # Reading

    def get_node(self, node_id: str) -> PresentNode:
        """The node with this id or name. Raises: NotFound."""
        return self.ask(calls.get_node(node_id)).value.node

    def get_tagged_node(self, node_id: str) -> TaggedNode:
        """The node, and the tag of its record to give as `if_match`. Raises: NotFound."""
        answer = self.ask(calls.get_node(node_id))
        if answer.tag is None:
            raise NotThunderline(self.url, reason="it names no ETag")
        return TaggedNode(answer.value.node, answer.tag)

    def list_nodes(
        self,
        *,
        status: str | None = None,
        role: str | None = None,
        domain: str | None = None,
        cluster_type: str | None = None,
        capability: str | None = None,
        labels: Mapping[str, str] | None = None,
        group: str | None = None,
        name: str | None = None,
        sort: str = "name",
    ) -> list[PresentNode]:
        """All nodes that match, by name, as `Client.list_nodes` gives them. Raises: InvalidRequest, NotFound."""
        conditions = calls.node_filter(
            status=status,
            role=role,
            domain=domain,
            cluster_type=cluster_type,
            capability=capability,
            labels=labels,
            group=group,
            name=name,
            sort=sort,
        )
        found: list[PresentNode] = []
        cursor = None
        while True:
            page = self.ask(calls.list_nodes(conditions, cursor=cursor)).value
            found += page.nodes
            cursor = page.next_cursor
            if cursor is None:
                return found

    def graph(
        self,
        *,
        include_offline: bool = False,
        domain: str | None = None,
        group: str | None = None,
        level: GraphLevel = "nodes",
    ) -> Graph:
        """The topology; nodes that are offline only if asked for."""
        call = calls.graph(include_offline=include_offline, domain=domain, group=group, level=level)
        return self.ask(call).value

    def graph_at(
        self,
        at: Moment,
        *,
        include_offline: bool = False,
        domain: str | None = None,
        group: str | None = None,
        level: GraphLevel = "nodes",
    ) -> Graph:
        """The topology as it stood at a moment: a time, a revision, or a cursor. Raises: InvalidRequest, ListAgain."""
        call = past.graph_at(at, include_offline=include_offline, domain=domain, group=group, level=level)
        return self.ask(call).value

    def graph_diff(
        self,
        since: Moment,
        until: Moment,
        *,
        include_offline: bool = False,
        domain: str | None = None,
        group: str | None = None,
        level: GraphLevel = "nodes",
    ) -> GraphDiff:
        """What differs between the topologies of two moments. Raises: InvalidRequest, ListAgain."""
        call = past.graph_diff(since, until, include_offline=include_offline, domain=domain, group=group, level=level)
        return self.ask(call).value

    def status_history(
        self,
        node_id: str,
        since: Moment | None = None,
        until: Moment | None = None,
        *,
        limit: int = SPANS_DEFAULT,
    ) -> StatusHistory:
        """What the node's status was from one moment to another, why, and for how long it was up.

        By default over the last 24 h. The newest `limit` spans; the uptime is of the whole window. The id of a
        deregistered node works too. Raises: InvalidRequest, NotFound, ListAgain.
        """
        return self.ask(past.status_history(node_id, since, until, limit=limit)).value

    def timeline(
        self, since: Moment | None = None, until: Moment | None = None, *, bins: int = BINS_DEFAULT
    ) -> Timeline:
        """How many events of each kind there were, in at most `bins` bins of time; by default of the last 24 h.

        Raises: InvalidRequest, ListAgain.
        """
        return self.ask(past.timeline(since, until, bins=bins)).value

    # Link sessions

    def establish_link_session(
        self,
        node_id: str,
        remote_node_id: str | None = None,
        session: Mapping[str, object] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> LinkSession:
        """A session between two nodes, or of one with the registry; `session` are its other fields.

        One whose `session_id` is known is opened again, not doubled. Raises: InvalidRequest, NotFound, Conflict.
        """
        return self.ask(
            calls.with_conditions(
                calls.establish_link_session(node_id, remote_node_id, session), idempotency_key=idempotency_key
            )
        ).value.session

    def get_link_session(self, session_id: str) -> LinkSession:
        """The session with this `session_id` or id, open or not. Raises: NotFound."""
        return self.ask(calls.get_link_session(session_id)).value.session

    def update_link_session(self, session_id: str, patch: Mapping[str, object]) -> LinkSession:
        """The session with a merge patch applied. Raises: InvalidRequest, NotFound, Conflict when it is over."""
        return self.ask(calls.update_link_session(session_id, patch)).value.session

    def close_link_session(self, session_id: str, reason: str | None = None) -> LinkSession:
        """The session, closed; one that is closed already stays as it is. Raises: NotFound, Conflict."""
        return self.ask(calls.close_link_session(session_id, reason)).value.session

    def list_sessions(
        self,
        node_id: str | None = None,
        *,
        status: str | None = None,
        session_type: str | None = None,
        connection_type: str | None = None,
    ) -> list[LinkSession]:
        """The open sessions for which all given conditions hold, the oldest first; of `node_id` at either end.

        Raises: InvalidRequest, NotFound.
        """
        conditions = calls.session_filter(
            node_id, status=status, session_type=session_type, connection_type=connection_type
        )
        found: list[LinkSession] = []
        cursor = None
        while True:
            page = self.ask(calls.list_sessions(conditions, cursor=cursor)).value
            found += page.sessions
            cursor = page.next_cursor
            if cursor is None:
                return found

    # Events

    def events(
        self, since: str | None = None, *, before: str | None = None, pattern: str = ">", limit: int = 100
    ) -> EventPage:
        """A page of the log after the cursor `since`, by default from the oldest event that is kept.

        Raises: InvalidRequest, ListAgain.
        """
        return self._page(self.ask(calls.events(since, before=before, pattern=pattern, limit=limit)).value)

    def cursor(self) -> str:
        """Where the log stands: watching from here tells everything that a list fetched after this may lack."""
        return self._page(self.ask(calls.log_end()).value).cursor

    def watch(
        self,
        pattern: str = ">",
        since: str | None = None,
        *,
        transient: bool | None = None,
        damped: bool = False,
        on_lost: OnLost | None = None,
        on_back: OnBack | None = None,
    ) -> BlockingWatch:
        """Watch events, as `Client.watch` does: `with client.watch(...) as events: for event in events: ...`."""
        following = Following(
            self.url,
            pattern=pattern,
            transient=transient,
            damped=damped,
            since=since,
            rng=self._rng,
            on_lost=on_lost,
            on_back=on_back,
        )
        return BlockingWatch(self, self._http, following, timeout_s=self._timeout_s, sleep=self._sleep)

    # Health

    def health(self) -> Health:
        """That the process answers, and its version."""
        return self.ask(calls.health()).value

    def ready(self) -> Health:
        """That changes are taken. Raises: ServerUnavailable."""
        return self.ask(calls.ready()).value

    def _page(self, answer: EventsAnswer) -> EventPage:
        try:
            return calls.page_of(answer)
        except msgspec.DecodeError as error:
            raise NotThunderline(self.url, reason=str(error)) from error
