"""Which of the blocks that are not compacted yet hold beats of a node: an index in memory.

What compaction has taken is found by (minute, node); the newest minute or so stands in blocks, each of which holds
beats of whoever was heard in one commit. With the index a reader of one node opens that node's blocks alone. It tells
too much now and then (a block that was rolled back), never too little.

Not guaranteed: that all blocks are known. Those up to `Known.since`, from before the store was opened, are searched.
"""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from thunderline.block.beats import PackedBeat

BEATS_MAX: Final = 4_000_000
"""Beats in the index at most, some 9 bytes each: over a minute of 50,000/s. Beyond it the index begins anew, and what
it knew is searched until compaction has taken it."""

FORGOTTEN_KEYS: Final = 1_000
"""Nodes that are looked at while commits wait: a fraction of a millisecond."""


class Known(NamedTuple):
    """What the index knows of one node."""

    blocks: list[int]
    """Ascending; each once."""
    since: int
    """Blocks up to this one are not in the index."""
    forgotten: int
    """Blocks up to this one are no longer in it, since they are compacted."""


class RecentBlocks:
    """The index. The writer's thread adds before it commits, the planner's forgets, the reader's asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: dict[bytes, list[int]] = {}
        self._beats = 0
        self._since = 0
        self._forgotten = 0
        self._seeded = (0, 0)  # from where a scan went, and how far it came
        self._beginnings = 0

    def begin(self, newest_block: int) -> None:
        """Know the blocks after `newest_block` from now on."""
        with self._lock:
            self._begin(newest_block)

    def add(self, block_id: int, beats: Sequence[PackedBeat]) -> None:
        """A block that is about to be committed. Called for every commit: it should cost next to nothing."""
        with self._lock:
            if self._beats > BEATS_MAX:
                self._begin(block_id)
                return
            self._beats += len(beats)
            blocks = self._blocks
            for beat in beats:
                key = beat.node_key
                if key in blocks:
                    blocks[key].append(block_id)
                else:
                    blocks[key] = [block_id]

    def seed(self, after: int, page: Iterable[tuple[int, Sequence[PackedBeat]]]) -> None:
        """Blocks that a scan from `after` on has come by; pages that reach `since` in a row are known from then on."""
        with self._lock:
            since, beginning = self._since, self._beginnings
            began, came_to = self._seeded
        if after >= since:
            return
        if after != came_to:
            began = after
        for block_id, beats in page:
            came_to = block_id
            if block_id > since:
                break
            with self._lock:
                self._beats += len(beats)
                blocks = self._blocks
                for beat in beats:
                    key = beat.node_key
                    if key not in blocks:
                        blocks[key] = [block_id]
                    elif blocks[key][-1] <= block_id:
                        blocks[key].append(block_id)
                    else:
                        insort(blocks[key], block_id)
        with self._lock:
            if beginning != self._beginnings:
                # The index began anew in between, and some of this page is no longer in it.
                return
            self._seeded = (began, came_to)
            if came_to >= since == self._since:
                self._since = began

    def of(self, key: bytes) -> Known:
        """What is known of the node with that key."""
        with self._lock:
            return Known(list(dict.fromkeys(self._blocks.get(key, ()))), self._since, self._forgotten)

    def forget(self, compacted_block: int) -> None:
        """Blocks up to `compacted_block` are compacted, and no reader needs them who begins now."""
        with self._lock:
            if compacted_block <= self._forgotten:
                return
            self._forgotten = compacted_block
            keys = list(self._blocks)
        for start in range(0, len(keys), FORGOTTEN_KEYS):
            with self._lock:
                for key in keys[start : start + FORGOTTEN_KEYS]:
                    ids = self._blocks.get(key)
                    if ids is None:
                        continue
                    gone = bisect_right(ids, compacted_block)
                    self._beats -= gone
                    if gone == len(ids):
                        del self._blocks[key]
                    elif gone:
                        del ids[:gone]

    def _begin(self, since: int) -> None:
        self._blocks = {}
        self._beats = 0
        self._since = since
        # What a scan came by so far went with the blocks: a later page must not go on from there.
        self._seeded = (0, 0)
        self._beginnings += 1
