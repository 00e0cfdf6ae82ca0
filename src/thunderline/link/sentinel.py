"""Watches the deadlines and turns missed ones into transitions.

A node is heard when its beat arrives, before it is queued, so that a slow store convicts nobody. A conviction is
planned like any other change and looks again at that moment: a node that was heard since is left alone.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from thunderline.core.clock import Clock, from_ms
from thunderline.core.errors import Overloaded, StoreUnavailable, ThunderlineError
from thunderline.core.ids import NodeId
from thunderline.core.logging import get_logger
from thunderline.core.records import Node, NodeStatus, RegistryReport
from thunderline.core.settings import Settings
from thunderline.link.capacity import Capacity
from thunderline.link.deadlines import Deadlines
from thunderline.link.detectors import detector_of
from thunderline.link.flaps import Flaps
from thunderline.link.guard import Fall, Guard
from thunderline.link.health import Health
from thunderline.link.liveness import Signal, has_left, is_up
from thunderline.link.pace import Pace
from thunderline.link.reports import Reports
from thunderline.link.roster import Entry, Roster

log = get_logger(__name__)

IDLE_LOOK_S: Final = 0.25
"""Longest wait between two looks, for deadlines that came closer meanwhile."""

SHORTEST_WAIT_S: Final = 0.001
"""A wait that rounding makes shorter would not be one."""

SWEEP_MAX: Final = 2_000
"""Nodes that are looked at before everybody else has a turn: a few milliseconds, however many are due at once."""

AWAY_LOOK_S: Final = 0.5
"""Between two looks while the store is away, when nobody is convicted."""

AWAY_PACE: Final = 1e-6
"""How fast the sentinel's time passes while the store is away: not at all, but for the order of what happens in it."""

PAUSE_S: Final = 1.0
"""A wait that ends later than this, or than half an interval, was a pause of our own."""

CALM_LOOK_S: Final = 5.0
"""Between two looks for nodes that no longer flap."""

START_SPREAD: Final = 0.5
"""After a start, deadlines are spread over this fraction of themselves, so that they do not all end at once."""


class Convicter(Protocol):
    """What the sentinel needs of the domain."""

    def convict(self, node_id: NodeId, signal: Signal, *, told: Callable[[NodeId, BaseException | None], None]) -> None:
        """Queue the transition that `signal` means, unless the node is heard before its turn comes.

        `told` hears what became of it, None where it was committed, perhaps more than once.
        """

    def lose_link(self, session_id: str) -> asyncio.Future[Any]:
        """Queue what the end of the grace means for the link that broke, unless it was resumed."""

    def mark_flapping(self, node_id: NodeId, flapping: bool) -> asyncio.Future[None]:
        """Queue the mark of a node whose status changes all the time, or its end."""

    def at_stake(self, session_id: str) -> NodeId | None:
        """The node that would be disconnected by the end of that grace."""

    def report(self, event_name: str, report: RegistryReport, *, subject: str) -> asyncio.Future[None]:
        """Queue an event about the registry itself."""

    @property
    def store_is_away(self) -> bool:
        """Whether no transition can be committed at present."""


