"""Heartbeat history: what turns the newest beats into minutes, forgets the oldest, and reads both.

Ages are measured by `Ages` (`link/ages.py`), never by the wall clock alone: a step of it must not cost anybody their
history. Not guaranteed: that history keeps within its size at every moment; it is looked at every `LOOK_S`.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Final

import msgspec

from thunderline.block.beats import to_heartbeat
from thunderline.block.rollups import MINUTE_MS, Bucket, Figure, Rollup, bucket_of
from thunderline.block.store import Store
from thunderline.core.clock import Clock, from_ms
from thunderline.core.errors import InvalidInput, StoreUnavailable, UnknownNode
from thunderline.core.ids import NodeId, is_uuid
from thunderline.core.logging import get_logger
from thunderline.core.records import BeatStatus, Heartbeat
from thunderline.core.settings import Settings
from thunderline.link.ages import Ages
from thunderline.link.roster import Roster

log = get_logger(__name__)

LOOK_S: Final = 15.0
"""Between two looks at what there is to compact and to forget, with jitter. The newest beats are read from blocks, of
which shorter keeps fewer; longer writes each minute at once more often."""

SETTLED_S: Final = 90.0
"""A block that has been there for so long is compacted whatever its times are: the wall clock may have gone back."""

CLOSED_AFTER_MS: Final = 2_000
"""A minute is closed so long after its end: its last beats are being committed until then."""

HEARTBEATS_MAX: Final = 10_000
"""Beats in one answer at most, the newest."""

MINUTES_MAX: Final = 60 * 24 * 366
BUCKETS_MAX: Final = 10_000
BUCKETS_WANTED: Final = 300
"""Buckets in one series at most, and at most where nobody says how long they should be."""

RESOLUTIONS_S: Final = (10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
"""What is chosen from where nobody says; beyond the last, whole days."""


class FigureSeries(msgspec.Struct, frozen=True, kw_only=True):
    """One figure, bucket by bucket; null where no beat had it."""

    min: list[float | None]
    mean: list[float | None]
    max: list[float | None]


class HeartbeatSeries(msgspec.Struct, frozen=True, kw_only=True):
    """A node's heartbeats in columns, one item for each bucket from `since` to `until`.

    Buckets are `resolution_s` long and aligned to wall time; `at` is where each begins. `status` is the worst that the
    node said of itself, null without a beat.
    """

    node_id: NodeId
    since: datetime
    until: datetime
    resolution_s: int
    at: list[datetime]
    beats: list[int]
    status: list[BeatStatus | None]
    cpu_load: FigureSeries
    mem_used_mb: FigureSeries
    latency_ms: FigureSeries


class History:
    """Reads of history, and the task that keeps it compact and within its limits."""

    def __init__(
        self,
        store: Store,
        roster: Roster,
        *,
        clock: Clock,
        settings: Settings,
        rng: random.Random,
        ages: Ages,
        store_is_away: Callable[[], bool],
    ) -> None:
        self._store = store
        self._roster = roster
        self._clock = clock
        self._settings = settings
        self._rng = rng
        self._store_is_away = store_is_away
        self._ages = ages
        self.size_bytes: int | None = None
        """About what history took when it was looked at last; None before."""
        self._blocks_seen: deque[tuple[float, int]] = deque()
        """When the newest block was which, oldest first; back to the newest that is settled."""

    async def run(self) -> None:
        """Look after history every `LOOK_S` or so while the store is there, until cancelled."""
        told = ""
        while True:
            await self._clock.sleep(LOOK_S * self._rng.uniform(0.8, 1.2))
            if self._store_is_away():
                continue
            try:
                await self.look_after()
            except StoreUnavailable as error:
                # Once for each reason: a disk may stay full for days.
                if error.reason != told:
                    log.warning("history not looked after", reason=error.reason)
                told = error.reason
            except Exception as error:
                # A bug of ours, or a row that cannot be read: without this task the store would grow without end and
                # reads get slower and slower, so it tries again. Once for each reason, too.
                if repr(error) != told:
                    log.exception("history not looked after", reason=repr(error))
                told = repr(error)
            else:
                told = ""

    async def look_after(self) -> None:
        """Compact what may be compacted and forget what should be, in steps between which commits go on.

        Raises: StoreUnavailable; what was done by then stays done.
        """
        now_ms = await self._ages.now_ms()
        started = self._clock.monotonic()
        beats = await self._compact()
        size_bytes, trimmed = await self._trim(now_ms)
        self.size_bytes = size_bytes
        if beats or trimmed:
            log.debug(
                "history looked after",
                beats=beats,
                steps_trimmed=trimmed,
                size_bytes=size_bytes,
                took_s=round(self._clock.monotonic() - started, 3),
            )

    async def _compact(self) -> int:
        closed_ms = bucket_of(self._clock.now_ms() - CLOSED_AFTER_MS, MINUTE_MS)
        settled_block = self._settled_block()
        beats = 0
        while not self._store_is_away():
            step = await self._store.compact_beats(closed_ms=closed_ms, settled_block=settled_block)
            beats += step.beats
            if not step.more:
                self._blocks_seen.append((self._clock.monotonic(), step.newest_block))
                break
        return beats

    def _settled_block(self) -> int:
        """The newest block that was there `SETTLED_S` ago, by the monotonic clock."""
        settled_at = self._clock.monotonic() - SETTLED_S
        while len(self._blocks_seen) > 1 and self._blocks_seen[1][0] <= settled_at:
            self._blocks_seen.popleft()
        if self._blocks_seen and self._blocks_seen[0][0] <= settled_at:
            return self._blocks_seen[0][1]
        return 0

    async def _trim(self, now_ms: int) -> tuple[int, int]:
        steps = size_bytes = 0
        while not self._store_is_away():
            step = await self._store.trim_beats(
                raw_before_ms=now_ms - round(self._settings.heartbeat_raw_retention_s * 1000),
                rollups_before_ms=now_ms - round(self._settings.heartbeat_rollup_retention_s * 1000),
                max_bytes=self._settings.heartbeat_history_max_bytes,
            )
            size_bytes = step.size_bytes
            if not step.more:
                break
            steps += 1
        return size_bytes, steps

    # Reading

    async def recent_heartbeats(
        self, ref: str | None, *, minutes: float, limit: int, resolution_s: int | None
    ) -> list[Heartbeat]:
        """The newest `limit` beats of the last `minutes`, in ascending time; of one node, or of all.

        With `resolution_s`, for one node alone, only the last beat in each bucket of that length counts. Raises:
        UnknownNode, InvalidInput.
        """
        node_id = None if ref is None else self._find(ref)
        _check_minutes(minutes)
        if resolution_s is not None and not 1 <= resolution_s <= MINUTES_MAX * 60:
            raise InvalidInput("resolution", f"should be seconds, from 1 to {MINUTES_MAX * 60:,}")
        if resolution_s is not None and node_id is None:
            raise InvalidInput("resolution", "is for the heartbeats of one node")
        now_ms = self._clock.now_ms()
        beats = await self._store.read_beats(
            node_id=node_id,
            since_ms=now_ms - round(minutes * MINUTE_MS),
            # What is committed within this very millisecond counts as past.
            until_ms=now_ms + 1,
            limit=min(limit, HEARTBEATS_MAX),
            every_ms=None if resolution_s is None else resolution_s * 1000,
        )
        return [to_heartbeat(beat, node_id=node_id) for beat in beats]

    async def series(self, ref: str, *, minutes: float, resolution_s: int | None) -> HeartbeatSeries:
        """The node's beats of the last `minutes` in buckets; without `resolution_s`, of a length that fits.

        Below a minute it needs the beats one by one: where some of the window are no longer kept so, the buckets are
        a minute long. Raises: UnknownNode, InvalidInput.
        """
        node_id = self._find(ref)
        _check_minutes(minutes)
        if resolution_s is None:
            resolution_s = fitting_resolution_s(minutes)
        elif resolution_s < 1 or (resolution_s > 60 and resolution_s % 60) or resolution_s > MINUTES_MAX * 60:
            raise InvalidInput("resolution", "should be whole seconds from 1 to 60, or a multiple of 60")
        elif minutes * 60 > BUCKETS_MAX * resolution_s:
            least = math.ceil(minutes * 60 / BUCKETS_MAX)
            least = least if least <= 60 else math.ceil(least / 60) * 60
            raise InvalidInput(
                "resolution",
                f"gives more than {BUCKETS_MAX:,} buckets of {minutes:g} minutes; should be {least} or more",
            )
        now_ms = self._clock.now_ms()
        while True:
            bucket_ms = resolution_s * 1000
            since_ms = bucket_of(now_ms - round(minutes * MINUTE_MS), bucket_ms)
            until_ms = bucket_of(now_ms, bucket_ms) + bucket_ms
            buckets = await self._store.read_rollups(
                node_id=node_id, since_ms=since_ms, until_ms=until_ms, bucket_ms=bucket_ms
            )
            if buckets is not None:
                return _columns(node_id, buckets, since_ms=since_ms, until_ms=until_ms, resolution_s=resolution_s)
            resolution_s = 60

    def _find(self, ref: str) -> NodeId:
        """The id of a node, also of a deregistered one where `ref` is its id. Raises: UnknownNode."""
        try:
            return self._roster.find(ref).node.id
        except UnknownNode:
            if not is_uuid(ref):
                raise
            return NodeId(ref.lower())


def fitting_resolution_s(minutes: float) -> int:
    """The shortest usual resolution in which so many minutes are `BUCKETS_WANTED` buckets at most."""
    wanted = minutes * 60 / BUCKETS_WANTED
    days = math.ceil(wanted / 86_400) * 86_400
    return next((resolution for resolution in RESOLUTIONS_S if resolution >= wanted), days)


def _check_minutes(minutes: float) -> None:
    if not 0 < minutes <= MINUTES_MAX:
        raise InvalidInput("minutes", f"should be more than 0 and at most {MINUTES_MAX:,}")


def _columns(
    node_id: NodeId, buckets: list[Bucket], *, since_ms: int, until_ms: int, resolution_s: int
) -> HeartbeatSeries:
    found: dict[int, Rollup] = {bucket.at_ms: bucket.rollup for bucket in buckets}
    starts = range(since_ms, until_ms, resolution_s * 1000)
    rollups = [found.get(start) for start in starts]
    return HeartbeatSeries(
        node_id=node_id,
        since=from_ms(since_ms),
        until=from_ms(until_ms),
        resolution_s=resolution_s,
        at=[from_ms(start) for start in starts],
        beats=[0 if rollup is None else rollup.beats for rollup in rollups],
        status=[None if rollup is None else rollup.worst for rollup in rollups],
        cpu_load=_figure([None if rollup is None else rollup.cpu_load for rollup in rollups]),
        mem_used_mb=_figure([None if rollup is None else rollup.mem_used_mb for rollup in rollups]),
        latency_ms=_figure([None if rollup is None else rollup.latency_ms for rollup in rollups]),
    )


def _figure(figures: list[Figure | None]) -> FigureSeries:
    return FigureSeries(
        min=[None if figure is None else figure.least for figure in figures],
        mean=[None if figure is None else figure.mean for figure in figures],
        max=[None if figure is None else figure.most for figure in figures],
    )
