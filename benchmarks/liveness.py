"""What liveness costs with a million nodes in one process: `python -m benchmarks.liveness`.

The parts are those of a registry, for each detector in a process of its own: roster, sentinel, guard, and the writer's
queue into which convictions go; only the clock is turned by hand, so that as many nodes are due as are wanted. What is
queued is not committed here: `make bench` measures commits.

A sweep goes in slices, between which everybody else has a turn; how long the longest took is how long a beat may wait.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from thunderline.block.memory import MemoryStore
from thunderline.core.ids import new_uuid7
from thunderline.core.logging import configure_logging
from thunderline.core.records import GroupType, Node, NodeStatus
from thunderline.core.settings import DetectorName, Settings
from thunderline.flow.bus import LocalBus
from thunderline.link.engine import Engine
from thunderline.link.roster import Entry
from thunderline.testing.clock import ManualClock
from thunderline.testing.records import make_group, make_node

ZONES: Final = 20
INTERVAL_S: Final = 60.0
TICK_S: Final = 0.1
DETECTORS: Final[tuple[DetectorName, ...]] = ("deadline", "phi")


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """All slices of one sweep. `convicted` were queued, `held` by the guard."""

    due: int
    total_ms: float
    longest_slice_ms: float
    convicted: int
    held: int


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """Of one detector. Bytes are resident memory of the process, shared out."""

    detector: str
    nodes: int
    record_bytes: float
    """A node's record, entry and indexes."""
    liveness_bytes: float
    """What liveness adds to that, once every node has beaten five times."""
    beat_ns: float
    quiet_sweep_us: float
    """Of a sweep each 0.1 s with nobody due, while all nodes beat once a minute: the mean, and its longest slice."""
    quiet_longest_ms: float
    sweeps: list[Sweep]


class Fleet:
    """The nodes of one registry, and the clock by which they beat."""

    def __init__(self, detector: DetectorName, nodes: int, *, seed: int) -> None:
        settings = Settings(detector=detector, heartbeat_interval_s=INTERVAL_S, max_heartbeats_per_second=10_000_000)
        self.clock = ManualClock()
        self.rng = random.Random(seed)
        self.engine = Engine(
            MemoryStore(),
            LocalBus(),
            owner="registry@bench",
            settings=settings,
            clock=self.clock,
            ids=new_uuid7,
            rng=self.rng,
        )
        for zone in range(ZONES):
            self.engine.roster.put_group(make_group(zone, name=f"zone-{zone}", group_type=GroupType.ZONE))
        before = resident()
        groups = [(f"zone-{zone}",) for zone in range(ZONES)]
        self.engine.roster.load(_node(number, groups[number % ZONES]) for number in range(nodes))
        gc.collect()
        self.record_bytes = (resident() - before) / nodes
        before = resident()
        self.engine.sentinel.start()
        self.entries = list(self.engine.roster)
        self.rng.shuffle(self.entries)
        self._rounds = 0
        for _ in range(5):
            self.clock.pause(INTERVAL_S)
            self.beat(self.entries)
        self.liveness_bytes = (resident() - before) / nodes

    def beat(self, entries: Iterable[Entry]) -> float:
        """Every one of them is heard; the seconds that this took."""
        heard = self.engine.sentinel.heard
        began = time.perf_counter()
        for entry in entries:
            heard(entry)
        return time.perf_counter() - began

    def sweep(self) -> Iterator[float]:
        """Sweep until nobody is due; the seconds of each slice."""
        while True:
            began = time.perf_counter()
            wait_s = self.engine.sentinel.sweep(self.engine.detection)
            yield time.perf_counter() - began
            if wait_s > 0:
                return

    def convict(self, share: float) -> Sweep:
        """All are heard at one moment, and but for a share once more; then the deadlines of that moment are over."""
        sentinel = self.engine.sentinel
        self.beat(self.entries)
        due_at = self.clock.monotonic() + max(entry.patience_s for entry in self.entries)
        silent = round(len(self.entries) * share)
        self.clock.pause(1.0)
        self.beat(self.entries[silent:])
        # To where the silent are over and those who were heard a second later are not.
        self.clock.pause(due_at - self.clock.monotonic() + TICK_S)
        slices = list(self.sweep())
        reports = sentinel.guard.reports()
        held = sum(report.held for report in reports)
        return Sweep(
            due=silent,
            total_ms=sum(slices) * 1000,
            longest_slice_ms=max(slices) * 1000,
            convicted=silent - held,
            held=held,
        )


