"""The bus within one process: everything in order, nothing lost unseen, nobody slowed by another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderline.core.errors import ShuttingDown, WatchCut
from thunderline.core.records import Event, Reliability
from thunderline.flow.bus import LocalBus, Subscription
from thunderline.flow.match import Pattern
from thunderline.flow.taxonomy import LINK_UPDATED, NODE_HEARTBEAT, NODE_ONLINE, NODE_UPDATED
from thunderline.testing.records import make_event, make_node

ALL = Pattern(">")


def event(revision: int, name: str = NODE_UPDATED, **changes: Any) -> Event:
    return make_event(revision, make_node(1), name=name, **changes)


def beat(revision: int) -> Event:
    return event(revision, NODE_HEARTBEAT, reliability=Reliability.TRANSIENT)


def events(*revisions: int) -> Sequence[Event]:
    return [event(revision) for revision in revisions]


async def heard(subscription: Subscription, count: int) -> list[int]:
    return [(await subscription.next()).revision for _ in range(count)]


async def hears_nothing(subscription: Subscription) -> bool:
    """Whether the next event is still waited for after all that is ready has run."""
    task = asyncio.ensure_future(subscription.next())
    for _ in range(10):
        await asyncio.sleep(0)
    waiting = not task.done()
    task.cancel()
    await asyncio.wait([task])
    return waiting


async def test_every_listener_hears_everything_in_order() -> None:
    bus = LocalBus()
    one, two = (bus.subscribe(ALL, backlog_max=10) for _ in range(2))
    bus.publish(events(1, 2, 3))
    bus.publish(events(4))
    assert await heard(one, 4) == [1, 2, 3, 4]
    bus.publish(events(5))
    assert await heard(two, 5) == [1, 2, 3, 4, 5]
    assert await heard(one, 1) == [5]


async def test_listener_hears_from_its_subscription_on() -> None:
    bus = LocalBus()
    bus.publish(events(1))
    subscription = bus.subscribe(ALL, backlog_max=10)
    bus.publish(events(2))
    assert await heard(subscription, 1) == [2]
    assert await hears_nothing(subscription)


async def test_listener_hears_what_matches_only() -> None:
    bus = LocalBus()
    links = bus.subscribe(Pattern("cluster.link.*"), backlog_max=1)
    bus.publish([event(1), event(2, LINK_UPDATED), event(3, NODE_ONLINE)])
    assert await heard(links, 1) == [2]
    assert await hears_nothing(links)


async def test_waiting_listener_is_woken() -> None:
    bus = LocalBus()
    subscription = bus.subscribe(ALL, backlog_max=10)
    waiting = asyncio.ensure_future(heard(subscription, 2))
    await asyncio.sleep(0)
    bus.publish(events(1))
    await asyncio.sleep(0)
    bus.publish(events(2))
    assert await waiting == [1, 2]


async def test_listener_beyond_its_backlog_drains_it_and_is_then_cut_for_good() -> None:
    bus = LocalBus()
    subscription = bus.subscribe(ALL, backlog_max=3)
    bus.publish(events(1, 2, 3))  # exactly the backlog: not one too many
    bus.publish(events(4, 5))
    assert not bus.wants(NODE_UPDATED)
    assert await heard(subscription, 3) == [1, 2, 3]
    bus.publish(events(6))
    for _ in range(2):
        with pytest.raises(WatchCut) as caught:
            await subscription.next()
        assert caught.value.resume_from == 3
        assert caught.value.backlog == 3
    subscription.close()


async def test_listener_that_keeps_up_is_never_cut() -> None:
    bus = LocalBus()
    subscription = bus.subscribe(ALL, backlog_max=1)
    for revision in range(1, 50):
        bus.publish(events(revision))
        assert await heard(subscription, 1) == [revision]


async def test_slow_listener_is_cut_alone() -> None:
    bus = LocalBus()
    slow, fast = bus.subscribe(ALL, backlog_max=1), bus.subscribe(ALL, backlog_max=100)
    bus.publish(events(*range(1, 51)))
    assert await heard(fast, 50) == list(range(1, 51))
    assert await heard(slow, 1) == [1]
    with pytest.raises(WatchCut):
        await slow.next()


async def test_transient_event_is_heard_but_is_no_place_to_resume_from() -> None:
    bus = LocalBus()
    subscription = bus.subscribe(ALL, backlog_max=2)
    bus.publish([event(7), beat(9), event(10)])
    assert await heard(subscription, 2) == [7, 9]
    with pytest.raises(WatchCut) as caught:
        await subscription.next()
    assert caught.value.resume_from == 7


async def test_waiting_listener_learns_of_its_cut() -> None:
    bus = LocalBus()
    subscription = bus.subscribe(ALL, backlog_max=1)
    waiting = asyncio.ensure_future(heard(subscription, 2))
    await asyncio.sleep(0)
    bus.publish(events(1, 2))
    with pytest.raises(WatchCut):
        await waiting


async def test_closed_listener_hears_nothing_more() -> None:
    bus = LocalBus()
    subscription = bus.subscribe(ALL, backlog_max=10)
    subscription.close()
    subscription.close()
    bus.publish(events(1))
    assert not bus.wants(NODE_UPDATED)
    with pytest.raises(ShuttingDown):
        await subscription.next()


async def test_a_closed_bus_tells_each_listener_once_it_heard_what_was_waiting() -> None:
    bus = LocalBus()
    behind, waiting = (bus.subscribe(ALL, backlog_max=10) for _ in range(2))
    bus.publish(events(1, 2))
    assert await heard(waiting, 2) == [1, 2]
    ending = asyncio.ensure_future(waiting.next())
    await asyncio.sleep(0)
    bus.close()
    with pytest.raises(ShuttingDown):
        await ending
    assert await heard(behind, 2) == [1, 2]
    with pytest.raises(ShuttingDown):
        await behind.next()


async def test_a_closed_bus_takes_no_listener() -> None:
    bus = LocalBus()
    bus.close()
    bus.close()
    with pytest.raises(ShuttingDown):
        bus.subscribe(ALL, backlog_max=10)


async def test_position_is_where_nothing_is_left_to_hear_matching_or_not() -> None:
    bus = LocalBus()
    subscription = bus.subscribe(Pattern("cluster.link.*"), backlog_max=2)
    assert subscription.position() == 0
    bus.publish([event(1), beat(1)])
    assert subscription.position() == 1
    bus.publish([event(2, LINK_UPDATED), event(3)])
    assert subscription.position() == 0  # 2 is still to be heard
    assert await heard(subscription, 1) == [2]
    assert subscription.position() == 3
    bus.publish([event(4, LINK_UPDATED), event(5, LINK_UPDATED), event(6, LINK_UPDATED), event(7)])
    assert await heard(subscription, 2) == [4, 5]
    assert subscription.position() == 5  # cut before 6


async def test_closing_one_listener_leaves_the_others() -> None:
    bus = LocalBus()
    one, two = (bus.subscribe(ALL, backlog_max=10) for _ in range(2))
    one.close()
    bus.publish(events(1))
    assert await heard(two, 1) == [1]


async def test_cancelled_next_loses_nothing() -> None:
    bus = LocalBus()
    subscription = bus.subscribe(ALL, backlog_max=100)
    for turns in range(6):
        waiting = asyncio.ensure_future(subscription.next())
        for _ in range(3):
            await asyncio.sleep(0)
        # The event arrives, and before the listener has run, or while it runs, it is cancelled.
        bus.publish(events(2 * turns + 1, 2 * turns + 2))
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        first = [] if waiting.cancelled() else [waiting.result().revision]
        assert first + await heard(subscription, 2 - len(first)) == [2 * turns + 1, 2 * turns + 2]


async def test_take_gives_all_that_waits_up_to_its_limit_and_at_least_one() -> None:
    bus = LocalBus()
    subscription = bus.subscribe(ALL, backlog_max=10)
    bus.publish(events(1, 2, 3, 4, 5))
    assert [each.revision for each in await subscription.take(2)] == [1, 2]
    assert [each.revision for each in await subscription.take(10)] == [3, 4, 5]
    taking = asyncio.ensure_future(subscription.take(10))
    await asyncio.sleep(0)
    assert not taking.done()
    bus.publish(events(6, 7))
    assert [each.revision for each in await taking] == [6, 7]


async def test_cancelled_take_loses_nothing() -> None:
    bus = LocalBus()
    subscription = bus.subscribe(ALL, backlog_max=100)
    for turns in range(6):
        taking = asyncio.ensure_future(subscription.take(10))
        for _ in range(3):
            await asyncio.sleep(0)
        bus.publish(events(3 * turns + 1, 3 * turns + 2))
        for _ in range(turns):
            await asyncio.sleep(0)
        taking.cancel()
        await asyncio.wait([taking])
        bus.publish(events(3 * turns + 3))
        got = [] if taking.cancelled() else [each.revision for each in taking.result()]
        got += [each.revision for each in await subscription.take(10)]
        assert got == [3 * turns + 1, 3 * turns + 2, 3 * turns + 3]


async def test_listeners_of_one_pattern_have_it_asked_once_for_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    matches = Pattern.matches
    monkeypatch.setattr(Pattern, "matches", lambda self, name: asked.append(name) or matches(self, name))
    bus = LocalBus()
    listeners = [bus.subscribe(Pattern("cluster.node.>"), backlog_max=10) for _ in range(100)]
    bus.publish(events(1, 2))
    assert len(asked) == 2
    for listener in listeners:
        assert await heard(listener, 2) == [1, 2]


async def test_a_listener_cut_amid_others_of_its_pattern_keeps_where_it_stood() -> None:
    bus = LocalBus()
    slow, fast = bus.subscribe(ALL, backlog_max=2), bus.subscribe(ALL, backlog_max=100)
    bus.publish(events(1, 2, 3, 4))
    bus.publish(events(5))
    assert await heard(slow, 2) == [1, 2]
    assert slow.position() == 2
    assert await heard(fast, 5) == [1, 2, 3, 4, 5]
    assert fast.position() == 5


async def test_wants_asks_every_pattern() -> None:
    bus = LocalBus()
    assert not bus.wants(NODE_HEARTBEAT)
    links = bus.subscribe(Pattern("cluster.link.>"), backlog_max=1)
    assert not bus.wants(NODE_HEARTBEAT)
    everything = bus.subscribe(ALL, backlog_max=1)
    assert bus.wants(NODE_HEARTBEAT)
    everything.close()
    assert not bus.wants(NODE_HEARTBEAT)
    assert bus.wants(LINK_UPDATED)
    links.close()


STEPS = st.lists(
    st.tuples(st.just("publish"), st.integers(1, 4)) | st.tuples(st.just("next"), st.integers(0, 4)), max_size=30
)


@given(STEPS, st.integers(1, 6))
def test_listener_hears_a_prefix_of_the_log_and_learns_where_it_ends(
    steps: list[tuple[str, int]], backlog: int
) -> None:
    async def play() -> None:
        bus = LocalBus()
        subscription = bus.subscribe(ALL, backlog_max=backlog)
        published, waiting, cut, got = 0, 0, False, 0
        for step, count in steps:
            if step == "publish":
                bus.publish(events(*range(published + 1, published + count + 1)))
                published += count
                if not cut:
                    cut = waiting + count > backlog
                    waiting = min(waiting + count, backlog)
            else:
                for _ in range(min(count, waiting)):
                    got += 1
                    assert (await subscription.next()).revision == got
                waiting -= min(count, waiting)
                if waiting == 0 and cut:
                    with pytest.raises(WatchCut) as caught:
                        await subscription.next()
                    assert caught.value.resume_from == got
                elif waiting == 0:
                    assert got == published

    asyncio.run(play())