class Sentinel:
    """Knows when each node was heard, and when to give it up."""

    def __init__(self, roster: Roster, *, clock: Clock, settings: Settings, rng: random.Random) -> None:
        self.pace = Pace(settings, rng=rng)
        self.capacity = Capacity(self.pace, settings=settings)
        self.guard = Guard(roster.groups, settings=settings, rng=rng)
        self.health = Health(settings, now=self.now)
        self._flaps = Flaps(settings)
        self._marks: dict[NodeId, bool] = {}
        self._calm_looked_at = 0.0
        self._detector = detector_of(settings)
        self._roster = roster
        self._clock = clock
        self._settings = settings
        self._rng = rng
        self._deadlines: Deadlines[NodeId] = Deadlines()
        self._graces: Deadlines[str] = Deadlines()
        self._reports = Reports()
        self._paused_s = 0.0
        self._away_since: float | None = None

    @property
    def flapping(self) -> int:
        """How many nodes are marked as flapping."""
        return len(self._flaps)

    @property
    def paused_s(self) -> float:
        """For how long this process paused since the start, by which every deadline moved."""
        return self._paused_s

    def start(self) -> None:
        """Give every node of a freshly loaded roster a full deadline: nobody is convicted for our own absence."""
        now = self.now()
        for entry in self._roster:
            entry.settled_status = entry.node.observed_status
            if entry.node.flapping:
                self._flaps.start(entry.node.id, now)
            if is_up(entry.node.observed_status):
                self.pace.count(entry.node.id, entry.node.heartbeat_interval_ms)
            if _is_there(entry.node):
                self.guard.population.count(entry.node.id, entry.node.groups)
        for entry in self._roster:
            if is_up(entry.node.observed_status):
                entry.patience_s = self._promised_s(entry)
                # As if it had been heard now, or in a while: later commits about the node must not grant it more.
                entry.heard_at = now + entry.patience_s * self._rng.uniform(0, START_SPREAD)
                self._deadlines.arm(entry.node.id, entry.heard_at + entry.patience_s)
            elif entry.node.observed_status is not NodeStatus.OFFLINE:
                self._deadlines.arm(entry.node.id, now + self._settings.offline_after_s)

    def heard(self, entry: Entry) -> None:
        """A sign of life arrived. After its goodbye a node's beats are no longer one."""
        entry.last_seen_ms = self._clock.now_ms()
        if not has_left(entry.node.observed_status, entry.node.observed_reason):
            self._heard(entry)

    def announced(self, entry: Entry) -> None:
        """The node announced itself, which counts even after its goodbye."""
        entry.last_seen_ms = self._clock.now_ms()
        self._heard(entry)

    def grant_ms(self, entry: Entry) -> int:
        """The interval at which the node should beat from now on; the same until it asks for another, or has to."""
        terms = entry.node.heartbeat_interval_ms + self.pace.terms
        if entry.terms != terms:
            if entry.interval_ms:
                entry.former_ms = max(entry.former_ms, entry.interval_ms)
            entry.terms = terms
            entry.interval_ms = self.pace.interval_ms(entry.node.heartbeat_interval_ms)
            if entry.former_ms == entry.interval_ms:
                entry.former_ms = 0
        return entry.interval_ms

    def link_dropped(self, session_id: str) -> None:
        """A link broke; it may be resumed for `drop_grace_s`."""
        self._graces.arm(session_id, self.now() + self._settings.drop_grace_s)

    def is_overdue(self, entry: Entry) -> bool:
        """Whether the node's silence is longer than its deadline."""
        return self.remaining_s(entry) <= 0

    def remaining_s(self, entry: Entry) -> float:
        """How much longer the node may be silent."""
        return -math.inf if entry.heard_at is None else entry.heard_at + self._patience_s(entry) - self.now()

    def now(self) -> float:
        """Monotonic time in which neither our own pauses happened, nor what the store was away for.

        While it is away nobody can come back: a handshake is refused. Who was heard meanwhile has a whole deadline left
        when it returns, and who was silent as much as it had; a store that comes and goes thus delays a conviction, but
        does not prevent it.
        """
        now = self._clock.monotonic()
        if self._away_since is not None:
            now = self._away_since + (now - self._away_since) * AWAY_PACE
        return now - self._paused_s

    def settled(self, node_id: NodeId, node: Node | None) -> None:
        """A commit left the node like this; None: it was removed."""
        entry = self._roster.get(node_id)
        if node is None or entry is None:
            self._flaps.forget(node_id)
            self._marks.pop(node_id, None)
            self.guard.gone(node_id)
        else:
            self._count_change(entry, node)
        if node is None or entry is None or node.observed_status is NodeStatus.OFFLINE:
            self._deadlines.disarm(node_id)
            self.pace.discount(node_id)
            self.guard.population.discount(node_id)
            self.guard.recovered(node_id)
            return
        if _is_there(node):
            self.guard.population.count(node_id, node.groups)
        if is_up(node.observed_status):
            self.pace.count(node_id, node.heartbeat_interval_ms)
            self.guard.is_up(node_id)
            if entry.heard_at is None:
                self._heard(entry)
            else:
                self._deadlines.arm(node_id, entry.heard_at + self._patience_s(entry))
        elif self.pace.discount(node_id) or self._deadlines.deadline(node_id) is None:
            # Where a link broke, the deadline of the silence is still armed; it must not cut `offline_after` short.
            self._deadlines.arm(node_id, self.now() + self._settings.offline_after_s)

    def _count_change(self, entry: Entry, node: Node) -> None:
        before, entry.settled_status = entry.settled_status, node.observed_status
        if before not in (None, NodeStatus.CONNECTING, node.observed_status) and self._flaps.changed(
            node.id, self.now()
        ):
            self._marks[node.id] = True

    async def run(self, convicter: Convicter) -> None:
        """Convict who is overdue, until cancelled."""
        while True:
            if convicter.store_is_away:
                await self._sit_out(convicter)
                continue
            wait_s = self.sweep(convicter)
            if wait_s <= 0:
                await asyncio.sleep(0)
            else:
                await self._wait(wait_s)

    def sweep(self, convicter: Convicter) -> float:
        """Convict who is overdue, some of them where they are many; gives the seconds to when to sweep again."""
        now = self.now()
        for session_id in self._graces.expire(now, most=SWEEP_MAX):
            self._grace_over(convicter, session_id)
        for node_id in self._deadlines.expire(now, most=SWEEP_MAX):
            self._expired(convicter, node_id)
        self._report(convicter, now)
        self._mark(convicter, now)
        looks = [look for look in (self._deadlines.next_look(), self._graces.next_look()) if look is not None]
        return min([IDLE_LOOK_S, *(look - now for look in looks)])

    async def _sit_out(self, convicter: Convicter) -> None:
        """Wait until the store is back, and let that time count for nobody's silence."""
        self._away_since = self._clock.monotonic()
        while convicter.store_is_away:
            await self._clock.sleep(AWAY_LOOK_S)
        then = self.now()
        self._away_since = None
        self._paused_s += self.now() - then

    async def _wait(self, duration_s: float) -> None:
        """Wait, and leave out of account by how much the wait was longer than asked for, if that is much.

        A process that was stopped, or a loop that was held up, heard nobody in that time; nobody was silent in it.
        """
        end = self._clock.monotonic() + max(duration_s, SHORTEST_WAIT_S)
        await self._clock.sleep_until(end)
        late_s = self._clock.monotonic() - end
        if late_s > min(PAUSE_S, self._settings.heartbeat_interval_s / 2):
            log.warning("own pause, deadlines moved", paused_s=round(late_s, 3))
            self._paused_s += late_s

    def _expired(self, convicter: Convicter, node_id: NodeId) -> None:
        entry = self._roster.get(node_id)
        if entry is None:
            return
        signal = Signal.SILENT if is_up(entry.node.observed_status) else Signal.GIVEN_UP
        if signal is Signal.SILENT and (remaining_s := self.remaining_s(entry)) > 0:
            # Its interval grew since it was heard: that is no fall which the guard should count.
            self._deadlines.arm(node_id, self.now() + remaining_s)
            return
        if (until := self._held_until(entry)) is not None:
            self._deadlines.arm(node_id, until)
            return
        try:
            convicter.convict(node_id, signal, told=self._convicted)
        except ThunderlineError as error:
            self._try_again(node_id, error)

    def _held_until(self, entry: Entry) -> float | None:
        """Until when the guard holds a node that would fall now; None: it does not."""
        node = entry.node
        if node.observed_status is NodeStatus.CONNECTING:
            return None
        fall = Fall.DISCONNECTED if is_up(node.observed_status) else Fall.OFFLINE
        return self.guard.hold(node.id, node.groups, fall, now=self.now())

    def _was_heard(self, node_id: NodeId, since: float) -> bool:
        entry = self._roster.get(node_id)
        return entry is None or (entry.heard_at is not None and entry.heard_at > since)

    def _report(self, convicter: Convicter, now: float) -> None:
        at = from_ms(self._clock.now_ms())
        self._reports.add(self.guard.look(now=now, at=at, was_heard=self._was_heard))
        if (capacity := self.capacity.look()) is not None:
            self._reports.add([capacity])
        self._reports.tell(convicter)

    def _mark(self, convicter: Convicter, now: float) -> None:
        if now - self._calm_looked_at >= CALM_LOOK_S:
            self._calm_looked_at = now
            self._marks.update(dict.fromkeys(self._flaps.look(now), False))
        for node_id, flapping in list(self._marks.items()):
            try:
                done = convicter.mark_flapping(node_id, flapping)
            except ThunderlineError as error:
                _log_refused("mark not committed", error, node_id=node_id)
                return
            del self._marks[node_id]
            done.add_done_callback(partial(self._marked, node_id, flapping))

    def _marked(self, node_id: NodeId, flapping: bool, done: asyncio.Future[None]) -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            _log_refused("mark not committed", error, node_id=node_id)
            self._marks.setdefault(node_id, flapping)

    def _convicted(self, node_id: NodeId, error: BaseException | None) -> None:
        if error is not None:
            self._try_again(node_id, error)
            return
        # Heard in the meantime and so left alone: its arrival armed the deadline, unless the node is not up.
        entry = self._roster.get(node_id)
        if entry is not None and self._deadlines.deadline(node_id) is None:
            self.settled(node_id, entry.node)

    def _grace_over(self, convicter: Convicter, session_id: str) -> None:
        def look_again(error: BaseException) -> None:
            _log_refused("end of link not committed", error, session_id=session_id)
            self._graces.arm(session_id, self.now() + IDLE_LOOK_S)

        def ended(done: asyncio.Future[Any]) -> None:
            if not done.cancelled() and (error := done.exception()) is not None:
                look_again(error)

        node_id = convicter.at_stake(session_id)
        entry = None if node_id is None else self._roster.get(node_id)
        if entry is not None and (until := self._held_until(entry)) is not None:
            self._graces.arm(session_id, until)
            return
        try:
            convicter.lose_link(session_id).add_done_callback(ended)
        except ThunderlineError as error:
            look_again(error)

    def _try_again(self, node_id: NodeId, error: BaseException) -> None:
        _log_refused("transition not committed", error, node_id=node_id)
        if self._deadlines.deadline(node_id) is None and self._roster.get(node_id) is not None:
            self._deadlines.arm(node_id, self.now() + IDLE_LOOK_S)

    def _heard(self, entry: Entry) -> None:
        now = self.now()
        if entry.terms != entry.node.heartbeat_interval_ms + self.pace.terms:
            self.grant_ms(entry)
        interval_ms = entry.interval_ms
        if entry.former_ms:
            # The answer to this sign of life tells the node of another interval; it counts from the next one on.
            interval_ms, entry.former_ms = max(interval_ms, entry.former_ms), 0
        detector = self._detector
        if detector.learns and entry.heard_at is not None:
            entry.rhythm = detector.learn(entry.rhythm, now - entry.heard_at, interval_ms / 1000)
        entry.heard_at = now
        entry.patience_s = detector.patience_s(interval_ms / 1000, entry.rhythm)
        self._deadlines.arm(entry.node.id, now + entry.patience_s)

    def _patience_s(self, entry: Entry) -> float:
        # Until the first sign of life at a new interval the longer one holds, the new or the one before.
        return max(entry.patience_s, self._promised_s(entry))

    def _promised_s(self, entry: Entry) -> float:
        asked_ms = entry.node.heartbeat_interval_ms
        if entry.terms == asked_ms + self.pace.terms:
            return entry.patience_s
        return self._detector.patience_s(self.pace.most_ms(asked_ms) / 1000, entry.rhythm)


def _is_there(node: Node) -> bool:
    """Whether the node could fall silent, or did and is not given up."""
    return node.observed_status not in (NodeStatus.CONNECTING, NodeStatus.OFFLINE)


def _log_refused(message: str, error: BaseException, **about: str) -> None:
    if not isinstance(error, StoreUnavailable | Overloaded):  # of which the writer tells, once; or many are due at once
        log.warning(message, error=str(error), **about)
