"""The cluster in figures: what a page or a person wants to know first."""

from __future__ import annotations

import msgspec

from thunderline.core.ids import Revision
from thunderline.core.records import OPEN_SESSION_STATUSES, CapacityReport, GuardReport, NodeStatus
from thunderline.link.roster import Roster


class NodeCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many nodes there are, of every status, and of each role and domain that there is."""

    total: int
    by_status: dict[str, int]
    by_role: dict[str, int]
    by_domain: dict[str, int]


class SessionCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many link sessions are open, and `links`: how many connections this process holds."""

    total: int
    by_status: dict[str, int]
    links: int


class CacheFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How the roster serves: point queries that found a node (`hits`) or did not, since the start.

    `hit_rate` None: there was none yet. `stale_s`: for how long reads may lag behind because the store is away, None
    while they do not.
    """

    nodes: int
    hits: int
    misses: int
    hit_rate: float | None
    stale_s: float | None


class LivenessFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the registry does about too many silences, or too many heartbeats: the guards that are engaged now."""

    guards: list[GuardReport]
    capacity: CapacityReport


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The cluster as of `revision`."""

    nodes: NodeCounts
    sessions: SessionCounts
    cache: CacheFigures
    liveness: LivenessFigures
    revision: Revision
    cursor: str


def summarise(roster: Roster, *, links: int, stale_s: float | None, liveness: LivenessFigures, cursor: str) -> Summary:
    """The figures of a roster; costs as much as there are statuses, roles and domains."""
    asked = roster.hits + roster.misses
    statuses = roster.counts("status")
    return Summary(
        nodes=NodeCounts(
            total=len(roster),
            by_status={status.value: statuses.get(status.value, 0) for status in NodeStatus},
            by_role=roster.counts("role"),
            by_domain=roster.counts("domain"),
        ),
        sessions=SessionCounts(
            total=len(roster.sessions),
            by_status={status.value: roster.sessions.by_status[status] for status in sorted(OPEN_SESSION_STATUSES)},
            links=links,
        ),
        cache=CacheFigures(
            nodes=len(roster),
            hits=roster.hits,
            misses=roster.misses,
            hit_rate=roster.hits / asked if asked else None,
            stale_s=stale_s,
        ),
        liveness=liveness,
        revision=roster.revision,
        cursor=cursor,
    )
