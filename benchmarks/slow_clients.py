"""Whether clients that send a byte a second delay one that does not: `python -m benchmarks.slow_clients`.

So many connections send the head of a request a byte a second, and begin again when the server has had enough of them.
Beside them a healthy client asks for a node and sends beats, one after another, on connections that it keeps; the same
client is measured before they come.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import statistics
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Final
from urllib.parse import urlsplit

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.link_load import raise_files
from benchmarks.load import get, post, run_load
from benchmarks.server import Running, running_server
from benchmarks.stores import add_store_option, new_databases

SOCKETS: Final = 1_000
EVERY_S: Final = 1.0
REQUESTS: Final = 4_000
ROUNDS: Final = 5
FACTOR_MUST: Final = 2.0
_HEAD: Final = (
    b"POST /api/nodes HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nX-Padding: " + b"x" * 4096
)


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """The healthy client's p99 without and with the slow ones, medians of `ROUNDS`."""

    sockets: int
    quiet_p99_ms: float
    beside_p99_ms: float
    failed: int

    @property
    def factor(self) -> float:
        """How much longer it takes."""
        return self.beside_p99_ms / self.quiet_p99_ms


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was measured; 1 when the slow clients cost more than they may."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slow_clients", description=__doc__)
    parser.add_argument("--sockets", type=int, default=SOCKETS)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    add_store_option(parser)
    options = parser.parse_args(arguments)
    with new_databases(options.store) as new_database, running_server(store=new_database()) as server:
        compared = compare(server, options.sockets)
    if options.json:
        sys.stdout.buffer.write(msgspec.json.encode(compared) + b"\n")
    else:
        table = Table(title=f"{compared.sockets:,} connections that send a byte a second")
        table.add_column("a healthy client's p99")
        table.add_column("figure", justify="right")
        table.add_row("without them", f"{compared.quiet_p99_ms:.2f} ms")
        table.add_row("beside them", f"{compared.beside_p99_ms:.2f} ms")
        table.add_row(f"factor (must be under {FACTOR_MUST:g})", f"{compared.factor:.2f}")
        Console(width=100).print(table)
    return 0 if compared.factor < FACTOR_MUST and not compared.failed else 1


def compare(server: Running, sockets: int) -> Compared:
    """A healthy client alone, then beside so many slow ones."""
    _healthy(server)  # the node, and what a first request warms
    quiet = [_healthy(server) for _ in range(ROUNDS)]
    with slow_clients(server.url, sockets):
        beside = [_healthy(server) for _ in range(ROUNDS)]
    return Compared(
        sockets=sockets,
        quiet_p99_ms=statistics.median(p99_ms for p99_ms, _ in quiet),
        beside_p99_ms=statistics.median(p99_ms for p99_ms, _ in beside),
        failed=sum(failed for _, failed in quiet + beside),
    )


def _healthy(server: Running) -> tuple[float, int]:
    run_load(server.url, [post("/api/nodes", b'{"name":"healthy"}')], connections=1, expect=200)
    result = run_load(server.url, [get("/api/nodes/healthy")] * REQUESTS, connections=4, expect=200)
    return result.p99_ms, result.failed


@contextlib.contextmanager
def slow_clients(url: str, sockets: int) -> Iterator[None]:
    """So many of them, in another process, all connected by the time the block starts."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_slow, args=(theirs, url, sockets), daemon=True)
    process.start()
    try:
        if ours.recv() != "connected":
            raise RuntimeError("the slow clients did not connect")
        yield
    finally:
        process.terminate()
        process.join(30)


def _slow(pipe: Connection, url: str, sockets: int) -> None:
    raise_files()
    uvloop.run(_trickle(pipe, url, sockets))


async def _trickle(pipe: Connection, url: str, sockets: int) -> None:
    parts = urlsplit(url)

    async def one(connected: asyncio.Event) -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
                connected.set()
                # As a client would that never means to finish: again once it is closed.
                for byte in _HEAD:
                    if reader.at_eof():
                        break
                    writer.write(bytes([byte]))
                    await asyncio.sleep(EVERY_S)
                writer.close()

    events = [asyncio.Event() for _ in range(sockets)]
    tasks = [asyncio.ensure_future(one(event)) for event in events]
    for event in events:
        await event.wait()
    pipe.send("connected")
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    sys.exit(main())
