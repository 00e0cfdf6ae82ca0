"""A link's WebSocket: whole frames of the link protocol, in the encoding that its subprotocol names."""

from __future__ import annotations

from typing import ClassVar, Final

from uvicorn.server import ServerState
from websockets.protocol import State

from thunderline.core.errors import MalformedBody, Unauthenticated
from thunderline.core.tracing import caller_in
from thunderline.gate.bearers import bearer_in
from thunderline.gate.doorkeeper import Doorkeeper
from thunderline.gate.edge import HostRules
from thunderline.gate.link_connection import LinkConnection
from thunderline.gate.link_gate import OPEN_A_LINK, LinkGate
from thunderline.gate.websocket import UpgradeRequest, WebSocketProtocol
from thunderline.wire.frames import FRAME_MAX_BYTES, JSON_SUBPROTOCOL, SUBPROTOCOLS

UNREAD_MAX_BYTES: Final = 256 * 1024
"""What a peer may leave unread before it is cut: some thousand acknowledgements, more than a node that reads has."""


class LinkProtocol(WebSocketProtocol):
    """One upgraded connection that carries a link."""

    __slots__ = ("_gate", "_link", "_text")

    subprotocols: ClassVar = SUBPROTOCOLS
    needs_subprotocol: ClassVar = True
    message_max_bytes: ClassVar = FRAME_MAX_BYTES
    purpose: ClassVar = OPEN_A_LINK

    def __init__(self, gate: LinkGate, rules: HostRules, doorkeeper: Doorkeeper, server_state: ServerState) -> None:
        super().__init__(rules, doorkeeper, server_state)
        self._gate = gate
        self._link: LinkConnection = None  # type: ignore[assignment]  # set once opened, and nothing is asked before
        self._text = False

    def opened(self, request: UpgradeRequest, *, subprotocol: str | None) -> None:
        assert subprotocol is not None  # none is refused
        self._text = subprotocol == JSON_SUBPROTOCOL
        # A cookie says nothing here: a node is no browser.
        bearer = None
        if self._doorkeeper.asks:
            try:
                bearer = bearer_in(dict(request.headers))
            except Unauthenticated as error:
                raise self._doorkeeper.refuse(error, self.purpose, address=request.address) from None
            if bearer is None:
                # It may show a token in a moment; until then it is one of those who do not.
                self._doorkeeper.stranger(request.address)
        try:
            self._link = LinkConnection(
                self._gate,
                self,
                subprotocol=subprotocol,
                address=request.address,
                bearer=bearer,
                caller=None if self._gate.registry.tracer is None else caller_in(request.headers),
            )
        except Unauthenticated:
            self._doorkeeper.stranger(request.address)
            raise

    def message(self, data: bytes, *, text: bool) -> None:
        if text and not self._text:
            self._link.end(MalformedBody("frame", "should be binary, as the subprotocol says"))
        else:
            self._link.received(data)

    def part(self) -> None:
        # Whole messages are counted as the frames of ours that they are.
        self._link.count_frame()

    def lost(self) -> None:
        self._link.lost()

    def shutdown(self) -> None:
        """End as uvicorn ends: the gate has drained the link before."""
        if self._is_open:
            self._gate.drain()
        else:
            self._transport.close()

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

    def _write(self) -> None:
        super()._write()
        if not self._transport.is_closing() and self._transport.get_write_buffer_size() > UNREAD_MAX_BYTES:
            self._transport.abort()
