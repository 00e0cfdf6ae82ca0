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
from typing import Final

import msgspec

from thunderline.block.beats import to_heartbeat
from thunderline.block.engines import store_from_url
from thunderline.block.store import Store
from thunderline.core.clock import Clock, SystemClock
from thunderline.core.errors import InvalidInput, StoreUnavailable, UnknownNode
from thunderline.core.host import host_name
from thunderline.core.ids import EventId, IdSource, NodeId, Revision, is_uuid, new_uuid7
from thunderline.core.inputs import (
    CapabilityAttrs,
    HeartbeatInput,
    NodeAttrs,
    NodePatch,
    OnlineInput,
    StatusInput,
    read_key,
    read_mapping,
)
from thunderline.core.logging import get_logger
from thunderline.core.records import (
    EntityKind,
    Event,
    Heartbeat,
    Node,
    NodeStatus,
    Presence,
    Reliability,
)
from thunderline.core.settings import Settings
from thunderline.core.tasks import Supervisor
from thunderline.flow.bus import Bus, LocalBus
from thunderline.flow.match import Pattern
from thunderline.flow.taxonomy import NODE_HEARTBEAT, TAXONOMY, TRANSIENT
from thunderline.link.actor import EMBEDDING_PROGRAM, Actor
from thunderline.link.checkpoint import PresenceCheckpoint
from thunderline.link.cursor import read_cursor, write_cursor
from thunderline.link.domain import NodeDomain
from thunderline.link.filters import node_filter
from thunderline.link.graph import Graph, draw
from thunderline.link.lanes import OWN_LANE_MAX, Lane
from thunderline.link.overlay import Overlay
from thunderline.link.plans import Announced
from thunderline.link.roster import Entry, NodeFilter, Roster
from thunderline.link.sentinel import Sentinel
from thunderline.link.uplinks import Uplinks
from thunderline.link.watch import Watch
from thunderline.link.writer import Writer

log = get_logger(__name__)

LOAD_PAGE: Final = 2_000
HEARTBEATS_MAX: Final = 10_000
"""Beats in one answer at most, the newest."""


EVENTS_LOOKED_AT_MAX: Final = 10_000
"""Events that one answer looks at, so that a rare pattern does not walk the whole log in one go."""


class EventPage(msgspec.Struct, frozen=True):
    """Events in revision order; `next_since` is the cursor behind what was looked at, matching or not."""

    events: list[Event]
    next_since: Revision
    revision: Revision


