"""What is kept of a node's beats minute by minute: the beats in a packed row, and a rollup that outlives them.

All of it is pure and exact: rolling up parts and merging them gives what rolling up everything would, up to the
rounding of sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from thunderline.block.beats import PackedBeat
from thunderline.core.records import BeatStatus, JsonObject

MINUTE_MS: Final = 60_000

STATUSES: Final = (BeatStatus.ONLINE, BeatStatus.DEGRADED, BeatStatus.OFFLINE)
"""From the best to the worst. Stored by position: add at the end only."""

_CODES: Final = {status: code for code, status in enumerate(STATUSES)}


class Figure(msgspec.Struct, frozen=True, gc=False):
    """One figure over the beats that had it: how many those were, and the least, the sum and the most of them."""

    count: int
    least: float
    total: float
    most: float

    @property
    def mean(self) -> float:
        """The mean; rounding never takes it out of the range."""
        return min(max(self.total / self.count, self.least), self.most)


class Rollup(msgspec.Struct, frozen=True, gc=False):
    """What some beats have in common; a figure is None when none of them had it."""

    beats: int
    worst: BeatStatus
    cpu_load: Figure | None
    mem_used_mb: Figure | None
    latency_ms: Figure | None


class Bucket(msgspec.Struct, frozen=True, gc=False):
    """The beats of one node from `at_ms` on, for as long as the reader asked."""

    at_ms: int
    rollup: Rollup


class _KeptBeat(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A beat in its minute's row, which tells node and minute. Fields may be added at the end only."""

    offset_ms: int
    incarnation: int
    seq: int | None
    status: int
    cpu_load: float | None
    mem_used_mb: float | None
    latency_ms: float | None
    peers: dict[str, float | None] | None = None
    meta: JsonObject | None = None
    late_ms: int = 0


_ENCODER: Final = msgspec.msgpack.Encoder()
_KEPT: Final = msgspec.msgpack.Decoder(list[_KeptBeat])


def minute_of(at_ms: int) -> int:
    """The minute since 1970 that holds `at_ms`."""
    return at_ms // MINUTE_MS


def bucket_of(at_ms: int, length_ms: int) -> int:
    """The start of the bucket of that length that holds `at_ms`; buckets are aligned to wall time."""
    return at_ms // length_ms * length_ms


def pack_minute(minute: int, beats: Iterable[PackedBeat]) -> bytes:
    """The row of `beats`, all of one node and of that minute."""
    start_ms = minute * MINUTE_MS
    packed: list[tuple[object, ...]] = []
    for beat in beats:
        kept = (
            beat.at_ms - start_ms,
            beat.incarnation,
            beat.seq,
            _CODES[beat.status],
            beat.cpu_load,
            beat.mem_used_mb,
            beat.latency_ms,
        )
        # Most beats have nothing else to say, and every byte is kept by the million.
        has_more = beat.peers is not None or beat.meta is not None or beat.late_ms
        packed.append((*kept, beat.peers, beat.meta, beat.late_ms) if has_more else kept)
    return _ENCODER.encode(packed)


def unpack_minute(row: bytes, *, node_key: bytes, minute: int) -> list[PackedBeat]:
    """The beats of a row, in the order in which they were packed."""
    start_ms = minute * MINUTE_MS
    return [
        PackedBeat(
            node_key,
            start_ms + kept.offset_ms,
            kept.incarnation,
            kept.seq,
            STATUSES[kept.status],
            kept.cpu_load,
            kept.mem_used_mb,
            kept.latency_ms,
            kept.peers,
            kept.meta,
            kept.late_ms,
        )
        for kept in _KEPT.decode(row)
    ]


def roll_up(beats: Sequence[PackedBeat]) -> Rollup:
    """The rollup of `beats`, of which there is at least one."""
    return Rollup(
        len(beats),
        STATUSES[max(_CODES[beat.status] for beat in beats)],
        _figure([beat.cpu_load for beat in beats if beat.cpu_load is not None]),
        _figure([beat.mem_used_mb for beat in beats if beat.mem_used_mb is not None]),
        _figure([beat.latency_ms for beat in beats if beat.latency_ms is not None]),
    )


def merge(one: Rollup, other: Rollup) -> Rollup:
    """The rollup of the beats of both."""
    return Rollup(
        one.beats + other.beats,
        STATUSES[max(_CODES[one.worst], _CODES[other.worst])],
        _merge_figure(one.cpu_load, other.cpu_load),
        _merge_figure(one.mem_used_mb, other.mem_used_mb),
        _merge_figure(one.latency_ms, other.latency_ms),
    )


def roll_up_buckets(beats: Iterable[PackedBeat], length_ms: int) -> dict[int, Rollup]:
    """A rollup for each bucket of that length in which there are beats, by its start."""
    by_start: dict[int, list[PackedBeat]] = {}
    for beat in beats:
        by_start.setdefault(bucket_of(beat.at_ms, length_ms), []).append(beat)
    return {start: roll_up(found) for start, found in by_start.items()}


def add_buckets(buckets: dict[int, Rollup], more: dict[int, Rollup]) -> None:
    """Merge `more` into `buckets`."""
    for start, rollup in more.items():
        known = buckets.get(start)
        buckets[start] = rollup if known is None else merge(known, rollup)


def thin(beats: Iterable[PackedBeat], every_ms: int) -> list[PackedBeat]:
    """The last of one node's `beats`, which are in ascending time, in each bucket of that length; in order."""
    return list({beat.at_ms // every_ms: beat for beat in beats}.values())


def in_time(beat: PackedBeat) -> tuple[int, bytes]:
    """Sorts beats as they are read: by time, then by node; those of one node and time keep their order."""
    return (beat.at_ms, beat.node_key)


FIGURE_COLUMNS: Final = 4
ROLLUP_COLUMNS: Final = 2 + 3 * FIGURE_COLUMNS


def rollup_columns(rollup: Rollup) -> tuple[object, ...]:
    """`rollup` as the columns of its row: beats, worst, then count, least, total and most of each figure."""
    columns: tuple[object, ...] = (rollup.beats, _CODES[rollup.worst])
    for figure in (rollup.cpu_load, rollup.mem_used_mb, rollup.latency_ms):
        columns += (0, None, None, None) if figure is None else (figure.count, figure.least, figure.total, figure.most)
    return columns


def read_rollup(columns: Sequence[object]) -> Rollup:
    """The rollup of a row, or of rows that the database merged."""
    beats, worst, *rest = columns
    figures = [
        Figure(*rest[at : at + FIGURE_COLUMNS]) if rest[at] else None  # type: ignore[arg-type]  # the row's own types
        for at in range(0, 3 * FIGURE_COLUMNS, FIGURE_COLUMNS)
    ]
    assert isinstance(beats, int)
    assert isinstance(worst, int)
    return Rollup(beats, STATUSES[worst], *figures)


def _figure(values: Sequence[float]) -> Figure | None:
    return Figure(len(values), min(values), float(sum(values)), max(values)) if values else None


def _merge_figure(one: Figure | None, other: Figure | None) -> Figure | None:
    if one is None or other is None:
        return one or other
    return Figure(
        one.count + other.count,
        min(one.least, other.least),
        one.total + other.total,
        max(one.most, other.most),
    )
