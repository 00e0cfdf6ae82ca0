"""The registry: what a program embeds, and what the server serves.

    async with Registry.open("sqlite:///nodes.db") as registry:
        node = await registry.ensure_node({"name": "worker-1"})
        await registry.heartbeat(node.id, "online", {"cpu_load": 12.5})
        print(registry.list_nodes(status="online"))

One registry serves one event loop. Reads answer from the roster and never wait; what they show is committed. Changes
return once they are durable. Where a node is asked for, its id or its name will do.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from thunderline.block.engines import store_from_url
from thunderline.block.store import Store
from thunderline.core.clock import Clock, SystemClock
from thunderline.core.errors import StoreUnavailable
from thunderline.core.host import host_name
from thunderline.core.ids import IdSource, NodeId, new_uuid7
from thunderline.core.inputs import (
    CapabilityAttrs,
    GroupAttrs,
    GroupPatch,
    HeartbeatInput,
    NewSession,
    NodeAttrs,
    NodePatch,
    OnlineInput,
    SessionPatch,
    StatusInput,
    read_key,
    read_mapping,
)
from thunderline.core.logging import get_logger
from thunderline.core.records import (
    Heartbeat,
    LinkSession,
    Node,
    NodeGroup,
    Presence,
)
from thunderline.core.settings import Settings
from thunderline.core.tracing import Tracer
from thunderline.flow.bus import Bus, LocalBus
from thunderline.link.actor import EMBEDDING_PROGRAM, Actor
from thunderline.link.alert_domain import AlertDomain
from thunderline.link.answers import Answers
from thunderline.link.batch_domain import BatchDomain
from thunderline.link.domain import NodeDomain
from thunderline.link.drawing import Drawings, scene_of
from thunderline.link.engine import Engine
from thunderline.link.filters import graph_filter, group_filter, node_filter, session_filter
from thunderline.link.graph import Graph, GraphLevel, draw
from thunderline.link.group_graph import draw_groups
from thunderline.link.history import HEARTBEATS_MAX, HeartbeatSeries
from thunderline.link.link_domain import LinkDomain
from thunderline.link.listing import BY_NAME, Listing, list_page
from thunderline.link.log_reader import LogReader
from thunderline.link.moments import Moment, Moments
from thunderline.link.past_graphs import GraphDiff, PastGraphs
from thunderline.link.plans import Announced
from thunderline.link.roster import Entry
from thunderline.link.status_history import SPANS_DEFAULT, StatusHistories, StatusHistory
from thunderline.link.summary import LivenessFigures, Summary, summarise
from thunderline.link.timeline import BINS_DEFAULT, Timeline, Timelines
from thunderline.link.token_domain import TokenDomain
from thunderline.link.vitals import Vitals, read_vitals
from thunderline.link.watch import Watch

log = get_logger(__name__)


class Registry:
    """A running registry; made by `Registry.open`, which also ends it."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        *,
        settings: Settings,
        clock: Clock,
        ids: IdSource,
        rng: random.Random,
        tracer: Tracer | None = None,
    ) -> None:
        """Use `open`."""
        self.tracer = tracer
        """Who is told of commits, and of what the gate does; None: nobody is."""
        self.settings = settings
        self.clock = clock
        self.new_id = ids
        self.owner = settings.node_name or f"registry@{host_name()}"
        """This replica's name, which is also its name as a node where it is one."""
        self.store_location = store.location
        self._engine = engine = Engine(
            store, bus, owner=self.owner, settings=settings, clock=clock, ids=ids, rng=rng, tracer=tracer
        )
        self.roster = engine.roster
        self.uplinks = engine.uplinks
        self.log = engine.log
        self._drawings = Drawings(self.roster)
        moments = Moments(store, engine.log)
        self.past = PastGraphs(store, engine.log, moments)
        self.timelines = Timelines(store, engine.log, moments, clock=clock)
        self.status_histories = StatusHistories(store, self.roster, engine.log, moments, clock=clock)
        self.stats = engine.writer.stats
        self.tasks = engine.tasks
        """The registry's own tasks; the server adds its own, so that readiness speaks for all of them."""
        parts = (engine.writer, engine.roster, engine.sentinel, engine.uplinks)
        self.access = engine.access
        self.domain = NodeDomain(*parts, store, engine.history, engine.access, settings=settings)
        self.batches = BatchDomain(self.domain, engine.writer, engine.access, settings=settings)
        self.tokens = TokenDomain(engine.writer, engine.roster, engine.access, store, clock=clock)
        self.log_reader = LogReader(store, engine.roster)
        self.alerts = AlertDomain(engine.writer, engine.roster.alerts, engine.access, store, clock=clock)
        self.answers = Answers(store, engine.writer, clock=clock, ttl_s=settings.idempotency_ttl_s)
        self.links = LinkDomain(*parts, store, engine.access, settings=settings)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        store: str | Store,
        settings: Settings | None = None,
        *,
        bus: Bus | None = None,
        clock: Clock | None = None,
        ids: IdSource = new_uuid7,
        rng: random.Random | None = None,
        tracer: Tracer | None = None,
    ) -> AsyncIterator[Registry]:
        """A registry over `store` (a URL, or one that is not yet opened), closed at the end of the block.

        Closing refuses what is new, commits what is queued, ends watchers, then closes the store.

        Raises: SettingsError, StoreLocked, StoreIncompatible, StoreUnavailable.
        """
        clock = clock or SystemClock()
        if isinstance(store, str):
            store = store_from_url(store, clock=clock, ids=ids, writer_id="registry")
        registry = cls(
            store,
            bus or LocalBus(),
            settings=settings or Settings(),
            clock=clock,
            ids=ids,
            rng=rng or random.Random(),
            tracer=tracer,
        )
        try:
            await registry._engine.start()
        except BaseException:
            await store.close()
            raise
        try:
            yield registry
        finally:
            # Shielded: who is cancelled here goes at once, and what was queued is committed all the same.
            await asyncio.shield(asyncio.ensure_future(registry._engine.stop()))

    # Registration

    async def ensure_node(self, attrs: Mapping[str, object], *, actor: Actor = EMBEDDING_PROGRAM) -> Node:
        """The node of that name, registered now if it was not. Raises: InvalidInput, Mismatch."""
        read = read_mapping(attrs, NodeAttrs)
        return (await self.domain.register_node(read, actor=actor)).node

    async def update_node(self, node_id: str, patch: Mapping[str, object], *, actor: Actor = EMBEDDING_PROGRAM) -> Node:
        """The node with a merge patch (RFC 7396) applied. Raises: UnknownNode, InvalidInput."""
        read = read_mapping(patch, NodePatch)
        return await self.domain.update_node(self.find_id(node_id), read, actor=actor)

    async def deregister(self, node_id: str, *, force: bool = False, actor: Actor = EMBEDDING_PROGRAM) -> Node:
        """Remove the node; gives its last record. Raises: UnknownNode, LiveLink."""
        return await self.domain.deregister_node(self.find_id(node_id), force=force, actor=actor)

    # Capabilities

    async def add_capability(
        self,
        node_id: str,
        key: str,
        value: str | None = None,
        *,
        enabled: bool = True,
        actor: Actor = EMBEDDING_PROGRAM,
    ) -> Node:
        """The node with this capability, whatever it was before. Raises: UnknownNode, InvalidInput."""
        attrs = read_mapping({"value": value, "enabled": enabled}, CapabilityAttrs)
        key = read_key(key)
        return (await self.domain.put_capability(self.find_id(node_id), key, attrs, actor=actor)).node

    async def enable_capability(self, node_id: str, key: str, *, actor: Actor = EMBEDDING_PROGRAM) -> Node:
        """The node with a capability that it has enabled. Raises: UnknownNode, UnknownCapability."""
        return await self.domain.enable_capability(self.find_id(node_id), key, True, actor=actor)

    async def disable_capability(self, node_id: str, key: str, *, actor: Actor = EMBEDDING_PROGRAM) -> Node:
        """The node with a capability that it keeps, but nobody finds. Raises: UnknownNode, UnknownCapability."""
        return await self.domain.enable_capability(self.find_id(node_id), key, False, actor=actor)

    async def remove_capability(self, node_id: str, key: str, *, actor: Actor = EMBEDDING_PROGRAM) -> Node:
        """The node without a capability. Raises: UnknownNode, UnknownCapability."""
        return await self.domain.remove_capability(self.find_id(node_id), key, actor=actor)

    def nodes_with_capability(self, key: str, value: str | None = None) -> list[Node]:
        """The nodes that have it enabled, with that value where one is given, by name."""
        return self.list_nodes(capability=key if value is None else f"{key}:{value}")

    # Groups

    async def create_group(self, attrs: Mapping[str, object], *, actor: Actor = EMBEDDING_PROGRAM) -> NodeGroup:
        """The group of that name, created now if it was not; `attrs`: `name`, `group_type`, `parent`, `meta`.

        Raises: InvalidInput; Mismatch when it is known with other values.
        """
        read = read_mapping(attrs, GroupAttrs)
        return (await self.domain.create_group(read, actor=actor)).group

    async def update_group(
        self, group: str, patch: Mapping[str, object], *, actor: Actor = EMBEDDING_PROGRAM
    ) -> NodeGroup:
        """The group with a merge patch (RFC 7396) applied. Raises: UnknownGroup, InvalidInput, GroupCycle."""
        read = read_mapping(patch, GroupPatch)
        return await self.domain.update_group(self.get_group(group).id, read, actor=actor)

    async def remove_group(self, group: str, *, force: bool = False, actor: Actor = EMBEDDING_PROGRAM) -> NodeGroup:
        """Delete the group; gives its last record. Forced, its members leave it, and the groups in it move up.

        Raises: UnknownGroup, GroupInUse.
        """
        return await self.domain.remove_group(self.get_group(group).id, force=force, actor=actor)

    async def add_to_group(self, node_id: str, group: str, *, actor: Actor = EMBEDDING_PROGRAM) -> Node:
        """The node as a member of the group. Raises: UnknownNode, UnknownGroup, InvalidInput when it is in too many."""
        node, into = self.find_id(node_id), self.get_group(group).id
        return (await self.domain.join_group(node, into, actor=actor)).node

    async def remove_from_group(self, node_id: str, group: str, *, actor: Actor = EMBEDDING_PROGRAM) -> Node:
        """The node out of the group. Raises: UnknownNode, UnknownGroup, UnknownMembership."""
        return await self.domain.leave_group(self.find_id(node_id), self.get_group(group).id, actor=actor)

    def get_group(self, group: str) -> NodeGroup:
        """The group with this id or name. Raises: UnknownGroup."""
        return self.roster.groups.find(group)

    def list_groups(self, *, group_type: str | None = None, parent: str | None = None) -> list[NodeGroup]:
        """The groups of that type, and those in that parent, by name. Raises: InvalidInput, UnknownGroup."""
        return self.roster.groups.select(group_filter(group_type=group_type, parent=parent))[0]

    # Status

    async def mark_online(
        self,
        node_id: str,
        session: Mapping[str, object] | None = None,
        *,
        instance: str | None = None,
        actor: Actor = EMBEDDING_PROGRAM,
    ) -> Announced:
        """The node is up: `.node`, and `.session` if one was given. Raises: UnknownNode, InvalidInput, Conflict."""
        announcement = read_mapping({"instance": instance, "session": session}, OnlineInput)
        return await self.domain.mark_node_online(self.find_id(node_id), announcement, actor=actor)

    async def mark_offline(self, node_id: str, reason: str | None = None, *, actor: Actor = EMBEDDING_PROGRAM) -> Node:
        """Take the node down: an override if an operator asks, a goodbye if the node does. Raises: UnknownNode."""
        return await self.mark_status(node_id, "offline", reason, actor=actor)

    async def mark_status(
        self, node_id: str, status: str, reason: str | None = None, *, actor: Actor = EMBEDDING_PROGRAM
    ) -> Node:
        """Set `online`, `degraded` or `offline` by hand. Raises: UnknownNode, InvalidInput."""
        wanted = read_mapping({"status": status, "reason": reason}, StatusInput)
        return await self.domain.mark_node_status(self.find_id(node_id), wanted, actor=actor)

    async def clear_override(self, node_id: str, *, actor: Actor = EMBEDDING_PROGRAM) -> Node:
        """Let the observed status show again. Raises: UnknownNode."""
        return await self.domain.clear_override(self.find_id(node_id), actor=actor)

    # Link sessions

    async def establish_link_session(
        self,
        node_id: str,
        remote_node_id: str | None = None,
        session: Mapping[str, object] | None = None,
        *,
        actor: Actor = EMBEDDING_PROGRAM,
    ) -> LinkSession:
        """A session between two nodes, or of one with the registry; `session` are its other fields.

        One whose `session_id` is known is opened again, not doubled. Raises: UnknownNode, InvalidInput, SessionTaken,
        EndNotUp.
        """
        given = {**(session or {}), "node_id": node_id, "remote_node_id": remote_node_id}
        return (await self.domain.create_link_session(read_mapping(given, NewSession), actor=actor)).session

    async def update_link_session(
        self, session_id: str, patch: Mapping[str, object], *, actor: Actor = EMBEDDING_PROGRAM
    ) -> LinkSession:
        """The session with a merge patch applied: `latency_ms`, `weight`, ..., or `status`, which may also end it.

        Raises: UnknownSession, SessionOver, EndNotUp, InvalidInput.
        """
        return await self.domain.update_link_session(session_id, read_mapping(patch, SessionPatch), actor=actor)

    async def close_link_session(
        self, session_id: str, reason: str | None = None, *, actor: Actor = EMBEDDING_PROGRAM
    ) -> LinkSession:
        """The session, closed; one that is closed already stays as it is. Raises: UnknownSession, SessionOver."""
        return await self.update_link_session(
            session_id, {"status": "closed", **({} if reason is None else {"reason": reason})}, actor=actor
        )

    async def get_link_session(self, session_id: str) -> LinkSession:
        """The session with this `session_id` or id, open or not. Raises: UnknownSession."""
        return await self.domain.get_link_session(session_id)

    def list_sessions(
        self,
        node_id: str | None = None,
        *,
        status: str | None = None,
        session_type: str | None = None,
        connection_type: str | None = None,
    ) -> list[LinkSession]:
        """The open sessions for which all given conditions hold, the oldest first; of `node_id` at either end.

        Raises: UnknownNode, InvalidInput.
        """
        wanted = session_filter(
            node_id=None if node_id is None else self.find_id(node_id),
            status=status,
            session_type=session_type,
            connection_type=connection_type,
        )
        return self.domain.list_active_sessions(wanted)[0]

    # Heartbeats

    async def heartbeat(
        self,
        node_id: str,
        status: str = "online",
        metrics: Mapping[str, object] | None = None,
        *,
        actor: Actor = EMBEDDING_PROGRAM,
    ) -> Heartbeat:
        """Keep one beat; `metrics` are the other fields of a heartbeat: `cpu_load`, `mem_used_mb`, `seq`, ...

        A repeated beat (same incarnation and `seq`) is kept once; it gives the one that was kept if that is the newest,
        else itself. Raises: UnknownNode,
        InvalidInput, StaleIncarnation, StaleSequence.
        """
        beat = read_mapping({**(metrics or {}), "status": status}, HeartbeatInput)
        kept = await self.domain.update_heartbeat(self.roster.find(node_id), beat, actor=actor)
        return kept.heartbeat

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
        of a deregistered node still finds its beats. Raises: UnknownNode, InvalidInput.
        """
        return await self.domain.get_recent_heartbeats(node_id, minutes=minutes, limit=limit, resolution_s=resolution)

    async def series(self, node_id: str, minutes: float = 60, *, resolution: int | None = None) -> HeartbeatSeries:
        """The beats of the last `minutes` in buckets of `resolution` seconds, as columns; null where none came.

        From 1 to 60 seconds, or a multiple of 60; by default what gives at most 300 buckets. Where beats are no longer
        kept one by one, it is 60 at least: the answer says what it was. The id of a deregistered node still finds its
        beats. Raises: UnknownNode, InvalidInput.
        """
        return await self.domain.get_heartbeat_series(node_id, minutes=minutes, resolution_s=resolution)

    # Reading

    def get_node(self, node_id: str) -> Node:
        """The node with this id or name. Raises: UnknownNode."""
        return self.roster.find(node_id).node

    def presence(self, node_id: str) -> Presence:
        """What each beat changes of the node. Raises: UnknownNode."""
        return self.presence_of(self.roster.find(node_id))

    def presence_of(self, entry: Entry) -> Presence:
        """The presence that stands beside a roster entry."""
        return entry.presence(self.owner)

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
        sort: str = BY_NAME,
    ) -> list[Node]:
        """The nodes for which all given conditions hold, by name; `status` may list several, separated by commas.

        A `capability` is `key` or `key:value`; a `name` that ends in `*` is a prefix; of a `group` are the members of
        the groups below it, too. Sorted by one of `link.listing.SORTS`, with `-` in front the other way. Raises:
        InvalidInput, UnknownGroup.
        """
        wanted = node_filter(
            status=status,
            role=role,
            domain=domain,
            cluster_type=cluster_type,
            capability=capability,
            labels=labels,
            group=group,
            name=name,
        )
        page = list_page(self.roster, Listing(wanted=wanted, sort=sort), after=None)
        return [entry.node for entry in page.entries]

    def graph(
        self,
        *,
        include_offline: bool = False,
        domain: str | None = None,
        group: str | None = None,
        level: GraphLevel = "nodes",
    ) -> Graph:
        """The topology; nodes that are offline only if asked for. On level `groups` each group is drawn as one node.

        Raises: UnknownGroup.
        """
        wanted = graph_filter(include_offline=include_offline, domain=domain, group=group)
        scene, revision = scene_of(self.roster, wanted), self.roster.revision
        if level == "groups":
            return draw_groups(scene, named=self.roster.groups.named, revision=revision, cursor=self.cursor)
        return draw(scene, revision=revision, cursor=self.cursor)

    async def graph_at(
        self,
        at: Moment,
        *,
        include_offline: bool = False,
        domain: str | None = None,
        group: str | None = None,
        level: GraphLevel = "nodes",
    ) -> Graph:
        """The topology as it stood at a moment: a time, a revision, or a cursor.

        Raises: InvalidInput when it is none, or a revision that is still to come; CursorGone when the log does not
        reach back so far; UnknownGroup when there was none then.
        """
        wanted = graph_filter(include_offline=include_offline, domain=domain, group=group)
        return await self.past.at(at, wanted, level)

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
        """What differs between the topologies of two moments. Raises: as `graph_at`."""
        wanted = graph_filter(include_offline=include_offline, domain=domain, group=group)
        return await self.past.diff(since, until, wanted, level)

    async def status_history(
        self,
        node_id: str,
        since: Moment | None = None,
        until: Moment | None = None,
        *,
        limit: int = SPANS_DEFAULT,
    ) -> StatusHistory:
        """What the node's status was from one moment to another, why, and for how long it was up.

        By default over the last 24 h, or as far back as the log reaches. The newest `limit` spans; the uptime is of the
        whole window. The id of a deregistered node works too. Raises: UnknownNode; InvalidInput and CursorGone, which
        name `from` or `to`.
        """
        return await self.status_histories.of(node_id, since, until, limit=limit)

    async def timeline(
        self, since: Moment | None = None, until: Moment | None = None, *, bins: int = BINS_DEFAULT
    ) -> Timeline:
        """How many events of each kind there were, in at most `bins` bins of time; by default of the last 24 h.

        Raises: InvalidInput and CursorGone, which name `from`, `to` or `bins`.
        """
        return await self.timelines.between(since, until, bins=bins)

    def graph_json(
        self,
        *,
        include_offline: bool = False,
        domain: str | None = None,
        group: str | None = None,
        level: GraphLevel = "nodes",
    ) -> bytes:
        """What `graph` gives, as JSON. Of a large cluster that is one large copy, which `graph_parts` spares."""
        parts = self.graph_parts(include_offline=include_offline, domain=domain, group=group, level=level)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def graph_parts(
        self,
        *,
        include_offline: bool = False,
        domain: str | None = None,
        group: str | None = None,
        level: GraphLevel = "nodes",
    ) -> list[bytes]:
        """The same in parts that stand one after another: kept between calls, and mended where the cluster changed."""
        wanted = graph_filter(include_offline=include_offline, domain=domain, group=group)
        paint = self._drawings.paint if level == "nodes" else self._drawings.paint_groups
        return paint(wanted, cursor=self.cursor)

    def summary(self) -> Summary:
        """The cluster in figures: nodes by status, role and domain, open sessions, how the cache serves."""
        sentinel = self._engine.sentinel
        liveness = LivenessFigures(guards=sentinel.guard.reports(), capacity=sentinel.capacity.report())
        return summarise(
            self.roster, links=len(self.uplinks), stale_s=self.stale_s, liveness=liveness, cursor=self.cursor
        )

    def vitals(self) -> Vitals:
        """How the registry itself does: what it counts of its work. To be read before the loop goes on."""
        return read_vitals(self._engine, self.summary(), now=self.clock.now())

    # Events

    @property
    def cursor(self) -> str:
        """Where the log stands: watching from here tells everything that is not yet in the roster."""
        return self.log.cursor

    def subscribe(
        self,
        pattern: str = ">",
        since: str | None = None,
        *,
        transient: bool | None = None,
        paced: bool = False,
        damped: bool = False,
    ) -> Watch:
        """As `EventLog.watch`: `async with registry.subscribe(...) as events: async for event in events: ...`."""
        return self.log.watch(pattern, since, transient=transient, paced=paced, damped=damped)

    # Health

    @property
    def stale_s(self) -> float | None:
        """For how long reads may lag behind because the store is away; None while they do not."""
        since = self._engine.writer.away_since
        return None if since is None else self.clock.monotonic() - since

    def check_ready(self) -> None:
        """Return if changes are taken. Raises: StoreUnavailable."""
        if (away := self._engine.writer.away) is not None:
            raise StoreUnavailable(away.reason)
        if self.tasks.failed:
            raise StoreUnavailable(f"a task failed: {', '.join(self.tasks.failed)}")

    def find_id(self, ref: str) -> NodeId:
        """The id of the node with this id or name. Raises: UnknownNode."""
        return self.roster.find(ref).node.id
