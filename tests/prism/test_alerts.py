"""Alerts over a registry: what fires, once, whatever happens meanwhile; and who is told."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import msgspec
import pytest

from tests.gate.links import Links
from tests.prism.alert_worlds import (
    SETTLE_S,
    KeptSink,
    alert_events,
    alerting,
    firing,
    is_over,
    log_of,
    lose,
)
from thunderline.block.memory import MemoryStore
from thunderline.core.access import Scope
from thunderline.core.alerts import Alert, AlertState, Matcher
from thunderline.core.errors import AlertOver, NotPermitted, UnknownAlert, UnknownSilence
from thunderline.core.host import HostMeter
from thunderline.core.inputs import AcknowledgeInput, NewSilence, NewToken
from thunderline.core.settings import Settings
from thunderline.link.actor import EMBEDDING_PROGRAM, NOBODY
from thunderline.link.alert_domain import AlertFilter
from thunderline.link.controller import Controller
from thunderline.prism.alerts import readings
from thunderline.prism.alerts.outlets import DEAD_LETTERS, DeadLetter
from thunderline.prism.alerts.rules import AlertConfig, Kind, read_config
from thunderline.testing.clock import ManualClock
from thunderline.testing.harness import Cluster, open_cluster

# Without a guard that spreads the fall of a few nodes, the times of what follows are exact.
UNGUARDED = Settings(guard_fraction=1.0)
OFFLINE_AFTER_S = 90.0
"""After its last beat, as settings have it: 30 s of silence, and 60 s disconnected."""

SILENCE_ALL = NewSilence(matchers=(Matcher(label="rule", op="~", value="*"),), for_s=3600)


async def zone_of(cluster: Cluster, zone: str, names: list[str]) -> None:
    """Nodes of a zone that have beaten once, and will not again."""
    await cluster.registry.create_group({"name": zone, "group_type": "zone"})
    for name in names:
        await cluster.registry.ensure_node({"name": name})
        await cluster.registry.add_to_group(name, zone)
        await cluster.registry.heartbeat(name)


async def test_a_node_that_stays_offline_is_one_alert_until_it_returns() -> None:
    sink = KeptSink()
    async with open_cluster(settings=UNGUARDED) as cluster, alerting(cluster.registry, sinks=[("kept", sink)]):
        node = await cluster.node("a")
        await lose(cluster, "a")
        offline_at = cluster.registry.get_node("a").status_since
        await cluster.clock.advance(295)
        assert firing(cluster.registry) == []
        await cluster.clock.advance(10 + SETTLE_S)
        [alert] = cluster.registry.alerts.book.firing()
        assert (alert.rule, alert.starts_at, alert.fired_at) == (
            "node-offline",
            offline_at,
            offline_at + timedelta(seconds=300),
        )
        assert alert.labels == {"node": "a", "role": "worker", "domain": "thunderlink", "scope": "everything"}
        await cluster.clock.advance(600)
        await node.beat()
        returned_at = cluster.registry.get_node("a").status_since
        await cluster.clock.advance(SETTLE_S)
        assert firing(cluster.registry) == []
        events = await alert_events(cluster.registry)
        assert [(name, each.id) for name, each in events] == [("alert.fired", alert.id), ("alert.resolved", alert.id)]
        assert events[1][1].resolved_at == returned_at
        assert sink.told == [("node-offline", "firing"), ("node-offline", "resolved")]
        assert len({each.id for each in sink.taken}) == 2


async def test_who_left_or_was_marked_by_somebody_or_was_never_there_is_no_alert() -> None:
    async with open_cluster(settings=UNGUARDED) as cluster, alerting(cluster.registry):
        left = await cluster.node("left")
        await left.leave()
        await cluster.node("marked")
        await cluster.registry.mark_offline("marked", "maintenance")
        await cluster.node("marked-later")
        await cluster.registry.ensure_node({"name": "never-seen"})
        await lose(cluster, "marked-later")
        await cluster.registry.mark_offline("marked-later", "known")
        await cluster.clock.advance(1000)
        assert cluster.registry.get_node("never-seen").status == "offline"
        assert await alert_events(cluster.registry) == []
        await cluster.registry.clear_override("marked-later")
        await cluster.clock.advance(301 + SETTLE_S)
        assert [alert.labels["node"] for alert in cluster.registry.alerts.book.firing()] == ["marked-later"]


async def test_a_restart_forgets_nothing_and_repeats_nothing() -> None:
    store, clock, sink = MemoryStore(), ManualClock(), KeptSink()
    async with (
        open_cluster(store=store, clock=clock, settings=UNGUARDED) as cluster,
        alerting(cluster.registry, sinks=[("kept", sink)]),
    ):
        await cluster.node("fires")
        await lose(cluster, "fires")
        await cluster.clock.advance(200)
        await cluster.node("pending")
        await lose(cluster, "pending")
        await cluster.clock.advance(150)
        assert [alert.labels["node"] for alert in cluster.registry.alerts.book.firing()] == ["fires"]
    clock.pause(50)
    async with open_cluster(store=store, clock=clock, settings=UNGUARDED) as cluster:
        async with alerting(cluster.registry, sinks=[("kept", sink)]):
            assert [alert.labels["node"] for alert in cluster.registry.alerts.book.firing()] == ["fires"]
            await cluster.clock.advance(300)
            assert [alert.labels["node"] for alert in cluster.registry.alerts.book.firing()] == ["fires", "pending"]
            pending = cluster.registry.alerts.book.firing()[1]
            assert pending.fired_at == cluster.registry.get_node("pending").status_since + timedelta(seconds=300)
        async with alerting(cluster.registry, sinks=[("kept", sink)]):
            await cluster.clock.advance(SETTLE_S)
            assert len(await alert_events(cluster.registry)) == 2
            assert sink.told == [("node-offline", "firing")] * 2


async def test_what_happened_while_nobody_judged_it_is_judged_afterwards_as_of_its_time() -> None:
    """As when a crash comes between a commit and what follows from it."""
    async with open_cluster(settings=UNGUARDED) as cluster:
        registry = cluster.registry
        node = await cluster.node("a")
        other = await cluster.node("b")
        async with alerting(registry, crash=True):
            await lose(cluster, "a")
            await lose(cluster, "b")
        offline_at = registry.get_node("a").status_since
        await cluster.clock.advance(299)
        await other.beat()  # 299 s: b is no alert
        await cluster.clock.advance(5)
        await node.beat()  # 304 s: a was one for four seconds
        await node.leave()
        await cluster.clock.advance(100)
        await lose(cluster, "b")
        await cluster.clock.advance(310)
        assert await alert_events(registry) == []
        for _ in range(2):
            async with alerting(registry, crash=True):
                await cluster.clock.advance(SETTLE_S)
        events = await alert_events(registry)
        assert [(name, each.labels["node"]) for name, each in events] == [
            ("alert.fired", "a"),
            ("alert.resolved", "a"),
            ("alert.fired", "b"),
        ]
        assert events[0][1].fired_at == offline_at + timedelta(seconds=300)


async def test_an_alert_that_is_kept_twice_is_told_once() -> None:
    async with open_cluster() as cluster:
        registry, domain = cluster.registry, cluster.registry.alerts
        alert = Alert(
            id="1",
            rule="r",
            severity="warning",  # type: ignore[arg-type]
            labels={},
            summary="s",
            starts_at=cluster.clock.now(),
            fired_at=cluster.clock.now(),
        )
        alert = msgspec.json.decode(msgspec.json.encode(alert), type=Alert)
        over = msgspec.structs.replace(alert, resolved_at=cluster.clock.now())
        assert len(await domain.keep([alert])) == 1
        assert await domain.keep([alert]) == []
        assert len(await domain.keep([alert, over, alert, over])) == 1
        assert await domain.keep([over]) == []
        unknown = msgspec.structs.replace(over, id="2")
        assert await domain.keep([unknown]) == []
        assert [name for name, _ in await alert_events(registry)] == ["alert.fired", "alert.resolved"]


async def test_a_zone_that_is_lost_at_once_is_told_as_one() -> None:
    names = [f"n{number:03}" for number in range(500)]
    sink = KeptSink()
    async with open_cluster() as cluster, alerting(cluster.registry, sinks=[("kept", sink)]):
        await zone_of(cluster, "eu-1", names)
        await cluster.clock.advance(300)
        assert sink.told[0] == ("guard-engaged", "firing")
        await cluster.clock.advance(600)
        assert sink.told == [("guard-engaged", "firing"), ("guard-engaged", "resolved"), ("node-offline", "firing")]
        [alert] = cluster.registry.alerts.book.firing()
        assert (alert.labels, alert.nodes) == ({"zone": "eu-1"}, 500)
        for name in names:
            await cluster.registry.heartbeat(name)
        await cluster.clock.advance(SETTLE_S)
        assert sink.told[3:] == [("node-offline", "resolved")]


async def test_a_flapping_node_is_told_as_that_alone() -> None:
    settings = Settings(guard_fraction=1.0, flapping_transitions=4, flapping_window_s=3600)
    config = read_config("[rules.node-offline]\nfor = '30s'", source="x")
    sink = KeptSink()
    async with open_cluster(settings=settings) as cluster, alerting(cluster.registry, config, sinks=[("kept", sink)]):
        await cluster.clock.advance(150)
        node = await cluster.node("a")
        for _ in range(4):
            await lose(cluster, "a")
            await cluster.clock.advance(60)
            await node.beat()
            await cluster.clock.advance(5)
        told = [each for each in sink.told if each[0] == "node-offline"]
        assert ("node-flapping", "firing") in sink.told
        assert len(told) <= 3  # of the falls before it was marked
        await lose(cluster, "a")
        before = len(sink.told)
        await cluster.clock.advance(300)
        assert len(sink.told) == before


async def test_what_is_silenced_is_told_when_the_silence_ends_if_it_still_fires() -> None:
    sink = KeptSink()
    async with open_cluster(settings=UNGUARDED) as cluster, alerting(cluster.registry, sinks=[("kept", sink)]):
        domain = cluster.registry.alerts
        node, _ = await cluster.node("returns"), await cluster.node("stays")
        silence = await domain.silence(SILENCE_ALL, actor=EMBEDDING_PROGRAM)
        await cluster.clock.advance(500)
        assert sorted(firing(cluster.registry)) == ["node-offline", "node-offline"]
        await node.beat()
        await cluster.clock.advance(SETTLE_S)
        assert sink.taken == []
        await domain.unsilence(silence.id, actor=EMBEDDING_PROGRAM)
        await cluster.clock.advance(SETTLE_S)
        assert [(each.alert.labels["node"], each.state) for each in sink.taken] == [("stays", AlertState.FIRING)]


async def test_a_silence_ends_by_itself_and_outlives_a_restart() -> None:
    store, clock, sink = MemoryStore(), ManualClock(), KeptSink()
    async with open_cluster(store=store, clock=clock, settings=UNGUARDED) as cluster:
        await cluster.registry.alerts.silence(SILENCE_ALL, actor=EMBEDDING_PROGRAM)
        async with alerting(cluster.registry, sinks=[("kept", sink)]):
            await cluster.node("a")
            await cluster.clock.advance(600)
            assert firing(cluster.registry) == ["node-offline"]
    async with (
        open_cluster(store=store, clock=clock, settings=UNGUARDED) as cluster,
        alerting(cluster.registry, sinks=[("kept", sink)]),
    ):
        await cluster.clock.advance(2000)
        assert sink.taken == []
        await cluster.clock.advance(1000 + SETTLE_S)
        assert sink.told == [("node-offline", "firing")]
        cluster.clock.jump_wall(90_000)
        await cluster.clock.advance(120)
        assert cluster.registry.alerts.list_silences(actor=EMBEDDING_PROGRAM) == []


async def test_an_alert_is_taken_on_once_and_while_it_fires() -> None:
    async with open_cluster(settings=UNGUARDED) as cluster, alerting(cluster.registry):
        domain = cluster.registry.alerts
        node = await cluster.node("a")
        await cluster.clock.advance(500)
        [alert] = domain.book.firing()
        first = await domain.acknowledge(alert.id, AcknowledgeInput(note="mine"), actor=EMBEDDING_PROGRAM)
        second = await domain.acknowledge(alert.id, AcknowledgeInput(note="no, mine"), actor=EMBEDDING_PROGRAM)
        assert first == second
        assert first.acknowledged is not None
        assert (first.acknowledged.by, first.acknowledged.note) == ("operator:embedded", "mine")
        await node.beat()
        await cluster.clock.advance(SETTLE_S)
        assert domain.get_alert(alert.id, actor=EMBEDDING_PROGRAM).acknowledged == first.acknowledged
        with pytest.raises(AlertOver):
            await domain.acknowledge(alert.id, AcknowledgeInput(), actor=EMBEDDING_PROGRAM)
        with pytest.raises(UnknownAlert):
            await domain.acknowledge("0", AcknowledgeInput(), actor=EMBEDDING_PROGRAM)
        with pytest.raises(UnknownSilence):
            await domain.unsilence("0", actor=EMBEDDING_PROGRAM)
        with pytest.raises(NotPermitted):
            await domain.silence(SILENCE_ALL, actor=NOBODY)
        assert [name for name, _ in await alert_events(cluster.registry)] == [
            "alert.fired",
            "alert.acknowledged",
            "alert.resolved",
        ]


async def test_a_sink_that_is_down_for_ten_minutes_misses_nothing_and_gets_nothing_twice() -> None:
    store, clock, sink, other = MemoryStore(), ManualClock(), KeptSink(), KeptSink()
    nodes = [f"n{number}" for number in range(4)]
    settings = msgspec.structs.replace(UNGUARDED, flapping_transitions=100)
    config = read_config("after_start = 0\n[rules.node-offline]\nfor = '1m'", source="x")
    sinks = [("kept", sink), ("other", other)]
    async with (
        open_cluster(store=store, clock=clock, settings=settings) as cluster,
        alerting(cluster.registry, config, sinks=sinks),
    ):
        sink.down = True
        for name in nodes:
            node = await cluster.node(name)
            await lose(cluster, name)
            await clock.advance(75)
            await node.beat()
            await node.leave()
        await clock.advance(SETTLE_S)
        assert sink.taken == []
        assert sink.attempts > 5
        assert len(other.taken) == 2 * len(nodes)
    async with open_cluster(store=store, clock=clock, settings=settings) as cluster:
        async with alerting(cluster.registry, config, sinks=sinks):
            await clock.advance(30)
            sink.down = False
            await clock.advance(120)
        assert [each.id for each in sink.taken] == [each.id for each in other.taken]
        events = [each for _, each in await alert_events(cluster.registry)]
        assert [(each.alert.id, is_over(each.alert)) for each in sink.taken] == [
            (each.id, is_over(each)) for each in events
        ]
        assert len({each.id for each in sink.taken}) == len(sink.taken)


async def test_a_crash_between_telling_and_its_note_tells_once_more_under_the_same_id() -> None:
    store, clock, sink = MemoryStore(), ManualClock(), KeptSink()
    async with (
        open_cluster(store=store, clock=clock, settings=UNGUARDED) as cluster,
        alerting(cluster.registry, sinks=[("kept", sink)], crash=True),
    ):
        cluster.store.rejects = lambda batch: any(each.shelf == "alert-sinks" for each in batch.documents)
        await cluster.node("a")
        await clock.advance(500)
        assert len(sink.taken) == 1
    async with (
        open_cluster(store=store, clock=clock, settings=UNGUARDED) as cluster,
        alerting(cluster.registry, sinks=[("kept", sink)]),
    ):
        await clock.advance(SETTLE_S)
    first, second = sink.taken
    assert first.id == second.id


async def test_what_a_sink_refuses_is_a_dead_letter_and_holds_nobody_up() -> None:
    sink = KeptSink()
    async with open_cluster(settings=UNGUARDED) as cluster, alerting(cluster.registry, sinks=[("kept", sink)]) as run:
        sink.refuses = True
        node = await cluster.node("a")
        await cluster.clock.advance(500)
        sink.refuses = False
        await node.beat()
        await cluster.clock.advance(SETTLE_S)
        assert sink.told == [("node-offline", "resolved")]
        [letter] = await cluster.registry.alerts.documents(DEAD_LETTERS)
        dead = msgspec.json.decode(letter.body, type=DeadLetter)
        assert (dead.sink, dead.reason, dead.attempts, dead.notification.state) == ("kept", "refused", 1, "firing")
        assert (run.outlets[0].told, run.outlets[0].dead, run.outlets[0].failures) == (1, 1, 1)


async def test_that_the_store_is_away_is_told_while_it_is() -> None:
    sink = KeptSink()
    async with open_cluster(settings=UNGUARDED) as cluster, alerting(cluster.registry, sinks=[("kept", sink)]):
        await cluster.node("a")
        cluster.store.away = True
        await cluster.clock.advance(60)
        (await cluster.http.post("/api/nodes", json={"name": "b"}))
        await cluster.clock.advance(60)
        assert sink.told == [("store-away", "firing")]
        cluster.store.away = False
        await cluster.clock.advance(60)
        assert sink.told == [("store-away", "firing"), ("store-away", "resolved")]
        names = [name for name, alert in await alert_events(cluster.registry) if alert.rule == "store-away"]
        assert names == ["alert.fired", "alert.resolved"]


async def test_that_the_store_is_away_is_told_again_to_a_sink_that_did_not_take_it() -> None:
    sink = KeptSink()
    async with open_cluster(settings=UNGUARDED) as cluster, alerting(cluster.registry, sinks=[("kept", sink)]):
        sink.down = True
        cluster.store.away = True
        await cluster.http.post("/api/nodes", json={"name": "a"})
        await cluster.clock.advance(60)
        assert (sink.told, sink.attempts > 1) == ([], True)
        sink.down = False
        await cluster.clock.advance(SETTLE_S)
        assert sink.told == [("store-away", "firing")]
        cluster.store.away = False
        await cluster.clock.advance(60)
        assert sink.told == [("store-away", "firing"), ("store-away", "resolved")]


async def test_a_silence_holds_also_for_what_is_told_while_the_store_is_away() -> None:
    sink = KeptSink()
    async with open_cluster(settings=UNGUARDED) as cluster, alerting(cluster.registry, sinks=[("kept", sink)]):
        silence = await cluster.registry.alerts.silence(SILENCE_ALL, actor=EMBEDDING_PROGRAM)
        cluster.store.away = True
        await cluster.http.post("/api/nodes", json={"name": "a"})
        await cluster.clock.advance(120)
        cluster.store.away = False
        await cluster.clock.advance(60)
        assert sink.attempts == 0
        await cluster.registry.alerts.unsilence(silence.id, actor=EMBEDDING_PROGRAM)
        await cluster.clock.advance(SETTLE_S)
        # It was over before anybody could have been told.
        assert sink.attempts == 0
        names = [name for name, alert in await alert_events(cluster.registry) if alert.rule == "store-away"]
        assert names == ["alert.fired", "alert.resolved"]


async def test_a_wall_clock_that_goes_back_neither_hurries_nor_halts_rules_over_figures() -> None:
    config = read_config("[rules.beat-latency]\nabove = 100\nfor = '2m'\nkeep = '1m'", source="x")
    async with open_cluster() as cluster, alerting(cluster.registry, config):
        node = await cluster.node("a")
        cluster.clock.jump_wall(-3600)
        for step in range(30):
            await node.beat(latency_ms=250)
            await cluster.clock.advance(10)
            waited_s = 10 * (step + 1)
            if waited_s < 120:
                assert firing(cluster.registry) == []
            elif waited_s > 150:
                assert firing(cluster.registry) == ["beat-latency"]
        for _ in range(12):
            await node.beat(latency_ms=1)
            await cluster.clock.advance(10)
        assert firing(cluster.registry) == []


async def test_an_alert_that_was_taken_on_and_is_over_fires_again_as_nobodys() -> None:
    sink = KeptSink()
    async with open_cluster(settings=UNGUARDED) as cluster, alerting(cluster.registry, sinks=[("kept", sink)]):
        node, domain = await cluster.node("a"), cluster.registry.alerts
        for turn in (1, 2):
            await lose(cluster, "a")
            await cluster.clock.advance(301 + SETTLE_S)
            [alert] = domain.book.firing()
            assert alert.acknowledged is None
            assert len(sink.taken) == 2 * turn - 1
            await domain.acknowledge(alert.id, AcknowledgeInput(), actor=EMBEDDING_PROGRAM)
            await node.beat()
            await cluster.clock.advance(SETTLE_S)
            resolved = domain.get_alert(alert.id, actor=EMBEDDING_PROGRAM)
            assert is_over(resolved)
            assert resolved.acknowledged is not None
        first, _, second, _ = sink.taken
        assert (first.alert.id, first.id == second.id) == (second.alert.id, False)


async def test_half_of_a_zone_that_returns_resolves_nothing_and_tells_nothing() -> None:
    sink = KeptSink()
    async with open_cluster(settings=UNGUARDED) as cluster, alerting(cluster.registry, sinks=[("kept", sink)]):
        names = [f"n{number:03}" for number in range(500)]
        await zone_of(cluster, "eu-1", names)
        await cluster.clock.advance(OFFLINE_AFTER_S + 301 + SETTLE_S)
        assert [(each.alert.labels, each.alert.nodes) for each in sink.taken] == [({"zone": "eu-1"}, 500)]
        for name in names[:250]:
            await cluster.registry.heartbeat(name, "online")
        await cluster.clock.advance(SETTLE_S)
        assert len(sink.taken) == 1
        for name in names[250:]:
            await cluster.registry.heartbeat(name, "online")
        await cluster.clock.advance(SETTLE_S)
        assert sink.told == [("node-offline", "firing"), ("node-offline", "resolved")]


async def test_after_a_start_of_the_registry_nodes_have_time_to_come_back() -> None:
    """Nobody is told as lost who could not say that it is there."""
    store, clock = MemoryStore(), ManualClock()
    settings = msgspec.structs.replace(UNGUARDED, node_name="registry@test")
    for start in range(2):
        async with open_cluster(store=store, clock=clock, settings=settings) as cluster:
            registry = cluster.registry
            await Controller(registry, HostMeter(clock)).start()
            async with alerting(registry, crash=True):
                if start == 0:
                    await cluster.node("a")
                    await cluster.node("b")
                    await lose(cluster, "b")
                else:
                    await clock.advance(100)
                    assert firing(registry) == []
                    await cluster.http.post("/api/nodes/a/online", json={"instance": "x"})
                    await clock.advance(60)
                    assert [alert.labels["node"] for alert in registry.alerts.book.firing()] == ["b"]
        clock.pause(3600)


async def test_alerts_are_listed_by_what_is_asked() -> None:
    async with open_cluster(settings=UNGUARDED) as cluster, alerting(cluster.registry):
        domain = cluster.registry.alerts
        for name in ("a", "b", "c"):
            await cluster.node(name)
            await cluster.clock.advance(1)
        await cluster.clock.advance(500)
        late = await cluster.node("late")
        await lose(cluster, "late")
        body = (await cluster.http.get("/api/alerts?limit=2")).json()
        assert [each["labels"]["node"] for each in body["alerts"]] == ["c", "b"]
        assert [(each["labels"]["node"], each["rule"]) for each in body["pending"]] == [("late", "node-offline")]
        rest = (await cluster.http.get(f"/api/alerts?limit=2&cursor={body['next_cursor']}")).json()
        assert ([each["labels"]["node"] for each in rest["alerts"]], rest["next_cursor"]) == (["a"], None)
        [alert] = (await cluster.http.get("/api/alerts?node=b&state=firing&severity=critical")).json()["alerts"]
        assert (await cluster.http.get(f"/api/alerts/{alert['id']}")).json()["alert"] == alert
        made = await cluster.http.post(
            "/api/alerts/silences", json={"matchers": [{"label": "node", "value": "b"}], "for_s": 60}
        )
        assert made.status_code == 201
        silenced = (await cluster.http.get("/api/alerts?silenced=true")).json()["alerts"]
        assert [each["silenced_by"] for each in silenced] == [made.json()["silence"]["id"]]
        taken = await cluster.http.post(f"/api/alerts/{alert['id']}/ack", json={"note": "on it"})
        assert taken.json()["alert"]["acknowledged"]["note"] == "on it"
        found, _ = domain.list_alerts(AlertFilter(acknowledged=True), actor=EMBEDDING_PROGRAM, limit=10)
        assert [each.id for each in found] == [alert["id"]]
        assert (await cluster.http.delete("/api/alerts/silences/" + silenced[0]["silenced_by"])).status_code == 204
        assert (await cluster.http.get("/api/alerts/silences")).json() == {"silences": []}
        refused = await cluster.http.post("/api/alerts/silences", json={"matchers": [], "for_s": 60})
        assert refused.status_code == 422
        assert "matchers" in refused.text
        await late.beat()
        listed = (await cluster.http.get("/api/alerts?state=pending")).json()
        assert (listed["alerts"], listed["pending"]) == ([], [])


async def test_a_silence_is_made_once_however_often_it_is_asked_for_under_one_key() -> None:
    async with open_cluster() as cluster:
        asked = {"json": {"matchers": [{"label": "a", "value": "b"}], "for_s": 60}, "headers": {"idempotency-key": "k"}}
        first = await cluster.http.post("/api/alerts/silences", **asked)
        second = await cluster.http.post("/api/alerts/silences", **asked)
        assert first.json() == second.json()
        assert len((await cluster.http.get("/api/alerts/silences")).json()["silences"]) == 1


async def test_tokens_that_are_to_end_and_were_meant_to_last_are_told_of() -> None:
    config = AlertConfig()
    async with open_cluster() as cluster:
        create = cluster.registry.tokens.create_token
        for name, days in (("year", 365), ("day", 1), ("week", 8)):
            wanted = NewToken(name=name, scopes=(Scope.READ,), expires_in_s=days * 86_400)
            await create(wanted, actor=EMBEDDING_PROGRAM)
        async with alerting(cluster.registry, config):
            await cluster.clock.advance(SETTLE_S)
            assert firing(cluster.registry) == []
            cluster.clock.jump_wall(2 * 86_400)
            await cluster.clock.advance(2 * SETTLE_S)
            assert [alert.labels["token"] for alert in cluster.registry.alerts.book.firing()] == ["week"]
            await cluster.registry.tokens.revoke("week", actor=EMBEDDING_PROGRAM)
            await cluster.clock.advance(2 * SETTLE_S)
            assert firing(cluster.registry) == []


async def test_high_latencies_are_told_and_a_restart_does_not_tell_them_again() -> None:
    config = read_config("[rules.beat-latency]\nabove = 100\nfor = '1m'\nkeep = '1m'", source="x")
    sink = KeptSink()
    async with open_cluster() as cluster:
        node = await cluster.node("a")
        async with alerting(cluster.registry, config, sinks=[("kept", sink)]):
            for _ in range(12):
                await node.beat(latency_ms=250)
                await cluster.clock.advance(10)
            assert sink.told == [("beat-latency", "firing")]
            assert sink.taken[0].alert.value == 250
        async with alerting(cluster.registry, config, sinks=[("kept", sink)]):
            for latency_ms in (250, 250, 250, *[50] * 12):
                await node.beat(latency_ms=latency_ms)
                await cluster.clock.advance(10)
        assert sink.told == [("beat-latency", "firing"), ("beat-latency", "resolved")]


async def test_alerts_of_a_rule_that_is_gone_are_resolved() -> None:
    async with open_cluster(settings=UNGUARDED) as cluster:
        await cluster.node("a")
        async with alerting(cluster.registry):
            await cluster.clock.advance(500)
            assert firing(cluster.registry) == ["node-offline"]
        off = read_config("[rules.node-offline]\nenabled = false", source="x")
        async with alerting(cluster.registry, off):
            await cluster.clock.advance(SETTLE_S)
            assert firing(cluster.registry) == []
        assert len(await log_of(cluster.registry)) == cluster.registry.log.revision


async def test_a_reading_of_many_nodes_leaves_time_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "STEP", 2)
    [rule] = [rule for rule in AlertConfig().rules if rule.kind is Kind.BEAT_LATENCY]
    async with open_cluster() as cluster:
        names = ["a", "b", "c", "d", "e"]
        for name in names:
            await (await cluster.node(name)).beat(latency_ms=5_000)
        reading = asyncio.ensure_future(readings.Readings(cluster.registry).read(rule))
        for _ in range(2):
            await cluster.clock.advance(0)
            assert not reading.done()
            await cluster.clock.advance(readings.PAUSE_S)
        assert reading.done()
        assert [each.name for each in await reading] == names


async def test_links_that_break_for_long_take_no_memory_and_are_over_when_they_would_be() -> None:
    config = read_config("[rules.connection-churn]\nabove = 3\nwindow = '20m'\nkeep = 0", source="x")
    async with open_cluster() as cluster, alerting(cluster.registry, config) as run:
        links = Links(cluster)
        for number in range(12):
            node = await links.open(f"n{number}")
            node.say("bye")
            await links.settle()
            node.cut()
            await cluster.clock.advance(10)
        assert len(run._rules._closings["connection-churn"]) == 4
        ended = [event for event in await log_of(cluster.registry) if event.name == "cluster.link.closed"]
        # Of twelve the ninth has to be twenty minutes ago.
        await cluster.clock.advance(1_200 + SETTLE_S)
        [(_, fired), (_, over)] = [
            each for each in await alert_events(cluster.registry) if each[1].rule == "connection-churn"
        ]
        assert fired.value == 4
        assert over.resolved_at == ended[8].at + timedelta(minutes=20)


async def test_rules_that_are_other_ones_after_a_restart_end_what_they_would_not_raise_and_keep_the_rest() -> None:
    sink = KeptSink()
    texts = (
        "[rules.node-offline]\nfor = '1m'",
        "[rules.node-offline]\nfor = '1h'\nseverity = 'info'",  # it fires already
        "[rules.node-offline]\nfor = '1m'\nlabels = { team = 'a' }",  # another alert
        "[rules.node-offline]\nfor = '1m'\nnodes = { name = 'b*' }\nlabels = { team = 'a' }",  # of no interest
    )
    told = []
    async with open_cluster(settings=UNGUARDED) as cluster:
        await cluster.node("a")
        await lose(cluster, "a")
        for text in texts:
            config = read_config(f"after_start = 0\n{text}", source="x")
            async with alerting(cluster.registry, config, sinks=[("kept", sink)]):
                await cluster.clock.advance(75)
            told.append([(each.state.value, each.alert.labels.get("team")) for each in sink.taken])
            sink.taken.clear()
    assert told[0] == [("firing", None)]
    assert told[1] == []
    assert sorted(told[2], key=str) == [("firing", "a"), ("resolved", None)]
    assert told[3] == [("resolved", "a")]
