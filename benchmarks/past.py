"""What the past costs to read while the present goes on: `python -m benchmarks.past`.

A store is filled through the registry itself: nodes, links between them, then changes of all kinds until the log has as
many events as wanted; snapshots are kept on the way as they are in service. Then every node beats once an interval, and
meanwhile the graph is asked for as it stood at random moments, one after another: half of them by time, half by
revision.

Not measured: HTTP, and a file that is not in the system's cache.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.stores import VAR, add_store_option, new_databases, status_of, store_at
from thunderline.block.store import Store
from thunderline.core.clock import SystemClock, from_ms
from thunderline.core.ids import Revision
from thunderline.core.logging import configure_logging
from thunderline.core.settings import Settings
from thunderline.link.filters import graph_filter
from thunderline.link.registry import Registry
from thunderline.link.snapshots import ENTITIES_PER_EVENT, EVENTS_LEAST
from thunderline.server import COLLECT_AFTER, SWITCH_INTERVAL_S

MUST_P95_MS: Final = 200.0
"""Of `graph(at=...)`, where the log has a million events of 10,000 nodes and 15,000 links."""

TOGETHER: Final = 1_000
INTERVAL_S: Final = 10.0
STEP_S: Final = 0.1
GRAPH_AT: Final = "graph(at=...), a random moment"
EVERYTHING: Final = graph_filter(include_offline=True)

SETTINGS: Final = Settings(
    heartbeat_interval_s=600, offline_after_s=86_400, mutation_lane_max=100_000, heartbeat_lane_max=100_000
)
"""So that detection changes nothing while the store is filled."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of one thing done again and again."""

    name: str
    repetitions: int
    p50_ms: float
    p95_ms: float
    max_ms: float


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The store, and what was measured with it."""

    nodes: int
    links: int
    events: int
    engine: str
    file_bytes: int
    fill_s: float
    beats_per_s: float
    figures: list[Figures]


class Churn:
    """Changes of a cluster at random, as many as are asked for. Every twentieth node has no links, and is replaced at
    times."""

    def __init__(self, registry: Registry, *, nodes: int, links: int, rng: random.Random) -> None:
        self._registry = registry
        self._rng = rng
        names = [f"node-{i:06}@prod" for i in range(nodes)]
        self.names = names
        self._spare, self._linked = names[: nodes // 20], names[nodes // 20 :]
        self._links = {f"link-{i:06}": tuple(rng.sample(self._linked, 2)) for i in range(links)}
        self._link_ids = list(self._links)

    async def begin(self) -> None:
        """Register every node, bring it up, and open every link."""
        for names in _chunks(self.names):
            await asyncio.gather(*map(self._register, names))
        for links in _chunks(self._link_ids):
            await asyncio.gather(*map(self._open, links))

    async def go_on(self) -> None:
        """Change some, at once."""
        rng = self._rng
        # Each at most once, since what is done at once is done in any order.
        changes = [self._change(name) for name in rng.sample(self._linked, TOGETHER // 2)]
        changes += [self._replace(name) for name in rng.sample(self._spare, TOGETHER // 50)]
        changes += [self._touch(link) for link in rng.sample(self._link_ids, TOGETHER // 3)]
        await asyncio.gather(*changes)

    async def _register(self, name: str) -> None:
        meta = {"rack": f"r{self._rng.randrange(200)}", "kernel": "6.1.0", "build": "2026.11"}
        await self._registry.ensure_node({"name": name, "meta": meta})
        await self._registry.mark_online(name)

    async def _open(self, link: str) -> None:
        one, other = self._links[link]
        await self._registry.establish_link_session(one, other, {"session_id": link, "latency_ms": 1.5})

    async def _change(self, name: str) -> None:
        if self._rng.random() < 0.8:
            await self._registry.update_node(name, {"labels": {"step": str(self._rng.randrange(10**9))}})
        else:
            await self._registry.mark_status(name, self._rng.choice(("degraded", "online")), "as the benchmark says")

    async def _replace(self, name: str) -> None:
        await self._registry.deregister(name, force=True)
        await self._register(name)

    async def _touch(self, link: str) -> None:
        if self._rng.random() < 0.8:
            await self._registry.update_link_session(link, {"latency_ms": self._rng.uniform(0.1, 50)})
        else:
            await self._registry.close_link_session(link)
            await self._open(link)


async def measure(
    url: str, *, nodes: int, links: int, events: int, moments: int, seed: int, progress: Console
) -> Measured:
    """Fill the empty database at `url`, and read its past."""
    rng = random.Random(seed)
    clock = SystemClock()
    began = time.perf_counter()
    store = store_at(url, clock=clock)
    async with Registry.open(store, SETTINGS, clock=clock) as registry:
        churn = Churn(registry, nodes=nodes, links=links, rng=rng)
        with progress.status(f"filling: {nodes:,} nodes, {links:,} links") as shown:
            await churn.begin()
            first = registry.log.revision
            first_at = clock.now_ms()
            while registry.log.revision < events:
                await churn.go_on()
                shown.update(f"filling: {registry.log.revision:,} of {events:,} events")
            last_at = clock.now_ms()
            fill_s = time.perf_counter() - began
        with progress.status("waiting for the newest snapshot"):
            await _until_kept(
                store, Revision(registry.log.revision - 2 * max(EVENTS_LEAST, (nodes + links) // ENTITIES_PER_EVENT))
            )
        gc.collect()
        gc.freeze()
        gc.set_threshold(*COLLECT_AFTER)
        beats = Beats(registry, churn.names)
        beating = asyncio.create_task(beats.go_on())
        with progress.status("reading the past"):
            half = moments // 2
            asked: list[int | datetime] = [rng.randrange(first, events) for _ in range(half)]
            asked += [from_ms(rng.randrange(first_at, last_at)) for _ in range(moments - half)]
            rng.shuffle(asked)
            graphs = await _timed([partial(registry.graph_at, at, include_offline=True) for at in asked])
            answers = await _timed([partial(registry.past.json_at, at, EVERYTHING, "nodes") for at in asked])
        beating.cancel()
        await asyncio.wait([beating])
    status = await asyncio.to_thread(status_of, url)
    return Measured(
        nodes=nodes,
        links=links,
        events=events,
        engine=status.engine,
        file_bytes=status.file_bytes,
        fill_s=fill_s,
        beats_per_s=beats.kept / (clock.monotonic() - beats.began_at),
        figures=[
            _figures(GRAPH_AT, graphs),
            _figures("the same as JSON", answers),
            _figures("a beat meanwhile, until it is durable", beats.took_s),
        ],
    )


class Beats:
    """Every node beats once each `INTERVAL_S`, spread over it."""

    def __init__(self, registry: Registry, names: list[str]) -> None:
        self._registry = registry
        self._names = names
        self.kept = 0
        self.took_s: list[float] = []
        self.began_at = registry.clock.monotonic()

    async def go_on(self) -> None:
        """Beat until cancelled."""
        clock = self._registry.clock
        together = max(1, round(len(self._names) * STEP_S / INTERVAL_S))
        due, at = self.began_at, 0
        while True:
            names = [self._names[(at + i) % len(self._names)] for i in range(together)]
            at += together
            await asyncio.gather(*map(self._beat, names))
            due += STEP_S
            await clock.sleep_until(due)

    async def _beat(self, name: str) -> None:
        began = time.perf_counter()
        await self._registry.heartbeat(name, "online", {"cpu_load": 12.5, "mem_used_mb": 2048})
        self.took_s.append(time.perf_counter() - began)
        self.kept += 1


async def _until_kept(store: Store, revision: Revision) -> None:
    clock = SystemClock()
    while True:
        snapshot = await store.read_snapshot(revision=Revision(10**12))
        if snapshot is not None and snapshot.revision >= revision:
            return
        await clock.sleep(1)


async def _timed(calls: Sequence[Callable[[], Awaitable[object]]]) -> list[float]:
    took = []
    for call in calls:
        began = time.perf_counter()
        await call()
        took.append(time.perf_counter() - began)
    return took


def _figures(name: str, took_s: list[float]) -> Figures:
    ordered = sorted(took_s)
    return Figures(
        name=name,
        repetitions=len(ordered),
        p50_ms=statistics.median(ordered) * 1000,
        p95_ms=ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)] * 1000,
        max_ms=ordered[-1] * 1000,
    )


def _chunks(items: list[str]) -> list[list[str]]:
    return [items[start : start + TOGETHER] for start in range(0, len(items), TOGETHER)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was measured; 1 when the past takes longer than the design says it must."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.past", description=__doc__)
    parser.add_argument("--nodes", type=int, default=10_000)
    parser.add_argument("--links", type=int, default=15_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    add_store_option(parser)
    parser.add_argument("--folder", type=Path, default=VAR, help="where a file is written, and removed again")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    options = parser.parse_args(arguments)
    configure_logging(level="error")
    # As in a server.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with new_databases(options.store, folder=options.folder) as new_database:
        measured = asyncio.run(
            measure(
                new_database(),
                nodes=options.nodes,
                links=options.links,
                events=options.events,
                moments=options.moments,
                seed=options.seed,
                progress=Console(stderr=True),
            )
        )
    if options.json:
        sys.stdout.buffer.write(msgspec.json.encode(measured) + b"\n")
    else:
        _print(measured)
    return 0 if next(row for row in measured.figures if row.name == GRAPH_AT).p95_ms <= MUST_P95_MS else 1


def _print(measured: Measured) -> None:
    title = f"{measured.events:,} events of {measured.nodes:,} nodes and {measured.links:,} links"
    table = Table(title=title)
    for column in ("what", "times", "p50", "p95", "longest"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for row in measured.figures:
        figures = (f"{ms:,.1f} ms" for ms in (row.p50_ms, row.p95_ms, row.max_ms))
        table.add_row(row.name, f"{row.repetitions:,}", *figures)
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    console.print(
        f"{measured.beats_per_s:,.0f} beats a second arrived meanwhile. Filled in {measured.fill_s:,.0f} s; "
        f"{measured.file_bytes / 1e6:,.0f} MB on disk."
    )
    console.print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {measured.engine}")


if __name__ == "__main__":
    raise SystemExit(main())