class Registry:
    """A running registry; made by `Registry.open`, which also ends it."""

    def __init__(
        self, store: Store, bus: Bus, *, settings: Settings, clock: Clock, ids: IdSource, rng: random.Random
    ) -> None:
        """Use `open`."""
        self.settings = settings
        self.clock = clock
        self.new_id = ids
        self.owner = settings.node_name or f"registry@{host_name()}"
        """This replica's name, which is also its name as a node where it is one."""
        self.store_location = store.location
        self.roster = Roster()
        self.controller_id: NodeId | None = None
        self.watches_ended = asyncio.Event()
        """Set once watches end, and none begins any more."""
        self._store = store
        self._bus = bus
        self._oldest = Revision(0)
        self._sentinel = Sentinel(self.roster, clock=clock, settings=settings, rng=rng)
        self.uplinks = Uplinks(self.roster, self._sentinel, holder=self.owner)
        self._checkpoint = PresenceCheckpoint(self.roster, clock=clock)
        self._writer = Writer(
            store,
            self.roster,
            bus,
            clock=clock,
            ids=ids,
            rng=rng,
            source=self.owner,
            limits={
                Lane.OWN: OWN_LANE_MAX,
                Lane.MUTATIONS: settings.mutation_lane_max,
                Lane.HEARTBEATS: settings.heartbeat_lane_max,
            },
            commit_max=settings.commit_max,
            checkpoint=self._checkpoint,
            settled=self._settled,
            beats_kept=self._heartbeat_events,
        )
        self.stats = self._writer.stats
        self.domain = NodeDomain(self._writer, self.roster, self._sentinel, self.uplinks, store, settings=settings)
        self.tasks = Supervisor()
        """The registry's own tasks; the server adds its own, so that readiness speaks for all of them."""

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
        )
        try:
            await registry._start()
        except BaseException:
            await store.close()
            raise
        try:
            yield registry
        finally:
            # Shielded: who is cancelled here goes at once, and what was queued is committed all the same.
            await asyncio.shield(asyncio.ensure_future(registry._stop()))

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
        self, node_id: str | None = None, minutes: float = 60, *, limit: int = HEARTBEATS_MAX
    ) -> list[Heartbeat]:
        """The beats of the last `minutes`, the newest `limit` of them, in ascending time; of one node, or of all.

        The id of a deregistered node still finds its beats. Raises: UnknownNode, InvalidInput.
        """
        if not 0 < minutes <= 60 * 24 * 366:
            raise InvalidInput("minutes", "should be more than 0 and at most 527,040")
        now_ms = self.clock.now_ms()
        wanted = None
        if node_id is not None:
            try:
                wanted = self.find_id(node_id)
            except UnknownNode:
                if not is_uuid(node_id):
                    raise
                wanted = NodeId(node_id.lower())
        return await self.domain.get_recent_heartbeats(
            wanted,
            since_ms=now_ms - round(minutes * 60_000),
            # What is committed within this very millisecond counts as past.
            until_ms=now_ms + 1,
            limit=min(limit, HEARTBEATS_MAX),
        )

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
        name: str | None = None,
    ) -> list[Node]:
        """The nodes for which all given conditions hold, by name; `status` may list several, separated by commas.

        A `capability` is `key` or `key:value`; a `name` that ends in `*` is a prefix. Raises: InvalidInput.
        """
        wanted = node_filter(
            status=status,
            role=role,
            domain=domain,
            cluster_type=cluster_type,
            capability=capability,
            labels=labels,
            name=name,
        )
        return [entry.node for entry in self.roster.select(wanted)[0]]

    def graph(self, *, include_offline: bool = False, domain: str | None = None) -> Graph:
        """The topology; nodes that are offline only if asked for."""
        shown = None if include_offline else frozenset(NodeStatus) - {NodeStatus.OFFLINE}
        entries, _ = self.roster.select(NodeFilter(status=shown, domain=domain))
        return draw(entries, controller=self.controller_id, revision=self.roster.revision, cursor=self.cursor)

    # Events

    @property
    def cursor(self) -> str:
        """Where the log stands: watching from here tells everything that is not yet in the roster."""
        return write_cursor(self.roster.log_id, self.roster.revision)

    def cursor_at(self, revision: Revision) -> str:
        """The cursor behind `revision`."""
        return write_cursor(self.roster.log_id, revision)

    def revision_of(self, cursor: str | None) -> Revision:
        """The revision that `cursor` stands behind. Raises: InvalidInput, CursorGone."""
        return read_cursor(cursor, log_id=self.roster.log_id, oldest=self._oldest, head=self.roster.revision)

    def subscribe(self, pattern: str = ">", since: str | None = None, *, transient: bool = True) -> Watch:
        """Watch events whose name matches, from now on, or everything after the cursor `since`.

        Without `transient` events, heartbeats are left out whatever the pattern, and are not made for this watch.
        Use it as `async with registry.subscribe(...) as events: async for event in events: ...`. Raises: InvalidInput,
        CursorGone.
        """
        start = self.roster.revision if since is None else self.revision_of(since)
        return Watch(
            self._store,
            self.roster,
            self._bus,
            pattern=Pattern(pattern, without=frozenset() if transient else TRANSIENT),
            since=start,
            backlog_max=self.settings.watch_backlog_max,
        )

    def end_watches(self) -> None:
        """End every watch, and let none begin: nothing else waits for them when the server is to stop. Idempotent."""
        self.watches_ended.set()
        self._bus.close()

    async def events_page(
        self, *, since: Revision, before: Revision | None = None, pattern: Pattern, limit: int
    ) -> EventPage:
        """At most `limit` matching events with since < revision (< before), in order.

        The page may hold fewer, or none, while there are more: go on from `next_since` until it is `revision`.
        """
        found: list[Event] = []
        looked_at = since
        head = self.roster.revision
        end = Revision(head + 1) if before is None else Revision(min(before, head + 1))
        furthest = min(end - 1, since + EVENTS_LOOKED_AT_MAX)
        while len(found) < limit and looked_at < furthest:
            page = await self._store.read_events(after=looked_at, before=end, limit=max(limit, 500))
            if not page:
                break
            for event in page:
                looked_at = event.revision
                if pattern.matches(event.name):
                    found.append(event)
                    if len(found) == limit:
                        break
        return EventPage(found, looked_at, head)

    # Health

    @property
    def stale_s(self) -> float | None:
        """For how long reads may lag behind because the store is away; None while they do not."""
        since = self._writer.away_since
        return None if since is None else self.clock.monotonic() - since

    def check_ready(self) -> None:
        """Return if changes are taken. Raises: StoreUnavailable."""
        if (away := self._writer.away) is not None:
            raise StoreUnavailable(away.reason)
        if self.tasks.failed:
            raise StoreUnavailable(f"a task failed: {', '.join(self.tasks.failed)}")

    def find_id(self, ref: str) -> NodeId:
        """The id of the node with this id or name. Raises: UnknownNode."""
        return self.roster.find(ref).node.id

    # Life

    async def _start(self) -> None:
        started = self.clock.monotonic()
        head = await self._store.open()
        self.roster.log_id, self.roster.revision, self._oldest = head.log_id, head.revision, head.oldest
        await self._load_nodes()
        await self._load_sessions()
        replayed = await self._checkpoint.restore(self._store)
        self._sentinel.start()
        self.tasks.start(self._writer.run(), name="writer")
        self.tasks.start(self._writer.watch(), name="writer watch")
        self.tasks.start(self._sentinel.run(self.domain), name="sentinel")
        log.info(
            "registry open",
            store=self.store_location,
            nodes=len(self.roster),
            revision=head.revision,
            beats_replayed=replayed,
            took_s=round(self.clock.monotonic() - started, 3),
        )

    async def _load_nodes(self) -> None:
        loaded: list[Node] = []
        after = None
        while page := await self._store.scan_nodes(after=after, limit=LOAD_PAGE):
            loaded += page
            after = page[-1].id
        self.roster.load(loaded)

    async def _load_sessions(self) -> None:
        after = None
        while page := await self._store.scan_open_sessions(after=after, limit=LOAD_PAGE):
            for session in page:
                self.roster.put_session(session)
            after = page[-1].id

    async def _stop(self) -> None:
        self._writer.close()
        await self.tasks.join("writer")
        await self.tasks.close()
        self.end_watches()
        await self._store.close()
        log.info("registry closed", revision=self.roster.revision)

    def _settled(self, node_id: NodeId, node: Node | None) -> None:
        self._sentinel.settled(node_id, node)
        self.uplinks.settled(node_id, node, reap=self.domain.reap_session)

    def _heartbeat_events(self, overlay: Overlay) -> list[Event]:
        if not self._bus.wants(NODE_HEARTBEAT):
            return []
        told = []
        for beat in overlay.beats:
            entry = self.roster.by_key(beat.node_key)
            if entry is None or beat.late_ms:
                continue
            told.append(
                Event(
                    id=EventId(self.new_id()),
                    revision=self.roster.revision,
                    name=NODE_HEARTBEAT,
                    at=overlay.now,
                    source=self.owner,
                    actor=f"node:{entry.node.name}",
                    subject=entry.node.name,
                    entity_kind=EntityKind.NODE,
                    entity_id=entry.node.id,
                    correlation_id=self.new_id(),
                    causation_id=None,
                    event_version=TAXONOMY[NODE_HEARTBEAT].version,
                    payload=to_heartbeat(beat, node_id=entry.node.id),
                    reliability=Reliability.TRANSIENT,
                )
            )
        return told
