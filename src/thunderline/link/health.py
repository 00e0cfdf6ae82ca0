"""Whether a node that says it is well is so by its figures: the thresholds for cpu, memory and latency.

A figure has to stay at or above its threshold for `degraded_after_s` before it counts, and below a lower one, by
`degraded_hysteresis`, for as long before it counts no more; so a figure that swings around its threshold changes
nothing. What is known of a node is lost in a restart, but for which figures its status names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from thunderline.core.inputs import HeartbeatInput
from thunderline.core.records import Node, NodeStatus
from thunderline.core.settings import Settings
from thunderline.link.liveness import REASON_STRAINED
from thunderline.link.roster import Entry

FIGURES: Final = ("cpu_load", "mem_used_mb", "latency_ms")

_SEPARATOR: Final = ", "


class Strain:
    """What the figures of one node's process say."""

    __slots__ = ("incarnation", "over", "since")

    def __init__(self, incarnation: int, over: Iterable[str] = ()) -> None:
        self.incarnation = incarnation
        self.over = set(over)
        """The figures that count as too high."""
        self.since: dict[str, float] = {}
        """Since when each of those that are about to change sides has been on the other one."""


class Health:
    """Judges beats. `now` is a monotonic time in which our own pauses did not happen."""

    def __init__(self, settings: Settings, *, now: Callable[[], float]) -> None:
        limits = {figure: getattr(settings, f"degraded_{figure}") for figure in FIGURES}
        self._limits: dict[str, float] = {figure: limit for figure, limit in limits.items() if limit is not None}
        self._lower = 1 - settings.degraded_hysteresis
        self._after_s = settings.degraded_after_s
        self._now = now

    def judge(self, entry: Entry, node: Node, beat: HeartbeatInput) -> str:
        """Which of the node's figures are too high, in words; empty if none is. `node` is as it is planned to be."""
        if not self._limits:
            return ""
        strain = entry.strain
        if strain is None or strain.incarnation != node.incarnation:
            strain = Strain(node.incarnation, self._named(node))
        for figure, limit in self._limits.items():
            self._look(strain, figure, getattr(beat, figure), limit)
        entry.strain = strain if strain.over or strain.since else None
        return _SEPARATOR.join(figure for figure in FIGURES if figure in strain.over)

    def _look(self, strain: Strain, figure: str, value: float | None, limit: float) -> None:
        is_over = figure in strain.over
        # A figure that is not reported any more is none that is too high.
        changes = (value is None or value < limit * self._lower) if is_over else (value is not None and value >= limit)
        if not changes:
            strain.since.pop(figure, None)
            return
        now = self._now()
        if now - strain.since.setdefault(figure, now) >= self._after_s:
            del strain.since[figure]
            (strain.over.discard if is_over else strain.over.add)(figure)

    def _named(self, node: Node) -> list[str]:
        """The figures that the node's status names: those that an earlier process of ours found too high."""
        prefix = f"{REASON_STRAINED}: "
        if node.observed_status is not NodeStatus.DEGRADED or not node.observed_reason.startswith(prefix):
            return []
        return [
            figure for figure in node.observed_reason.removeprefix(prefix).split(_SEPARATOR) if figure in self._limits
        ]
