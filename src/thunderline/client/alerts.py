"""Alerts and silences as the API tells of them: a field that is not here is passed over, not refused."""

from __future__ import annotations

from datetime import datetime

import msgspec

from thunderline.core.alerts import Alert, AlertState, PendingAlert


class ToldAlert(Alert, frozen=True, kw_only=True):
    """An alert, its state, and the id of a silence that keeps it from being told now."""

    state: AlertState
    silenced_by: str | None = None


class AlertList(msgspec.Struct, frozen=True, kw_only=True):
    """What fires and what was resolved of late, the newest first; and what is pending, the oldest first."""

    alerts: list[ToldAlert]
    pending: list[PendingAlert]


class AlertPage(AlertList, frozen=True, kw_only=True):
    """A part of that: `pending` stands on the first page."""

    next_cursor: str | None


class AlertAnswer(msgspec.Struct, frozen=True):
    """One alert."""

    alert: ToldAlert


class ToldMatcher(msgspec.Struct, frozen=True, kw_only=True):
    """A condition on one label."""

    label: str
    op: str
    value: str

    def __str__(self) -> str:
        return f"{self.label}{self.op}{self.value}"


class ToldSilence(msgspec.Struct, frozen=True, kw_only=True):
    """A silence, and whether it holds now."""

    id: str
    matchers: list[ToldMatcher]
    until: datetime
    by: str
    at: datetime
    reason: str | None
    active: bool


class SilenceAnswer(msgspec.Struct, frozen=True):
    """One silence."""

    silence: ToldSilence


class SilencesAnswer(msgspec.Struct, frozen=True):
    """All of them, the oldest first."""

    silences: list[ToldSilence]
