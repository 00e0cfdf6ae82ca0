"""`/metrics`: what the registry counts of its work, in the text formats of Prometheus and OpenMetrics.

A scrape costs as much as there are series, whose number is bounded, however many nodes there are. It reads the figures
on the event loop in one go, and writes them down in a thread.

Sources: https://prometheus.io/docs/instrumenting/exposition_formats/ and the OpenMetrics 1.0 specification.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from math import inf
from typing import Final, Protocol, assert_never

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, ProcessCollector
from prometheus_client import Metric as Family
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from thunderline import __version__
from thunderline.core.alerts import Severity
from thunderline.core.errors import StoreUnavailable
from thunderline.flow.taxonomy import TAXONOMY, TRANSIENT
from thunderline.link.lanes import Lane
from thunderline.link.meters import STORE_ERRORS, Distribution
from thunderline.link.registry import Registry
from thunderline.link.uplinks import GOODBYE, LOST
from thunderline.link.vitals import Vitals
from thunderline.prism import catalogue
from thunderline.prism.catalogue import OTHER, VALUES_MAX, Kind, Metric

OPEN_METRICS: Final = "application/openmetrics-text"
PLAIN_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
OPEN_METRICS_TYPE: Final = f"{OPEN_METRICS}; version=1.0.0; charset=utf-8"


class Connections(Protocol):
    """Who counts connections."""

    @property
    def entered(self) -> int:
        """Since the start."""

    @property
    def left(self) -> int:
        """Those of them that have ended."""


class Outlet(Protocol):
    """Who tells a sink of alerts, and counts since the start."""

    @property
    def name(self) -> str:
        """The sink's."""

    @property
    def told(self) -> int:
        """What was taken."""

    @property
    def failures(self) -> int:
        """Attempts that failed."""

    @property
    def dead(self) -> int:
        """What became a dead letter."""


class Alerts(Protocol):
    """Who raises alerts."""

    @property
    def outlets(self) -> Sequence[Outlet]:
        """One for each sink."""

    @property
    def failed(self) -> Sequence[str]:
        """Tasks of it that ended by a failure."""


