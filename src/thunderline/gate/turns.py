"""Work that may wait a little, so much of it in each turn of the event loop: what else is under way goes on between."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from thunderline.core.logging import get_logger

log = get_logger(__name__)

UPGRADES_A_TURN: Final = 16
"""Of a fleet that comes back at once, so many connections are upgraded before those that are inside are heard again:
10 ms. Higher lets the fleet in sooner and those inside wait for longer."""


class Turns:
    """A queue of such work. It holds no more than there are connections that wait for it."""

    def __init__(self, each: int) -> None:
        """So many are done in `each` turn."""
        self._each = each
        self._left = each
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_due = False

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, work: Callable[[], None]) -> None:
        """Do `work` now, or in a later turn, in the order in which it came."""
        if self._left and not self._waiting:
            self._left -= 1
            self._come_back()
            _do(work)
        else:
            self._waiting.append(work)
            self._come_back()

    def _come_back(self) -> None:
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._is_due = False
        self._left = self._each
        while self._waiting and self._left:
            self._left -= 1
            _do(self._waiting.popleft())
        if self._left < self._each:
            self._come_back()


def _do(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception:
        # A bug of ours, for which those who wait behind it must not pay.
        log.exception("what waited for its turn failed")
