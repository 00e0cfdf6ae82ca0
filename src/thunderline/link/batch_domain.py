"""Many of one action at once: each for itself, in order, or all of them as one change.

For themselves, the items are queued one behind the other and share commits, as single calls that arrive together do.
As one change they are one operation of the writer: it is planned item by item, and one that cannot be done undoes all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from thunderline.core.errors import BatchRefused, ThunderlineError
from thunderline.core.inputs import HeartbeatInput, NodeAttrs
from thunderline.core.settings import Settings
from thunderline.link.access import Access
from thunderline.link.actor import Action, Actor
from thunderline.link.conditions import Condition
from thunderline.link.domain import NodeDomain
from thunderline.link.lanes import Lane
from thunderline.link.overlay import Overlay
from thunderline.link.plans import Ensured, Kept
from thunderline.link.roster import Entry
from thunderline.link.writer import Writer

V = TypeVar("V")
Plan = Callable[[Overlay], V | ThunderlineError]


class BatchDomain:
    """The actions of which a batch may be made."""

    def __init__(self, nodes: NodeDomain, writer: Writer, access: Access, *, settings: Settings) -> None:
        self._nodes = nodes
        self._access = access
        self._writer = writer
        self._settings = settings

    def register_one(self, attrs: NodeAttrs, *, actor: Actor) -> asyncio.Future[Ensured]:
        """Queue what `NodeDomain.register_node` does; the future gives and raises the same.

        Raises at once: Overloaded, StoreUnavailable, ShuttingDown.
        """
        self._access.authorise(actor, Action.REGISTER, name=attrs.name)
        return self._writer.submit(
            Lane.MUTATIONS, self._nodes.plan_registration(attrs, actor), actor=actor, audited=True
        )

    async def register_all(
        self, items: Sequence[NodeAttrs], *, actor: Actor, condition: Condition | None = None
    ) -> list[Ensured]:
        """Ensure all these nodes, or none. Raises: BatchRefused, and what `Writer.submit` does."""
        for attrs in items:
            self._access.authorise(actor, Action.REGISTER, name=attrs.name)
        wanted = [self._nodes.plan_registration(attrs, actor) for attrs in items]
        return await self._as_one(Lane.MUTATIONS, wanted, actor=actor, condition=condition)

    async def beat_all(
        self, items: Sequence[tuple[Entry, HeartbeatInput]], *, actor: Actor, condition: Condition | None = None
    ) -> list[Kept]:
        """Keep all these beats, or none; each of them is a sign of life already, by `NodeDomain.hear`.

        Raises: BatchRefused, and what `Writer.submit` does.
        """
        wanted = [self._nodes.plan_beat(entry, beat) for entry, beat in items]
        return await self._as_one(Lane.HEARTBEATS, wanted, actor=actor, condition=condition)

    async def _as_one(
        self, lane: Lane, wanted: Sequence[Plan[V]], *, actor: Actor, condition: Condition | None
    ) -> list[V]:
        def plan(overlay: Overlay) -> list[V]:
            return all_or_nothing(overlay, wanted)

        return await self._writer.submit(
            lane, plan if condition is None else condition.around(plan), actor=actor, audited=lane is Lane.MUTATIONS
        )


def all_or_nothing(overlay: Overlay, wanted: Sequence[Plan[V]]) -> list[V]:
    """What each plan gave, in order. All are tried, so that all that is wrong is told. Raises: BatchRefused."""
    done: list[V] = []
    errors: dict[int, ThunderlineError] = {}
    for index, plan in enumerate(wanted):
        savepoint = overlay.savepoint()
        try:
            result = plan(overlay)
        except ThunderlineError as error:
            result = error
        if isinstance(result, ThunderlineError):
            overlay.roll_back(savepoint)
            errors[index] = result
        else:
            done.append(result)
    if errors:
        raise BatchRefused(errors, size=len(wanted))
    return done
