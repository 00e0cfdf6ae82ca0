"""What a reader of heartbeat history collects."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappush, heappushpop

from thunderline.block.beats import PackedBeat


class Wanted:
    """The beats that a reader asks for, as they are found, newest parts first."""

    def __init__(self, key: bytes | None, since_ms: int, until_ms: int, limit: int) -> None:
        self.key = key
        self.since_ms = since_ms
        self.until_ms = until_ms
        self._limit = limit
        self._newest: list[int] = []  # a heap: the times of the newest `limit` found so far
        self._found: list[tuple[int, bytes, int, int, PackedBeat]] = []

    def is_beyond(self, at_ms: int) -> bool:
        """Whether enough beats are found that are newer than `at_ms`."""
        return len(self._newest) >= self._limit and self._newest[0] > at_ms

    def add(self, beats: Iterable[PackedBeat], *, block: int) -> None:
        for index, beat in enumerate(beats):
            if (self.key is None or beat.node_key == self.key) and self.since_ms <= beat.at_ms < self.until_ms:
                if self.is_beyond(beat.at_ms):
                    continue
                self._found.append((beat.at_ms, beat.node_key, block, index, beat))
                (heappush if len(self._newest) < self._limit else heappushpop)(self._newest, beat.at_ms)

    def beats(self) -> list[PackedBeat]:
        """What was found, in order; of one node and time, what is in its minute comes before what is in blocks."""
        self._found.sort()
        return [beat for *_, beat in self._found]
