"""A load generator for links in a process of its own: each link a WebSocket with its node, as little as that takes.

Frames are prepared before the clock starts, and of what comes only acknowledgements are looked at.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import secrets
import struct
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final
from urllib.parse import urlsplit

import uvloop

from benchmarks.load import Result
from thunderline.wire.codec import node_codec
from thunderline.wire.frames import MSGPACK_SUBPROTOCOL, Ack, Beat, ErrorFrame, Hello, RegistryFrame, Welcome

OPENING_AT_ONCE: Final = 256
_CODEC: Final = node_codec(MSGPACK_SUBPROTOCOL)
_UPGRADE: Final = (
    "GET /link HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    f"Sec-WebSocket-Protocol: {MSGPACK_SUBPROTOCOL}\r\n\r\n"
).encode()


def message(payload: bytes) -> bytes:
    """A binary message of a client; masked by zeros, which costs the server what any mask does."""
    length = len(payload)
    head = struct.pack("!BB", 0x82, 0x80 | length) if length < 126 else struct.pack("!BBH", 0x82, 0xFE, length)
    return head + b"\0\0\0\0" + payload


def upgrade_and_hello(name: str, *, instance: str, interval_ms: int) -> bytes:
    """What a node sends first."""
    return _UPGRADE + message(_CODEC.encode(Hello(name=name, instance=instance, interval_ms=interval_ms)))


class Frames:
    """The frames in what a server sends, behind its answer to the upgrade."""

    def __init__(self) -> None:
        self.buffer = b""
        self._upgraded = False

    def feed(self, data: bytes) -> list[RegistryFrame]:
        """Those that are whole now."""
        buffer = self.buffer + data if self.buffer else data
        found: list[RegistryFrame] = []
        if not self._upgraded:
            head, separator, rest = buffer.partition(b"\r\n\r\n")
            if not separator or not head.startswith(b"HTTP/1.1 101"):
                self.buffer = buffer
                return found
            self._upgraded, buffer = True, rest
        at = 0
        while len(buffer) - at >= 2:
            length, start = buffer[at + 1], at + 2
            if length == 126:
                if len(buffer) - at < 4:
                    break
                length, start = struct.unpack_from("!H", buffer, at + 2)[0], at + 4
            if len(buffer) < start + length:
                break
            if buffer[at] == 0x82:
                found.append(_CODEC.decode(buffer[start : start + length]))
            at = start + length
        self.buffer = buffer[at:]
        return found


class LoadLink(asyncio.Protocol):
    """One node's link. `on_ack` is told of each acknowledgement."""

    def __init__(self, name: str, interval_ms: int) -> None:
        self._hello = upgrade_and_hello(name, instance=secrets.token_hex(8), interval_ms=interval_ms)
        self._frames = Frames()
        self._transport: asyncio.Transport | None = None
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_ack: Callable[[LoadLink, int], None] | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._hello)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.open.done():
            said = self._frames.buffer[:300]
            self.open.set_exception(error or ConnectionError(f"closed before welcome: {said!r}"))

    def send(self, data: bytes) -> None:
        """Send prepared messages."""
        assert self._transport is not None
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        for frame in self._frames.feed(data):
            if isinstance(frame, Ack):
                if self.on_ack is not None:
                    self.on_ack(self, frame.seq)
            elif isinstance(frame, Welcome):
                self.open.set_result(None)
            elif isinstance(frame, ErrorFrame):
                raise RuntimeError(f"the server said {frame}")


