"""The alerts of one registry: follows its log, reads its figures, and keeps what fires.

Everything happens on the registry's loop. The machines change at once; what comes of it is committed behind them, in
order, and again where a commit did not succeed. A rule over the log is judged up to a moment only once the writer says
which events there are from before it (`AlertDomain.watermark`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

import msgspec

from thunderline.block.store import Document
from thunderline.core.alerts import Alert, PendingAlert
from thunderline.core.clock import to_ms
from thunderline.core.errors import (
    ContentRejected,
    CursorGone,
    OutcomeUnknown,
    ShuttingDown,
    ThunderlineError,
    Unavailable,
    WatchCut,
)
from thunderline.core.ids import Revision
from thunderline.core.logging import get_logger
from thunderline.core.records import CapacityReport, Event, GuardReport, Node, NodeGroup, RegistryReport
from thunderline.core.tasks import Supervisor
from thunderline.link.registry import Registry
from thunderline.prism.alerts.conditions import LogRules
from thunderline.prism.alerts.machine import Condition, Machine
from thunderline.prism.alerts.outlets import Outlet, Sink
from thunderline.prism.alerts.readings import Readings
from thunderline.prism.alerts.rules import FIGURES, AlertConfig, Kind

log = get_logger(__name__)

SHELF: Final = "alerting"
KEY: Final = "judged"

LOOK_S: Final = 1.0
"""Between two looks at what is due. When something fires does not depend on it, only when it is told."""

READ_S: Final = 15.0
"""Between two readings of figures."""

TIDY_S: Final = 60.0

UNKEPT_MAX: Final = 1_000
"""Events that may be judged again after a restart, where they made nothing fire."""

RECALL_MAX: Final = 20_000
"""Events from before that are read at a start, for what counts within a window."""

PAGE: Final = 500


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """How far the log was judged, as the store keeps it."""

    log_id: str
    revision: Revision
    now_ms: int
    last_ms: int
    hold_until_ms: int


_ENCODER: Final = msgspec.json.Encoder()
_JUDGED: Final = msgspec.json.Decoder(Judged)


class Alerting:
    """Runs the rules of `config`. `start` starts its tasks; `close` ends them, and keeps how far it came."""

    def __init__(
        self,
        registry: Registry,
        config: AlertConfig,
        *,
        sinks: Sequence[tuple[str, Sink]] = (),
        rng: random.Random | None = None,
        certificate_expires_at: Callable[[], datetime | None] | None = None,
    ) -> None:
        self.config = config
        self._registry = registry
        self._domain = registry.alerts
        self._clock = registry.clock
        rng = rng or random.Random()
        self._rng = rng
        self._tasks = Supervisor()
        self._rules = LogRules(config)
        self._figures = Machine(rule for rule in config.rules if rule.kind in FIGURES)
        self._figures_at = self._clock.monotonic()
        self._taken_up: set[str] = set()
        self._readings = Readings(registry, certificate_expires_at=certificate_expires_at)
        self._unkept: list[Alert] = []
        self._kept_revision = Revision(0)
        self._keeping = asyncio.Lock()
        self._moved = asyncio.Event()
        self._told_at_once: set[str] = set()
        self.outlets = [Outlet(name, sink, registry, rng=rng) for name, sink in sinks]

    async def start(self) -> None:
        """Take up what an earlier process left, then follow the log. Raises: StoreUnavailable."""
        await self._begin()
        for outlet in self.outlets:
            await outlet.begin()
        self._domain.book.pending = self._pending
        self._tasks.start(self._follow(), name="alerts")
        self._tasks.start(self._watch_time(), name="alerts due")
        self._tasks.start(self._read_figures(), name="alert figures")
        for outlet in self.outlets:
            self._tasks.start(outlet.run(), name=f"alert sink {outlet.name}")
            self._tasks.start(outlet.run_held(), name=f"held alerts of {outlet.name}")

    @property
    def failed(self) -> list[str]:
        """The tasks that ended by a bug."""
        return self._tasks.failed

    async def close(self) -> None:
        """End; what is not told yet is told after the next start."""
        await self._tasks.close()
        try:
            await self._keep()
            await self._domain.keep_documents([self._judged()])
            for outlet in self.outlets:
                await outlet.close()
        except ThunderlineError as error:
            log.warning("place in the log not kept, a part of it is judged again", error=str(error))

    # Beginning

    async def _begin(self) -> None:
        registry = self._registry
        head = registry.log.revision
        judged = await self._last_judged()
        firing = [alert for alert in self._domain.book.firing() if alert.rule in self._rules.machine.rules]
        nodes: dict[str, Node] = {entry.node.id: entry.node for entry in registry.roster}
        groups: dict[str, NodeGroup] = {group.id: group for group in registry.list_groups()}
        reports = await registry.log_reader.reports_at(head)
        if judged is None:
            last_ms = await self._time_of(head)
            start = Judged(
                log_id=registry.roster.log_id, revision=head, now_ms=last_ms, last_ms=last_ms, hold_until_ms=0
            )
            # What was before there were alerts is nobody's fault: it counts from now on, once nodes could come back.
            now_ms = self._clock.now_ms()
            start = msgspec.structs.replace(
                start, now_ms=max(now_ms, last_ms), hold_until_ms=now_ms + round(self.config.after_start_s * 1000)
            )
        else:
            start = judged
            await self._go_back(judged.revision, head, nodes, groups, reports)
        self._rules.begin(
            nodes=nodes.values(),
            groups=groups.values(),
            reports=reports.values(),
            revision=start.revision,
            now_ms=start.now_ms,
            last_ms=start.last_ms,
            hold_until_ms=start.hold_until_ms,
            registries=(registry.owner,),
        )
        await self._recall(start)
        self._rules.machine.restore(firing)
        self._kept_revision = start.revision
        if judged is None:
            await self._domain.keep_documents([self._judged()])
        known = self._rules.machine.rules.keys() | self._figures.rules.keys()
        for alert in self._domain.book.firing():
            if alert.rule not in known:
                # Its rule is gone: there is nobody left to say when it is over.
                self._unkept.append(msgspec.structs.replace(alert, resolved_at=self._clock.now()))

    async def _last_judged(self) -> Judged | None:
        """How far an earlier process came; None where that says nothing of this log."""
        found = {document.key: document for document in await self._domain.documents(SHELF)}
        if KEY not in found:
            return None
        judged = _JUDGED.decode(found[KEY].body)
        registry = self._registry
        if not registry.log.oldest <= judged.revision <= registry.log.revision:
            log.warning("the log does not reach back to where alerts were judged last", revision=judged.revision)
            return None
        return judged

    async def _go_back(
        self,
        revision: Revision,
        head: Revision,
        nodes: dict[str, Node],
        groups: dict[str, NodeGroup],
        reports: dict[str, RegistryReport],
    ) -> None:
        """Bring the present state back to what it was at `revision`: what changed since is put back."""
        if revision == head:
            return
        for change in await self._registry.log_reader.changes(after=revision, until=head):
            before = await self._registry.log_reader.entity_at(change.entity_id, revision)
            payload = change.payload
            state: dict[str, Node] | dict[str, NodeGroup] | dict[str, RegistryReport]
            if isinstance(payload, Node):
                state = nodes
            elif isinstance(payload, NodeGroup):
                state = groups
            elif isinstance(payload, GuardReport | CapacityReport):
                state = reports
            else:
                continue
            state.pop(change.entity_id, None)
            if before is not None and not before.deleted:
                state[change.entity_id] = before.payload  # type: ignore[assignment]  # of the kind that the change is of

    async def _recall(self, start: Judged) -> None:
        windows_s = [rule.window_s for rule in self.config.rules if rule.kind is Kind.CONNECTION_CHURN]
        if not windows_s:
            return
        since = await self._registry.log_reader.revision_at(start.now_ms - round(max(windows_s) * 1000))
        since = Revision(max(since, start.revision - RECALL_MAX, self._registry.log.oldest))
        while since < start.revision:
            page = await self._registry.log_reader.events(after=since, before=Revision(start.revision + 1), limit=PAGE)
            if not page:
                break
            for event in page:
                self._rules.recall(event)
            since = page[-1].revision
        self._rules.recalled()

    async def _time_of(self, revision: Revision) -> int:
        page = await self._registry.log_reader.events(
            after=Revision(revision - 1), before=Revision(revision + 1), limit=1
        )
        return to_ms(page[0].at) if page else 0

    # Running

    async def _follow(self) -> None:
        registry = self._registry
        while True:
            try:
                async with registry.subscribe(">", registry.log.cursor_at(self._rules.revision)) as events:
                    while True:
                        await self._apply(await events.take())
            except WatchCut:
                continue
            except CursorGone:
                log.error("the log was compacted before it was judged; alerts may have been missed")
                self._rules.revision = registry.log.oldest
            except ShuttingDown:
                return
            except Unavailable:
                await self._clock.sleep(LOOK_S)

    async def _apply(self, events: Sequence[Event]) -> None:
        for event in events:
            self._rules.apply(event)
        self._moved.set()
        if self._rules.machine.out or self._rules.revision - self._kept_revision > UNKEPT_MAX:
            await self._keep()

    async def _watch_time(self) -> None:
        tidied = self._clock.monotonic()
        while True:
            await self._clock.sleep(LOOK_S)
            try:
                await self._look()
                if self._clock.monotonic() - tidied >= TIDY_S:
                    tidied = self._clock.monotonic()
                    await self._domain.tidy()
            except (Unavailable, OutcomeUnknown, ContentRejected) as error:
                log.debug("alerts wait for the store", error=str(error))

    async def _look(self) -> None:
        due_ms = self._rules.next_due_ms()
        if due_ms is not None and due_ms <= self._clock.now_ms():
            now_ms, revision = await self._domain.watermark()
            while self._rules.revision < revision:
                self._moved.clear()
                await self._moved.wait()
            self._rules.advance(now_ms)
        if self._unkept or self._rules.machine.out or self._figures.out:
            await self._keep()

    async def _read_figures(self) -> None:
        while True:
            for rule in self._figures.rules.values():
                conditions = self._in_time_of_figures(await self._readings.read(rule))
                if rule.name in self._taken_up:
                    self._figures.only(rule, conditions)
                else:
                    self._taken_up.add(rule.name)
                    firing = [alert for alert in self._domain.book.firing() if alert.rule == rule.name]
                    self._figures.take_up(rule, conditions, firing)
            await self._keep()
            due_ms = self._figures.next_due_ms()
            wait_s = READ_S if due_ms is None else (due_ms - self._figures.now_ms) / 1000
            await self._clock.sleep(min(READ_S, max(LOOK_S, wait_s)) * self._rng.uniform(0.9, 1.0))

    def _in_time_of_figures(self, conditions: list[Condition]) -> list[Condition]:
        """What was just read, once the figures' time is the present: wall time, but where that has gone back it goes on
        from where it was, as the monotonic clock does. Else nothing would be due until wall time has caught up, and
        what begins to hold would seem to hold for long."""
        wall_ms, monotonic = self._clock.now_ms(), self._clock.monotonic()
        passed_ms = int((monotonic - self._figures_at) * 1000)
        now_ms = max(wall_ms, self._figures.now_ms + passed_ms)
        self._figures_at = monotonic
        self._figures.advance(now_ms)
        ahead_ms = now_ms - wall_ms
        if not ahead_ms:
            return conditions
        return [msgspec.structs.replace(each, since_ms=each.since_ms + ahead_ms) for each in conditions]

    # Keeping

    async def _keep(self) -> None:
        """Commit what fired and was resolved, with how far the log was judged. What is not committed stays."""
        async with self._keeping:
            for machine in (self._rules.machine, self._figures):
                self._unkept += machine.out
                machine.out = []
            is_far = self._rules.revision - self._kept_revision > UNKEPT_MAX
            if not self._unkept and not is_far:
                return
            changes = list(self._unkept)
            judged, revision = self._judged(), self._rules.revision
            try:
                await self._domain.keep(changes, [judged])
            except (Unavailable, OutcomeUnknown) as error:
                log.debug("alerts not kept yet", error=str(error))
                await self._tell_at_once(changes)
                return
            except ContentRejected as error:
                log.error("alerts cannot be kept, and are lost", alerts=len(changes), reason=error.reason)
            del self._unkept[: len(changes)]
            self._kept_revision = revision
            self._told_at_once.clear()

    async def _tell_at_once(self, alerts: Sequence[Alert]) -> None:
        """Tell of what can be in no log at present, because that is what it is about: the store is away."""
        for alert in alerts:
            rule = self._figures.rules.get(alert.rule)
            key = f"{alert.id}-{alert.state}"
            if rule is not None and rule.kind is Kind.STORE_AWAY and key not in self._told_at_once:
                self._told_at_once.add(key)
                for outlet in self.outlets:
                    outlet.tell_at_once(alert)

    def _judged(self) -> Document:
        rules = self._rules
        judged = Judged(
            log_id=self._registry.roster.log_id,
            revision=rules.revision,
            now_ms=rules.machine.now_ms,
            last_ms=rules.last_ms,
            hold_until_ms=rules.machine.hold_until_ms,
        )
        return Document(shelf=SHELF, key=KEY, body=_ENCODER.encode(judged))

    def _pending(self) -> list[PendingAlert]:
        found = [*self._rules.machine.pending(), *self._figures.pending()]
        return sorted(found, key=lambda alert: alert.starts_at)
