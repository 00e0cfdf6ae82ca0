"""The part of the store's contract that is about the past: moments, changes between two, kept states.

`PAST_CHECKS` are among `STORE_CHECKS`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from thunderline.block.store import Snapshot, Store, WriteBatch
from thunderline.core.clock import to_ms
from thunderline.core.ids import Revision
from thunderline.core.records import Event
from thunderline.testing.records import START, batch_id, make_event, make_node, make_session

if TYPE_CHECKING:
    from thunderline.testing.store_suite import StoreCheck, StoreFactory


async def changes_are_the_newest_event_of_each_entity_between(make: StoreFactory) -> None:
    """Those after one revision, up to and with another, for any two."""
    rng = random.Random(11)
    told: list[Event] = []
    async with make() as store:
        for turn in range(1, 21):
            node = make_node(rng.randint(1, 4), meta={"turn": turn})
            session = make_session(turn, node)
            events = [make_event(len(told) + 1, node), make_event(len(told) + 2, session)]
            await _commit(store, events, nodes=[node], sessions=[session])
            told += events
        for after, until in ((0, len(told)), (3, 17), (9, 10), (12, 12), (len(told), len(told))):
            newest = {event.entity_id: event for event in told[after:until]}
            found = await store.read_changes(after=Revision(after), until=Revision(until))
            wanted = sorted(newest.values(), key=_revision)
            assert sorted(found, key=_revision) == wanted, f"changes after {after} until {until}: {found}"


async def a_moment_is_the_newest_revision_by_then(make: StoreFactory) -> None:
    """Also where the wall clock passed the same times twice; and each revision knows its commit's end."""
    told: list[Event] = []
    async with make() as store:
        for turn, minute in enumerate((0, 1, 1, 5, 6, 2, 2, 3, 9, 4, 10), start=1):
            node = make_node(turn)
            at = START + timedelta(minutes=minute)
            events = [make_event(len(told) + each, node, at=at) for each in (1, 2)]
            await _commit(store, events, nodes=[node])
            told += events
        for minute in range(-1, 12):
            at = START + timedelta(minutes=minute)
            wanted = max((event.revision for event in told if event.at <= at), default=0)
            found = await store.revision_at(to_ms(at))
            assert found == wanted, f"minute {minute} is revision {found}, not {wanted}"
        for revision in range(len(told) + 1):
            end = await store.commit_end(Revision(revision))
            assert end == revision + revision % 2, f"the commit of revision {revision} ends at {end}"


async def snapshots_are_kept_whole(make: StoreFactory) -> None:
    """The newest at or below a revision is read; a later one of the same revision takes its place."""
    early = Snapshot(revision=Revision(10), parts=[b"a", b"b" * 100_000, b""])
    late = Snapshot(revision=Revision(20), parts=[b"c"])
    async with make() as store:
        assert await store.read_snapshot(revision=Revision(99)) is None
        await store.keep_snapshot(late)
        await store.keep_snapshot(early)
        for revision, wanted in ((9, None), (10, early), (19, early), (20, late), (99, late)):
            found = await store.read_snapshot(revision=Revision(revision))
            assert found == wanted, f"the snapshot at {revision}"
        again = Snapshot(revision=Revision(20), parts=[b"d"])
        await store.keep_snapshot(again)
        assert await store.read_snapshot(revision=Revision(20)) == again


async def _commit(store: Store, events: Sequence[Event], **records: object) -> None:
    batch = WriteBatch(
        batch_id=batch_id(events[0].revision),
        base=Revision(events[0].revision - 1),
        events=events,
        **records,  # type: ignore[arg-type]  # fields of the batch, each of its own type
    )
    await store.commit(batch)


def _revision(event: Event) -> Revision:
    return event.revision


PAST_CHECKS: Final[tuple[StoreCheck, ...]] = (
    changes_are_the_newest_event_of_each_entity_between,
    a_moment_is_the_newest_revision_by_then,
    snapshots_are_kept_whole,
)
