"""How alerts get to a sink: in the order of the log, each until it is taken, behind a place that the store keeps.

What is told of an alert is told at least once, under an id that is the same each time. A sink that takes nothing holds
up itself alone. A silenced alert is passed over, and told when nothing silences it any more if it fires still.
"""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from collections import deque
from datetime import datetime
from typing import Final

import msgspec

from thunderline.block.store import Document
from thunderline.core.alerts import Alert, AlertState
from thunderline.core.clock import to_ms
from thunderline.core.errors import CursorGone, ShuttingDown, ThunderlineError, Unavailable, WatchCut
from thunderline.core.ids import Revision
from thunderline.core.logging import get_logger
from thunderline.core.records import Event
from thunderline.flow.taxonomy import ALERT_ACKNOWLEDGED
from thunderline.link.registry import Registry

log = get_logger(__name__)

PLACES: Final = "alert-sinks"
DEAD_LETTERS: Final = "dead-letters"

DEAD_MAX: Final = 1_000
"""Dead letters that are kept of one sink; beyond it the oldest go."""

RETRY_MIN_S: Final = 1.0
"""The first wait after an attempt that failed is up to so long; it doubles up to the sink's `retry_max`."""

HELD_LOOK_S: Final = 5.0
"""Between two looks at silences that may be over."""

PASSED_MAX: Final = 10_000
"""Events that are not ours, behind which the place is kept all the same."""

_AT_ONCE_MAX: Final = 100


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """That an alert fires, or is over. `id` is the same on every attempt, for every sink, and after a restart."""

    id: str
    at: datetime
    alert: Alert

    @property
    def state(self) -> AlertState:
        """What is told of it."""
        return self.alert.state


