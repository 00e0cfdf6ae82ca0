"""What a large store costs to start and to read, beside one a tenth of the size: `python -m benchmarks.scale`.

Each store is filled through the store contract, then opened by processes of their own. First as a killed server
leaves it, with the beats of its newest minute not compacted; then with all compacted. What returns the same in both
stores should take the same; rows where it does not are named at the end.

Not measured: HTTP, writes beside the reads, a disk that is cold but for the starts that say so.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from benchmarks.fleet import RACK, Sizes, compact_all, fill
from benchmarks.stores import VAR, add_store_option, new_databases, status_of, store_at
from thunderline.core.clock import SystemClock
from thunderline.core.logging import configure_logging
from thunderline.core.settings import Settings
from thunderline.link.drawing import Drawing
from thunderline.link.filters import graph_filter, node_filter
from thunderline.link.listing import Listing, list_page
from thunderline.link.registry import Registry
from thunderline.testing.records import node_id

T = TypeVar("T")

PAGE: Final = 100
STEP: Final = 7919
"""A prime: repetition after repetition asks for another node, far from the one before."""

SETTINGS: Final = Settings(offline_after_s=86_400, mutation_lane_max=100_000)
"""So that detection changes nothing while reads are measured."""

MUST_MS: Final = {
    "start, file cold, newest minute to replay": 10_000.0,
    "start, file cached, newest minute to replay": 10_000.0,
    "get_node by id": 0.01,
}
"""Bounds of the larger store."""

GRAPH_NODES: Final = 10_000
GRAPH_MUST_MS: Final = {"graph, unchanged": 20.0, "graph, after 1 change": 20.0}
"""Bounds of a graph of so many nodes, in whichever store has it."""

SLOWER: Final = 3.0
"""A row is named that grew by this factor more than what it returns did."""

SUSPECT_FROM_MS: Final = 0.05
"""Below it a difference is noise, or a cache of the processor."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One thing done many times. `returned` is how much it gave, of what `unit` says."""

    name: str
    returned: int
    unit: str
    p50_ms: float
    p99_ms: float
    repetitions: int


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """What one start cost, and what was read after it."""

    start_s: float
    rss_bytes: int
    rows: list[Row]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One store: how it was filled, what it takes on disk, and what it costs."""

    sizes: Sizes
    engine: str
    fill_s: float
    file_bytes: int
    bytes_a_node: int
    """Resident memory that opening took, shared out; with sessions, groups, meta and latest beats."""
    late_beats: int
    """Beats that no compaction had seen at the first start, which replays them."""
    rows: list[Row]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was measured; 1 when a figure is above what the design says it must be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--sessions", type=int, default=150_000, help="one of each node, the rest between nodes")
    parser.add_argument("--beats", type=int, default=10_000_000)
    parser.add_argument("--hours", type=float, default=6.0, help="over which the beats are spread, in whole minutes")
    parser.add_argument("--repetitions", type=int, default=200, help="of what takes little time; a tenth of the rest")
    parser.add_argument("--starts", type=int, default=3, help="of each kind, each in a new process")
    add_store_option(parser)
    parser.add_argument("--folder", type=Path, default=VAR, help="where files are written, and removed again")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument("--in-process", action="store_true", help="measure here, not in processes of their own")
    options = parser.parse_args(arguments)
    sizes = Sizes(nodes=options.nodes, sessions=options.sessions, beats=options.beats, hours=options.hours)
    apart = _here if options.in_process else _apart
    progress = Console(stderr=True)
    measured = []
    for each in (sizes.tenth(), sizes):
        with new_databases(options.store, folder=options.folder) as new_database:
            url = new_database()
            measured.append(
                _measure(url, each, options.repetitions, starts=options.starts, apart=apart, progress=progress)
            )
    small, large = measured
    if options.json:
        sys.stdout.buffer.write(msgspec.json.encode({"large": large, "small": small}) + b"\n")
    else:
        _print(large, small)
    return 0 if _keeps_bounds(large, small) else 1


def _measure(
    url: str, sizes: Sizes, repetitions: int, *, starts: int, apart: Callable[..., Any], progress: Console
) -> Measured:
    clock = SystemClock()
    began = time.perf_counter()
    with progress.status(f"filling {sizes.nodes:,} nodes") as status:
        asyncio.run(fill(url, sizes, clock=clock, told=status.update))
    fill_s = time.perf_counter() - began
    with progress.status(f"measuring {sizes.nodes:,} nodes, newest minute not compacted"):
        cold = []
        if (path := _file_of(url)) is not None:
            for _ in range(starts):
                _forget_cached(path)
                cold.append(apart(_only_open, url).start_s)
        found: Opened = apart(_open_as_found, url, sizes, repetitions)
        cached = [found.start_s, *(apart(_only_open, url).start_s for _ in range(starts - 1))]
    late_beats = asyncio.run(compact_all(url, sizes, clock=clock))
    with progress.status(f"measuring {sizes.nodes:,} nodes, all compacted"):
        kept: Opened = apart(_open_compacted, url, sizes, repetitions)
        compacted = [kept.start_s, *(apart(_only_open, url).start_s for _ in range(starts - 1))]
    status = status_of(url)
    start_rows = [
        *([_row("start, file cold, newest minute to replay", sizes.nodes, "nodes", cold)] if cold else []),
        _row("start, file cached, newest minute to replay", sizes.nodes, "nodes", cached),
        _row("start, file cached, no beats to replay", sizes.nodes, "nodes", compacted),
    ]
    return Measured(
        sizes=sizes,
        fill_s=fill_s,
        engine=status.engine,
        file_bytes=status.file_bytes,
        bytes_a_node=kept.rss_bytes // sizes.nodes,
        late_beats=late_beats,
        rows=[*start_rows, *found.rows, *kept.rows],
    )


def _apart(measure: Callable[..., T], *arguments: Any) -> T:
    """What `measure` gives, in a new process: its memory holds nothing of what filled the store."""
    # Lists and graphs hold the loop up here, of which the sentinel would warn.
    quiet = partial(configure_logging, level="error")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=quiet) as pool:
        return pool.submit(measure, *arguments).result()


def _here(measure: Callable[..., T], *arguments: Any) -> T:
    return measure(*arguments)


def _file_of(url: str) -> Path | None:
    """The file that the database is, if it is one: the cache of a server cannot be emptied from here."""
    location = Path(store_at(url).location)
    return location if location.is_file() else None


def _forget_cached(path: Path) -> None:
    """Have the system drop the file from memory, where it lets itself be asked."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


