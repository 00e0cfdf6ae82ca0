"""Refusals on their way to the audit log, while the store fails."""

from __future__ import annotations

import pytest

from thunderline.core.errors import NotPermitted
from thunderline.link.refusals import NOTE_S
from thunderline.testing.faults import Fault
from thunderline.testing.harness import Cluster, open_cluster


def refuse(cluster: Cluster, times: int) -> None:
    for _ in range(times):
        cluster.registry.access.refusals.note(NotPermitted("reader:r", "change groups"), action="change groups")


async def told(cluster: Cluster) -> list[int]:
    """How many refusals each entry of the audit log tells of, the newest first."""
    return [entry.count for entry in await cluster.store.read_audit(before=None, limit=100)]


@pytest.mark.parametrize(
    ("fault", "counts"),
    [(Fault.AWAY, [5]), (Fault.LOST_BEFORE, [5]), (Fault.LOST_AFTER, [2, 3])],
    ids=lambda value: value.name if isinstance(value, Fault) else None,
)
async def test_refusals_outlast_a_store_that_is_lost_while_they_are_told(fault: Fault, counts: list[int]) -> None:
    async with open_cluster() as cluster:
        refuse(cluster, 3)
        cluster.store.faults.append(fault)
        await cluster.turn(NOTE_S)
        refuse(cluster, 2)
        await cluster.turn(2 * NOTE_S)
        assert await told(cluster) == counts


async def test_refusals_that_the_store_rejects_do_not_end_the_telling() -> None:
    async with open_cluster() as cluster:
        refuse(cluster, 3)
        cluster.store.rejects = lambda batch: bool(batch.audit)
        await cluster.turn(NOTE_S)
        cluster.store.rejects = lambda batch: False
        refuse(cluster, 1)
        await cluster.turn(NOTE_S)
        assert await told(cluster) == [1]


async def test_refusals_are_told_before_the_registry_closes() -> None:
    async with open_cluster() as cluster:
        refuse(cluster, 2)
        store = cluster.store
    await store.open()
    assert [entry.count for entry in await store.read_audit(before=None, limit=9)] == [2]
    await store.close()
