"""The contract of a store, as checks that any implementation can be held to.

    await check_store(lambda: fresh_database())

where `fresh_database()` makes an empty database and gives a factory of stores on it. Needs no test framework; with
one, run `STORE_CHECKS` one by one. Not checked, since only the engine's own tests can bring them about: that a commit
is on stable storage when it returns, that what `committed` answers holds over a crash, a full disk, a connection that
is lost in the middle of a commit, a database that is moved away under an open store.

The file is long because it is the contract, to be read and run in one piece.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import msgspec

from thunderline.block.beats import PackedBeat, node_key
from thunderline.block.store import HistoryClock, KeptAnswer, LogHead, PresenceRow, Store, StoredBlock, WriteBatch
from thunderline.core.clock import from_ms
from thunderline.core.errors import ContentRejected, StoreUnavailable
from thunderline.core.ids import LinkId, NodeId, Revision
from thunderline.core.records import (
    BeatStatus,
    Capability,
    Event,
    GroupType,
    LinkSession,
    Node,
    NodeGroup,
    NodeStatus,
    Override,
    Record,
    RegistryReport,
    SessionStatus,
)
from thunderline.testing.access_suite import ACCESS_CHECKS
from thunderline.testing.clock import START_MS
from thunderline.testing.document_suite import DOCUMENT_CHECKS
from thunderline.testing.history_suite import HISTORY_CHECKS
from thunderline.testing.past_suite import PAST_CHECKS
from thunderline.testing.records import (
    batch_id,
    make_beat,
    make_capacity_report,
    make_event,
    make_group,
    make_guard_report,
    make_node,
    make_session,
    node_id,
)

StoreFactory = Callable[[], Store]
"""Gives a store that is not yet opened, each time on the same data; called again only after the last one was closed."""


class StoreCheck(Protocol):
    """One rule of the contract, named by the function that checks it."""

    __name__: str

    def __call__(self, make: StoreFactory) -> Awaitable[None]:
        """Return if stores of `make`, whose database is empty, keep the rule. Raises: AssertionError."""


async def check_store(make_database: Callable[[], StoreFactory]) -> None:
    """Return if the stores on databases of `make_database` keep the whole contract; each check gets its own database.

    Raises: AssertionError that names the check which failed.
    """
    for check in STORE_CHECKS:
        try:
            await check(make_database())
        except Exception as error:
            raise AssertionError(f"{check.__name__}: {error or type(error).__name__}") from error


class _Log:
    """An open store, and batches for it that follow one another."""

    def __init__(self, store: Store, head: LogHead) -> None:
        self.store = store
        self.head = head
        self.revision: int = head.revision
        self.batches: int = head.revision

    def batch(
        self,
        *records: Record,
        removed: Sequence[Node | NodeGroup] = (),
        beats: Sequence[PackedBeat] = (),
        presence: Sequence[PresenceRow] = (),
        presence_block: int | None = None,
        answers: Sequence[KeptAnswer] = (),
    ) -> WriteBatch:
        """A batch with one event for each record and each removal, in this order; of a record given twice, both."""
        self.batches += 1
        gone = [make_event(self.revision + i, record, deleted=True) for i, record in enumerate(removed, start=1)]
        told = [make_event(self.revision + i, record) for i, record in enumerate(records, start=len(gone) + 1)]
        newest = {record.id: record for record in records}.values()
        return WriteBatch(
            batch_id=batch_id(self.batches),
            base=Revision(self.revision),
            events=gone + told,
            nodes=[record for record in newest if isinstance(record, Node)],
            removed_nodes=[record.id for record in removed if isinstance(record, Node)],
            sessions=[record for record in newest if isinstance(record, LinkSession)],
            groups=[record for record in newest if isinstance(record, NodeGroup)],
            removed_groups=[record.id for record in removed if isinstance(record, NodeGroup)],
            beats=beats,
            presence=presence,
            presence_block=presence_block,
            answers=answers,
        )

    async def write(self, *records: Record, **parts: Any) -> WriteBatch:
        """Commit such a batch and give it."""
        batch = self.batch(*records, **parts)
        await self.store.commit(batch)
        self.revision += len(batch.events)
        return batch

    async def refused(self, batch: WriteBatch, why: str) -> None:
        """Commit a batch that has to be refused."""
        try:
            await self.store.commit(batch)
        except ContentRejected:
            return
        raise AssertionError(f"a batch was taken although {why}")


@asynccontextmanager
async def _opened(make: StoreFactory) -> AsyncIterator[_Log]:
    store = make()
    head = await store.open()
    try:
        yield _Log(store, head)
    finally:
        await store.close()


class _Contents(msgspec.Struct, frozen=True):
    """All that can be read from a store."""

    nodes: list[Node]
    open_sessions: list[LinkSession]
    groups: list[NodeGroup]
    events: list[Event]
    presence: list[PresenceRow]
    presence_block: int
    beats: list[PackedBeat]


async def _read_all(store: Store) -> _Contents:
    return _Contents(
        await store.scan_nodes(after=None, limit=_ALL),
        await store.scan_open_sessions(after=None, limit=_ALL),
        await store.scan_groups(after=None, limit=_ALL),
        await store.read_events(after=Revision(0), limit=_ALL),
        await store.scan_presence(after=None, limit=_ALL),
        await store.presence_block(),
        [beat for block in await store.scan_blocks(after=0, limit=_ALL) for beat in block.beats],
    )


_ALL: Final = 1_000_000
_EVER: Final = 2**62
_EXACT: Final = msgspec.msgpack.Encoder(order="sorted")


def _expect(found: object, wanted: object, what: str) -> None:
    """Compare to the last bit: neither 1 and 1.0 nor 0.0 and -0.0 are the same."""
    if _EXACT.encode(found) != _EXACT.encode(wanted):
        raise AssertionError(f"{what}: found {_short(found)}, not {_short(wanted)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 600 else f"{text[:400]} ... {text[-200:]}"


def _presence(node: Node | NodeId, **changes: Any) -> PresenceRow:
    row = PresenceRow(node.id if isinstance(node, Node) else node, 1, START_MS, None, b"", None)
    return msgspec.structs.replace(row, **changes)


# Opening and closing


async def a_new_database_is_empty(make: StoreFactory) -> None:
    """Its log stands at 0 and has an id; every read finds nothing."""
    async with _opened(make) as log:
        _expect((log.head.revision, log.head.oldest), (0, 0), "where the log stands")
        _expect(bool(log.head.log_id), True, "whether the log has an id")
        _expect(await _read_all(log.store), _Contents([], [], [], [], [], 0, []), "what is in it")
        _expect(await log.store.find_session("session-1"), None, "a session")
        _expect(await log.store.committed(batch_id(1)), False, "whether a batch was committed")
        beats = await log.store.read_beats(node_id=None, since_ms=0, until_ms=_EVER, limit=10)
        _expect(beats, [], "heartbeats")


async def reopening_finds_everything(make: StoreFactory) -> None:
    """All that was committed is there after a restart, in the same log, which goes on from where it stood."""
    node, gone = make_node(1, meta={"a": [1]}), make_node(2)
    session, closed = make_session(1, node), make_session(2, node, status=SessionStatus.CLOSED, meta={"b": 2})
    async with _opened(make) as log:
        await log.write(node, gone, session, closed, make_group(1), beats=[make_beat(node), make_beat(gone)])
        last = await log.write(removed=[gone], presence=[_presence(node)], presence_block=1)
        before, revision, log_id = await _read_all(log.store), log.revision, log.head.log_id
    async with _opened(make) as log:
        _expect((log.head.revision, log.head.log_id), (revision, log_id), "where the log stands")
        _expect(await _read_all(log.store), before, "what is in it")
        _expect(await log.store.find_session(closed.session_id), closed, "the closed session")
        _expect(await log.store.get_session(closed.id), closed, "the closed session, by its id")
        _expect(await log.store.committed(last.batch_id), True, "whether the last batch was committed")
        await log.write(make_node(3))
        _expect(len(await log.store.read_events(after=Revision(revision), limit=_ALL)), 1, "events after it")


async def closing_twice_is_fine(make: StoreFactory) -> None:
    """`close` is idempotent, before `open` too, and takes nothing away."""
    store = make()
    await store.close()
    async with _opened(make) as log:
        await log.write(make_node(1))
        await log.store.close()
    async with _opened(make) as log:
        _expect(len((await _read_all(log.store)).nodes), 1, "nodes after it was closed twice")


async def a_cancelled_close_can_be_repeated(make: StoreFactory) -> None:
    """Whoever is cancelled while closing leaves nothing behind that keeps the database from being opened again."""
    for turns in range(4):
        async with _opened(make) as log:
            await log.write(make_node(turns + 1))
            closing = asyncio.ensure_future(log.store.close())
            await _cancel_after(closing, turns)
        async with _opened(make) as log:
            _expect(len((await _read_all(log.store)).nodes), turns + 1, "nodes after a cancelled close")


async def a_closed_store_refuses_service(make: StoreFactory) -> None:
    """After `close` every other call says that the store is away."""
    async with _opened(make) as log:
        store, batch = log.store, log.batch(make_node(1))
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: store.commit(batch),
        lambda: store.committed(batch.batch_id),
        store.probe,
        lambda: _read_all(store),
        lambda: store.find_session("session-1"),
        lambda: store.get_session(make_session(1, make_node(1)).id),
        lambda: store.scan_tokens(after=None, limit=1),
        lambda: store.read_audit(before=None, limit=1),
        lambda: store.scan_documents("shelf", after=None, limit=1),
        lambda: store.trim_audit(before_ms=0, limit=1),
        lambda: store.read_beats(node_id=None, since_ms=0, until_ms=1, limit=1),
        lambda: store.read_rollups(node_id=node_id(1), since_ms=0, until_ms=1, bucket_ms=1),
        lambda: store.compact_beats(closed_ms=0, settled_block=0),
        lambda: store.trim_beats(raw_before_ms=0, rollups_before_ms=0, max_bytes=0),
        store.history_clock,
        lambda: store.set_history_clock(HistoryClock(now_ms=0, lead_ms=0, stood_ms=0)),
    ]
    for call in calls:
        try:
            await call()
        except StoreUnavailable:
            continue
        raise AssertionError("a closed store answered")


# Commits


async def a_refused_batch_writes_nothing(make: StoreFactory) -> None:
    """One bad record, and no part of its batch is there: no record, event, beat, presence; nor is it `committed`."""
    node = make_node(1)
    async with _opened(make) as log:
        good = await log.write(node, beats=[make_beat(node)], presence=[_presence(node)], presence_block=1)
        before = await _read_all(log.store)
        bad = log.batch(
            make_node(2, meta={"new": True}),
            make_node(3, name=node.name),
            make_session(1, node),
            make_group(1),
            beats=[make_beat(node, START_MS + 1)],
            presence=[_presence(node, incarnation=9)],
            presence_block=2,
        )
        await log.refused(bad, "it takes the name of another node")
        _expect(await _read_all(log.store), before, "what is in it")
        _expect(await log.store.find_session("session-1"), None, "the batch's session")
        _expect(await log.store.committed(bad.batch_id), False, "whether the refused batch was committed")
        _expect(await log.store.committed(good.batch_id), True, "whether the newest is still the one before")
        await log.write(make_node(2))
    async with _opened(make) as log:
        _expect(log.head.revision, 2, "where the log stands")


async def a_batch_on_another_base_is_refused(make: StoreFactory) -> None:
    """Events that do not follow what the log holds are not written, whether they repeat it or leave a gap."""
    async with _opened(make) as log:
        await log.write(make_node(1), make_node(2))
        for base in (0, 1, 3, 100):
            node = make_node(10 + base)
            batch = WriteBatch(
                batch_id=batch_id(100 + base),
                base=Revision(base),
                events=[make_event(base + 1, node)],
                nodes=[node],
                beats=[make_beat(node)],
            )
            await log.refused(batch, f"it follows revision {base} and the log stands at 2")
        contents = await _read_all(log.store)
        _expect([event.revision for event in contents.events], [1, 2], "revisions")
        _expect((len(contents.nodes), len(contents.beats)), (2, 0), "nodes and beats")


async def events_with_a_gap_are_refused(make: StoreFactory) -> None:
    """The revisions of a batch are those after its base, each once, in order."""
    async with _opened(make) as log:
        await log.write(make_node(1))
        for number, revisions in enumerate(([3], [2, 4], [2, 2], [3, 2], [1, 2], [5, 6]), start=10):
            node = make_node(number)
            events = [make_event(revision, node) for revision in revisions]
            batch = WriteBatch(batch_id=batch_id(number), base=Revision(1), events=events, nodes=[node])
            await log.refused(batch, f"its events have the revisions {revisions} after 1")
        _expect(len((await _read_all(log.store)).events), 1, "events")
        await log.write(make_node(2))


async def revisions_run_through_all_batches(make: StoreFactory) -> None:
    """Whatever the batches held, the log has each revision once; batches without events do not move it."""
    async with _opened(make) as log:
        for number in range(1, 6):
            await log.write(*(make_node(100 * number + i) for i in range(number)))
            await log.write(beats=[make_beat(node_id(1))])
        events = await log.store.read_events(after=Revision(0), limit=_ALL)
        _expect([event.revision for event in events], list(range(1, 16)), "revisions")
    async with _opened(make) as log:
        _expect(log.head.revision, 15, "where the log stands")


async def an_empty_batch_is_taken(make: StoreFactory) -> None:
    """It writes nothing but that it was committed."""
    async with _opened(make) as log:
        block = await log.store.commit(WriteBatch(batch_id=batch_id(1), base=Revision(0)))
        _expect(block, None, "the id of a block of no beats")
        _expect(await log.store.committed(batch_id(1)), True, "whether it was committed")
        _expect(await _read_all(log.store), _Contents([], [], [], [], [], 0, []), "what is in it")


async def the_past_is_the_newest_event_of_each_entity(make: StoreFactory) -> None:
    """At any revision: what there was then, what was deleted by then with its deletion, nothing of later; in pages."""
    rng = random.Random(7)
    nodes = [make_node(number) for number in range(1, 9)]
    told: list[Event] = []
    async with _opened(make) as log:
        alive: dict[NodeId, Node] = {}
        for turn in range(40):
            node = rng.choice(nodes)
            if node.id in alive and rng.random() < 0.3:
                batch = await log.write(removed=[alive.pop(node.id)])
            else:
                alive[node.id] = msgspec.structs.replace(node, meta={"turn": turn})
                batch = await log.write(alive[node.id], make_session(turn, node) if turn % 5 else node)
            told += batch.events
        for revision in (0, 1, 7, len(told) // 2, len(told) - 1, len(told)):
            newest = {event.entity_id: event for event in told[:revision]}
            found: list[Event] = []
            after = None
            while page := await log.store.read_past(revision=Revision(revision), after=after, limit=3):
                found += page
                after = page[-1].entity_id
            _expect(found, [newest[key] for key in sorted(newest)], f"the state at {revision}")


async def a_large_batch_is_kept_whole_and_in_order(make: StoreFactory) -> None:
    """Hundreds of records in one transaction, each with its event."""
    nodes = [make_node(number, meta={"n": number % 7}) for number in range(1, 402)]
    sessions = [make_session(number, node) for number, node in enumerate(nodes, start=1)]
    presence = [_presence(node, incarnation=number) for number, node in enumerate(nodes, start=1)]
    async with _opened(make) as log:
        batch = await log.write(*nodes, *sessions, presence=presence)
        contents = await _read_all(log.store)
        _expect(contents.nodes, nodes, "nodes")
        _expect(contents.open_sessions, sessions, "sessions")
        _expect(contents.presence, presence, "presences")
        _expect(contents.events, list(batch.events), "events")


async def committed_tells_of_the_newest_batch_alone(make: StoreFactory) -> None:
    """Not of one before it, nor of one that never was; neither a probe in between nor the question changes anything."""
    async with _opened(make) as log:
        first = await log.write(make_node(1))
        _expect(await log.store.committed(first.batch_id), True, "whether the newest batch was committed")
        second = await log.write(beats=[make_beat(node_id(1))])
        await log.store.probe()
        _expect(await log.store.committed(first.batch_id), False, "whether the one before is the newest")
        before = await _read_all(log.store)
        _expect(await log.store.committed(batch_id(999)), False, "whether an unknown batch was committed")
        _expect(await log.store.committed(second.batch_id), True, "whether the newest batch was committed")
        _expect(await _read_all(log.store), before, "what is in it after the questions")
        await log.write(make_node(2))


async def a_cancelled_commit_still_lands_whole(make: StoreFactory) -> None:
    """Cancelling the caller does not stop the transaction, nor harm the ones that follow."""
    async with _opened(make) as log:
        for turns in range(1, 8):
            node = make_node(turns)
            batch = log.batch(node, make_session(turns, node), beats=[make_beat(node)])
            await _cancel_after(asyncio.ensure_future(log.store.commit(batch)), turns)
            log.revision += len(batch.events)
            _expect(await log.store.committed(batch.batch_id), True, f"a commit cancelled after {turns} turns")
            contents = await _read_all(log.store)
            found = (len(contents.nodes), len(contents.open_sessions), len(contents.beats), len(contents.events))
            _expect(found, (turns, turns, turns, 2 * turns), "nodes, sessions, beats and events")


async def _cancel_after(work: asyncio.Future[Any], turns: int) -> None:
    # A task begins to run in the first turn of the loop; before that there is nothing to cancel.
    for _ in range(turns):
        await asyncio.sleep(0)
    work.cancel()
    await asyncio.wait([work])


async def a_reader_never_sees_half_a_batch(make: StoreFactory) -> None:
    """While one task commits, what others read is the state after some whole batch, and never an older one again."""
    pairs = 25
    async with _opened(make) as log:
        await log.write(make_node(1), make_node(2))
        seen: list[list[int]] = []
        writing = asyncio.ensure_future(_write_pairs(log, pairs))
        while not writing.done():
            nodes = await log.store.scan_nodes(after=None, limit=_ALL)
            seen.append([node.incarnation for node in nodes])
            await asyncio.sleep(0)
        await writing
        for found in seen:
            _expect(found[0], found[1], "the two nodes of every batch, as read in between")
        _expect(sorted(seen), seen, "states in the order in which they were read")
        nodes = await log.store.scan_nodes(after=None, limit=_ALL)
        _expect([node.incarnation for node in nodes], [pairs, pairs], "the last state")


async def _write_pairs(log: _Log, pairs: int) -> None:
    for incarnation in range(1, pairs + 1):
        await log.write(make_node(1, incarnation=incarnation), make_node(2, incarnation=incarnation))


async def a_healthy_store_passes_its_probe(make: StoreFactory) -> None:
    """`probe` returns, and leaves no trace that can be read."""
    async with _opened(make) as log:
        await log.store.probe()
        await log.write(make_node(1))
        before = await _read_all(log.store)
        await log.store.probe()
        _expect(await _read_all(log.store), before, "what is in it")


# Nodes


async def nodes_are_scanned_by_id(make: StoreFactory) -> None:
    """In pages of any size, each node once, beginning after the given id; an empty page is the end."""
    nodes = [make_node(number) for number in range(1, 24)]
    shuffled = random.Random(1).sample(nodes, len(nodes))
    async with _opened(make) as log:
        await log.write(*shuffled[:9])
        await log.write(*shuffled[9:])
        for limit in (1, 2, 7, 23, 24):
            found: list[Node] = []
            while page := await log.store.scan_nodes(after=found[-1].id if found else None, limit=limit):
                _expect(len(page) <= limit, True, f"whether a page holds {limit} at most")
                found += page
            _expect(found, nodes, f"nodes in pages of {limit}")
        _expect(await log.store.scan_nodes(after=node_id(10_000), limit=5), [], "nodes beyond the last")
        await log.write(removed=[nodes[4]])
        _expect((await log.store.scan_nodes(after=nodes[4].id, limit=1)), [nodes[5]], "the node after a removed one")


async def a_node_is_replaced_by_its_newer_record(make: StoreFactory) -> None:
    """An upsert leaves one record, the newer; its sessions and presence stay."""
    node, other = make_node(1, meta={"a": 1}), make_node(2)
    newer = make_node(1, meta={"b": 2}, status=NodeStatus.ONLINE, labels={"k": "v"}, incarnation=2)
    session = make_session(1, node)
    async with _opened(make) as log:
        await log.write(node, other, session, presence=[_presence(node)])
        await log.write(newer)
        contents = await _read_all(log.store)
        _expect(contents.nodes, [newer, other], "nodes")
        _expect(contents.open_sessions, [session], "sessions")
        _expect(contents.presence, [_presence(node)], "presences")


async def a_removed_node_takes_its_sessions_and_presence_with_it(make: StoreFactory) -> None:
    """Open and closed sessions, and the presence; not its events and beats, nor anything of another node."""
    node, other = make_node(1), make_node(2)
    sessions = [
        make_session(1, node),
        make_session(2, other),
        make_session(3, node, status=SessionStatus.CLOSED),
        make_session(4, other, status=SessionStatus.FAILED),
    ]
    async with _opened(make) as log:
        await log.write(
            node,
            other,
            *sessions,
            beats=[make_beat(node), make_beat(other)],
            presence=[_presence(node), _presence(other)],
        )
        await log.write(removed=[node])
        contents = await _read_all(log.store)
        _expect(contents.nodes, [other], "nodes")
        _expect(contents.open_sessions, [sessions[1]], "open sessions")
        _expect(contents.presence, [_presence(other)], "presences")
        _expect(len(contents.events), 7, "events")
        _expect(contents.beats, [make_beat(node), make_beat(other)], "beats")
        found = [await log.store.find_session(session.session_id) for session in sessions]
        _expect(found, [None, sessions[1], None, sessions[3]], "sessions by their session_id")


async def removing_an_unknown_node_is_fine(make: StoreFactory) -> None:
    """A node that came and went in one batch is removed without ever having been there; its events are."""
    node = make_node(1)
    async with _opened(make) as log:
        events = [make_event(1, node), make_event(2, node, deleted=True)]
        await log.store.commit(
            WriteBatch(batch_id=batch_id(1), base=Revision(0), events=events, removed_nodes=[node.id])
        )
        contents = await _read_all(log.store)
        _expect((contents.nodes, contents.events), ([], events), "nodes and events")


async def a_freed_name_can_be_taken_in_the_same_batch(make: StoreFactory) -> None:
    """The name of a removed node, and the `session_id` of its session, open and closed; also in later batches."""
    first, second, third = make_node(1), make_node(2, name="node-1"), make_node(3, name="node-1")
    old = [make_session(1, first), make_session(2, first, status=SessionStatus.CLOSED)]
    new = [make_session(3, second, session_id="session-1"), make_session(4, second, session_id="session-2")]
    async with _opened(make) as log:
        await log.write(first, *old)
        await log.write(second, *new, removed=[first])
        contents = await _read_all(log.store)
        _expect((contents.nodes, contents.open_sessions), ([second], new), "nodes and sessions")
        _expect([await log.store.find_session(s.session_id) for s in new], new, "sessions by their session_id")
        await log.write(removed=[second])
        await log.write(third)
        _expect((await _read_all(log.store)).nodes, [third], "nodes")


async def a_name_belongs_to_one_node(make: StoreFactory) -> None:
    """A second node of the same name is refused, in a later batch, after a restart, and in the same batch."""
    async with _opened(make) as log:
        await log.refused(log.batch(make_node(1), make_node(2, name="node-1")), "two of its nodes have one name")
        await log.write(make_node(1), make_node(5))
        await log.refused(log.batch(make_node(2, name="node-1")), "the name is taken")
        batch = log.batch(make_node(2, name="node-1"), removed=[make_node(5)])
        await log.refused(batch, "the name is taken, by another node than the removed one")
        await log.write(make_node(1, role="gateway"))
    async with _opened(make) as log:
        await log.refused(log.batch(make_node(2, name="node-1")), "the name is taken")
        await log.write(make_node(2, name="Node-1"))
        _expect(len((await _read_all(log.store)).nodes), 3, "nodes, two of whose names differ in case alone")


# Sessions


async def open_sessions_are_scanned_by_id(make: StoreFactory) -> None:
    """In pages; those that are closed or failed are left out, and come back when they are opened again."""
    node = make_node(1)
    statuses = list(SessionStatus)
    sessions = [make_session(number, node, status=statuses[number % len(statuses)]) for number in range(1, 26)]
    unfinished = [s for s in sessions if s.status not in (SessionStatus.CLOSED, SessionStatus.FAILED)]
    async with _opened(make) as log:
        await log.write(node, *random.Random(2).sample(sessions, len(sessions)))
        for limit in (1, 4, 15, 16):
            found: list[LinkSession] = []
            while page := await log.store.scan_open_sessions(after=found[-1].id if found else None, limit=limit):
                _expect(len(page) <= limit, True, f"whether a page holds {limit} at most")
                found += page
            _expect(found, unfinished, f"open sessions in pages of {limit}")
        closed = msgspec.structs.replace(unfinished[0], status=SessionStatus.CLOSED)
        failed = msgspec.structs.replace(unfinished[1], status=SessionStatus.FAILED)
        again = next(s for s in sessions if s.status is SessionStatus.CLOSED)
        again = msgspec.structs.replace(again, status=SessionStatus.DEGRADED)
        await log.write(closed, failed, again)
        wanted = sorted([*unfinished[2:], again], key=lambda session: session.id)
        _expect(await log.store.scan_open_sessions(after=None, limit=_ALL), wanted, "open sessions")
        last = LinkId(sessions[-1].id)
        _expect(await log.store.scan_open_sessions(after=last, limit=_ALL), [], "open sessions beyond the last")


async def a_session_is_found_open_or_closed(make: StoreFactory) -> None:
    """By the caller's `session_id`, exactly as written, as of its newest record."""
    node = make_node(1)
    session = make_session(1, node, session_id="Verbindung zu Ω/42", meta={"a": 1})
    closed = msgspec.structs.replace(session, status=SessionStatus.CLOSED, closed_at=from_ms(START_MS + 5), meta={})
    async with _opened(make) as log:
        await log.write(node, session)
        _expect(await log.store.find_session(session.session_id), session, "the open session")
        await log.write(closed)
        _expect(await log.store.find_session(session.session_id), closed, "the closed session")
        for other in (session.id, session.session_id.lower(), session.session_id + " ", ""):
            _expect(await log.store.find_session(other), None, f"a session by {other!r}")


