"""Time: exact to the millisecond in records, never early when waited for, and in a test's own hand."""

from __future__ import annotations

import ast
import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import thunderline
from thunderline.core.clock import SystemClock, from_ms, to_ms
from thunderline.testing.clock import START_MS, ManualClock

LAST_MS = 253_402_300_799_999


@given(st.integers(-62_135_596_800_000, LAST_MS))
def test_milliseconds_survive_the_way_through_a_datetime(at_ms: int) -> None:
    at = from_ms(at_ms)
    assert at.tzinfo is UTC
    assert at.microsecond % 1000 == 0
    assert to_ms(at) == at_ms


@given(st.datetimes(timezones=st.timezones()))
def test_any_aware_time_is_cut_down_to_its_millisecond(at: datetime) -> None:
    try:
        utc = at.astimezone(UTC)
    except OverflowError:
        return
    assert timedelta(0) <= utc - from_ms(to_ms(utc)) < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("at_ms", "text"),
    [
        (0, "1970-01-01T00:00:00+00:00"),
        (-1, "1969-12-31T23:59:59.999000+00:00"),
        (START_MS, "2026-01-01T00:00:00+00:00"),
        (LAST_MS, "9999-12-31T23:59:59.999000+00:00"),
    ],
)
def test_milliseconds_count_from_1970(at_ms: int, text: str) -> None:
    assert from_ms(at_ms).isoformat() == text


def test_wall_time_of_a_clock_is_whole_milliseconds(clock: ManualClock) -> None:
    for one in (clock, SystemClock()):
        now = one.now()
        assert now.tzinfo is UTC
        assert from_ms(to_ms(now)) == now


async def test_system_clock_never_wakes_early() -> None:
    clock = SystemClock()
    for _ in range(3):
        deadline = clock.monotonic() + 0.001
        await clock.sleep_until(deadline)
        assert clock.monotonic() >= deadline
    await clock.sleep_until(clock.monotonic() - 1)
    await clock.sleep(-1)


def test_operating_system_is_asked_for_the_time_in_one_place_only() -> None:
    root = Path(thunderline.__file__).parent
    asking = []
    for file in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import) and any(alias.name in ("time", "datetime") for alias in node.names):
                asking.append(str(file.relative_to(root)))
            if isinstance(node, ast.ImportFrom) and node.module == "time":
                asking.append(str(file.relative_to(root)))
            if isinstance(node, ast.Attribute) and node.attr in ("utcnow", "today", "fromtimestamp"):
                asking.append(str(file.relative_to(root)))
    assert asking == ["core/clock.py"]


# ManualClock


async def started(clock: ManualClock, sleepers: int) -> None:
    """Let tasks run until so many of them sleep."""
    for _ in range(20):
        await asyncio.sleep(0)
    assert clock.sleepers == sleepers


@given(st.lists(st.integers(0, 10_000_000), max_size=30))
def test_both_readings_advance_by_exactly_what_was_asked(steps_ms: list[int]) -> None:
    async def turn() -> None:
        clock = ManualClock()
        for step_ms in steps_ms:
            await clock.advance(step_ms / 1000)
        assert clock.now_ms() == START_MS + sum(steps_ms)
        assert clock.monotonic() == pytest.approx(1000 + sum(steps_ms) / 1000, abs=1e-6)

    asyncio.run(turn())


async def test_sleeper_wakes_at_its_deadline_and_not_before(clock: ManualClock) -> None:
    woken: list[float] = []

    async def sleeper() -> None:
        await clock.sleep(10)
        woken.append(clock.monotonic())

    start = clock.monotonic()
    task = asyncio.create_task(sleeper())
    await started(clock, 1)
    await clock.advance(9.999)
    assert woken == []
    await clock.advance(0.001)
    assert woken == [start + 10]
    await task


async def test_sleepers_wake_in_the_order_of_their_deadlines_each_at_its_own_time(clock: ManualClock) -> None:
    woken: list[tuple[str, float, int]] = []

    async def sleeper(name: str, duration_s: float) -> None:
        await clock.sleep(duration_s)
        woken.append((name, clock.monotonic() - 1000, clock.now_ms() - START_MS))

    tasks = [asyncio.create_task(sleeper(name, s)) for name, s in (("c", 3), ("a", 1), ("b1", 2), ("b2", 2))]
    await started(clock, 4)
    await clock.advance(100)
    assert woken == [("a", 1.0, 1000), ("b1", 2.0, 2000), ("b2", 2.0, 2000), ("c", 3.0, 3000)]
    assert clock.monotonic() == 1100
    await asyncio.gather(*tasks)


async def test_sleeper_that_sleeps_again_is_woken_again_within_one_advance(clock: ManualClock) -> None:
    ticks: list[float] = []

    async def ticker() -> None:
        while True:
            await clock.sleep(1)
            ticks.append(clock.monotonic() - 1000)

    task = asyncio.create_task(ticker())
    await started(clock, 1)
    await clock.advance(3.5)
    assert ticks == [1, 2, 3]
    task.cancel()
    await asyncio.wait([task])


async def test_cancelled_sleeper_is_forgotten(clock: ManualClock) -> None:
    task = asyncio.create_task(clock.sleep(1))
    await started(clock, 1)
    task.cancel()
    await asyncio.wait([task])
    assert clock.sleepers == 0
    await clock.advance(2)
    assert clock.monotonic() == 1002


async def test_past_deadline_returns_but_lets_others_run(clock: ManualClock) -> None:
    ran = asyncio.Event()
    asyncio.get_running_loop().call_soon(ran.set)
    await clock.sleep_until(clock.monotonic() - 1)
    assert ran.is_set()


async def test_wall_clock_jumps_without_waking_anybody(clock: ManualClock) -> None:
    task = asyncio.create_task(clock.sleep(10))
    await started(clock, 1)
    clock.jump_wall(3600)
    assert clock.now_ms() == START_MS + 3_600_000
    clock.jump_wall(-7200)
    assert clock.now_ms() == START_MS - 3_600_000
    assert clock.monotonic() == 1000
    await started(clock, 1)
    await clock.advance(10)
    await task
    assert clock.now_ms() == START_MS - 3_600_000 + 10_000


async def test_monotonic_time_does_not_go_back(clock: ManualClock) -> None:
    with pytest.raises(ValueError, match="go back"):
        await clock.advance(-1)
    assert clock.monotonic() == 1000
