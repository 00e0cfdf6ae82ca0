"""Links over a network that fails in every way it can: no lost acknowledged beat, no doubled one, no stuck link."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from tests.server.processes import ServerProcess, running, until
from tests.server.proxy import BOTH, Conduit, Proxy, Way
from thunderline.client import Link
from thunderline.client.websocket import link_url
from thunderline.core.clock import Clock, SystemClock
from thunderline.wire.frames import JSON_SUBPROTOCOL

SPEED = 10
RECOVERY_S = 12.0
"""Real time in which every link is well again: a silence, a welcome that does not come, and the longest wait, each at
`SPEED`, take 4 s together; the rest is for a busy machine."""

NAMES = (f"node-{number}" for number in itertools.count())


class FastClock(Clock):
    """Runs `SPEED` times as fast, so that the 15 s after which a link gives up a silent connection take 1.5 s."""

    def now_ms(self) -> int:
        return SystemClock().now_ms()

    def monotonic(self) -> float:
        return time.monotonic() * SPEED

    async def sleep_until(self, deadline: float) -> None:
        await SystemClock().sleep_until(deadline / SPEED)


class Ledger:
    """One node, and what it was told is durable; it beats until it is told to stop."""

    def __init__(self, proxy: Proxy, rng: random.Random, *, clock: Clock | None = None) -> None:
        self.link = Link(
            proxy.url,
            name=next(NAMES),
            interval_s=2.0,
            clock=clock or FastClock(),
            rng=random.Random(rng.random()),
        )
        self.durable: set[int] = set()
        """Which of the beats that are numbered in their meta were acknowledged."""
        self._numbers = itertools.count()
        self._rng = rng

    async def beat(self) -> None:
        """Send a beat, and note it once it is durable. Raises: whatever says that it was lost, refused or stuck."""
        number = next(self._numbers)
        async with asyncio.timeout(2 * RECOVERY_S):
            await self.link.beat(meta={"n": number})
        self.durable.add(number)

    async def keep_beating(self, stop: asyncio.Event) -> None:
        """Beat, with up to three on the way and random pauses, until told to stop; returns when all are durable."""

        async def in_turn() -> None:
            while not stop.is_set():
                await self.beat()
                await asyncio.wait({stopped}, timeout=self._rng.uniform(0, 0.1))

        stopped = asyncio.create_task(stop.wait())
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(in_turn())
        await stopped

    async def recovered(self) -> None:
        """Return when the link works again and has delivered everything; fails if that takes too long."""
        async with asyncio.timeout(RECOVERY_S):
            await self.beat()
            await self.link.flush()
        await until(lambda: self.link.connected and self.link.stats.backlog == 0, within_s=RECOVERY_S)

    def check(self, http: httpx.Client) -> None:
        """The history holds all that was acknowledged, and nothing twice. To be called after `recovered`."""
        taken, stats = self.link.stats.beats_acked, self.link.stats
        assert (stats.beats_dropped, stats.beats_refused, self.link.incarnation) == (0, 0, 1)
        beats = http.get(f"/api/nodes/{self.link.node_id}/heartbeats?minutes=600&limit=10000").json()["heartbeats"]
        kept = Counter(beat["seq"] for beat in beats)
        assert [seq for seq in range(1, taken + 1) if kept[seq] != 1] == []
        assert set(kept.values()) == {1}
        noted = Counter(beat["meta"]["n"] for beat in beats if beat["meta"])
        assert [number for number in self.durable if noted[number] != 1] == []
        assert set(noted.values()) <= {1}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all; its log must be clean after everything that was done to it. Some links outlive its grace."""
    store = tmp_path_factory.mktemp("faults") / "nodes.db"
    with running(store, environ={"THUNDERLINE_DROP_GRACE_S": "0.5"}) as found:
        yield found
        assert found.stop() == 0
        assert found.complaints() == []


@pytest.fixture
async def proxy(server: ServerProcess) -> AsyncIterator[Proxy]:
    found: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(str(context)))
    async with Proxy(server.url, rng=random.Random(20261123)) as opened:
        yield opened
    assert found == []  # a task of the link that failed with nobody to notice


@contextlib.asynccontextmanager
async def linked(proxy: Proxy, *, clock: Clock | None = None) -> AsyncIterator[tuple[Ledger, Conduit]]:
    """A link with some acknowledged beats, and the connection it goes over."""
    ledger = Ledger(proxy, proxy.rng, clock=clock)
    async with ledger.link:
        await ledger.beat()
        await ledger.beat()
        yield ledger, proxy.conduits[-1]


