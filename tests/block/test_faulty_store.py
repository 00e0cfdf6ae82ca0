"""The faults of a FaultyStore are those that a real store can show."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from thunderline.block.memory import MemoryStore
from thunderline.block.store import WriteBatch
from thunderline.core.errors import ContentRejected, OutcomeUnknown, StoreUnavailable
from thunderline.core.ids import IdSource, NodeId, Revision
from thunderline.core.records import Node
from thunderline.testing import Fault, FaultyStore, ManualClock
from thunderline.testing.records import batch_id, make_node

BATCH = WriteBatch(batch_id=batch_id(1), base=Revision(0), nodes=[make_node(1)])


@pytest.fixture
async def store() -> AsyncIterator[FaultyStore]:
    async with FaultyStore(MemoryStore()) as opened:
        yield opened


async def landed(store: FaultyStore) -> bool:
    """Whether the batch is there, by its record and by its id."""
    nodes = await store.inner.scan_nodes(after=None, limit=9)
    assert await store.inner.committed(BATCH.batch_id) == bool(nodes)
    assert store.commits == ([BATCH] if nodes else [])
    return bool(nodes)


@pytest.mark.parametrize(
    ("fault", "error", "written"),
    [
        (Fault.AWAY, StoreUnavailable, False),
        (Fault.LOST_BEFORE, OutcomeUnknown, False),
        (Fault.LOST_AFTER, OutcomeUnknown, True),
    ],
)
async def test_each_fault_writes_what_it_says(
    store: FaultyStore, fault: Fault, error: type[Exception], written: bool
) -> None:
    store.faults = [fault]
    with pytest.raises(error):
        await store.commit(BATCH)
    assert await landed(store) is written


async def test_fault_is_met_once(store: FaultyStore) -> None:
    store.faults = [Fault.AWAY, Fault.LOST_BEFORE]
    for error in (StoreUnavailable, OutcomeUnknown):
        with pytest.raises(error):
            await store.commit(BATCH)
    await store.commit(BATCH)
    assert await landed(store)


async def test_store_that_is_away_takes_no_write_and_no_probe(store: FaultyStore) -> None:
    store.away = True
    with pytest.raises(StoreUnavailable):
        await store.commit(BATCH)
    with pytest.raises(StoreUnavailable):
        await store.probe()
    with pytest.raises(StoreUnavailable):
        await store.committed(BATCH.batch_id)
    assert await store.scan_nodes(after=None, limit=9) == []
    store.away = False
    await store.probe()
    await store.commit(BATCH)
    assert await landed(store)


async def test_rejected_content_is_rejected_each_time(store: FaultyStore) -> None:
    store.rejects = lambda batch: bool(batch.nodes)
    for _ in range(2):
        with pytest.raises(ContentRejected):
            await store.commit(BATCH)
    assert not await landed(store)


def test_faulty_store_has_no_url(clock: ManualClock, ids: IdSource) -> None:
    with pytest.raises(TypeError):
        FaultyStore.from_url("", clock=clock, ids=ids, writer_id="test")


async def test_a_store_is_busy_while_it_writes_or_reads() -> None:
    class Watched(MemoryStore):
        idle: list[bool]

        async def commit(self, batch: WriteBatch) -> int | None:
            self.idle.append(store.idle.is_set())
            return await super().commit(batch)

        async def scan_nodes(self, *, after: NodeId | None, limit: int) -> list[Node]:
            self.idle.append(store.idle.is_set())
            return await super().scan_nodes(after=after, limit=limit)

    inner = Watched()
    inner.idle = []
    store = FaultyStore(inner)
    async with store:
        await store.commit(BATCH)
        await store.scan_nodes(after=None, limit=9)
        assert (inner.idle, store.idle.is_set()) == ([False, False], True)
