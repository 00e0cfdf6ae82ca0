"""The node's end of a link as these tests play it: frame by frame, straight into the gate, without a socket."""

from __future__ import annotations

from typing import Any

import msgspec

from thunderline.gate.link_connection import LinkConnection
from thunderline.gate.link_gate import LinkGate
from thunderline.testing.harness import Cluster
from thunderline.wire.frames import JSON_SUBPROTOCOL


class Node:
    """One connection. `heard` are the frames that came from the registry, as plain objects."""

    def __init__(self, gate: LinkGate, *, bearer: str | None = None, address: str | None = None) -> None:
        self.heard: list[dict[str, Any]] = []
        self.closed: tuple[int, str] | None = None
        self.held = False
        self.link = LinkConnection(gate, self, subprotocol=JSON_SUBPROTOCOL, address=address, bearer=bearer)

    # The peer of the registry's end

    def send(self, data: bytes) -> None:
        assert self.closed is None, "something was said behind the close"
        self.heard.append(msgspec.json.decode(data))

    def close(self, code: int, reason: str) -> None:
        if self.closed is None:
            self.closed = (code, reason)

    def hold(self, held: bool) -> None:
        self.held = held

    # What the node does

    def say(self, type_: str, **fields: Any) -> None:
        """Send a frame."""
        self.link.received(msgspec.json.encode({"type": type_, **fields}))

    def hello(self, name: str = "worker-1", instance: str = "a", **fields: Any) -> None:
        """Send the first frame."""
        self.say("hello", name=name, instance=instance, **fields)

    def cut(self) -> None:
        """Lose the connection without a word."""
        self.closed = self.closed or (1006, "")
        self.link.lost()

    def of(self, type_: str) -> list[dict[str, Any]]:
        """The frames of that type that came."""
        return [frame for frame in self.heard if frame["type"] == type_]

    @property
    def welcome(self) -> dict[str, Any]:
        """What the registry answered to hello."""
        (welcome,) = self.of("welcome")
        return welcome

    @property
    def acked(self) -> int | None:
        """The highest number that is said to be durable."""
        return max((frame["seq"] for frame in self.of("ack")), default=None)

    @property
    def error(self) -> dict[str, Any]:
        """The last error that was told."""
        return self.of("error")[-1]

    @property
    def resume(self) -> dict[str, str]:
        """What a later hello needs to go on with this link."""
        return {key: self.welcome[key] for key in ("session_id", "secret")}


class Links:
    """The gate of links before a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.gate = LinkGate(cluster.registry)
        self.gate.start()

    def connect(self, *, bearer: str | None = None, address: str | None = None) -> Node:
        """A connection that has said nothing yet. Raises: Unauthenticated for a bearer that is not good."""
        return Node(self.gate, bearer=bearer, address=address)

    async def open(self, name: str = "worker-1", instance: str = "a", **fields: Any) -> Node:
        """A connection after its handshake, whatever came of it."""
        node = self.connect()
        node.hello(name, instance, **fields)
        await self.settle()
        return node

    async def settle(self) -> None:
        """Let what is queued be committed and told."""
        await self.cluster.settle()
