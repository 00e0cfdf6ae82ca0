"""How far peers are: measured beside everything else, and unreachable ones are said to be so."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from thunderline.agent.peers import Peer, PeerMeter
from thunderline.core.clock import SystemClock
from thunderline.testing import ManualClock


@pytest.fixture
async def listening() -> AsyncIterator[Peer]:
    async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0) as server:
        yield Peer("127.0.0.1", server.sockets[0].getsockname()[1])


@pytest.fixture
def closed() -> Iterator[Peer]:
    """A port that is taken and not listened on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield Peer("127.0.0.1", taken.getsockname()[1])


@pytest.fixture
def deaf() -> Iterator[Peer]:
    """A port that answers no attempt to connect: its queue is full."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for waiting in (first, second):
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield Peer("127.0.0.1", listener.getsockname()[1])


def meter(peers: dict[str, Peer], *, timeout_s: float = 2.0) -> PeerMeter:
    return PeerMeter(peers, clock=SystemClock(), rng=random.Random(1), timeout_s=timeout_s)


async def test_a_peer_that_listens_has_a_latency_and_a_closed_port_has_none(listening: Peer, closed: Peer) -> None:
    peers = meter({"b": listening, "c": closed})
    assert peers.latencies == {}
    await peers.measure()
    assert peers.latencies["c"] is None
    assert peers.latencies["b"] is not None
    assert 0 <= peers.latencies["b"] < 2_000


async def test_a_peer_that_does_not_answer_in_time_is_unreachable(deaf: Peer, listening: Peer) -> None:
    peers = meter({"b": listening, "d": deaf}, timeout_s=0.05)
    await peers.measure()
    assert peers.latencies["d"] is None
    assert peers.latencies["b"] is not None


async def test_a_name_is_looked_up(listening: Peer) -> None:
    peers = meter({"b": Peer("localhost", listening.port)})
    await peers.measure()
    assert set(peers.latencies) == {"b"}


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70 + ".example", "ex..ample"])
async def test_a_name_that_cannot_be_looked_up_is_unreachable(host: str) -> None:
    peers = meter({"b": Peer(host, 1)})
    await peers.measure()
    assert peers.latencies == {"b": None}


async def test_peers_are_measured_again_and_again(closed: Peer) -> None:
    clock = ManualClock()
    peers = PeerMeter({"c": closed}, clock=clock, rng=random.Random(1), interval_s=10)
    running = asyncio.create_task(peers.run())
    for _ in range(3):
        while not peers.latencies or clock.sleepers == 0:  # noqa: ASYNC110 - sockets take real time
            await asyncio.sleep(0)
        assert peers.latencies == {"c": None}
        peers.latencies.clear()
        await clock.advance(10)
    running.cancel()
    await asyncio.wait([running])