# In the processes that measure.


def _only_open(url: str) -> Opened:
    async def read(_: Registry) -> list[Row]:
        return []

    return asyncio.run(_opened(url, read))


def _open_as_found(url: str, sizes: Sizes, repetitions: int) -> Opened:
    async def read(registry: Registry) -> list[Row]:
        # Compaction begins 12 s after the start, so these are few.
        few = max(3, repetitions // 40)
        return await _read_history(registry, sizes, few, suffix=", newest minute not compacted")

    return asyncio.run(_opened(url, read))


def _open_compacted(url: str, sizes: Sizes, repetitions: int) -> Opened:
    async def read(registry: Registry) -> list[Row]:
        return [
            *_read_lists(registry, repetitions),
            *_read_points(registry, sizes, repetitions),
            *await _read_history(registry, sizes, repetitions, suffix=""),
            *await _read_graphs(registry, sizes, max(3, repetitions // 10)),
        ]

    return asyncio.run(_opened(url, read))


async def _opened(url: str, read: Callable[[Registry], Awaitable[list[Row]]]) -> Opened:
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    began = time.perf_counter()
    async with _open(url) as registry:
        start_s = time.perf_counter() - began
        gc.collect()
        rss_bytes = process.memory_info().rss - before
        # As the server does once it is open.
        gc.freeze()
        try:
            rows = await read(registry)
        finally:
            gc.unfreeze()
    return Opened(start_s=start_s, rss_bytes=rss_bytes, rows=rows)


@asynccontextmanager
async def _open(url: str) -> AsyncIterator[Registry]:
    clock = SystemClock()
    async with Registry.open(store_at(url, clock=clock), SETTINGS, clock=clock) as registry:
        yield registry


def _read_lists(registry: Registry, repetitions: int) -> list[Row]:
    """Each filter, for the page with which a list begins."""
    asked: list[tuple[str, dict[str, Any], str]] = [
        ("no filter", {}, "name"),
        ("status=online (90 %)", {"status": "online"}, "name"),
        ("status=disconnected (3 %)", {"status": "disconnected"}, "name"),
        ("role=worker (80 %)", {"role": "worker"}, "name"),
        ("role=gateway (4 %)", {"role": "gateway"}, "name"),
        ("domain (5 %)", {"domain": "domain-7"}, "name"),
        ("cluster_type=in_cluster (90 %)", {"cluster_type": "in_cluster"}, "name"),
        ("cluster_type=out_of_cluster (10 %)", {"cluster_type": "out_of_cluster"}, "name"),
        ("group, a region (all)", {"group": "region-0"}, "name"),
        ("group, a zone (5 %)", {"group": "zone-0"}, "name"),
        (f"group, a rack ({RACK} nodes)", {"group": "rack-0"}, "name"),
        ("capability gpu (10 %)", {"capability": "gpu"}, "name"),
        ("capability gpu:a100 (5 %)", {"capability": "gpu:a100"}, "name"),
        ("label tier (33 %)", {"labels": {"tier": "t1"}}, "name"),
        (f"label rack ({RACK} nodes)", {"labels": {"rack": "r0"}}, "name"),
        ("name prefix (100 nodes)", {"name": "node-00001*"}, "name"),
        ("name", {"name": "node-0000007@prod"}, "name"),
        (
            "combination (0.2 %)",
            {"status": "online,degraded", "role": "edge", "domain": "domain-7", "labels": {"tier": "t1"}},
            "name",
        ),
        ("combination (nobody)", {"status": "online", "cluster_type": "in_cluster", "role": "none"}, "name"),
        ("no filter, sort=updated_at", {}, "-updated_at"),
        ("domain, sort=updated_at", {"domain": "domain-7"}, "-updated_at"),
    ]
    rows = []
    for name, conditions, sort in asked:
        listing = Listing(wanted=node_filter(**conditions), sort=sort)

        def page(_: int, listing: Listing = listing) -> int:
            return len(list_page(registry.roster, listing, after=None, limit=PAGE).entries)

        rows.append(_timed(f"list, {name}", page, repetitions, unit="nodes"))
    return rows


def _read_points(registry: Registry, sizes: Sizes, repetitions: int) -> list[Row]:
    ids = [node_id(i * STEP % sizes.nodes) for i in range(max(100, repetitions))]

    def get_hundred(i: int) -> int:
        for j in range(100):
            registry.get_node(ids[(i + j) % len(ids)])
        return 1

    hundred = _timed("get_node by id", get_hundred, repetitions, unit="node")
    each = msgspec.structs.replace(hundred, p50_ms=hundred.p50_ms / 100, p99_ms=hundred.p99_ms / 100)
    return [
        each,
        _timed(
            "list_sessions of a node",
            lambda i: len(registry.list_sessions(ids[i % len(ids)])),
            repetitions,
            unit="sessions",
        ),
    ]


async def _read_history(registry: Registry, sizes: Sizes, repetitions: int, *, suffix: str) -> list[Row]:
    async def recent(i: int) -> int:
        return len(await registry.recent_heartbeats(node_id(i * STEP % sizes.nodes), 60))

    async def day(i: int) -> int:
        return sum(1 for beats in (await registry.series(node_id(i * STEP % sizes.nodes), 1_440)).beats if beats)

    async def week(i: int) -> int:
        return sum(1 for beats in (await registry.series(node_id(i * STEP % sizes.nodes), 10_080)).beats if beats)

    return [
        await _timed_async(f"recent_heartbeats, 60 min{suffix}", recent, repetitions, unit="beats"),
        await _timed_async(f"series, 24 h{suffix}", day, repetitions, unit="buckets"),
        await _timed_async(f"series, 7 days{suffix}", week, repetitions, unit="buckets"),
    ]


async def _read_graphs(registry: Registry, sizes: Sizes, repetitions: int) -> list[Row]:
    """The whole graph as JSON in parts, as it is sent; the changes are committed before the clock starts."""
    wanted = graph_filter(include_offline=True)
    first = _timed(
        "graph, first time",
        lambda _: sum(map(len, Drawing(registry.roster, wanted).paint(cursor=registry.cursor))),
        max(3, repetitions // 4),
        unit="bytes",
    )

    def paint(_: int) -> int:
        return sum(map(len, registry.graph_parts(include_offline=True)))

    def join(_: int) -> int:
        return len(registry.graph_json(include_offline=True))

    rows = [
        first,
        _timed("graph, unchanged", paint, repetitions, unit="bytes"),
        _timed("graph, unchanged, as one document", join, repetitions, unit="bytes"),
    ]
    for changes in (1, 100):
        took: list[float] = []
        painted = 0
        for i in range(repetitions):
            asked = [node_id((i * changes + j) * STEP % sizes.nodes) for j in range(min(changes, sizes.nodes))]
            await asyncio.gather(*(registry.update_node(each, {"meta": {"round": i}}) for each in set(asked)))
            began = time.perf_counter()
            painted = paint(i)
            took.append(time.perf_counter() - began)
        name = f"graph, after {changes} change{'s' * (changes > 1)}"
        rows.append(_row(name, painted, "bytes", took))
    return rows


def _timed(name: str, call: Callable[[int], int], repetitions: int, *, unit: str) -> Row:
    """Once for nothing, so that caches are as in a process that runs, then `repetitions` times."""
    returned = call(0)
    took = []
    for i in range(repetitions):
        began = time.perf_counter()
        returned = call(i + 1)
        took.append(time.perf_counter() - began)
    return _row(name, returned, unit, took)


async def _timed_async(name: str, call: Callable[[int], Awaitable[int]], repetitions: int, *, unit: str) -> Row:
    """As `_timed`; every repetition asks for another node, so that only inner pages of indexes are warm."""
    returned = await call(0)
    took = []
    for i in range(repetitions):
        began = time.perf_counter()
        returned = await call(i + 1)
        took.append(time.perf_counter() - began)
    return _row(name, returned, unit, took)


def _row(name: str, returned: int, unit: str, took_s: list[float]) -> Row:
    ordered = sorted(took_s)
    return Row(
        name=name,
        returned=returned,
        unit=unit,
        p50_ms=statistics.median(ordered) * 1000,
        p99_ms=ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1000,
        repetitions=len(ordered),
    )


# Telling.


def slower_with_size(large: list[Row], small: list[Row]) -> list[str]:
    """The rows that grew with the store by much more than what they return did."""
    found = []
    for row, other in zip(large, small, strict=True):
        more = max(1.0, row.returned / max(1, other.returned))
        if row.p50_ms >= SUSPECT_FROM_MS and row.p50_ms / other.p50_ms >= SLOWER * more:
            found.append(row.name)
    return found


def _keeps_bounds(large: Measured, small: Measured) -> bool:
    rows = [(row, MUST_MS) for row in large.rows]
    rows += [(row, GRAPH_MUST_MS) for each in (large, small) if each.sizes.nodes == GRAPH_NODES for row in each.rows]
    return all(row.p50_ms <= bounds.get(row.name, float("inf")) for row, bounds in rows)


def _print(large: Measured, small: Measured) -> None:
    table = Table(title=f"Reads in one process: {_size(large)}; beside it {_size(small)}")
    for column in ("what", "gives", "p50", "p99", "times", "gives, small", "p50", "p99", "p50 ratio"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for row, other in zip(large.rows, small.rows, strict=True):
        table.add_row(
            row.name,
            *(f"{row.returned:,} {row.unit}", _ms(row.p50_ms), _ms(row.p99_ms), str(row.repetitions)),
            *(f"{other.returned:,}", _ms(other.p50_ms), _ms(other.p99_ms), f"{row.p50_ms / other.p50_ms:.1f}"),
        )
    # As wide as it needs: cut short where a terminal is not there to tell, it would say nothing.
    console = Console(width=None if sys.stdout.isatty() else 180)
    console.print(table)
    for each in (large, small):
        console.print(
            f"{_size(each)}: filled in {each.fill_s:,.0f} s, {each.file_bytes / 1e6:,.0f} MB on disk; opened it takes "
            f"{each.bytes_a_node / 1024:.1f} KiB a node with its sessions, groups, meta and latest beat; "
            f"{each.late_beats:,} beats of the newest minute were not compacted at first, which is what starts replay"
        )
    console.print(
        f"Lists are pages of {PAGE}. Every read was done once before the clock started; but for the cold starts the "
        "data is in the system's cache, not in a connection's: history asks for another node each time."
    )
    slower = slower_with_size(large.rows, small.rows)
    console.print(f"Slower by more than what they return: {'; '.join(slower) or 'none'}")
    console.print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {large.engine}")


def _size(each: Measured) -> str:
    sizes = each.sizes
    return f"{sizes.nodes:,} nodes, {sizes.sessions:,} sessions, {sizes.beats:,} beats over {sizes.hours:g} h"


def _ms(duration_ms: float) -> str:
    return f"{duration_ms * 1000:.1f} us" if duration_ms < 0.1 else f"{duration_ms:,.2f} ms"


if __name__ == "__main__":
    raise SystemExit(main())
