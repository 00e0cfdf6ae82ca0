"""Moments as people at a terminal name them: `15m`, a time, a revision, a cursor."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

import typer

from thunderline.client.past import written
from thunderline.core.clock import SystemClock

WHEN_HELP: Final = (
    "A time (2026-01-31T03:12:00Z; without an offset it is of this machine's time zone), how long ago (90s, 15m, 2h, "
    "3d), a revision, or a cursor."
)

_AGO: Final = re.compile(r"(\d{1,9})\s*([smhd])(?:\s+ago)?")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_CURSOR: Final = re.compile(r"[0-9a-f-]{36}:\d{1,18}")


def read_when(text: str | None) -> str | None:
    """The moment as the API takes it. Raises: typer.BadParameter."""
    if text is None:
        return None
    given = text.strip()
    if (ago := _AGO.fullmatch(given)) is not None:
        try:
            return written(SystemClock().now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])}), field="at")
        except OverflowError as error:
            raise typer.BadParameter(f"{text!r} is before all time") from error
    if (given.isascii() and given.isdigit()) or _CURSOR.fullmatch(given):
        return given
    try:
        at = datetime.fromisoformat(given)
        return written((at if at.tzinfo else at.astimezone()).astimezone(UTC), field="at")
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"{text!r} is no moment: a time such as 2026-01-31T03:12:00Z, how long ago such as 15m, 2h or 3d, "
            "a revision, or a cursor"
        ) from error
