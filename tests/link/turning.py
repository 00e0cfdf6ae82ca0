"""A manual clock over a real store, whose writes take real time: the clock must not run ahead of them."""

from __future__ import annotations

from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import FaultyStore

STEP_S = 5.0
"""Well below what counts as a commit that hangs."""


async def turn_on(store: FaultyStore, clock: ManualClock, duration_s: float) -> None:
    """Turn the clock on by `duration_s`, and let the store catch up on the way and at the end."""
    end = clock.monotonic() + duration_s
    await store.idle.wait()
    while (remaining_s := end - clock.monotonic()) > 0:
        await clock.advance(min(STEP_S, remaining_s))
        await store.idle.wait()
    await clock.advance(0)
