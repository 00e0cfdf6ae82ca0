"""States of the past kept whole now and then, so that any other is soon made: the nearest one, and what came after.

They are a cache: what they hold stands in the log, too, and without them the same state is made more slowly. They are
kept one for each part of the cluster's size in events, so that what they take of the disk, and of the time to write,
follows from the number of events alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, TypeVar

from thunderline.block.store import EntityChange, Snapshot, Store
from thunderline.core.clock import Clock
from thunderline.core.errors import CursorGone, StoreUnavailable
from thunderline.core.ids import Revision
from thunderline.core.logging import get_logger
from thunderline.link.event_log import EventLog
from thunderline.link.packed_state import is_known, pack, unpack
from thunderline.link.past import PastState, read_state
from thunderline.link.roster import Roster

T = TypeVar("T")

log = get_logger(__name__)

LOOK_S: Final = 10.0
"""Between two looks at whether there is a state to keep."""

EVENTS_LEAST: Final = 1_000
ENTITIES_PER_EVENT: Final = 10
"""A state is kept every so many events: one for every tenth entity. More often makes the past quicker to read, and each
event dearer: a state takes about 20 bytes an entity, packed."""


async def made_of(store: Store, events: EventLog, revision: Revision, make: Callable[[PastState], T]) -> T:
    """What `make` makes of the state at `revision`; in a thread of its own.

    To unpack, use and drop a large state takes a tenth of a second, for which the event loop must not stand still.
    Raises: CursorGone when the log does not reach back so far, or no longer does.
    """
    while True:
        oldest = events.oldest
        if revision < oldest:
            raise CursorGone(str(revision), why=f"the log begins after {oldest} by now")
        made = await _made_of(store, revision, make, least=oldest)
        # Else something may be missing from what was read.
        if events.oldest == oldest:
            return made


async def _made_of(store: Store, revision: Revision, make: Callable[[PastState], T], *, least: Revision) -> T:
    snapshot = await store.read_snapshot(revision=revision, least=least)
    if snapshot is not None:
        changes = await store.read_changes(after=snapshot.revision, until=revision)
        made = await asyncio.to_thread(_advance, snapshot, changes, make)
        if made is not None:
            return made[0]
    states = [await read_state(store, revision)]
    return await asyncio.to_thread(lambda: make(states.pop()))


def _advance(snapshot: Snapshot, changes: Iterable[EntityChange], make: Callable[[PastState], T]) -> tuple[T] | None:
    """What is made; None: the snapshot is of another version."""
    state = unpack(snapshot.parts)
    if state is None:
        return None
    state.apply(changes)
    return (make(state),)


class Snapshots:
    """The task that keeps them."""

    def __init__(
        self,
        store: Store,
        roster: Roster,
        events: EventLog,
        *,
        clock: Clock,
        store_is_away: Callable[[], bool],
    ) -> None:
        self._store = store
        self._roster = roster
        self._events = events
        self._clock = clock
        self._store_is_away = store_is_away
        self._newest: Revision | None = None

    async def run(self) -> None:
        """Keep a state whenever it is time, until cancelled."""
        told = ""
        while True:
            await self._clock.sleep(LOOK_S)
            if self._store_is_away():
                continue
            try:
                while await self.step():
                    pass
            except StoreUnavailable as error:
                if error.reason != told:
                    log.warning("no snapshot kept", reason=error.reason)
                told = error.reason
            else:
                told = ""

    async def step(self) -> bool:
        """Keep the next state, if it is time for one; whether it was. Raises: StoreUnavailable."""
        if self._newest is None:
            found = await self._store.read_snapshot(revision=self._roster.revision)
            if found is not None and not is_known(found.parts):
                log.info("snapshots of another version are made again", newest=found.revision)
                while await self._store.drop_snapshots():
                    pass
                found = None
            self._newest = Revision(0) if found is None else found.revision
        newest = max(self._newest, self._events.oldest)
        entities = len(self._roster) + len(self._roster.sessions)
        distance = max(EVENTS_LEAST, entities // ENTITIES_PER_EVENT)
        if self._roster.revision - newest < distance:
            return False
        await self.keep(await self._store.commit_end(Revision(newest + distance)))
        return True

    async def keep(self, revision: Revision) -> None:
        """Keep the state at `revision`, the end of a commit that the log reaches. Raises: StoreUnavailable."""
        parts = await made_of(self._store, self._events, revision, pack)
        await self._store.keep_snapshot(Snapshot(revision=revision, parts=parts))
        self._newest = max(self._newest or Revision(0), revision)
        log.debug("snapshot kept", revision=revision, size_bytes=sum(map(len, parts)))
