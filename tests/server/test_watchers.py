"""Many watchers of a real server, some of which read nothing: they cost little, learn why, and hold up nobody."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from benchmarks.server import Running
from benchmarks.watch_load import Readers, Watcher, watching
from benchmarks.watchers import measure
from tests.server.processes import ServerProcess, running

IDS = re.compile(rb"id: [0-9a-f-]+:(\d+)\nevent: (?!thunderline)")
STALLED_MAX_BYTES = 256 * 1024
BATCH = 100


class Size(NamedTuple):
    """How much of everything."""

    healthy: int
    stalled: int
    events: int
    backlog: int
    filler: int


SMALL = Size(healthy=40, stalled=60, events=900, backlog=512, filler=1_500)
LARGE = Size(healthy=800, stalled=200, events=6_000, backlog=4_096, filler=0)


def churn(server: ServerProcess, readers: Readers, healthy: list[Watcher], size: Size, name: str) -> int:
    """Make that many events while the healthy ones read; gives the largest memory of the server meanwhile."""
    process = psutil.Process(server.process.pid)
    largest = 0
    meta = {"filler": "x" * size.filler} if size.filler else {}
    last = 0
    for start in range(0, size.events, BATCH):
        nodes = [{"name": f"{name}-{start + i}", "meta": meta} for i in range(BATCH)]
        answer = server.http.post("/api/nodes/batch", json={"nodes": nodes}).raise_for_status()
        last = max(item["node"]["revision"] for item in answer.json()["results"])
        # Who is to see every event is not to fall behind its backlog because this process does two things.
        near = last - 2 * BATCH
        readers.turn_until(lambda near=near: all(one.last >= near for one in healthy), timeout_s=60)
        largest = max(largest, process.memory_info().rss)
    readers.turn_until(lambda: all(watcher.last == last for watcher in healthy), timeout_s=120)
    return max(largest, process.memory_info().rss)


def cut_of(read: bytes) -> dict[str, str]:
    """The last message of a stream."""
    message = read[read.rindex(b"event: thunderline.cut\ndata: ") :].split(b"\n")[1]
    cut: dict[str, str] = json.loads(message.removeprefix(b"data: "))
    return cut


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(SMALL, id="small"),
        pytest.param(LARGE, id="large", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
def test_stalled_watchers_cost_little_learn_why_they_are_cut_and_hold_up_nobody(
    tmp_path: Path, size: Size, record_property: pytest.RecordProperty
) -> None:
    # Nobody beats: on a busy machine the first would count as never seen before the last was told of.
    environ = {"THUNDERLINE_WATCH_BACKLOG_MAX": str(size.backlog), "THUNDERLINE_OFFLINE_AFTER_S": "3600"}
    with running(tmp_path / "t.db", environ=environ) as server:
        process = psutil.Process(server.process.pid)
        since = server.http.get("/api/graph").json()["cursor"]
        with watching(server.url, count=size.healthy, since=since) as healthy:
            readers = Readers(healthy)
            # What so many events cost without anybody who stalls; what is allocated once is allocated here, too.
            churn(server, readers, healthy, size, "warm")
            before = process.memory_info().rss
            alone = churn(server, readers, healthy, size, "alone") - before
            since = server.http.get("/api/graph").json()["cursor"]
            begin = int(since.rpartition(":")[2])
            before = process.memory_info().rss
            with watching(server.url, count=size.stalled, since=since, receive_bytes=4096) as stalled:
                beside = churn(server, readers, healthy, size, "beside") - before
                each = (beside - max(alone, 0)) / size.stalled
                record_property("bytes_per_stalled_watcher", each)
                print(f"{each / 1024:.0f} KiB for each stalled watcher")  # noqa: T201 - what a run of it is for
                assert each < STALLED_MAX_BYTES
                for watcher in stalled:
                    _check_cut(server, watcher, begin, begin + size.events)
            assert all(watcher.in_order and watcher.heard == 3 * size.events for watcher in healthy)
            readers.close()


def _check_cut(server: ServerProcess, watcher: Watcher, begin: int, end: int) -> None:
    """That it got a part of the log and then the reason, and the rest behind that."""
    read = watcher.read_to_end(timeout_s=30)
    cut = cut_of(read)
    assert cut["code"] in ("watch_cut", "watch_stalled")
    heard = [int(revision) for revision in IDS.findall(read)]
    at = int(cut["resume_from"].rpartition(":")[2])
    assert heard == list(range(begin + 1, at + 1))
    assert at < end
    again = Watcher(server.url, since=cut["resume_from"])
    with suppress(BlockingIOError):
        again.begin()
        readers = Readers([again])
        readers.turn_until(lambda: again.last == end, timeout_s=30)
        readers.close()
    assert (again.first, again.in_order, again.heard) == (at + 1, True, end - at)
    again.socket.close()


def test_the_benchmark_measures_every_delivery(tmp_path: Path) -> None:
    with running(tmp_path / "t.db") as server:
        told = Running(server.url, psutil.Process(server.process.pid))
        row = measure(told, watchers=20, rate=50, together=5, duration_s=1.0, name="n")
    assert row.deliveries == 20 * 50
    assert 0 < row.p50_ms <= row.p99_ms <= row.max_ms
