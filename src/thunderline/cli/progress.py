"""How far a long piece of work is: a bar for whoever watches a terminal, nothing for anybody else."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from thunderline.block.upkeep import Report

_EXIT_TERMINATED: Final = 128 + signal.SIGTERM


@contextmanager
def shown_progress() -> Iterator[Report]:
    """A block with what to report to. The bar is on standard error, and gone after the block.

    SIGTERM ends the block like Ctrl-C does, so that what is half done is taken back.
    """
    previous = signal.signal(signal.SIGTERM, _terminated)
    try:
        if sys.stderr is None or not sys.stderr.isatty():
            yield lambda step, done, total: None
            return
        # Imported here: only who watches needs it.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"))
        bars = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True, markup=False), transient=True)
        with bars:
            tasks: dict[str, TaskID] = {}

            def report(step: str, done: int, total: int) -> None:
                if step not in tasks:
                    for earlier in tasks.values():
                        bars.update(earlier, visible=False)
                    tasks[step] = bars.add_task(step, total=None, told="")
                # Steps of few parts, or of none, are only said to be under way.
                if total > 1:
                    bars.update(tasks[step], completed=done, total=total, told=f"{done * 100 // total} %")

            yield report
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def shown_bar(what: str) -> Iterator[Callable[[float, float], None]]:
    """A block with what to tell how much of how much is done; the bar is gone after it."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, markup=False)
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console, transient=True
    ) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _terminated(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(_EXIT_TERMINATED)
