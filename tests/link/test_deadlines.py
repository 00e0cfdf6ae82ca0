"""The timer wheel against a plain dictionary: everybody once, nobody early, nobody later than a tick."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderline.core.ids import NodeId
from thunderline.link.deadlines import TICK_S, Deadlines
from thunderline.testing.records import node_id

NODES = [node_id(number) for number in range(1, 7)]
NOISE = 1e-9
"""What sums of floats may be off by."""

# On the ticks, between them, and anywhere; far enough apart for many turns of the wheel.
DELAYS = (
    st.integers(-20, 400).map(lambda ticks: ticks * TICK_S)
    | st.floats(-2, 40, allow_nan=False)
    | st.sampled_from([0.0, TICK_S / 2, 30.0, 3600.0])
)
STEPS = st.lists(
    st.tuples(st.just("arm"), st.sampled_from(NODES), DELAYS)
    | st.tuples(st.just("disarm"), st.sampled_from(NODES), st.just(0.0))
    | st.tuples(st.just("turn"), st.just(NODES[0]), st.integers(0, 100).map(lambda ticks: ticks / 9)),
    max_size=40,
)


class Bounded(Deadlines):
    """Fails instead of placing one node for ever."""

    places = 0

    def _place(self, node: NodeId, deadline: float, *, beyond: int | None = None) -> None:
        self.places += 1
        assert self.places < 10_000, "one node is placed again and again"
        super()._place(node, deadline, beyond=beyond)


def check_expired(expired: list[NodeId], model: dict[NodeId, float], now: float) -> None:
    """Hold one look to the rules and take what expired out of the model."""
    assert len(set(expired)) == len(expired)
    for node in expired:
        assert model.pop(node) <= now, "expired early, or twice"
    assert all(deadline > now - TICK_S - NOISE for deadline in model.values()), "left later than a tick"


@given(STEPS, st.sampled_from([0.0, 1000.0, 123_456.789, 4_000_000.123]))
def test_wheel_does_what_a_dictionary_would(steps: list[tuple[str, NodeId, float]], start: float) -> None:
    wheel, model, now = Bounded(), dict[NodeId, float](), start
    for step, node, value in steps:
        if step == "arm":
            model[node] = now + value
            wheel.arm(node, model[node])
        elif step == "disarm":
            model.pop(node, None)
            wheel.disarm(node)
        else:
            now += value
            check_expired(wheel.expire(now), model, now)
        assert len(wheel) == len(model)
        for known in NODES:
            assert wheel.deadline(known) == model.get(known)
    now = max([now, *model.values()]) + TICK_S
    check_expired(wheel.expire(now), model, now)
    assert model == {}
    assert wheel.expire(now + 1e6) == []
    assert wheel.next_look() is None


@given(STEPS)
def test_who_looks_only_when_told_to_finds_everybody_in_time(steps: list[tuple[str, NodeId, float]]) -> None:
    wheel, model, now = Bounded(), dict[NodeId, float](), 1000.0
    for step, node, value in steps:
        if step == "arm":
            model[node] = now + value
            wheel.arm(node, model[node])
        elif step == "disarm":
            model.pop(node, None)
            wheel.disarm(node)
        else:
            until = now + value
            while (look := wheel.next_look()) is not None and look <= until:
                now = max(now, look)
                check_expired(wheel.expire(now), model, now)
            now = until
    looks = 0
    while (look := wheel.next_look()) is not None:
        now = max(now, look)
        check_expired(wheel.expire(now), model, now)
        looks += 1
    assert model == {}
    assert looks <= 2 * len(steps)


@given(STEPS, st.integers(1, 4))
def test_whoever_looks_at_a_few_at_a_time_finds_the_same(steps: list[tuple[str, NodeId, float]], most: int) -> None:
    whole, parts, now = Bounded(), Bounded(), 1000.0
    for step, node, value in steps:
        for wheel in (whole, parts):
            if step == "arm":
                wheel.arm(node, now + value)
            elif step == "disarm":
                wheel.disarm(node)
        if step == "turn":
            now += value
            found = []
            while (look := parts.next_look()) is not None and look <= now:
                some = parts.expire(now, most=most)
                assert len(some) <= most
                found += some
            assert sorted(found) == sorted(whole.expire(now))
            assert len(parts) == len(whole)


def test_node_that_keeps_beating_is_looked_at_about_once_a_deadline() -> None:
    wheel = Bounded()
    for beat in range(1000):
        wheel.arm(NODES[0], beat * TICK_S + 30)
        assert wheel.expire(beat * TICK_S) == []
    assert wheel.places < 8
    assert wheel.deadline(NODES[0]) == 999 * TICK_S + 30


def test_earlier_deadline_counts_from_when_it_is_set() -> None:
    wheel = Deadlines()
    wheel.arm(NODES[0], 100)
    wheel.arm(NODES[0], 5)
    look = wheel.next_look()
    assert look is not None
    assert look <= 5 + TICK_S
    assert wheel.expire(5 + TICK_S) == [NODES[0]]
    assert wheel.expire(200) == []


def test_later_deadline_counts_from_when_it_is_set() -> None:
    wheel = Deadlines()
    wheel.arm(NODES[0], 5)
    wheel.arm(NODES[0], 100)
    assert wheel.expire(99.9) == []
    assert wheel.expire(100 + TICK_S) == [NODES[0]]


def test_disarmed_node_never_expires_and_may_be_armed_again() -> None:
    wheel = Deadlines()
    wheel.arm(NODES[0], 5)
    wheel.disarm(NODES[0])
    wheel.disarm(NODES[1])
    assert wheel.deadline(NODES[0]) is None
    wheel.arm(NODES[0], 10)
    assert wheel.expire(6) == []
    assert wheel.expire(11) == [NODES[0]]


def test_deadline_in_the_past_expires_at_the_next_look() -> None:
    wheel = Deadlines()
    wheel.arm(NODES[0], 5)
    assert wheel.expire(1000) == [NODES[0]]
    wheel.arm(NODES[0], 5)
    assert wheel.expire(1000) == [NODES[0]]


def test_many_nodes_expire_each_in_its_time() -> None:
    rng = random.Random(0)
    wheel, model = Bounded(), {node_id(number): rng.uniform(0, 60) for number in range(3000)}
    for node, deadline in model.items():
        wheel.arm(node, deadline)
    for tick in range(700):
        now = tick / 10
        check_expired(wheel.expire(now), model, now)
    assert model == {}


def test_look_at_a_deadline_a_hair_beyond_its_tick_ends() -> None:
    # For one tick in ten the float after n * TICK_S, divided by TICK_S, is n again: it lies in slot n, and behind it.
    for tick in range(1, 2000):
        wheel, deadline = Bounded(), math.nextafter(tick * TICK_S, math.inf)
        wheel.arm(NODES[0], deadline)
        model = {NODES[0]: deadline}
        for now in (tick * TICK_S, tick * TICK_S + TICK_S + NOISE):
            check_expired(wheel.expire(now), model, now)
        assert model == {}


@pytest.mark.parametrize("deadline", [0.0, 0.1, 0.3, 0.7, 1000.1, 1_000_000.3])
def test_deadline_on_a_tick_is_found_within_a_tick(deadline: float) -> None:
    wheel = Bounded()
    wheel.arm(NODES[0], deadline)
    assert wheel.expire(deadline - TICK_S) == []
    assert wheel.expire(deadline + TICK_S + NOISE) == [NODES[0]]
