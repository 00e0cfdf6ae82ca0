"""The timeline: what is counted where, and what bins become of a window."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.engines import ENGINES, Stores
from tests.link.turning import turn_on
from thunderline.block.memory import MemoryStore
from thunderline.core.errors import InvalidInput
from thunderline.core.settings import Settings
from thunderline.link.registry import Registry
from thunderline.link.timeline import BINS_MAX, KINDS
from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import FaultyStore


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, stores: Stores, clock: ManualClock) -> FaultyStore:
    """Each engine."""
    return FaultyStore(stores.new(request.param, clock=clock))


async def test_events_are_counted_by_kind_where_they_happened(store: FaultyStore, clock: ManualClock) -> None:
    async with Registry.open(store, clock=clock) as registry:
        start = clock.now()
        await registry.ensure_node({"name": "a"})
        await registry.heartbeat("a")
        await turn_on(store, clock, 5)
        await registry.establish_link_session("a", None, {"session_id": "s"})
        await turn_on(store, clock, 60)
        await registry.create_group({"name": "g"})
        timeline = await registry.timeline(start, clock.now(), bins=60)
        assert (timeline.bin_s, timeline.at) == (60, [start, start + timedelta(seconds=60)])
        assert timeline.counts["node_up"] == [1, 0]
        assert timeline.counts["link_up"] == [1, 0]
        assert timeline.counts["topology_update"][1] >= 1
        assert (sum(timeline.events), timeline.cursor) == (registry.log.revision, registry.cursor)
        assert tuple(timeline.counts) == KINDS
        assert (timeline.oldest, timeline.newest) == (start, clock.now())


async def test_counts_are_the_same_after_a_restart(store: FaultyStore, clock: ManualClock) -> None:
    settings = Settings(offline_after_s=3600)
    async with Registry.open(store, settings, clock=clock) as registry:
        for turn in range(10):
            await registry.ensure_node({"name": f"n{turn}"})
            await turn_on(store, clock, 7)
        before = await registry.timeline(bins=24)
    async with Registry.open(store, settings, clock=clock) as registry:
        assert (await registry.timeline(bins=24)).counts == before.counts


@pytest.mark.parametrize(("window_s", "bins", "count", "bin_s"), [(0, 10, 1, 60), (600, 5, 4, 180), (600, 100, 11, 60)])
async def test_bins_are_whole_minutes_and_cover_the_window(
    clock: ManualClock, window_s: float, bins: int, count: int, bin_s: int
) -> None:
    async with Registry.open(MemoryStore(), clock=clock) as registry:
        end = clock.now()
        timeline = await registry.timeline(end - timedelta(seconds=window_s), end, bins=bins)
        assert (len(timeline.at), timeline.bin_s) == (count, bin_s)
        assert timeline.since <= end - timedelta(seconds=window_s)
        assert timeline.until > end
        assert (timeline.oldest, timeline.newest, set(timeline.events)) == (None, None, {0})


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"bins": 0}, "bins"),
        ({"bins": BINS_MAX + 1}, "bins"),
        ({"since": "x"}, "from"),
        ({"until": "x"}, "to"),
        ({"since": "2030-01-01T00:00:00Z", "until": "2020-01-01T00:00:00Z"}, "from"),
    ],
)
async def test_what_cannot_be_counted_is_refused_by_name(clock: ManualClock, asked: dict[str, Any], field: str) -> None:
    async with Registry.open(MemoryStore(), clock=clock) as registry:
        with pytest.raises(InvalidInput) as refused:
            await registry.timeline(**asked)
        assert refused.value.field == field
