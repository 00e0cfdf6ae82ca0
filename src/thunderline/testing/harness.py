"""A whole server in one process, without sockets and under a clock that the test turns.

    async with open_cluster() as cluster:
        node = await cluster.node("worker-1")
        await node.beat(cpu_load=12.5)
        await cluster.clock.advance(31)
        assert cluster.registry.get_node("worker-1").status == "disconnected"

Requests go through the real gate; commits go to the store that is given, by default one in memory that can be made to
fail (`cluster.store`).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import msgspec

from thunderline.block.memory import MemoryStore
from thunderline.block.store import Store
from thunderline.core.settings import Settings
from thunderline.core.tracing import Tracer
from thunderline.gate.app import build_app
from thunderline.gate.monitoring import Monitoring
from thunderline.link.registry import Registry
from thunderline.prism.discovery import Discovery
from thunderline.prism.metrics import Metrics
from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import FaultyStore

T = TypeVar("T")

BASE_URL = "http://127.0.0.1"

_QUIET_ROUNDS = 3
"""How often in a row nothing may be under way in the store until nothing is expected of it: between an answer of it and
what somebody asks of it next lie turns of the loop."""


class ClusterNode:
    """A node as the harness plays it, over the HTTP API. It beats when told to, with numbers of its own."""

    def __init__(self, http: httpx.AsyncClient, name: str) -> None:
        self.name = name
        self._http = http
        self._seq = 0

    async def beat(self, status: str = "online", **metrics: Any) -> httpx.Response:
        """Send one heartbeat; gives the answer, whatever it is."""
        self._seq += 1
        body = {"status": status, "seq": self._seq, **metrics}
        return await self._http.post(f"/api/nodes/{self.name}/heartbeats", json=body)

    async def announce(self, **announcement: Any) -> httpx.Response:
        """Say that the node is up."""
        return await self._http.post(f"/api/nodes/{self.name}/online", json=announcement)

    async def leave(self) -> httpx.Response:
        """Say goodbye."""
        return await self.beat("offline")


class Cluster:
    """A registry, the gate before it, and the parts that a test turns: `clock` and `store`."""

    def __init__(
        self, registry: Registry, transport: httpx.AsyncBaseTransport, *, clock: ManualClock, store: FaultyStore
    ) -> None:
        self.registry = registry
        self.url = BASE_URL
        self.transport = transport
        """Leads requests for `url` to the gate, also those of a `Client`. It gives whole answers: not for streams."""
        self.http = httpx.AsyncClient(transport=transport, base_url=BASE_URL)
        self.clock = clock
        self.store = store

    async def node(self, name: str, **attrs: Any) -> ClusterNode:
        """Register a node and let it beat once, so that it is online. Raises: httpx.HTTPStatusError."""
        (await self.http.post("/api/nodes", json={"name": name, **attrs})).raise_for_status()
        node = ClusterNode(self.http, name)
        (await node.beat()).raise_for_status()
        return node

    async def turn(self, duration_s: float, *, step_s: float = 0.5) -> None:
        """Turn the clock by `duration_s` in steps, waiting after each until the store has done what it was given.

        With a store in memory `clock.advance` is enough; one on disk takes real time, in which a clock that ran ahead
        would make it look hung.
        """
        end = self.clock.monotonic() + duration_s
        await self.settle()
        while (remaining_s := end - self.clock.monotonic()) > 0:
            await self.clock.advance(min(step_s, remaining_s))
            if not self.store.idle.is_set():
                await self.settle()
        await self.settle()

    async def settle(self) -> None:
        """Let everything happen that waits for the store, and for no time to pass."""
        quiet = 0
        while quiet < _QUIET_ROUNDS:
            await self.clock.advance(0)
            if self.store.idle.is_set():
                quiet += 1
            else:
                quiet = 0
                await self.store.idle.wait()

    async def turn_until(self, awaited: Awaitable[T], *, step_s: float = 0.1, limit_s: float = 600.0) -> T:
        """Turn the clock until `awaited` is done, and give its result. Raises: TimeoutError after `limit_s` of it."""
        task = asyncio.ensure_future(awaited)
        end = self.clock.monotonic() + limit_s
        while not task.done():
            if self.clock.monotonic() >= end:
                task.cancel()
                raise TimeoutError(f"not done after {limit_s} s of manual time")
            if self.store.idle.is_set():
                await self.clock.advance(step_s)
            # What is awaited may hang on a thread of the store: give it real time without spinning.
            await asyncio.wait([task], timeout=0.001)
        return await task


@asynccontextmanager
async def open_cluster(
    *,
    store: Store | None = None,
    settings: Settings | None = None,
    clock: ManualClock | None = None,
    seed: int = 0,
    tracer: Tracer | None = None,
) -> AsyncIterator[Cluster]:
    """A running cluster; closing it commits what is queued. `store` is wrapped so that it can be made to fail.

    Closing turns the clock where the store is away, as long as the registry waits for it.
    """
    clock = clock or ManualClock()
    faulty = store if isinstance(store, FaultyStore) else FaultyStore(store or MemoryStore())
    settings = msgspec.structs.replace(settings or Settings(), store=faulty.location)
    opening = Registry.open(faulty, settings, clock=clock, rng=random.Random(seed), tracer=tracer)
    registry = await opening.__aenter__()
    transport = httpx.ASGITransport(
        app=build_app(registry, monitoring=Monitoring(Metrics(registry), Discovery(registry)))
    )
    cluster = Cluster(registry, transport, clock=clock, store=faulty)
    try:
        async with cluster.http:
            yield cluster
    finally:
        closing = opening.__aexit__(None, None, None)
        # Else the end of a test that forgets to bring the store back would hang: nobody else turns the clock now.
        await (closing if registry.stale_s is None else cluster.turn_until(closing))