async def a_session_id_belongs_to_one_session(make: StoreFactory) -> None:
    """A second session of the same `session_id` is refused, of the same node or another, open or closed."""
    node, other = make_node(1), make_node(2)
    async with _opened(make) as log:
        await log.write(node, other, make_session(1, node), make_session(2, node, status=SessionStatus.CLOSED))
        for taken in ("session-1", "session-2"):
            for owner in (node, other):
                batch = log.batch(make_session(9, owner, session_id=taken))
                await log.refused(batch, f"its session_id {taken} is taken")
        batch = log.batch(make_session(8, node, session_id="new"), make_session(9, node, session_id="new"))
        await log.refused(batch, "two of its sessions have one session_id")
        _expect(len((await _read_all(log.store)).open_sessions), 1, "open sessions")


async def sessions_and_presences_belong_to_nodes_that_exist(make: StoreFactory) -> None:
    """Those of a node that never was, or that is gone after the batch, are refused."""
    node = make_node(1)
    async with _opened(make) as log:
        await log.write(node, make_session(1, node))
        await log.refused(log.batch(make_session(2, node_id(9))), "its session is of an unknown node")
        await log.refused(log.batch(presence=[_presence(node_id(9))]), "its presence is of an unknown node")
        await log.refused(log.batch(make_session(1, node), removed=[node]), "its session is of a removed node")
        await log.refused(log.batch(presence=[_presence(node)], removed=[node]), "its presence is of a removed node")
        contents = await _read_all(log.store)
        _expect((contents.nodes, contents.open_sessions), ([node], [make_session(1, node)]), "nodes and sessions")


