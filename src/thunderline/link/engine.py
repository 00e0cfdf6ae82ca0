"""What runs behind a registry: roster, writer, liveness and links over one store, from opening it to closing it."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from thunderline.block.beats import to_heartbeat
from thunderline.block.store import Store
from thunderline.core.clock import Clock
from thunderline.core.ids import EventId, IdSource, NodeId, Revision
from thunderline.core.logging import get_logger
from thunderline.core.records import CapacityReport, EntityKind, Event, GuardReport, Node, Reliability
from thunderline.core.settings import Settings
from thunderline.core.tasks import Supervisor
from thunderline.core.tracing import Tracer
from thunderline.flow.bus import Bus, Buses, LocalBus
from thunderline.flow.gather import GatheringBus
from thunderline.flow.pace import PacedBus
from thunderline.flow.taxonomy import NODE_HEARTBEAT, TAXONOMY
from thunderline.link.access import Access
from thunderline.link.ages import Ages
from thunderline.link.alert_book import ALERTS, SILENCES, read_alert, read_silence
from thunderline.link.audit_trail import AuditTrail
from thunderline.link.capacity import CAPACITY_ID
from thunderline.link.checkpoint import PresenceCheckpoint
from thunderline.link.detection import Detection
from thunderline.link.event_log import EventLog
from thunderline.link.forgetting import Forgetting
from thunderline.link.group_tree import GroupFilter
from thunderline.link.guard import EVERYTHING, GUARDED, Scope
from thunderline.link.history import History
from thunderline.link.lanes import OWN_LANE_MAX, Lane
from thunderline.link.overlay import Overlay
from thunderline.link.refusals import Refusals
from thunderline.link.retention import Retention
from thunderline.link.roster import Roster
from thunderline.link.sentinel import Sentinel
from thunderline.link.snapshots import Snapshots
from thunderline.link.uplinks import Uplinks
from thunderline.link.writer import Writer

log = get_logger(__name__)

LOAD_PAGE: Final = 2_000


class Engine:
    """The running parts of one registry; `owner` is the replica's name, which is also its name as a node."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        *,
        owner: str,
        settings: Settings,
        clock: Clock,
        ids: IdSource,
        rng: random.Random,
        tracer: Tracer | None = None,
    ) -> None:
        self.store = store
        self.owner = owner
        self.roster = Roster()
        self.sentinel = Sentinel(self.roster, clock=clock, settings=settings, rng=rng)
        self.refusals = Refusals(clock=clock, ids=ids)
        self.access = Access(self.roster, self.refusals, own_name=owner, clock=clock)
        self.uplinks = Uplinks(self.roster, self.sentinel, holder=owner)
        self.tasks = Supervisor()
        self._gathering = GatheringBus(LocalBus(), clock=clock)
        self._paced = PacedBus(self._gathering, clock=clock)
        self.log = EventLog(store, self.roster, bus, self._paced, backlog_max=settings.watch_backlog_max)
        self.bus = Buses(bus, self._paced)
        self._clock = clock
        self._ids = ids
        self._checkpoint = PresenceCheckpoint(self.roster, clock=clock)
        self.writer = Writer(
            store,
            self.roster,
            self.bus,
            clock=clock,
            ids=ids,
            rng=rng,
            source=owner,
            limits={
                Lane.OWN: OWN_LANE_MAX,
                Lane.MUTATIONS: settings.mutation_lane_max,
                Lane.HEARTBEATS: settings.heartbeat_lane_max,
            },
            commit_max=settings.commit_max,
            checkpoint=self._checkpoint,
            settled=self._settled,
            token_settled=self.access.token_settled,
            beats_kept=self._heartbeat_events,
            turned_away=lambda actor, error: self.refusals.note(error, action="change the cluster", actor=actor),
            tracer=tracer,
        )
        self.ages = Ages(store, clock=clock)
        self.audit_trail = AuditTrail(
            store,
            ages=self.ages,
            clock=clock,
            settings=settings,
            rng=rng,
            store_is_away=lambda: self.writer.away is not None,
        )
        self.history = History(
            store,
            self.roster,
            clock=clock,
            settings=settings,
            rng=rng,
            ages=self.ages,
            store_is_away=lambda: self.writer.away is not None,
        )
        self.snapshots = Snapshots(
            store, self.roster, self.log, clock=clock, store_is_away=lambda: self.writer.away is not None
        )
        self.retention = Retention(
            store,
            self.log,
            self.snapshots,
            ages=self.ages,
            clock=clock,
            settings=settings,
            rng=rng,
            store_is_away=lambda: self.writer.away is not None,
        )
        self.forgetting = Forgetting(self.roster, self.writer, ages=self.ages, clock=clock, settings=settings, rng=rng)
        self.detection = Detection(self.writer, self.roster, self.sentinel, self.uplinks)

    async def start(self) -> None:
        """Open the store, load the roster, and begin to take changes.

        Raises: StoreLocked, StoreIncompatible, StoreUnavailable.
        """
        started = self._clock.monotonic()
        head = await self.store.open()
        self.roster.log_id, self.roster.revision, self.log.oldest = head.log_id, head.revision, head.oldest
        with _collector_at_rest():
            await self._load_tokens()
            await self._load_alerts()
            await self._load_groups()
            await self._load_nodes()
            await self._load_sessions()
            replayed = await self._checkpoint.restore(self.store)
            await self._take_up_reports(head.revision)
            self.sentinel.start()
        self.tasks.start(self.writer.run(), name="writer")
        self.tasks.start(self.writer.watch(), name="writer watch")
        self.tasks.start(self.sentinel.run(self.detection), name="sentinel")
        self.tasks.start(self.access.watch_expiry(), name="token expiry")
        self.tasks.start(self.refusals.run(self.writer), name="refusals")
        self.tasks.start(self.audit_trail.run(), name="audit trail")
        self.tasks.start(self.history.run(), name="history")
        self.tasks.start(self.snapshots.run(), name="snapshots")
        self.tasks.start(self.retention.run(), name="retention")
        self.tasks.start(self.forgetting.run(), name="forgetting")
        self.tasks.start(self._gathering.run(), name="gathering bus")
        self.tasks.start(self._paced.run(), name="paced bus")
        log.info(
            "registry open",
            store=self.store.location,
            nodes=len(self.roster),
            revision=head.revision,
            beats_replayed=replayed,
            took_s=round(self._clock.monotonic() - started, 3),
        )

    async def stop(self) -> None:
        """Refuse what is new, commit what is queued, end watches, close the store."""
        await self.refusals.tell(self.writer)
        self.writer.close()
        await self.tasks.join("writer")
        await self.tasks.close()
        self.log.end_watches()
        await self.store.close()
        log.info("registry closed", revision=self.roster.revision)

    async def _load_nodes(self) -> None:
        loaded: list[Node] = []
        after = None
        while page := await self.store.scan_nodes(after=after, limit=LOAD_PAGE):
            loaded += page
            after = page[-1].id
        self.roster.load(loaded)

    async def _load_sessions(self) -> None:
        after = None
        while page := await self.store.scan_open_sessions(after=after, limit=LOAD_PAGE):
            for session in page:
                self.roster.put_session(session)
            after = page[-1].id

    async def _load_tokens(self) -> None:
        after = None
        while page := await self.store.scan_tokens(after=after, limit=LOAD_PAGE):
            for token in page:
                self.roster.tokens.put(token)
            after = page[-1].id

    async def _load_alerts(self) -> None:
        after = None
        while page := await self.store.scan_documents(ALERTS, after=after, limit=LOAD_PAGE):
            for document in page:
                self.roster.alerts.put(read_alert(document))
            after = page[-1].key
        after = None
        while page := await self.store.scan_documents(SILENCES, after=after, limit=LOAD_PAGE):
            for document in page:
                self.roster.alerts.put_silence(document.key, read_silence(document))
            after = page[-1].key

    async def _load_groups(self) -> None:
        after = None
        while page := await self.store.scan_groups(after=after, limit=LOAD_PAGE):
            for group in page:
                self.roster.put_group(group)
            after = page[-1].id

    async def _take_up_reports(self, revision: Revision) -> None:
        """What an earlier process told of itself, and did not live to take back."""
        places = [group for kind in GUARDED for group in self.roster.groups.select(GroupFilter(group_type=kind))[0]]
        scopes = [Scope(EVERYTHING, None), *(Scope(group.name, group.group_type) for group in places)]
        guards = []
        for entity_id in [scope.id for scope in scopes]:
            event = await self.store.read_entity_at(entity_id, revision)
            if event is not None and isinstance(event.payload, GuardReport) and event.payload.engaged:
                guards.append(event.payload)
        self.sentinel.guard.start(guards)
        event = await self.store.read_entity_at(CAPACITY_ID, revision)
        if event is not None and isinstance(event.payload, CapacityReport):
            self.sentinel.capacity.exceeded = event.payload.exceeded

    def _settled(self, node_id: NodeId, node: Node | None) -> None:
        self.sentinel.settled(node_id, node)
        self.uplinks.settled(node_id, node, reap=self.detection.reap_session)

    def _heartbeat_events(self, overlay: Overlay) -> list[Event]:
        if not self.bus.wants(NODE_HEARTBEAT):
            return []
        told = []
        for beat in overlay.beats:
            entry = self.roster.by_key(beat.node_key)
            if entry is None or beat.late_ms:
                continue
            told.append(
                Event(
                    id=EventId(self._ids()),
                    revision=self.roster.revision,
                    name=NODE_HEARTBEAT,
                    at=overlay.now,
                    source=self.owner,
                    actor=f"node:{entry.node.name}",
                    subject=entry.node.name,
                    entity_kind=EntityKind.NODE,
                    entity_id=entry.node.id,
                    correlation_id=self._ids(),
                    causation_id=None,
                    event_version=TAXONOMY[NODE_HEARTBEAT].version,
                    payload=to_heartbeat(beat, node_id=entry.node.id),
                    reliability=Reliability.TRANSIENT,
                )
            )
        return told


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """A block in which the collector does not run: what is loaded stays, and would be walked again and again. Behind
    it that counts as old, which spares the next walk of what is young seconds."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # What the program has frozen itself, where it has, is to stay so.
        if not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()
        if was_enabled:
            gc.enable()
