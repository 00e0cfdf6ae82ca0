"""What every transport of links does, over sockets to a real server and in memory alike."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

import msgspec
import pytest

from thunderline.client.errors import NotThunderline, ServerRefused, ServerUnreachable
from thunderline.client.link_errors import ConnectionLost
from thunderline.client.transport import Connection, Transport
from thunderline.client.websocket import WebSocketTransport, link_url
from thunderline.core.errors import InvalidInput
from thunderline.core.settings import Settings
from thunderline.server import open_server
from thunderline.testing import MemoryTransport
from thunderline.testing.harness import open_cluster
from thunderline.wire.codec import Codec, node_codec
from thunderline.wire.frames import (
    FRAME_MAX_BYTES,
    SUBPROTOCOLS,
    Ack,
    Beat,
    Bye,
    ErrorFrame,
    Hello,
    RegistryFrame,
    Welcome,
)


class Bench(ABC):
    """A transport, and a server for it to connect to."""

    transport: Transport
    url: str

    @abstractmethod
    async def stop_listening(self) -> None:
        """Nothing answers at `url` from now on."""


class MemoryBench(Bench):
    def __init__(self, transport: MemoryTransport) -> None:
        self.transport = self._memory = transport
        self.url = "http://cluster"

    async def stop_listening(self) -> None:
        self._memory.refusing = True


class SocketBench(Bench):
    def __init__(self, url: str, subprotocol: str) -> None:
        self.transport = WebSocketTransport(subprotocols=(subprotocol,))
        self.url = url

    async def stop_listening(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture(params=[f"{kind} {name}" for kind in ("memory", "websocket") for name in SUBPROTOCOLS])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    kind, subprotocol = request.param.split()
    if kind == "memory":
        async with open_cluster() as cluster:
            yield MemoryBench(MemoryTransport(cluster.registry, subprotocol=subprotocol))
    else:
        async with open_server(Settings(port=0, store="memory://", node_name="registry@here")) as server:
            yield SocketBench(server.url, subprotocol)


class Talk:
    """A connection, spoken over in frames."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.codec: Codec[RegistryFrame] = node_codec(connection.subprotocol)

    async def say(self, frame: Hello | Beat | Bye) -> None:
        await self.connection.send(self.codec.encode(frame))

    async def heard(self) -> RegistryFrame | None:
        return self.codec.decode(await self.connection.receive())


@contextlib.asynccontextmanager
async def talking(bench: Bench, *, greeted: bool = True) -> AsyncIterator[Talk]:
    connection = await bench.transport.connect(bench.url)
    talk = Talk(connection)
    try:
        if greeted:
            await talk.say(Hello(name="worker-1", instance="a"))
            assert isinstance(await talk.heard(), Welcome)
        yield talk
    finally:
        connection.abort()


async def test_a_connection_speaks_one_of_our_subprotocols(bench: Bench) -> None:
    async with talking(bench) as talk:
        assert talk.connection.subprotocol in SUBPROTOCOLS


async def test_messages_arrive_whole_and_in_order(bench: Bench) -> None:
    async with talking(bench) as talk:
        for seq in range(1, 4):
            await talk.say(Beat(seq=seq, meta={"text": "é" * 7_000}))
        highest = 0
        while highest < 3:
            ack = await talk.heard()
            assert isinstance(ack, Ack)
            assert ack.seq > highest
            highest = ack.seq


async def test_a_cancelled_receive_takes_no_message(bench: Bench) -> None:
    async with talking(bench) as talk:
        waiting = asyncio.create_task(talk.connection.receive())
        await asyncio.sleep(0)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        await talk.say(Beat(seq=1))
        assert await talk.heard() == Ack(seq=1)


async def test_what_came_before_the_close_is_received_before_it(bench: Bench) -> None:
    async with talking(bench, greeted=False) as talk:
        await talk.say(Beat(seq=1))
        told = await talk.heard()
        assert isinstance(told, ErrorFrame)
        with pytest.raises(ConnectionLost) as lost:
            await talk.connection.receive()
        assert lost.value.close_code == 1002
        assert lost.value.reason == told.code


async def test_a_goodbye_is_answered_with_a_normal_close(bench: Bench) -> None:
    async with talking(bench) as talk:
        await talk.say(Bye(reason="going home"))
        with pytest.raises(ConnectionLost) as lost:
            await talk.connection.receive()
        assert lost.value.close_code == 1000


async def test_after_the_end_sending_and_receiving_say_so(bench: Bench) -> None:
    async with talking(bench) as talk:
        await talk.connection.close()
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                await talk.connection.receive()
            with pytest.raises(ConnectionLost):
                await talk.connection.send(b"x")


