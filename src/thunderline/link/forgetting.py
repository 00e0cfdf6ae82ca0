"""Forgetting: nodes that have been offline for so long that they will not come back are deregistered.

At `forget_after_s`, counted from the newest of what is known of them: a change of their record, which their end was, or
a sign of life. One that an operator holds under an override is never forgotten. Ages are measured by `Ages`, so no step
of the wall clock makes anybody old.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from thunderline.core.clock import Clock, to_ms
from thunderline.core.errors import StoreUnavailable, ThunderlineError
from thunderline.core.ids import NodeId, Revision
from thunderline.core.logging import get_logger
from thunderline.core.records import NodeStatus
from thunderline.core.settings import Settings
from thunderline.link import plans
from thunderline.link.actor import DETECTION, Action, authorise
from thunderline.link.ages import Ages
from thunderline.link.lanes import Lane
from thunderline.link.node_index import NodeFilter
from thunderline.link.overlay import Overlay
from thunderline.link.roster import Entry, Roster
from thunderline.link.writer import Writer

log = get_logger(__name__)

LOOK_S: Final = 60.0
"""Longest time between two looks, with jitter; with a short `forget_after_s` a tenth of it."""

AT_ONCE: Final = 256
"""Nodes that are forgotten before the next are: what else is to be committed goes between."""

_OFFLINE: Final = NodeFilter(status=frozenset({NodeStatus.OFFLINE}))


class Forgetting:
    """The task that deregisters who has been gone for long."""

    def __init__(
        self, roster: Roster, writer: Writer, *, ages: Ages, clock: Clock, settings: Settings, rng: random.Random
    ) -> None:
        self._roster = roster
        self._writer = writer
        self._ages = ages
        self._clock = clock
        self._rng = rng
        self._after_ms = round(settings.forget_after_s * 1000)
        self._look_s = min(LOOK_S, settings.forget_after_s / 10)
        self._next_ms: int | None = None

    async def run(self) -> None:
        """Look after who is offline until cancelled. Returns at once where nobody is ever forgotten."""
        while self._after_ms:
            await self._clock.sleep(self._look_s * self._rng.uniform(0.8, 1.2))
            if self._writer.away is None:
                try:
                    await self.look_after()
                except StoreUnavailable:
                    continue  # of which the writer tells, once
                except ThunderlineError as error:
                    log.warning("nodes not forgotten", error=str(error))

    async def look_after(self) -> None:
        """Deregister who is due. Raises: what `Ages.now_ms` and `Writer.submit` do; what was done stays done."""
        before_ms = await self._ages.now_ms() - self._after_ms
        if self._next_ms is not None and before_ms < self._next_ms:
            return
        due = []
        # Who goes offline after this is not due before that long after.
        next_ms = before_ms + self._after_ms
        for entry in self._roster.matching(_OFFLINE):
            if not _may_be_forgotten(entry):
                continue
            if (known_ms := _known_ms(entry)) <= before_ms:
                due.append((entry.node.id, entry.node.revision))
            else:
                next_ms = min(next_ms, known_ms)
        for start in range(0, len(due), AT_ONCE):
            await self._forget_all(due[start : start + AT_ONCE])
        self._next_ms = next_ms

    async def _forget_all(self, nodes: Sequence[tuple[NodeId, Revision]]) -> None:
        queued: list[asyncio.Future[None]] = []
        try:
            queued.extend(self._forget(*each) for each in nodes)
        finally:
            # Also those before one that was refused: what becomes of them is heard.
            outcomes = await asyncio.gather(*queued, return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    def _forget(self, node_id: NodeId, revision: Revision) -> asyncio.Future[None]:
        authorise(DETECTION, Action.DEREGISTER, node_id=node_id)

        def plan(overlay: Overlay) -> None:
            node = overlay.find(node_id)
            if node is not None and node.revision == revision:
                plans.deregister(overlay, node_id, force=False)

        return self._writer.submit(Lane.OWN, plan, actor=DETECTION)


def _may_be_forgotten(entry: Entry) -> bool:
    return entry.node.observed_status is NodeStatus.OFFLINE and entry.node.override is None


def _known_ms(entry: Entry) -> int:
    """When something of the node last changed, or it was last seen."""
    return max(to_ms(entry.node.updated_at), entry.last_seen_ms or 0)
