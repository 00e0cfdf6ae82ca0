"""Links without sockets: a transport that ends at a registry's gate in the same loop, with faults to switch.

    transport = MemoryTransport(cluster.registry)
    async with Link("http://cluster", name="worker-1", transport=transport, clock=cluster.clock) as link:
        transport.cut()

It passes the contract tests of the WebSocket transport; it differs in that nothing takes any time.
"""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec

from thunderline.client.errors import Problem, ServerUnreachable, refusal
from thunderline.client.link_errors import ConnectionLost
from thunderline.client.transport import Connection, Transport
from thunderline.core.errors import ThunderlineError
from thunderline.gate.faults import problem_of
from thunderline.gate.link_connection import LinkConnection
from thunderline.gate.link_gate import LinkGate
from thunderline.link.registry import Registry
from thunderline.wire.frames import MSGPACK_SUBPROTOCOL


class MemoryTransport(Transport):
    """Connects to `registry`. The faults meet the connections that there are at that time."""

    def __init__(self, registry: Registry, *, subprotocol: str = MSGPACK_SUBPROTOCOL) -> None:
        self.gate = LinkGate(registry)
        self.refusing = False
        """While true, nothing listens."""
        self.hanging = False
        """While true, attempts to connect get no answer."""
        self.connects = 0
        """Connections that were made so far."""
        self.sent: list[bytes] = []
        """What nodes handed over, in order, whatever became of it."""
        self._subprotocol = subprotocol
        self._wires: list[_Wire] = []

    async def connect(self, url: str, *, token: str | None = None) -> Connection:
        if self.hanging:
            await asyncio.get_running_loop().create_future()
        if self.refusing:
            raise ServerUnreachable(url)
        self.connects += 1
        wire = _Wire(self)
        try:
            wire.link = LinkConnection(self.gate, wire, subprotocol=self._subprotocol, address=None, bearer=token)
        except ThunderlineError as error:
            raise refusal(msgspec.convert(problem_of(error), Problem, from_attributes=True)) from error
        self._wires.append(wire)
        return _NodeSide(wire, self._subprotocol)

    def cut(self) -> None:
        """Break every connection; what is held back is lost."""
        for wire in list(self._wires):
            wire.cut()

    def cut_after(self, frames: int) -> None:
        """Break every connection when the registry has got so many more frames, before it can answer the last."""
        for wire in self._wires:
            wire.frames_left = frames

    def hold(self, *, up: bool = True, down: bool = True) -> None:
        """Let nothing through any more, neither frames nor the connection's end, from the node (`up`) or to it."""
        for wire in self._wires:
            wire.hold_up = wire.hold_up or up
            wire.hold_down = wire.hold_down or down

    def release(self) -> None:
        """Let everything through again, what was held back first."""
        for wire in list(self._wires):
            wire.release()

    def forget(self, wire: _Wire) -> None:
        """That connection is over at both ends."""
        if wire in self._wires:
            self._wires.remove(wire)


class _Wire:
    """One connection: the registry's `Peer`, and what the node's end reads and writes."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.link: LinkConnection | None = None
        self.hold_up = self.hold_down = False
        self.frames_left: int | None = None
        self.readable = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self.arrived: deque[bytes] = deque()
        self.over: ConnectionLost | None = None
        """How the connection ended, as the node sees it."""
        self._transport = transport
        self._up: list[bytes] = []
        self._down: list[bytes] = []
        self._unseen: ConnectionLost | None = None
        self._hung_up = False

    # The registry's side

    def send(self, data: bytes) -> None:
        if self.hold_down:
            self._down.append(data)
        elif self.over is None:
            self.arrived.append(data)
            self.readable.set()

    def close(self, code: int, reason: str) -> None:
        self._end(ConnectionLost(close_code=code, reason=reason))
        # As a socket would tell it: not from inside the call that closes.
        asyncio.get_running_loop().call_soon(self._lose)

    def hold(self, held: bool) -> None:
        if held:
            self.writable.clear()
        else:
            self.writable.set()

    # The node's side

    def push(self, data: bytes) -> None:
        self._transport.sent.append(data)
        if self.hold_up:
            self._up.append(data)
        elif self.link is not None:
            if self.frames_left is not None:
                self.frames_left -= 1
                self.hold_down = self.hold_down or self.frames_left <= 0
            self.link.received(data)
            if self.frames_left is not None and self.frames_left <= 0:
                self.cut()

    def hang_up(self, code: int | None, reason: str) -> None:
        if self.over is None:
            self.over = ConnectionLost(close_code=code, reason=reason)
            self.readable.set()
            self.writable.set()
        if self.hold_up:
            self._hung_up = True
        else:
            self._lose()

    # Faults

    def cut(self) -> None:
        self._up.clear()
        self._down.clear()
        self.hold_up = self.hold_down = False
        self._end(ConnectionLost(close_code=None, reason="cut"))
        self._lose()

    def release(self) -> None:
        self.hold_up = self.hold_down = False
        down, self._down = self._down, []
        for data in down:
            self.send(data)
        if self._unseen is not None:
            self._end(self._unseen)
        up, self._up = self._up, []
        for data in up:
            if self.link is not None:
                self.link.received(data)
        if self._hung_up:
            self._lose()

    def _end(self, why: ConnectionLost) -> None:
        if self.hold_down:
            self._unseen = self._unseen or why
        elif self.over is None:
            self.over = why
            self.readable.set()
            self.writable.set()

    def _lose(self) -> None:
        link, self.link = self.link, None
        self._transport.forget(self)
        if link is not None:
            link.lost()


class _NodeSide(Connection):
    """The node's end of a wire."""

    def __init__(self, wire: _Wire, subprotocol: str) -> None:
        self._wire = wire
        self._subprotocol = subprotocol

    @property
    def subprotocol(self) -> str:
        return self._subprotocol

    async def send(self, data: bytes) -> None:
        await self._wire.writable.wait()
        if self._wire.over is not None:
            raise self._wire.over
        self._wire.push(data)

    async def receive(self) -> bytes:
        wire = self._wire
        while not wire.arrived:
            if wire.over is not None:
                raise wire.over
            wire.readable.clear()
            await wire.readable.wait()
        return wire.arrived.popleft()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        self._wire.hang_up(code, reason)

    def abort(self) -> None:
        self._wire.hang_up(None, "")
