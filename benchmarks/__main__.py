"""Run all benchmarks and print one table: `make bench`, or `python -m benchmarks [--json]`."""

from __future__ import annotations

import argparse
import os
import platform
import sys

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks import http_writes, links, yardstick
from benchmarks.load import Result
from benchmarks.server import running_server
from benchmarks.stores import add_store_option, new_databases, status_of


def main() -> int:
    """Print what was measured; 1 when a figure is below what the design says it must be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    add_store_option(parser)
    options = parser.parse_args()
    progress = Console(stderr=True)
    measured = []
    with progress.status("measuring what the machine does at best"):
        bare = yardstick.bare_posts(connections=http_writes.CONNECTIONS)
    with new_databases(options.store) as new_database:
        written = new_database()
        with running_server(store=written) as server:
            for benchmark in (
                http_writes.registrations,
                http_writes.heartbeats,
                links.beats_one_by_one,
                links.beats_ahead,
            ):
                with progress.status(f"measuring {benchmark.__name__}"):
                    measured.append(benchmark(server))
        engine = status_of(written).engine
        with running_server(store=new_database()) as server, progress.status("measuring links that only stand"):
            held = links.held(server)
    if options.json:
        document = {"engine": engine, "writes": [_row(item) for item in measured], "held_links": held}
        document["bare_posts_per_second"] = round(bare.per_second)
        sys.stdout.buffer.write(msgspec.json.encode(document) + b"\n")
    else:
        _print(measured, held, bare, engine=engine)
    return 0 if all(item.result.per_second >= item.must for item in measured) else 1


def _row(item: http_writes.Measured) -> dict[str, object]:
    return {"per_second": round(item.result.per_second), **msgspec.to_builtins(item)}


def _print(measured: list[http_writes.Measured], held: links.Held, bare: Result, *, engine: str) -> None:
    table = Table(title="Durable writes, each answered behind its flush, client included on the same machine")
    for column in ("what", "must/s", "measured/s", "p50 ms", "p99 ms", "server CPU us each"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for item in measured:
        table.add_row(
            item.name,
            f"{item.must:,.0f}",
            f"{item.result.per_second:,.0f}",
            f"{item.result.p50_ms:.2f}",
            f"{item.result.p99_ms:.2f}",
            f"{item.server_us_per_request:.0f}",
        )
    console = Console()
    console.print(table)
    console.print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {engine}, "
        f"HTTP: {http_writes.CONNECTIONS} connections with one request under way each"
    )
    console.print(
        f"Under the same load a bare ASGI function takes {bare.per_second:,.0f} posts a second here, "
        f"p99 {bare.p99_ms:.2f} ms"
    )
    console.print(
        f"{held.links:,} links opened at {held.opened_per_second:,.0f}/s take {held.kib_each:.1f} KiB each with their "
        f"nodes; standing they use {held.idle_cpu_percent:.1f} % of a core, with a beat every "
        f"{links.HELD_INTERVAL_MS / 1000:g} s from each {held.beating_cpu_percent:.1f} %"
    )


if __name__ == "__main__":
    raise SystemExit(main())
