"""The actions on alerts and silences, each with its authorisation; and what whoever raises alerts keeps in the store.

When an alert fires is decided elsewhere (`prism.alerts`); here it becomes a record and an event, in one commit with the
place up to which the log was judged, so that after a crash nothing is judged twice and nothing is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import msgspec

from thunderline.block.store import Document, Store
from thunderline.core.alerts import Acknowledgement, Alert, AlertState, PendingAlert, Severity, Silence
from thunderline.core.clock import Clock
from thunderline.core.errors import AlertOver, UnknownAlert, UnknownSilence
from thunderline.core.inputs import AcknowledgeInput, NewSilence
from thunderline.flow.taxonomy import ALERT_ACKNOWLEDGED, ALERT_FIRED, ALERT_RESOLVED
from thunderline.link.access import Access
from thunderline.link.actor import ALERTING, Action, Actor, authorise
from thunderline.link.alert_book import ALERTS, AlertBook
from thunderline.link.conditions import Condition
from thunderline.link.lanes import Lane
from thunderline.link.overlay import Overlay
from thunderline.link.writer import Writer

RESOLVED_KEPT_S: Final = 86_400.0
"""How long an alert is shown once it is over; the log has it for longer."""

RESOLVED_MAX: Final = 10_000
"""Of those so many at most, the newest."""

SILENCE_KEPT_S: Final = 86_400.0
"""How long a silence is shown once it is over."""


class AlertFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which alerts are asked for; None: any."""

    state: AlertState | None = None
    severity: Severity | None = None
    rule: str | None = None
    node: str | None = None
    silenced: bool | None = None
    acknowledged: bool | None = None