# Presence and heartbeats


async def presences_are_scanned_by_node(make: StoreFactory) -> None:
    """In pages, each node's newest."""
    nodes = [make_node(number) for number in range(1, 12)]
    rows = [_presence(node, incarnation=number) for number, node in enumerate(nodes, start=1)]
    async with _opened(make) as log:
        await log.write(*nodes, presence=random.Random(3).sample(rows, len(rows)))
        rows[3] = _presence(nodes[3], incarnation=44, seen_high=7, seen_mask=b"\xff\x00\x01", last_seen_ms=None)
        await log.write(presence=[rows[3]])
        for limit in (1, 5, 11, 12):
            found: list[PresenceRow] = []
            while page := await log.store.scan_presence(after=found[-1].node_id if found else None, limit=limit):
                _expect(len(page) <= limit, True, f"whether a page holds {limit} at most")
                found += page
            _expect(found, rows, f"presences in pages of {limit}")


async def the_presence_block_stays_until_the_next(make: StoreFactory) -> None:
    """0 at first; a batch that names none leaves it as it is, over a restart too."""
    async with _opened(make) as log:
        _expect(await log.store.presence_block(), 0, "the block before any checkpoint")
        await log.write(make_node(1), presence_block=0)
        await log.write(presence_block=7)
        await log.write(make_node(2), beats=[make_beat(node_id(2))])
        _expect(await log.store.presence_block(), 7, "the block of the last checkpoint")
    async with _opened(make) as log:
        _expect(await log.store.presence_block(), 7, "the block of the last checkpoint")


