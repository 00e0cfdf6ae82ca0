"""A node's link when things break, when the registry asks for something, and when it ends."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from tests.client.worlds import NAME, World
from thunderline.client.backoff import Backoff
from thunderline.client.errors import ServerUnreachable
from thunderline.client.link_errors import (
    BeatDropped,
    BeatRefused,
    LinkDeregistered,
    LinkLeft,
    LinkSuperseded,
)
from thunderline.testing import MemoryTransport
from thunderline.testing.harness import open_cluster
from thunderline.wire.codec import node_codec
from thunderline.wire.frames import (
    Backlog,
    Beat,
    Drain,
    ErrorFrame,
    Interval,
)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_cluster() as cluster:
        yield World(cluster)


# Outages


async def test_beats_of_an_outage_are_delivered_once_with_their_times(world: World) -> None:
    async with world.link() as link:
        await world.turn(3)
        world.transport.refusing = True
        world.transport.cut()
        taken_at: dict[float, int] = {}
        sending = []
        for at in range(1, 4):
            await world.turn(7.1)
            taken_at[float(at)] = world.clock.now_ms()
            sending.append(asyncio.create_task(link.beat(cpu_load=at)))
            await world.settle()
        await world.turn(30)
        assert not link.connected
        world.transport.refusing = False
        await world.turn(12)
        await asyncio.gather(*sending)
        beats = await world.beats()
        assert [beat["seq"] for beat in beats] == list(range(1, link.stats.beats_acked + 1))
        kept = {beat["cpu_load"]: beat["at"] for beat in beats if beat["cpu_load"] is not None}
        assert {load: ms(at) for load, at in kept.items()} == taken_at
        assert link.stats.beats_late >= 3 + 5
        assert (link.stats.beats_dropped, link.stats.backlog) == (0, 0)


def ms(at: str) -> int:
    from datetime import datetime

    return round(datetime.fromisoformat(at).timestamp() * 1000)


async def test_late_beats_are_told_once_in_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        async with world.link():
            world.transport.refusing = True
            world.transport.cut()
            await world.turn(35)
            world.transport.refusing = False
            await world.turn(25)
    told = [record.__dict__["beats"] for record in caplog.records if record.getMessage() == "delivered late beats"]
    assert len(told) == 1
    assert 3 <= told[0] <= 6


async def test_a_link_that_is_back_at_once_is_resumed_and_writes_nothing(world: World) -> None:
    async with world.link() as link:
        await world.turn(1)
        before = world.registry.cursor
        world.transport.cut()
        await world.turn(0.6)
        assert link.connected
        assert (link.stats.links, link.stats.resumed, link.incarnation) == (2, 1, 1)
        assert world.registry.cursor == before
        assert world.node.status == "online"


async def test_a_link_that_is_back_too_late_for_that_keeps_its_incarnation(world: World) -> None:
    async with world.link() as link:
        world.transport.refusing = True
        world.transport.cut()
        await world.turn(20)
        assert world.node.status == "disconnected"
        world.transport.refusing = False
        await world.turn(11)
        assert (link.stats.links, link.stats.resumed, link.incarnation) == (2, 0, 1)
        assert world.node.status == "online"


@pytest.mark.parametrize("frames", [1, 2, 3])
async def test_a_connection_cut_between_beat_and_acknowledgement_doubles_nothing(world: World, frames: int) -> None:
    async with world.link() as link:
        await world.turn(1)
        world.transport.cut_after(frames)
        await world.turn(45)
        await link.flush()
        seqs = [beat["seq"] for beat in await world.beats()]
        assert seqs == list(range(1, link.stats.beats_acked + 1))
        assert link.stats.links == 2


@pytest.mark.parametrize(("up", "down"), [(True, True), (True, False), (False, True)])
async def test_a_half_open_connection_is_given_up_and_made_anew(world: World, up: bool, down: bool) -> None:
    async with world.link() as link:
        await world.turn(1)
        world.transport.hold(up=up, down=down)
        await world.turn(30)
        assert link.connected
        assert link.stats.links >= 2
        await link.flush()
        assert world.node.status == "online"
        assert link.stats.backlog == 0


async def test_a_quiet_link_is_not_taken_for_a_dead_one(world: World) -> None:
    async with world.link(interval_s=120) as link:
        await world.turn(100)
        assert link.stats.links == 1


async def test_the_backlog_is_bounded_and_what_it_loses_is_counted_and_told_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.link(backlog_max=4, interval_s=1) as link:
        await world.turn(0.5)
        world.transport.refusing = True
        world.transport.cut()
        lost = asyncio.create_task(link.beat(cpu_load=1))
        with caplog.at_level(logging.ERROR):
            await world.turn(20)
        assert [record.getMessage() for record in caplog.records] == ["beats lost: the backlog is full"]
        with pytest.raises(BeatDropped):
            await lost
        assert link.stats.backlog == 4
        assert link.stats.beats_dropped >= 15
        world.transport.refusing = False
        await world.turn(11)
        await link.flush()
        stats = link.stats
        assert stats.beats_acked + stats.beats_dropped == stats.beats_taken


async def test_a_beat_that_waits_ends_with_the_link(world: World) -> None:
    async with world.link() as link:
        world.transport.refusing = True
        world.transport.cut()
        waiting = asyncio.create_task(link.beat(cpu_load=1))
        flushing = asyncio.create_task(link.flush())
        await world.settle()
    for task in (waiting, flushing):
        with pytest.raises(LinkLeft):
            await task
    with pytest.raises(LinkLeft):
        await link.beat()


async def test_while_the_store_is_away_beats_are_kept_and_delivered_after_it(world: World) -> None:
    async with world.link() as link:
        await world.turn(1)
        world.cluster.store.away = True
        await world.turn(65)
        assert link.connected
        assert link.stats.backlog >= 6
        world.cluster.store.away = False
        await world.turn(25)
        await link.flush()
        assert [beat["seq"] for beat in await world.beats()] == list(range(1, link.stats.beats_acked + 1))
        assert (world.node.status, link.stats.links) == ("online", 1)


async def test_a_process_that_stood_still_comes_back_by_itself(world: World) -> None:
    async with world.link() as link:
        await world.turn(9.5)
        world.clock.pause(300)
        await world.turn(20)
        assert link.connected
        assert world.node.status == "online"
        await link.flush()
        assert link.stats.backlog == 0


async def test_a_node_that_beats_often_waits_two_intervals_at_most(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.link(interval_s=1) as link:
        await world.turn(6)
        attempts = []

        async def connect(url: str, *, token: str | None = None) -> Any:
            attempts.append(world.clock.monotonic())
            raise ServerUnreachable(url)

        with monkeypatch.context() as patch:
            patch.setattr(world.transport, "connect", connect)
            world.transport.cut()
            await world.turn(60)
        gaps = [b - a for a, b in itertools.pairwise(attempts)]
        assert max(gaps) <= 2.1
        assert sum(gaps) / len(gaps) > 0.6
        await world.turn(2.1)
        assert link.connected


def test_the_wait_of_a_node_that_beats_very_often_is_not_capped_below_a_second() -> None:
    backoff = Backoff(random.Random(1))
    waits = [backoff.next_s(interval_s=0.1) for _ in range(100)]
    assert 0.9 < max(waits) <= 1.0


async def test_waits_grow_and_are_never_longer_than_the_cap(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world.link() as link:
        await world.turn(6)
        attempts = []

        async def connect(url: str, *, token: str | None = None) -> Any:
            attempts.append(world.clock.monotonic())
            raise ServerUnreachable(url)

        with monkeypatch.context() as patch:
            patch.setattr(world.transport, "connect", connect)
            cut_at = world.clock.monotonic()
            world.transport.cut()
            await world.turn(200)
        assert attempts[0] - cut_at <= 0.55
        gaps = [b - a for a, b in itertools.pairwise(attempts)]
        assert max(gaps) <= 10.1
        assert sum(gaps) / len(gaps) > 3
        await world.turn(11)
        assert link.connected


# What a registry asks for


async def test_the_registry_changes_the_interval(world: World) -> None:
    async with world.link() as link:
        await world.turn(1)
        before = link.stats.beats_acked
        world.tell(Interval(interval_ms=1_000))
        await world.turn(5.05)
        assert link.interval_s == 1.0
        assert 5 <= link.stats.beats_acked - before <= 6


async def test_a_drained_link_moves_at_a_random_moment_and_is_resumed(world: World) -> None:
    async with world.link() as link:
        await world.turn(1)
        world.tell(Drain(reconnect_within_ms=4_000))
        await world.turn(4.1)
        assert (link.connected, link.stats.links, link.stats.resumed) == (True, 2, 1)
        assert world.node.status == "online"


async def test_links_that_are_drained_together_do_not_return_together(world: World) -> None:
    transports = [MemoryTransport(world.registry) for _ in range(8)]
    links = [
        await world.link(name=f"w{at}", transport=transport, seed=at).__aenter__()
        for at, transport in enumerate(transports)
    ]
    await world.turn(1)
    drain = node_codec("thunderline.link.v1+msgpack").encode(Drain(reconnect_within_ms=8_000))
    for transport in transports:
        transport._wires[0].send(drain)
    await world.settle()
    for transport in transports:
        transport.cut()
    back_at: dict[int, float] = {}
    for _ in range(300):
        await world.turn(0.05)
        for at, link in enumerate(links):
            if link.stats.links == 2:
                back_at.setdefault(at, world.clock.monotonic())
    assert len(back_at) == 8
    assert len(set(back_at.values())) >= 4
    for link in links:
        await link.leave()


@pytest.mark.parametrize("code", ["overloaded", "shutting_down", "name_in_use", "rate_limited"])
async def test_after_a_refusal_for_now_a_link_comes_back_when_it_was_told(world: World, code: str) -> None:
    async with world.link() as link:
        await world.turn(1)
        world.tell(ErrorFrame(code=code, message="later", retryable=True, retry_after_ms=3_000))
        await world.settle()
        world.transport.cut()
        await world.turn(2.9)
        assert not link.connected
        await world.turn(0.7)
        assert link.connected


async def test_an_error_that_does_not_end_the_link_changes_nothing(world: World) -> None:
    async with world.link() as link:
        await world.turn(1)
        world.tell(ErrorFrame(code="invalid_input", message="odd"))
        await world.turn(20)
        world.transport.cut()
        await world.turn(1)
        assert link.connected


async def test_a_registry_that_breaks_the_protocol_is_left_and_tried_again(world: World) -> None:
    async with world.link() as link:
        await world.turn(1)
        world.tell(Interval(interval_ms=0))
        await world.turn(1)
        assert (link.connected, link.stats.links) == (True, 2)


async def test_a_beat_that_is_refused_for_good_says_why(world: World) -> None:
    async with world.link() as link:
        await world.turn(1)
        world.transport.hold(up=True, down=False)
        sending = asyncio.create_task(link.beat(cpu_load=3))
        await world.settle()
        world.tell(ErrorFrame(code="stale_sequence", message="too old", seq=link.stats.beats_taken))
        with pytest.raises(BeatRefused, match="too old") as refused:
            await sending
        assert (refused.value.code, link.stats.beats_refused) == ("stale_sequence", 1)
        world.transport.release()


# The end


async def test_a_node_that_is_removed_ends_its_link(world: World) -> None:
    async with world.link() as link:
        await world.turn(1)
        waiting = asyncio.create_task(link.wait_ended())
        (await world.cluster.http.delete(f"/api/nodes/{NAME}?force=true")).raise_for_status()
        await world.turn(1)
        error = await waiting
        assert isinstance(error, LinkDeregistered)
        assert (error.code, link.connected) == ("deregistered", False)
        with pytest.raises(LinkDeregistered):
            await link.beat()
        await world.turn(30)
        assert world.transport.connects == 1


async def test_a_process_that_another_took_the_place_of_ends_its_link(world: World) -> None:
    async with world.link() as old:
        await world.turn(1)
        async with world.link(transport=MemoryTransport(world.registry), seed=2) as new:
            assert new.incarnation == 2
            await world.turn(1)
            error = await old.wait_ended()
            assert isinstance(error, LinkSuperseded)
            await world.turn(20)
            assert (world.node.status, world.node.incarnation) == ("online", 2)
            assert world.transport.connects == 1


async def test_a_process_that_was_cut_off_while_another_took_its_place_ends_when_it_is_back(world: World) -> None:
    async with world.link() as old:
        await world.turn(1)
        world.transport.hold()
        world.transport.hanging = True
        await world.turn(40)
        async with world.link(transport=MemoryTransport(world.registry), seed=2) as new:
            world.transport.hanging = False
            await world.turn(30)
            error = await old.wait_ended()
            assert isinstance(error, LinkSuperseded)
            assert (world.node.status, world.node.incarnation) == ("online", new.incarnation)


async def test_leaving_does_not_wait_for_ever_for_a_goodbye_to_be_heard(world: World) -> None:
    async with world.link() as link:
        await world.turn(1)
        world.transport.hold()
        leaving = asyncio.create_task(link.leave())
        await world.turn(4.9)
        assert not leaving.done()
        await world.turn(0.2)
        await leaving


async def test_leaving_without_a_link_ends_at_once(world: World) -> None:
    async with world.link() as link:
        world.transport.refusing = True
        world.transport.cut()
        await world.settle()
        await link.leave()
        assert await link.wait_ended() is None


async def test_an_error_in_the_block_leaves_and_is_raised(world: World) -> None:
    with pytest.raises(RuntimeError, match="mine"):
        async with world.link():
            raise RuntimeError("mine")
    assert world.node.status == "offline"


async def test_a_link_leaves_no_task_behind(world: World) -> None:
    async def hanging() -> dict[str, object]:
        await asyncio.get_running_loop().create_future()
        return {}

    before = asyncio.all_tasks()
    async with world.link(metrics=hanging):
        await world.turn(3)
    await world.settle()
    assert asyncio.all_tasks() == before


async def test_a_link_is_entered_once(world: World) -> None:
    async with world.link() as link:
        with pytest.raises(RuntimeError, match="once"):
            await link.__aenter__()


async def test_before_it_is_entered_a_link_knows_nothing_of_the_registry(world: World) -> None:
    link = world.link()
    assert (link.name, link.connected) == (NAME, False)
    with pytest.raises(RuntimeError, match="async with"):
        _ = link.stats


async def test_late_beats_leave_in_frames_of_ascending_numbers(world: World) -> None:
    async with world.link(interval_s=1) as link:
        world.transport.refusing = True
        world.transport.cut()
        await world.turn(30)
        world.transport.refusing = False
        world.transport.sent.clear()
        await world.turn(11)
        await link.flush()
        seqs: list[int] = []
        for frame in world.said():
            if isinstance(frame, Backlog):
                seqs += [beat.seq for beat in frame.beats]
            elif isinstance(frame, Beat):
                seqs.append(frame.seq)
        assert seqs == sorted(set(seqs))


def test_the_stats_are_plain_values() -> None:
    from thunderline.client.link_stats import LinkStats

    assert all(field.type is int for field in msgspec.structs.fields(LinkStats))
