"""A link's WebSocket: from bytes on a connection to whole messages, and back.

The framing is that of the websockets library, without I/O; this is the asyncio protocol around it. No compression: a
frame is smaller than the memory that it would cost each link. Source: RFC 6455.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec
from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import SERVER, Protocol, State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from thunderline.core.errors import MalformedBody, ThunderlineError
from thunderline.gate.edge import HostRules
from thunderline.gate.faults import PROBLEM_TYPE, Problem, plain_problem, problem_headers, problem_of
from thunderline.gate.link_connection import LinkConnection
from thunderline.gate.link_gate import LinkGate
from thunderline.wire.frames import FRAME_MAX_BYTES, JSON_SUBPROTOCOL, PATH, SUBPROTOCOLS

_MESSAGES: Final = (Opcode.TEXT, Opcode.BINARY)

CLOSE_TIMEOUT_S: Final = 2.0
"""How long a peer may take to answer our close before the connection is cut."""

UNREAD_MAX_BYTES: Final = 256 * 1024
"""What a peer may leave unread before it is cut: some thousand acknowledgements, more than a node that reads has."""

_KEEPALIVE: Final = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
"""The kernel finds a peer that is gone without a word within a minute, whatever interval its node has."""


class LinkProtocol(asyncio.Protocol):
    """One upgraded connection. It refuses the upgrade with a problem, or carries a link until either end closes it."""

    __slots__ = ("_close_timer", "_gate", "_held", "_link", "_parts", "_rules", "_state", "_text", "_transport", "_ws")

    def __init__(self, gate: LinkGate, rules: HostRules, server_state: ServerState) -> None:
        self._gate = gate
        self._rules = rules
        self._state = server_state
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else is called
        self._ws = Protocol(SERVER, state=State.OPEN, max_size=FRAME_MAX_BYTES)
        self._link: LinkConnection | None = None
        self._text = False
        self._held = False
        self._parts: list[bytes] = []
        self._close_timer: asyncio.TimerHandle | None = None

    # The upgrade

    def upgrade(
        self, transport: asyncio.Transport, path: str, headers: Sequence[tuple[bytes, bytes]], *, scheme: str
    ) -> None:
        """Answer the request for a WebSocket: the link stands, or the connection closes behind a problem."""
        self._transport = transport
        self._state.connections.add(self)  # type: ignore[arg-type]  # what uvicorn asks of one is `shutdown`
        try:
            response = self._negotiate(path, headers, scheme=scheme)
        except ThunderlineError as error:
            self._refuse(problem_of(error))
            return
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            detail = bytes(response.body or b"").decode().strip()
            self._refuse(plain_problem(HTTPStatus(response.status_code), detail), response.headers)
            return
        peername = transport.get_extra_info("peername")
        subprotocol = response.headers["Sec-WebSocket-Protocol"]
        self._text = subprotocol == JSON_SUBPROTOCOL
        try:
            self._link = LinkConnection(
                self._gate, self, subprotocol=subprotocol, address=str(peername[0]) if peername else None
            )
        except ThunderlineError as error:
            self._refuse(problem_of(error))
            return
        _keep_alive(transport.get_extra_info("socket"))
        transport.write(response.serialize())

    def _negotiate(self, path: str, headers: Sequence[tuple[bytes, bytes]], *, scheme: str) -> Response:
        given = Headers()
        for name, value in headers:
            given[name.decode("latin-1")] = value.decode("latin-1")
        negotiator = ServerProtocol(subprotocols=[Subprotocol(name) for name in SUBPROTOCOLS])
        if path != PATH:
            return negotiator.reject(HTTPStatus.NOT_FOUND, f"no WebSocket is served at {path}; links connect to {PATH}")
        hosts, origins = given.get_all("Host"), given.get_all("Origin")
        if len(hosts) != 1 or len(origins) > 1:
            return negotiator.reject(HTTPStatus.BAD_REQUEST, "Host is needed once, and Origin at most once")
        offered = {name.strip() for value in given.get_all("Sec-WebSocket-Protocol") for name in value.split(",")}
        if not offered.intersection(SUBPROTOCOLS):
            known = " or ".join(SUBPROTOCOLS)
            return negotiator.reject(HTTPStatus.BAD_REQUEST, f"Sec-WebSocket-Protocol: should offer {known}")
        host = hosts[0].encode("latin-1")
        self._rules.check_host(host)
        self._rules.check_origin(origins[0].encode("latin-1") if origins else None, scheme=scheme, host=host)
        return negotiator.accept(Request(path, given))

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
        if self._link is None:
            return
        opcode = frame.opcode
        if opcode not in _MESSAGES or not frame.fin:
            # Whole messages are counted as the frames of ours that they are.
            self._link.count_frame()
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            if opcode is Opcode.TEXT and not self._text:
                self._link.end(MalformedBody("frame", "should be binary, as the subprotocol says"))
            elif frame.fin:
                self._link.received(bytes(frame.data))
            else:
                self._parts = [bytes(frame.data)]
        elif opcode is Opcode.CONT:
            if frame.data:
                self._parts.append(bytes(frame.data))
            if frame.fin:
                parts, self._parts = self._parts, []
                self._link.received(b"".join(parts))

    def eof_received(self) -> None:
        """The peer sends nothing more; the connection ends."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        if self._close_timer is not None:
            self._close_timer.cancel()
        if self._link is not None:
            self._link.lost()
            self._link = None

    def shutdown(self) -> None:
        """End as uvicorn ends: the gate has drained the link before."""
        if self._link is None:
            self._transport.close()
        else:
            self._gate.drain()

    # What the link asks for

    def send(self, data: bytes) -> None:
        """Send one whole message."""
        if self._ws.state is not State.OPEN or self._transport.is_closing():
            return
        if self._text:
            self._ws.send_text(data)
        else:
            self._ws.send_binary(data)
        self._write()

    def close(self, code: int, reason: str) -> None:
        """Close behind what was sent."""
        if self._ws.state is State.OPEN:
            self._ws.send_close(code, reason)
            self._write()
        self._finish()

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
        if not self._transport.is_closing():
            for data in self._ws.data_to_send():
                if data:
                    self._transport.write(data)
            if self._transport.get_write_buffer_size() > UNREAD_MAX_BYTES:
                self._transport.abort()

    def _finish(self) -> None:
        if self._ws.close_rcvd is not None or self._ws.parser_exc is not None:
            self._transport.close()
        elif self._close_timer is None:
            self.hold(False)  # the peer's own close is to be read
            self._close_timer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._transport.abort)


class LinkProtocolFactory:
    """Makes the protocols of one server; it stands where uvicorn expects the class of a WebSocket protocol."""

    def __init__(self, gate: LinkGate, rules: HostRules) -> None:
        self._gate = gate
        self._rules = rules

    def __call__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> LinkProtocol:
        return LinkProtocol(self._gate, self._rules, server_state)


def _keep_alive(connection: socket.socket | None) -> None:
    if connection is None:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        if hasattr(socket, option):  # not on every system
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