async def an_answer_is_found_under_its_caller_and_key(make: StoreFactory) -> None:
    """Whole, also by a store that is opened later; other callers and keys find nothing."""
    first = _answer("a", body=bytes(range(256)))
    async with _opened(make) as log:
        await log.write(make_node(1), answers=[first, _answer("b", status=200)])
        await log.write(answers=[_answer("a", caller="node:2", body=b"")])
    async with _opened(make) as log:
        _expect(await log.store.find_answer("operator:1", "a"), first, "the answer")
        _expect(await log.store.find_answer("operator:1", "b"), _answer("b", status=200), "the other answer")
        _expect(await log.store.find_answer("node:2", "a"), _answer("a", caller="node:2", body=b""), "another's")
        for caller, key in (("operator:1", "A"), ("operator:1", "c"), ("operator:2", "b")):
            _expect(await log.store.find_answer(caller, key), None, f"the answer to {caller}, {key}")


async def a_key_has_one_answer_until_it_expires(make: StoreFactory) -> None:
    """A batch with a second one is refused whole; once the first has expired, another takes its place."""
    node = make_node(1)
    async with _opened(make) as log:
        await log.write(answers=[_answer("a")])
        batch = log.batch(node, answers=[_answer("b"), _answer("a", at_ms=START_MS + 999)])
        await log.refused(batch, "a key whose answer is kept")
        await log.refused(log.batch(node, answers=[_answer("c"), _answer("c")]), "two answers to one key")
        _expect(await log.store.scan_nodes(after=None, limit=5), [], "nodes of what was refused")
        _expect(await log.store.find_answer("operator:1", "b"), None, "an answer of what was refused")
        later = _answer("a", at_ms=START_MS + 1_000)
        await log.write(node, answers=[later])
        _expect(await log.store.find_answer("operator:1", "a"), later, "the answer that took the place")


