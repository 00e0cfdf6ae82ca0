"""The gathering bus: a crowd is told of several events at once, nobody misses one, and a few are told at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderline.core.errors import ShuttingDown
from thunderline.core.records import Event
from thunderline.flow.bus import LocalBus, Subscription
from thunderline.flow.gather import LEAST_S, PER_LISTENER_S, GatheringBus
from thunderline.flow.match import Pattern
from thunderline.flow.taxonomy import NODE_UPDATED
from thunderline.testing import ManualClock
from thunderline.testing.records import make_event, make_node

ALL = Pattern(">")
CROWD = 1_000
WAIT_S = CROWD * PER_LISTENER_S


def change(revision: int) -> Event:
    return make_event(revision, make_node(1), name=NODE_UPDATED)


@asynccontextmanager
async def gathering(listeners: int) -> AsyncIterator[tuple[GatheringBus, list[Subscription], ManualClock]]:
    clock = ManualClock()
    bus = GatheringBus(LocalBus(), clock=clock)
    running = asyncio.create_task(bus.run())
    try:
        yield bus, [bus.subscribe(ALL, backlog_max=10_000) for _ in range(listeners)], clock
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def heard(subscription: Subscription) -> int:
    """The newest revision that the listener has been told of."""
    return subscription.position()


async def taken(subscription: Subscription, count: int) -> list[int]:
    """So many events, as revisions."""
    found: list[int] = []
    while len(found) < count:
        found += [event.revision for event in await subscription.take(100)]
    return found


async def test_a_few_are_told_at_once() -> None:
    async with gathering(int(LEAST_S / PER_LISTENER_S) - 1) as (bus, listeners, _):
        for revision in (1, 2, 3):
            bus.publish([change(revision)])
            assert await taken(listeners[0], 1) == [revision]


async def test_a_crowd_is_told_of_what_came_meanwhile_at_once() -> None:
    async with gathering(CROWD) as (bus, listeners, clock):
        bus.publish([change(1)])
        assert await taken(listeners[0], 1) == [1]
        for revision in (2, 3, 4):
            bus.publish([change(revision)])
        await clock.advance(WAIT_S * 0.9)
        assert heard(listeners[0]) == 1
        await clock.advance(WAIT_S * 0.2)
        assert [event.revision for event in await listeners[0].take(100)] == [2, 3, 4]
        # Nothing came since: the next is told at once.
        await clock.advance(WAIT_S * 2)
        bus.publish([change(5)])
        assert await taken(listeners[0], 1) == [5]


async def test_who_comes_later_hears_nothing_of_before() -> None:
    async with gathering(CROWD) as (bus, listeners, clock):
        bus.publish([change(1)])
        bus.publish([change(2)])
        late = bus.subscribe(ALL, backlog_max=10)
        bus.publish([change(3)])
        await clock.advance(WAIT_S * 2)
        assert await taken(late, 1) == [3]
        assert await taken(listeners[0], 3) == [1, 2, 3]


async def test_closing_tells_what_waits() -> None:
    async with gathering(CROWD) as (bus, listeners, _):
        bus.publish([change(1)])
        bus.publish([change(2)])
        bus.close()
        assert await taken(listeners[0], 2) == [1, 2]
        with pytest.raises(ShuttingDown):
            await listeners[0].take(1)


@given(st.lists(st.tuples(st.integers(1, 5), st.floats(0, 2 * WAIT_S)), max_size=20))
async def test_everybody_hears_everything_in_order(steps: list[tuple[int, float]]) -> None:
    async with gathering(120) as (bus, listeners, clock):
        told = 0
        for count, pause_s in steps:
            bus.publish([change(told + each) for each in range(1, count + 1)])
            told += count
            await clock.advance(pause_s)
        await clock.advance(1)
        assert await taken(listeners[0], told) == list(range(1, told + 1))
        assert bus.listeners == 120
