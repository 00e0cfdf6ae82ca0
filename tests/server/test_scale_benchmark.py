"""The benchmark of a large store, at a size that tells nothing of speed: that it measures what it says."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks import scale
from benchmarks.fleet import Sizes, compact_all, fill
from benchmarks.scale import Row, slower_with_size
from thunderline.block.sqlite import SqliteStore
from thunderline.core.clock import SystemClock

SIZES = Sizes(nodes=40, sessions=60, beats=40 * 14, hours=1)


async def test_a_filled_store_leaves_only_the_newest_minute_uncompacted(tmp_path: Path) -> None:
    clock = SystemClock()
    url = f"sqlite:///{tmp_path}/nodes.db"
    await fill(url, SIZES, clock=clock, told=lambda _: None)
    assert await compact_all(url, SIZES, clock=clock) == SIZES.nodes * 6
    async with SqliteStore(tmp_path / "nodes.db", clock=clock) as store:
        beats = await store.read_beats(node_id=None, since_ms=0, until_ms=clock.now_ms(), limit=10_000)
        sessions = await store.scan_open_sessions(after=None, limit=1_000)
        presences = await store.scan_presence(after=None, limit=1_000)
        assert not await store.scan_blocks(after=0, limit=1)
    assert (len(beats), len(sessions), len(presences)) == (SIZES.beats, SIZES.sessions, SIZES.nodes)
    assert {beat.seq for beat in beats} == set(range(14))


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_both_stores_are_measured_with_the_same_rows(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], engine: str
) -> None:
    sizes = ["--nodes", "40", "--sessions", "60", "--beats", "560", "--hours", "1"]
    scale.main(
        [
            *sizes,
            "--store",
            engine,
            "--repetitions",
            "2",
            "--starts",
            "1",
            "--folder",
            str(tmp_path),
            "--json",
            "--in-process",
        ]
    )
    told = msgspec.json.decode(capsysbinary.readouterr().out)
    large = {row["name"]: row for row in told["large"]["rows"]}
    assert list(large) == [row["name"] for row in told["small"]["rows"]]
    assert told["large"]["late_beats"] == 40 * 6
    assert large["list, no filter"]["returned"] == 40
    assert large["series, 24 h"]["returned"] >= 3
    assert large["graph, after 1 change"]["p50_ms"] > 0
    assert not list(tmp_path.iterdir())


def _row(returned: int, p50_ms: float) -> Row:
    return Row(name="read", returned=returned, unit="nodes", p50_ms=p50_ms, p99_ms=p50_ms, repetitions=1)


def test_what_grows_with_what_it_returns_is_not_called_slower() -> None:
    assert slower_with_size([_row(100, 10.0)], [_row(10, 1.0)]) == []


def test_what_grows_while_it_returns_the_same_is_called_slower() -> None:
    assert slower_with_size([_row(100, 10.0)], [_row(100, 1.0)]) == ["read"]


def test_differences_of_microseconds_are_not_called_slower() -> None:
    assert slower_with_size([_row(100, 0.04)], [_row(100, 0.001)]) == []