async def expired_answers_are_removed(make: StoreFactory) -> None:
    """Beside later ones, faster than they come; none that has not expired."""
    async with _opened(make) as log:
        await log.write(answers=[_answer(f"old-{i}") for i in range(300)])
        await log.write(answers=[_answer("fresh", at_ms=START_MS + 500)])
        for i in range(10):
            await log.write(answers=[_answer(f"new-{i}", at_ms=START_MS + 1_000)])
        left = [i for i in range(300) if await log.store.find_answer("operator:1", f"old-{i}") is not None]
        _expect(left, [], "expired answers that are left")
        _expect((await log.store.find_answer("operator:1", "fresh")) is not None, True, "whether a fresh one is there")


async def blocks_are_scanned_in_the_order_of_commits(make: StoreFactory) -> None:
    """Each commit with beats is one block with an id beyond the last; its beats keep their order."""
    async with _opened(make) as log:
        blocks: list[StoredBlock] = []
        for number in range(1, 12):
            # Times run backwards: the order is that of commits, not of clocks.
            beats = [make_beat(node_id(n), START_MS - number * 1000 - n, seq=n) for n in (3, 1, 2)]
            block_id = await log.store.commit(log.batch(beats=beats))
            if block_id is None:
                raise AssertionError("a commit with beats gave no block id")
            blocks.append(StoredBlock(id=block_id, beats=beats))
            _expect(await log.store.commit(log.batch()), None, "the block of a commit without beats")
            refused = msgspec.structs.replace(log.batch(beats=beats), events=[make_event(9, make_node(1))])
            await log.refused(refused, "its event leaves a gap")
        ids = [block.id for block in blocks]
        _expect(ids, sorted(set(ids)), "block ids")
        _expect(ids[0] > 0, True, "whether the first block lies after 0")
        for limit in (1, 4, 11, 12):
            found: list[StoredBlock] = []
            while page := await log.store.scan_blocks(after=found[-1].id if found else 0, limit=limit):
                _expect(len(page) <= limit, True, f"whether a page holds {limit} at most")
                found += page
            _expect(found, blocks, f"blocks in pages of {limit}")
    async with _opened(make) as log:
        later = await log.store.commit(log.batch(beats=[make_beat(node_id(1))]))
        _expect(later is not None and later > ids[-1], True, "whether a block after a restart has a later id")


