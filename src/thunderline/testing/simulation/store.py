"""The store of a simulated registry: in memory, as slow as a disk, and away when the scenario says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from thunderline.block.memory import MemoryStore
from thunderline.block.store import CompactionStep, TrimStep, WriteBatch
from thunderline.core.errors import StoreUnavailable
from thunderline.core.ids import IdSource
from thunderline.core.records import Event


class SimulatedStore(MemoryStore):
    """Outlives the registries that open it. Without `keeps_history` only beats that a restart replays are kept."""

    location = "simulated"

    def __init__(
        self, *, ids: IdSource, commit_s: float, keeps_history: bool, committed: Callable[[Sequence[Event]], None]
    ) -> None:
        """`committed` hears the events of each commit."""
        super().__init__(ids=ids)
        self.away = False
        """Whether commits fail."""
        self.commits = self.beats = 0
        self._committed = committed
        self._commit_s = commit_s
        self._keeps_history = keeps_history

    async def commit(self, batch: WriteBatch) -> int | None:
        await asyncio.sleep(self._commit_s)
        if self.away:
            raise StoreUnavailable("away, as the scenario says")
        block = await super().commit(batch)
        self.commits += 1
        self.beats += len(batch.beats)
        self._committed(batch.events)
        return block

    async def count_beats(self) -> int:
        """How many beats are in history."""
        return len(await self.read_beats(node_id=None, since_ms=-(2**62), until_ms=2**62, limit=2**62))

    async def probe(self) -> None:
        if self.away:
            raise StoreUnavailable("away, as the scenario says")
        await super().probe()

    async def compact_beats(self, *, closed_ms: int, settled_block: int) -> CompactionStep:
        if self._keeps_history:
            return await super().compact_beats(closed_ms=closed_ms, settled_block=settled_block)
        for id_ in [id_ for id_ in self._blocks if id_ <= self._presence_block]:
            del self._blocks[id_]
        return CompactionStep(more=False, beats=0, newest_block=self._newest_block)

    async def trim_beats(self, *, raw_before_ms: int, rollups_before_ms: int, max_bytes: int) -> TrimStep:
        if self._keeps_history:
            return await super().trim_beats(
                raw_before_ms=raw_before_ms, rollups_before_ms=rollups_before_ms, max_bytes=max_bytes
            )
        return TrimStep(more=False, size_bytes=0)
