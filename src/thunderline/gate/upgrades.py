"""Which protocol takes over a connection that asks for a WebSocket, by the path that it asks for."""

from __future__ import annotations

from uvicorn.server import ServerState

from thunderline.gate import phoenix
from thunderline.gate.channel_protocol import ChannelProtocol
from thunderline.gate.doorkeeper import Doorkeeper
from thunderline.gate.edge import HostRules
from thunderline.gate.encoded import EncodedEvents
from thunderline.gate.link_gate import LinkGate
from thunderline.gate.link_protocol import LinkProtocol
from thunderline.gate.turns import UPGRADES_A_TURN, Turns
from thunderline.gate.websocket import WebSocketProtocol
from thunderline.link.registry import Registry
from thunderline.wire.frames import PATH


class Upgrades:
    """The WebSockets of one server; it stands where uvicorn expects the class of a WebSocket protocol."""

    def __init__(
        self, rules: HostRules, doorkeeper: Doorkeeper, links: LinkGate, registry: Registry, encoded: EncodedEvents
    ) -> None:
        self._rules = rules
        self._doorkeeper = doorkeeper
        self._links = links
        self._registry = registry
        self._encoded = encoded
        self.turns = Turns(UPGRADES_A_TURN)
        """When each connection is upgraded."""

    def protocol_at(self, path: str, server_state: ServerState) -> WebSocketProtocol | None:
        """A protocol for one connection; None where no WebSocket is served."""
        if path == PATH:
            return LinkProtocol(self._links, self._rules, self._doorkeeper, server_state)
        if path == phoenix.PATH:
            return ChannelProtocol(self._registry, self._encoded, self._rules, self._doorkeeper, server_state)
        return None

    def served(self) -> str:
        """Where WebSockets are served, in words."""
        return f"links connect to {PATH}, channels to {phoenix.PATH}"
