"""The registry's site: its process, which may be down or stand still, and what messages find when they get there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol, TypeAlias

from thunderline.core.ids import IdSource
from thunderline.core.settings import Settings
from thunderline.link.registry import Registry
from thunderline.testing.simulation.store import SimulatedStore
from thunderline.testing.simulation.world import SimulatedClock, World

Call: TypeAlias = Callable[[Registry], object]
"""What a message makes the registry do."""


class Connection(Protocol):
    """A node's connection to the process."""

    def reset(self) -> None:
        """The process ended."""


OWNER: Final = "registry@simulated"


class Site:
    """One registry after the other over one store."""

    def __init__(
        self,
        world: World,
        *,
        clock: SimulatedClock,
        store: SimulatedStore,
        settings: Settings,
        ids: IdSource,
        rng: random.Random,
    ) -> None:
        self.store = store
        self.clock = clock
        self.registry: Registry | None = None
        """The one that runs; None while there is none."""
        self.starts = 0
        self.connections: dict[Connection, None] = {}
        """Those that stand, in the order in which they were made."""
        self._world = world
        self._settings = settings
        self._ids = ids
        self._rng = rng
        self._opening: AbstractAsyncContextManager[Registry] | None = None
        self._works: set[asyncio.Task[None]] = set()

    async def start(self) -> Registry:
        """Start a registry."""
        self._opening = Registry.open(
            self.store, self._settings, clock=self.clock, ids=self._ids, rng=random.Random(self._rng.random())
        )
        self.registry = await self._opening.__aenter__()
        self.starts += 1
        return self.registry

    async def stop(self, *, kill: bool) -> None:
        """End the registry in order, or at once with everything that it has not committed."""
        registry, opening = self.registry, self._opening
        if registry is None or opening is None:
            return
        self.registry = self._opening = None
        if kill:
            for work in self._works:
                work.cancel()
            await registry.tasks.close()
        else:
            registry.links.drain()
        for connection in list(self.connections):
            connection.reset()
        await opening.__aexit__(None, None, None)

    def arrive(self, call: Call, *, refused: Callable[[], None]) -> None:
        """A message is here: the process does `call` at its next turn, or the machine says that there is none."""
        if self.registry is None:
            refused()
            return
        registry = self.registry
        self._world.hand(lambda: call(registry) if self.registry is registry else refused())

    def work(self, work: Coroutine[Any, Any, None]) -> None:
        """Let the process work on something that takes several turns."""
        task = asyncio.get_running_loop().create_task(work)
        self._works.add(task)
        task.add_done_callback(self._worked)

    def _worked(self, task: asyncio.Task[None]) -> None:
        self._works.discard(task)
        if not task.cancelled():
            task.result()
