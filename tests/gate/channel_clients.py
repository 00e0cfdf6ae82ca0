"""Clients of channels as tests play them: without a socket, under the harness' clock."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from websockets.frames import Frame
from websockets.protocol import CLIENT, Protocol, State

from thunderline.gate.channels import ChannelSocket
from thunderline.gate.encoded import EncodedEvents
from thunderline.link.actor import LOCAL_OPERATOR, Actor
from thunderline.testing.harness import Cluster

GRAPH = "thunderlink:graph"


class Client:
    """A connection whose frames end here. `told` are the messages that came and were not looked at."""

    def __init__(self, cluster: Cluster, *, actor: Actor = LOCAL_OPERATOR) -> None:
        self.told: list[list[Any]] = []
        self.closed: tuple[int, str] | None = None
        self.held = False
        self.unread_since: float | None = None
        self._cluster = cluster
        self._ws = Protocol(CLIENT, state=State.OPEN, max_size=None)
        self._parts: list[bytes] = []
        self._ref = 0
        self.socket = ChannelSocket(cluster.registry, EncodedEvents(cluster.registry.log), self, actor=actor)

    # As the carrier

    async def send(self, frames: Iterable[bytes]) -> None:
        if self.closed is not None:
            return
        self._ws.receive_data(b"".join(frames))
        for frame in self._ws.events_received():
            assert isinstance(frame, Frame)
            self._parts.append(bytes(frame.data))
            if frame.fin:
                self.told.append(json.loads(b"".join(self._parts)))
                self._parts = []

    def close(self, code: int, reason: str, *, linger_s: float = 0) -> None:
        self.closed = self.closed or (code, reason)

    def hold(self, held: bool) -> None:
        self.held = held

    # As the client

    def say(self, *message: Any) -> None:
        """Send a message as it is."""
        self.socket.received(json.dumps(message).encode(), text=True)

    async def ask(self, topic: str, event: str, payload: Any = None, *, join_ref: str | None = None) -> dict[str, Any]:
        """Push, and give the payload of the reply; what came beside it stays in `told`."""
        self._ref += 1
        ref = str(self._ref)
        joining = ref if event == "phx_join" else join_ref
        self.say(joining, ref, topic, event, {} if payload is None else payload)
        await self.settle()
        answer = next(message for message in self.told if message[1] == ref and message[3] == "phx_reply")
        assert (answer[0], answer[2]) == (joining, topic)
        self.told.remove(answer)
        found: dict[str, Any] = answer[4]
        return found

    async def join(self, topic: str = GRAPH, **parameters: Any) -> dict[str, Any]:
        """Join, which must be granted; gives the response."""
        answer = await self.ask(topic, "phx_join", parameters)
        assert answer["status"] == "ok", answer
        response: dict[str, Any] = answer["response"]
        return response

    async def refused(self, topic: str, **parameters: Any) -> dict[str, Any]:
        """Join, which must not be granted; gives the response."""
        answer = await self.ask(topic, "phx_join", parameters)
        assert answer["status"] == "error", answer
        response: dict[str, Any] = answer["response"]
        return response

    @property
    def join_ref(self) -> str:
        """The reference of the newest push, which is that of a join if that was one."""
        return str(self._ref)

    async def settle(self) -> None:
        """Let everything happen that does not wait for time to pass."""
        await self._cluster.settle()

    async def take(self) -> list[list[Any]]:
        """What was told since the last time, once nothing more comes by itself."""
        await self.settle()
        told, self.told = self.told, []
        return told

    async def take_events(self, topic: str = GRAPH) -> list[tuple[str, str]]:
        """The same as channel event and subject, all of which must be on that topic."""
        told = await self.take()
        assert {message[2] for message in told} <= {topic}
        return [(message[3], message[4].get("subject")) for message in told]
