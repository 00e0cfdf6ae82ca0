"""Every metric that a server has, each declared once: `/metrics`, its documentation and its board follow from this.

Names and units are by Prometheus' rules (https://prometheus.io/docs/practices/naming/). Labels have values out of small
sets; those that callers choose, roles and domains, are bounded by `VALUES_MAX`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

VALUES_MAX: Final = 50
"""Roles, and domains, that have a series of their own: those of the most nodes. The rest are counted as `OTHER`."""

OTHER: Final = "other"


class Kind(StrEnum):
    """What Prometheus takes a metric for."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One declaration; `help` is a sentence without its full stop."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


def _counter(name: str, text: str, *labels: str) -> Metric:
    return Metric(name=f"thunderline_{name}", kind=Kind.COUNTER, help=text, labels=labels)


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(name=f"thunderline_{name}", kind=Kind.GAUGE, help=text, labels=labels)


def _histogram(name: str, text: str) -> Metric:
    return Metric(name=f"thunderline_{name}", kind=Kind.HISTOGRAM, help=text)


BUILD: Final = _gauge("build_info", "1, labelled with the version of the server", "version")

NODES: Final = _gauge("nodes", "Nodes by effective status", "status")
NODES_BY_ROLE: Final = _gauge("nodes_by_role", f"Nodes by role, those beyond the {VALUES_MAX} largest as other", "role")
NODES_BY_DOMAIN: Final = _gauge(
    "nodes_by_domain", f"Nodes by domain, those beyond the {VALUES_MAX} largest as other", "domain"
)
NODES_FLAPPING: Final = _gauge("nodes_flapping", "Nodes that are marked as flapping")
SESSIONS: Final = _gauge("sessions", "Open link sessions by status", "status")

BEATS: Final = _counter("heartbeats_total", "Heartbeats that were written")
CAPACITY_LEAST: Final = _gauge(
    "heartbeats_per_second_least", "Heartbeats a second that the fleet sends at the longest intervals it may be told"
)
CAPACITY_MOST: Final = _gauge("heartbeats_per_second_limit", "Setting max_heartbeats_per_second")
CAPACITY_EXCEEDED: Final = _gauge("capacity_exceeded", "1 while the fleet beats too often whatever it is told")
GUARDS: Final = _gauge("guards_engaged", "Failure domains in which the guard against mass expiry is engaged")
HELD: Final = _gauge("guard_held_nodes", "Silent nodes that guards keep from falling at once")
PAUSED: Final = _counter("paused_seconds_total", "For how long this process did nothing when it should have")

EVENTS: Final = _counter("events_total", "Persistent events that were written, by name", "name")
LOG_EVENTS: Final = _gauge("log_events", "Events that are kept")
LOG_REVISION: Final = _gauge("log_revision", "Revision of the newest event")
LOG_SPAN: Final = _gauge("log_span_seconds", "Age of the oldest event that is kept")
HISTORY_BYTES: Final = _gauge("history_size_bytes", "About what heartbeat history takes in the store")
HISTORY_MOST: Final = _gauge("history_limit_bytes", "Setting heartbeat_history_max_bytes")

COMMIT_SECONDS: Final = _histogram("commit_duration_seconds", "How long commits took, to their flush")
COMMIT_OPERATIONS: Final = _histogram("commit_operations", "Changes and heartbeats in one commit")
COMMIT_UNDER_WAY: Final = _gauge("commit_under_way_seconds", "For how long the present commit has been taking")
STORE_UP: Final = _gauge("store_up", "1 while the store takes changes")
STORE_ERRORS: Final = _counter("store_errors_total", "Commits that failed, by how", "kind")
LANE_DEPTH: Final = _gauge("lane_depth", "Operations that wait to be committed, by lane", "lane")
LANE_LIMIT: Final = _gauge("lane_limit", "Operations that may wait, by lane", "lane")
LANE_REFUSALS: Final = _counter("lane_refusals_total", "Operations that found their lane full", "lane")

CACHE_HITS: Final = _counter("cache_hits_total", "Look-ups of one node that found it; all are answered from memory")
CACHE_MISSES: Final = _counter("cache_misses_total", "Look-ups of one node that there is not")
CACHE_STALE: Final = _gauge("cache_stale_seconds", "By how much reads may lag behind because the store is away")

CONNECTIONS: Final = _gauge("connections", "Open connections of any kind")
CONNECTIONS_OPENED: Final = _counter("connections_opened_total", "Connections of any kind that were let in")
LINKS: Final = _gauge("links", "Live links of nodes")
LINKS_OPENED: Final = _counter("links_opened_total", "Links that began, new or resumed", "how")
LINKS_ENDED: Final = _counter("links_ended_total", "Links that ended, by reason", "reason")
LINKS_TURNED_AWAY: Final = _counter("links_turned_away_total", "Links for which there was no room", "limit")
NAME_CONFLICTS: Final = _counter(
    "name_conflicts_total", "Processes that wanted the name of one that was alive, by what became of it", "outcome"
)

WATCHERS: Final = _gauge("watchers", "Who watches events live: streams, channels, programs")
WATCH_BACKLOG: Final = _gauge("watch_backlog_events", "Events that wait for watchers")
WATCH_BACKLOG_LONGEST: Final = _gauge("watch_backlog_longest_events", "Events that wait for the slowest watcher")
WATCH_BACKLOG_LIMIT: Final = _gauge("watch_backlog_limit_events", "Setting watch_backlog_max")
WATCHERS_CUT: Final = _counter("watchers_cut_total", "Watchers that were cut because too much waited for them")

REFUSALS: Final = _counter("refusals_total", "What was refused to callers, by the code of the error", "code")
TOKENS: Final = _gauge("tokens", "Tokens that are known, the revoked ones too")
TOKENS_EXPIRING: Final = _gauge("tokens_expiring", "Good tokens that expire within 7 days")
TOKEN_EXPIRY: Final = _gauge("token_next_expiry_timestamp_seconds", "When the next good token expires, if any does")
CERTIFICATE_EXPIRY: Final = _gauge(
    "certificate_expiry_timestamp_seconds", "When the TLS certificate expires, or the first of its chain"
)
ALERTS_FIRING: Final = _gauge(
    "alerts_firing", "Alerts that fire, also those that are silenced, by severity", "severity"
)
ALERTS_TOLD: Final = _counter("alert_notifications_total", "Notifications of alerts that a sink took", "sink")
ALERTS_FAILED: Final = _counter(
    "alert_attempts_failed_total", "Attempts to tell a sink of an alert that it did not take", "sink"
)
ALERTS_DEAD: Final = _counter(
    "alert_dead_letters_total", "Notifications of alerts that a sink was given up for", "sink"
)
TASKS_FAILED: Final = _gauge("tasks_failed", "Tasks of the server that ended by a failure, which only a restart mends")

METRICS: Final = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""All of them, in order."""

PROCESS: Final = (
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
)
"""Those of the process itself, under the names that every client library gives them."""