async def open_links(url: str, count: int, *, interval_ms: int, prefix: str) -> list[LoadLink]:
    """So many links, each after its welcome."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    links: list[LoadLink] = []
    while len(links) < count:
        batch = []
        for number in range(len(links), min(count, len(links) + OPENING_AT_ONCE)):
            _, link = await loop.create_connection(
                lambda number=number: LoadLink(f"{prefix}-{number}", interval_ms), parts.hostname, parts.port
            )
            batch.append(link)
        await asyncio.gather(*(link.open for link in batch))
        links += batch
    return links


def beat(seq: int) -> bytes:
    """A beat with figures."""
    return message(
        _CODEC.encode(Beat(seq=seq, cpu_load=37.5 + seq % 20, mem_used_mb=2048.0 + seq % 512, latency_ms=1.25))
    )


def run_beats(url: str, *, links: int, window: int, beats: int, warmed: Callable[[], None]) -> Result:
    """Beats over `links` links with `window` of them under way on each; `warmed` is called before the first."""
    return _in_process(_beats, url, links, window, beats, step=warmed)


def hold_links(url: str, *, links: int, interval_ms: int, beating: bool) -> HeldLinks:
    """So many links, held open in another process until `release`; `beating` ones beat at their interval."""
    return HeldLinks(url, links, interval_ms, beating)


class HeldLinks:
    """Links that another process holds."""

    def __init__(self, url: str, links: int, interval_ms: int, beating: bool) -> None:
        context = multiprocessing.get_context("fork")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_hold, args=(theirs, url, links, interval_ms, beating), daemon=True)
        self._process.start()
        if self._ours.recv() != "open":
            raise RuntimeError("the links were not opened")

    def release(self) -> None:
        """Let them go."""
        self._ours.send("end")
        self._process.join(30)


def _in_process(body: Any, *args: Any, step: Callable[[], None]) -> Result:
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=body, args=(theirs, *args), daemon=True)
    process.start()
    if ours.recv() != "open":
        raise RuntimeError("the links were not opened")
    step()
    ours.send("go")
    result: Result = ours.recv()
    process.join(30)
    return result


def _beats(pipe: Connection, url: str, links: int, window: int, beats: int) -> None:
    uvloop.run(_drive_beats(pipe, url, links, window, beats))


async def _drive_beats(pipe: Connection, url: str, count: int, window: int, beats: int) -> None:
    raise_files()
    links = await open_links(url, count, interval_ms=60_000, prefix="load")
    each = beats // count
    prepared = [beat(seq) for seq in range(1, each + 1)]
    latencies: list[float] = []
    sent: dict[LoadLink, list[float]] = {link: [] for link in links}
    acked: dict[LoadLink, int] = dict.fromkeys(links, 0)
    remaining = count
    done = asyncio.get_running_loop().create_future()

    def on_ack(link: LoadLink, seq: int) -> None:
        nonlocal remaining
        now = time.perf_counter()
        times = sent[link]
        latencies.extend(now - at for at in times[acked[link] : seq])
        acked[link] = seq
        ahead = min(each, seq + window)
        if len(times) < ahead:
            link.send(b"".join(prepared[len(times) : ahead]))
            times += [now] * (ahead - len(times))
        elif seq == each:
            remaining -= 1
            if not remaining:
                done.set_result(None)

    pipe.send("open")
    await asyncio.get_running_loop().run_in_executor(None, pipe.recv)
    started = time.perf_counter()
    for link in links:
        link.on_ack = on_ack
        link.send(b"".join(prepared[:window]))
        sent[link] += [time.perf_counter()] * min(window, each)
    await done
    duration_s = time.perf_counter() - started
    latencies.sort()
    pipe.send(
        Result(
            requests=len(latencies),
            failed=0,
            duration_s=duration_s,
            p50_ms=latencies[len(latencies) // 2] * 1000,
            p99_ms=latencies[int(len(latencies) * 0.99)] * 1000,
        )
    )


def _hold(pipe: Connection, url: str, links: int, interval_ms: int, beating: bool) -> None:
    uvloop.run(_drive_hold(pipe, url, links, interval_ms, beating))


async def _drive_hold(pipe: Connection, url: str, count: int, interval_ms: int, beating: bool) -> None:
    raise_files()
    links = await open_links(url, count, interval_ms=interval_ms, prefix="held")
    loop = asyncio.get_running_loop()
    ended = loop.run_in_executor(None, pipe.recv)
    pipe.send("open")
    seq = 0
    while not ended.done():
        if not beating:
            await asyncio.wait([ended])
            break
        seq += 1
        data, each_s = beat(seq), interval_ms / 1000 / count
        begun = time.perf_counter()
        for number, link in enumerate(links):
            link.send(data)
            if number % 50 == 0:
                await asyncio.wait([ended], timeout=max(0.0, begun + number * each_s - time.perf_counter()))
                if ended.done():
                    return


def raise_files() -> None:
    """Let this process open as many files as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
