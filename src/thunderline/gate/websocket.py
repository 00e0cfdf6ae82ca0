"""A WebSocket at the gate: the upgrade, and from bytes on a connection to whole messages, and back.

The framing is that of the websockets library, without I/O; this is the asyncio protocol around it. No compression: a
frame is smaller than the memory that it would cost each connection. Source: RFC 6455.
"""

from __future__ import annotations

import asyncio
import socket
from abc import abstractmethod
from collections.abc import Sequence
from http import HTTPStatus
from typing import ClassVar, Final

import msgspec
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import SERVER, Protocol, State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from thunderline.core.errors import HostRefused, OriginRefused, ThunderlineError
from thunderline.gate.doorkeeper import Doorkeeper
from thunderline.gate.edge import HostRules
from thunderline.gate.entrance import Place
from thunderline.gate.faults import PROBLEM_TYPE, Problem, plain_problem, problem_headers, problem_of

_MESSAGES: Final = (Opcode.TEXT, Opcode.BINARY)

CLOSE_TIMEOUT_S: Final = 2.0
"""How long a peer may take to answer our close before the connection is cut."""

_SINGLE: Final = ("Origin", "Authorization", "Cookie")
"""Headers of which one of two would win here and the other elsewhere."""

_KEEPALIVE: Final = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
"""The kernel finds a peer that is gone without a word within a minute, whatever it is expected to say."""


class UpgradeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What asked for the WebSocket; the names of headers are in lower case."""

    path: str
    query: str
    headers: Sequence[tuple[bytes, bytes]]
    scheme: str
    address: str | None = None
    """Of who asked, behind whatever proxies; None where that is not known."""
    place: Place | None = None
    """The connection's, which is left at its end."""

    @property
    def offered(self) -> list[str]:
        """The subprotocols that the client would speak, in its order."""
        lists = [value.decode("latin-1") for name, value in self.headers if name == b"sec-websocket-protocol"]
        return [name.strip() for text in lists for name in text.split(",")]


