"""Links over real sockets: the upgrade, the framing, and peers that misbehave below the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from uvicorn.server import ServerState
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.engines import Opening
from thunderline.core.settings import Settings
from thunderline.gate import websocket
from thunderline.gate.doorkeeper import Doorkeeper
from thunderline.gate.edge import HostRules
from thunderline.gate.link_gate import LinkGate
from thunderline.gate.link_protocol import UNREAD_MAX_BYTES, LinkProtocol
from thunderline.gate.logins import Logins
from thunderline.gate.websocket import UpgradeRequest
from thunderline.server import Server, open_server
from thunderline.testing.harness import Cluster
from thunderline.wire.frames import FRAME_MAX_BYTES, JSON_SUBPROTOCOL, MSGPACK_SUBPROTOCOL

HELLO = {"type": "hello", "name": "worker-1", "instance": "a"}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with open_server(Settings(port=0, store="memory://")) as opened:
        yield opened


def dial(server: Server, subprotocol: str = JSON_SUBPROTOCOL, path: str = "/link", **options: Any) -> connect:
    url = server.url.replace("http://", "ws://") + path
    return connect(url, subprotocols=[subprotocol], proxy=None, **options)  # type: ignore[list-item]


async def exchange(connection: ClientConnection, frame: dict[str, Any]) -> dict[str, Any]:
    """Send a frame and give the next that comes."""
    form = msgspec.json if connection.subprotocol == JSON_SUBPROTOCOL else msgspec.msgpack
    data = form.encode(frame)
    await connection.send(data.decode() if form is msgspec.json else data)
    answer = await connection.recv()
    found: dict[str, Any] = form.decode(answer.encode() if isinstance(answer, str) else answer)
    return found


async def raw(server: Server, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    writer.write(data)
    return reader, writer


def upgrade(**headers: str) -> bytes:
    given = {
        "Host": "127.0.0.1",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Protocol": JSON_SUBPROTOCOL,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"GET /link HTTP/1.1\r\n{lines}\r\n".encode()


def frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """A masked WebSocket frame of less than 126 bytes."""
    mask = b"\x9a\x3c\x51\xe7"
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return struct.pack("!BB", opcode | (0x80 if fin else 0), 0x80 | len(payload)) + mask + masked


@pytest.mark.parametrize("subprotocol", [JSON_SUBPROTOCOL, MSGPACK_SUBPROTOCOL])
async def test_both_encodings_carry_a_link(server: Server, subprotocol: str) -> None:
    async with dial(server, subprotocol) as connection:
        assert connection.subprotocol == subprotocol
        assert (await exchange(connection, HELLO))["type"] == "welcome"
        assert await exchange(connection, {"type": "hb", "seq": 1}) == {"type": "ack", "seq": 1}
        pong = await connection.ping()
        await pong


@pytest.mark.parametrize(
    ("options", "path", "status", "says"),
    [
        ({"additional_headers": {"Origin": "https://evil.example"}}, "/link", 403, "origin_refused"),
        ({}, "/elsewhere", 404, "links connect to /link"),
        ({"additional_headers": {"Host": "evil.example"}}, "/link", 421, "host_refused"),
    ],
)
async def test_upgrade_that_is_refused_is_answered_with_a_problem(
    server: Server, options: dict[str, Any], path: str, status: int, says: str
) -> None:
    headers = options.get("additional_headers", {})
    if "Host" in headers:
        reader, writer = await raw(server, upgrade(Host=headers["Host"]))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        answered, content_type = int(head.split()[1]), head.lower()
    else:
        with pytest.raises(InvalidStatus) as refused:
            await dial(server, path=path, **options).__aenter__()
        response = refused.value.response
        answered, body = response.status_code, response.body
        content_type = response.headers["Content-Type"].encode()
    assert answered == status
    assert b"application/problem+json" in content_type
    assert says in body.decode()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec_WebSocket_Protocol": "chat"}, b"400"),
        ({"Sec_WebSocket_Version": "12"}, b"400"),
        ({"Sec_WebSocket_Key": "short"}, b"400"),
        ({"Origin": "http://127.0.0.1"}, b"101"),
        ({"Upgrade": "WebSocket", "Connection": "keep-alive, upgrade"}, b"101"),
        ({"Upgrade": "h2c"}, b"404"),
    ],
)
async def test_upgrade_is_held_to_the_handshake(server: Server, headers: dict[str, str], status: bytes) -> None:
    reader, writer = await raw(server, upgrade(**headers))
    line = await reader.readline()
    assert line.split()[1] == status
    if status == b"400":
        assert b'"code":"bad_request"' in await reader.read()
    writer.close()


async def test_frames_right_behind_the_request_and_in_parts_are_read(server: Server) -> None:
    hello = msgspec.json.encode(HELLO)
    data = frame(1, hello[:10], fin=False) + frame(9, b"?") + frame(0, hello[10:])
    reader, writer = await raw(server, upgrade() + data)
    await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(3) == b"\x8a\x01?"  # the pong, at once
    assert b'"type":"welcome"' in await reader.readuntil(b"}")
    writer.close()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(3, b""), 1002),
        (b"\x81\x02{}", 1002),  # not masked
        (struct.pack("!BBQ", 0x81, 0xFF, 2**40) + bytes(4), 1009),
        (struct.pack("!BBQ", 0x81, 0xFF, FRAME_MAX_BYTES + 1) + bytes(4), 1009),
        (frame(0, b"x"), 1002),
        (frame(1, b"{}"), 1007),
        (frame(1, b"\xff\xfe"), 1007),
    ],
)
async def test_what_breaks_the_framing_is_closed_with_its_code(server: Server, data: bytes, code: int) -> None:
    reader, writer = await raw(server, upgrade() + data)
    await reader.readuntil(b"\r\n\r\n")
    writer.write(frame(8, struct.pack("!H", code)))
    rest = await reader.read()
    assert struct.pack("!H", code) in rest
    writer.close()


async def test_text_where_the_subprotocol_is_binary_ends_the_link(server: Server) -> None:
    async with dial(server, MSGPACK_SUBPROTOCOL) as connection:
        await connection.send("{}")
        assert msgspec.msgpack.decode(await connection.recv())["code"] == "malformed_body"
        with pytest.raises(ConnectionClosed):
            await connection.recv()
        assert connection.close_code == 1007


async def test_upgrade_behind_a_request_that_is_not_answered_is_refused(server: Server) -> None:
    reader, writer = await raw(server, b"GET /api/nodes HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + upgrade())
    answers = await reader.read()
    assert answers.startswith(b"HTTP/1.1 200")
    assert b"101 Switching" not in answers
    writer.close()


class Clogged(asyncio.Transport):
    """A transport whose peer reads nothing: what is written piles up."""

    def __init__(self) -> None:
        super().__init__()
        self.unread_bytes = 0
        self.aborted = False
        self.paused = False

    def write(self, data: Any) -> None:
        self.unread_bytes += len(data)

    def get_write_buffer_size(self) -> int:
        return self.unread_bytes

    def is_closing(self) -> bool:
        return self.aborted

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def abort(self) -> None:
        self.aborted = True


def upgraded(cluster: Cluster) -> tuple[LinkProtocol, Clogged]:
    """A link whose upgrade was answered."""
    registry, transport = cluster.registry, Clogged()
    doorkeeper = Doorkeeper(registry, Logins(registry))
    protocol = LinkProtocol(LinkGate(registry), HostRules(()), doorkeeper, ServerState())
    lines = [line.partition(b": ") for line in upgrade().split(b"\r\n")[1:-2]]
    head = [(name.lower(), value) for name, _, value in lines]
    protocol.upgrade(transport, UpgradeRequest(path="/link", query="", headers=head, scheme="http"))
    return protocol, transport


async def test_peer_that_reads_nothing_is_cut(cluster: Cluster) -> None:
    protocol, transport = upgraded(cluster)
    protocol.data_received(frame(1, msgspec.json.encode(HELLO)))
    await cluster.settle()
    while not transport.aborted:
        protocol.data_received(frame(1, b'{"type":"hb","seq":"x"}'))
        assert transport.unread_bytes < UNREAD_MAX_BYTES + 1_000
    protocol.connection_lost(None)
    assert len(cluster.registry.uplinks) == 0


@pytest.mark.parametrize(("opcode", "payload", "fin"), [(9, b"x" * 100, True), (0, b"", False)])
async def test_frames_that_are_no_messages_count_too(
    open_cluster: Opening, opcode: int, payload: bytes, fin: bool
) -> None:
    async with open_cluster(settings=Settings(link_frames_per_second=10)) as cluster:
        protocol, transport = upgraded(cluster)
        protocol.data_received(frame(1, msgspec.json.encode(HELLO)))
        await cluster.settle()
        if opcode == 0:
            protocol.data_received(frame(1, b"{", fin=False))
        before = transport.unread_bytes
        for _ in range(50):
            protocol.data_received(frame(opcode, payload, fin=fin))
        assert transport.unread_bytes > before  # the error, and the close
        protocol.connection_lost(None)


async def test_close_of_a_peer_that_was_held_is_read(cluster: Cluster) -> None:
    protocol, transport = upgraded(cluster)
    protocol.hold(True)
    assert transport.paused
    protocol.close(1000, "")
    assert not transport.paused
    protocol.connection_lost(None)


async def test_pongs_that_nobody_reads_end_the_connection(cluster: Cluster) -> None:
    protocol, transport = upgraded(cluster)
    while not transport.aborted:
        protocol.data_received(frame(9, b"x" * 125))
        assert transport.unread_bytes < UNREAD_MAX_BYTES + 1_000
    protocol.connection_lost(None)


@pytest.mark.parametrize("target", [b"http://x", b"http://127.0.0.1:99999/link", b"http://[::1/link"])
async def test_upgrade_whose_url_cannot_be_used_is_answered(server: Server, target: bytes) -> None:
    reader, writer = await raw(server, upgrade().replace(b" /link ", b" " + target + b" "))
    assert (await reader.readline()).split()[1] in (b"400", b"404")
    writer.close()


async def test_peer_that_does_not_answer_the_close_is_cut(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "CLOSE_TIMEOUT_S", 0.01)
    reader, writer = await raw(server, upgrade() + frame(1, b'{"type":"bye"}'))
    answer = await reader.read()  # to the end of the connection, which is the server's doing
    assert b"protocol_violation" in answer
    writer.close()


async def test_reset_connection_is_a_link_that_may_be_resumed(server: Server) -> None:
    async with dial(server) as first:
        welcome = await exchange(first, HELLO)
        first.transport.abort()
        revision = server.registry.roster.revision
        resume = {key: welcome[key] for key in ("session_id", "secret")}
        async with dial(server) as second:
            again = await exchange(second, {**HELLO, "resume": resume})
            assert (again["resumed"], again["session_id"]) == (True, welcome["session_id"])
            assert server.registry.roster.revision == revision


async def test_stop_drains_the_links_and_leaves_their_nodes_online() -> None:
    async with open_server(Settings(port=0, store="memory://")) as server:
        registry = server.registry
        connection = await dial(server)
        await exchange(connection, HELLO)
        assert await exchange(connection, {"type": "hb", "seq": 1}) == {"type": "ack", "seq": 1}
        reading = asyncio.ensure_future(_until_closed(connection))
    assert await reading == [{"type": "drain", "reconnect_within_ms": 500}]
    assert connection.close_code == 1012
    assert registry.get_node("worker-1").status == "online"


async def _until_closed(connection: ClientConnection) -> list[dict[str, Any]]:
    frames = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            frames.append(msgspec.json.decode(await connection.recv()))
    return frames