async def beats_are_read_as_asked(make: StoreFactory) -> None:
    """By node or of all, from `since` on and before `until`, the newest `limit` of them, in ascending time."""
    rng = random.Random(4)
    committed: list[PackedBeat] = []
    async with _opened(make) as log:
        for _ in range(30):
            start = START_MS + rng.randrange(300)
            beats = [
                make_beat(
                    node_id(rng.randrange(1, 4)), start + rng.randrange(rng.choice((1, 50))), seq=rng.randrange(9)
                )
                for _ in range(rng.randrange(1, 9))
            ]
            await log.write(beats=beats)
            committed += beats
        for _ in range(150):
            asked = rng.choice((None, node_id(1), node_id(2), node_id(3), node_id(4)))
            since_ms = START_MS + rng.randrange(-20, 360)
            until_ms = since_ms + rng.choice((0, 1, 5, 40, 1000))
            limit = rng.choice((0, 1, 2, 5, 20, 1000))
            found = await log.store.read_beats(node_id=asked, since_ms=since_ms, until_ms=until_ms, limit=limit)
            wanted = [
                beat
                for beat in sorted(committed, key=lambda beat: (beat.at_ms, beat.node_key))
                if since_ms <= beat.at_ms < until_ms and asked in (None, _owner(beat, 4))
            ]
            what = f"beats of {asked} from {since_ms - START_MS} to {until_ms - START_MS}, {limit} at most"
            _expect(found, wanted[max(len(wanted) - limit, 0) :], what)


def _owner(beat: PackedBeat, nodes: int) -> NodeId:
    return next(node_id(n) for n in range(1, nodes + 1) if node_key(node_id(n)) == beat.node_key)


async def the_newest_beats_are_found_behind_a_wide_block(make: StoreFactory) -> None:
    """A commit may hold hours of late beats beside one of now: it does not hide the newer beats of others."""
    node = node_id(1)
    wide = [make_beat(node, START_MS - age, seq=age) for age in range(3000, 0, -1)]
    async with _opened(make) as log:
        await log.write(beats=[make_beat(node, START_MS + 1, seq=1)])
        await log.write(beats=[*wide, make_beat(node, START_MS + 9, seq=9)])
        await log.write(beats=[make_beat(node, START_MS + 5, seq=5)])
        found = await log.store.read_beats(node_id=node, since_ms=0, until_ms=_EVER, limit=4)
        _expect([beat.at_ms - START_MS for beat in found], [-1, 1, 5, 9], "the times of the newest 4")
        found = await log.store.read_beats(node_id=None, since_ms=0, until_ms=START_MS + 9, limit=2)
        _expect([beat.at_ms - START_MS for beat in found], [1, 5], "the times of the newest 2 before the last")


async def beats_of_one_time_keep_the_order_of_commits(make: StoreFactory) -> None:
    """Within a block and between blocks; the newest are those that were committed last."""
    async with _opened(make) as log:
        for first in (1, 4, 7):
            await log.write(beats=[make_beat(node_id(1), seq=seq) for seq in range(first, first + 3)])
        for limit, wanted in ((_ALL, list(range(1, 10))), (4, [6, 7, 8, 9]), (1, [9])):
            found = await log.store.read_beats(node_id=node_id(1), since_ms=0, until_ms=_EVER, limit=limit)
            _expect([beat.seq for beat in found], wanted, "the numbers of beats of one time")
        await log.write(beats=[make_beat(node_id(2), seq=1), make_beat(node_id(2), START_MS + 9, seq=2)])
        await log.write(beats=[make_beat(node_id(2), seq=3)])
        found = await log.store.read_beats(node_id=node_id(2), since_ms=0, until_ms=_EVER, limit=2)
        _expect([beat.seq for beat in found], [3, 2], "the newest 2, of which the first was committed last")


async def beats_outlive_their_node(make: StoreFactory) -> None:
    """Those of a removed node are read by its id; a node that takes over its name has none of them."""
    old, new = make_node(1), make_node(2, name="node-1")
    async with _opened(make) as log:
        await log.write(old, beats=[make_beat(old)])
        await log.write(new, removed=[old])
        for node, wanted in ((old, [make_beat(old)]), (new, [])):
            found = await log.store.read_beats(node_id=node.id, since_ms=0, until_ms=_EVER, limit=10)
            _expect(found, wanted, f"beats of {node.id}")


# Events


