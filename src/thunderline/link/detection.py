"""What detection concludes, queued ahead of everything else: silent nodes, links that broke, sessions left behind.

Each is planned like any other change and looks again at its turn: who was heard meanwhile is left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from thunderline.core.errors import ThunderlineError
from thunderline.core.ids import NodeId
from thunderline.core.logging import get_logger
from thunderline.core.records import RegistryReport
from thunderline.link import link_plans, plans
from thunderline.link.actor import DETECTION, Action, authorise
from thunderline.link.lanes import Lane, Operation
from thunderline.link.liveness import Signal, is_up, observe
from thunderline.link.overlay import Overlay
from thunderline.link.roster import Roster
from thunderline.link.sentinel import Sentinel
from thunderline.link.uplinks import Dropped, Uplink, Uplinks
from thunderline.link.writer import Writer

log = get_logger(__name__)


class Detection:
    """The registry's own transitions. Each method raises what `Writer.submit` does."""

    def __init__(self, writer: Writer, roster: Roster, sentinel: Sentinel, uplinks: Uplinks) -> None:
        self._writer = writer
        self._roster = roster
        self._sentinel = sentinel
        self._uplinks = uplinks

    @property
    def store_is_away(self) -> bool:
        """Whether no change can be committed at present."""
        return self._writer.away_since is not None

    def convict(self, node_id: NodeId, signal: Signal, *, told: Callable[[NodeId, BaseException | None], None]) -> None:
        """Queue what `signal` (silence) means for the node, unless it is heard before its turn: see `Convicter`."""
        authorise(DETECTION, Action.CONVICT, node_id=node_id)
        self._writer.put(Lane.OWN, _Conviction(self, node_id, signal, told))

    def plan_conviction(self, overlay: Overlay, node_id: NodeId, signal: Signal) -> None:
        """What the node's silence makes of it, if it lasts."""
        node, entry = overlay.find(node_id), self._roster.get(node_id)
        if node is not None and entry is not None and self._sentinel.is_overdue(entry):
            # Nothing can come over a link that broke: its end explains the silence, also before the grace is over.
            seen = Signal.LINK_LOST if signal is Signal.SILENT and self._uplinks.is_cut(node_id) else signal
            plans.set_observed(overlay, node, observe(node.observed_status, node.observed_reason, seen))

    def lose_link(self, session_id: str) -> asyncio.Future[Dropped | None]:
        """Queue what the end of the grace means for the link that broke, unless it was resumed."""
        authorise(DETECTION, Action.CONVICT)

        def plan(overlay: Overlay) -> Dropped | None:
            if (dropped := self._uplinks.give_up(session_id)) is None:
                return None
            entry = dropped.uplink.entry
            if dropped.uplink.leaving:
                plan_leave(overlay, self._uplinks, dropped.uplink)
                return dropped
            heard_since = entry.heard_at is not None and entry.heard_at > dropped.at
            is_alive = heard_since or has_other(overlay, self._uplinks, dropped.uplink)
            link_plans.lose_link(overlay, session_id, is_alive=is_alive)
            return dropped

        def settled(done: asyncio.Future[Dropped | None]) -> None:
            if not _failed(done) and (dropped := done.result()) is not None:
                self._uplinks.ended(dropped)

        done = self._writer.submit(Lane.OWN, plan, actor=DETECTION)
        done.add_done_callback(settled)
        return done

    def mark_flapping(self, node_id: NodeId, flapping: bool) -> asyncio.Future[None]:
        """Queue the mark of a node whose status changes all the time, or its end."""
        authorise(DETECTION, Action.CONVICT, node_id=node_id)
        return self._writer.submit(
            Lane.OWN, lambda overlay: plans.mark_flapping(overlay, node_id, flapping), actor=DETECTION
        )

    def at_stake(self, session_id: str) -> NodeId | None:
        """The node that would be disconnected if the link that broke is not resumed."""
        dropped = self._uplinks.dropped(session_id)
        if dropped is None or dropped.uplink.leaving:
            return None
        entry = dropped.uplink.entry
        heard_since = entry.heard_at is not None and entry.heard_at > dropped.at
        if heard_since or not is_up(entry.node.observed_status):
            return None
        return None if self._uplinks.has_other(entry.sessions.values(), session_id) else entry.node.id

    def report(self, event_name: str, report: RegistryReport, *, subject: str) -> asyncio.Future[None]:
        """Queue an event about the registry itself."""
        return self._writer.submit(
            Lane.OWN, lambda overlay: overlay.report(event_name, report, subject=subject), actor=DETECTION
        )

    def reap_session(self, session_id: str) -> None:
        """Queue the end of a session whose connection is gone, if it still is when its turn comes."""
        try:
            done = self._writer.submit(Lane.OWN, lambda overlay: link_plans.reap(overlay, session_id), actor=DETECTION)
        except ThunderlineError as error:
            # The next commit about its node finds it again.
            log.warning("session not reaped", session_id=session_id, error=str(error))
        else:
            done.add_done_callback(_failed)


class _Conviction(Operation):
    """One node's silence on its way to the log. There may be very many at once: it is all that there is for each."""

    __slots__ = ("_detection", "_node_id", "_signal", "_told")

    def __init__(
        self,
        detection: Detection,
        node_id: NodeId,
        signal: Signal,
        told: Callable[[NodeId, BaseException | None], None],
    ) -> None:
        super().__init__(DETECTION)
        self._detection = detection
        self._node_id = node_id
        self._signal = signal
        self._told = told

    def plan(self, overlay: Overlay) -> None:
        self._detection.plan_conviction(overlay, self._node_id, self._signal)

    def answer(self, result: None) -> None:
        self._told(self._node_id, None)

    def fail(self, error: BaseException) -> None:
        self._told(self._node_id, error)


def plan_leave(overlay: Overlay, uplinks: Uplinks, uplink: Uplink) -> None:
    """The node's goodbye over one of its links, planned: with its last one the node is gone."""
    is_last = not has_other(overlay, uplinks, uplink)
    link_plans.leave(overlay, uplink.session_id, reason=uplink.leaving_reason, is_last=is_last)


def has_other(overlay: Overlay, uplinks: Uplinks, uplink: Uplink) -> bool:
    """Whether the node holds another link besides."""
    return uplinks.has_other(overlay.open_sessions(uplink.entry.node.id), uplink.session_id)


def _failed(done: asyncio.Future[Any]) -> bool:
    """Whether it did; looks, so that the error does not count as one that nobody asked for."""
    return done.cancelled() or done.exception() is not None