def beats_of(ledger: Ledger, count: int) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(ledger.beat()) for _ in range(count)]


# One fault each


async def test_a_slow_network_delays_beats_and_changes_nothing_else(proxy: Proxy, server: ServerProcess) -> None:
    proxy.delay_s = 0.05
    async with linked(proxy) as (ledger, _):
        await asyncio.gather(*beats_of(ledger, 20))
        await ledger.recovered()
        assert ledger.link.stats.links == 1
        ledger.check(server.http)


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
async def test_a_connection_that_is_dropped_is_made_again_and_its_beats_are_kept_once(
    proxy: Proxy, server: ServerProcess, reset: bool
) -> None:
    async with linked(proxy) as (ledger, _):
        for _ in range(5):
            beats = beats_of(ledger, 3)
            await asyncio.wait(beats, return_when=asyncio.FIRST_COMPLETED)
            links = ledger.link.stats.links
            proxy.conduits[-1].close(reset=reset)
            beats += beats_of(ledger, 3)
            await asyncio.gather(*beats)
            assert ledger.link.stats.links > links
        assert ledger.link.stats.resumed > 0
        await ledger.recovered()
        ledger.check(server.http)


@pytest.mark.parametrize("ways", [("up",), ("down",), BOTH], ids=["up", "down", "both"])
async def test_a_half_open_connection_is_found_out_and_its_beats_are_kept_once(
    proxy: Proxy, server: ServerProcess, ways: tuple[Way, ...]
) -> None:
    async with linked(proxy) as (ledger, conduit):
        conduit.swallow(*ways)
        async with asyncio.timeout(RECOVERY_S):
            await asyncio.gather(*beats_of(ledger, 5))
        assert conduit.swallowed_bytes
        assert ledger.link.stats.links == 2
        await ledger.recovered()
        ledger.check(server.http)


@pytest.mark.slow
async def test_a_half_open_connection_is_found_out_within_20_s_of_real_time(
    proxy: Proxy, server: ServerProcess
) -> None:
    async with linked(proxy, clock=SystemClock()) as (ledger, conduit):
        conduit.swallow(*BOTH)
        async with asyncio.timeout(20):
            await ledger.beat()
        await ledger.recovered()
        ledger.check(server.http)


async def test_a_handshake_that_gets_no_answer_is_made_again(proxy: Proxy, server: ServerProcess) -> None:
    async with linked(proxy) as (ledger, conduit):
        conduit.close(reset=True)
        await until(lambda: len(proxy.conduits) > 1)
        proxy.conduits[1].swallow("down")
        async with asyncio.timeout(RECOVERY_S):
            await ledger.beat()
        assert len(proxy.conduits) > 2
        await ledger.recovered()
        ledger.check(server.http)


@pytest.mark.parametrize("way", BOTH)
async def test_a_connection_that_is_cut_in_the_middle_of_a_frame_loses_and_doubles_nothing(
    proxy: Proxy, server: ServerProcess, way: Way
) -> None:
    async with linked(proxy) as (ledger, _):
        for _ in range(5):
            conduit = proxy.conduits[-1]
            conduit.cut_in_message(way)
            async with asyncio.timeout(RECOVERY_S):
                await asyncio.gather(*beats_of(ledger, 5))
            assert conduit.cut.is_set()
        await ledger.recovered()
        ledger.check(server.http)


async def test_bytes_of_an_old_connection_that_arrive_behind_the_new_handshake_double_nothing(
    proxy: Proxy, server: ServerProcess
) -> None:
    async with linked(proxy) as (ledger, conduit):
        conduit.hold("up")
        beats = beats_of(ledger, 10)
        await until(lambda: conduit.held_bytes > 0)
        conduit.close_end("down", reset=True)
        await asyncio.gather(*beats)
        assert (ledger.link.stats.links, ledger.link.stats.resumed) == (2, 1)
        conduit.release("up")
        await asyncio.wait_for(conduit.over.wait(), RECOVERY_S)
        await ledger.recovered()
        assert ledger.link.stats.links == 2
        ledger.check(server.http)


# All of them at once