class Metrics:
    """The metrics of one server; `connections`, `alerts` and `certificate_expires_at` None: there is nothing to tell of
    them."""

    def __init__(
        self,
        registry: Registry,
        *,
        connections: Connections | None = None,
        alerts: Alerts | None = None,
        certificate_expires_at: Callable[[], datetime | None] | None = None,
    ) -> None:
        self._registry = registry
        self._connections = connections
        self._alerts = alerts
        self._certificate_expires_at = certificate_expires_at
        self._process = ProcessCollector(registry=None)

    async def expose(self, accept: str | None) -> tuple[bytes, str]:
        """The text, in the format that `accept` (a header's value) asks for, and its media type."""
        families = await self.read()
        writes_open = prefers_open_metrics(accept)
        write = _open_metrics if writes_open else generate_latest
        # The figures of the process come from files of the system, and the text takes a millisecond or two.
        body = await asyncio.to_thread(lambda: write(_Gathered(families, self._process)))
        return body, OPEN_METRICS_TYPE if writes_open else PLAIN_TYPE

    async def read(self) -> list[Family]:
        """The figures as of now, those of the process aside."""
        registry = self._registry
        try:
            begins_at = await registry.log.begins_at()
        except StoreUnavailable:
            begins_at = None
        vitals = registry.vitals()
        return [*self._of_registry(vitals, begins_at), *self._of_server()]

    def _of_server(self) -> Iterator[Family]:
        yield _one(catalogue.BUILD, {__version__: 1})
        if (connections := self._connections) is not None:
            yield _one(catalogue.CONNECTIONS, connections.entered - connections.left)
            yield _one(catalogue.CONNECTIONS_OPENED, connections.entered)
        if self._certificate_expires_at is not None and (expires_at := self._certificate_expires_at()) is not None:
            yield _one(catalogue.CERTIFICATE_EXPIRY, expires_at.timestamp())

    def _of_registry(self, vitals: Vitals, begins_at: datetime | None) -> Iterator[Family]:
        registry, settings, summary = self._registry, self._registry.settings, vitals.summary
        yield _one(catalogue.NODES, summary.nodes.by_status)
        yield _one(catalogue.NODES_BY_ROLE, largest(summary.nodes.by_role))
        yield _one(catalogue.NODES_BY_DOMAIN, largest(summary.nodes.by_domain))
        yield _one(catalogue.NODES_FLAPPING, vitals.flapping)
        yield _one(catalogue.SESSIONS, summary.sessions.by_status)

        commits, capacity = vitals.commits, summary.liveness.capacity
        yield _one(catalogue.BEATS, commits.beats)
        yield _one(catalogue.CAPACITY_LEAST, capacity.heartbeats_per_second)
        yield _one(catalogue.CAPACITY_MOST, capacity.max_heartbeats_per_second)
        yield _one(catalogue.CAPACITY_EXCEEDED, capacity.exceeded)
        yield _one(catalogue.GUARDS, len(summary.liveness.guards))
        yield _one(catalogue.HELD, vitals.held)
        yield _one(catalogue.PAUSED, vitals.paused_s)

        yield _one(catalogue.EVENTS, {name: 0 for name in TAXONOMY if name not in TRANSIENT} | commits.events)
        yield _one(catalogue.LOG_EVENTS, vitals.log_events)
        yield _one(catalogue.LOG_REVISION, summary.revision)
        if begins_at is not None:
            yield _one(catalogue.LOG_SPAN, max(0.0, (registry.clock.now() - begins_at).total_seconds()))
        if vitals.history_bytes is not None:
            yield _one(catalogue.HISTORY_BYTES, vitals.history_bytes)
        yield _one(catalogue.HISTORY_MOST, settings.heartbeat_history_max_bytes)

        yield _spread(catalogue.COMMIT_SECONDS, commits.duration_s)
        yield _spread(catalogue.COMMIT_OPERATIONS, commits.operations)
        yield _one(catalogue.COMMIT_UNDER_WAY, vitals.commit_under_way_s)
        yield _one(catalogue.STORE_UP, vitals.store_away_s is None)
        yield _one(catalogue.STORE_ERRORS, dict.fromkeys(STORE_ERRORS, 0) | commits.errors)
        yield _one(catalogue.LANE_DEPTH, {lane.value: vitals.lanes[lane].depth for lane in Lane})
        yield _one(catalogue.LANE_LIMIT, {lane.value: vitals.lanes[lane].limit for lane in Lane})
        yield _one(catalogue.LANE_REFUSALS, {lane.value: vitals.lanes[lane].refused for lane in Lane})

        yield _one(catalogue.CACHE_HITS, summary.cache.hits)
        yield _one(catalogue.CACHE_MISSES, summary.cache.misses)
        yield _one(catalogue.CACHE_STALE, vitals.store_away_s or 0)

        links = vitals.links
        yield _one(catalogue.LINKS, summary.sessions.links)
        yield _one(catalogue.LINKS_OPENED, {"new": links.opened, "resumed": links.resumed})
        yield _one(catalogue.LINKS_ENDED, {GOODBYE: 0, LOST: 0, **links.ended})
        yield _one(catalogue.LINKS_TURNED_AWAY, {"link": 0, "handshake": 0, **links.turned_away})
        yield _one(catalogue.NAME_CONFLICTS, {"taken_over": links.taken_over, "refused": links.names_in_use})

        yield _one(catalogue.WATCHERS, vitals.watchers)
        yield _one(catalogue.WATCH_BACKLOG, vitals.backlog.waiting)
        yield _one(catalogue.WATCH_BACKLOG_LONGEST, vitals.backlog.longest)
        yield _one(catalogue.WATCH_BACKLOG_LIMIT, settings.watch_backlog_max)
        yield _one(catalogue.WATCHERS_CUT, vitals.backlog.cuts)

        yield _one(catalogue.REFUSALS, vitals.refusals)
        yield _one(catalogue.TOKENS, vitals.tokens.known)
        yield _one(catalogue.TOKENS_EXPIRING, vitals.tokens.expiring)
        if (next_expiry_at := vitals.tokens.next_expiry_at) is not None:
            yield _one(catalogue.TOKEN_EXPIRY, next_expiry_at.timestamp())
        firing = registry.alerts.book.firing_by
        yield _one(catalogue.ALERTS_FIRING, {severity.value: firing[severity] for severity in Severity})
        tasks_failed = vitals.tasks_failed
        if (alerts := self._alerts) is not None:
            tasks_failed += len(alerts.failed)
            yield _one(catalogue.ALERTS_TOLD, {outlet.name: outlet.told for outlet in alerts.outlets})
            yield _one(catalogue.ALERTS_FAILED, {outlet.name: outlet.failures for outlet in alerts.outlets})
            yield _one(catalogue.ALERTS_DEAD, {outlet.name: outlet.dead for outlet in alerts.outlets})
        yield _one(catalogue.TASKS_FAILED, tasks_failed)


