"""Channels over real sockets: the upgrade, and clients that do not read, or do not speak the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from thunderline.core.settings import Settings
from thunderline.gate.channel_protocol import ChannelProtocol
from thunderline.gate.channels import LOOK_S, UNREAD_MAX_S
from thunderline.gate.websocket import UpgradeRequest
from thunderline.server import Server, open_server
from thunderline.testing.clock import ManualClock

GRAPH = "thunderlink:graph"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with open_server(Settings(port=0, store="memory://")) as opened:
        yield opened


def dial(server: Server, path: str = "/socket/websocket?vsn=2.0.0", **options: Any) -> connect:
    return connect(server.url.replace("http://", "ws://") + path, proxy=None, max_size=None, **options)


async def say(connection: ClientConnection, *message: Any) -> None:
    await connection.send(json.dumps(message))


async def hear(connection: ClientConnection) -> list[Any]:
    found: list[Any] = json.loads(await connection.recv())
    return found


async def test_joining_over_a_socket(server: Server) -> None:
    async with dial(server) as connection:
        await say(connection, "1", "1", GRAPH, "phx_join", {})
        joined = await hear(connection)
        assert joined[:4] == ["1", "1", GRAPH, "phx_reply"]
        assert joined[4]["response"]["snapshot"]["nodes"]
        await server.registry.ensure_node({"name": "worker-1"})
        assert (await hear(connection))[3] == "node_changed"
        assert connection.subprotocol is None


async def test_a_client_that_offers_the_subprotocol_is_given_it(server: Server) -> None:
    # As the stock client does where it brings a token.
    offered: Any = ["phoenix", "base64url.bearer.phx.c2VjcmV0"]
    async with dial(server, subprotocols=offered) as connection:
        assert connection.subprotocol == "phoenix"
    other: Any = ["something"]
    async with dial(server, subprotocols=other) as connection:
        assert connection.subprotocol is None


async def rest(connection: ClientConnection) -> list[str | bytes]:
    """What still comes, until the connection is closed."""
    found = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            found.append(await connection.recv())
    return found


@pytest.mark.parametrize(
    ("path", "headers", "status", "named"),
    [
        ("/socket/websocket", {}, 422, "vsn"),
        ("/socket/websocket?vsn=1.0.0", {}, 422, "vsn"),
        ("/socket/websocket?vsn=3.0.0&vsn=x", {}, 422, "vsn"),
        ("/socket?vsn=2.0.0", {}, 404, "/socket/websocket"),
        ("/socket/websocket?vsn=2.0.0", {"Origin": "http://evil.example"}, 403, "evil.example"),
    ],
)
async def test_upgrades_that_are_refused(
    server: Server, path: str, headers: dict[str, str], status: int, named: str
) -> None:
    with pytest.raises(InvalidStatus) as raised:
        await dial(server, path, additional_headers=headers)
    response = raised.value.response
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert named in response.body.decode()


@pytest.mark.parametrize(
    ("message", "code"), [("hello", 1007), ("[1,2,3]", 1007), (b"\x07", 1007), ("x" * 65_537, 1009)]
)
async def test_what_is_not_the_protocol_closes_the_connection(server: Server, message: str | bytes, code: int) -> None:
    async with dial(server) as connection:
        await connection.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code


async def test_a_large_graph_comes_whole_to_a_client_that_reads_slowly(server: Server) -> None:
    meta = {"filler": "x" * 8_000}
    nodes = [server.registry.ensure_node({"name": f"n{i}", "meta": meta}) for i in range(200)]
    await asyncio.gather(*nodes)
    connected = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    connected.setblocking(False)
    async with dial(server, sock=connected) as connection:
        await say(connection, "1", "1", GRAPH, "phx_join", {})
        await say(connection, None, "2", "phoenix", "heartbeat", {})
        # The answer to the second may be on its way before that to the first, which takes longer to read.
        _, joined = sorted(
            [await hear(connection), await hear(connection)], key=lambda told: int(told[1]), reverse=True
        )
        await server.registry.ensure_node({"name": "late"})
        event = await hear(connection)
        assert len(joined[4]["response"]["snapshot"]["nodes"]) == 201  # ours, and the server's own
        assert (event[3], event[4]["subject"]) == ("node_changed", "late")


async def test_a_client_that_reads_nothing_is_cut_and_told_why(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[ChannelProtocol] = []
    original = ChannelProtocol.opened

    def spy(self: ChannelProtocol, request: UpgradeRequest, **given: Any) -> None:
        opened.append(self)
        original(self, request, **given)

    monkeypatch.setattr(ChannelProtocol, "opened", spy)
    clock = ManualClock()
    async with open_server(Settings(port=0, store="memory://"), clock=clock) as server:
        connected = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        connected.setblocking(False)
        async with dial(server, sock=connected) as connection:
            await say(connection, "1", "1", GRAPH, "phx_join", {})
            assert (await hear(connection))[3] == "phx_reply"
            connection.transport.pause_reading()
            protocol = opened[0]
            made = 0
            while protocol.unread_since is None:
                await server.registry.ensure_node({"name": f"n{made}", "meta": {"filler": "x" * 8_000}})
                made += 1
            for _ in range(100):
                await server.registry.ensure_node({"name": f"n{made}", "meta": {"filler": "x" * 8_000}})
                made += 1
                assert protocol._transport.get_write_buffer_size() < 128 * 1024
            for _ in range(int(UNREAD_MAX_S / LOOK_S) + 1):
                await clock.advance(LOOK_S)
            connection.transport.resume_reading()
            told = [json.loads(data)[4]["revision"] for data in await rest(connection)]
            assert (connection.close_code, str(connection.close_reason)[:13]) == (1013, "watch_stalled")
            assert told == list(range(told[0], told[0] + len(told)))
            assert len(told) < made


async def test_a_server_that_stops_says_so() -> None:
    async with open_server(Settings(port=0, store="memory://")) as server:
        connection = await dial(server)
        await say(connection, "1", "1", GRAPH, "phx_join", {})
        await hear(connection)
        reading = asyncio.ensure_future(connection.wait_closed())
    await reading
    assert connection.close_code == 1012
