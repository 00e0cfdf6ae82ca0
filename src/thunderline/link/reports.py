"""What the registry has to tell of itself, kept until a commit holds it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from thunderline.core.errors import Overloaded, StoreUnavailable, ThunderlineError
from thunderline.core.logging import get_logger
from thunderline.core.records import CapacityReport, RegistryReport
from thunderline.flow import taxonomy

log = get_logger(__name__)


class Reporter(Protocol):
    """Brings reports into the log."""

    def report(self, event_name: str, report: RegistryReport, *, subject: str) -> asyncio.Future[None]:
        """Queue the event that carries `report`."""


class Reports:
    """Reports in the order in which they were made, one under way at a time."""

    def __init__(self) -> None:
        self._untold: deque[RegistryReport] = deque()
        self._is_telling = False

    def add(self, reports: Iterable[RegistryReport]) -> None:
        """Have these told."""
        self._untold.extend(reports)

    def tell(self, reporter: Reporter) -> None:
        """Queue the next one, if none is under way; those behind it follow. What is not committed stays."""
        if self._is_telling or not self._untold:
            return
        report = self._untold[0]
        try:
            done = reporter.report(event_of(report), report, subject=subject_of(report))
        except ThunderlineError as error:
            _log_untold(error)
        else:
            self._is_telling = True
            done.add_done_callback(lambda future: self._told(reporter, future))

    def _told(self, reporter: Reporter, done: asyncio.Future[None]) -> None:
        self._is_telling = False
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            _log_untold(error)
            return
        self._untold.popleft()
        self.tell(reporter)


def event_of(report: RegistryReport) -> str:
    """The event that tells of it."""
    if isinstance(report, CapacityReport):
        return taxonomy.CAPACITY_EXCEEDED if report.exceeded else taxonomy.CAPACITY_RESTORED
    return taxonomy.GUARD_ENGAGED if report.engaged else taxonomy.GUARD_RELEASED


def subject_of(report: RegistryReport) -> str:
    """What it is about, in a word."""
    return report.id if isinstance(report, CapacityReport) else report.scope


def _log_untold(error: BaseException) -> None:
    if not isinstance(error, StoreUnavailable | Overloaded):  # of which the writer tells, once; or many are due at once
        log.warning("report not committed", error=str(error))
