"""History looks after itself: what is compacted and forgotten when, and that no clock costs anybody their beats."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engines import ENGINES, Stores
from thunderline.block.memory import MemoryStore
from thunderline.block.rollups import MINUTE_MS
from thunderline.block.store import HistoryClock, Store
from thunderline.core.errors import InvalidInput, UnknownNode
from thunderline.core.settings import Settings
from thunderline.link.ages import STEP_STANDS_MS, AgeClock
from thunderline.link.history import (
    BUCKETS_WANTED,
    MINUTES_MAX,
    HeartbeatSeries,
    fitting_resolution_s,
)
from thunderline.testing.clock import START_MS, ManualClock
from thunderline.testing.harness import Cluster, open_cluster

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
YEAR_S = 365 * DAY_S


# The clock of ages


def look(ages: AgeClock, clock: ManualClock) -> float:
    """How far the clock of ages stands behind the wall clock, in seconds."""
    return (clock.now_ms() - ages.look(wall_ms=clock.now_ms(), monotonic_s=clock.monotonic())) / 1000


@pytest.fixture
def ages(clock: ManualClock) -> AgeClock:
    return AgeClock(None, wall_ms=clock.now_ms(), monotonic_s=clock.monotonic())


def run_for(ages: AgeClock, clock: ManualClock, duration_s: float, *, look_every_s: float = 600.0) -> float:
    behind = 0.0
    for _ in range(int(duration_s / look_every_s)):
        clock.pause(look_every_s)
        behind = look(ages, clock)
    return behind


def test_ages_run_with_the_clock(ages: AgeClock, clock: ManualClock) -> None:
    assert run_for(ages, clock, 10 * DAY_S) == pytest.approx(0, abs=0.01)


def test_a_jump_ahead_counts_once_it_has_stood_for_a_day(ages: AgeClock, clock: ManualClock) -> None:
    clock.jump_wall(YEAR_S)
    assert run_for(ages, clock, DAY_S - HOUR_S) == pytest.approx(YEAR_S, abs=1)
    assert run_for(ages, clock, 2 * HOUR_S) == pytest.approx(0, abs=1)


def test_a_jump_ahead_that_is_taken_back_never_counts(ages: AgeClock, clock: ManualClock) -> None:
    clock.jump_wall(YEAR_S)
    run_for(ages, clock, DAY_S - HOUR_S)
    clock.jump_wall(-YEAR_S)
    assert run_for(ages, clock, 3 * DAY_S) == pytest.approx(0, abs=1)


def test_a_jump_back_holds_ages_back_at_once_and_coming_back_counts_after_a_day(
    ages: AgeClock, clock: ManualClock
) -> None:
    before = ages.look(wall_ms=clock.now_ms(), monotonic_s=clock.monotonic())
    clock.jump_wall(-YEAR_S)
    assert look(ages, clock) == 0
    clock.jump_wall(YEAR_S)
    assert look(ages, clock) == pytest.approx(YEAR_S)
    assert ages.look(wall_ms=clock.now_ms(), monotonic_s=clock.monotonic()) < before
    assert run_for(ages, clock, DAY_S + HOUR_S) == pytest.approx(0, abs=1)


def test_of_a_lead_that_changes_only_the_least_counts(ages: AgeClock, clock: ManualClock) -> None:
    clock.jump_wall(10 * DAY_S)
    run_for(ages, clock, DAY_S / 2)
    clock.jump_wall(-4 * DAY_S)
    run_for(ages, clock, DAY_S / 4)
    clock.jump_wall(100 * DAY_S)
    assert run_for(ages, clock, DAY_S / 4 + HOUR_S) == pytest.approx(100 * DAY_S, abs=1)


def test_the_time_in_which_nothing_ran_counts_after_a_day_of_running(clock: ManualClock) -> None:
    kept = HistoryClock(now_ms=clock.now_ms(), lead_ms=0, stood_ms=0)
    clock.pause(3 * DAY_S)
    ages = AgeClock(kept, wall_ms=clock.now_ms(), monotonic_s=clock.monotonic())
    assert run_for(ages, clock, DAY_S - HOUR_S) == pytest.approx(3 * DAY_S, abs=1)
    # A restart in between loses neither the lead nor for how long it has stood.
    ages = AgeClock(ages.state(), wall_ms=clock.now_ms(), monotonic_s=clock.monotonic())
    assert run_for(ages, clock, 2 * HOUR_S) == pytest.approx(0, abs=1)


@given(st.lists(st.tuples(st.floats(0, DAY_S), st.sampled_from([0, 0, 0, YEAR_S, -YEAR_S, HOUR_S, -HOUR_S]))))
def test_ages_are_never_ahead_of_the_wall_nor_faster_than_time_but_for_what_stood(
    steps: list[tuple[float, float]],
) -> None:
    clock = ManualClock()
    ages = AgeClock(None, wall_ms=clock.now_ms(), monotonic_s=clock.monotonic())
    last, run_s = clock.now_ms(), 0.0
    for passed_s, jump_s in steps:
        clock.pause(passed_s)
        clock.jump_wall(jump_s)
        run_s += passed_s
        now_ms = ages.look(wall_ms=clock.now_ms(), monotonic_s=clock.monotonic())
        assert now_ms <= clock.now_ms()
        if run_s * 1000 < STEP_STANDS_MS:
            assert now_ms <= last + passed_s * 1000 + 2
        last = now_ms


# The task


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, stores: Stores) -> Store:
    return stores.new(request.param)


async def history_of(cluster: Cluster, name: str, minutes: float = 60 * 24 * 300) -> list[float]:
    return [beat.cpu_load or 0.0 for beat in await cluster.registry.recent_heartbeats(name, minutes)]


async def blocks(cluster: Cluster) -> int:
    return len(await cluster.store.scan_blocks(after=0, limit=1_000_000))


async def test_blocks_are_compacted_and_every_beat_is_still_there(store: Store) -> None:
    async with open_cluster(store=store) as cluster:
        node = await cluster.node("a", heartbeat_interval_ms=60_000)
        for number in range(1, 13):
            await cluster.turn(20)
            await node.beat(cpu_load=number)
        assert await history_of(cluster, "a") == [0.0, *map(float, range(1, 13))]
        # What a start would replay has to stay; the rest is in its minutes.
        assert await blocks(cluster) < 10


async def test_a_wall_clock_that_went_back_does_not_keep_beats_from_being_compacted() -> None:
    store = MemoryStore()
    async with open_cluster(store=store) as cluster:
        node = await cluster.node("a", heartbeat_interval_ms=60_000)
        cluster.clock.jump_wall(-YEAR_S)
        for number in range(1, 13):
            await cluster.clock.advance(20)
            await node.beat(cpu_load=number)
        assert await blocks(cluster) < 10
        assert await history_of(cluster, "a") == [float(number) for number in range(1, 13)]
        cluster.clock.jump_wall(YEAR_S)
        assert len(await history_of(cluster, "a", MINUTES_MAX)) == 13


@pytest.mark.parametrize("jump_s", [YEAR_S, -YEAR_S])
async def test_a_jump_of_the_wall_clock_drops_nothing(jump_s: float) -> None:
    settings = Settings(heartbeat_raw_retention_s=HOUR_S, heartbeat_rollup_retention_s=2 * HOUR_S)
    async with open_cluster(settings=settings) as cluster:
        node = await cluster.node("a", heartbeat_interval_ms=3_600_000)
        await node.beat(cpu_load=1)
        await cluster.clock.advance(120)
        cluster.clock.jump_wall(jump_s)
        await cluster.clock.advance(600)
        await node.beat(cpu_load=2)
        cluster.clock.jump_wall(-jump_s)
        assert await history_of(cluster, "a", 60) == [0.0, 1.0]
        await cluster.clock.advance(20 * 60)
        assert await history_of(cluster, "a", 60) == [0.0, 1.0]


async def test_beats_and_then_rollups_go_by_age() -> None:
    settings = Settings(heartbeat_raw_retention_s=600, heartbeat_rollup_retention_s=1800)
    async with open_cluster(settings=settings) as cluster:
        node = await cluster.node("a", heartbeat_interval_ms=3_600_000)
        await node.beat(cpu_load=1)
        await cluster.clock.advance(500)
        await node.beat(cpu_load=2)
        await cluster.clock.advance(300)
        assert await history_of(cluster, "a") == [2.0]
        assert sum((await cluster.registry.series("a", 30, resolution=60)).beats) == 3
        await cluster.clock.advance(1200)
        assert sum((await cluster.registry.series("a", 60, resolution=60)).beats) == 1
        await cluster.clock.advance(600)
        assert sum((await cluster.registry.series("a", 60, resolution=60)).beats) == 0


async def test_history_larger_than_its_limit_loses_the_oldest_minutes() -> None:
    settings = Settings(heartbeat_history_max_bytes=1_048_576)
    async with open_cluster(settings=settings) as cluster:
        node = await cluster.node("a", heartbeat_interval_ms=3_600_000)
        for number in range(1, 120):
            await node.beat(cpu_load=number, meta={"filler": "x" * 12_000})
            await cluster.clock.advance(60)
        kept = await history_of(cluster, "a")
        assert 60 < len(kept) < 90
        assert kept == [float(number) for number in range(120 - len(kept), 120)]


async def test_history_waits_while_the_store_is_away_and_goes_on_after() -> None:
    async with open_cluster() as cluster:
        node = await cluster.node("a", heartbeat_interval_ms=3_600_000)
        for _ in range(5):
            await node.beat()
        cluster.store.away = True
        await cluster.clock.advance(300)
        assert cluster.registry.tasks.failed == []
        assert await blocks(cluster) == 6
        cluster.store.away = False
        await cluster.clock.advance(60)
        step = await cluster.store.compact_beats(closed_ms=cluster.clock.now_ms() - MINUTE_MS, settled_block=0)
        assert (step.more, step.beats) == (False, 0)
        assert len(await history_of(cluster, "a")) == 6


async def test_history_outlives_what_goes_wrong_in_it_and_tells_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_cluster() as cluster:
        node = await cluster.node("a", heartbeat_interval_ms=3_600_000)
        await node.beat()

        async def fail(**_: object) -> None:
            raise ValueError("a row that cannot be read")

        with monkeypatch.context() as patch:
            patch.setattr(cluster.store, "compact_beats", fail)
            await cluster.clock.advance(300)
        assert cluster.registry.tasks.failed == []
        assert [r.levelname for r in caplog.records if r.message == "history not looked after"] == ["ERROR"]
        await cluster.clock.advance(90)
        step = await cluster.store.compact_beats(closed_ms=cluster.clock.now_ms() - MINUTE_MS, settled_block=0)
        assert (step.more, step.beats) == (False, 0)


async def test_history_stays_over_a_restart(store: Store) -> None:
    clock = ManualClock()
    for start in range(3):
        async with open_cluster(store=store, clock=clock) as cluster:
            if start == 0:
                await cluster.node("a", heartbeat_interval_ms=3_600_000)
            await cluster.http.post("/api/nodes/a/heartbeats", json={"cpu_load": start + 1})
            await cluster.turn(150)
            assert await history_of(cluster, "a") == [0.0, 1.0, 2.0, 3.0][: start + 2]


# Series


def total(series: HeartbeatSeries) -> int:
    return sum(series.beats)


async def beat_for(cluster: Cluster, *, minutes: int, every_s: float = 10.0) -> None:
    node = await cluster.node("a", heartbeat_interval_ms=3_600_000)
    rng = random.Random(9)
    for _ in range(int(minutes * 60 / every_s)):
        await cluster.clock.advance(every_s)
        await node.beat(rng.choice(("online", "degraded")), cpu_load=rng.uniform(0, 100), mem_used_mb=rng.randrange(10))


async def test_a_series_is_the_same_from_beats_and_from_rollups() -> None:
    async with open_cluster() as cluster:
        await beat_for(cluster, minutes=12)
        fine = await cluster.registry.series("a", 15, resolution=10)
        coarse = await cluster.registry.series("a", 15, resolution=60)
        assert (fine.resolution_s, coarse.resolution_s) == (10, 60)
        for index, at in enumerate(coarse.at):
            inside = [i for i, start in enumerate(fine.at) if 0 <= (start - at).total_seconds() < 60]
            assert coarse.beats[index] == sum(fine.beats[i] for i in inside)
            statuses = {fine.status[i] for i in inside} - {None}
            assert coarse.status[index] == ("degraded" if "degraded" in statuses else min(statuses, default=None))
            most = [value for i in inside if (value := fine.cpu_load.max[i]) is not None]
            assert coarse.cpu_load.max[index] == max(most, default=None)


async def test_a_series_has_one_item_for_each_bucket_and_null_where_nothing_came() -> None:
    async with open_cluster() as cluster:
        node = await cluster.node("a", heartbeat_interval_ms=3_600_000)
        await cluster.clock.advance(90)
        await node.beat("degraded", cpu_load=10)
        await node.beat(cpu_load=30, latency_ms=2)
        await cluster.clock.advance(40)
        series = await cluster.registry.series("a", 4, resolution=60)
        assert [(at.timestamp() * 1000 - START_MS) / MINUTE_MS for at in series.at] == [-2, -1, 0, 1, 2]
        assert (series.since, (series.until - series.at[-1]).total_seconds()) == (series.at[0], 60)
        assert series.beats == [0, 0, 1, 2, 0]
        assert series.status == [None, None, "online", "degraded", None]
        assert series.cpu_load.min == [None, None, None, 10.0, None]
        assert series.cpu_load.mean == [None, None, None, 20.0, None]
        assert series.cpu_load.max == [None, None, None, 30.0, None]
        assert series.latency_ms.mean == [None, None, None, 2.0, None]
        assert series.mem_used_mb.max == [None] * 5


async def test_a_fine_series_is_by_minutes_where_beats_are_no_longer_kept() -> None:
    async with open_cluster(settings=Settings(heartbeat_raw_retention_s=300)) as cluster:
        await beat_for(cluster, minutes=15)
        recent, old = [await cluster.registry.series("a", minutes, resolution=10) for minutes in (3, 15)]
        assert (recent.resolution_s, old.resolution_s) == (10, 60)
        assert total(old) == 91
        assert len(old.at) == 16
        assert (await cluster.registry.series("a", 15)).resolution_s == 60


async def test_a_deregistered_node_has_its_series_by_id() -> None:
    async with open_cluster() as cluster:
        await cluster.node("a")
        node = await cluster.registry.deregister("a", force=True)
        assert total(await cluster.registry.series(node.id.upper())) == 1
        with pytest.raises(UnknownNode):
            await cluster.registry.series("a")


@pytest.mark.parametrize(
    ("minutes", "resolution", "problem"),
    [
        (0, None, "minutes: should be more than 0 and at most 527,040"),
        (MINUTES_MAX + 1, None, "minutes: should be"),
        (60, 0, "resolution: should be whole seconds from 1 to 60, or a multiple of 60"),
        (60, 90, "resolution: should be whole seconds from 1 to 60, or a multiple of 60"),
        (1440, 1, "resolution: gives more than 10,000 buckets of 1440 minutes; should be 9 or more"),
        (MINUTES_MAX, 60, "resolution: gives more than 10,000 buckets of 527040 minutes; should be 3180 or more"),
    ],
)
async def test_a_series_that_cannot_be_is_refused_with_what_would_be_right(
    minutes: float, resolution: int | None, problem: str
) -> None:
    async with open_cluster() as cluster:
        await cluster.node("a")
        with pytest.raises(InvalidInput, match=problem):
            await cluster.registry.series("a", minutes, resolution=resolution)


async def test_what_a_refusal_says_would_be_right_is() -> None:
    async with open_cluster() as cluster:
        await cluster.node("a")
        for minutes, resolution in ((1440.0, 9), (float(MINUTES_MAX), 3180)):
            series = await cluster.registry.series("a", minutes, resolution=resolution)
            assert (total(series), len(series.at) <= 10_001) == (1, True)


@given(st.floats(0.1, MINUTES_MAX))
def test_the_resolution_that_is_chosen_gives_few_buckets_of_a_usual_length(minutes: float) -> None:
    resolution_s = fitting_resolution_s(minutes)
    assert minutes * 60 / resolution_s <= BUCKETS_WANTED
    assert resolution_s <= 60 or resolution_s % 60 == 0


async def test_heartbeats_are_thinned_for_one_node_only() -> None:
    async with open_cluster() as cluster:
        await beat_for(cluster, minutes=5)
        everything = await cluster.registry.recent_heartbeats("a")
        thinned = await cluster.registry.recent_heartbeats("a", resolution=60)
        last = {beat.at.replace(second=0, microsecond=0): beat for beat in everything}
        assert thinned == list(last.values())
        assert await cluster.registry.recent_heartbeats("a", resolution=60, limit=2) == thinned[-2:]
        with pytest.raises(InvalidInput, match="resolution: is for the heartbeats of one node"):
            await cluster.registry.recent_heartbeats(resolution=60)
        with pytest.raises(InvalidInput, match="resolution: should be seconds"):
            await cluster.registry.recent_heartbeats("a", resolution=0)


def test_a_series_is_what_its_documentation_says() -> None:
    fields = [field.name for field in msgspec.structs.fields(HeartbeatSeries)]
    assert fields == [
        *("node_id", "since", "until", "resolution_s", "at", "beats", "status"),
        *("cpu_load", "mem_used_mb", "latency_ms"),
    ]
