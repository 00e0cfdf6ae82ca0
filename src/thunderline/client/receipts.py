"""Who waits for which beat to become durable."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from thunderline.client.link_errors import BeatDropped, BeatRefused


class Receipts:
    """Futures for beats, by number, and for everything up to a number."""

    def __init__(self) -> None:
        self._beats: dict[int, asyncio.Future[None]] = {}
        self._flushes: list[tuple[int, asyncio.Future[None]]] = []

    def of(self, seq: int, receipt: asyncio.Future[None]) -> None:
        """Have `receipt` done when this beat is durable; its exception then says why it never will be."""
        self._beats[seq] = receipt

    def up_to(self, seq: int) -> asyncio.Future[None]:
        """Done when the fate of every beat up to `seq` is known."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flushes.append((seq, future))
        return future

    def acked(self, seqs: Iterable[int]) -> None:
        """These are durable."""
        for seq in seqs:
            self._settle(seq, None)

    def refused(self, seq: int, *, code: str, message: str) -> None:
        """This one is not taken."""
        self._settle(seq, BeatRefused(seq, code=code, message=message))

    def dropped(self, seqs: Iterable[int]) -> None:
        """These cannot be delivered any more."""
        for seq in seqs:
            self._settle(seq, BeatDropped(seq))

    def flushed(self, lowest: int | None) -> None:
        """Nothing below `lowest` is open any more; None: nothing at all."""
        if not self._flushes:
            return
        for seq, future in self._flushes:
            if (lowest is None or seq < lowest) and not future.done():
                future.set_result(None)
        self._flushes = [(seq, future) for seq, future in self._flushes if not future.done()]

    def end(self, error: Exception) -> None:
        """Nothing more will be settled."""
        for future in [*self._beats.values(), *(future for _, future in self._flushes)]:
            if not future.done():
                future.set_exception(error)
        self._beats.clear()
        self._flushes.clear()

    def _settle(self, seq: int, error: Exception | None) -> None:
        future = self._beats.pop(seq, None)
        if future is None or future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
