"""What was refused, on its way to the audit log.

Refusals of one kind are counted for some seconds and told as one entry, so that whoever is refused a million times
writes a handful of rows.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Final

import msgspec

from thunderline.core.access import AuditEntry, Outcome
from thunderline.core.clock import Clock
from thunderline.core.errors import ContentRejected, OutcomeUnknown, ThunderlineError, Unavailable
from thunderline.core.ids import AuditId, IdSource, TokenId
from thunderline.core.sites import site_of
from thunderline.link.actor import DETECTION, NOBODY, Actor
from thunderline.link.lanes import Lane
from thunderline.link.overlay import Overlay
from thunderline.link.writer import Writer

NOTE_S: Final = 10.0
"""For so long refusals of one kind are counted before they are told."""

KINDS_MAX: Final = 500
"""Kinds of refusals that are counted apart in that time, of those who show a good token, and again of those who show
none; the rest are told as one. Anonymous callers can thus not crowd out what is told of known ones."""

OF_ONE_MAX: Final = 20
"""Of them by one that shows a good token: whoever is refused all sorts of things crowds out nobody else."""

OTHERS: Final = "others"


class Kind(msgspec.Struct, frozen=True, array_like=True):
    """What is told as one."""

    actor: str
    action: str
    reason: str
    subject: str | None = None
    address: str | None = None
    token_id: TokenId | None = None


class Count(msgspec.Struct):
    """How often, and when."""

    first_at: datetime
    last_at: datetime
    count: int = 1


class Counts:
    """Counts of a bounded number of kinds, of each actor fewer; those beyond are counted as one of that actor's, and
    at last as one of all."""

    def __init__(self, each_max: int) -> None:
        self.kinds: dict[Kind, Count] = {}
        self._each_max = each_max
        self._of_actor: Counter[str] = Counter()

    def add(self, kind: Kind, more: Count) -> None:
        """Count `more` of a kind."""
        if kind not in self.kinds and self._of_actor[kind.actor] >= self._each_max:
            kind = Kind(kind.actor, OTHERS, OTHERS, token_id=kind.token_id)
        if kind not in self.kinds and len(self.kinds) >= KINDS_MAX:
            kind = Kind(OTHERS, OTHERS, OTHERS)
        count = self.kinds.get(kind)
        if count is None:
            self.kinds[kind] = more
            self._of_actor[kind.actor] += 1
        else:
            count.first_at = min(count.first_at, more.first_at)
            count.last_at = max(count.last_at, more.last_at)
            count.count += more.count


class Refusals:
    """All of one process that are not told yet."""

    def __init__(self, *, clock: Clock, ids: IdSource) -> None:
        self.counted: Counter[str] = Counter()
        """All since the start, by the error's code."""
        self._clock = clock
        self._ids = ids
        self._known, self._strangers = Counts(OF_ONE_MAX), Counts(KINDS_MAX)

    def note(
        self,
        error: ThunderlineError,
        *,
        action: str,
        actor: Actor | None = None,
        subject: str | None = None,
        address: str | None = None,
    ) -> None:
        """Count a refusal. `action` must be one of few words, never what a caller sent."""
        actor = actor or NOBODY
        self.counted[error.code] += 1
        counts = self._strangers if actor.token_id is None else self._known
        now = self._clock.now()
        address = address or actor.address
        if actor.token_id is None:
            address = site_of(address) or None  # one stranger has many addresses
        counts.add(Kind(str(actor), action, error.code, subject, address, actor.token_id), Count(now, now))

    async def run(self, writer: Writer) -> None:
        """Tell what was refused now and then, until cancelled."""
        while True:
            await self._clock.sleep(NOTE_S)
            await self.tell(writer)

    async def tell(self, writer: Writer) -> None:
        """Write what was refused into the audit log. Where that cannot be done now, it is counted on."""
        told = (self._known, self._strangers)
        if writer.away is not None or not any(counts.kinds for counts in told):
            return
        self._known, self._strangers = Counts(OF_ONE_MAX), Counts(KINDS_MAX)

        def plan(overlay: Overlay) -> None:
            for counts in told:
                for kind, count in counts.kinds.items():
                    overlay.add_audit(self._entry(kind, count))

        try:
            await writer.submit(Lane.OWN, plan, actor=DETECTION)
        except ContentRejected:
            pass  # the writer has told of it; told again, it would be rejected again
        except (Unavailable, OutcomeUnknown):
            # Of what may have been written, better twice than not at all.
            for counts, kept in zip((self._known, self._strangers), told, strict=True):
                for kind, count in kept.kinds.items():
                    counts.add(kind, count)

    def _entry(self, kind: Kind, count: Count) -> AuditEntry:
        return AuditEntry(
            id=AuditId(self._ids()),
            at=count.last_at,
            actor=kind.actor,
            action=kind.action,
            outcome=Outcome.REFUSED,
            subject=kind.subject,
            reason=kind.reason,
            token_id=kind.token_id,
            address=kind.address,
            count=count.count,
            first_at=count.first_at if count.count > 1 else None,
        )
