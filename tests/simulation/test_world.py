"""Simulated time: the loop's, the clock's, and the world's beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from thunderline.testing.simulation.world import NothingLeft, SimulatedClock, SimulatedLoop, World

T = TypeVar("T")


def run(world: World, body: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(world)) as runner:
        return runner.run(body)


def test_a_year_of_sleep_takes_no_time_and_wakes_on_the_tick() -> None:
    world = World()
    clock = SimulatedClock(world)

    async def body() -> tuple[float, int]:
        started_ms = clock.now_ms()
        await clock.sleep(365 * 86_400.1)
        return clock.monotonic(), clock.now_ms() - started_ms

    assert run(world, body()) == (365 * 86_400.1, (365 * 86_400_100))


def test_timers_of_the_loop_and_actions_of_the_world_happen_in_the_order_of_their_times() -> None:
    world = World()
    clock = SimulatedClock(world)
    happened: list[str] = []

    async def body() -> None:
        loop = asyncio.get_running_loop()
        world.at(2.0, lambda: world.hand(lambda: happened.append("message")))
        world.at(2.5, lambda: happened.append("outside"))
        loop.call_later(1.0, happened.append, "timer 1")
        loop.call_later(3.0, happened.append, "timer 3")
        await clock.sleep(4)

    run(world, body())
    assert happened == ["timer 1", "message", "outside", "timer 3"]


def test_while_the_process_stands_still_the_world_goes_on_and_messages_wait() -> None:
    world = World()
    clock = SimulatedClock(world)
    happened: list[tuple[str, float]] = []

    async def body() -> None:
        world.at(5.0, lambda: world.hand(lambda: happened.append(("arrived", world.now))))
        world.at(5.0, lambda: happened.append(("sent", world.now)))
        world.at(1.0, lambda: world.stand_still(60))
        await clock.sleep(2)
        happened.append(("woke", clock.monotonic()))

    run(world, body())
    assert happened == [("sent", 5.0), ("arrived", 61.0), ("woke", 61.0)]


def test_a_cancelled_sleep_leaves_nothing_behind() -> None:
    world = World()
    clock = SimulatedClock(world)

    async def body() -> float:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(clock.sleep(10), timeout=1)
        await clock.sleep(20)
        return clock.monotonic()

    assert run(world, body()) == pytest.approx(21)


def test_a_program_that_waits_for_nothing_is_told_so() -> None:
    async def body() -> None:
        await asyncio.get_running_loop().create_future()

    world = World()
    loop = SimulatedLoop(world)
    try:
        task = loop.create_task(body())
        with pytest.raises(NothingLeft):
            loop.run_until_complete(task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
    finally:
        loop.close()


def test_the_wall_clock_jumps_alone() -> None:
    world = World()
    clock = SimulatedClock(world)
    before_ms = clock.now_ms()
    clock.jump_wall(-86_400)
    assert (clock.now_ms() - before_ms, clock.monotonic()) == (-86_400_000, 0.0)


def test_work_given_to_a_thread_is_done_at_once() -> None:
    world = World()
    clock = SimulatedClock(world)

    async def body() -> tuple[int, float]:
        world.at(5.0, lambda: None)
        return await asyncio.to_thread(lambda: 7), clock.monotonic()

    assert run(world, body()) == (7, 0.0)
