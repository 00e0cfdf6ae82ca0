"""The figures that a program gives its link for each beat: asked for, bounded in time, and checked.

Liveness must not depend on them: what fails, hangs or is nonsense gives a beat without figures, and a line in the log.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, TypeAlias

from thunderline.core.errors import InvalidInput
from thunderline.core.inputs import HeartbeatInput, read_mapping
from thunderline.core.logging import get_logger
from thunderline.core.records import BeatStatus

log = get_logger(__name__)

Figures: TypeAlias = Mapping[str, object]
Given: TypeAlias = Figures | Awaitable[Figures | None] | None
Metrics: TypeAlias = Callable[[], Given]

BARE: Final = HeartbeatInput()
"""A beat that says no more than that the node lives."""

_NUMBERED: Final = ("seq", "incarnation")


def check_figures(figures: Figures) -> HeartbeatInput:
    """`figures` as a beat holds them: cpu_load, mem_used_mb, latency_ms, peers, meta, status.

    Raises: InvalidInput naming the field.
    """
    for name in _NUMBERED:
        if name in figures:
            raise InvalidInput(name, "is counted by the link, not given")
    beat = read_mapping(figures, HeartbeatInput)
    if beat.status is BeatStatus.OFFLINE:
        raise InvalidInput("status", "must be online or degraded; a node goes offline by leaving its link")
    return beat


class Readings:
    """Asks `metrics` for the figures of each beat.

    A coroutine function runs on the loop; a plain function in a thread of its own, so it may block. One call at a time.
    """

    def __init__(self, metrics: Metrics | None) -> None:
        self._metrics = metrics
        self._on_loop = metrics is None or inspect.iscoroutinefunction(metrics)
        self._busy = False
        self._call = 0
        self._problem: str | None = None

    async def read(self) -> HeartbeatInput:
        """The figures of now, or none; raises nothing but CancelledError."""
        if self._metrics is None:
            return BARE
        if self._busy:
            self._failed("still busy with an earlier call")
            return BARE
        self._call += 1
        call = self._call
        try:
            figures = await self._ask(self._metrics)
            if call != self._call:
                return BARE  # too late, and nobody listens any more
            if figures is None:
                beat = BARE
            elif isinstance(figures, Mapping):
                beat = check_figures(figures)
            else:
                raise InvalidInput("metrics", f"gave {type(figures).__name__}, not a mapping")
        except InvalidInput as error:
            self._failed(str(error))
            return BARE
        except Exception as error:
            # The program's own code: whatever it raises must not end its link.
            self._failed(f"raised {type(error).__name__}", error)
            return BARE
        if self._problem is not None:
            self._problem = None
            log.info("metrics work again")
        return beat

    def took_too_long(self, limit_s: float) -> None:
        """Nobody waits for the latest call any more."""
        self._call += 1
        self._failed(f"took longer than {limit_s:g} s")

    def outcome(self, read: asyncio.Task[HeartbeatInput]) -> HeartbeatInput:
        """What a `read` that has ended gave, or none; raises nothing."""
        if read.cancelled():
            # Not by who asked: the program's own code awaited what was cancelled, or cancelled itself.
            self._failed("was cancelled from within")
            return BARE
        if (error := read.exception()) is not None:
            self._failed(f"raised {type(error).__name__}", error)
            return BARE
        return read.result()

    async def _ask(self, metrics: Metrics) -> object:
        if not self._on_loop:
            given = await self._in_thread(metrics)
            return await given if inspect.isawaitable(given) else given
        self._busy = True
        try:
            given = metrics()
            return await given if inspect.isawaitable(given) else given
        finally:
            self._busy = False

    def _failed(self, problem: str, error: BaseException | None = None) -> None:
        """Log why a beat goes without figures, once for as long as it is the same reason."""
        if problem != self._problem:
            self._problem = problem
            log.warning("beats go without figures: metrics failed", problem=problem, exc_info=error)

    async def _in_thread(self, metrics: Metrics) -> Given:
        # Not the loop's executor: a call that hangs for ever there would keep the program from ending.
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[Given] = loop.create_future()

        def tell(result: Given, error: BaseException | None) -> None:
            if outcome.done():  # nobody waits any more
                return
            if isinstance(error, asyncio.CancelledError):
                outcome.cancel()
            elif error is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(result)

        def run() -> None:
            result: Given = None
            error: BaseException | None = None
            try:
                result = metrics()
            except (Exception, asyncio.CancelledError) as raised:
                error = raised
            finally:
                self._busy = False
            try:
                loop.call_soon_threadsafe(tell, result, error)
            except RuntimeError:
                return  # the loop was closed meanwhile

        self._busy = True
        threading.Thread(target=run, name="thunderline-metrics", daemon=True).start()
        return await outcome
