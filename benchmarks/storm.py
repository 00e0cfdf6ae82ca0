"""A fleet that loses its links at one moment and comes back at once: `python -m benchmarks.storm`.

All links are cut, and each node connects again without waiting, as a process that was started anew: nothing is
resumed, every handshake is a commit. Whom the server turns away comes back when it was told to. A node that is inside
beats at once, and then at the interval that it is told. Nodes in a process of their own, whose links hold, beat once a
second; their acknowledgements are timed from the cut until the last one is back.

Not measured: TLS, and a network between the two.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.server import running_server
from benchmarks.stores import VAR, add_store_option, new_databases
from benchmarks.storm_load import Storm, run_storm

LINKS: Final = 10_000
BACK_MUST_S: Final = 30.0
ACK_MUST_MS: Final = 1_000.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was measured; 1 when a figure is above what it must be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm", description=__doc__)
    parser.add_argument("--links", type=int, default=LINKS)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    add_store_option(parser)
    options = parser.parse_args(arguments)
    progress = Console(stderr=True)
    with (
        new_databases(options.store, folder=VAR) as new_database,
        running_server(store=new_database()) as server,
        progress.status(f"{options.links:,} links"),
    ):
        storm = run_storm(server.url, links=options.links)
    if options.json:
        sys.stdout.buffer.write(msgspec.json.encode(storm) + b"\n")
    else:
        _print(storm)
    return 0 if storm.all_back_s <= BACK_MUST_S and storm.ack_p99_ms <= ACK_MUST_MS else 1


def _print(storm: Storm) -> None:
    table = Table(title=f"{storm.links:,} links cut and back at once")
    table.add_column("what")
    table.add_column("figure", justify="right")
    table.add_column("must", justify="right")
    table.add_row("half of them back", f"{storm.half_back_s:.1f} s", "")
    table.add_row("all of them back", f"{storm.all_back_s:.1f} s", f"{BACK_MUST_S:.0f} s")
    table.add_row("turned away, and told when to return", f"{storm.turned_away:,}", "")
    table.add_row("beats acknowledged meanwhile", f"{storm.acks:,}", "")
    table.add_row("their acknowledgement, p50", f"{storm.ack_p50_ms:.0f} ms", "")
    table.add_row("their acknowledgement, p99", f"{storm.ack_p99_ms:.0f} ms", f"{ACK_MUST_MS:,.0f} ms")
    table.add_row("the slowest", f"{storm.ack_max_ms:.0f} ms", "")
    Console(width=100).print(table)


if __name__ == "__main__":
    sys.exit(main())
