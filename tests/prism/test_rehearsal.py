"""Rules over the past find what had fired: exactly, over a recorded day."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from tests.prism.alert_worlds import SETTLE_S, alerting, log_of
from thunderline.block.memory import MemoryStore
from thunderline.core.clock import to_ms
from thunderline.core.host import HostMeter
from thunderline.core.records import BeatStatus
from thunderline.core.settings import Settings
from thunderline.link.controller import Controller
from thunderline.link.registry import Registry
from thunderline.prism.alerts.rehearsal import Found, Rehearsal
from thunderline.prism.alerts.rules import AlertConfig, read_config
from thunderline.testing.clock import START_MS, ManualClock
from thunderline.testing.harness import Cluster, open_cluster

SETTINGS = Settings(node_name="registry@test", heartbeat_interval_s=60.0)
CONFIG = read_config(
    """
    [rules.node-offline]
    group_above = 2
    [rules.connection-churn]
    enabled = false
    """,
    source="x",
)
ZONES = {"eu-1": [f"eu-1-{number}" for number in range(6)], "eu-2": [f"eu-2-{number}" for number in range(3)]}
NAMES = [name for names in ZONES.values() for name in names] + ["alone"]


async def rehearsed(registry: Registry, config: AlertConfig, *, since_ms: int, until_ms: int) -> list[Found]:
    rehearsal = Rehearsal(config, since_ms=since_ms, until_ms=until_ms)
    for event in await log_of(registry):
        if not rehearsal.feed(event):
            break
    return rehearsal.finish()


async def furnish(cluster: Cluster) -> None:
    registry = cluster.registry
    for zone, names in ZONES.items():
        await registry.create_group({"name": zone, "group_type": "zone"})
        for name in names:
            await registry.ensure_node({"name": name})
            await registry.add_to_group(name, zone)
    await registry.ensure_node({"name": "alone"})


class Weather:
    """Which nodes beat: now and then one falls silent, or a zone, for some minutes or for hours."""

    def __init__(self, seed: int, *, storms: float) -> None:
        """`storms`: how many a minute there are."""
        self.rng = random.Random(seed)
        self.storms = storms
        self.silent: dict[str, int] = {}

    def blow(self, minute: int) -> list[str]:
        self.silent = {name: until for name, until in self.silent.items() if until > minute}
        if self.rng.random() < self.storms:
            struck = self.rng.choice([*ZONES.values(), *([name] for name in NAMES)])
            until = minute + round(self.rng.choice([2, 5, 8, 15, 60]) * self.rng.uniform(0.8, 1.5))
            self.silent |= dict.fromkeys(struck, until)
        return [name for name in NAMES if name not in self.silent]


async def record(minutes: int, *, seed: int, store: MemoryStore, clock: ManualClock, restarts: bool) -> None:
    """Let a cluster live for so long, with alerts beside it; now and then the registry is started again."""
    weather = Weather(seed, storms=0.02 if restarts else 0.06)
    minute, start = 0, 0
    while minute < minutes:
        async with open_cluster(store=store, clock=clock, settings=SETTINGS, seed=start) as cluster:
            registry = cluster.registry
            own = Controller(registry, HostMeter(clock))
            await own.start()
            if start == 0:
                await furnish(cluster)
            crash = restarts and weather.rng.random() < 0.5
            end = min(minutes, minute + weather.rng.randrange(60, 400)) if restarts else minutes
            async with alerting(registry, CONFIG, crash=crash):
                while minute < end:
                    await own._beat(BeatStatus.ONLINE)
                    for name in weather.blow(minute):
                        await registry.heartbeat(name)
                    if weather.rng.random() < 0.01:
                        name = weather.rng.choice(NAMES)
                        mark = registry.clear_override(name) if registry.get_node(name).override else None
                        await (mark or registry.mark_offline(name, "by hand"))
                    await clock.advance(60)
                    minute += 1
                await clock.advance(SETTLE_S)
        start += 1
        if restarts:
            clock.pause(weather.rng.choice([1, 30, 200, 900]))


@pytest.mark.parametrize(
    ("minutes", "seed", "restarts"),
    [
        (90, 26, False),
        *(pytest.param(1440, seed, True, marks=pytest.mark.slow) for seed in (2,)),
    ],
)
async def test_the_same_rules_find_exactly_what_had_fired(minutes: int, seed: int, restarts: bool) -> None:
    store, clock = MemoryStore(), ManualClock()
    await record(minutes, seed=seed, store=store, clock=clock, restarts=restarts)
    async with open_cluster(store=store, clock=clock, settings=SETTINGS) as cluster:
        found = await rehearsed(cluster.registry, CONFIG, since_ms=START_MS, until_ms=clock.now_ms())
        assert found
        assert [each for each in found if not (each.by_rules and each.fired)] == []
        told = {each.alert.id: each.alert for each in found}
        for alert in cluster.registry.alerts.book:
            assert told[alert.id].resolved_at == alert.resolved_at


async def test_other_rules_find_what_they_would_and_what_they_would_not() -> None:
    store, clock = MemoryStore(), ManualClock()
    await record(90, seed=26, store=store, clock=clock, restarts=False)
    eager = read_config("[rules.node-offline]\nfor = '1m'\ngroup_above = 'never'", source="x")
    never = read_config("[rules.node-offline]\nfor = '10h'", source="x")
    async with open_cluster(store=store, clock=clock, settings=SETTINGS) as cluster:
        until_ms = clock.now_ms()
        same = await rehearsed(cluster.registry, CONFIG, since_ms=START_MS, until_ms=until_ms)
        more = await rehearsed(cluster.registry, eager, since_ms=START_MS, until_ms=until_ms)
        fewer = await rehearsed(cluster.registry, never, since_ms=START_MS, until_ms=until_ms)
        assert sum(each.by_rules for each in more) > sum(each.by_rules for each in same)
        offline = [each for each in fewer if each.alert.rule == "node-offline"]
        assert offline
        assert not any(each.by_rules for each in offline)
        middle_ms = to_ms(same[0].alert.fired_at + timedelta(milliseconds=1))
        later = await rehearsed(cluster.registry, CONFIG, since_ms=middle_ms, until_ms=until_ms)
        assert later == same[1:]
