"""The WebSocket that carries Phoenix Channels: frames go out as fast as the client takes them, and no faster."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from typing import ClassVar, Final
from urllib.parse import parse_qs

from uvicorn.server import ServerState
from websockets.protocol import State

from thunderline.core.errors import InvalidInput, ShuttingDown, Unauthenticated
from thunderline.gate.bearers import bearer_in, offered_token
from thunderline.gate.channels import ChannelSocket
from thunderline.gate.doorkeeper import Doorkeeper
from thunderline.gate.edge import HostRules
from thunderline.gate.encoded import EncodedEvents
from thunderline.gate.phoenix import SUBPROTOCOL, VERSION
from thunderline.gate.websocket import CLOSE_TIMEOUT_S, UpgradeRequest, WebSocketProtocol
from thunderline.link.actor import Actor
from thunderline.link.registry import Registry

SEND_BUFFER_BYTES: Final = 64 * 1024
"""What the system keeps on its way to the client; Linux takes twice as much, its own records included."""

WRITE_BUFFER_BYTES: Final = 32 * 1024
"""What waits here besides before a client counts as one that does not read."""


class ChannelProtocol(WebSocketProtocol):
    """One upgraded connection that carries channels."""

    __slots__ = ("_encoded", "_is_paused", "_outbox", "_registry", "_socket", "unread_since")

    subprotocols: ClassVar = (SUBPROTOCOL,)
    needs_subprotocol: ClassVar = False
    message_max_bytes: ClassVar = 64 * 1024
    purpose: ClassVar = "open channels"

    def __init__(
        self,
        registry: Registry,
        encoded: EncodedEvents,
        rules: HostRules,
        doorkeeper: Doorkeeper,
        server_state: ServerState,
    ) -> None:
        super().__init__(rules, doorkeeper, server_state)
        self._registry = registry
        self._encoded = encoded
        self._socket: ChannelSocket = None  # type: ignore[assignment]  # set once opened, and nothing is asked before
        self._is_paused = False
        # What could not be written yet, and who waits until it is.
        self._outbox: deque[tuple[Iterator[bytes], asyncio.Future[None]]] = deque()
        self.unread_since: float | None = None

    def opened(self, request: UpgradeRequest, *, subprotocol: str | None) -> None:
        actor = self._caller(request)
        version = parse_qs(request.query).get("vsn", ["none"])[-1]
        if version != VERSION:
            raise InvalidInput("vsn", f"should be {VERSION}, the version of the serializer, not {version[:40]!r}")
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        if (connected := self._transport.get_extra_info("socket")) is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._socket = ChannelSocket(self._registry, self._encoded, self, actor=actor)

    def _caller(self, request: UpgradeRequest) -> Actor:
        headers = dict(request.headers)
        if self._doorkeeper.asks:
            try:
                offered = offered_token(request.offered)
                if offered is not None:
                    if bearer_in(headers) not in (None, offered):
                        raise Unauthenticated("Authorization is not the token that is offered; send one of the two")
                    headers[b"authorization"] = b"Bearer " + offered.encode()
                    # A browser sends its cookie along by itself; the page has said whom it speaks for.
                    headers.pop(b"cookie", None)
            except Unauthenticated as error:
                raise self._doorkeeper.refuse(error, self.purpose, address=request.address) from None
        return self._doorkeeper.upgrading(headers, address=request.address, path=request.path, scheme=request.scheme)

    def message(self, data: bytes, *, text: bool) -> None:
        self._socket.received(data, text=text)

    def part(self) -> None:
        self._socket.count()

    def lost(self) -> None:
        self._socket.lost()
        self._drop_unsent()

    def shutdown(self) -> None:
        """End as uvicorn ends."""
        if self._is_open:
            self._socket.end(ShuttingDown())
        else:
            self._transport.close()

    # What the channels ask for

    async def send(self, frames: Iterable[bytes]) -> None:
        """Send frames that belong together; returns once the client may be sent more. Cancelling takes nothing back."""
        if self._ws.state is not State.OPEN:
            return
        unsent = iter(frames)
        if self._outbox or not self._write_some(unsent):
            sent = asyncio.get_running_loop().create_future()
            self._outbox.append((unsent, sent))
            await asyncio.shield(sent)

    def close(self, code: int, reason: str, *, linger_s: float = CLOSE_TIMEOUT_S) -> None:
        # Nothing may follow the close; what was cut off is told again on the next connection.
        self._drop_unsent()
        super().close(code, reason, linger_s=linger_s)

    def pause_writing(self) -> None:
        self._is_paused = True
        self.unread_since = self._registry.clock.monotonic()

    def resume_writing(self) -> None:
        self._is_paused = False
        self.unread_since = None
        while self._outbox:
            unsent, sent = self._outbox[0]
            if not self._write_some(unsent):
                return
            self._outbox.popleft()
            sent.set_result(None)

    def _write_some(self, unsent: Iterator[bytes]) -> bool:
        """Write until the client has to catch up; gives whether it has not."""
        while not self._is_paused and not self._transport.is_closing():
            if (frame := next(unsent, None)) is None:
                return True
            self._transport.write(frame)
        return False

    def _drop_unsent(self) -> None:
        while self._outbox:
            _, sent = self._outbox.popleft()
            sent.cancel()
