"""Events to many watchers over server-sent events: `make bench-watchers`, or `python -m benchmarks.watchers [--json]`.

The time of a delivery begins when the request that makes the event is sent, and ends when the watcher's socket was
read: the durable commit is in it. Writer and watchers are one process beside the server's.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import sys
import time
from collections import Counter
from typing import Final
from urllib.parse import urlsplit

import httpx
import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.server import Running, running_server
from benchmarks.stores import add_store_option, new_databases
from benchmarks.watch_load import Readers, watching

WATCHERS: Final = 1_000
MUST_P99_MS: Final = 250.0
RATES: Final = ((1, 1), (20, 1), (50, 1), (100, 5), (200, 10))
"""Events a second, and how many of them are in one commit."""
SETTLE_S: Final = 60.0


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """What one rate of events came to."""

    events_per_second: int
    in_one_commit: int
    watchers: int
    deliveries: int
    deliveries_per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    server_cpu_percent: float


def measure(server: Running, *, watchers: int, rate: int, together: int, duration_s: float, name: str) -> Delivered:
    """`rate` events a second, `together` in one commit each. Raises: TimeoutError; AssertionError for a gap."""
    with httpx.Client(base_url=server.url, trust_env=False) as http:
        cursor = http.get("/api/graph").json()["cursor"]
    base = int(cursor.rpartition(":")[2])
    commits = max(1, round(rate * duration_s / together))
    parts = urlsplit(server.url)
    sent_at: list[float] = []
    with (
        watching(server.url, count=watchers, since=cursor) as streams,
        socket.create_connection((parts.hostname or "", parts.port or 0)) as writer,
    ):
        readers = Readers(streams)
        writer.setblocking(False)
        cpu_before, started = server.cpu_s(), time.perf_counter()
        while len(sent_at) < commits:
            due = started + len(sent_at) * together / rate
            if (wait := due - time.perf_counter()) > 0:
                readers.turn(wait)
                continue
            writer.sendall(_request(parts.netloc, f"{name}-{len(sent_at)}", together))
            sent_at.append(time.perf_counter())
            _drain(writer)
        last = base + commits * together
        readers.turn_until(lambda: all(stream.last >= last for stream in streams), timeout_s=SETTLE_S)
        took_s, cpu_s = time.perf_counter() - started, server.cpu_s() - cpu_before
        readers.close()
        assert all(stream.in_order and stream.heard == commits * together for stream in streams), "a gap"
    spread = _spread(readers.deliveries, base, sent_at, together)
    return Delivered(
        events_per_second=rate,
        in_one_commit=together,
        watchers=watchers,
        deliveries=sum(spread.values()),
        deliveries_per_second=sum(spread.values()) / took_s,
        p50_ms=_percentile(spread, 0.5),
        p99_ms=_percentile(spread, 0.99),
        max_ms=max(spread) / 10,
        server_cpu_percent=cpu_s / took_s * 100,
    )


def _request(host: str, name: str, count: int) -> bytes:
    body = msgspec.json.encode({"nodes": [{"name": f"{name}-{i}"} for i in range(count)]})
    head = f"POST /api/nodes/batch HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _drain(writer: socket.socket) -> None:
    try:
        while writer.recv(1 << 20):
            pass
    except BlockingIOError:
        return


def _spread(deliveries: list[tuple[float, int, int]], base: int, sent_at: list[float], together: int) -> Counter[int]:
    """How many deliveries took how many tenths of a millisecond."""
    spread: Counter[int] = Counter()
    for at, before, newest in deliveries:
        for revision in range(before + 1, newest + 1):
            spread[round((at - sent_at[(revision - base - 1) // together]) * 10_000)] += 1
    return spread


def _percentile(spread: Counter[int], share: float) -> float:
    wanted, seen = sum(spread.values()) * share, 0
    for tenths in sorted(spread):
        seen += spread[tenths]
        if seen >= wanted:
            return tenths / 10
    return 0.0


def main() -> int:
    """Print what was measured; 1 when it is worse than the design says it must be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watchers", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    add_store_option(parser)
    parser.add_argument("--watchers", type=int, default=WATCHERS)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each rate")
    options = parser.parse_args()
    with (
        new_databases(options.store) as new_database,
        # Nobody is behind the nodes that these events are of: they would be given up meanwhile, which is events, too.
        running_server(store=new_database(), offline_after_s=86_400) as server,
    ):
        rows = [
            measure(
                server,
                watchers=options.watchers,
                rate=rate,
                together=together,
                duration_s=options.seconds,
                name=f"r{rate}-{together}",
            )
            for rate, together in RATES
        ]
    if options.json:
        sys.stdout.buffer.write(msgspec.json.encode(rows) + b"\n")
    else:
        _print(rows)
    return 0 if all(row.p99_ms <= MUST_P99_MS for row in rows) else 1


def _print(rows: list[Delivered]) -> None:
    table = Table(title="Events to watchers over SSE, from the request that makes one to its arrival at each")
    for column in ("events/s", "in a commit", "watchers", "delivered/s", "p50 ms", "p99 ms", "max ms", "server CPU %"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            f"{row.events_per_second:,}",
            f"{row.in_one_commit}",
            f"{row.watchers:,}",
            f"{row.deliveries_per_second:,.0f}",
            f"{row.p50_ms:.1f}",
            f"{row.p99_ms:.1f}",
            f"{row.max_ms:.1f}",
            f"{row.server_cpu_percent:.0f}",
        )
    console = Console()
    console.print(table)
    console.print(f"{os.cpu_count()} cores, Python {platform.python_version()}; writer and watchers in one process")


if __name__ == "__main__":
    raise SystemExit(main())
