"""`/metrics`: each metric declared once, of true values, bounded, in the format that is asked for."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open_metrics
from prometheus_client.parser import text_string_to_metric_families

from tests.gate.links import Links
from tests.prism.alert_worlds import SETTLE_S, KeptSink, alerting, lose
from tests.prism.programs import needs, program
from tests.prism.text import Samples, read, scrape, value
from thunderline.core.access import Scope
from thunderline.core.alerts import Severity
from thunderline.core.errors import Overloaded, StoreUnavailable
from thunderline.core.inputs import NewToken
from thunderline.core.settings import Settings
from thunderline.link.actor import EMBEDDING_PROGRAM
from thunderline.link.vitals import SOON
from thunderline.prism.alerts.alerting import Alerting
from thunderline.prism.alerts.rules import AlertConfig
from thunderline.prism.catalogue import METRICS, OTHER, PROCESS, VALUES_MAX, Kind
from thunderline.prism.metrics import Metrics, largest, prefers_open_metrics
from thunderline.testing.harness import Cluster, open_cluster

PROMETHEUS_ACCEPTS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


SOON_S = int(SOON.total_seconds())


class Entered:
    """Five connections, of which three are open."""

    entered = 5
    left = 2


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with open_cluster() as opened:
        yield opened


def full(cluster: Cluster) -> Metrics:
    """Of a server that has something to tell of everything."""
    return Metrics(
        cluster.registry,
        connections=Entered(),
        alerts=Alerting(cluster.registry, AlertConfig(), sinks=[("kept", KeptSink())]),
        certificate_expires_at=lambda: cluster.clock.now() + timedelta(days=3),
    )


async def fill(cluster: Cluster) -> None:
    """Something of all that metrics tell of."""
    await cluster.node("a", role="worker", domain="west")
    await cluster.node("b", role="edge", domain="west")
    expiring = NewToken(name="expiring", scopes=(Scope.READ,), expires_in_s=86_400)
    await cluster.registry.tokens.create_token(expiring, actor=EMBEDDING_PROGRAM)
    assert (await cluster.http.get("/api/nodes", headers={"host": "elsewhere.example"})).status_code == 421
    await cluster.turn(20)


def test_names_follow_the_rules_of_prometheus() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(r"thunderline_[a-z0-9_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER), metric.name
        assert not re.search(r"_(ms|milliseconds|minutes|hours|days|kib|mb|percent)(_|$)", metric.name), metric.name
        assert metric.help[0].isupper() or metric.help[0].isdigit()
        assert not metric.help.endswith(".")
        assert all(re.fullmatch(r"[a-z]+", label) and label != "le" for label in metric.labels)


async def test_every_declared_metric_is_told_as_declared_and_no_other(cluster: Cluster) -> None:
    await fill(cluster)
    text, _ = await full(cluster).expose(None)
    families = {family.name: family for family in text_string_to_metric_families(text.decode())}
    declared = {metric.name.removesuffix("_total"): metric for metric in METRICS}
    assert {name for name in families if not name.startswith("process_")} == declared.keys()
    process = {name.removesuffix("_total") for name in PROCESS}
    assert {name for name in families if name.startswith("process_")} == process
    for name, metric in declared.items():
        family = families[name]
        assert (family.type, family.documentation) == (metric.kind.value, metric.help)
        assert family.samples
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == set(metric.labels), name


@needs("promtool")
async def test_promtool_finds_nothing_to_say(cluster: Cluster) -> None:
    await fill(cluster)
    text, _ = await full(cluster).expose(None)
    command = [program("promtool"), "check", "metrics"]
    checked = await asyncio.to_thread(subprocess.run, command, input=text, capture_output=True, timeout=30)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


async def test_prometheus_gets_open_metrics_and_who_does_not_ask_the_older_text(cluster: Cluster) -> None:
    await fill(cluster)
    plain = await cluster.http.get("/metrics")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert plain.headers["cache-control"] == "no-store"
    opened = await cluster.http.get("/metrics", headers={"accept": PROMETHEUS_ACCEPTS})
    assert opened.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert opened.text.endswith("# EOF\n")
    names = [
        {family.name for family in read(text)}
        for read, text in (
            (read_open_metrics, opened.text),
            (text_string_to_metric_families, plain.text),
        )
    ]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        (PROMETHEUS_ACCEPTS, True),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=0.0.1", False),
        ("text/plain;q=0.5, application/openmetrics-text;q=0.4", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;version=x;q=", False),
        ("application/openmetrics-text;q=nan, text/plain", False),
        (';;;,="', False),
    ],
)
def test_the_format_is_the_one_that_is_preferred(accept: str | None, wanted: bool) -> None:
    assert prefers_open_metrics(accept) is wanted


async def test_nodes_are_counted_by_status_role_and_domain(cluster: Cluster) -> None:
    await fill(cluster)
    samples = await scrape(cluster.http)
    summary = cluster.registry.summary().nodes
    for status, nodes in summary.by_status.items():
        assert value(samples, "nodes", status=status) == nodes
    assert value(samples, "nodes_by_role", role="edge") == 1
    assert value(samples, "nodes_by_domain", domain="west") == 2


def test_values_beyond_the_largest_are_counted_together() -> None:
    counts = {f"role-{number:03}": number for number in range(1, VALUES_MAX + 11)}
    kept = largest(counts)
    assert len(kept) == VALUES_MAX + 1
    assert kept[OTHER] == sum(range(1, 11))
    assert sum(kept.values()) == sum(counts.values())
    assert largest({"a": 1}) == {"a": 1}
    assert largest({**counts, OTHER: 1_000})[OTHER] == 1_000 + sum(range(1, 12))


async def test_what_is_written_is_counted_once(cluster: Cluster) -> None:
    before = await scrape(cluster.http)
    node = await cluster.node("a")
    await node.beat()
    after = await scrape(cluster.http)

    def more(metric: str, **labels: str) -> float:
        return value(after, metric, **labels) - value(before, metric, **labels)

    assert more("heartbeats_total") == 2
    assert more("events_total", name="cluster.node.registered") == 1
    assert more("events_total", name="cluster.node.online") == 1
    commits = after["thunderline_commit_duration_seconds_count", ()]
    assert commits - before["thunderline_commit_duration_seconds_count", ()] == 3
    assert after["thunderline_commit_operations_sum", ()] - before["thunderline_commit_operations_sum", ()] == 3
    assert after["thunderline_commit_duration_seconds_bucket", (("le", "+Inf"),)] == commits
    buckets = [count for (name, _), count in after.items() if name == "thunderline_commit_duration_seconds_bucket"]
    assert buckets == sorted(buckets)
    assert more("log_events") == more("log_revision") == 2


async def test_alerts_are_counted_by_severity_and_what_became_of_telling_them_by_sink() -> None:
    pager, chat = KeptSink(), KeptSink()
    pager.down = chat.refuses = True
    settings = Settings(guard_fraction=1.0)
    async with (
        open_cluster(settings=settings) as cluster,
        alerting(cluster.registry, sinks=[("pager", pager), ("chat", chat)]) as alerts,
    ):
        metrics = Metrics(cluster.registry, alerts=alerts)

        async def samples() -> Samples:
            body, _ = await metrics.expose(None)
            return read(body.decode())

        before = await samples()
        assert {value(before, "alerts_firing", severity=each) for each in Severity} == {0}
        assert value(before, "alert_dead_letters_total", sink="pager") == 0
        node = await cluster.node("a")
        await lose(cluster, "a")
        await cluster.clock.advance(301 + SETTLE_S)
        during = await samples()
        assert value(during, "alerts_firing", severity="critical") == 1
        assert value(during, "alerts_firing", severity="warning") == 0
        assert value(during, "alert_attempts_failed_total", sink="pager") == pager.attempts > 1
        assert value(during, "alert_dead_letters_total", sink="chat") == 1
        pager.down = chat.refuses = False
        await node.beat()
        await cluster.clock.advance(60 + SETTLE_S)
        after = await samples()
        assert value(after, "alerts_firing", severity="critical") == 0
        assert value(after, "alert_notifications_total", sink="pager") == len(pager.taken) == 2
        assert value(after, "alert_notifications_total", sink="chat") == len(chat.taken) == 1
        assert value(after, "tasks_failed") == 0


async def test_a_store_that_is_away_is_told_and_what_failed_is_counted(cluster: Cluster) -> None:
    await cluster.node("a")
    cluster.store.away = True
    answer = await cluster.http.post("/api/nodes", json={"name": "b"})
    assert answer.status_code == 503
    await cluster.clock.advance(5)
    samples = await scrape(cluster.http)
    assert value(samples, "store_up") == 0
    assert value(samples, "store_errors_total", kind="unavailable") == 1
    assert value(samples, "cache_stale_seconds") >= 5
    assert value(samples, "nodes", status="online") == 1
    cluster.store.away = False
    await cluster.turn(5)
    assert value(await scrape(cluster.http), "store_up") == 1


async def test_links_that_begin_break_and_go_on_are_counted(cluster: Cluster) -> None:
    links = Links(cluster)
    first = await links.open("worker-1")
    first.cut()
    resumed = await links.open("worker-1", resume=first.resume)
    assert resumed.welcome["resumed"]
    await links.open("worker-1", instance="b")
    resumed.cut()
    gone = await links.open("worker-2")
    gone.say("bye")
    await links.settle()
    gone.cut()
    refused = await links.open("worker-1", instance="c")
    assert refused.error["code"] == "name_in_use"
    samples = await scrape(cluster.http)
    assert value(samples, "links") == 1
    assert value(samples, "links_opened_total", how="new") == 3
    assert value(samples, "links_opened_total", how="resumed") == 1
    assert value(samples, "links_ended_total", reason="lost") == 1
    assert value(samples, "links_ended_total", reason="superseded") == 1
    assert value(samples, "links_ended_total", reason="goodbye") == 1
    assert value(samples, "name_conflicts_total", outcome="taken_over") == 1
    assert value(samples, "name_conflicts_total", outcome="refused") == 1


async def test_links_for_which_there_is_no_room_are_counted() -> None:
    async with open_cluster(settings=Settings(links_max=1)) as cluster:
        links = Links(cluster)
        await links.open("worker-1")
        with pytest.raises(Overloaded):
            links.connect()
        samples = await scrape(cluster.http)
        assert value(samples, "links_turned_away_total", limit="link") == 1
        assert value(samples, "links_turned_away_total", limit="handshake") == 0


async def test_what_waits_in_a_lane_and_what_found_it_full_is_told() -> None:
    async with open_cluster(settings=Settings(heartbeat_lane_max=1)) as cluster:
        node = await cluster.node("a")
        answers = await asyncio.gather(*(node.beat() for _ in range(8)))
        refused = sum(answer.status_code == 503 for answer in answers)
        assert refused
        samples = await scrape(cluster.http)
        assert value(samples, "lane_refusals_total", lane="heartbeat") == refused
        assert value(samples, "lane_limit", lane="heartbeat") == 1
        assert value(samples, "lane_depth", lane="heartbeat") == 0


async def test_who_watches_and_what_waits_for_them_is_told() -> None:
    async with open_cluster(settings=Settings(watch_backlog_max=4)) as cluster:
        await cluster.node("a")
        async with cluster.registry.subscribe("cluster.node.registered") as slow:
            first = asyncio.ensure_future(slow.take())
            await cluster.settle()
            await cluster.node("b")
            await first
            for name in ("c", "d"):
                await cluster.node(name)
            samples = await scrape(cluster.http)
            assert value(samples, "watchers") == 1
            assert value(samples, "watch_backlog_events") == value(samples, "watch_backlog_longest_events") == 2
            assert value(samples, "watchers_cut_total") == 0
            for name in ("e", "f", "g"):
                await cluster.node(name)
            samples = await scrape(cluster.http)
            assert value(samples, "watchers_cut_total") == 1
            assert value(samples, "watchers") == 0


async def test_refusals_are_counted_by_code_and_tokens_that_expire_soon(cluster: Cluster) -> None:
    await fill(cluster)
    tokens = cluster.registry.tokens
    for name, seconds in (("soon", SOON_S - 60), ("late", SOON_S + 60), ("never", None)):
        wanted = NewToken(name=name, scopes=(Scope.READ,), expires_in_s=seconds)
        await tokens.create_token(wanted, actor=EMBEDDING_PROGRAM)
    samples = await scrape(cluster.http)
    assert value(samples, "refusals_total", code="host_refused") == 1
    assert value(samples, "tokens") == 4
    assert value(samples, "tokens_expiring") == 2
    await tokens.revoke("expiring", actor=EMBEDDING_PROGRAM)
    samples = await scrape(cluster.http)
    assert value(samples, "tokens_expiring") == 1
    until = value(samples, "token_next_expiry_timestamp_seconds") - cluster.clock.now().timestamp()
    assert SOON_S - 100 < until < SOON_S - 50
    await cluster.turn(120, step_s=10)
    assert value(await scrape(cluster.http), "tokens_expiring") == 2


async def test_the_span_of_the_log_is_the_age_of_its_oldest_event(cluster: Cluster) -> None:
    started = cluster.clock.now()
    await cluster.node("a")
    await cluster.turn(30)
    samples = await scrape(cluster.http)
    assert value(samples, "log_span_seconds") == pytest.approx((cluster.clock.now() - started).total_seconds(), abs=1)


async def test_a_scrape_while_the_log_cannot_be_read_leaves_out_what_it_does_not_know(cluster: Cluster) -> None:
    await cluster.node("a")

    async def fails() -> None:
        raise StoreUnavailable("gone")

    cluster.registry.log.begins_at = fails  # type: ignore[method-assign]
    samples = await scrape(cluster.http)
    assert ("thunderline_log_span_seconds", ()) not in samples
    assert value(samples, "nodes", status="online") == 1


async def test_a_scrape_takes_no_more_when_there_are_more_nodes(cluster: Cluster) -> None:
    await cluster.node("a")
    before = await scrape(cluster.http)
    for number in range(60):
        await cluster.registry.ensure_node({"name": f"n{number}", "role": f"r{number}"})
    after = await scrape(cluster.http)
    assert len(after) - len(before) == VALUES_MAX + 1 - 1
