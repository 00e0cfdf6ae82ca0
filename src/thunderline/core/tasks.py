"""Owned tasks: every background task has a supervisor, and one that ends unexpectedly is heard of."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from thunderline.core.logging import get_logger

log = get_logger(__name__)


class Supervisor:
    """Starts tasks, logs the one that fails, and ends them all, last started first, on `close`.

    A failed task is not restarted: its failure is a bug of ours, and `failed` lets a readiness probe say so.
    """

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self.failed: list[str] = []

    def start(self, body: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run `body` until it returns or the supervisor is closed."""
        task = asyncio.create_task(body, name=name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)
        return task

    async def join(self, name: str) -> None:
        """Wait until the task of that name ends by itself; its failure was logged and is not raised again."""
        named = [task for task in self._tasks if task.get_name() == name]
        if named:
            await asyncio.wait(named)

    async def end(self, name: str) -> None:
        """Cancel the task of that name, if it still runs, and wait for it."""
        for task in [task for task in self._tasks if task.get_name() == name]:
            task.cancel()
            await asyncio.wait([task])

    async def close(self) -> None:
        """Cancel what still runs and wait for it; idempotent, and repeatable after it was cancelled itself."""
        while self._tasks:
            task = self._tasks[-1]
            if not task.cancelling():  # by an earlier call, which was cancelled while the task was ending
                task.cancel()
            # `wait` keeps our own cancellation apart from the task's, which `await task` would not.
            await asyncio.wait([task])
            if task in self._tasks:
                self._tasks.remove(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        try:
            task.result()
        except asyncio.CancelledError as error:
            # Unless somebody asked for it, it is the cancellation of something else that nobody caught.
            if not task.cancelling():
                self._failed(task, error)
        except BaseException as error:
            self._failed(task, error)

    def _failed(self, task: asyncio.Task[None], error: BaseException) -> None:
        self.failed.append(task.get_name())
        log.error("task failed", task=task.get_name(), exc_info=error)
