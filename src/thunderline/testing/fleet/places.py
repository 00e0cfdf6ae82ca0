"""The groups of a fleet, and who is put into them: over HTTP, since no node says so of itself."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from thunderline.client.errors import ClientError, Forbidden, NotFound
from thunderline.client.http import Client
from thunderline.core.clock import Clock
from thunderline.core.tasks import Supervisor
from thunderline.testing.fleet.plan import FleetPlan, PlannedNode

AT_ONCE: Final = 20
"""Requests under way: as many connections as the client keeps open, and few beside the handshakes that go on."""

_RETRY_S: Final = 1.0


class Places:
    """Puts nodes into their groups, in the background, as they come."""

    def __init__(self, client: Client, *, clock: Clock, changed: Callable[[], None]) -> None:
        """`changed` hears when there is less to do."""
        self.refused: str | None = None
        """Why nodes go without groups; None: they do not."""
        self.done = 0
        self._client = client
        self._clock = clock
        self._changed = changed
        self._waiting: deque[PlannedNode] = deque()
        self._under_way = 0
        self._woken = asyncio.Event()

    @property
    def are_settled(self) -> bool:
        """Whether nobody waits for a group."""
        return not self._waiting and not self._under_way

    async def create(self, plan: FleetPlan) -> None:
        """The groups themselves; those that are there already stay. Raises: ClientError, unless it is Forbidden."""
        try:
            for group in plan.groups:
                attrs = {"name": group.name, "group_type": group.group_type, "parent": group.parent}
                await self._client.create_group({name: value for name, value in attrs.items() if value is not None})
        except Forbidden as error:
            self.refused = str(error)

    def take(self, node: PlannedNode) -> None:
        """Put the node into its group once it is its turn."""
        if self.refused is None:
            self._waiting.append(node)
            self._woken.set()

    def start(self, tasks: Supervisor) -> None:
        """Begin to work."""
        for number in range(AT_ONCE):
            tasks.start(self._work(), name=f"fleet places {number}")

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._woken.clear()
                await self._woken.wait()
            node = self._waiting.popleft()
            self._under_way += 1
            try:
                await self._put(node)
            finally:
                self._under_way -= 1
                self._changed()

    async def _put(self, node: PlannedNode) -> None:
        while self.refused is None:
            try:
                await self._client.add_to_group(node.name, node.group)
            except NotFound:
                return  # somebody removed it, or the group
            except Forbidden as error:
                self.refused = str(error)
                self._waiting.clear()
            except ClientError as error:
                if not error.retryable:
                    return
                await self._clock.sleep(getattr(error, "retry_after_s", None) or _RETRY_S)
            else:
                self.done += 1
                return

    async def remove(self, nodes: Iterable[str], plan: FleetPlan) -> int:
        """Take nodes and groups out of the registry; gives how many nodes that were. Raises: ClientError."""
        waiting, removed = deque(nodes), 0

        async def work() -> None:
            nonlocal removed
            while waiting:
                try:
                    await self._client.deregister(waiting.popleft(), force=True)
                    removed += 1
                except NotFound:
                    continue

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work())
        for one in reversed(plan.groups):
            await self._remove_group(one.name)
        return removed

    async def _remove_group(self, name: str) -> None:
        try:
            await self._client.remove_group(name)
        except ClientError as error:
            # Of others' making, or in use by them: theirs to keep.
            if error.retryable:
                raise
