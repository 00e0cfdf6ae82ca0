"""Cursors into the event log as the outside sees them: `<log_id>:<revision>`."""

from __future__ import annotations

from thunderline.core.errors import CursorGone, InvalidInput
from thunderline.core.ids import LogId, Revision


def write_cursor(log_id: LogId, revision: Revision) -> str:
    """The cursor behind which everything after `revision` follows."""
    return f"{log_id}:{revision}"


def read_cursor(text: str | None, *, log_id: LogId, oldest: Revision, head: Revision, field: str = "since") -> Revision:
    """The revision that `text` stands behind; absent, empty or `0` is the oldest that is kept.

    A bare number is a position in the present log, for people at a terminal. Raises: InvalidInput when it is no
    cursor; CursorGone when it is one that this log cannot continue from.
    """
    if text is None or text in ("", "0"):
        return oldest
    named, separator, number = text.rpartition(":")
    if not number.isascii() or not number.isdigit() or len(number) > 18:
        raise InvalidInput(field, "should be a cursor `<log id>:<revision>`, as an earlier answer gave it")
    revision = Revision(int(number))
    if separator and named != log_id:
        raise CursorGone(text, why="it belongs to another event log", field=field)
    if revision > head:
        raise CursorGone(text, why=f"it is ahead of the log, which stands at {head}", field=field)
    if revision < oldest:
        raise CursorGone(text, why=f"the log begins after {oldest}", field=field)
    return revision
