"""The end of a server beside clients that do not read: over real sockets, with buffers as small as they get."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket

import pytest

from thunderline.core.settings import Settings
from thunderline.gate import sse, stream_protocol
from thunderline.gate.stream_protocol import StreamHttpProtocol
from thunderline.server import open_server

REQUEST = b"GET /api/events?since=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"


def hold_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets of the server that hold less than it takes to notice that nobody reads."""
    made = StreamHttpProtocol.connection_made

    def connection_made(protocol: StreamHttpProtocol, transport: asyncio.Transport) -> None:
        made(protocol, transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    monkeypatch.setattr(StreamHttpProtocol, "connection_made", connection_made)


async def test_an_answer_that_is_complete_but_not_taken_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hold_little(monkeypatch)
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
            await loop.sock_sendall(client, REQUEST)
            assert await loop.sock_recv(client, 15) == b"HTTP/1.1 200 OK"
    assert caplog.records == []


async def read_all(client: socket.socket) -> bytes:
    """What comes until the end, which is a clean one."""
    read, loop = b"", asyncio.get_running_loop()
    while piece := await loop.sock_recv(client, 65_536):
        read += piece
    return read


@pytest.mark.parametrize("in_time", [True, False])
async def test_a_client_that_was_given_up_learns_why_if_it_reads_soon(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, in_time: bool
) -> None:
    hold_little(monkeypatch)
    monkeypatch.setattr(sse, "SEND_TIMEOUT_S", 0.05)
    dropped = asyncio.Event()
    lost = StreamHttpProtocol.connection_lost
    monkeypatch.setattr(
        StreamHttpProtocol, "connection_lost", lambda protocol, error: (lost(protocol, error), dropped.set())
    )
    if not in_time:
        monkeypatch.setattr(stream_protocol, "LAST_UNREAD_S", 0.05)
    given_up = asyncio.Event()
    ended = StreamHttpProtocol._end
    monkeypatch.setattr(StreamHttpProtocol, "_end", lambda *taken: (ended(*taken), given_up.set()))
    with contextlib.closing(socket.socket()) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        async with asyncio.timeout(20), open_server(Settings(port=0, store="memory://")) as server:
            for i in range(20):
                await server.registry.ensure_node({"name": f"n{i}", "meta": {"filler": "x" * 15_000}})
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, ("127.0.0.1", int(server.url.rpartition(":")[2])))
            await loop.sock_sendall(client, REQUEST)
            await given_up.wait()
            if in_time:
                read = await read_all(client)
            await dropped.wait()
            if not in_time:
                read = b""
                with contextlib.suppress(ConnectionError):
                    read = await read_all(client)
                assert b"thunderline.cut" not in read
                return
    # Chunks as they came: the last of them is the cut, and the events before it are whole.
    assert read.endswith(b"\r\n0\r\n\r\n")
    parts = [part.split(b"\n") for part in read.split(b"\n\n")]
    ids = [line.rpartition(b":")[2] for part in parts for line in part if line.startswith(b"id: ")]
    cut = json.loads(parts[-2][-1].removeprefix(b"data: "))
    assert (cut["code"], cut["resume_from"].rpartition(":")[2]) == ("watch_stalled", ids[-1].decode())
    assert 0 < int(ids[-1]) < 20
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []
