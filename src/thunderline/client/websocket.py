"""Links over WebSockets, on the library `websockets`; its names and errors stay in here."""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus, WebSocketException
from websockets.http11 import Response
from websockets.typing import Subprotocol

from thunderline._version import __version__
from thunderline.client.errors import (
    ClientError,
    NotThunderline,
    Problem,
    ServerUnavailable,
    ServerUnreachable,
    ServerUntrusted,
    refusal,
)
from thunderline.client.link_errors import ConnectionLost
from thunderline.client.transport import Connection, Transport
from thunderline.client.trust import bearer, check_way, tls_context, untrusted
from thunderline.core.errors import InvalidInput
from thunderline.wire.frames import FRAME_MAX_BYTES, JSON_SUBPROTOCOL, PATH, SUBPROTOCOLS

OPEN_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 2.0
"""How long the other end gets to agree to a close; one that is gone never does."""

PING_INTERVAL_S: Final = 15.0
PING_TIMEOUT_S: Final = 15.0
"""Pings keep proxies from closing a quiet connection; one that goes unanswered for this long ends it."""

_PROBLEM_TYPE: Final = "application/problem+json"
_SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def link_url(url: str) -> str:
    """The WebSocket URL of the link endpoint of the server at `url`. Raises: InvalidInput."""
    try:
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:
            # It would stand in every line of the log that names the server.
            raise InvalidInput("url", "must hold no user and no password; pass a token instead")
        usable = parts.scheme in _SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidInput("url", f"{url!r} is no server's address; it should look like http://127.0.0.1:4040")
    return urlunsplit((_SCHEMES[parts.scheme], parts.netloc, parts.path.rstrip("/") + PATH, "", ""))


class WebSocketTransport(Transport):
    """Connects over TCP or TLS. Proxies that the environment names are not used, they would capture loopback."""

    def __init__(
        self,
        *,
        subprotocols: Sequence[str] = SUBPROTOCOLS,
        open_timeout_s: float = OPEN_TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`subprotocols`: what to offer, the preferred one first. `tls` None: whom the system trusts."""
        self._tls = tls
        self._subprotocols = [Subprotocol(name) for name in subprotocols]
        self._open_timeout_s = open_timeout_s
        # Failed connections are an everyday matter of a link, which logs them in words of its own.
        self._quiet = logging.Logger("thunderline.client.websocket.library", level=logging.CRITICAL)

    async def connect(self, url: str, *, token: str | None = None) -> Connection:
        target = link_url(url)
        if token is not None:
            check_way(target)
        opening = _Connect(
            target,
            additional_headers=bearer(token),
            ssl=(self._tls or tls_context(target)) if target.startswith("wss:") else None,
            subprotocols=self._subprotocols,
            compression=None,
            proxy=None,
            user_agent_header=f"thunderline/{__version__}",
            open_timeout=self._open_timeout_s,
            close_timeout=CLOSE_TIMEOUT_S,
            ping_interval=PING_INTERVAL_S,
            ping_timeout=PING_TIMEOUT_S,
            max_size=FRAME_MAX_BYTES,
            logger=self._quiet,
        )
        try:
            socket = await opening
        except TimeoutError as error:
            raise ServerUnreachable(url, reason="no answer to the attempt to connect") from error
        except UnicodeError as error:
            raise ServerUnreachable(url, reason="its name cannot be looked up") from error
        except OSError as error:
            if (why := untrusted(error)) is not None:
                raise ServerUntrusted(url, reason=why) from error
            refused = isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error)
            raise ServerUnreachable(url, reason=None if refused else error.strerror or str(error)) from error
        except InvalidStatus as error:
            raise refused_handshake(url, error.response) from error
        except InvalidMessage as error:
            if isinstance(error.__cause__, EOFError):
                raise ServerUnreachable(url, reason="hung up before it answered") from error
            raise NotThunderline(url, reason=str(error)) from error
        except (InvalidHandshake, WebSocketException) as error:
            raise NotThunderline(url, reason=str(error)) from error
        if socket.subprotocol is None:
            await socket.close()
            raise NotThunderline(url, reason="it speaks none of our link protocols")
        return _WebSocket(socket, str(socket.subprotocol))


class _Connect(connect):
    """Takes a redirect as an answer: a link, whose first frame may carry a token, goes where it was told to go."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class _WebSocket(Connection):
    """A connection of the library's."""

    def __init__(self, socket: ClientConnection, subprotocol: str) -> None:
        self._socket = socket
        self._subprotocol = subprotocol
        self._is_text = subprotocol == JSON_SUBPROTOCOL

    @property
    def subprotocol(self) -> str:
        return self._subprotocol

    async def send(self, data: bytes) -> None:
        try:
            await self._socket.send(data, text=self._is_text)
        except ConnectionClosed as error:
            raise _lost(error) from error

    async def receive(self) -> bytes:
        try:
            return await self._socket.recv(decode=False)
        except ConnectionClosed as error:
            raise _lost(error) from error

    async def close(self, code: int = 1000, reason: str = "") -> None:
        with contextlib.suppress(WebSocketException, OSError):
            await self._socket.close(code, reason)

    def abort(self) -> None:
        self._socket.transport.abort()


def _lost(error: ConnectionClosed) -> ConnectionLost:
    if error.rcvd is not None:
        return ConnectionLost(close_code=error.rcvd.code, reason=error.rcvd.reason)
    return ConnectionLost(close_code=None, reason="" if error.sent is None else error.sent.reason)


def refused_handshake(url: str, response: Response) -> ClientError:
    """The error that an HTTP response in place of the WebSocket stands for."""
    kind = response.headers.get("content-type", "no content type").partition(";")[0]
    if kind == _PROBLEM_TYPE:
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            return refusal(msgspec.json.decode(response.body, type=Problem))
    status = response.status_code
    if status in (502, 503, 504):
        # A proxy whose server is away: it comes back.
        detail = f"{url} answers HTTP {status}; what stands before the server cannot reach it"
        return ServerUnavailable(Problem(detail=detail, status=status, code="bad_gateway", retryable=True))
    if 300 <= status < 400:
        elsewhere = response.headers.get("location", "nowhere")
        return NotThunderline(url, reason=f"HTTP {status} to {elsewhere}, and links follow no redirect")
    return NotThunderline(url, reason=f"HTTP {status}, {kind}, where a link should begin")