async def events_are_read_in_pages(make: StoreFactory) -> None:
    """In revision order, after one revision and before another; an empty page is the end."""
    async with _opened(make) as log:
        batches = [await log.write(*(make_node(10 * i + j) for j in range(i))) for i in range(1, 7)]
        events = [event for batch in batches for event in batch.events]
        for limit in (1, 4, 21, 22):
            found: list[Event] = []
            while page := await log.store.read_events(after=found[-1].revision if found else Revision(0), limit=limit):
                _expect(len(page) <= limit, True, f"whether a page holds {limit} at most")
                found += page
            _expect(found, events, f"events in pages of {limit}")
        for after, before in ((0, 1), (0, 2), (5, 6), (5, 7), (5, 22), (5, 999), (20, 22), (21, None), (9, 9), (9, 3)):
            wanted = [e.revision for e in events if after < e.revision < (before or _EVER)]
            for limit in (1, 3, _ALL):
                page = await log.store.read_events(
                    after=Revision(after), before=None if before is None else Revision(before), limit=limit
                )
                _expect([e.revision for e in page], wanted[:limit], f"revisions after {after} and before {before}")


async def a_deletion_keeps_the_last_record(make: StoreFactory) -> None:
    """Its event has `deleted` and the whole payload; the events before it keep the payload that they had."""
    node = make_node(1, meta={"a": {"b": [1, 2]}}, labels={"zone": "a"})
    last = msgspec.structs.replace(node, meta={"c": 3}, revision=Revision(2))
    async with _opened(make) as log:
        await log.write(node)
        await log.write(removed=[last])
        events = await log.store.read_events(after=Revision(0), limit=10)
        _expect([event.deleted for event in events], [False, True], "whether each event is a deletion")
        _expect([event.payload for event in events], [node, last], "payloads")


async def every_field_of_an_event_is_kept(make: StoreFactory) -> None:
    """Also a cause, an actor and a source that are not ASCII, and a version beyond the first."""
    node = make_node(1)
    session = make_session(1, node, status=SessionStatus.FAILED)
    changes: dict[str, Any] = {
        "name": "cluster.node.status_changed",
        "at": from_ms(START_MS + 123),
        "source": "registry@größe",
        "actor": "operator:Zoë 🌩",
        "subject": "node-1",
        "causation_id": node_id(77),
        "event_version": 3,
    }
    reports: list[RegistryReport] = [make_guard_report(released_at=from_ms(START_MS + 7)), make_capacity_report()]
    events = [
        make_event(1, node, **changes),
        make_event(2, session, causation_id=None),
        *(make_event(number, report) for number, report in enumerate(reports, start=3)),
    ]
    async with _opened(make) as log:
        await log.store.commit(
            WriteBatch(batch_id=batch_id(1), base=Revision(0), events=events, nodes=[node], sessions=[session])
        )
        _expect(await log.store.read_events(after=Revision(0), limit=10), events, "events")
        for event in events:
            _expect(await log.store.read_entity_at(event.entity_id, Revision(9)), event, "the newest event")


# Groups


async def groups_are_scanned_by_id(make: StoreFactory) -> None:
    """In pages; a newer record takes the place of the older, and a removed one is gone."""
    groups = [make_group(number, parent=None if number < 4 else f"group-{number // 2}") for number in range(1, 10)]
    newer = make_group(3, parent="group-1", group_type=GroupType.REGION, meta={"b": 2})
    async with _opened(make) as log:
        await log.write(*reversed(groups))
        for limit in (1, 4, 9, 10):
            found: list[NodeGroup] = []
            while page := await log.store.scan_groups(after=found[-1].id if found else None, limit=limit):
                _expect(len(page) <= limit, True, f"whether a page holds {limit} at most")
                found += page
            _expect(found, groups, f"groups in pages of {limit}")
        await log.write(newer, removed=[groups[8]])
        _expect((await _read_all(log.store)).groups, [*groups[:2], newer, *groups[3:8]], "groups after a change")


async def a_group_name_belongs_to_one_group(make: StoreFactory) -> None:
    """A batch that gives it to another is refused, unless it frees it; a node may have the name of a group."""
    group = make_group(1, meta={"first": True})
    heir = make_group(2, name=group.name)
    async with _opened(make) as log:
        await log.write(group, make_node(1, name=group.name))
        before = await _read_all(log.store)
        await log.refused(log.batch(heir), "its name is another group's")
        await log.refused(log.batch(make_group(3, name="x"), make_group(4, name="x")), "two groups have one name")
        _expect(await _read_all(log.store), before, "what is in it after refused batches")
        await log.write(heir, removed=[group])
        _expect((await _read_all(log.store)).groups, [heir], "groups")


# Exactness


async def meta_is_kept_whole_wherever_it_stands(make: StoreFactory) -> None:
    """Equal metas may be stored once, but each record and each event keeps its own, also when others lose theirs."""
    shared = {"rack": "r1", "tags": ["a", "b"], "nested": {"deep": {"deeper": None}}}
    node, twin, bare = make_node(1, meta=shared), make_node(2, meta=dict(reversed(shared.items()))), make_node(3)
    session = make_session(1, node, meta=shared)
    changed = make_node(1, meta={"rack": "r2"})
    emptied = msgspec.structs.replace(session, meta={})
    async with _opened(make) as log:
        await log.write(node, twin, bare, session)
        await log.write(changed, emptied, removed=[twin])
        await log.write(make_node(4, meta=shared))
        contents = await _read_all(log.store)
        _expect(contents.nodes, [changed, bare, make_node(4, meta=shared)], "nodes")
        _expect(contents.open_sessions, [emptied], "sessions")
        payloads = [event.payload for event in contents.events]
        wanted = [node, twin, bare, session, twin, changed, emptied, make_node(4, meta=shared)]
        _expect(payloads, wanted, "payloads of events")


async def every_value_comes_back_exactly(make: StoreFactory) -> None:
    """Text of every script, 16 KiB of meta, the largest and smallest numbers, the first and last times."""
    for number, meta in enumerate(_METAS, start=1):
        # The database grows from one to the next: each is read back beside the others.
        node = msgspec.structs.replace(_FULL_NODE, id=node_id(number), name=f"node-{number}", meta=meta)
        session = msgspec.structs.replace(make_session(number, node, **_FULL_SESSION), meta=meta)
        beat = make_beat(node, _LAST_MS, **_FULL_BEAT, meta=meta)
        row = PresenceRow(node.id, 2**53, _LAST_MS, 2**63 - 1, bytes(range(256)), beat)
        group = make_group(number, group_type=list(GroupType)[number % 6], parent="eu", meta=meta, updated_at=_LAST)
        async with _opened(make) as log:
            batch = await log.write(node, session, group, beats=[beat], presence=[row])
            what = f"with meta {_short(meta)}"
            _expect(await log.store.scan_nodes(after=node_id(number - 1), limit=9), [node], f"the node {what}")
            _expect(await log.store.find_session(session.session_id), session, f"the session {what}")
            _expect((await log.store.scan_groups(after=None, limit=99))[-1], group, f"the group {what}")
            _expect((await log.store.scan_presence(after=node_id(number - 1), limit=9)), [row], f"presence {what}")
            found = await log.store.read_beats(node_id=node.id, since_ms=0, until_ms=_LAST_MS + 1, limit=9)
            _expect(found, [beat], f"the beat {what}")
            _expect(await log.store.read_events(after=batch.base, limit=9), list(batch.events), f"events {what}")