def measure(detector: DetectorName, nodes: int, seed: int) -> Measured:
    """Everything about one detector."""

    async def run() -> Measured:
        fleet = Fleet(detector, nodes, seed=seed)
        gc.collect()
        gc.freeze()
        beats = [fleet.beat(fleet.rng.sample(fleet.entries, nodes // 10)) / (nodes // 10) for _ in range(5)]
        # A minute and more in which all beat, spread over it.
        per_tick = max(1, round(nodes * TICK_S / INTERVAL_S))
        quiet = []
        for tick in range(round(4 * INTERVAL_S / TICK_S)):
            fleet.clock.pause(TICK_S)
            at = tick * per_tick % nodes
            fleet.beat(fleet.entries[at : at + per_tick])
            quiet.append(list(fleet.sweep()))
        settled = quiet[len(quiet) // 2 :]
        return Measured(
            detector=detector,
            nodes=nodes,
            record_bytes=fleet.record_bytes,
            liveness_bytes=fleet.liveness_bytes,
            beat_ns=statistics.median(beats) * 1e9,
            quiet_sweep_us=statistics.mean(map(sum, settled)) * 1e6,
            quiet_longest_ms=max(map(max, settled)) * 1000,
            sweeps=[fleet.convict(share) for share in (0.0, 0.01, 1.0)],
        )

    configure_logging(level="error")
    return asyncio.run(run())


def resident() -> int:
    """Bytes of memory that this process holds."""
    resident_bytes: int = psutil.Process().memory_info().rss
    return resident_bytes


def _node(number: int, groups: tuple[str, ...]) -> Node:
    return make_node(
        number,
        groups=groups,
        status=NodeStatus.ONLINE,
        observed_status=NodeStatus.ONLINE,
        heartbeat_interval_ms=round(INTERVAL_S * 1000),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.liveness", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    options = parser.parse_args(arguments)
    progress = Console(stderr=True)
    context = multiprocessing.get_context("spawn")
    measured = []
    for detector in DETECTORS:
        with progress.status(f"{options.nodes:,} nodes, detector {detector}"), context.Pool(1) as pool:
            measured.append(pool.apply(measure, (detector, options.nodes, options.seed)))
    if options.json:
        sys.stdout.buffer.write(msgspec.json.encode(measured) + b"\n")
    else:
        _print(measured)
    return 0


def _print(measured: list[Measured]) -> None:
    table = Table(title=f"Liveness of {measured[0].nodes:,} nodes in one process")
    table.add_column("what")
    for each in measured:
        table.add_column(each.detector, justify="right")

    def row(name: str, figures: Iterable[str]) -> None:
        table.add_row(name, *figures)

    row("memory a node: record, entry, indexes", (f"{each.record_bytes:,.0f} bytes" for each in measured))
    row("memory a node: liveness besides", (f"{each.liveness_bytes:,.0f} bytes" for each in measured))
    row("a beat, as a sign of life", (f"{each.beat_ns:,.0f} ns" for each in measured))
    row(
        "a sweep with nobody due, in service; longest slice",
        (f"{each.quiet_sweep_us:,.0f} us; {each.quiet_longest_ms:.1f} ms" for each in measured),
    )
    for at, sweep in enumerate(measured[0].sweeps):
        row(
            f"a sweep with {sweep.due:,} due at one moment; longest slice",
            (f"{each.sweeps[at].total_ms:,.1f} ms; {each.sweeps[at].longest_slice_ms:.1f} ms" for each in measured),
        )
        row(
            "  of them convicted; held by the guard",
            (f"{each.sweeps[at].convicted:,}; {each.sweeps[at].held:,}" for each in measured),
        )
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    console.print(f"{os.cpu_count()} cores, Python {platform.python_version()}")


if __name__ == "__main__":
    raise SystemExit(main())