class AlertDomain:
    """All actions. Those that change something raise NotPermitted, and what `Writer.submit` does."""

    def __init__(self, writer: Writer, book: AlertBook, access: Access, store: Store, *, clock: Clock) -> None:
        self.book = book
        self._writer = writer
        self._access = access
        self._store = store
        self._clock = clock

    # For everybody

    def list_alerts(
        self, wanted: AlertFilter, *, actor: Actor, after: tuple[str, str] | None = None, limit: int
    ) -> tuple[list[Alert], bool]:
        """At most `limit` alerts that fire or were resolved of late, and whether there are more; the newest first.

        `after` is `alert_key` of the last one of the page before.
        """
        self._access.authorise(actor, Action.READ)
        found = [alert for alert in self.book if self._is_wanted(alert, wanted)]
        found.sort(key=alert_key, reverse=True)
        if after is not None:
            found = [alert for alert in found if alert_key(alert) < after]
        return found[:limit], len(found) > limit

    def list_pending(self, *, actor: Actor) -> Sequence[PendingAlert]:
        """What is about to fire, by when it began."""
        self._access.authorise(actor, Action.READ)
        return self.book.pending()

    def get_alert(self, alert_id: str, *, actor: Actor) -> Alert:
        """The alert with this id. Raises: UnknownAlert."""
        self._access.authorise(actor, Action.READ)
        alert = self.book.get(alert_id)
        if alert is None:
            raise UnknownAlert(alert_id)
        return alert

    def list_silences(self, *, actor: Actor) -> list[Silence]:
        """All silences, the oldest first."""
        self._access.authorise(actor, Action.READ)
        return self.book.silences()

    def silencer(self, alert: Alert) -> Silence | None:
        """A silence that keeps it from being told at present."""
        return self.book.silencer(alert, self._clock.now())

    def is_silenced(self, alert: Alert) -> bool:
        """Whether there is one."""
        return self.silencer(alert) is not None

    async def silence(self, wanted: NewSilence, *, actor: Actor, under: Condition | None = None) -> Silence:
        """A new silence, from now on; `under` is laid around the change."""
        self._access.authorise(actor, Action.SILENCE)

        def plan(overlay: Overlay) -> Silence:
            silence = Silence(
                id=overlay.new_id(),
                matchers=wanted.matchers,
                until=overlay.now + timedelta(seconds=wanted.for_s),
                by=str(actor),
                at=overlay.now,
                reason=wanted.reason,
            )
            overlay.put_silence(silence)
            overlay.note("alert.silenced", subject=silence.id)
            return silence

        planned = plan if under is None else under.around(plan)
        return await self._writer.submit(Lane.MUTATIONS, planned, actor=actor)

    async def unsilence(self, silence_id: str, *, actor: Actor) -> Silence:
        """The silence, removed. Raises: UnknownSilence."""
        self._access.authorise(actor, Action.SILENCE)

        def plan(overlay: Overlay) -> Silence:
            silence = overlay.silence(silence_id)
            if silence is None:
                raise UnknownSilence(silence_id)
            overlay.remove_silence(silence)
            overlay.note("alert.unsilenced", subject=silence.id)
            return silence

        return await self._writer.submit(Lane.MUTATIONS, plan, actor=actor)

    async def acknowledge(
        self, alert_id: str, wanted: AcknowledgeInput, *, actor: Actor, under: Condition | None = None
    ) -> Alert:
        """The alert with this id, taken on; one that is already stays as it is. Raises: UnknownAlert, AlertOver."""
        self._access.authorise(actor, Action.SILENCE)

        def plan(overlay: Overlay) -> Alert:
            alert = overlay.alert(alert_id)
            if alert is None:
                raise UnknownAlert(alert_id)
            if alert.state is not AlertState.FIRING:
                raise AlertOver(alert_id)
            if alert.acknowledged is not None:
                return alert
            taken = Acknowledgement(by=str(actor), at=overlay.now, note=wanted.note)
            return overlay.put_alert(ALERT_ACKNOWLEDGED, msgspec.structs.replace(alert, acknowledged=taken))

        planned = plan if under is None else under.around(plan)
        return await self._writer.submit(Lane.MUTATIONS, planned, actor=actor, audited=True)

    # For who raises alerts

    async def keep(self, changes: Sequence[Alert], documents: Sequence[Document] = ()) -> list[Alert]:
        """Make alerts that fired or were resolved records and events, in order, and keep `documents` with them.

        One that is known already in that state, or in a later one, is left as it is; gives those that were not.
        """
        authorise(ALERTING, Action.ALERT)

        def plan(overlay: Overlay) -> list[Alert]:
            kept = []
            for alert in changes:
                known = overlay.alert(alert.id)
                if known is not None and not _is_news(alert, known):
                    continue
                if alert.state is AlertState.RESOLVED:
                    if known is None or known.fired_at != alert.fired_at:
                        continue
                    # As it fired: that is how it was told.
                    alert = msgspec.structs.replace(known, resolved_at=alert.resolved_at)
                kept.append(overlay.put_alert(_EVENTS[alert.state], alert))
            for document in documents:
                overlay.put_document(document)
            return kept

        return await self._writer.submit(Lane.OWN, plan, actor=ALERTING)

    async def keep_documents(
        self, documents: Sequence[Document] = (), *, removed: Sequence[tuple[str, str]] = ()
    ) -> None:
        """Keep documents that have no part in the log, and keep others no longer."""
        authorise(ALERTING, Action.ALERT)

        def plan(overlay: Overlay) -> None:
            for document in documents:
                overlay.put_document(document)
            for shelf, key in removed:
                overlay.remove_document(shelf, key)

        await self._writer.submit(Lane.OWN, plan, actor=ALERTING)

    async def documents(self, shelf: str, *, limit: int = 10_000) -> list[Document]:
        """The documents of a shelf, by key. Raises: StoreUnavailable."""
        return await self._store.scan_documents(shelf, after=None, limit=limit)

    async def tidy(self) -> None:
        """Show no longer what has been over for long."""
        now = self._clock.now()
        resolved = sorted(
            ((alert.resolved_at, alert.id) for alert in self.book if alert.resolved_at is not None), reverse=True
        )
        horizon = now - timedelta(seconds=RESOLVED_KEPT_S)
        old = {alert_id for place, (at, alert_id) in enumerate(resolved) if at < horizon or place >= RESOLVED_MAX}
        over = now - timedelta(seconds=SILENCE_KEPT_S)
        silences = [silence for silence in self.book.silences() if silence.until < over]
        if not old and not silences:
            return

        def plan(overlay: Overlay) -> set[str]:
            gone = {each for each in old if (alert := overlay.alert(each)) is not None and alert.resolved_at}
            for alert_id in gone:
                overlay.remove_document(ALERTS, alert_id)
            for silence in silences:
                overlay.remove_silence(silence)
            return gone

        for alert_id in await self._writer.submit(Lane.OWN, plan, actor=ALERTING):
            alert = self.book.get(alert_id)
            if alert is not None and alert.resolved_at is not None:
                self.book.forget(alert_id)

    async def watermark(self) -> tuple[int, int]:
        """A wall time in milliseconds and a revision: what happened before that time is not above that revision.

        Raises: what `Writer.submit` does.
        """
        return await self._writer.submit(
            Lane.OWN, lambda overlay: (overlay.now_ms, overlay.base + len(overlay.events)), actor=ALERTING
        )

    def _is_wanted(self, alert: Alert, wanted: AlertFilter) -> bool:
        return (
            (wanted.state is None or alert.state is wanted.state)
            and (wanted.severity is None or alert.severity is wanted.severity)
            and (wanted.rule is None or alert.rule == wanted.rule)
            and (wanted.node is None or alert.labels.get("node") == wanted.node or wanted.node in alert.names)
            and (wanted.acknowledged is None or (alert.acknowledged is not None) is wanted.acknowledged)
            and (wanted.silenced is None or self.is_silenced(alert) is wanted.silenced)
        )


_EVENTS: Final = {AlertState.FIRING: ALERT_FIRED, AlertState.RESOLVED: ALERT_RESOLVED}


def alert_key(alert: Alert) -> tuple[str, str]:
    """By which lists of alerts are sorted: when it fired, and its id."""
    return alert.fired_at.isoformat(), alert.id


def _is_news(alert: Alert, known: Alert) -> bool:
    if alert.fired_at != known.fired_at:
        return alert.fired_at > known.fired_at
    return known.resolved_at is None and alert.resolved_at is not None
