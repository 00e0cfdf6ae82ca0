"""Each rule on what really happens in a cluster: pending, firing, over restarts, resolved; told once."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar, Final

import msgspec
import pytest
import trustme

from tests.gate.links import Links
from tests.prism.alert_worlds import SETTLE_S, KeptSink, alert_events
from thunderline.block.memory import MemoryStore
from thunderline.block.store import WriteBatch
from thunderline.core.access import Scope
from thunderline.core.host import HostMeter
from thunderline.core.inputs import NewToken
from thunderline.core.settings import Settings
from thunderline.core.x509 import expiry_of
from thunderline.link.actor import EMBEDDING_PROGRAM
from thunderline.link.controller import Controller
from thunderline.prism.alerts.alerting import Alerting
from thunderline.prism.alerts.rules import DEFAULT_RULES, AlertConfig, Kind, Rule
from thunderline.testing.clock import ManualClock
from thunderline.testing.harness import Cluster, ClusterNode, open_cluster
from thunderline.testing.records import START

DAY_S: Final = 86_400
LIMIT_S: Final = 1_800
"""Within which whatever is to come does."""

RULES: Final = {rule.kind: rule for rule in DEFAULT_RULES}


class Case(ABC):
    """How one rule comes to hold, and no longer to."""

    rule: ClassVar[Rule]
    settings: ClassVar[Settings] = Settings()
    labels: ClassVar[dict[str, str]] = {}
    restarts: ClassVar[bool] = True
    """Whether it goes on over a restart of the whole registry, and not of the alerts alone."""

    def __init__(self, clock: ManualClock, folder: Path) -> None:
        self.clock = clock
        self.folder = folder
        self.store = MemoryStore()
        self.certificate: bytes | None = None

    def certificate_expires_at(self) -> datetime | None:
        """When that of the port does."""
        return None if self.certificate is None else expiry_of(self.certificate)

    @abstractmethod
    async def begin(self, cluster: Cluster) -> None:
        """Let it hold from now on, as long as `go_on` is called."""

    @abstractmethod
    async def end(self, cluster: Cluster) -> None:
        """Let it hold no longer, as long as `rest` is called."""

    async def go_on(self, cluster: Cluster) -> None:
        """Every ten seconds of the trouble: what it needs to go on."""
        return

    async def rest(self, cluster: Cluster) -> None:
        """Every ten seconds after its end: what it takes that it does not come again."""
        return


class NodeOffline(Case):
    rule = RULES[Kind.NODE_OFFLINE]
    settings = Settings(guard_fraction=1.0)
    labels: ClassVar = {"node": "a", "role": "worker", "domain": "thunderlink", "scope": "everything"}

    async def begin(self, cluster: Cluster) -> None:
        await cluster.node("a")

    async def end(self, cluster: Cluster) -> None:
        await ClusterNode(cluster.http, "a").announce()


class GuardEngaged(Case):
    """Of a zone all fall silent; while its guard is engaged none of them is told as offline."""

    rule = RULES[Kind.GUARD_ENGAGED]
    labels: ClassVar = {"zone": "eu-1"}
    settings = Settings(guard_max_delay_s=3600)
    restarts = False
    names: ClassVar = [f"n{number}" for number in range(12)]

    async def begin(self, cluster: Cluster) -> None:
        await cluster.registry.create_group({"name": "eu-1", "group_type": "zone"})
        for name in self.names:
            await cluster.node(name)
            await cluster.registry.add_to_group(name, "eu-1")

    async def end(self, cluster: Cluster) -> None:
        await self.rest(cluster)

    async def rest(self, cluster: Cluster) -> None:
        for name in self.names:
            await cluster.registry.heartbeat(name, "online")


class CapacityExceeded(Case):
    rule = RULES[Kind.CAPACITY_EXCEEDED]
    settings = Settings(max_heartbeats_per_second=1, max_interval_s=10, heartbeat_interval_s=1, guard_fraction=1.0)
    names = tuple(f"n{number}" for number in range(11))

    async def begin(self, cluster: Cluster) -> None:
        for name in self.names:
            await cluster.node(name)

    async def go_on(self, cluster: Cluster) -> None:
        for name in self.names:
            await cluster.registry.heartbeat(name, "online")

    async def end(self, cluster: Cluster) -> None:
        gone, self.names = self.names[:8], self.names[8:]
        for name in gone:
            await cluster.registry.deregister(name)

    async def rest(self, cluster: Cluster) -> None:
        await self.go_on(cluster)


class Flapping(Case):
    rule = RULES[Kind.FLAPPING]
    settings = Settings(flapping_transitions=2, flapping_window_s=60)
    labels: ClassVar = NodeOffline.labels

    async def begin(self, cluster: Cluster) -> None:
        node = await cluster.node("a")
        for status in ("degraded", "online") * 2:
            await node.beat(status)

    async def go_on(self, cluster: Cluster) -> None:
        for status in ("degraded", "online"):
            await cluster.registry.heartbeat("a", status)

    async def end(self, cluster: Cluster) -> None:
        await cluster.clock.advance(120)


class ConnectionChurn(Case):
    rule = msgspec.structs.replace(RULES[Kind.CONNECTION_CHURN], above=3.0, window_s=120.0)

    async def begin(self, cluster: Cluster) -> None:
        links = Links(cluster)
        for number in range(5):
            node = await links.open(f"n{number}")
            node.say("bye")
            await links.settle()
            node.cut()

    async def end(self, cluster: Cluster) -> None:
        await cluster.clock.advance(self.rule.window_s)


class NameConflict(Case):
    rule = RULES[Kind.NAME_CONFLICT]
    labels: ClassVar = NodeOffline.labels
    restarts = False

    async def begin(self, cluster: Cluster) -> None:
        self.links = Links(cluster)
        for instance in ("a1", "b1", "a2"):
            self.last = await self.links.open("a", instance)
        assert self.last.error["code"] == "name_in_use"

    async def go_on(self, cluster: Cluster) -> None:
        await self.links.open("a", "a3")

    async def end(self, cluster: Cluster) -> None:
        pass


class BeatLatency(Case):
    rule = RULES[Kind.BEAT_LATENCY]
    labels: ClassVar = NodeOffline.labels
    latency_ms = 2_000.0

    async def begin(self, cluster: Cluster) -> None:
        await cluster.node("a")
        await self.go_on(cluster)

    async def go_on(self, cluster: Cluster) -> None:
        await cluster.registry.heartbeat("a", "online", {"latency_ms": self.latency_ms})

    async def end(self, cluster: Cluster) -> None:
        self.latency_ms = 20.0
        await self.rest(cluster)

    async def rest(self, cluster: Cluster) -> None:
        await self.go_on(cluster)


class SlowStore(MemoryStore):
    """One whose commits take their time."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock
        self.takes_s = 0.0

    async def commit(self, batch: WriteBatch) -> int | None:
        if self.takes_s:
            await self.clock.sleep(self.takes_s)
        return await super().commit(batch)