def harm(proxy: Proxy, rng: random.Random, held: list[Conduit]) -> None:
    """Do one random thing to a random connection, or let bytes go that were kept back before."""
    if held and rng.random() < 0.4:
        held.pop(0).release("up")
        return
    if not proxy.sound:
        return
    conduit = rng.choice(proxy.sound)
    match rng.randrange(6):
        case 0:
            conduit.close(reset=False)
        case 1:
            conduit.close(reset=True)
        case 2:
            conduit.swallow(*rng.choice([("up",), ("down",), BOTH]))
        case 3:
            conduit.cut_in_message(rng.choice(BOTH))
        case 4:
            conduit.hold("up")
            conduit.close_end("down", reset=rng.random() < 0.5)
            held.append(conduit)
        case _:
            proxy.delay_s = rng.choice([0.0, 0.0, 0.02, 0.1])


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_beat_is_lost_or_doubled_and_no_link_is_stuck_whatever_the_network_does(
    proxy: Proxy, server: ServerProcess, seed: int
) -> None:
    rng = random.Random(seed)
    stop = asyncio.Event()
    held: list[Conduit] = []
    async with contextlib.AsyncExitStack() as block:
        ledgers = [Ledger(proxy, rng) for _ in range(10)]
        await asyncio.gather(*(block.enter_async_context(ledger.link) for ledger in ledgers))
        beating = [asyncio.create_task(ledger.keep_beating(stop)) for ledger in ledgers]
        for _ in range(80):
            done, _ = await asyncio.wait(beating, timeout=rng.uniform(0.01, 0.09), return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                await task
            harm(proxy, rng, held)
        # The faults stop; those that no connection survives remain, and are found out.
        proxy.delay_s = 0.0
        for conduit in held:
            conduit.release("up")
        stop.set()
        await asyncio.gather(*(ledger.recovered() for ledger in ledgers))
        await asyncio.gather(*beating)
        await asyncio.gather(*(ledger.recovered() for ledger in ledgers))
        for ledger in ledgers:
            ledger.check(server.http)
        assert sum(ledger.link.stats.links for ledger in ledgers) > 2 * len(ledgers)
        assert sum(len(ledger.durable) for ledger in ledgers) > 100


# A node that is not ours


class Scripted:
    """A node that speaks JSON over a WebSocket and knows nothing of our SDK."""

    def __init__(self, url: str, name: str, *, instance: str = "scripted") -> None:
        self._url = url
        self._hello = {"type": "hello", "name": name, "instance": instance}
        self.welcome: dict[str, Any] = {}
        self.acked = 0
        self.errors: list[dict[str, Any]] = []
        self._heard = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._socket: ClientConnection = await connect(
            link_url(self._url), subprotocols=[Subprotocol(JSON_SUBPROTOCOL)], proxy=None, compression=None
        )
        await self.say(**self._hello)
        self.welcome = json.loads(await self._socket.recv())
        assert self.welcome["type"] == "welcome", self.welcome
        self.listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._socket.transport.abort()
        await self.listening

    async def say(self, **frame: Any) -> None:
        await self._socket.send(json.dumps(frame))

    async def _listen(self) -> None:
        with contextlib.suppress(WebSocketException):
            async for data in self._socket:
                frame = json.loads(data)
                if frame["type"] == "ack":
                    assert frame["seq"] >= self.acked, "an acknowledgement went back"
                    self.acked = frame["seq"]
                elif frame["type"] == "error":
                    self.errors.append(frame)
                self._heard.set()
        self._heard.set()

    async def heard(self) -> None:
        """Return at the next frame, or the end of the connection."""
        if not self.listening.done():
            self._heard.clear()
            await self._heard.wait()

    async def acknowledged(self, seq: int) -> None:
        """Return once that beat is acknowledged."""
        async with asyncio.timeout(RECOVERY_S):
            while self.acked < seq:
                assert not self.listening.done(), (self.acked, self.errors)
                await self.heard()


def seqs_of(server: ServerProcess, node_id: str) -> list[tuple[int, int]]:
    beats = server.http.get(f"/api/nodes/{node_id}/heartbeats?minutes=60&limit=10000").json()["heartbeats"]
    return sorted((beat["incarnation"], beat["seq"]) for beat in beats)


async def test_beats_of_two_connections_of_one_process_are_kept_once_whichever_arrives_first(
    proxy: Proxy, server: ServerProcess
) -> None:
    name = next(NAMES)
    async with Scripted(proxy.url, name) as old:
        (conduit,) = proxy.conduits
        conduit.hold("up")
        for seq in range(1, 51):
            await old.say(type="hb", seq=seq)
        await until(lambda: conduit.held_bytes > 0)
        async with Scripted(proxy.url, name) as new:
            assert new.welcome["incarnation"] == old.welcome["incarnation"]
            await new.say(type="backlog", beats=[{"seq": seq, "age_ms": 10} for seq in range(1, 26)])
            await new.acknowledged(25)
            conduit.release("up")
            await old.acknowledged(50)
            await new.say(type="backlog", beats=[{"seq": seq, "age_ms": 10} for seq in range(26, 61)])
            await new.acknowledged(60)
            assert seqs_of(server, new.welcome["node_id"]) == [(1, seq) for seq in range(1, 61)]
            assert (old.errors, new.errors) == ([], [])


async def test_bytes_of_a_superseded_process_that_arrive_late_change_nothing(
    proxy: Proxy, server: ServerProcess
) -> None:
    name = next(NAMES)
    async with Scripted(proxy.url, name, instance="old") as old:
        (conduit,) = proxy.conduits
        conduit.hold("up")
        for seq in range(1, 11):
            await old.say(type="hb", seq=seq)
        await old.say(type="bye")
        await until(lambda: conduit.held_bytes > 0)
        async with Scripted(proxy.url, name, instance="new") as new:
            await new.say(type="hb", seq=1)
            await new.acknowledged(1)
            conduit.release("up")
            await asyncio.wait_for(conduit.over.wait(), RECOVERY_S)
            await new.say(type="hb", seq=2)
            await new.acknowledged(2)
            assert seqs_of(server, new.welcome["node_id"]) == [(2, 1), (2, 2)]
            node = server.http.get(f"/api/nodes/{name}").json()["node"]
            assert (node["status"], node["incarnation"]) == ("online", 2)
            assert [error["code"] for error in old.errors] == ["superseded"]


KILLS = 5
MANY_KILLS = 10
ON_THE_WAY = 1_000
"""Fewer than the beats that the registry tells apart from repeated ones."""

SENT_MAX = 9_999
"""What one answer of the history still holds."""


async def pour(node: Scripted, sent: list[int]) -> None:
    """Beats without waiting for each, until the connection breaks; `sent` holds the last number."""
    with contextlib.suppress(ConnectionClosed):
        for seq in range(1, SENT_MAX + 1):
            while seq - node.acked > ON_THE_WAY:
                await node.heard()
                if node.listening.done():
                    return
            await node.say(type="hb", seq=seq, cpu_load=1.5)
            sent[0] = seq


@pytest.mark.timeout(150)
@pytest.mark.parametrize("kills", [KILLS, pytest.param(MANY_KILLS, marks=pytest.mark.slow)])
async def test_every_beat_that_was_acknowledged_over_a_link_survives_kill_9_and_is_kept_once(
    tmp_path: Path, kills: int
) -> None:
    rng = random.Random(20261123)
    store = tmp_path / "nodes.db"
    name, acked, sent, total = "", 0, [0], 0
    for kill in range(kills + 1):
        with running(store) as server:
            if name:
                async with Scripted(server.url, name) as node:
                    node_id = node.welcome["node_id"]
                    assert node.welcome["incarnation"] == 1
                    kept = seqs_of(server, node_id)
                    assert len(kept) == len(set(kept))
                    assert kept[:acked] == [(1, seq) for seq in range(1, acked + 1)]
                    if sent[0] > acked:
                        for seq in range(acked + 1, sent[0] + 1):
                            await node.say(type="hb", seq=seq)
                        await node.acknowledged(sent[0])
                    assert seqs_of(server, node_id) == [(1, seq) for seq in range(1, sent[0] + 1)]
                    assert node.errors == []
            if kill == kills:
                assert server.stop() == 0
                assert server.complaints() == []
                break
            name, sent = f"scripted-{kill}", [0]
            async with Scripted(server.url, name) as node:
                pouring = asyncio.create_task(pour(node, sent))
                # The moment is random, and so is what is on the way then; that is what this test is about.
                await asyncio.wait({pouring}, timeout=rng.uniform(0.005, 0.15))
                await asyncio.to_thread(server.kill)
                await pouring
                await node.listening
                acked = node.acked
                total += acked
            assert server.complaints() == []
    assert total > kills * 10
