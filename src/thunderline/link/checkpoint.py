"""Presence checkpoints: what lets a start find each node's latest beat without reading all of history.

Beats go to blocks only. Now and then the presences that changed are written beside a commit that happens anyway, a
slice at a time; when the last slice of a round is written, so is the block up to which all of them are complete. A
start loads the presences and replays the blocks after that one. Beats that were already counted are recognised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from thunderline.block.beats import PackedBeat
from thunderline.block.store import PresenceRow, Store
from thunderline.core.clock import Clock
from thunderline.link.roster import Roster

ROUND_S: Final = 30.0
"""Between two rounds: a start replays about this much of history. Shorter writes each live node's row more often."""

SLICE: Final = 256
"""Presences in one commit: under a millisecond of it."""

REPLAY_PAGE: Final = 256


class PresenceCheckpoint:
    """The rounds of one process. A batch takes rows; they are spent when it commits, or put back."""

    def __init__(self, roster: Roster, *, clock: Clock) -> None:
        self._roster = roster
        self._clock = clock
        self._next_round = clock.monotonic() + ROUND_S
        self._changed: dict[bytes, None] = {}
        self._pending: list[bytes] = []
        self._in_flight: list[bytes] = []
        self._newest_block = 0
        self._round_block: int | None = None

    async def restore(self, store: Store) -> int:
        """Bring stored presences, and the beats after them, into the roster; gives the number of beats replayed."""
        after = None
        while rows := await store.scan_presence(after=after, limit=REPLAY_PAGE * 16):
            for row in rows:
                if (entry := self._roster.get(row.node_id)) is not None:
                    entry.restore_presence(row)
            after = rows[-1].node_id
        self._newest_block = await store.presence_block()
        replayed = 0
        entry_of, changed = self._roster.by_key, self._changed
        while blocks := await store.scan_blocks(after=self._newest_block, limit=REPLAY_PAGE):
            for block in blocks:
                replayed += len(block.beats)
                for beat in block.beats:
                    key = beat.node_key
                    if (entry := entry_of(key)) is not None:
                        entry.keep(beat)
                        changed[key] = None
            self._newest_block = blocks[-1].id
        return replayed

    def beats_committed(self, beats: Sequence[PackedBeat], block_id: int | None) -> None:
        """A batch was committed, and with it the rows that it took."""
        self._in_flight = []
        if self._round_block is not None and not self._pending:
            self._round_block = None
        for beat in beats:
            self._changed[beat.node_key] = None
        if block_id is not None:
            self._newest_block = block_id

    def take_rows(self) -> list[PresenceRow]:
        """The slice that the next batch should carry; empty between rounds."""
        if self._round_block is None:
            if self._clock.monotonic() < self._next_round:
                return []
            self._next_round = self._clock.monotonic() + ROUND_S
            self._pending = list(self._changed)
            self._changed = {}
            self._round_block = self._newest_block
        self._in_flight = self._pending[-SLICE:]
        del self._pending[-SLICE:]
        entries = [self._roster.by_key(key) for key in self._in_flight]
        return [entry.presence_row() for entry in entries if entry is not None]

    def finished_block(self) -> int | None:
        """The block that the round covers, if the rows just taken are its last."""
        return None if self._pending else self._round_block

    def put_back(self) -> None:
        """The batch was not written: its rows belong to a later one."""
        self._pending += self._in_flight
        self._in_flight = []