class NotTaken(Exception):
    """The sink did not take it; `is_final`: it would not take it next time either."""

    def __init__(self, reason: str, *, is_final: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_final = is_final
        self.retry_after_s = retry_after_s


class Sink(ABC):
    """Where alerts are told."""

    attempts_max: int = 1
    retry_max_s: float = 60.0
    repeat_s: float | None = None
    """So often it wants to be told again of all that fires; None: never."""

    @abstractmethod
    async def send(self, notification: Notification) -> None:
        """Tell of one. Raises: NotTaken."""

    async def repeat(self, alerts: list[Alert]) -> None:
        """Tell again that these fire, where `repeat_s` asks for it. Raises: NotTaken."""
        raise NotImplementedError

    async def close(self) -> None:
        """Give back what it holds; idempotent."""
        return


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """What could not be told."""

    sink: str
    notification: Notification
    reason: str
    attempts: int
    at: datetime


class _Place(msgspec.Struct, kw_only=True):
    """Up to where the log was told, and which alerts fire there that were passed over as silenced."""

    log_id: str
    revision: Revision
    held: dict[str, int] = {}
    """By id, when each fired, in milliseconds."""


_ENCODER: Final = msgspec.json.Encoder()
_PLACE: Final = msgspec.json.Decoder(_Place)


def notification_of(alert: Alert) -> Notification:
    """What is told of the alert as it is."""
    at = alert.resolved_at or alert.fired_at
    return Notification(id=f"{alert.id}-{to_ms(alert.fired_at)}-{alert.state.value}", at=at, alert=alert)


class Outlet:
    """One sink of one registry. `begin` first, then `run` and `run_held` as tasks, then `close`."""

    def __init__(self, name: str, sink: Sink, registry: Registry, *, rng: random.Random) -> None:
        self.name = name
        self.sink = sink
        self.told = self.dead = self.failures = 0
        """Since the start: what was taken, what became a dead letter, and attempts that failed."""
        self._registry = registry
        self._domain = registry.alerts
        self._clock = registry.clock
        self._rng = rng
        self._place = _Place(log_id="", revision=Revision(0))
        self._kept_revision = Revision(0)
        self._turn = asyncio.Lock()
        self._at_once: deque[Notification] = deque(maxlen=_AT_ONCE_MAX)
        self._told_at_once: deque[str] = deque(maxlen=_AT_ONCE_MAX)

    async def begin(self) -> None:
        """Find the place where an earlier process was; a new sink begins at the present. Raises: StoreUnavailable."""
        found = [each for each in await self._domain.documents(PLACES) if each.key == self.name]
        registry = self._registry
        head, log_id = registry.log.revision, registry.roster.log_id
        place = _PLACE.decode(found[0].body) if found else _Place(log_id=log_id, revision=head)
        if not registry.log.oldest <= place.revision <= head:
            log.error("alerts of before the log's beginning are not told", sink=self.name)
            place = _Place(log_id=log_id, revision=head, held=place.held)
        self._place = place
        self._kept_revision = place.revision
        if not found:
            await self._keep_place()

    async def run(self) -> None:
        """Tell of what is in the log, in order, until cancelled."""
        registry = self._registry
        while True:
            try:
                async with registry.subscribe("alert.>", registry.log.cursor_at(self._place.revision)) as events:
                    async for event in events:
                        async with self._turn:
                            await self._take(event)
            except WatchCut:
                continue
            except CursorGone:
                log.error("the log was compacted before its alerts were told", sink=self.name)
                self._place.revision = registry.log.oldest
            except ShuttingDown:
                return
            except Unavailable:
                await self._clock.sleep(RETRY_MIN_S)

    async def run_held(self) -> None:
        """Tell of what silences no longer keep, of what can be in no log, and again of what fires, until cancelled."""
        repeated_at = self._clock.monotonic()
        wait_s = HELD_LOOK_S if self.sink.repeat_s is None else min(HELD_LOOK_S, self.sink.repeat_s)
        while True:
            await self._clock.sleep(wait_s)
            await self._tell_what_waits()
            if self._place.held:
                async with self._turn:
                    await self._tell_held()
            repeat_s = self.sink.repeat_s
            if repeat_s is not None and self._clock.monotonic() - repeated_at >= repeat_s:
                repeated_at = self._clock.monotonic()
                await self._repeat()
            if self._registry.log.revision - self._kept_revision > PASSED_MAX and not self._turn.locked():
                await self._pass_over()

    async def _tell_what_waits(self) -> None:
        """Tell of what can be in no log yet. What is not taken waits for the next look, and all behind it, too; what is
        silenced waits for the log, and so for the end of the silence."""
        while self._at_once:
            notification = self._at_once[0]
            is_told = not self._domain.is_silenced(notification.alert) and await self._tell(notification)
            if is_told is None:
                return
            # The log may have told of it meanwhile.
            if self._at_once and self._at_once[0] is notification:
                self._at_once.popleft()
            if is_told:
                self._told_at_once.append(notification.id)

    def tell_at_once(self, alert: Alert) -> None:
        """Tell of an alert that cannot be in the log yet."""
        self._at_once.append(notification_of(alert))

    async def close(self) -> None:
        """Give back what the sink holds."""
        await self.sink.close()

    async def _take(self, event: Event) -> None:
        alert = event.payload
        if not isinstance(alert, Alert) or event.name == ALERT_ACKNOWLEDGED or event.revision <= self._place.revision:
            return
        notification = notification_of(alert)
        dead: DeadLetter | None = None
        if self._is_passed_over(alert) or notification.id in self._told_at_once:
            log.debug("alert not told", sink=self.name, alert=alert.id)
        else:
            dead = await self._deliver(notification)
        for waiting in [each for each in self._at_once if each.id == notification.id]:
            self._at_once.remove(waiting)
        self._place.revision = event.revision
        await self._keep_place(dead)

    def _is_passed_over(self, alert: Alert) -> bool:
        held = self._place.held
        if alert.state is AlertState.RESOLVED:
            return held.pop(alert.id, None) is not None
        if self._domain.is_silenced(alert):
            held[alert.id] = to_ms(alert.fired_at)
            return True
        held.pop(alert.id, None)
        return False

    async def _tell_held(self) -> None:
        for alert_id, fired_ms in list(self._place.held.items()):
            alert = self._domain.book.get(alert_id)
            if alert is None or alert.state is AlertState.RESOLVED or to_ms(alert.fired_at) != fired_ms:
                continue  # the log tells of that, too
            if self._domain.is_silenced(alert):
                continue
            dead = await self._deliver(notification_of(alert))
            self._place.held.pop(alert_id, None)
            await self._keep_place(dead)

    async def _repeat(self) -> None:
        held = self._place.held
        # One that was silenced after it was told goes on: who no longer hears of it would take it for resolved.
        firing = [alert for alert in self._domain.book.firing() if alert.id not in held]
        if not firing:
            return
        try:
            await self.sink.repeat(firing)
        except NotTaken as error:
            log.warning("sink does not take alerts again", sink=self.name, reason=error.reason)

    async def _deliver(self, notification: Notification) -> DeadLetter | None:
        """Tell until it is taken; gives what becomes of it where it is not."""
        attempts, wait_s = 0, RETRY_MIN_S
        while True:
            attempts += 1
            try:
                await self.sink.send(notification)
            except NotTaken as error:
                self.failures += 1
                if error.is_final or attempts >= self.sink.attempts_max:
                    self.dead += 1
                    log.error(
                        "alert could not be told",
                        sink=self.name,
                        notification=notification.id,
                        reason=error.reason,
                        attempts=attempts,
                    )
                    return DeadLetter(
                        sink=self.name,
                        notification=notification,
                        reason=error.reason,
                        attempts=attempts,
                        at=self._clock.now(),
                    )
                log.warning("alert not taken", sink=self.name, reason=error.reason, attempts=attempts)
                # Full jitter: many servers that lost one receiver do not come back to it together.
                least_s = min(error.retry_after_s or 0.0, self.sink.retry_max_s)
                await self._clock.sleep(max(least_s, self._rng.uniform(0, wait_s)))
                wait_s = min(wait_s * 2, self.sink.retry_max_s)
                continue
            self.told += 1
            return None

    async def _tell(self, notification: Notification) -> bool | None:
        """Try once; gives whether it was taken, None where it may be next time."""
        try:
            await self.sink.send(notification)
        except NotTaken as error:
            self.failures += 1
            log.warning("alert not taken", sink=self.name, reason=error.reason, attempts=1)
            return False if error.is_final else None
        self.told += 1
        return True

    async def _pass_over(self) -> None:
        """Keep a place behind events of others, so that a start does not read them all again."""
        async with self._turn:
            head = self._registry.log.revision
            newest = max((alert.revision for alert in self._domain.book), default=Revision(0))
            if newest <= self._place.revision:
                self._place.revision = head
                await self._keep_place()

    async def _keep_place(self, dead: DeadLetter | None = None) -> None:
        documents = [Document(shelf=PLACES, key=self.name, body=_ENCODER.encode(self._place))]
        removed: list[tuple[str, str]] = []
        revision = self._place.revision
        try:
            if dead is not None:
                prefix = f"{self.name}/"
                body = _ENCODER.encode(dead)
                key = f"{prefix}{to_ms(dead.at):015d}-{dead.notification.id}"
                documents.append(Document(shelf=DEAD_LETTERS, key=key, body=body))
                kept = [each.key for each in await self._domain.documents(DEAD_LETTERS) if each.key.startswith(prefix)]
                removed = [(DEAD_LETTERS, key) for key in kept[: max(0, len(kept) - DEAD_MAX + 1)]]
            await self._domain.keep_documents(documents, removed=removed)
        except ThunderlineError as error:
            # It is told once more after a restart, under the same id.
            log.warning("place of a sink not kept", sink=self.name, error=str(error))
        else:
            self._kept_revision = revision
