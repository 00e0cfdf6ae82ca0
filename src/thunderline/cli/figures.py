"""Figures and times as people read them on a screen; a pipe gets the API's own. None becomes `-`."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from thunderline.cli.screen import NOTHING

_AGES: Final = ((86_400 * 2, 86_400, "d"), (3_600, 3_600, "h"), (60, 60, "m"))
"""(from this many seconds, seconds of the unit, unit): two days are still told in hours."""


def ago(at: datetime | None, now: datetime) -> str:
    """How long before `now` that was, in one unit: `4s ago`, `3h ago`; `now` for less than a second, or the future."""
    if at is None:
        return NOTHING
    age_s = int((now - at).total_seconds())
    if age_s < 1:
        return "now"
    for start_s, unit_s, unit in _AGES:
        if age_s >= start_s:
            return f"{age_s // unit_s}{unit} ago"
    return f"{age_s}s ago"


def moment(at: datetime | None, now: datetime) -> str:
    """The time to the second, and how long ago that was."""
    return NOTHING if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC ({ago(at, now)})"


def rfc3339(at: datetime | None) -> str:
    """The time exactly as the API writes it."""
    return NOTHING if at is None else str(msgspec.to_builtins(at))


def percent(value: float | None) -> str:
    """`3.5%`; from 10 on without decimals."""
    if value is None:
        return NOTHING
    return f"{value:.1f}%" if value < 9.95 else f"{value:.0f}%"


def mebibytes(value: float | None) -> str:
    """A size given in MiB, in the unit that keeps it short: `512Mi`, `2.0Gi`."""
    if value is None:
        return NOTHING
    if value < 1023.5:
        return f"{value:.0f}Mi"
    value /= 1024
    return f"{value:.1f}Gi" if value < 1023.95 else f"{value / 1024:.1f}Ti"


def milliseconds(value: float | None) -> str:
    """`3.2 ms`; from 100 on without decimals."""
    if value is None:
        return NOTHING
    return f"{value:.1f} ms" if value < 99.95 else f"{value:.0f} ms"


def size(value_bytes: int | None) -> str:
    """A size in the unit that keeps it short: `512 bytes`, `32.0 KiB`, `1.4 GiB`."""
    if value_bytes is None:
        return NOTHING
    if value_bytes < 1024:
        return f"{value_bytes} bytes"
    value = value_bytes / 1024
    for unit in ("KiB", "MiB", "GiB"):
        if value < 1023.95:
            return f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
