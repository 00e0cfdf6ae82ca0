"""The gathering bus: a crowd is told of several events at once, nobody misses one, and a few are told at once.

How long it takes to tell somebody is told to the clock by the first of the listeners, when it takes what is there.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderline.core.errors import ShuttingDown
from thunderline.core.records import Event
from thunderline.flow.bus import LocalBus, Subscription
from thunderline.flow.gather import LEAST_S, MOST_S, REST, GatheringBus
from thunderline.flow.match import Pattern
from thunderline.flow.taxonomy import NODE_UPDATED
from thunderline.testing import ManualClock
from thunderline.testing.records import make_event, make_node

ALL = Pattern(">")
TELLING_S = 0.03


def change(revision: int) -> Event:
    return make_event(revision, make_node(1), name=NODE_UPDATED)


class Listener:
    """Takes what it is told of as it comes, which takes `telling_s`."""

    def __init__(self, subscription: Subscription, clock: ManualClock, telling_s: float) -> None:
        self.heard: list[list[int]] = []
        self._subscription = subscription
        self._clock = clock
        self._telling_s = telling_s

    async def run(self) -> None:
        with suppress(ShuttingDown):
            while True:
                events = await self._subscription.take(100)
                self._clock.pause(self._telling_s)
                self.heard.append([event.revision for event in events])


@asynccontextmanager
async def gathering(telling_s: float) -> AsyncIterator[tuple[GatheringBus, Listener, ManualClock]]:
    clock = ManualClock()
    bus = GatheringBus(LocalBus(), clock=clock)
    listener = Listener(bus.subscribe(ALL, backlog_max=10_000), clock, telling_s)
    running = [asyncio.create_task(bus.run()), asyncio.create_task(listener.run())]
    try:
        await clock.advance(0)
        yield bus, listener, clock
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def test_who_is_told_quickly_is_told_at_once() -> None:
    async with gathering(LEAST_S * 0.9) as (bus, listener, clock):
        for revision in (1, 2, 3):
            bus.publish([change(revision)])
            await clock.advance(0)
        assert listener.heard == [[1], [2], [3]]


async def test_what_comes_while_a_few_are_told_is_told_next() -> None:
    async with gathering(0) as (bus, listener, clock):
        for revision in (1, 2, 3):
            bus.publish([change(revision)])
        await clock.advance(0)
        assert listener.heard == [[1], [2, 3]]


async def test_what_comes_while_a_crowd_is_told_and_for_half_as_long_again_is_told_at_once() -> None:
    async with gathering(TELLING_S) as (bus, listener, clock):
        bus.publish([change(1)])
        bus.publish([change(2)])
        await clock.advance(0)
        assert listener.heard == [[1]]
        bus.publish([change(3)])
        await clock.advance(TELLING_S * REST * 0.9)
        bus.publish([change(4)])
        assert listener.heard == [[1]]
        await clock.advance(TELLING_S * REST * 0.2)
        assert listener.heard == [[1], [2, 3, 4]]
        # Nothing came since: the next is told at once.
        await clock.advance(TELLING_S * 2)
        bus.publish([change(5)])
        await clock.advance(0)
        assert listener.heard == [[1], [2, 3, 4], [5]]


async def test_what_else_the_process_does_holds_events_up_for_a_bounded_time() -> None:
    async with gathering(MOST_S * 50) as (bus, listener, clock):
        bus.publish([change(1)])
        await clock.advance(0)
        bus.publish([change(2)])
        await clock.advance(MOST_S * 1.1)
        assert listener.heard == [[1], [2]]


async def test_who_comes_later_hears_nothing_of_before() -> None:
    async with gathering(TELLING_S) as (bus, listener, clock):
        bus.publish([change(1)])
        bus.publish([change(2)])
        late = bus.subscribe(ALL, backlog_max=10)
        bus.publish([change(3)])
        await clock.advance(0)
        await clock.advance(TELLING_S * 2)
        assert [event.revision for event in await late.take(100)] == [3]
        assert listener.heard == [[1, 2], [3]]


async def test_closing_tells_what_waits() -> None:
    async with gathering(TELLING_S) as (bus, listener, clock):
        bus.publish([change(1)])
        await clock.advance(0)
        bus.publish([change(2)])
        bus.close()
        await clock.advance(0)
        assert listener.heard == [[1], [2]]
        with pytest.raises(ShuttingDown):
            bus.subscribe(ALL, backlog_max=10)


@given(
    st.lists(st.tuples(st.integers(1, 5), st.floats(0, 3 * TELLING_S)), max_size=20), st.sampled_from([0.0, TELLING_S])
)
async def test_everybody_hears_everything_in_order(steps: list[tuple[int, float]], telling_s: float) -> None:
    async with gathering(telling_s) as (bus, listener, clock):
        late = bus.subscribe(ALL, backlog_max=10_000)
        told = 0
        for count, pause_s in steps:
            bus.publish([change(told + each) for each in range(1, count + 1)])
            told += count
            await clock.advance(pause_s)
        await clock.advance(1)
        everything = list(range(1, told + 1))
        assert list(itertools.chain(*listener.heard)) == everything
        assert bus.backlog().waiting == told
        if told:
            assert [event.revision for event in await late.take(told)] == everything
