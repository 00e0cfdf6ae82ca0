"""A load generator for HTTP in a process of its own: keep-alive connections, each with one request under way.

It does as little as it can: requests are prepared before the clock starts, and of an answer only status and length are
read. What it measures is therefore the server, on the machine's other core.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec
import uvloop


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one run measured; latencies in milliseconds, as the client saw them."""

    requests: int
    failed: int
    duration_s: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Requests answered as they should be, per second."""
        return (self.requests - self.failed) / self.duration_s


def post(path: str, body: bytes) -> bytes:
    """A POST of a JSON body, as it goes over the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def get(path: str) -> bytes:
    """A GET, as it goes over the wire."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def run_load(url: str, requests: Sequence[bytes], *, connections: int, expect: int) -> Result:
    """Send `requests`, in order of free connections, from another process; an answer other than `expect` has failed."""
    context = multiprocessing.get_context("fork")
    with context.Pool(1) as pool:
        return pool.apply(_run, (url, list(requests), connections, expect))


def _run(url: str, requests: list[bytes], connections: int, expect: int) -> Result:
    return uvloop.run(_drive(url, requests, connections, expect))


async def _drive(url: str, requests: list[bytes], connections: int, expect: int) -> Result:
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    queue = iter(requests)
    latencies: list[float] = []
    clients = []
    for _ in range(connections):
        done = loop.create_future()
        _, client = await loop.create_connection(
            lambda done=done: _Client(queue, latencies, f"HTTP/1.1 {expect}".encode(), done),
            parts.hostname,
            parts.port,
        )
        clients.append(client)
    started = time.perf_counter()
    for client in clients:
        client.send_next()
    await asyncio.gather(*(client.done for client in clients))
    duration_s = time.perf_counter() - started
    latencies.sort()
    return Result(
        requests=len(latencies),
        failed=sum(client.failed for client in clients),
        duration_s=duration_s,
        p50_ms=latencies[len(latencies) // 2] * 1000,
        p99_ms=latencies[int(len(latencies) * 0.99)] * 1000,
    )


class _Client(asyncio.Protocol):
    def __init__(self, queue, latencies, expected: bytes, done: asyncio.Future) -> None:
        self._queue = queue
        self._latencies = latencies
        self._expected = expected
        self._buffer = b""
        self.done = done
        self.failed = 0

    def connection_made(self, transport) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the server closed the connection"))

    def send_next(self) -> None:
        request = next(self._queue, None)
        if request is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self._buffer.find(b"content-length: ") + 16
        length = int(self._buffer[at : self._buffer.find(b"\r\n", at)])
        if len(self._buffer) < end + 4 + length:
            return
        self._latencies.append(time.perf_counter() - self._sent)
        if not self._buffer.startswith(self._expected):
            self.failed += 1
        self._buffer = b""
        self.send_next()
