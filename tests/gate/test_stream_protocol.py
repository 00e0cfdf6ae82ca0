"""The end of a server beside clients that do not read: over real sockets, with buffers as small as they get."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket

import pytest

from thunderline.core.settings import Settings
from thunderline.gate import stream_protocol
from thunderline.gate.stream_protocol import StreamHttpProtocol
from thunderline.server import open_server


async def test_an_answer_that_is_complete_but_not_taken_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = StreamHttpProtocol.connection_made

    def connection_made(protocol: StreamHttpProtocol, transport: asyncio.Transport) -> None:
        made(protocol, transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    monkeypatch.setattr(StreamHttpProtocol, "connection_made", connection_made)
    monkeypatch.setattr(stream_protocol, "UNREAD_S", 0.05)
    caplog.set_level(logging.WARNING)
    with contextlib.closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        # Far longer than a test may take.
        async with (
            asyncio.timeout(20),
            open_server(Settings(port=0, store="memory://", shutdown_timeout_s=600)) as server,
        ):
            # More than the socket holds, less than the server keeps before it lets a stream wait.
            for i in range(3):
                await server.registry.ensure_node({"name": f"n{i}", "meta": {"filler": "x" * 15_000}})
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", int(server.url.rpartition(":")[2])))
            await loop.sock_sendall(
                client, b"GET /api/events?since=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
            )
            assert await loop.sock_recv(client, 15) == b"HTTP/1.1 200 OK"
    assert caplog.records == []
