"""How the registry itself does, in figures: what metrics are made of.

Reading them costs as much as there are statuses, roles, domains, engaged guards and watchers, and nothing for each
node.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from thunderline.flow.bus import Backlog
from thunderline.link.lanes import Lane
from thunderline.link.meters import CommitMeters
from thunderline.link.summary import Summary

if TYPE_CHECKING:
    from thunderline.link.engine import Engine

SOON: Final = timedelta(days=7)
"""What expires within it is about to."""


class LaneFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One lane: what waits in it now, how much may, and how often it was full since the start."""

    depth: int
    limit: int
    refused: int


class LinkFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Links of this process since the start.

    `opened` are new ones, `resumed` go on over another connection; `ended` by reason, and `turned_away` by what there
    were too many of. `taken_over`: a process took its name over from one that was alive; `names_in_use`: it was kept
    from it.
    """

    opened: int
    resumed: int
    ended: Mapping[str, int]
    turned_away: Mapping[str, int]
    taken_over: int
    names_in_use: int


class TokenFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How many tokens there are, the revoked ones too; how many good ones expire within `SOON`; when the next does."""

    known: int
    expiring: int
    next_expiry_at: datetime | None


class Vitals(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. What is a mapping or a meter counts on while the registry runs."""

    summary: Summary
    flapping: int
    held: int
    """Nodes that guards hold."""
    paused_s: float
    """For how long this process paused since the start."""
    commits: CommitMeters
    commit_under_way_s: float
    store_away_s: float | None
    """For how long the store has been taking no changes; None while it does."""
    lanes: Mapping[Lane, LaneFigures]
    links: LinkFigures
    watchers: int
    backlog: Backlog
    log_events: int
    """That are kept."""
    history_bytes: int | None
    """About what heartbeat history takes; None before it was looked at first."""
    refusals: Mapping[str, int]
    """What was refused since the start, by the error's code."""
    tokens: TokenFigures
    tasks_failed: int


def read_vitals(engine: Engine, summary: Summary, *, now: datetime) -> Vitals:
    """The figures as of `now`."""
    writer, sentinel, uplinks, tokens = engine.writer, engine.sentinel, engine.uplinks, engine.roster.tokens
    lanes = writer.lanes
    return Vitals(
        summary=summary,
        flapping=sentinel.flapping,
        held=sentinel.guard.held,
        paused_s=sentinel.paused_s,
        commits=writer.meters,
        commit_under_way_s=writer.under_way_s,
        store_away_s=summary.cache.stale_s,
        lanes={
            lane: LaneFigures(depth=lanes.depth(lane), limit=lanes.limits[lane], refused=lanes.refused[lane])
            for lane in Lane
        },
        links=LinkFigures(
            opened=uplinks.opened_links,
            resumed=uplinks.resumed_links,
            ended=uplinks.ended_links,
            turned_away=uplinks.turned_away,
            taken_over=uplinks.taken_over,
            names_in_use=uplinks.names_in_use,
        ),
        watchers=engine.log.watchers,
        backlog=engine.log.backlog(),
        log_events=engine.roster.revision - engine.log.oldest,
        history_bytes=engine.history.size_bytes,
        refusals=engine.refusals.counted,
        tokens=TokenFigures(
            known=len(tokens),
            expiring=tokens.expiring(after=now, before=now + SOON),
            next_expiry_at=tokens.next_expiry(after=now),
        ),
        tasks_failed=len(engine.tasks.failed),
    )
