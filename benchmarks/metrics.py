"""What a scrape of `/metrics` costs with 100,000 nodes, beside a hundredth of that: `python -m benchmarks.metrics`.

A real server answers over HTTP, scraped as Prometheus does, as OpenMetrics; then the same text in process, with how
long the event loop is held up by it, and the list of all nodes as targets. What a scrape costs should not grow with the
nodes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import httpx
import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.fleet import Sizes, fill
from benchmarks.server import running_server
from benchmarks.stores import add_store_option, new_databases, store_at
from thunderline.core.clock import SystemClock
from thunderline.core.logging import configure_logging
from thunderline.core.settings import Settings
from thunderline.link.node_index import NodeFilter
from thunderline.link.registry import Registry
from thunderline.prism.discovery import Discovery
from thunderline.prism.metrics import OPEN_METRICS, Metrics

MUST_MS: Final = 20.0
"""Of one scrape over HTTP, the median, and of the server's processor time for it."""

SETTINGS: Final = Settings(offline_after_s=86_400)
"""So that detection changes nothing while scrapes are measured."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """With so many nodes, in milliseconds. `cpu_ms` is the server's processor time for each scrape over HTTP."""

    nodes: int
    series: int
    size_bytes: int
    http_p50_ms: float
    http_p99_ms: float
    cpu_ms: float
    read_p50_ms: float
    """Reading the figures, in which the event loop does nothing else."""
    expose_p50_ms: float
    """Reading them and writing them down."""
    targets_ms: float
    """All nodes as targets: in pieces, between which the event loop goes on."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was measured; 1 when a scrape takes longer than it must."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics", description=__doc__)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--repetitions", type=int, default=300)
    add_store_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    options = parser.parse_args(arguments)
    configure_logging(level="warning", format="json")
    progress = Console(stderr=True)
    rows = []
    for nodes in (options.nodes, max(options.nodes // 100, 1)):
        with new_databases(options.store) as new_database, progress.status(f"measuring with {nodes:,} nodes"):
            url = new_database()
            sizes = Sizes(nodes=nodes, sessions=nodes + nodes // 2, beats=nodes, hours=1)
            asyncio.run(fill(url, sizes, clock=SystemClock(), told=lambda _: None))
            rows.append(_measure(url, nodes, options.repetitions))
    if options.json:
        sys.stdout.buffer.write(msgspec.json.encode(rows) + b"\n")
    else:
        _print(rows)
    return 0 if max(rows[0].http_p50_ms, rows[0].cpu_ms) < MUST_MS else 1


def _measure(url: str, nodes: int, repetitions: int) -> Measured:
    with running_server(store=url) as server, httpx.Client(base_url=server.url, trust_env=False) as http:
        headers = {"accept": OPEN_METRICS}
        text = http.get("/metrics", headers=headers).text
        cpu_s = server.cpu_s()
        times = []
        for _ in range(repetitions):
            started = time.perf_counter()
            http.get("/metrics", headers=headers).raise_for_status()
            times.append((time.perf_counter() - started) * 1000)
        cpu_ms = (server.cpu_s() - cpu_s) * 1000 / repetitions
    read_ms, expose_ms, targets_ms = asyncio.run(_in_process(url, repetitions))
    return Measured(
        nodes=nodes,
        series=sum(not line.startswith("#") for line in text.splitlines()),
        size_bytes=len(text),
        http_p50_ms=statistics.median(times),
        http_p99_ms=sorted(times)[min(len(times) - 1, len(times) * 99 // 100)],
        cpu_ms=cpu_ms,
        read_p50_ms=read_ms,
        expose_p50_ms=expose_ms,
        targets_ms=targets_ms,
    )


async def _in_process(url: str, repetitions: int) -> tuple[float, float, float]:
    clock = SystemClock()
    async with Registry.open(store_at(url, clock=clock), SETTINGS, clock=clock) as registry:
        metrics, discovery = Metrics(registry), Discovery(registry)

        async def targets() -> None:
            await discovery.targets(NodeFilter(), port=9100, port_label=None)

        await targets()
        return (
            await _median_ms(metrics.read, repetitions),
            await _median_ms(lambda: metrics.expose(OPEN_METRICS), repetitions),
            await _median_ms(targets, 5),
        )


async def _median_ms(body: Callable[[], Awaitable[object]], repetitions: int) -> float:
    times = []
    for _ in range(repetitions):
        started = time.perf_counter()
        await body()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def _print(rows: Sequence[Measured]) -> None:
    table = Table(title=f"One scrape of /metrics, in ms; must be below {MUST_MS:g}")
    columns = (
        "nodes", "series", "KiB", "HTTP p50", "p99", "server CPU", "loop held", "in process", "all targets",
    )  # fmt: skip
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            f"{row.nodes:,}",
            str(row.series),
            f"{row.size_bytes / 1024:.1f}",
            f"{row.http_p50_ms:.2f}",
            f"{row.http_p99_ms:.2f}",
            f"{row.cpu_ms:.2f}",
            f"{row.read_p50_ms:.2f}",
            f"{row.expose_p50_ms:.2f}",
            f"{row.targets_ms:.0f}",
        )
    console = Console()
    console.print(table)
    console.print(f"{os.cpu_count()} cores, Python {platform.python_version()}, client on the same machine")


if __name__ == "__main__":
    raise SystemExit(main())
