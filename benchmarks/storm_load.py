"""A fleet whose links break at once, in a process of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import secrets
import time
from multiprocessing.connection import Connection
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
import uvloop

from benchmarks.link_load import Frames, beat, raise_files, upgrade_and_hello
from thunderline.wire.frames import Ack, ErrorFrame, Welcome

BEAT_EVERY_S: Final = 1.0
RETRY_S: Final = 1.0
"""How long a node waits whose connection ended without a word, half of it by chance."""

GIVE_UP_S: Final = 180.0


class Storm(msgspec.Struct, frozen=True, kw_only=True):
    """How a fleet came back."""

    links: int
    half_back_s: float
    all_back_s: float
    turned_away: int
    acks: int
    ack_p50_ms: float
    ack_p99_ms: float
    ack_max_ms: float


def run_storm(url: str, *, links: int) -> Storm:
    """Open so many links one after another, cut them all, and have them all come back at once."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_storm, args=(theirs, url, links), daemon=True)
    process.start()
    storm: Storm = ours.recv()
    process.join(30)
    return storm


class Node(asyncio.Protocol):
    """A node that holds a link, as long as it is told to."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self._fleet = fleet
        self._name = name
        self._transport: asyncio.Transport | None = None
        self._frames = Frames()
        self._seq = 0
        self._sent: dict[int, float] = {}
        self._beating: asyncio.TimerHandle | None = None
        self._retry_s: float | None = None
        self.is_in = False

    async def connect(self) -> None:
        """Open a connection and say hello, as a new process does."""
        self._frames, self._seq, self._sent, self._retry_s = Frames(), 0, {}, None
        try:
            await self._fleet.loop.create_connection(lambda: self, self._fleet.host, self._fleet.port)
        except OSError:
            self._again(RETRY_S)

    def cut(self) -> None:
        """Break the connection without a word."""
        assert self._transport is not None
        self._transport.abort()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(upgrade_and_hello(self._name, instance=secrets.token_hex(8), interval_ms=10_000))

    def data_received(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            if isinstance(frame, Ack):
                now = time.perf_counter()
                for seq in [seq for seq in self._sent if seq <= frame.seq]:
                    self._fleet.acknowledged(now - self._sent.pop(seq))
            elif isinstance(frame, Welcome):
                self.is_in = True
                self._fleet.came_in()
                self._beat()
            elif isinstance(frame, ErrorFrame):
                self._fleet.turned_away += 1
                self._retry_s = (frame.retry_after_ms or 1000) / 1000

    def connection_lost(self, error: Exception | None) -> None:
        if self._beating is not None:
            self._beating.cancel()
        was_in, self.is_in = self.is_in, False
        if was_in:
            self._fleet.went_out()
        self._again(0.0 if was_in else self._retry_s if self._retry_s is not None else RETRY_S * random.uniform(0.5, 1))

    def _again(self, wait_s: float) -> None:
        if not self._fleet.is_over:
            self._fleet.loop.call_later(wait_s, lambda: self._fleet.start(self.connect()))

    def _beat(self) -> None:
        assert self._transport is not None
        self._seq += 1
        self._sent[self._seq] = time.perf_counter()
        self._transport.write(beat(self._seq))
        self._beating = self._fleet.loop.call_later(BEAT_EVERY_S, self._beat)


class Fleet:
    """All nodes, and what they met."""

    def __init__(self, url: str, links: int) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname, parts.port
        self.loop = asyncio.get_running_loop()
        self.turned_away = 0
        self.latencies_s: list[float] = []
        self.is_over = False
        self._links = links
        self._in = 0
        self._half_at = self._all_at = 0.0
        self._all_in = asyncio.Event()
        self._measuring = False
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, body: Any) -> None:
        """Run something to its end."""
        task = asyncio.ensure_future(body)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def came_in(self) -> None:
        """A node has its welcome."""
        self._in += 1
        if self._in == self._links // 2:
            self._half_at = time.perf_counter()
        if self._in == self._links:
            self._all_at = time.perf_counter()
            self._all_in.set()

    def went_out(self) -> None:
        """A node has lost its link."""
        self._in -= 1

    def acknowledged(self, latency_s: float) -> None:
        """A beat is durable."""
        if self._measuring:
            self.latencies_s.append(latency_s)

    async def run(self) -> Storm:
        """Open, cut, and come back."""
        nodes = [Node(self, f"storm-{number}") for number in range(self._links)]
        for begin in range(0, self._links, 200):
            await asyncio.gather(*(node.connect() for node in nodes[begin : begin + 200]))
        await asyncio.wait_for(self._all_in.wait(), GIVE_UP_S)
        await asyncio.sleep(3)  # what the opening left behind is over
        self._all_in.clear()
        self.turned_away = 0
        self._measuring = True
        began = time.perf_counter()
        for node in nodes:
            node.cut()
        await asyncio.wait_for(self._all_in.wait(), GIVE_UP_S)
        self._measuring = False
        self.is_over = True
        ordered = sorted(self.latencies_s)
        return Storm(
            links=self._links,
            half_back_s=self._half_at - began,
            all_back_s=self._all_at - began,
            turned_away=self.turned_away,
            acks=len(ordered),
            ack_p50_ms=ordered[len(ordered) // 2] * 1000,
            ack_p99_ms=ordered[len(ordered) * 99 // 100] * 1000,
            ack_max_ms=ordered[-1] * 1000,
        )


def _storm(pipe: Connection, url: str, links: int) -> None:
    raise_files()
    pipe.send(uvloop.run(_run(url, links)))


async def _run(url: str, links: int) -> Storm:
    return await Fleet(url, links).run()