_LAST_MS: Final = 253_402_300_799_999
_LAST: Final = datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
_METAS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"": "", " ": "\u0000\u001f\u007f\ufffe\uffff", "\u202e": "\u2028\u2029", "\\\"'`;--": "%s ? :a $1 {} \\u0000"},
    {"日本語": "Ελληνικά", "🌩️": ["🏴󠁧󠁢󠁳󠁣󠁴󠁿", "é", "e\u0301", "ﬃ", "ß", "İ", "\U0010ffff"], "עברית": {"العربية": "हिन्दी"}},
    {"int": [0, -1, 2**53 + 1, 2**63 - 1, 2**64 - 1, -(2**63)], "bool": [True, False, None]},
    {"float": [0.0, -0.0, 1.0, 0.1, 1e15, 1e16, 1e22, -1e-7, 5e-324, 1.7976931348623157e308, 2.2250738585072014e-308]},
    {"type": "looks like a number", "number": "1e3", "true": "true", "null": "null", "date": "2026-01-01"},
    {"long": "ü" * 8180},
    {f"key{number}": number for number in range(1000)},
    {"deep": [[[[[[[[[[{"a": [[[[[[[[{}]]]]]]]]}]]]]]]]]]]},
)
_FULL_NODE: Final = make_node(
    1,
    role="gateway",
    address="[2001:db8::1]:4040 — Keller",
    peer_id="p" * 255,
    did="did:key:🌩",
    status=NodeStatus.OFFLINE,
    observed_status=NodeStatus.DEGRADED,
    observed_reason="reported",
    status_reason="Wartung'; drop table nodes; --",
    override=Override(
        status=NodeStatus.OFFLINE,
        reason="Wartung'; drop table nodes; --",
        by="operator:Zoë",
        at=_LAST,
        expires_at=_LAST,
    ),
    status_since=datetime(1970, 1, 1, tzinfo=UTC),
    labels={f"k{number}": "värde" * 40 for number in range(64)},
    capabilities={"gpu": Capability(value="a100", enabled=False), "none": Capability()},
    groups=("eu", "eu/west"),
    instance="instance 🌩",
    incarnation=2**53,
    heartbeat_interval_ms=3_600_000,
    inserted_at=datetime(1, 1, 1, tzinfo=UTC),
    updated_at=_LAST,
)
_FULL_SESSION: Final[dict[str, Any]] = {
    "remote_node_id": node_id(99),
    "local_peer_id": "local",
    "remote_peer_id": "fjärr",
    "weight": 0.1,
    "latency_ms": 1e15,
    "bandwidth_mbps": 5e-324,
    "established_at": None,
    "last_activity_at": datetime(1970, 1, 1, 0, 0, 0, 1000, tzinfo=UTC),
    "closed_at": _LAST,
}
_FULL_BEAT: Final[dict[str, Any]] = {
    "incarnation": 2**63 - 1,
    "seq": 2**63 - 1,
    "status": BeatStatus.DEGRADED,
    "cpu_load": -0.0,
    "mem_used_mb": 1e15,
    "latency_ms": 5e-324,
    "peers": {f"peer-{number}": None if number % 2 else number / 3 for number in range(64)},
}


def _answer(
    key: str, *, caller: str = "operator:1", status: int = 201, body: bytes = b"{}", at_ms: int = START_MS
) -> KeptAnswer:
    """An answer that expires a second after it was kept."""
    return KeptAnswer(
        caller=caller,
        key=key,
        request=key.encode(),
        status=status,
        body=body,
        kept_at_ms=at_ms,
        expires_at_ms=at_ms + 1_000,
    )


STORE_CHECKS: Final[tuple[StoreCheck, ...]] = (
    a_new_database_is_empty,
    reopening_finds_everything,
    closing_twice_is_fine,
    a_cancelled_close_can_be_repeated,
    a_closed_store_refuses_service,
    a_refused_batch_writes_nothing,
    a_batch_on_another_base_is_refused,
    events_with_a_gap_are_refused,
    revisions_run_through_all_batches,
    an_empty_batch_is_taken,
    a_large_batch_is_kept_whole_and_in_order,
    committed_tells_of_the_newest_batch_alone,
    a_cancelled_commit_still_lands_whole,
    a_reader_never_sees_half_a_batch,
    a_healthy_store_passes_its_probe,
    nodes_are_scanned_by_id,
    a_node_is_replaced_by_its_newer_record,
    a_removed_node_takes_its_sessions_and_presence_with_it,
    removing_an_unknown_node_is_fine,
    a_freed_name_can_be_taken_in_the_same_batch,
    a_name_belongs_to_one_node,
    open_sessions_are_scanned_by_id,
    a_session_is_found_open_or_closed,
    a_session_id_belongs_to_one_session,
    sessions_and_presences_belong_to_nodes_that_exist,
    presences_are_scanned_by_node,
    the_presence_block_stays_until_the_next,
    an_answer_is_found_under_its_caller_and_key,
    a_key_has_one_answer_until_it_expires,
    expired_answers_are_removed,
    blocks_are_scanned_in_the_order_of_commits,
    beats_are_read_as_asked,
    the_newest_beats_are_found_behind_a_wide_block,
    beats_of_one_time_keep_the_order_of_commits,
    beats_outlive_their_node,
    *ACCESS_CHECKS,
    *DOCUMENT_CHECKS,
    *HISTORY_CHECKS,
    *PAST_CHECKS,
    events_are_read_in_pages,
    a_deletion_keeps_the_last_record,
    every_field_of_an_event_is_kept,
    groups_are_scanned_by_id,
    a_group_name_belongs_to_one_group,
    meta_is_kept_whole_wherever_it_stands,
    every_value_comes_back_exactly,
    the_past_is_the_newest_event_of_each_entity,
)
"""Every rule that `check_store` checks."""
