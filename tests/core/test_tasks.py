"""Owned tasks: ended by their owner, and heard of when they fail."""

from __future__ import annotations

import asyncio
import logging

import pytest

from thunderline.core.tasks import Supervisor


async def forever(ended: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(name)


async def failing() -> None:
    raise RuntimeError("broken on purpose")


async def test_close_ends_tasks_last_started_first() -> None:
    ended: list[str] = []
    supervisor = Supervisor()
    for name in ("first", "second", "third"):
        supervisor.start(forever(ended, name), name=name)
    await asyncio.sleep(0)
    await supervisor.close()
    assert ended == ["third", "second", "first"]
    await supervisor.close()
    assert supervisor.failed == []


async def test_task_that_fails_is_named_and_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    supervisor = Supervisor()
    with caplog.at_level(logging.ERROR):
        supervisor.start(failing(), name="sweeper")
        await supervisor.join("sweeper")
        await asyncio.sleep(0)
    assert supervisor.failed == ["sweeper"]
    (record,) = caplog.records
    assert record.getMessage() == "task failed"
    assert record.exc_info is not None
    assert "broken on purpose" in str(record.exc_info[1])
    await supervisor.close()


async def awaiting_what_is_cancelled() -> None:
    other = asyncio.create_task(asyncio.sleep(10))
    other.cancel()
    await other


async def test_task_that_is_cancelled_from_within_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    supervisor = Supervisor()
    with caplog.at_level(logging.ERROR):
        supervisor.start(awaiting_what_is_cancelled(), name="sweeper")
        await supervisor.join("sweeper")
        await asyncio.sleep(0)
    assert supervisor.failed == ["sweeper"]
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[2] is not None
    await supervisor.close()


async def test_failure_of_one_task_leaves_the_others_running() -> None:
    ended: list[str] = []
    supervisor = Supervisor()
    supervisor.start(forever(ended, "other"), name="other")
    supervisor.start(failing(), name="sweeper")
    await supervisor.join("sweeper")
    assert ended == []
    await supervisor.close()
    assert ended == ["other"]


async def test_join_of_an_unknown_task_returns() -> None:
    await Supervisor().join("nobody")


async def slow_to_end(ended: list[str], may_end: asyncio.Event) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await may_end.wait()
        ended.append("slow")


async def turns_of_the_loop(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_close_waits_for_a_task_that_takes_its_time_to_end() -> None:
    ended: list[str] = []
    may_end = asyncio.Event()
    supervisor = Supervisor()
    supervisor.start(slow_to_end(ended, may_end), name="slow")
    await asyncio.sleep(0)
    closing = asyncio.create_task(supervisor.close())
    await turns_of_the_loop(5)
    assert not closing.done()
    may_end.set()
    await closing
    assert ended == ["slow"]


async def test_close_after_a_cancelled_one_waits_for_the_same_tasks() -> None:
    ended: list[str] = []
    may_end = asyncio.Event()
    supervisor = Supervisor()
    supervisor.start(forever(ended, "first"), name="first")
    supervisor.start(slow_to_end(ended, may_end), name="slow")
    await asyncio.sleep(0)
    closing = asyncio.create_task(supervisor.close())
    await turns_of_the_loop(5)
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()
    again = asyncio.create_task(supervisor.close())
    await turns_of_the_loop(5)
    assert not again.done()
    assert ended == []
    may_end.set()
    await again
    assert ended == ["slow", "first"]
