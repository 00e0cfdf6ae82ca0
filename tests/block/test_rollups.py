"""Rollups are exact however the beats are parted; minutes are unpacked as they were packed."""

from __future__ import annotations

import random
from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from thunderline.block.rollups import (
    MINUTE_MS,
    Bucket,
    Rollup,
    add_buckets,
    merge,
    minute_of,
    pack_minute,
    read_rollup,
    roll_up,
    roll_up_buckets,
    rollup_columns,
    unpack_minute,
)
from thunderline.core.records import BeatStatus
from thunderline.testing.clock import START_MS
from thunderline.testing.history_suite import expect_buckets, naive_buckets, random_beat
from thunderline.testing.records import make_beat, node_id


@given(st.integers(), st.lists(st.integers(1, 5), min_size=1, max_size=8))
def test_merging_parts_is_rolling_up_the_whole(seed: int, sizes: list[int]) -> None:
    rng = random.Random(seed)
    parts = [[random_beat(rng, START_MS) for _ in range(size)] for size in sizes]
    merged = reduce(merge, [roll_up(part) for part in parts])
    whole = naive_buckets([beat for part in parts for beat in part], MINUTE_MS)
    expect_buckets([Bucket(START_MS, merged)], whole, "merged")


@given(st.integers(), st.sampled_from([1, 1000, 7000, MINUTE_MS, 5 * MINUTE_MS]))
def test_buckets_added_part_by_part_are_those_of_the_whole(seed: int, length_ms: int) -> None:
    rng = random.Random(seed)
    beats = [random_beat(rng, START_MS + rng.randrange(10 * MINUTE_MS)) for _ in range(30)]
    found: dict[int, Rollup] = {}
    for start in range(0, 30, 7):
        add_buckets(found, roll_up_buckets(beats[start : start + 7], length_ms))
    buckets = [Bucket(at_ms, rollup) for at_ms, rollup in sorted(found.items())]
    expect_buckets(buckets, naive_buckets(beats, length_ms), "buckets")


@given(st.integers(), st.integers(0, 20))
def test_a_minute_is_unpacked_as_it_was_packed(seed: int, count: int) -> None:
    rng = random.Random(seed)
    beats = [random_beat(rng, START_MS + rng.randrange(MINUTE_MS), node_key=b"k" * 16) for _ in range(count)]
    row = pack_minute(minute_of(START_MS), beats)
    assert unpack_minute(row, node_key=b"k" * 16, minute=minute_of(START_MS)) == beats


@given(st.integers())
def test_a_rollup_is_read_as_it_was_stored(seed: int) -> None:
    rng = random.Random(seed)
    rollup = roll_up([random_beat(rng, START_MS) for _ in range(rng.randrange(1, 4))])
    assert read_rollup(rollup_columns(rollup)) == rollup


def test_the_worst_status_is_offline_then_degraded() -> None:
    beats = {status: make_beat(node_id(1), status=status) for status in BeatStatus}
    online, degraded, offline = (beats[BeatStatus(s)] for s in ("online", "degraded", "offline"))
    assert roll_up([online, degraded, online]).worst == "degraded"
    assert merge(roll_up([degraded]), roll_up([offline, online])).worst == "offline"
    assert merge(roll_up([online]), roll_up([online])).worst == "online"


def test_figures_that_no_beat_had_stay_unknown() -> None:
    bare, figured = make_beat(node_id(1)), make_beat(node_id(1), cpu_load=4.0)
    assert roll_up([bare]).cpu_load is None
    merged = merge(roll_up([bare]), roll_up([figured]))
    assert merged.latency_ms is None
    assert merged.cpu_load is not None
    assert (merged.beats, merged.cpu_load.count, merged.cpu_load.mean) == (2, 1, 4.0)


def test_a_mean_stays_between_the_least_and_the_most() -> None:
    rollup = roll_up([make_beat(node_id(1), cpu_load=0.1) for _ in range(3)])
    assert rollup.cpu_load is not None
    assert rollup.cpu_load.mean == 0.1  # although the sum is not exactly 0.3
