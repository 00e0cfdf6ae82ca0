"""What whoever does a piece of work tells of it, where somebody wants traces: a port, of which nothing is needed else.

A request or a handshake is a span, open while it is done. A commit is told once it is over, of what was measured
anyway. Heartbeats have no spans: where a `Tracer` is asked for is never on their way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Final, NamedTuple, Protocol

import msgspec

Attributes = Mapping[str, str | int | float | bool]

_PARENT: Final = b"traceparent"
_STATE: Final = b"tracestate"


class Caller(NamedTuple):
    """The trace that a caller's request belongs to, in its words. Source: W3C Trace Context, level 1."""

    traceparent: str
    tracestate: str | None


class Span(Protocol):
    """A piece of work that is being done. Who enters it is `Tracer.current` until it is left again, which an error
    fails; it goes on until its `end`."""

    def __enter__(self) -> object:
        """What is done from now on is done within it."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """What is done from now on is not."""

    def rename(self, name: str) -> None:
        """Call it otherwise, now that more is known of it."""

    def tell(self, attributes: Attributes) -> None:
        """Note these of it."""

    def fail(self, reason: str) -> None:
        """It did not come about."""

    def end(self) -> None:
        """It is over; idempotent."""


class CommitReport(msgspec.Struct, frozen=True, kw_only=True):
    """One batch, from its planning to the last who was told of it. Times in seconds; those of what did not come to
    pass are 0."""

    at_ms: int
    """Wall time at which its planning began."""
    operations: int
    beats: int
    events: int
    revision: int
    """Of the log's newest event when it was over."""
    plan_s: float
    store_s: float
    answer_s: float
    fan_out_s: float
    listeners: int
    waiting: tuple[object, ...]
    """Whose spans wait for it, as `Tracer.current` gave them, each once."""
    error: str | None = None
    """How it failed, None where it did not."""


class Tracer(Protocol):
    """Takes spans. Nothing here waits, or fails for its own sake."""

    def start(self, name: str, *, caller: Caller | None = None, attributes: Attributes | None = None) -> Span:
        """Begin work that somebody asked this process for. Whoever does it ends it."""

    def current(self) -> object | None:
        """The span within which the present task is, for `CommitReport.waiting`; None where there is none."""

    def committed(self, report: CommitReport) -> None:
        """A commit is over."""


def caller_in(headers: Iterable[tuple[bytes, bytes]]) -> Caller | None:
    """The trace that a request's headers (names in lower case) name; None for none, or for more than one."""
    parents = [value for name, value in headers if name == _PARENT]
    if len(parents) != 1:
        return None
    states = [value.decode("latin-1") for name, value in headers if name == _STATE]
    return Caller(parents[0].decode("latin-1"), ",".join(states) or None)
