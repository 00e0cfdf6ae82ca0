"""The alerts in memory, and how the store keeps them: committed state, which the writer changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Final

import msgspec

from thunderline.block.store import Document
from thunderline.core.alerts import Alert, AlertState, PendingAlert, Severity, Silence

ALERTS: Final = "alerts"
SILENCES: Final = "silences"
"""The shelves on which the store has them."""

_ENCODER: Final = msgspec.json.Encoder()
_ALERT: Final = msgspec.json.Decoder(Alert)
_SILENCE: Final = msgspec.json.Decoder(Silence)


def alert_document(alert: Alert) -> Document:
    """The alert as the store keeps it."""
    return Document(shelf=ALERTS, key=alert.id, body=_ENCODER.encode(alert))


def read_alert(document: Document) -> Alert:
    """The alert that was kept."""
    return _ALERT.decode(document.body)


def silence_document(silence: Silence) -> Document:
    """The silence as the store keeps it."""
    return Document(shelf=SILENCES, key=silence.id, body=_ENCODER.encode(silence))


def read_silence(document: Document) -> Silence:
    """The silence that was kept."""
    return _SILENCE.decode(document.body)


class AlertBook:
    """Alerts that fire, those that were resolved of late, the silences; and beside them what is pending.

    What is pending is nobody's record: whoever raises alerts says here what it is.
    """

    def __init__(self) -> None:
        self.pending: Callable[[], Sequence[PendingAlert]] = lambda: ()
        self.firing_by: Counter[Severity] = Counter()
        """How many fire, by severity."""
        self._alerts: dict[str, Alert] = {}
        self._silences: dict[str, Silence] = {}

    def __iter__(self) -> Iterator[Alert]:
        """In no order."""
        return iter(self._alerts.values())

    def get(self, alert_id: str) -> Alert | None:
        """The alert with this id."""
        return self._alerts.get(alert_id)

    def firing(self) -> list[Alert]:
        """Those that fire, by when they did."""
        found = [alert for alert in self._alerts.values() if alert.state is AlertState.FIRING]
        return sorted(found, key=lambda alert: (alert.fired_at, alert.id))

    def put(self, alert: Alert) -> None:
        """Take the alert's newer record."""
        self._uncount(self._alerts.get(alert.id))
        if alert.state is AlertState.FIRING:
            self.firing_by[alert.severity] += 1
        self._alerts[alert.id] = alert

    def forget(self, alert_id: str) -> None:
        """Show the alert no longer; one that is not there is fine."""
        self._uncount(self._alerts.pop(alert_id, None))

    def _uncount(self, alert: Alert | None) -> None:
        if alert is not None and alert.state is AlertState.FIRING:
            self.firing_by[alert.severity] -= 1

    def silence(self, silence_id: str) -> Silence | None:
        """The silence with this id."""
        return self._silences.get(silence_id)

    def silences(self) -> list[Silence]:
        """All silences, those that are over among them until they are removed, by id: the oldest first."""
        return [self._silences[silence_id] for silence_id in sorted(self._silences)]

    def put_silence(self, silence_id: str, silence: Silence | None) -> None:
        """Take the silence's newer record; None: it is gone."""
        if silence is None:
            self._silences.pop(silence_id, None)
        else:
            self._silences[silence_id] = silence

    def silencer(self, alert: Alert, now: datetime) -> Silence | None:
        """A silence that keeps the alert from being told now."""
        labels = alert.matched
        return next((each for each in self._silences.values() if each.holds(labels, now)), None)
