"""The asynchronous client: a server's API with the names and arguments of an embedded `Registry`.

Calls raise `ClientError`s (`client/errors.py`) and are not repeated; only a watch connects again by itself.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
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
from thunderline.client.http_watch import Watch
from thunderline.client.past import BINS_DEFAULT, SPANS_DEFAULT, GraphDiff, Moment, StatusHistory, Timeline
from thunderline.client.trust import trust
from thunderline.core.clock import Clock, SystemClock
from thunderline.core.records import Heartbeat, LinkSession

T = TypeVar("T")


class Client:
    """The server at `url`, for the length of an `async with` block; many tasks may share one.

    `token`, or the one in `token_file` (THUNDERLINE_TOKEN_FILE by default), is shown with each request; it goes over
    `https://` or to loopback only. `ca` is the PEM file of the authorities to trust in place of the system's
    (THUNDERLINE_CA by default). `timeout_s` bounds each wait for the server. `transport` stands in for the network in
    tests. Raises: InvalidInput naming the argument.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        token_file: str | Path | None = None,
        ca: str | Path | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()
        shown = trust(self.url, token=token, token_file=token_file, ca=ca)
        self._http = httpx.AsyncClient(transport=transport, **http_options(self.url, timeout_s, shown))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection; idempotent."""
        await self._http.aclose()

    async def ask(self, call: Call[T]) -> Answer[T]:
        """What the server answers to `call`, with when it did. Raises: ClientError."""
        with naming_failures(self.url, timeout_s=self._timeout_s):
            response = await self._http.request(**request_options(call))
        return read_answer(self.url, call, response)

    # Registration

    async def ensure_node(self, attrs: Mapping[str, object], *, idempotency_key: str | None = None) -> PresentNode:
        """The node of that name, registered now if it was not. Raises: InvalidRequest, Conflict."""
        return (
            await self.ask(calls.with_conditions(calls.ensure_node(attrs), idempotency_key=idempotency_key))
        ).value.node

    async def ensure_nodes(
        self, items: Iterable[Mapping[str, object]], *, atomic: bool = False, idempotency_key: str | None = None
    ) -> list[NodeResult]:
        """Ensure many nodes, 1,000 at most: what became of each, in order. With `atomic` all or none.

        An item that fails raises nothing: look at its `problem`. Raises: InvalidRequest; with `atomic` BatchRefused.
        """
        call = calls.with_conditions(calls.ensure_nodes(items, atomic=atomic), idempotency_key=idempotency_key)
        return (await self.ask(call)).value.results

    async def update_node(
        self, node_id: str, patch: Mapping[str, object], *, if_match: str | None = None
    ) -> PresentNode:
        """The node with a merge patch (RFC 7396) applied. Raises: NotFound, InvalidRequest."""
        return (await self.ask(calls.with_conditions(calls.update_node(node_id, patch), if_match=if_match))).value.node

    async def deregister(self, node_id: str, *, force: bool = False, if_match: str | None = None) -> None:
        """Remove the node. Raises: NotFound; Conflict if it holds a live link and `force` is not given."""
        await self.ask(calls.with_conditions(calls.deregister(node_id, force=force), if_match=if_match))

    # Status

    async def mark_online(
        self,
        node_id: str,
        session: Mapping[str, object] | None = None,
        *,
        instance: str | None = None,
        idempotency_key: str | None = None,
    ) -> OnlineNode:
        """The node is up: `.node`, and `.session` if one was given. Raises: NotFound, InvalidRequest, Conflict."""
        return (
            await self.ask(
                calls.with_conditions(
                    calls.mark_online(node_id, session, instance=instance), idempotency_key=idempotency_key
                )
            )
        ).value

    async def mark_offline(
        self,
        node_id: str,
        reason: str | None = None,
        *,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> PresentNode:
        """Take the node down, as an operator does, until the override is lifted. Raises: NotFound, InvalidRequest."""
        return (
            await self.ask(
                calls.with_conditions(
                    calls.mark_offline(node_id, reason), if_match=if_match, idempotency_key=idempotency_key
                )
            )
        ).value.node

    async def mark_status(
        self,
        node_id: str,
        status: str,
        reason: str | None = None,
        *,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> PresentNode:
        """Set `online`, `degraded` or `offline` by hand. Raises: NotFound, InvalidRequest."""
        return (
            await self.ask(
                calls.with_conditions(
                    calls.mark_status(node_id, status, reason), if_match=if_match, idempotency_key=idempotency_key
                )
            )
        ).value.node

    async def clear_override(self, node_id: str, *, if_match: str | None = None) -> PresentNode:
        """Let the observed status show again. Raises: NotFound."""
        return (await self.ask(calls.with_conditions(calls.clear_override(node_id), if_match=if_match))).value.node

    # Capabilities

    async def add_capability(
        self, node_id: str, key: str, value: str | None = None, *, enabled: bool = True
    ) -> PresentNode:
        """The node with this capability, whatever it was before. Raises: NotFound, InvalidInput, InvalidRequest."""
        return (await self.ask(calls.add_capability(node_id, key, value, enabled=enabled))).value.node

    async def remove_capability(self, node_id: str, key: str) -> None:
        """Take a capability from the node. Raises: NotFound, InvalidInput."""
        await self.ask(calls.remove_capability(node_id, key))

    # Groups

    async def create_group(self, attrs: Mapping[str, object], *, idempotency_key: str | None = None) -> CountedGroup:
        """The group of that name, created now if it was not. Raises: InvalidRequest, Conflict."""
        return (
            await self.ask(calls.with_conditions(calls.create_group(attrs), idempotency_key=idempotency_key))
        ).value.group

    async def update_group(self, group: str, patch: Mapping[str, object]) -> CountedGroup:
        """The group with a merge patch (RFC 7396) applied. Raises: NotFound, InvalidRequest, Conflict."""
        return (await self.ask(calls.update_group(group, patch))).value.group

    async def remove_group(self, group: str, *, force: bool = False) -> None:
        """Delete the group. Forced, its members leave it, and the groups in it move up. Raises: NotFound, Conflict."""
        await self.ask(calls.remove_group(group, force=force))

    async def add_to_group(self, node_id: str, group: str) -> PresentNode:
        """The node as a member of the group. Raises: NotFound, InvalidRequest when it is in too many."""
        return (await self.ask(calls.add_to_group(node_id, group))).value.node

    async def remove_from_group(self, node_id: str, group: str) -> None:
        """Take the node out of the group. Raises: NotFound."""
        await self.ask(calls.remove_from_group(node_id, group))

    async def get_group(self, group: str) -> CountedGroup:
        """The group with this id or name. Raises: NotFound."""
        return (await self.ask(calls.get_group(group))).value.group

    async def list_groups(self, *, group_type: str | None = None, parent: str | None = None) -> list[CountedGroup]:
        """The groups of that type, and those in that parent, by name. Raises: InvalidRequest, NotFound."""
        found: list[CountedGroup] = []
        cursor = None
        while True:
            call = calls.list_groups(group_type=group_type, parent=parent, cursor=cursor)
            page = (await self.ask(call)).value
            found += page.groups
            cursor = page.next_cursor
            if cursor is None:
                return found

    # Alerts

    async def list_alerts(
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
        page = (await self.ask(calls.list_alerts(conditions, cursor=None))).value
        alerts, pending = page.alerts, page.pending
        while page.next_cursor is not None:
            page = (await self.ask(calls.list_alerts(conditions, cursor=page.next_cursor))).value
            alerts += page.alerts
        return AlertList(alerts=alerts, pending=pending)

    async def get_alert(self, alert_id: str) -> ToldAlert:
        """The alert with this id. Raises: NotFound."""
        return (await self.ask(calls.get_alert(alert_id))).value.alert

    async def acknowledge_alert(
        self, alert_id: str, note: str | None = None, *, idempotency_key: str | None = None
    ) -> ToldAlert:
        """The alert, taken on, so that others know; one that is already stays as it is.

        Raises: NotFound; Conflict once it is over.
        """
        call = calls.acknowledge_alert(alert_id, note)
        return (await self.ask(calls.with_conditions(call, idempotency_key=idempotency_key))).value.alert

    async def silence_alerts(
        self, matchers: Iterable[str], for_s: int, *, reason: str | None = None, idempotency_key: str | None = None
    ) -> ToldSilence:
        """A silence of so many seconds of alerts for which all matchers hold: `zone=eu-1`, `rule~node-*`, `node!=a`.

        Raises: InvalidRequest.
        """
        call = calls.silence_alerts(matchers, for_s, reason)
        return (await self.ask(calls.with_conditions(call, idempotency_key=idempotency_key))).value.silence

    async def list_silences(self) -> list[ToldSilence]:
        """All silences, those that ended within the last day, too, the oldest first."""
        return (await self.ask(calls.list_silences())).value.silences

    async def unsilence_alerts(self, silence_id: str) -> None:
        """End the silence: what it kept and fires still is told. Raises: NotFound."""
        await self.ask(calls.unsilence_alerts(silence_id))

    # Heartbeats

    async def heartbeat(
        self, node_id: str, status: str = "online", metrics: Mapping[str, object] | None = None
    ) -> KeptHeartbeat:
        """Keep one beat, durably; says when the next is due. `metrics` are its other fields: `cpu_load`, `seq`, ...

        A repeated beat (same incarnation and `seq`) is kept once. Raises: NotFound, InvalidRequest, Conflict.
        """
        return (await self.ask(calls.heartbeat(node_id, status, metrics))).value

    async def heartbeats(
        self, items: Iterable[Mapping[str, object]], *, atomic: bool = False, idempotency_key: str | None = None
    ) -> list[HeartbeatResult]:
        """Keep many beats, 1,000 at most, each with its `node`: what became of them; with `atomic` all or none.

        An item that fails raises nothing: look at its `problem`. Raises: InvalidRequest; with `atomic` BatchRefused.
        """
        call = calls.with_conditions(calls.heartbeats(items, atomic=atomic), idempotency_key=idempotency_key)
        return (await self.ask(call)).value.results

    async def recent_heartbeats(
        self,
        node_id: str | None = None,
        minutes: float = 60,
        *,
        limit: int = HEARTBEATS_MAX,
        resolution: int | None = None,
    ) -> list[Heartbeat]:
        """The beats of the last `minutes`, the newest `limit` of them, in ascending time; of one node, or of all.

        With a `resolution`, in seconds and for one node alone, only the last beat in each span of that length. The id
        of a deregistered node still finds its beats. Raises: NotFound, InvalidRequest.
        """
        return (
            await self.ask(calls.recent_heartbeats(node_id, minutes, limit=limit, resolution=resolution))
        ).value.heartbeats

    async def series(self, node_id: str, minutes: float = 60, *, resolution: int | None = None) -> HeartbeatSeries:
        """The node's beats of the last `minutes` in buckets of `resolution` seconds, or of a length that fits.

        The id of a deregistered node still finds its beats. Raises: NotFound, InvalidRequest.
        """
        return (await self.ask(calls.series(node_id, minutes, resolution=resolution))).value

    # Reading

    async def get_node(self, node_id: str) -> PresentNode:
        """The node with this id or name. Raises: NotFound."""
        return (await self.ask(calls.get_node(node_id))).value.node

    async def get_tagged_node(self, node_id: str) -> TaggedNode:
        """The node, and the tag of its record to give as `if_match`. Raises: NotFound."""
        answer = await self.ask(calls.get_node(node_id))
        if answer.tag is None:
            raise NotThunderline(self.url, reason="it names no ETag")
        return TaggedNode(answer.value.node, answer.tag)

    async def list_nodes(
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
        """All nodes for which all given conditions hold, by name; `status` may list several, separated by commas.

        A `capability` is `key` or `key:value`; a `name` that ends in `*` is a prefix; of a `group` are the members of
        the groups below it, too. Large lists are fetched in pages, each as of its own moment: to follow what changes,
        take `cursor()` first, then list, then watch from there. Raises: InvalidRequest, NotFound.
        """
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
            page = (await self.ask(calls.list_nodes(conditions, cursor=cursor))).value
            found += page.nodes
            cursor = page.next_cursor
            if cursor is None:
                return found

    async def graph(
        self,
        *,
        include_offline: bool = False,
        domain: str | None = None,
        group: str | None = None,
        level: GraphLevel = "nodes",
    ) -> Graph:
        """The topology; nodes that are offline only if asked for."""
        call = calls.graph(include_offline=include_offline, domain=domain, group=group, level=level)
        return (await self.ask(call)).value

    async def graph_at(
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
        return (await self.ask(call)).value

    async def graph_diff(
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
        return (await self.ask(call)).value

    async def status_history(
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
        return (await self.ask(past.status_history(node_id, since, until, limit=limit))).value

    async def timeline(
        self, since: Moment | None = None, until: Moment | None = None, *, bins: int = BINS_DEFAULT
    ) -> Timeline:
        """How many events of each kind there were, in at most `bins` bins of time; by default of the last 24 h.

        Raises: InvalidRequest, ListAgain.
        """
        return (await self.ask(past.timeline(since, until, bins=bins))).value

    # Link sessions

    async def establish_link_session(
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
        return (
            await self.ask(
                calls.with_conditions(
                    calls.establish_link_session(node_id, remote_node_id, session), idempotency_key=idempotency_key
                )
            )
        ).value.session

    async def get_link_session(self, session_id: str) -> LinkSession:
        """The session with this `session_id` or id, open or not. Raises: NotFound."""
        return (await self.ask(calls.get_link_session(session_id))).value.session

    async def update_link_session(self, session_id: str, patch: Mapping[str, object]) -> LinkSession:
        """The session with a merge patch applied. Raises: InvalidRequest, NotFound, Conflict when it is over."""
        return (await self.ask(calls.update_link_session(session_id, patch))).value.session

    async def close_link_session(self, session_id: str, reason: str | None = None) -> LinkSession:
        """The session, closed; one that is closed already stays as it is. Raises: NotFound, Conflict."""
        return (await self.ask(calls.close_link_session(session_id, reason))).value.session

    async def list_sessions(
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
            page = (await self.ask(calls.list_sessions(conditions, cursor=cursor))).value
            found += page.sessions
            cursor = page.next_cursor
            if cursor is None:
                return found

    # Events

    async def events(
        self, since: str | None = None, *, before: str | None = None, pattern: str = ">", limit: int = 100
    ) -> EventPage:
        """A page of the log after the cursor `since`, by default from the oldest event that is kept.

        Raises: InvalidRequest, ListAgain.
        """
        return self._page((await self.ask(calls.events(since, before=before, pattern=pattern, limit=limit))).value)

    async def cursor(self) -> str:
        """Where the log stands: watching from here tells everything that a list fetched after this may lack."""
        return self._page((await self.ask(calls.log_end())).value).cursor

    def watch(
        self,
        pattern: str = ">",
        since: str | None = None,
        *,
        transient: bool | None = None,
        damped: bool = False,
        on_lost: OnLost | None = None,
        on_back: OnBack | None = None,
    ) -> Watch:
        """Watch events whose name matches, from now on, or everything after the cursor `since`.

        Use it as `async with client.watch(...) as events: async for event in events: ...`. When the connection breaks,
        `on_lost` is told why, once; the watch connects again until it can go on exactly behind the last event, and
        tells `on_back`. `transient` events, heartbeats, of a node four a second at most, are told where that is true,
        and with None where the pattern spells the word `heartbeat`. With `damped`, changes of status of nodes that are
        marked as flapping are left out.

        Raises, in the watch: ServerUnreachable and ServerUnavailable before it was ever connected; ListAgain when the
        log cannot continue; InvalidRequest for a bad pattern.
        """
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
        return Watch(self, self._http, following, timeout_s=self._timeout_s, clock=self._clock)

    # Health

    async def health(self) -> Health:
        """That the process answers, and its version."""
        return (await self.ask(calls.health())).value

    async def ready(self) -> Health:
        """That changes are taken. Raises: ServerUnavailable."""
        return (await self.ask(calls.ready())).value

    def _page(self, answer: EventsAnswer) -> EventPage:
        try:
            return calls.page_of(answer)
        except msgspec.DecodeError as error:
            raise NotThunderline(self.url, reason=str(error)) from error
