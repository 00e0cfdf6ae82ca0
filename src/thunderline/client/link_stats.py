"""What a link counts."""

from __future__ import annotations

import msgspec


class LinkStats(msgspec.Struct, frozen=True, kw_only=True):
    """Counted since the link was opened. `backlog`: beats that are not acknowledged at present."""

    links: int
    """Welcomes so far: reconnects are all but the first."""
    resumed: int
    beats_taken: int
    beats_acked: int
    beats_late: int
    """Of those, delivered after an outage, with their age."""
    beats_refused: int
    beats_dropped: int
    backlog: int
