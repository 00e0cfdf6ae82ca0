"""Which revision a moment is, as people and programs name moments: a time, a revision, or a cursor.

A time means the highest revision with an event at or before it: where the wall clock went back, the moments that it
passed twice mean the second pass. A revision within a commit means the commit's end, since nobody ever saw the cluster
in between.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeAlias

from thunderline.block.store import Store
from thunderline.core.clock import from_ms, to_ms
from thunderline.core.errors import CursorGone, InvalidInput
from thunderline.core.ids import Revision
from thunderline.link.event_log import EventLog

Moment: TypeAlias = datetime | int | str
"""A time with its offset from UTC, a revision, or either as text, or a cursor."""


class Moments:
    """Moments of one registry's log."""

    def __init__(self, store: Store, log: EventLog) -> None:
        self._store = store
        self._log = log

    async def revision(self, at: Moment, *, field: str = "at") -> Revision:
        """The revision at which the cluster stood as it did at that moment.

        Raises: InvalidInput naming `field`, also for a revision that is still to come; CursorGone that names the oldest
        moment that is kept, or when the cursor belongs to another log.
        """
        found = await self._find(read_moment(at, field=field), field)
        return found if found >= self._log.revision else await self._store.commit_end(found)

    async def both(self, at: Moment, *, field: str) -> tuple[datetime, Revision]:
        """That moment as a time, and as a revision. Raises: as `revision`."""
        wanted = read_moment(at, field=field)
        revision = await self.revision(at, field=field)
        if isinstance(wanted, datetime):
            return wanted, revision
        events = await self._store.read_events(after=Revision(revision - 1), limit=1)
        # Before the first event there was no time.
        return (events[0].at if events else from_ms(0)), revision

    async def _find(self, at: datetime | int | str, field: str) -> Revision:
        if isinstance(at, str):
            return self._log.revision_of(at, field=field)
        if isinstance(at, datetime):
            revision: int = await self._store.revision_at(to_ms(at))
        elif 0 <= at <= self._log.revision:
            revision = at
        else:
            raise InvalidInput(field, f"should be from 0 to {self._log.revision}, where the log stands")
        if revision < self._log.oldest:
            raise CursorGone(str(at), why=await self._begins(), field=field)
        return Revision(revision)

    async def _begins(self) -> str:
        oldest = self._log.oldest
        events = await self._store.read_events(after=Revision(oldest - 1), limit=1)
        since = f", at {events[0].at.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}" if events else ""
        return f"the oldest moment that is kept is revision {oldest}{since}"


def read_moment(at: Moment, *, field: str = "at") -> datetime | int | str:
    """A time, a revision, or a cursor. Raises: InvalidInput."""
    if isinstance(at, str):
        text = at.strip()
        if text.isascii() and text.isdigit() and len(text) <= 18:
            return int(text)
        log_id, colon, number = text.rpartition(":")
        if colon and len(log_id) == 36 and number.isdigit():
            return text
        try:
            # In a query an unescaped plus sign means a space.
            at = datetime.fromisoformat(text.replace(" ", "+") if text.count(" ") == 1 and "T" in text else text)
        except ValueError:
            raise InvalidInput(field, _WANTED) from None
    if isinstance(at, int):
        return at
    if at.tzinfo is None:
        raise InvalidInput(field, "should say its offset from UTC, such as 2026-01-31T03:12:00Z")
    if not _FIRST_YEAR <= at.year <= _LAST_YEAR:
        raise InvalidInput(field, f"should be in one of the years {_FIRST_YEAR} to {_LAST_YEAR}")
    return at.astimezone(UTC)


_FIRST_YEAR, _LAST_YEAR = 2, 9998
"""A year from what a time can be at all: an offset, a window before it or the last bin behind it may lead further."""

_WANTED = "should be a time such as 2026-01-31T03:12:00Z, a revision, or a cursor `<log id>:<revision>`"
