"""Watches the deadlines and turns missed ones into transitions.

A node is heard when its beat arrives, before it is queued, so that a slow store convicts nobody. A conviction is
planned like any other change and looks again at that moment: a node that was heard since is left alone.
"""

from __future__ import annotations

import asyncio
import random
from typing import Final, Protocol

from thunderline.core.clock import Clock
from thunderline.core.errors import ThunderlineError
from thunderline.core.ids import NodeId
from thunderline.core.logging import get_logger
from thunderline.core.records import Node, NodeStatus
from thunderline.core.settings import Settings
from thunderline.link.deadlines import Deadlines
from thunderline.link.liveness import Signal, has_left, is_up
from thunderline.link.roster import Entry, Roster

log = get_logger(__name__)

IDLE_LOOK_S: Final = 0.25
"""Longest wait between two looks, for deadlines that came closer meanwhile."""

AWAY_LOOK_S: Final = 0.5
"""Between two looks while the store is away, when nobody is convicted."""

PAUSE_S: Final = 1.0
"""A wait that ends later than this, or than half an interval, was a pause of our own."""

START_SPREAD: Final = 0.5
"""After a start, deadlines are spread over this fraction of themselves, so that they do not all end at once."""


class Convicter(Protocol):
    """What the sentinel needs of the domain."""

    def convict(self, node_id: NodeId, signal: Signal) -> asyncio.Future[None]:
        """Queue the transition that `signal` means, unless the node is heard before its turn comes."""

    @property
    def store_is_away(self) -> bool:
        """Whether no transition can be committed at present."""


class Sentinel:
    """Knows when each node was heard, and when to give it up."""

    def __init__(self, roster: Roster, *, clock: Clock, settings: Settings, rng: random.Random) -> None:
        self._roster = roster
        self._clock = clock
        self._settings = settings
        self._rng = rng
        self._deadlines = Deadlines()
        self._paused_s = 0.0

    def start(self) -> None:
        """Give every node of a freshly loaded roster a full deadline: nobody is convicted for our own absence."""
        now = self._now()
        for entry in self._roster:
            if is_up(entry.node.observed_status):
                entry.patience_s = self._promised_s(entry.node)
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

    def is_overdue(self, entry: Entry) -> bool:
        """Whether the node's silence is longer than its deadline."""
        return entry.heard_at is None or self._now() >= entry.heard_at + self._patience_s(entry)

    def settled(self, node_id: NodeId, node: Node | None) -> None:
        """A commit left the node like this; None: it was removed."""
        if node is None or node.observed_status is NodeStatus.OFFLINE:
            self._deadlines.disarm(node_id)
            return
        now = self._now()
        entry = self._roster.get(node_id)
        if entry is None:
            return
        if is_up(node.observed_status):
            if entry.heard_at is None:
                self._heard(entry)
            else:
                self._deadlines.arm(node_id, entry.heard_at + self._patience_s(entry))
        elif self._deadlines.deadline(node_id) is None:
            self._deadlines.arm(node_id, now + self._settings.offline_after_s)

    async def run(self, convicter: Convicter) -> None:
        """Convict who is overdue, until cancelled."""
        while True:
            if convicter.store_is_away:
                await self._wait(AWAY_LOOK_S)
                continue
            for node_id in self._deadlines.expire(self._now()):
                self._expired(convicter, node_id)
            look = self._deadlines.next_look()
            await self._wait(IDLE_LOOK_S if look is None else min(look - self._now(), IDLE_LOOK_S))

    async def _wait(self, duration_s: float) -> None:
        """Wait, and leave out of account by how much the wait was longer than asked for, if that is much.

        A process that was stopped, or a loop that was held up, heard nobody in that time; nobody was silent in it.
        """
        end = self._clock.monotonic() + duration_s
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
        try:
            done = convicter.convict(node_id, signal)
        except ThunderlineError as error:
            self._try_again(node_id, error)
        else:
            done.add_done_callback(lambda future: self._convicted(node_id, future))

    def _convicted(self, node_id: NodeId, done: asyncio.Future[None]) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            self._try_again(node_id, error)
            return
        # Heard in the meantime and so left alone: its arrival armed the deadline, unless the node is not up.
        entry = self._roster.get(node_id)
        if entry is not None and self._deadlines.deadline(node_id) is None:
            self.settled(node_id, entry.node)

    def _try_again(self, node_id: NodeId, error: BaseException) -> None:
        log.warning("transition not committed", node_id=node_id, error=str(error))
        if self._deadlines.deadline(node_id) is None and self._roster.get(node_id) is not None:
            self._deadlines.arm(node_id, self._now() + IDLE_LOOK_S)

    def _now(self) -> float:
        """Monotonic time in which our own pauses did not happen."""
        return self._clock.monotonic() - self._paused_s

    def _heard(self, entry: Entry) -> None:
        entry.heard_at = self._now()
        entry.patience_s = self._promised_s(entry.node)
        self._deadlines.arm(entry.node.id, entry.heard_at + entry.patience_s)

    def _patience_s(self, entry: Entry) -> float:
        # A node learns of a shorter interval with the answer to its next beat; until then the longer one holds.
        return max(entry.patience_s, self._promised_s(entry.node))

    def _promised_s(self, node: Node) -> float:
        return node.heartbeat_interval_ms / 1000 * self._settings.deadline_intervals
