"""A link's connection as light as it can be: no task of its own, thousands in one process.

The library `websockets` reads and writes the frames, without I/O; the loop's transport does the rest. What arrives is
handed on at once. It differs from `client.websocket` in that nothing here ever waits: who sends too much is told by
`is_full`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from abc import ABC, abstractmethod
from typing import Any, Final, cast
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from thunderline.client.errors import ClientError, NotThunderline
from thunderline.client.trust import bearer
from thunderline.client.websocket import link_url, refused_handshake
from thunderline.wire.frames import FRAME_MAX_BYTES, MSGPACK_SUBPROTOCOL

_QUIET: Final = logging.Logger("thunderline.testing.fleet.library", level=logging.CRITICAL)


class Owner(ABC):
    """Whose connection it is. None of these may raise."""

    __slots__ = ()

    @abstractmethod
    def opened(self, socket: LinkSocket) -> None:
        """The server agreed to speak the link protocol."""

    @abstractmethod
    def received(self, socket: LinkSocket, data: bytes) -> None:
        """A message is here."""

    @abstractmethod
    def writable(self, socket: LinkSocket) -> None:
        """There is room again for what is to be sent."""

    @abstractmethod
    def lost(self, socket: LinkSocket, error: ClientError | None) -> None:
        """The connection is gone, whoever ended it. `error`: what the server answered instead of opening it."""


class Address:
    """Where links go: what of a server's URL every connection needs."""

    def __init__(self, url: str, *, tls: ssl.SSLContext | None) -> None:
        """Raises: InvalidInput naming `url`."""
        target = link_url(url)
        parts = urlsplit(target)
        self.url = url
        self.uri = parse_uri(target)
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if parts.scheme == "wss" else 80)
        self.tls = tls if parts.scheme == "wss" else None


class LinkSocket(asyncio.Protocol):
    """One connection of `owner`'s."""

    __slots__ = ("_address", "_error", "_owner", "_token", "_transport", "_websocket", "is_full", "is_open")

    def __init__(self, owner: Owner, address: Address, *, token: str | None) -> None:
        self.is_open = False
        self.is_full = False
        self._owner: Owner | None = owner
        self._address = address
        self._token = token
        self._error: ClientError | None = None
        self._transport: asyncio.Transport | None = None
        self._websocket = ClientProtocol(
            address.uri, subprotocols=[Subprotocol(MSGPACK_SUBPROTOCOL)], max_size=FRAME_MAX_BYTES, logger=_QUIET
        )

    # What its owner does

    def send(self, data: bytes) -> None:
        """Send one message."""
        self._websocket.send_binary(data)
        self._write()

    def deafen(self) -> None:
        """Take nothing any more that arrives, not even the end: as if the network were gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def abort(self) -> None:
        """Drop the connection at once; its owner hears no more of it."""
        self._owner = None
        if self._transport is not None:
            self._transport.abort()

    # What the loop does

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._owner is None:
            self._transport.abort()
            return
        request = self._websocket.connect()
        for name, value in bearer(self._token).items():
            request.headers[name] = value
        self._websocket.send_request(request)
        self._write()

    def data_received(self, data: bytes) -> None:
        self._websocket.receive_data(data)
        self._take()

    def eof_received(self) -> None:
        self._websocket.receive_eof()
        self._take()

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False
        owner, self._owner = self._owner, None
        if owner is not None:
            owner.lost(self, self._error)

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False
        if self._owner is not None and self.is_open:
            self._owner.writable(self)

    def _take(self) -> None:
        # What came before the server's close is still handed on, but answered no more: the library would refuse that.
        if self._websocket.state is not State.OPEN:
            self.is_open = False
        for event in self._websocket.events_received():
            if self._owner is None:
                return
            if isinstance(event, Response):
                self._answered(event)
            elif isinstance(event, Frame) and event.opcode is Opcode.BINARY:
                self._owner.received(self, bytes(event.data))
        self._write()
        if self._websocket.close_expected() and self._transport is not None:
            self._transport.close()

    def _answered(self, response: Response) -> None:
        problem = self._websocket.handshake_exc
        if isinstance(problem, InvalidStatus):
            self._error = refused_handshake(self._address.url, response)
        elif isinstance(problem, InvalidHandshake) or self._websocket.subprotocol is None:
            self._error = NotThunderline(self._address.url, reason=str(problem or "it speaks none of our protocols"))
        elif self._owner is not None and self._websocket.state is State.OPEN:
            self.is_open = True
            self._owner.opened(self)

    def _write(self) -> None:
        transport: Any = self._transport
        for data in self._websocket.data_to_send():
            if data and not transport.is_closing():
                transport.write(data)
