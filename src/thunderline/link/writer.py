"""The commit pipeline: one writer, through which every change of this process passes.

What waits when a commit returns is the next batch. A batch is planned on an overlay, written in one transaction, and
only then, in this order: the roster changes, callers are answered, subscribers are told. Its invariants:

1. Acknowledged means durable: an operation is answered after the commit that holds it.
2. Readers see committed state only, and their own writes.
3. Event revisions have no gaps; delivery order is revision order is commit order.
4. Lanes are bounded; a full lane or an absent store refuses with an error that says when to retry.
5. A write refused during shutdown raises.

A batch that the store rejects for its content is halved until the culprit fails alone. When the outcome of a commit is
unknown, nothing else is written until the store has told whether the batch is there.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec

from thunderline.block.store import Store
from thunderline.core.clock import Clock, from_ms
from thunderline.core.errors import (
    ContentRejected,
    NotPermitted,
    OutcomeUnknown,
    ShuttingDown,
    StoreUnavailable,
    ThunderlineError,
    Unauthenticated,
)
from thunderline.core.ids import BatchId, IdSource, NodeId, TokenId
from thunderline.core.logging import get_logger
from thunderline.core.records import Event, Node
from thunderline.core.tracing import CommitReport, Tracer
from thunderline.flow.bus import Publisher
from thunderline.link.actor import Actor
from thunderline.link.checkpoint import PresenceCheckpoint
from thunderline.link.lanes import AuditedCall, Call, Lane, Lanes, Operation
from thunderline.link.meters import REJECTED, UNAVAILABLE, UNKNOWN, CommitMeters
from thunderline.link.overlay import Overlay
from thunderline.link.roster import Roster

log = get_logger(__name__)

T = TypeVar("T")

RETRY_MIN_S: Final = 0.1
RETRY_MAX_S: Final = 2.0
"""Bounds of the wait between two looks at a store that is away; it doubles, with jitter, until a commit succeeds: a
look may succeed where a commit does not, and then the store must not come and go many times a second."""

COMMIT_PATIENCE_S: Final = 10.0
"""A commit that takes longer, or whose outcome stays unknown for longer, keeps nobody waiting: its callers are told
that the outcome is unknown, and the store counts as away until it has returned."""

WATCH_S: Final = 1.0
"""Between two looks at how long the present commit has been taking."""

SETTLE_ATTEMPTS: Final = 5
"""Looks for the outcome of a commit during shutdown before its callers are told that it is unknown."""

Outcome = tuple[Operation, Any, BaseException | None]


class CommitStats(msgspec.Struct):
    """How long commits took since that was last read."""

    latency_sum_s: float = 0.0
    latency_count: int = 0

    def read_latency_ms(self) -> float | None:
        """Mean time of a commit since the last call, None when there was none."""
        if not self.latency_count:
            return None
        mean_ms = self.latency_sum_s / self.latency_count * 1000
        self.latency_sum_s, self.latency_count = 0.0, 0
        return round(mean_ms, 3)


class _Laps:
    """When each part of a commit was done, in monotonic time; kept where there are traces."""

    __slots__ = ("answered_at", "at_ms", "began_at", "planned_at", "stored_at")

    def __init__(self, clock: Clock) -> None:
        self.at_ms = clock.now_ms()
        self.began_at = self.planned_at = self.stored_at = self.answered_at = clock.monotonic()


class Writer:
    """Owns the roster's changes. `run` is its task; `submit` hands it work from the same event loop."""

    def __init__(
        self,
        store: Store,
        roster: Roster,
        bus: Publisher,
        *,
        clock: Clock,
        ids: IdSource,
        rng: random.Random,
        source: str,
        limits: dict[Lane, int],
        commit_max: int,
        checkpoint: PresenceCheckpoint,
        settled: Callable[[NodeId, Node | None], None],
        token_settled: Callable[[TokenId], None],
        beats_kept: Callable[[Overlay], list[Event]],
        turned_away: Callable[[Actor, ThunderlineError], None],
        tracer: Tracer | None = None,
    ) -> None:
        """`settled` hears of every node that a commit touched (None: removed), and `token_settled` of every token,
        before its callers do; `beats_kept` gives the transient events of a committed overlay; `turned_away` hears of
        who was refused when the turn came; `tracer` of each commit, and None costs none of them anything."""
        self.stats = CommitStats()
        self.meters = CommitMeters()
        self._store = store
        self._roster = roster
        self._bus = bus
        self._clock = clock
        self._ids = ids
        self._rng = rng
        self._source = source
        self.lanes = Lanes(limits)
        self._commit_max = commit_max
        self._checkpoint = checkpoint
        self._settled = settled
        self._token_settled = token_settled
        self._beats_kept = beats_kept
        self._turned_away = turned_away
        self._tracer = tracer
        self._closing = False
        self._away: StoreUnavailable | None = None
        self._away_since: float | None = None
        self._in_flight: list[Operation] = []
        self._commit_started: float | None = None
        self._retry_s = RETRY_MIN_S

    @property
    def away(self) -> StoreUnavailable | None:
        """Why no change can be committed at present; None while changes are taken."""
        return self._away

    @property
    def away_since(self) -> float | None:
        """Monotonic time since which the store takes no writes; None while it does."""
        return self._away_since

    @property
    def under_way_s(self) -> float:
        """For how long the present commit has been taking; 0 while there is none."""
        started = self._commit_started
        return 0.0 if started is None else self._clock.monotonic() - started

    def put(self, lane: Lane, operation: Operation) -> None:
        """Queue a change, which is answered once its commit is durable.

        Raises: Overloaded, StoreUnavailable, ShuttingDown, each before anything was queued.
        """
        if self._closing:
            raise ShuttingDown
        if self._away is not None:
            raise StoreUnavailable(self._away.reason)
        self.lanes.put(lane, operation)

    def submit(
        self, lane: Lane, plan: Callable[[Overlay], T | ThunderlineError], *, actor: Actor, audited: bool = False
    ) -> asyncio.Future[T]:
        """Queue a change as `put` does; the future gives what `plan` gave, or raises what it raised.

        `audited`: what it changes stands in the audit log, too, written in the same transaction.
        """
        call = AuditedCall(plan, actor=actor) if audited else Call(plan, actor=actor)
        if self._tracer is not None and lane is Lane.MUTATIONS:
            call.waiter = self._tracer.current()
        self.put(lane, call)
        return call.done

    async def catch_up(self, *, actor: Actor) -> None:
        """Return once the roster has what is durable by now: a commit under way may be, and is not in it yet.

        Raises: what `put` does; StoreUnavailable when that commit fails.
        """
        if self._commit_started is not None:
            await self.submit(Lane.MUTATIONS, lambda overlay: None, actor=actor)

    async def run(self) -> None:
        """Commit until `close` was called and the lanes are empty."""
        while True:
            await self.lanes.wait()
            operations = self.lanes.take(self._commit_max)
            if operations:
                try:
                    await self._commit(operations)
                except BaseException as error:
                    self._broke(operations, error)
                    raise
            elif self._closing:
                return

    async def watch(self) -> None:
        """Let nobody wait for ever for a store that does not return, until cancelled."""
        seen: float | None = None
        looks = 0
        while True:
            await self._clock.sleep(WATCH_S)
            if self._commit_started is None or self._commit_started != seen:
                seen, looks = self._commit_started, 0
                continue
            # Looks are counted, not seconds: after a pause of our own the commit has had no time to return.
            looks += 1
            if looks * WATCH_S < COMMIT_PATIENCE_S:
                continue
            slow = StoreUnavailable(f"a commit has been under way for {self._clock.monotonic() - seen:.0f} s")
            self._went_away(slow)
            for operation in self._in_flight:
                operation.fail(OutcomeUnknown(slow.reason))
            self._refuse_queued(slow)

    def close(self) -> None:
        """Take nothing new; `run` returns when what is queued is committed, or has failed."""
        self._closing = True
        self.lanes.close()

    async def _commit(self, operations: list[Operation]) -> None:
        laps = None if self._tracer is None else _Laps(self._clock)
        overlay, outcomes = self._plan(operations)
        if overlay.is_empty:
            _answer(outcomes)
            return
        batch_id = BatchId(self._ids())
        batch = overlay.batch(
            batch_id, presence=self._checkpoint.take_rows(), presence_block=self._checkpoint.finished_block()
        )
        started = self._commit_started = self._clock.monotonic()
        self._in_flight = operations
        block_id: int | None = None
        if laps is not None:
            laps.planned_at = started
        try:
            block_id = await self._store.commit(batch)
            self._came_back()  # it may have been given up on meanwhile
        except ContentRejected as error:
            self.meters.errors[REJECTED] += 1
            if laps is not None:
                self._trace_failure(REJECTED, operations, overlay, laps)
            self._commit_over()
            self._checkpoint.put_back()
            await self._halve(operations, error)
            return
        except StoreUnavailable as error:
            self.meters.errors[UNAVAILABLE] += 1
            if laps is not None:
                self._trace_failure(UNAVAILABLE, operations, overlay, laps)
            self._commit_over()
            self._checkpoint.put_back()
            await self._store_lost(operations, error)
            return
        except OutcomeUnknown as error:
            self.meters.errors[UNKNOWN] += 1
            log.warning("commit outcome unknown", batch=batch_id, reason=error.reason)
            lost = StoreUnavailable(error.reason)
            self._went_away(lost)
            self._refuse_queued(lost)
            landed = await self._settle(batch_id)
            if landed is not True:
                if laps is not None:
                    self._trace_failure(UNKNOWN, operations, overlay, laps)
                self._checkpoint.put_back()
                if landed is False and self._retry_s == RETRY_MIN_S:
                    # What can be asked need not take a batch; a connection that was merely lost, though, is back.
                    await self._look()
                    self._retry_s *= 2
                for operation in operations:
                    operation.fail(error if landed is None else lost)
                self._commit_over()
                if self._away is not None:
                    await self._wait_for_store()
                return
        self._commit_over()
        self._retry_s = RETRY_MIN_S
        stored_at = self._clock.monotonic()
        took_s = stored_at - started
        self.stats.latency_sum_s += took_s
        self.stats.latency_count += 1
        self.meters.duration_s.add(took_s)
        self.meters.operations.add(len(operations))
        self.meters.beats += len(overlay.beats)
        self.meters.events.update(event.name for event in overlay.events)
        if laps is not None:
            laps.stored_at = stored_at
        self._committed(overlay, outcomes, block_id, laps)
        if laps is not None:
            self._trace(operations, overlay, laps)

    def _trace_failure(self, kind: str, operations: list[Operation], overlay: Overlay, laps: _Laps) -> None:
        laps.stored_at = laps.answered_at = self._clock.monotonic()
        self._trace(operations, overlay, laps, error=kind)

    def _trace(self, operations: list[Operation], overlay: Overlay, laps: _Laps, *, error: str | None = None) -> None:
        assert self._tracer is not None
        # One span may wait for several operations; what stands for it says nothing of equality.
        waiting = {id(each.waiter): each.waiter for each in operations if each.waiter is not None}
        report = CommitReport(
            at_ms=laps.at_ms,
            operations=len(operations),
            beats=len(overlay.beats),
            events=len(overlay.events),
            revision=self._roster.revision,
            plan_s=laps.planned_at - laps.began_at,
            store_s=laps.stored_at - laps.planned_at,
            answer_s=laps.answered_at - laps.stored_at,
            fan_out_s=0.0 if error is not None else self._clock.monotonic() - laps.answered_at,
            listeners=self._bus.listeners,
            waiting=tuple(waiting.values()),
            error=error,
        )
        try:
            self._tracer.committed(report)
        except Exception:
            # A bug in who only looks on must not end the writer that everybody depends on.
            log.exception("commit not traced")

    def _commit_over(self) -> None:
        self._commit_started = None
        self._in_flight = []

    def _plan(self, operations: list[Operation]) -> tuple[Overlay, list[Outcome]]:
        now_ms = self._clock.now_ms()
        overlay = Overlay(self._roster, now=from_ms(now_ms), now_ms=now_ms, source=self._source, ids=self._ids)
        outcomes: list[Outcome] = []
        for operation in operations:
            savepoint = overlay.begin(operation.actor)
            try:
                overlay.check_actor()
                outcomes.append((operation, operation.plan(overlay), None))
                if operation.is_audited:
                    overlay.note_change(savepoint)
            except ThunderlineError as error:
                overlay.roll_back(savepoint)
                if isinstance(error, Unauthenticated | NotPermitted):
                    self._turned_away(operation.actor, error)
                outcomes.append((operation, None, error))
            except Exception as error:
                # A bug in one action must not end the writer that everybody depends on.
                log.exception("operation failed to plan", actor=str(operation.actor))
                overlay.roll_back(savepoint)
                outcomes.append((operation, None, error))
        return overlay, outcomes

    def _committed(self, overlay: Overlay, outcomes: list[Outcome], block_id: int | None, laps: _Laps | None) -> None:
        overlay.apply()
        self._checkpoint.beats_committed(overlay.beats, block_id)
        for node_id in overlay.changed_nodes():
            self._settled(node_id, overlay.find(node_id))
        for token_id in overlay.changed_tokens():
            self._token_settled(token_id)
        _answer(outcomes)
        if laps is not None:
            laps.answered_at = self._clock.monotonic()
        if overlay.events:
            self._bus.publish(overlay.events)
        if overlay.beats and (told := self._beats_kept(overlay)):
            self._bus.publish(told)

    async def _halve(self, operations: list[Operation], error: ContentRejected) -> None:
        if len(operations) == 1:
            log.error("store rejects an operation's content", actor=str(operations[0].actor), reason=error.reason)
            operations[0].fail(error)
            return
        middle = len(operations) // 2
        for half in (operations[:middle], operations[middle:]):
            # The store may have gone in between; then the rest is refused like everything else.
            if self._away is not None:
                for operation in half:
                    operation.fail(StoreUnavailable(self._away.reason))
            else:
                await self._commit(half)

    async def _store_lost(self, operations: list[Operation], error: StoreUnavailable) -> None:
        self._went_away(error)
        for operation in operations:
            operation.fail(error)
        self._refuse_queued(error)
        await self._wait_for_store()

    def _refuse_queued(self, error: StoreUnavailable) -> None:
        while queued := self.lanes.take(self._commit_max):
            for operation in queued:
                operation.fail(error)

    def _broke(self, operations: list[Operation], error: BaseException) -> None:
        """The writer ends for a reason that it does not know: nobody may wait for it any longer."""
        unknown = OutcomeUnknown(f"the writer failed: {type(error).__name__}")
        for operation in operations:
            operation.fail(unknown)
        self._went_away(StoreUnavailable("the writer failed; the process has to be restarted"))
        self._refuse_queued(StoreUnavailable("the writer failed"))

    def _went_away(self, error: StoreUnavailable) -> None:
        if self._away is None:
            log.error("store is away", reason=error.reason)
            self._away_since = self._clock.monotonic()
        self._away = error

    def _came_back(self) -> None:
        if self._away_since is not None:
            log.info("store is back", away_s=round(self._clock.monotonic() - self._away_since, 3))
        self._away = self._away_since = None

    def _still_away(self, error: StoreUnavailable | OutcomeUnknown) -> None:
        # Once for each reason: a disk may stay full for days.
        if self._away is None or error.reason != self._away.reason:
            log.warning("store still away", reason=error.reason)
            self._away = StoreUnavailable(error.reason)

    async def _wait_for_store(self) -> None:
        while not self._closing:
            await self._pause()
            if await self._look():
                return

    async def _look(self) -> bool:
        """Whether the store takes changes again."""
        try:
            await self._store.probe()
        except (StoreUnavailable, OutcomeUnknown) as error:
            self._still_away(error)
            return False
        self._came_back()
        return True

    async def _pause(self) -> None:
        await self._clock.sleep(self._retry_s * self._rng.uniform(0.5, 1.0))
        self._retry_s = min(self._retry_s * 2, RETRY_MAX_S)

    async def _settle(self, batch_id: BatchId) -> bool | None:
        """Whether the batch is in the store; None when that cannot be found out before the process ends."""
        attempts = 0
        while not self._closing or attempts < SETTLE_ATTEMPTS:
            attempts += 1
            try:
                landed = await self._store.committed(batch_id)
            except StoreUnavailable as error:
                self._still_away(error)
                await self._pause()
                continue
            if landed:
                self._came_back()
            return landed
        return None


def _answer(outcomes: list[Outcome]) -> None:
    for operation, result, error in outcomes:
        if error is None:
            operation.answer(result)
        else:
            operation.fail(error)
