"""A fleet whose links break at once, in a process of its own, and in another one nodes whose links hold.

Of the fleet itself acknowledgements are not timed: its process has its hands full, and would time that.
"""

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

from benchmarks.link_load import Frames, LoadLink, beat, open_links, raise_files, upgrade_and_hello
from thunderline.wire.frames import Ack, ErrorFrame, Welcome

INTERVAL_MS: Final = 10_000
RETRY_S: Final = 1.0
"""How long a node waits whose connection ended without a word, half of it by chance."""

GIVE_UP_S: Final = 180.0


WATCHING: Final = 200
WATCH_EVERY_S: Final = 1.0
"""Nodes whose links hold, and how often each of them beats."""


class Storm(msgspec.Struct, frozen=True, kw_only=True):
    """How a fleet came back, and for how long those that had stayed waited for acknowledgements meanwhile."""

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
    fleet, fleets = context.Pipe()
    watch, watchs = context.Pipe()
    processes = [
        context.Process(target=_storm, args=(fleets, url, links), daemon=True),
        context.Process(target=_watch, args=(watchs, url), daemon=True),
    ]
    for process in processes:
        process.start()
    back: Back = fleet.recv()
    watch.send("end")
    acks: list[tuple[float, float]] = watch.recv()
    for process in processes:
        process.join(30)
    ordered = sorted(took_s for sent_at, took_s in acks if back.began <= sent_at <= back.all_at)
    return Storm(
        links=links,
        half_back_s=back.half_at - back.began,
        all_back_s=back.all_at - back.began,
        turned_away=back.turned_away,
        acks=len(ordered),
        ack_p50_ms=ordered[len(ordered) // 2] * 1000,
        ack_p99_ms=ordered[len(ordered) * 99 // 100] * 1000,
        ack_max_ms=ordered[-1] * 1000,
    )


class Back(msgspec.Struct, frozen=True):
    """When the fleet came back, by the clock that all processes of the machine share."""

    began: float
    half_at: float
    all_at: float
    turned_away: int


class Node(asyncio.Protocol):
    """A node that holds a link, as long as it is told to."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self._fleet = fleet
        self.name = name
        self.acked: dict[int, int] = {}
        """The highest beat that was acknowledged, by incarnation."""
        self._incarnation = 0
        self._transport: asyncio.Transport | None = None
        self._frames = Frames()
        self._seq = 0
        self._beating: asyncio.TimerHandle | None = None
        self._retry_s: float | None = None
        self._interval_s = INTERVAL_MS / 1000
        self.is_in = False

    async def connect(self) -> None:
        """Open a connection and say hello, as a new process does."""
        self._frames, self._seq, self._retry_s = Frames(), 0, None
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
        transport.write(upgrade_and_hello(self.name, instance=secrets.token_hex(8), interval_ms=INTERVAL_MS))

    def data_received(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            if isinstance(frame, Welcome):
                self.is_in = True
                self._incarnation = frame.incarnation
                self._interval_s = frame.interval_ms / 1000
                self._fleet.came_in()
                self._beat()
            elif isinstance(frame, Ack):
                if self._incarnation not in self.acked:
                    self._fleet.was_heard()
                self.acked[self._incarnation] = frame.seq
            elif isinstance(frame, ErrorFrame):
                self._fleet.turned_away += 1
                self._retry_s = (frame.retry_after_ms or 1000) / 1000

    def connection_lost(self, error: Exception | None) -> None:
        if self._beating is not None:
            self._beating.cancel()
        was_in, self.is_in = self.is_in, False
        if was_in:
            self._fleet.went_out(was_heard=self._incarnation in self.acked)
        self._again(0.0 if was_in else self._retry_s if self._retry_s is not None else RETRY_S * random.uniform(0.5, 1))

    def _again(self, wait_s: float) -> None:
        if not self._fleet.is_over:
            self._fleet.loop.call_later(wait_s, lambda: self._fleet.start(self.connect()))

    def _beat(self) -> None:
        assert self._transport is not None
        self._seq += 1
        self._transport.write(beat(self._seq))
        self._beating = self._fleet.loop.call_later(self._interval_s, self._beat)


class Fleet:
    """All nodes, and what they met."""

    def __init__(self, url: str, links: int) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname, parts.port
        self.loop = asyncio.get_running_loop()
        self.turned_away = 0
        self.is_over = False
        self.nodes = [Node(self, f"storm-{number}") for number in range(links)]
        self._links = links
        self._in = 0
        self._heard = 0
        self._half_at = self._all_at = 0.0
        self._all_in = asyncio.Event()
        self._all_heard = asyncio.Event()
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

    def was_heard(self) -> None:
        """The first beat of a node that is in has been acknowledged."""
        self._heard += 1
        if self._heard == self._links:
            self._all_heard.set()

    def went_out(self, *, was_heard: bool) -> None:
        """A node has lost its link."""
        self._in -= 1
        self._heard -= was_heard
        self._all_in.clear()
        self._all_heard.clear()

    async def run(self) -> Back:
        """Open, cut, and come back."""
        await self.open()
        await asyncio.sleep(3)  # what the opening left behind is over
        back = await self.cut_and_return()
        self.is_over = True
        return back

    async def open(self) -> None:
        """Connect all, one after another."""
        for begin in range(0, self._links, 200):
            await asyncio.gather(*(node.connect() for node in self.nodes[begin : begin + 200]))
        await asyncio.wait_for(self._all_in.wait(), GIVE_UP_S)

    async def cut_and_return(self) -> Back:
        """Cut all links; ends when all are back."""
        self.turned_away = 0
        began = time.perf_counter()
        for node in self.nodes:
            node.cut()
        # Each has to notice that it is cut, which it does on the loop, and only then says that it went out.
        self._all_in.clear()
        await asyncio.wait_for(self._all_in.wait(), GIVE_UP_S)
        return Back(began, self._half_at, self._all_at, self.turned_away)

    async def heard(self) -> None:
        """Ends when all are in, and a beat of each has been acknowledged since."""
        await asyncio.wait_for(self._all_heard.wait(), GIVE_UP_S)

    def close(self) -> None:
        """Cut all links that are in, for good."""
        self.is_over = True
        for node in self.nodes:
            if node.is_in:
                node.cut()


def _storm(pipe: Connection, url: str, links: int) -> None:
    raise_files()
    pipe.send(uvloop.run(_run(url, links)))


async def _run(url: str, links: int) -> Back:
    return await Fleet(url, links).run()


def _watch(pipe: Connection, url: str) -> None:
    uvloop.run(_time_acks(pipe, url))


async def _time_acks(pipe: Connection, url: str) -> None:
    """Beat over links that hold, until told to end; gives when each beat was sent, and how long its answer took."""
    links = await open_links(url, WATCHING, interval_ms=INTERVAL_MS, prefix="watching")
    ended = asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    sent: dict[LoadLink, dict[int, float]] = {link: {} for link in links}
    acks: list[tuple[float, float]] = []

    def on_ack(link: LoadLink, seq: int) -> None:
        now = time.perf_counter()
        for each in [each for each in sent[link] if each <= seq]:
            sent_at = sent[link].pop(each)
            acks.append((sent_at, now - sent_at))

    for link in links:
        link.on_ack = on_ack
    seq = 0
    while not ended.done():
        seq += 1
        began = time.perf_counter()
        for number, link in enumerate(links):
            await asyncio.wait(
                [ended], timeout=max(0.0, began + number * WATCH_EVERY_S / WATCHING - time.perf_counter())
            )
            sent[link][seq] = time.perf_counter()
            link.send(beat(seq))
    now = time.perf_counter()
    # What was never answered counts with as long as it has waited.
    pipe.send([*acks, *((at, now - at) for unanswered in sent.values() for at in unanswered.values())])
