"""The paced bus: heartbeats of a node four times a second at most, the newest each time, all else at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderline.core.errors import ShuttingDown
from thunderline.core.records import Event, Reliability
from thunderline.flow.bus import Buses, LocalBus, Subscription
from thunderline.flow.match import Pattern
from thunderline.flow.pace import SPACING_S, PacedBus
from thunderline.flow.taxonomy import NODE_HEARTBEAT, NODE_UPDATED
from thunderline.testing import ManualClock
from thunderline.testing.records import make_event, make_node

ALL = Pattern(">")


def beat(node: int, number: int) -> Event:
    """A heartbeat of a node, known by its number."""
    return make_event(number, make_node(node), name=NODE_HEARTBEAT, reliability=Reliability.TRANSIENT)


def change(revision: int) -> Event:
    return make_event(revision, make_node(1), name=NODE_UPDATED)


@asynccontextmanager
async def paced() -> AsyncIterator[tuple[PacedBus, Subscription, ManualClock]]:
    clock = ManualClock()
    bus = PacedBus(LocalBus(), clock=clock)
    running = asyncio.create_task(bus.run())
    try:
        yield bus, bus.subscribe(ALL, backlog_max=10_000), clock
    finally:
        running.cancel()
        await asyncio.wait([running])


async def told(subscription: Subscription) -> list[int]:
    """The numbers of all that is there once everything that is ready has run."""
    for _ in range(10):
        await asyncio.sleep(0)
    found: list[int] = []
    taking = asyncio.ensure_future(subscription.take(10_000))
    await asyncio.sleep(0)
    if taking.done():
        found = [event.revision for event in taking.result()]
    taking.cancel()
    with suppress(asyncio.CancelledError):
        await taking
    return found


async def test_the_first_beat_is_told_at_once_and_then_the_newest_of_each_quarter_second() -> None:
    async with paced() as (bus, listener, clock):
        for number in range(1, 6):
            bus.publish([beat(1, number)])
        assert await told(listener) == [1]
        await clock.advance(SPACING_S)
        assert await told(listener) == [5]
        bus.publish([beat(1, 6)])
        assert await told(listener) == []
        await clock.advance(SPACING_S)
        assert await told(listener) == [6]
        await clock.advance(SPACING_S)
        bus.publish([beat(1, 7)])
        assert await told(listener) == [7]


async def test_nodes_are_paced_each_for_itself() -> None:
    async with paced() as (bus, listener, clock):
        bus.publish([beat(1, 1), beat(2, 2), beat(1, 3), beat(3, 4), beat(2, 5)])
        assert await told(listener) == [1, 2, 4]
        await clock.advance(SPACING_S)
        assert sorted(await told(listener)) == [3, 5]


async def test_what_is_in_the_log_never_waits() -> None:
    async with paced() as (bus, listener, _):
        bus.publish([beat(1, 1)])
        bus.publish([beat(1, 2), change(3), change(4)])
        assert await told(listener) == [1, 3, 4]


async def test_nothing_is_kept_of_nodes_that_are_silent() -> None:
    async with paced() as (bus, listener, clock):
        bus.publish([beat(node, node) for node in range(1, 500)])
        assert len(await told(listener)) == 499
        await clock.advance(SPACING_S)
        bus.publish([beat(1, 1)])
        assert len(bus._carried_at) == 1
        assert not bus._held


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 30)), max_size=60))
def test_a_node_is_never_told_of_more_than_four_times_a_second_and_its_newest_beat_always(
    steps: list[tuple[int, int]],
) -> None:
    async def play() -> None:
        async with paced() as (bus, listener, clock):
            at: dict[int, list[float]] = {}
            newest: dict[int, int] = {}
            heard: dict[int, int] = {}
            node_of: dict[int, int] = {}

            async def look() -> None:
                for number in await told(listener):
                    at.setdefault(node_of[number], []).append(clock.monotonic())
                    heard[node_of[number]] = number

            for number, (node, wait) in enumerate(steps, start=1):
                node_of[number] = node
                newest[node] = number
                bus.publish([beat(node, number)])
                await look()
                for _ in range(wait):
                    await clock.advance(0.01)
                    await look()
            await clock.advance(SPACING_S)
            await look()
            assert heard == newest
            for times in at.values():
                assert all(later - earlier > SPACING_S - 1e-6 for earlier, later in pairwise(times))

    asyncio.run(play())


async def test_several_buses_are_told_asked_and_closed_together() -> None:
    one, two = LocalBus(), LocalBus()
    buses = Buses(one, two)
    assert not buses.wants(NODE_UPDATED)
    listener = two.subscribe(ALL, backlog_max=10)
    assert buses.wants(NODE_UPDATED)
    buses.publish([change(1)])
    assert (await listener.next()).revision == 1
    buses.close()
    with pytest.raises(ShuttingDown):
        await listener.next()
