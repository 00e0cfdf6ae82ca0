"""How long the audit log is kept."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from thunderline.block.store import Store
from thunderline.core.clock import Clock
from thunderline.core.errors import StoreUnavailable
from thunderline.core.logging import get_logger
from thunderline.core.settings import Settings
from thunderline.link.ages import Ages

log = get_logger(__name__)

LOOK_S: Final = 600.0
"""Between two looks, with jitter."""

STEP: Final = 500
"""Entries that are forgotten in one write, which takes a few milliseconds."""


class AuditTrail:
    """The task that forgets entries of an age of `audit_retention_s`."""

    def __init__(
        self,
        store: Store,
        *,
        ages: Ages,
        clock: Clock,
        settings: Settings,
        rng: random.Random,
        store_is_away: Callable[[], bool],
    ) -> None:
        self._store = store
        self._ages = ages
        self._clock = clock
        self._rng = rng
        self._store_is_away = store_is_away
        self._keep_ms = round(settings.audit_retention_s * 1000)

    async def run(self) -> None:
        """Forget what is old now and then, until cancelled."""
        while True:
            await self._clock.sleep(LOOK_S * self._rng.uniform(0.8, 1.2))
            if self._store_is_away():
                continue
            try:
                await self.look_after()
            except StoreUnavailable as error:
                log.warning("audit log not looked after", reason=error.reason)

    async def look_after(self) -> None:
        """Forget what is old. Raises: StoreUnavailable; what was done stays done."""
        before_ms = await self._ages.now_ms() - self._keep_ms
        while not self._store_is_away() and await self._store.trim_audit(before_ms=before_ms, limit=STEP):
            pass