class WebSocketProtocol(asyncio.Protocol):
    """One upgraded connection. It refuses the upgrade with a problem, or carries messages until either end closes it.

    A subclass says what the messages are about: it is `opened`, is given each whole `message`, and is told once that
    the connection is `lost`.
    """

    __slots__ = (
        "_close_timer",
        "_doorkeeper",
        "_held",
        "_is_open",
        "_is_text",
        "_parts",
        "_place",
        "_rules",
        "_state",
        "_transport",
        "_ws",
    )

    subprotocols: ClassVar[tuple[str, ...]]
    """Those that are spoken, the preferred one first."""
    needs_subprotocol: ClassVar[bool]
    """Whether a client that offers none of them is refused."""
    message_max_bytes: ClassVar[int]
    purpose: ClassVar[str]
    """What the audit log calls an upgrade that was refused."""

    def __init__(self, rules: HostRules, doorkeeper: Doorkeeper, server_state: ServerState) -> None:
        self._rules = rules
        self._doorkeeper = doorkeeper
        self._state = server_state
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else is called
        self._ws = Protocol(SERVER, state=State.OPEN, max_size=self.message_max_bytes)
        self._is_open = False
        self._held = False
        self._parts: list[bytes] = []
        self._is_text = False
        self._close_timer: asyncio.TimerHandle | None = None
        self._place: Place | None = None

    # What a subclass says

    @abstractmethod
    def opened(self, request: UpgradeRequest, *, subprotocol: str | None) -> None:
        """The upgrade is about to be answered. Raises: ThunderlineError to refuse it, noted where it is a refusal."""

    @abstractmethod
    def message(self, data: bytes, *, text: bool) -> None:
        """One whole message came."""

    @abstractmethod
    def part(self) -> None:
        """A frame came that is no whole message: a control frame, or a fragment."""

    @abstractmethod
    def lost(self) -> None:
        """The connection is gone."""

    @abstractmethod
    def shutdown(self) -> None:
        """End: the server does."""

    # The upgrade

    def upgrade(self, transport: asyncio.Transport, request: UpgradeRequest) -> None:
        """Answer the request for a WebSocket: it stands, or the connection closes behind a problem."""
        self._transport = transport
        self._place = request.place
        self._state.connections.add(self)  # type: ignore[arg-type]  # what uvicorn asks of one is `shutdown`
        try:
            response = self._negotiate(request)
        except ThunderlineError as error:
            self._refuse(problem_of(error))
            return
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            detail = bytes(response.body or b"").decode().strip()
            self._refuse(plain_problem(HTTPStatus(response.status_code), detail), response.headers)
            return
        try:
            self.opened(request, subprotocol=response.headers.get("Sec-WebSocket-Protocol"))
        except ThunderlineError as error:
            self._refuse(problem_of(error))
            return
        self._is_open = True
        _keep_alive(transport.get_extra_info("socket"))
        transport.write(response.serialize())

    def _negotiate(self, request: UpgradeRequest) -> Response:
        given = Headers()
        for name, value in request.headers:
            given[name.decode("latin-1")] = value.decode("latin-1")
        spoken = set(request.offered).intersection(self.subprotocols)
        # What else is offered is the client's to do without, where it may do without any.
        negotiator = ServerProtocol(subprotocols=[Subprotocol(name) for name in self.subprotocols] if spoken else None)
        hosts, origins = given.get_all("Host"), given.get_all("Origin")
        if len(hosts) != 1 or any(len(given.get_all(name)) > 1 for name in _SINGLE):
            return negotiator.reject(
                HTTPStatus.BAD_REQUEST, f"Host is needed once, and {', '.join(_SINGLE)} at most once each"
            )
        if not spoken and self.needs_subprotocol:
            known = " or ".join(self.subprotocols)
            return negotiator.reject(HTTPStatus.BAD_REQUEST, f"Sec-WebSocket-Protocol: should offer {known}")
        host = hosts[0].encode("latin-1")
        origin = origins[0].encode("latin-1") if origins else None
        try:
            self._rules.check_host(host)
            self._rules.check_origin(origin, scheme=request.scheme, host=host)
        except (HostRefused, OriginRefused) as error:
            raise self._doorkeeper.refuse(error, self.purpose, address=request.address) from None
        return negotiator.accept(Request(request.path, given))

    def _refuse(self, problem: Problem, headers: Headers | None = None) -> None:
        body = msgspec.json.encode(problem)
        answer = Headers(problem_headers(problem))
        for name in ("Allow", "Upgrade"):
            if headers is not None and name in headers:
                answer[name] = headers[name]
        answer["Content-Type"] = PROBLEM_TYPE
        answer["Content-Length"] = str(len(body))
        answer["Connection"] = "close"
        self._transport.write(Response(problem.status, problem.title, answer, body).serialize())
        self._transport.close()

    # The connection

    def data_received(self, data: bytes) -> None:
        ws = self._ws
        ws.receive_data(data)
        for event in ws.events_received():
            if isinstance(event, Frame):
                self._frame(event)
        self._write()
        if ws.parser_exc is not None or ws.close_rcvd is not None:
            self._finish()

    def _frame(self, frame: Frame) -> None:
        if not self._is_open:
            return
        opcode = frame.opcode
        if opcode not in _MESSAGES or not frame.fin:
            self.part()
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            self._is_text = opcode is Opcode.TEXT
            if frame.fin:
                self.message(bytes(frame.data), text=self._is_text)
            else:
                self._parts = [bytes(frame.data)]
        elif opcode is Opcode.CONT:
            if frame.data:
                self._parts.append(bytes(frame.data))
            if frame.fin:
                parts, self._parts = self._parts, []
                self.message(b"".join(parts), text=self._is_text)

    def eof_received(self) -> None:
        """The peer sends nothing more; the connection ends."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        if self._place is not None:
            self._place.leave()
        if self._close_timer is not None:
            self._close_timer.cancel()
        if self._is_open:
            self._is_open = False
            self.lost()

    # What a subclass asks for

    def close(self, code: int, reason: str, *, linger_s: float = CLOSE_TIMEOUT_S) -> None:
        """Close behind what was sent; a peer that does not answer in `linger_s` is cut. Idempotent."""
        if self._ws.state is State.OPEN:
            self._ws.send_close(code, reason)
            self._write()
        self._finish(linger_s)

    def hold(self, held: bool) -> None:
        """Read nothing more from the peer, or go on reading."""
        if held is self._held or self._transport.is_closing():
            return
        self._held = held
        if held:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _write(self) -> None:
        """Let the transport have what the framing made."""
        if not self._transport.is_closing():
            for data in self._ws.data_to_send():
                if data:
                    self._transport.write(data)

    def _finish(self, linger_s: float = CLOSE_TIMEOUT_S) -> None:
        if self._ws.close_rcvd is not None or self._ws.parser_exc is not None:
            # What the peer does not read would keep the connection otherwise.
            linger_s = CLOSE_TIMEOUT_S
            self._transport.close()
        else:
            self.hold(False)  # the peer's own close is to be read
        loop = asyncio.get_running_loop()
        due = loop.time() + linger_s
        if self._close_timer is None or due < self._close_timer.when():
            if self._close_timer is not None:
                self._close_timer.cancel()
            self._close_timer = loop.call_at(due, self._transport.abort)


def _keep_alive(connection: socket.socket | None) -> None:
    if connection is None:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        if hasattr(socket, option):  # not on every system
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