class StoreSlow(Case):
    """As the registry's own node reports it."""

    rule = RULES[Kind.STORE_SLOW]
    restarts = False
    store: SlowStore

    def __init__(self, clock: ManualClock, folder: Path) -> None:
        super().__init__(clock, folder)
        self.store = SlowStore(clock)

    async def begin(self, cluster: Cluster) -> None:
        controller = Controller(cluster.registry, HostMeter(cluster.clock))
        await controller.start()
        cluster.registry.tasks.start(controller.run(), name="controller")
        self.store.takes_s = 2.0

    async def end(self, cluster: Cluster) -> None:
        self.store.takes_s = 0.0


class StoreAway(Case):
    rule = RULES[Kind.STORE_AWAY]
    restarts = False

    async def begin(self, cluster: Cluster) -> None:
        cluster.store.away = True
        await cluster.http.post("/api/nodes", json={"name": "a"})

    async def end(self, cluster: Cluster) -> None:
        cluster.store.away = False


class TokenExpiring(Case):
    rule = RULES[Kind.TOKEN_EXPIRING]
    labels: ClassVar = {"token": "deploy", "kind": "token"}

    async def begin(self, cluster: Cluster) -> None:
        wanted = NewToken(name="deploy", scopes=(Scope.READ,), expires_in_s=8 * DAY_S)
        await cluster.registry.tokens.create_token(wanted, actor=EMBEDDING_PROGRAM)
        cluster.clock.jump_wall(2 * DAY_S)

    async def end(self, cluster: Cluster) -> None:
        await cluster.registry.tokens.revoke("deploy", actor=EMBEDDING_PROGRAM)


class CertificateExpiring(Case):
    rule = RULES[Kind.CERTIFICATE_EXPIRING]

    def _issue(self, days: int) -> None:
        end = START.astimezone(UTC) + timedelta(days=days)
        self.certificate = trustme.CA().issue_cert("localhost", not_after=end).cert_chain_pems[0].bytes()

    async def begin(self, cluster: Cluster) -> None:
        self._issue(13)

    async def end(self, cluster: Cluster) -> None:
        self._issue(90)


