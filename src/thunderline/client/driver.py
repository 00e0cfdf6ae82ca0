"""What keeps a link alive: one task that connects, beats, reads, and connects again, all on the injected clock.

It waits for whichever comes first of its own few children (a connection being opened, a message, a frame on its way
out, figures being read), a call from outside, and the nearest deadline; then it acts on all of them. Nothing in it
relies on the loop being on time: a process that stood still acts once on everything that it missed.

It does not guarantee that a beat is delivered: what the backlog cannot hold is dropped, counted and logged.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from typing import Any, Final, assert_never

import msgspec

from thunderline.client.backoff import Backoff
from thunderline.client.errors import ServerUnreachable, Unauthorized
from thunderline.client.keeping import Keeping
from thunderline.client.line import Line
from thunderline.client.link_errors import ConnectionLost, LinkEnded, LinkLeft, LinkTimeout, link_ended
from thunderline.client.link_stats import LinkStats
from thunderline.client.readings import BARE, Readings
from thunderline.client.receipts import Receipts
from thunderline.core.clock import Clock
from thunderline.core.errors import ThunderlineError
from thunderline.core.inputs import HeartbeatInput
from thunderline.core.logging import get_logger
from thunderline.wire.frames import Links
from thunderline.wire.node_end import (
    Acked,
    BeatRefused,
    Broken,
    DrainAsked,
    Ended,
    IntervalChanged,
    Left,
    LinkEvent,
    Lost,
    NodeEnd,
    State,
    Troubled,
    Welcomed,
)

log = get_logger(__name__)

CONNECT_TIMEOUT_S: Final = 10.0
WELCOME_TIMEOUT_S: Final = 10.0
SILENCE_S: Final = 15.0
"""A connection on which something was sent and nothing came back for so long is given up. Longer than the 10 s after
which the registry says that it does not know what became of a beat."""

LEAVE_TIMEOUT_S: Final = 5.0
"""How long a goodbye may take to become durable."""

LIVED_S: Final = 5.0
"""A link that stood for so long begins its waits anew; one that is cut off at once each time keeps waiting longer."""

JITTER: Final = 0.1
"""Part of an interval by which a beat may come early: links that were made together drift apart."""

READ_MAX_S: Final = 5.0
"""How long figures may take at most; a beat waits no longer for them."""

STOOD_STILL_S: Final = 1.0
"""This much later than asked for means that the process, or its loop, stood still."""

SMOOTHING: Final = 1 / 8
"""Weight of a new round trip. Source: RFC 6298, section 2."""


class Driver:
    """Drives `end` over `line` until it has ended; `ended` then holds why, None when this end wanted it."""

    def __init__(
        self,
        end: NodeEnd,
        *,
        line: Line,
        clock: Clock,
        rng: random.Random,
        readings: Readings,
        keeping: Keeping,
        open_timeout_s: float | None,
    ) -> None:
        self._end = end
        self._line = line
        self._url = line.url
        self._clock = clock
        self._rng = rng
        self._readings = readings
        self._keeping = keeping
        self._open_timeout_s = open_timeout_s
        self._backoff = Backoff(rng)
        self.receipts = Receipts()
        # Beats by hand that wait for room, in the order of their calls, and who waits for them.
        self._queue: deque[tuple[HeartbeatInput, asyncio.Future[None]]] = deque()
        loop = asyncio.get_running_loop()
        self.welcomed: asyncio.Future[Welcomed] = loop.create_future()
        """The first welcome; where it brought a credential, once that is kept."""
        self.ended: asyncio.Future[ThunderlineError | None] = loop.create_future()
        self.latest: Welcomed | None = None
        """The welcome of the present link, or of the one before."""
        self.round_trip_s: float | None = None
        self._woken: asyncio.Future[None] = loop.create_future()
        self._reading: asyncio.Task[HeartbeatInput] | None = None
        self._open_by: float | None = None
        self._welcome_by: float | None = None
        self._linked_by: float | None = None
        self._read_by: float | None = None
        self._left_by: float | None = None
        self._connect_at: float | None = None
        self._move_at: float | None = None
        self._beat_at: float | None = None
        self._linked_at: float | None = None
        self._leaving = self._abandoned = False
        self._goodbye: str | None = None
        self._trouble: ThunderlineError | None = None
        self._told: str | None = None
        self._told_dropped = False
        self._links = self._resumed = self._acked = self._late = self._late_told = 0

    @property
    def stats(self) -> LinkStats:
        """The counters as they stand."""
        return LinkStats(
            links=self._links,
            resumed=self._resumed,
            beats_taken=self._end.last_seq,
            beats_acked=self._acked,
            beats_late=self._late,
            beats_refused=self._end.refused,
            beats_dropped=self._end.backlog.dropped,
            backlog=len(self._end.backlog),
        )

    def take(self, figures: HeartbeatInput) -> asyncio.Future[None]:
        """Done when the beat is durable; its exception says why it never will be.

        It is taken now and sent as soon as that can be. While the registry acknowledges beats, but more slowly than
        they come, it is taken in its turn, unless it was cancelled until then.
        """
        receipt: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((figures, receipt))
        self._take_queued(self._clock.monotonic())
        self._wake()
        return receipt

    def report(self, seen: Links) -> None:
        """Let the registry know these sessions with other nodes."""
        self._end.report(seen)
        self._wake()

    def leave(self, reason: str | None) -> None:
        """Say goodbye and end; without a link, end."""
        self._leaving, self._goodbye = True, reason
        self._wake()

    def abandon(self) -> None:
        """End at once, without goodbye."""
        self._abandoned = True
        self._finish(None)
        self._wake()

    async def run(self) -> None:
        """Keep the link until it ends for good or is left. Cancelled, it drops the connection without goodbye."""
        now = self._clock.monotonic()
        self._connect_at = now
        self._linked_by = None if self._open_timeout_s is None else now + self._open_timeout_s
        try:
            while not self.ended.done():
                self._step(self._clock.monotonic())
                if not self.ended.done():
                    await self._wait()
            if not self._abandoned:
                self._line.part(1000, "")
        finally:
            self._finish(LinkEnded("internal_error", "the link's task failed; the log has the details"))
            if self._reading is not None:
                self._reading.cancel()
            self._end_receipts(self.ended.result() or LinkLeft())
            await self._line.close()
            await self._keeping.close()

    def _step(self, now: float) -> None:
        """Act on everything that is there to be acted on."""
        self._take_opened(now)
        self._take_received(now)
        self._line.take_sent()
        self._take_read(now)
        self._take_kept(now)
        self._keep_link_deadlines(now)
        if self.ended.done():
            return
        self._keep_beats(now)
        self._take_queued(now)
        self._send_next(now)
        self._settle()

    async def _wait(self) -> None:
        """Return when something has to be done."""
        waiting: set[asyncio.Future[Any]] = {*self._line.children, *self._keeping.children, self._woken}
        if self._reading is not None:
            waiting.add(self._reading)
        deadline = self._next_deadline()
        timer = None if deadline is None else asyncio.create_task(self._clock.sleep_until(deadline), name="link timer")
        if timer is not None:
            waiting.add(timer)
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if timer is not None:
                timer.cancel()
        if self._woken.done():
            self._woken = asyncio.get_running_loop().create_future()
        if deadline is not None and (late_s := self._clock.monotonic() - deadline) > STOOD_STILL_S:
            self._stood_still(late_s)

    def _next_deadline(self) -> float | None:
        silent_by = None if self._end.unanswered_since is None else self._end.unanswered_since + SILENCE_S
        return min(
            (
                at
                for at in (
                    self._open_by,
                    self._welcome_by,
                    self._linked_by,
                    self._read_by,
                    self._left_by,
                    self._connect_at,
                    self._move_at,
                    self._beat_at,
                    *(silent_by, self._end.next_due(), self._keeping.next_due),
                )
                if at is not None
            ),
            default=None,
        )

    def _stood_still(self, late_s: float) -> None:
        """Give the other end the time back in which this one could not listen."""
        log.warning("this process stood still", late_s=round(late_s, 1))
        if self._end.unanswered_since is not None:
            self._end.unanswered_since += late_s
        if self._welcome_by is not None:
            self._welcome_by += late_s
        if self._open_by is not None:
            self._open_by += late_s

    def _open(self, now: float) -> None:
        self._connect_at = None
        self._open_by = now + CONNECT_TIMEOUT_S
        self._line.open(token=self._end.token)

    def _take_opened(self, now: float) -> None:
        opened = self._line.take_opened()
        if opened is None:
            return
        self._open_by = None
        if isinstance(opened, ThunderlineError):
            self._not_opened(opened, now)
        else:
            self._welcome_by = now + WELCOME_TIMEOUT_S
            self._line.send(self._end.connected(opened, now))

    def _not_opened(self, error: ThunderlineError, now: float) -> None:
        if isinstance(error, Unauthorized):
            # Also once there was a link: what was revoked in an outage does not become good again.
            self._finish(link_ended(error.code, error.detail))
            return
        # Once there was a link, an answer that is none of our server's comes from something that stands before it.
        if not error.retryable and not self.welcomed.done():
            self._finish(error)
            return
        self._trouble = error
        self._tell(str(error))
        retry_after_s = getattr(error, "retry_after_s", None) or 0.0
        self._connect_at = now + retry_after_s + self._backoff.next_s(interval_s=self._end.interval_s)

    def _give_up(self, reason: str, now: float) -> None:
        self._line.drop()
        self._lost(ConnectionLost(close_code=None, reason=reason), now)

    def _move(self, now: float) -> None:
        """Part from this connection, as was asked, and connect again at once."""
        self._line.part(1001, "asked to connect again")
        self._lost(ConnectionLost(close_code=None, reason="asked to connect again"), now)
        if not self.ended.done():
            self._connect_at = now

    def _lost(self, why: ConnectionLost, now: float) -> None:
        linked = self._end.state in (State.LINKED, State.LEAVING)
        loss = self._end.lost(now)
        self._line.drop()
        move_at, self._move_at, self._welcome_by = self._move_at, None, None
        match loss:
            case Left():
                self._finish(None)
            case Ended():
                log.error("link ended for good", url=self._url, code=loss.code, reason=loss.message)
                self._finish(link_ended(loss.code, loss.message))
            case Lost():
                if self._linked_at is not None and now - self._linked_at >= LIVED_S:
                    self._backoff.reset()
                self._linked_at = None
                reason = why.args[0] if loss.message is None else loss.message
                self._trouble = why if loss.code is None else LinkEnded(loss.code, reason)
                if linked:
                    # To part when asked to is no trouble.
                    level = logging.WARNING if move_at is None else logging.INFO
                    log.log(level, "link lost", url=self._url, reason=reason)
                else:
                    self._tell(reason)
                wait_s = loss.retry_after_s + self._backoff.next_s(interval_s=self._end.interval_s)
                # A registry that asked its nodes to spread their return may close before each has had its turn.
                self._connect_at = now + wait_s if move_at is None else move_at
            case _:
                assert_never(loss)

    def _take_received(self, now: float) -> None:
        received = self._line.take_received()
        if isinstance(received, ConnectionLost):
            self._lost(received, now)
        elif received is not None:
            for event in self._end.receive(received, now):
                self._act_on(event, now)

    def _send_next(self, now: float) -> None:
        if self._line.can_send and (frame := self._end.next_frame(now)) is not None:
            self._line.send(frame)

    def _act_on(self, event: LinkEvent, now: float) -> None:
        match event:
            case Welcomed():
                self._welcome(event, now)
            case Acked():
                self._ack(event)
            case BeatRefused():
                log.warning("beat refused", seq=event.seq, code=event.code, reason=event.message)
                self.receipts.refused(event.seq, code=event.code, message=event.message)
            case IntervalChanged():
                log.info("interval changed", interval_s=event.interval_s)
                if self._beat_at is not None:
                    self._beat_at = min(self._beat_at, now + self._jittered(event.interval_s))
            case DrainAsked():
                self._move_at = now + self._rng.uniform(0, event.within_s)
                log.info("asked to connect again", within_s=event.within_s)
            case Troubled():
                log.debug("the registry complains", code=event.code, reason=event.message)
            case Broken():
                log.error("the registry does not keep to the protocol", reason=event.reason)
                self._give_up(event.reason, now)
            case _:
                assert_never(event)

    def _welcome(self, event: Welcomed, now: float) -> None:
        self._links += 1
        self._resumed += event.resumed
        self._welcome_by = self._linked_by = self._trouble = self._told = None
        self._linked_at = now
        self.latest = msgspec.structs.replace(event, credential=None)
        self._beat_at = now
        waiting = self._end.backlog.waiting
        log.info("link resumed" if event.resumed else "linked", url=self._url, node_id=event.node_id, backlog=waiting)
        if event.undeliverable:
            log.error(
                "beats lost: the registry counts this process anew",
                beats=event.undeliverable,
                incarnation=event.incarnation,
            )
        if event.credential is not None:
            self._keeping.take(event.credential)
        self._take_kept(now)

    def _take_kept(self, now: float) -> None:
        if (credential := self._keeping.settle(now)) is not None:
            self._end.use_token(credential)
        if self.latest is not None and not self._keeping.is_under_way and not self.welcomed.done():
            self.welcomed.set_result(self.latest)

    def _ack(self, event: Acked) -> None:
        self._acked += len(event.seqs)
        self._late += event.late
        if event.round_trip_s is not None:
            before = self.round_trip_s
            self.round_trip_s = (
                event.round_trip_s if before is None else before + SMOOTHING * (event.round_trip_s - before)
            )
        self.receipts.acked(event.seqs)
        backlog = self._end.backlog
        if self._late > self._late_told and not backlog.waiting and not backlog.late_on_the_way:
            log.info("delivered late beats", beats=self._late - self._late_told)
            self._late_told = self._late
            self._told_dropped = False

    def _keep_link_deadlines(self, now: float) -> None:
        if self._leaving and self._left_by is None:
            self._say_goodbye(now)
        if _passed(self._left_by, now):
            log.warning("left without knowing whether the goodbye was heard", url=self._url)
            self._finish(None)
        if _passed(self._linked_by, now):
            timeout = LinkTimeout(self._url, timeout_s=self._open_timeout_s or 0.0)
            timeout.__cause__ = self._trouble
            self._finish(timeout)
        if self.ended.done():
            return
        if _passed(self._open_by, now):
            self._open_by = None
            self._line.drop()
            self._not_opened(ServerUnreachable(self._url, reason="no answer to the attempt to connect"), now)
        silent_since = self._end.unanswered_since
        if _passed(self._welcome_by, now):
            self._give_up(f"no welcome within {WELCOME_TIMEOUT_S:g} s", now)
        elif silent_since is not None and now - silent_since >= SILENCE_S:
            self._give_up(f"nothing came back for {SILENCE_S:g} s", now)
        elif _passed(self._move_at, now):
            self._move(now)
        if _passed(self._connect_at, now):
            self._open(now)

    def _say_goodbye(self, now: float) -> None:
        if self._end.state is State.LINKED:
            self._end.bye(self._goodbye)
            self._left_by = now + LEAVE_TIMEOUT_S
        else:
            log.warning("left without goodbye: there is no link", url=self._url)
            self._finish(None)

    def _keep_beats(self, now: float) -> None:
        interval_s = self._end.interval_s
        if interval_s is None or self._leaving:  # there was no link yet, or there will be none
            self._beat_at = None
            return
        if _passed(self._read_by, now):
            if self._reading is not None:
                self._reading.cancel()
            self._reading = self._read_by = None
            self._readings.took_too_long(min(interval_s, READ_MAX_S))
            self._end.beat(BARE, now)
        if _passed(self._beat_at, now):
            # From now, not from when it was due: what a process that stood still has missed stays missed.
            self._beat_at = now + self._jittered(interval_s)
            if self._reading is None:
                self._read_by = now + min(interval_s, READ_MAX_S)
                self._reading = asyncio.create_task(self._readings.read(), name="link figures")

    def _take_read(self, now: float) -> None:
        if self._reading is not None and self._reading.done():
            read, self._reading, self._read_by = self._reading, None, None
            self._end.beat(self._readings.outcome(read), now)

    def _take_queued(self, now: float) -> None:
        # Once this end says goodbye nothing more is taken: what would not be sent need not push out what will.
        while self._queue and not self._end.is_busy and not self._leaving:
            figures, receipt = self._queue.popleft()
            if not receipt.done():
                self.receipts.of(self._end.beat(figures, now), receipt)

    def _end_receipts(self, error: Exception) -> None:
        self.receipts.end(error)
        for _, receipt in self._queue:
            if not receipt.done():
                receipt.set_exception(error)
        self._queue.clear()

    def _jittered(self, interval_s: float) -> float:
        return interval_s * (1 - self._rng.uniform(0, JITTER))

    def _settle(self) -> None:
        backlog = self._end.backlog
        if dropped := backlog.take_dropped():
            self.receipts.dropped(dropped)
            if not self._told_dropped:
                self._told_dropped = True
                log.error("beats lost: the backlog is full", beats=len(dropped), kept=len(backlog))
        self.receipts.flushed(backlog.lowest)

    def _tell(self, trouble: str) -> None:
        """Log what stands in the way of a link, once for as long as it is the same."""
        if trouble != self._told:
            self._told = trouble
            log.warning("no link yet, trying on", url=self._url, reason=trouble)

    def _finish(self, error: ThunderlineError | None) -> None:
        if not self.ended.done():
            self.ended.set_result(error)

    def _wake(self) -> None:
        if not self._woken.done():
            self._woken.set_result(None)


def _passed(at: float | None, now: float) -> bool:
    return at is not None and at <= now
