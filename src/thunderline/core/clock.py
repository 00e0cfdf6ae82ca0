"""Time, injected: the only module of the project that asks the operating system what time it is.

Wall time is for records; the monotonic reading decides about life and death. `thunderline.testing.ManualClock`
stands in for `SystemClock` wherever a test wants to own time.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_ms(at: datetime) -> int:
    """Milliseconds since 1970-01-01 UTC; exact for every time that `from_ms` made."""
    return (at - _EPOCH) // timedelta(milliseconds=1)


def from_ms(at_ms: int) -> datetime:
    """The aware UTC time of `at_ms` milliseconds since 1970-01-01."""
    return _EPOCH + timedelta(milliseconds=at_ms)


class Clock(ABC):
    """What time it is, and how to wait for a later one."""

    @abstractmethod
    def now_ms(self) -> int:
        """Wall time in whole milliseconds since 1970-01-01 UTC; may jump either way."""

    @abstractmethod
    def monotonic(self) -> float:
        """Seconds from an arbitrary origin; never goes back, keeps running over a jump of the wall clock."""

    @abstractmethod
    async def sleep_until(self, deadline: float) -> None:
        """Return once `monotonic()` has reached `deadline`; at once if it has."""

    def now(self) -> datetime:
        """Wall time, aware, UTC, in whole milliseconds: what a record keeps is what a store gives back."""
        return from_ms(self.now_ms())

    async def sleep(self, duration_s: float) -> None:
        """Return after `duration_s` seconds of monotonic time."""
        await self.sleep_until(self.monotonic() + duration_s)


class SystemClock(Clock):
    """The machine's own clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep_until(self, deadline: float) -> None:
        # A sleep may return a tick early; the contract is about the reading, so look again.
        while (remaining := deadline - time.monotonic()) > 0:  # noqa: ASYNC110 - nothing else would set an event
            await asyncio.sleep(remaining)
