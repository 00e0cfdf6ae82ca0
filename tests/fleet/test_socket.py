"""A fleet's connection, before a server that is a socket and the library alone."""

from __future__ import annotations

import asyncio
from typing import Any

from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from thunderline.client.errors import ClientError
from thunderline.testing.fleet.socket import Address, LinkSocket, Owner
from thunderline.wire.frames import MSGPACK_SUBPROTOCOL


class Answering(Owner):
    """Answers each message, as long as it may."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.was_open: list[bool] = []
        self.gone: asyncio.Future[ClientError | None] = asyncio.get_running_loop().create_future()

    def opened(self, socket: LinkSocket) -> None:
        socket.send(b"hello")

    def received(self, socket: LinkSocket, data: bytes) -> None:
        self.heard.append(data)
        self.was_open.append(socket.is_open)
        if socket.is_open:
            socket.send(b"answer")

    def writable(self, socket: LinkSocket) -> None:
        pass

    def lost(self, socket: LinkSocket, error: ClientError | None) -> None:
        self.gone.set_result(error)


async def say_something_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server whose last message and whose close arrive together."""
    protocol = ServerProtocol(subprotocols=[Subprotocol(MSGPACK_SUBPROTOCOL)])
    while not (events := protocol.events_received()):
        protocol.receive_data(await reader.read(65_536))
    [request] = events
    assert isinstance(request, Request)
    protocol.send_response(protocol.accept(request))
    writer.write(b"".join(protocol.data_to_send()))
    while not protocol.events_received():
        protocol.receive_data(await reader.read(65_536))
    protocol.send_binary(b"last")
    protocol.send_close(1001)
    writer.write(b"".join(protocol.data_to_send()))
    await reader.read()
    writer.close()


async def test_what_arrives_with_the_close_is_heard_and_not_answered() -> None:
    loop = asyncio.get_running_loop()
    problems: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, problem: problems.append(problem))
    server = await asyncio.start_server(say_something_and_close, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        owner = Answering()
        socket = LinkSocket(owner, Address(f"http://127.0.0.1:{port}", tls=None), token=None)
        await loop.create_connection(lambda: socket, "127.0.0.1", port)
        assert await owner.gone is None
    assert (owner.heard, owner.was_open) == ([b"last"], [False])
    assert problems == []