async def test_an_aborted_connection_wakes_who_receives(bench: Bench) -> None:
    async with talking(bench) as talk:
        waiting = asyncio.create_task(talk.connection.receive())
        await asyncio.sleep(0)
        talk.connection.abort()
        with pytest.raises(ConnectionLost):
            await waiting


async def test_closing_and_aborting_may_be_repeated(bench: Bench) -> None:
    async with talking(bench) as talk:
        for _ in range(2):
            await talk.connection.close(1001, "away")
            talk.connection.abort()


async def test_a_server_that_does_not_listen_is_unreachable(bench: Bench) -> None:
    await bench.stop_listening()
    with pytest.raises(ServerUnreachable) as error:
        await bench.transport.connect(bench.url)
    assert (error.value.url, error.value.reason) == (bench.url, None)


# WebSockets alone


async def answering(answer: bytes) -> tuple[asyncio.Server, str]:
    """A server of a single answer, and its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def response(status: str, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


PROBLEM = msgspec.json.encode(
    {"detail": "the link lane is full", "status": 503, "code": "overloaded", "retryable": True, "retry_after_s": 2.5}
)


async def test_a_refusal_is_told_in_the_servers_words() -> None:
    server, url = await answering(response("503 Busy", PROBLEM, Content_Type="application/problem+json"))
    async with server:
        with pytest.raises(ServerRefused, match="the link lane is full") as refused:
            await WebSocketTransport().connect(url)
    assert (refused.value.code, refused.value.retryable, refused.value.retry_after_s) == ("overloaded", True, 2.5)


async def test_a_proxy_without_its_server_may_be_asked_again() -> None:
    server, url = await answering(response("502 Bad Gateway", b"<html>", Content_Type="text/html"))
    async with server:
        with pytest.raises(ServerRefused, match="HTTP 502") as refused:
            await WebSocketTransport().connect(url)
    assert refused.value.retryable


@pytest.mark.parametrize("status", ["301 Moved", "307 Elsewhere"])
async def test_a_redirect_is_not_followed_and_says_where_it_goes(status: str) -> None:
    server, url = await answering(response(status, Location="http://127.0.0.1:1/link"))
    async with server:
        with pytest.raises(NotThunderline, match=r"HTTP 30\d to http://127\.0\.0\.1:1/link"):
            await WebSocketTransport().connect(url)


@pytest.mark.parametrize(
    "answer", [response("200 OK", b"hello"), response("404 Not Found"), b"220 ready\r\n\r\n", b"\x00\x01\r\n\r\n"]
)
async def test_what_is_no_server_of_ours_is_told(answer: bytes) -> None:
    server, url = await answering(answer)
    async with server:
        with pytest.raises(NotThunderline):
            await WebSocketTransport().connect(url)


async def test_a_server_that_hangs_up_is_unreachable() -> None:
    server, url = await answering(b"")
    async with server:
        with pytest.raises(ServerUnreachable, match="hung up"):
            await WebSocketTransport().connect(url)


async def test_a_name_that_does_not_exist_is_unreachable() -> None:
    with pytest.raises(ServerUnreachable):
        await WebSocketTransport().connect("http://no-such-host.invalid:4040")


async def test_a_cancelled_connect_leaves_nothing_open() -> None:
    connected = asyncio.Event()
    gone = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        while await reader.read(1_000):
            pass
        gone.set()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        connecting = asyncio.create_task(WebSocketTransport().connect(url))
        await connected.wait()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        with contextlib.suppress(ConnectionError):
            await gone.wait()


async def test_a_proxy_of_the_environment_is_not_used(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with talking(bench):
        pass


async def test_a_message_that_is_longer_than_a_frame_may_be_ends_the_connection() -> None:
    from websockets.asyncio.server import ServerConnection, serve

    async def long(connection: ServerConnection) -> None:
        await connection.send(b"x" * (FRAME_MAX_BYTES + 1))
        await connection.wait_closed()

    async with serve(long, "127.0.0.1", 0, subprotocols=list(SUBPROTOCOLS)) as server:  # type: ignore[arg-type]
        url = f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        connection = await WebSocketTransport().connect(url)
        with pytest.raises(ConnectionLost):
            await connection.receive()


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("http://127.0.0.1:4040", "ws://127.0.0.1:4040/link"),
        ("http://127.0.0.1:4040/", "ws://127.0.0.1:4040/link"),
        ("https://registry.example/cluster", "wss://registry.example/cluster/link"),
        ("ws://[::1]:4040", "ws://[::1]:4040/link"),
    ],
)
def test_the_link_of_a_server_stands_below_its_url(url: str, wanted: str) -> None:
    assert link_url(url) == wanted


@pytest.mark.parametrize(
    "url", ["", "ftp://x", "http://", "127.0.0.1:4040", "http://x:0", "http://x:99999", "http://[x", "http://a:b@x"]
)
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput) as error:
        link_url(url)
    assert error.value.field == "url"