class _Gathered(Collector):
    """What was read, as the library writes it down, and the process at that moment."""

    def __init__(self, families: Iterable[Family], process: Collector) -> None:
        self._families = families
        self._process = process

    def collect(self) -> Iterator[Family]:
        yield from self._families
        yield from self._process.collect()


def largest(counts: Mapping[str, int]) -> dict[str, int]:
    """The `VALUES_MAX` values that there are most of; all others together are `OTHER`."""
    if len(counts) <= VALUES_MAX:
        return dict(counts)
    kept = dict(heapq.nlargest(VALUES_MAX, counts.items(), key=lambda item: (item[1], item[0])))
    rest = sum(counts.values()) - sum(kept.values())
    kept[OTHER] = kept.get(OTHER, 0) + rest
    return kept


def prefers_open_metrics(accept: str | None) -> bool:
    """Whether an `Accept` asks for OpenMetrics rather than for the older text. Source: RFC 9110, section 12.5.1."""
    best = {OPEN_METRICS: 0.0, "text/plain": 0.0}
    for item in (accept or "").lower().split(","):
        kind, *parameters = (part.strip() for part in item.split(";"))
        given = dict(parameter.partition("=")[::2] for parameter in parameters)
        if kind == OPEN_METRICS and given.get("version", "1.0.0").strip('"') != "1.0.0":
            continue
        try:
            weight = float(given.get("q", "1"))
        except ValueError:
            continue
        if kind in best:
            best[kind] = max(best[kind], weight)
    return best[OPEN_METRICS] > 0 and best[OPEN_METRICS] >= best["text/plain"]


def _open_metrics(gathered: Collector) -> bytes:
    text: bytes = openmetrics.generate_latest(gathered)  # type: ignore[no-untyped-call]  # the library says no types of it
    return text


def _one(metric: Metric, value: float | Mapping[str, float]) -> Family:
    """A family with one value, or with one for each value of its label."""
    family: CounterMetricFamily | GaugeMetricFamily
    match metric.kind:
        case Kind.COUNTER:
            family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
        case Kind.GAUGE:
            family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        case Kind.HISTOGRAM:
            raise TypeError(f"{metric.name} is a histogram")
        case _:
            assert_never(metric.kind)
    if isinstance(value, Mapping):
        for label, each in value.items():
            family.add_metric((label,), float(each))
    else:
        family.add_metric((), float(value))
    return family


def _spread(metric: Metric, values: Distribution) -> Family:
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*values.bounds, inf), values.counts, strict=True):
        total += count
        buckets.append(("+Inf" if bound == inf else str(bound), total))
    return HistogramMetricFamily(metric.name, metric.help, buckets=buckets, sum_value=values.sum)
