"""The part of the store's contract that is about the past: moments, changes between two, kept states.

`PAST_CHECKS` are among `STORE_CHECKS`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from thunderline.block.store import LogMark, Snapshot, Store, WriteBatch
from thunderline.core.clock import to_ms
from thunderline.core.ids import Revision
from thunderline.core.records import OPEN_SESSION_STATUSES, Event, LinkSession, SessionStatus
from thunderline.flow.taxonomy import LINK_CLOSED, LINK_UPDATED, NODE_ONLINE, NODE_UPDATED
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
            newest = {event.entity_id: (event.payload, event.deleted) for event in told[after:until]}
            changes = await store.read_changes(after=Revision(after), until=Revision(until))
            found = {change.entity_id: (change.payload, change.deleted) for change in changes}
            assert found == newest, f"changes after {after} until {until}: {found}"
            assert len(changes) == len(newest), f"an entity twice among changes after {after} until {until}"


async def an_entity_has_its_own_events(make: StoreFactory) -> None:
    """Those between two revisions, in order, and the newest by a revision."""
    rng = random.Random(13)
    told: list[Event] = []
    async with make() as store:
        for turn in range(1, 31):
            node = make_node(rng.randint(1, 3), meta={"turn": turn})
            events = [make_event(turn, node)]
            await _commit(store, events, nodes=[node])
            told += events
        for number in range(1, 5):
            entity_id = make_node(number).id
            for after, until, limit in ((0, 30, 100), (5, 20, 3), (7, 7, 9), (29, 30, 1)):
                wanted = [event for event in told[after:until] if event.entity_id == entity_id][:limit]
                found = await store.read_entity(entity_id, after=Revision(after), until=Revision(until), limit=limit)
                assert found == wanted, f"events of node {number} after {after} until {until}: {found}"
            for revision in (0, 3, 17, 30):
                newest = next((event for event in told[:revision][::-1] if event.entity_id == entity_id), None)
                found_at = await store.read_entity_at(entity_id, Revision(revision))
                assert found_at == newest, f"the event of node {number} at {revision}: {found_at}"


async def events_are_counted_by_bins_of_minutes(make: StoreFactory) -> None:
    """Those of each name in each, whatever their order."""
    rng = random.Random(17)
    told: list[Event] = []
    base = to_ms(START) // 60_000
    async with make() as store:
        for _ in range(40):
            node, name = make_node(rng.randint(1, 3)), rng.choice((NODE_UPDATED, NODE_ONLINE))
            at = START + timedelta(seconds=rng.randint(0, 1_200))
            events = [make_event(len(told) + each, node, at=at, name=name) for each in range(1, rng.randint(2, 4))]
            await _commit(store, events, nodes=[node])
            told += events
        for since, until, width in ((0, 21, 1), (0, 21, 7), (3, 13, 5), (30, 40, 1), (-100, 100, 200)):
            wanted = Counter(
                ((to_ms(event.at) // 60_000 - base - since) // width, event.name)
                for event in told
                if since <= to_ms(event.at) // 60_000 - base < until
            )
            found = await store.count_events(since_minute=base + since, until_minute=base + until, width=width)
            counted = {(bin_, name): count for bin_, name, count in found}
            assert counted == dict(wanted), f"{since} to {until} by {width}: {counted}"


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
        shorter = Snapshot(revision=Revision(10), parts=[b"e"])
        await store.keep_snapshot(shorter)
        assert await store.read_snapshot(revision=Revision(10)) == shorter
        while await store.drop_snapshots():
            pass
        assert await store.read_snapshot(revision=Revision(99)) is None
        await store.keep_snapshot(late)
        assert await store.read_snapshot(revision=Revision(99)) == late


async def a_log_that_begins_later_tells_the_same_from_there_on(make: StoreFactory) -> None:
    """Every state from the beginning on, whatever was removed; of what is before it, nothing that nobody needs."""
    rng = random.Random(7)
    told: list[Event] = []
    ends: list[Revision] = []
    async with make() as store:
        for turn in range(1, 61):
            node = make_node(rng.randint(1, 4), meta={"turn": turn})
            status = rng.choice((SessionStatus.ESTABLISHED, SessionStatus.CLOSED))
            session = make_session(rng.randint(1, 4), node, status=status)
            name = LINK_UPDATED if status in OPEN_SESSION_STATUSES else LINK_CLOSED
            events = [make_event(len(told) + 1, node), make_event(len(told) + 2, session, name=name)]
            await _commit(store, events, nodes=[node], sessions=[session])
            told += events
            ends.append(events[-1].revision)
        for begin in (ends[9], ends[9], ends[39], ends[57]):
            for at in (begin - 1, begin):
                await store.keep_snapshot(Snapshot(revision=Revision(at), parts=[b"x"]))
            await store.mark_log(LogMark(revision=begin, age_ms=begin))
            await store.begin_log(begin)
            while await store.compact_log():
                pass
            for end in ends[ends.index(begin) :]:
                await _check_state(store, told, end)
            kept = await store.read_events(after=Revision(0), limit=1_000)
            early = [event.revision for event in kept if event.revision <= begin]
            wanted = {event.entity_id: event for event in told[:begin]}
            needed = [event.revision for event in wanted.values() if not _is_end(event) or event.revision == begin]
            # What the event at the very beginning made superfluous may go the next time.
            spared = [event.revision for event in told[:begin] if event.entity_id == told[begin - 1].entity_id]
            assert set(needed) <= set(early) <= {*needed, *spared}, f"{early} kept at {begin}"
            assert [event.revision for event in kept[len(early) :]] == list(range(begin + 1, len(told) + 1))
            found = await store.read_snapshot(revision=begin)
            assert found is not None
            assert found.revision == begin
            assert await store.read_snapshot(revision=Revision(begin - 1)) is None
        for number in range(1, 5):
            found_session = await store.find_session(f"session-{number}")
            newest = [event for event in told if event.entity_id == make_session(number, make_node(1)).id][-1]
            is_gone = _is_end(newest) and newest.revision < ends[57]
            assert (found_session is None) == is_gone, f"session {number}"
    async with make() as again:
        await again.close()
        head = await again.open()
        assert (head.oldest, head.revision) in ((ends[57], len(told)), (0, 0)), f"reopened: {head}"


async def marks_are_found_by_age_and_revision(make: StoreFactory) -> None:
    """The newest at or below both; those before the log's beginning are gone."""
    async with make() as store:
        node = make_node(1)
        events = [make_event(revision, node) for revision in range(1, 31)]
        await _commit(store, events, nodes=[node])
        assert await store.read_mark(age_ms=2**60, revision=Revision(30)) is None
        marks = [LogMark(revision=Revision(at), age_ms=at * 100) for at in (10, 20, 30)]
        for mark in marks:
            await store.mark_log(mark)
        cases = ((999, 30, None), (1000, 30, 0), (2500, 30, 1), (9999, 25, 1), (9999, 9, None), (9999, 30, 2))
        for age_ms, revision, wanted in cases:
            found = await store.read_mark(age_ms=age_ms, revision=Revision(revision))
            assert found == (None if wanted is None else marks[wanted]), f"the mark by {age_ms}, {revision}: {found}"
        await store.begin_log(Revision(20))
        assert await store.read_mark(age_ms=1500, revision=Revision(30)) is None
        assert await store.read_mark(age_ms=2500, revision=Revision(30)) == marks[1]


async def _check_state(store: Store, told: Sequence[Event], revision: Revision) -> None:
    wanted = {event.entity_id: event for event in told[:revision]}
    found = {}
    after = None
    while page := await store.read_past(revision=revision, after=after, limit=3):
        found.update({event.entity_id: event for event in page})
        after = page[-1].entity_id
    missing = [event for entity_id, event in wanted.items() if entity_id not in found]
    assert all(_is_end(event) for event in missing), f"the state at {revision} lacks {missing}"
    assert all(event == wanted[entity_id] for entity_id, event in found.items()), f"the state at {revision}: {found}"


def _is_end(event: Event) -> bool:
    is_closed = isinstance(event.payload, LinkSession) and event.payload.status not in OPEN_SESSION_STATUSES
    return event.deleted or is_closed


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
    an_entity_has_its_own_events,
    events_are_counted_by_bins_of_minutes,
    a_moment_is_the_newest_revision_by_then,
    snapshots_are_kept_whole,
    a_log_that_begins_later_tells_the_same_from_there_on,
    marks_are_found_by_age_and_revision,
)
