"""Clusters with alerts: the harness, `Alerting` beside it, and a sink that keeps what it is told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from thunderline.core.alerts import Alert, AlertState
from thunderline.core.records import Event
from thunderline.link.registry import Registry
from thunderline.prism.alerts.alerting import Alerting
from thunderline.prism.alerts.outlets import Notification, NotTaken, Sink
from thunderline.prism.alerts.rules import AlertConfig
from thunderline.testing.harness import Cluster

SETTLE_S = 20.0
"""Longer than any look at what is due, or at silences."""


class KeptSink(Sink):
    """Keeps what it takes, in order; takes nothing while it is `down`."""

    attempts_max = 1_000
    retry_max_s = 60.0

    def __init__(self) -> None:
        self.taken: list[Notification] = []
        self.attempts = 0
        self.down = False
        self.refuses = False

    async def send(self, notification: Notification) -> None:
        self.attempts += 1
        if self.down:
            raise NotTaken("down")
        if self.refuses:
            raise NotTaken("refused", is_final=True)
        self.taken.append(notification)

    @property
    def told(self) -> list[tuple[str, str]]:
        """(rule, state) of all, in order."""
        return [(each.alert.rule, each.state.value) for each in self.taken]


@asynccontextmanager
async def alerting(
    registry: Registry,
    config: AlertConfig | None = None,
    *,
    sinks: Sequence[tuple[str, Sink]] = (),
    crash: bool = False,
) -> AsyncIterator[Alerting]:
    """Alerts of a registry for the length of a block; with `crash` it ends as in one: nothing more is kept."""
    started = Alerting(registry, config or AlertConfig(), sinks=sinks, rng=random.Random(1))
    await started.start()
    # Who has not begun to wait for the clock would miss its first turn, however wide.
    for _ in range(3):
        await asyncio.sleep(0)
    try:
        yield started
        assert started.failed == []
    finally:
        if crash:
            await started._tasks.close()
        else:
            await started.close()


async def log_of(registry: Registry) -> list[Event]:
    """All events that are kept."""
    found: list[Event] = []
    while page := await registry.log_reader.events(
        after=found[-1].revision if found else registry.log.oldest, before=registry.log.revision + 1, limit=10_000
    ):
        found += page
    return found


async def alert_events(registry: Registry) -> list[tuple[str, Alert]]:
    """(event, alert) of all that the log tells of alerts."""
    return [(event.name, event.payload) for event in await log_of(registry) if isinstance(event.payload, Alert)]


def firing(registry: Registry) -> list[str]:
    """The rules of what fires, by when it fired."""
    return [alert.rule for alert in registry.alerts.book.firing()]


def is_over(alert: Alert) -> bool:
    return alert.state is AlertState.RESOLVED


async def lose(cluster: Cluster, name: str) -> None:
    """Let a node that beats no more become offline, however long that takes."""
    while cluster.registry.get_node(name).status != "offline":
        await cluster.clock.advance(5)