CASES: Final = (
    NodeOffline,
    GuardEngaged,
    CapacityExceeded,
    Flapping,
    ConnectionChurn,
    NameConflict,
    BeatLatency,
    StoreSlow,
    StoreAway,
    TokenExpiring,
    CertificateExpiring,
)


def test_every_rule_has_its_case_here_or_one_of_its_own() -> None:
    assert {case.rule.kind for case in CASES} == set(Kind) - {Kind.HISTORY_SHORT}


class Run:
    """Alerts of one case over a registry; `restart` begins them anew, as after a crash."""

    def __init__(self, case: Case, sink: KeptSink) -> None:
        self.case = case
        self.sink = sink
        self._config = AlertConfig(rules=(case.rule, *_others(case.rule)), after_start_s=0)
        self._alerting: Alerting | None = None

    async def start(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._alerting = Alerting(
            cluster.registry,
            self._config,
            sinks=[("kept", self.sink)],
            rng=random.Random(1),
            certificate_expires_at=self.case.certificate_expires_at,
        )
        await self._alerting.start()
        await cluster.clock.advance(0)

    async def stop(self, *, crash: bool) -> None:
        assert self._alerting is not None
        assert self._alerting.failed == []
        if crash:
            await self._alerting._tasks.close()
        else:
            await self._alerting.close()

    @property
    def pending(self) -> list[str]:
        """The rules of what is pending, but for what a guard keeps back."""
        return [each.rule for each in self.cluster.registry.alerts.book.pending() if each.held_by is None]

    @property
    def firing(self) -> list[str]:
        return [each.rule for each in self.cluster.registry.alerts.book.firing()]

    async def until_told(self, *states: str) -> None:
        """Let time pass, and go on with the case, until the sink was told these."""
        name = self.case.rule.name
        wanted = [(name, state) for state in states]
        for _ in range(LIMIT_S // 10):
            if self.sink.told == wanted:
                return
            assert self.sink.told == wanted[: len(self.sink.told)]
            await (self.case.go_on if states[-1] == "firing" else self.case.rest)(self.cluster)
            await self.cluster.clock.advance(10)
        raise AssertionError(f"told {self.sink.told} within {LIMIT_S} s, pending {self.pending}")


def _others(rule: Rule) -> tuple[Rule, ...]:
    """Beside a guard the rule that it keeps back."""
    return (RULES[Kind.NODE_OFFLINE],) if rule.kind is Kind.GUARD_ENGAGED else ()


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
async def test_a_rule_is_pending_fires_outlives_restarts_and_is_resolved(kind: type[Case], tmp_path: Path) -> None:
    clock, sink = ManualClock(), KeptSink()
    case = kind(clock, tmp_path)
    run = Run(case, sink)
    async with open_cluster(store=case.store, clock=clock, settings=case.settings) as cluster:
        await run.start(cluster)
        await cluster.clock.advance(SETTLE_S)
        assert (run.pending, run.firing) == ([], [])
        await case.begin(cluster)
        if case.rule.for_s:
            for _ in range(LIMIT_S // 10):
                if run.pending:
                    break
                await case.go_on(cluster)
                await cluster.clock.advance(5)
            assert run.pending == [case.rule.name]
            assert sink.told == []
        await run.until_told("firing")
        [fired] = sink.taken
        assert fired.alert.labels == case.labels
        assert fired.alert.severity is case.rule.severity
        assert fired.alert.summary
        waited_s = (fired.alert.fired_at - fired.alert.starts_at).total_seconds()
        assert waited_s == pytest.approx(case.rule.for_s, abs=20)
        if kind is not StoreAway:
            assert run.firing == [case.rule.name]
            await run.stop(crash=True)
            await run.start(cluster)
            await case.go_on(cluster)
            await cluster.clock.advance(SETTLE_S)
            assert run.firing == [case.rule.name]
        if not case.restarts:
            await case.end(cluster)
            await run.until_told("firing", "resolved")
        await run.stop(crash=False)
        events = [name for name, _ in await alert_events(cluster.registry)]
    if case.restarts:
        async with open_cluster(store=case.store, clock=clock, settings=case.settings) as cluster:
            await run.start(cluster)
            await case.go_on(cluster)
            await cluster.clock.advance(SETTLE_S)
            assert run.firing == [case.rule.name]
            await case.end(cluster)
            await run.until_told("firing", "resolved")
            await run.stop(crash=False)
            events = [name for name, _ in await alert_events(cluster.registry)]
    assert events == ["alert.fired", "alert.resolved"]
    assert len({each.id for each in sink.taken}) == 2
