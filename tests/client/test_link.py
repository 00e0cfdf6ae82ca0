"""A node's link to a real registry in the same loop: making it, its beats, the figures of the program."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from tests.client.worlds import NAME, World
from thunderline.client.errors import NotThunderline, ServerUnreachable
from thunderline.client.link import Link
from thunderline.client.link_errors import (
    BeatDropped,
    LinkEnded,
    LinkLeft,
    LinkTimeout,
)
from thunderline.core.errors import InvalidInput
from thunderline.testing.harness import open_cluster


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_cluster() as cluster:
        yield World(cluster)


# Sessions with other nodes


async def test_what_a_program_reports_shows_until_it_is_reported_no_more(world: World) -> None:
    await world.cluster.registry.mark_online((await world.cluster.registry.ensure_node({"name": "far"})).id)
    async with world.link() as link:
        link.report_links([{"session_id": "tunnel", "remote": "far", "connection_type": "quic"}])
        await world.turn(1)
        session = await world.cluster.registry.get_link_session("tunnel")
        assert (session.status, session.connection_type, session.node_id) == ("established", "quic", link.node_id)
        link.report_links([])
        await world.turn(1)
        assert (await world.cluster.registry.get_link_session("tunnel")).status == "closed"
        with pytest.raises(InvalidInput, match="remote"):
            link.report_links([{"session_id": "tunnel"}])
        with pytest.raises(InvalidInput, match="sessions"):
            link.report_links([{"session_id": "x" * 255, "remote": "y" * 255} for _ in range(256)])
    with pytest.raises(LinkLeft):
        link.report_links([])


# Making the link


async def test_entering_makes_the_node_online(world: World) -> None:
    async with world.link(role="gateway", labels={"zone": "eu-1"}, capabilities={"gpu": {"value": "a100"}}) as link:
        assert (link.node_id, link.incarnation, link.connected) == (world.node.id, 1, True)
        assert (world.node.status, world.node.role, world.node.labels) == ("online", "gateway", {"zone": "eu-1"})
        assert world.node.capabilities["gpu"].value == "a100"
        assert link.interval_s == 10.0


async def test_a_link_that_is_left_says_goodbye(world: World) -> None:
    async with world.link():
        pass
    assert (world.node.status, world.node.status_reason) == ("offline", "goodbye")


async def test_a_link_may_say_why_it_leaves(world: World) -> None:
    async with world.link() as link:
        await link.leave("rack move")
        assert await link.wait_ended() is None
    assert world.node.status == "offline"


@pytest.mark.parametrize("way", ["option", "call"])
async def test_a_link_that_is_abandoned_says_nothing(world: World, way: str) -> None:
    async with world.link(leave=way != "option") as link:
        if way == "call":
            await link.abandon()
    await world.turn(1)
    assert world.node.status == "online"


async def test_a_link_waits_for_a_server_that_is_not_there_yet(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.transport.refusing = True
    link = world.link()
    with caplog.at_level(logging.WARNING):
        entering = asyncio.create_task(link.__aenter__())
        await world.turn(60)
    assert not entering.done()
    assert [record.getMessage() for record in caplog.records] == ["no link yet, trying on"]
    world.transport.refusing = False
    await world.turn(10)
    assert (await entering).connected
    await link.leave()


async def test_entering_ends_at_its_timeout_with_what_stood_in_the_way(world: World) -> None:
    world.transport.refusing = True
    entering = asyncio.create_task(world.link(open_timeout_s=5).__aenter__())
    await world.turn(4.9)
    assert not entering.done()
    await world.turn(0.2)
    with pytest.raises(LinkTimeout, match="within 5 s") as timeout:
        await entering
    assert isinstance(timeout.value.__cause__, ServerUnreachable)


async def test_attempts_to_connect_are_given_up_in_time(world: World) -> None:
    world.transport.hanging = True
    link = world.link()
    entering = asyncio.create_task(link.__aenter__())
    await world.turn(9)
    world.transport.hanging = False
    await world.turn(2)
    assert (await entering).connected
    await link.leave()


async def test_a_refusal_for_good_is_raised_at_once(world: World) -> None:
    await world.cluster.node(NAME, role="gateway")
    with pytest.raises(LinkEnded, match="role") as refused:
        async with world.link(role="worker"):
            pass
    assert (refused.value.code, refused.value.retryable) == ("mismatch", False)


async def test_what_is_no_server_of_ours_is_raised_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(url: str, *, token: str | None = None) -> Any:
        raise NotThunderline(url, reason="HTTP 200, text/html")

    monkeypatch.setattr(world.transport, "connect", connect)
    with pytest.raises(NotThunderline):
        async with world.link():
            pass


async def test_entering_that_is_cancelled_leaves_nothing_behind(world: World) -> None:
    before = asyncio.all_tasks()
    world.transport.hanging = True
    entering = asyncio.create_task(world.link().__aenter__())
    await world.settle()
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    await world.settle()
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": "not a name"}, "name"),
        ({"name": "0197c000-0000-7000-8000-000000000000"}, "name"),
        ({"role": "No Slug"}, "role"),
        ({"labels": {"zone": 1}}, "labels"),
        ({"meta": {"x": float("nan")}}, "meta.x"),
        ({"capabilities": {"gpu": "a100"}}, "capabilities"),
        ({"cluster_type": "moon"}, "cluster_type"),
        ({"interval_s": 0.01}, "interval_s"),
        ({"interval_s": float("nan")}, "interval_s"),
    ],
)
def test_attributes_that_cannot_be_are_refused_before_anything_is_sent(given: Mapping[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as error:
        Link("http://127.0.0.1:4040", **{"name": NAME, **given})
    assert error.value.field.startswith(field)


# Beats


async def test_a_beat_is_sent_at_once_and_then_at_the_interval(world: World) -> None:
    async with world.link() as link:
        await world.settle()
        assert link.stats.beats_acked == 1
        await world.turn(61)
        assert 7 <= link.stats.beats_acked <= 8  # a beat may come up to a tenth early, and never late
        gaps = [b["at"] for b in await world.beats()]
        assert len(gaps) == link.stats.beats_acked
        assert world.node.status == "online"


async def test_a_node_asks_for_its_interval(world: World) -> None:
    async with world.link(interval_s=2.5) as link:
        assert link.interval_s == 2.5


async def test_a_beat_by_hand_returns_when_it_is_kept(world: World) -> None:
    async with world.link() as link:
        await world.settle()  # the first beat of its own
        await link.beat(cpu_load=12.5, status="degraded", peers={"b": None})
        beat = (await world.beats())[-1]
        assert (beat["cpu_load"], beat["peers"]) == (12.5, {"b": None})
        assert world.node.status == "degraded"


@pytest.mark.parametrize(
    ("figures", "field"),
    [
        ({"cpu_load": -1}, "cpu_load"),
        ({"cpu_lode": 1}, "cpu_lode"),
        ({"seq": 5}, "seq"),
        ({"status": "offline"}, "status"),
        ({"peers": {"b": float("inf")}}, "peers"),
    ],
)
async def test_figures_that_cannot_be_are_refused_by_name(world: World, figures: dict[str, Any], field: str) -> None:
    async with world.link() as link:
        with pytest.raises(InvalidInput) as error:
            await link.beat(**figures)
        assert error.value.field.startswith(field)


async def test_of_two_beats_at_once_the_newer_says_how_the_node_is(world: World) -> None:
    async with world.link() as link:
        await world.settle()
        await asyncio.gather(link.beat(cpu_load=1), link.beat(status="degraded"))
        assert world.node.status == "degraded"
        assert link.stats.beats_late == 0


async def test_beats_that_come_faster_than_they_are_kept_wait_for_their_turn(world: World) -> None:
    async with world.link(backlog_max=20) as link:
        await world.settle()
        beats = asyncio.gather(*(link.beat(cpu_load=at / 10) for at in range(300)))
        await world.cluster.turn_until(beats, step_s=0.0)
        kept = [beat["cpu_load"] for beat in await world.beats() if beat["cpu_load"] is not None]
        assert kept == [at / 10 for at in range(300)]
        assert (link.stats.beats_dropped, link.stats.beats_late) == (0, 0)


async def test_a_beat_that_is_cancelled_before_its_turn_is_not_taken(world: World) -> None:
    async with world.link(backlog_max=2) as link:
        await world.settle()
        first, second = (asyncio.create_task(link.beat(cpu_load=at)) for at in (1, 2))
        await asyncio.sleep(0)
        second.cancel()
        await world.cluster.turn_until(first, step_s=0.0)
        await world.settle()
        assert (link.stats.beats_taken, link.stats.backlog) == (2, 0)


async def test_a_beat_that_waits_for_its_turn_ends_with_the_link(world: World) -> None:
    async with world.link(backlog_max=2) as link:
        await world.settle()
        world.transport.hold(up=True, down=True)
        beats = [asyncio.create_task(link.beat(cpu_load=at)) for at in range(5)]
        await world.settle()
        assert link.stats.beats_taken == 2
        await link.abandon()
        outcomes = await asyncio.gather(*beats, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {LinkLeft}


async def test_in_an_outage_no_beat_waits_for_its_turn(world: World) -> None:
    async with world.link(backlog_max=2) as link:
        await world.settle()
        world.transport.hold(up=True, down=True)
        beats = [asyncio.create_task(link.beat(cpu_load=at)) for at in range(5)]
        await world.settle()
        world.transport.refusing = True
        world.transport.cut()
        await world.settle()
        assert (link.stats.beats_taken, link.stats.backlog, link.stats.beats_dropped) == (6, 2, 3)
        assert [beat.done() for beat in beats] == [True, True, True, False, False]
    outcomes = await asyncio.gather(*beats, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [BeatDropped] * 3 + [LinkLeft] * 2


async def test_the_round_trip_is_measured(world: World) -> None:
    async with world.link() as link:
        await world.turn(30)
        assert link.round_trip_ms is not None
        assert 0 <= link.round_trip_ms < 100


async def test_flush_returns_when_every_beat_is_kept(world: World) -> None:
    async with world.link() as link:
        await link.flush()
        world.cluster.store.away = True
        sending = asyncio.create_task(link.beat(cpu_load=1))
        await world.settle()
        flushing = asyncio.create_task(link.flush())
        await world.turn(3)
        assert not flushing.done()
        assert not sending.done()
        world.cluster.store.away = False
        await world.turn(15)
        await flushing
        await sending


# Figures of the program


async def test_metrics_are_sent_with_each_beat(world: World) -> None:
    async def metrics() -> dict[str, object]:
        return {"cpu_load": 5, "mem_used_mb": 100, "meta": {"jobs": 3}}

    async with world.link(metrics=metrics):
        await world.turn(11)
        for beat in await world.beats():
            assert (beat["cpu_load"], beat["mem_used_mb"], beat["meta"]) == (5, 100, {"jobs": 3})


async def test_metrics_of_a_plain_function_may_block(world: World) -> None:
    loop_thread = threading.get_ident()
    threads = []

    def metrics() -> dict[str, object]:
        threads.append(threading.get_ident())
        return {"cpu_load": 7}

    async with world.link(metrics=metrics) as link:
        await world.cluster.turn_until(acked(link, 1), step_s=0.0)
        assert (await world.beats())[0]["cpu_load"] == 7
    assert loop_thread not in threads


async def acked(link: Link, count: int) -> None:
    while link.stats.beats_acked < count:  # noqa: ASYNC110 - the figures come from a thread
        await asyncio.sleep(0)


def raising() -> dict[str, object]:
    raise RuntimeError("broken on purpose")


async def hanging() -> dict[str, object]:
    await asyncio.get_running_loop().create_future()
    return {}


async def stubborn() -> dict[str, object]:
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        await asyncio.sleep(0)
    return {"cpu_load": 1}


async def failing() -> dict[str, object]:
    return raising()


async def awaiting_what_is_cancelled() -> dict[str, object]:
    other = asyncio.create_task(asyncio.sleep(10))
    other.cancel()
    await other
    return {}


async def cancelling_itself() -> dict[str, object]:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)
    return {}


async def nonsense() -> Any:
    return [1, 2]


async def negative() -> dict[str, object]:
    return {"cpu_load": -4}


async def unknown() -> dict[str, object]:
    return {"load": 4}


async def nothing() -> None:
    return None


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        (failing, "raised RuntimeError"),
        (hanging, "took longer than 5 s"),
        (stubborn, "took longer than 5 s"),
        (awaiting_what_is_cancelled, "was cancelled from within"),
        (cancelling_itself, "was cancelled from within"),
        (nonsense, "metrics: gave list, not a mapping"),
        (negative, "cpu_load"),
        (unknown, "load: is not a known field"),
        (nothing, None),
    ],
)
async def test_liveness_does_not_depend_on_metrics(
    world: World, caplog: pytest.LogCaptureFixture, metrics: Callable[[], Any], told: str | None
) -> None:
    with caplog.at_level(logging.WARNING):
        async with world.link(metrics=metrics) as link:
            await world.turn(66)
            assert world.node.status == "online"
            assert link.stats.beats_acked >= 6
            assert all(beat["cpu_load"] is None for beat in await world.beats())
    problems = [record.__dict__["problem"] for record in caplog.records if "metrics" in record.getMessage()]
    assert len(problems) == (0 if told is None else 1)
    assert told is None or told in problems[0]


async def test_metrics_that_raise_cancelled_in_a_thread_give_a_beat_without_figures(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def metrics() -> dict[str, object]:
        raise asyncio.CancelledError

    with caplog.at_level(logging.WARNING):
        async with world.link(metrics=metrics) as link:
            await world.cluster.turn_until(acked(link, 1), step_s=0.0)
    (record,) = caplog.records
    assert record.__dict__["problem"] == "was cancelled from within"


async def test_metrics_that_hang_in_a_thread_are_called_no_second_time(world: World) -> None:
    release, calls = threading.Event(), []

    def metrics() -> dict[str, object]:
        calls.append(1)
        release.wait(30)
        return {}

    try:
        async with world.link(metrics=metrics) as link:
            await world.turn(40)
            assert link.stats.beats_acked >= 3
            assert len(calls) == 1
    finally:
        release.set()
