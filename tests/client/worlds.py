"""A registry, and links to it over a transport that breaks on demand, under a clock that the test turns."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from thunderline.client.link import Link
from thunderline.core.records import Node
from thunderline.testing import MemoryTransport
from thunderline.testing.harness import Cluster
from thunderline.wire.codec import node_codec, registry_codec
from thunderline.wire.frames import MSGPACK_SUBPROTOCOL, NodeFrame, RegistryFrame

NAME = "worker-1@prod"
STEP_S = 0.1


class World:
    """A cluster, a transport to it, and the links that a test makes over it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.clock = cluster.clock
        self.registry = cluster.registry
        self.transport = MemoryTransport(cluster.registry)

    def link(self, *, transport: MemoryTransport | None = None, seed: int = 1, **given: Any) -> Link:
        return Link(
            "http://cluster",
            **{"name": NAME, **given},
            transport=transport or self.transport,
            clock=self.clock,
            rng=random.Random(seed),
        )

    async def turn(self, duration_s: float = 0.0) -> None:
        """Let time pass in small steps, so that nothing is left behind by the clock."""
        await self.cluster.turn(duration_s, step_s=STEP_S)
        await self.settle()

    async def settle(self) -> None:
        """Let everybody act on what is there, while time stands still."""
        for _ in range(60):
            await asyncio.sleep(0)

    @property
    def node(self) -> Node:
        return self.registry.get_node(NAME)

    async def beats(self) -> list[dict[str, Any]]:
        """What the registry keeps of the node's beats, oldest first."""
        answer = await self.cluster.http.get(f"/api/nodes/{NAME}/heartbeats", params={"minutes": 60})
        beats: list[dict[str, Any]] = answer.raise_for_status().json()["heartbeats"]
        return sorted(beats, key=lambda beat: beat["seq"])

    def said(self) -> list[NodeFrame]:
        """The frames that nodes handed over so far."""
        codec = registry_codec(MSGPACK_SUBPROTOCOL)
        return [frame for data in self.transport.sent if (frame := codec.decode(data)) is not None]

    def tell(self, frame: RegistryFrame) -> None:
        """Say something in the registry's place."""
        (wire,) = self.transport._wires
        wire.send(node_codec(MSGPACK_SUBPROTOCOL).encode(frame))
