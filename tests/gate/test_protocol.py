"""What one connection may ask of the server: over real sockets, byte by byte."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from thunderline.core.settings import Settings
from thunderline.gate import protocol
from thunderline.server import Server, open_server

HOST = "host: 127.0.0.1\r\n"
H2C = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQ\r\n"
GET = f"GET /healthz HTTP/1.1\r\n{HOST}\r\n"


class Peer:
    """One connection, as bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, text: str) -> None:
        self.writer.write(text.encode("latin-1"))

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """The next answer: status, headers, and its JSON."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        body = await self.reader.readexactly(int(headers["content-length"]))
        return int(first.split()[1]), headers, json.loads(body)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with open_server(Settings(port=0, store="memory://")) as opened:
        yield opened


@contextlib.asynccontextmanager
async def peer_of(server: Server) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def post(path: str, body: str, *, headers: str = "") -> str:
    headers += f"content-type: application/json\r\ncontent-length: {len(body.encode())}\r\n"
    return f"POST {path} HTTP/1.1\r\n{HOST}{headers}\r\n{body}"


def refused(answer: tuple[int, dict[str, str], Any], status: int) -> bool:
    given, headers, problem = answer
    return (given, headers["content-type"], problem["status"], headers["connection"]) == (
        status,
        "application/problem+json",
        status,
        "close",
    )


@pytest.mark.parametrize("pieces", ["at once", "head first", "byte by byte"])
async def test_the_body_of_a_request_that_asks_for_http_2_is_read(server: Server, pieces: str) -> None:
    await server.registry.ensure_node({"name": "a"})
    request = post("/api/nodes/a/offline", '{"reason":"repair"}', headers=H2C) + GET
    async with peer_of(server) as peer:
        end_of_head = request.index("\r\n\r\n") + 4
        cuts = {"at once": [0], "head first": [0, end_of_head], "byte by byte": list(range(len(request)))}[pieces]
        for start, end in zip(cuts, [*cuts[1:], len(request)], strict=True):
            peer.send(request[start:end])
            await peer.writer.drain()
            await asyncio.sleep(0)
        status, _, body = await peer.answer()
        assert (status, body["node"]["status_reason"]) == (200, "repair")
        assert (await peer.answer())[0] == 200


async def test_many_upgrades_in_one_piece_are_each_answered(server: Server) -> None:
    async with peer_of(server) as peer:
        peer.send(f"GET /healthz HTTP/1.1\r\n{HOST}{H2C}\r\n" * 1000)
        assert {(await peer.answer())[0] for _ in range(1000)} == {200}


async def test_a_chunked_body_behind_an_upgrade_is_read(server: Server) -> None:
    chunked = "content-type: application/json\r\ntransfer-encoding: chunked\r\n"
    async with peer_of(server) as peer:
        peer.send(f"POST /api/nodes HTTP/1.1\r\n{HOST}{H2C}{chunked}\r\n")
        peer.send('c\r\n{"name":"a"}\r\n0\r\n\r\n')
        assert (await peer.answer())[0] == 201


async def test_connect_is_refused(server: Server) -> None:
    async with peer_of(server) as peer:
        peer.send("CONNECT 127.0.0.1:80 HTTP/1.1\r\nhost: 127.0.0.1:80\r\n\r\n")
        assert refused(await peer.answer(), 400)


async def test_what_is_not_http_is_refused_with_a_problem(server: Server) -> None:
    async with peer_of(server) as peer:
        peer.send("hello\r\n\r\n")
        assert refused(await peer.answer(), 400)
        assert await peer.reader.read() == b""


@pytest.mark.parametrize(
    "head",
    [
        f"GET /healthz HTTP/1.1\r\n{HOST}" + "".join(f"x-{i}: {'a' * 1000}\r\n" for i in range(40)) + "\r\n",
        f"GET /healthz HTTP/1.1\r\n{HOST}x: {'a' * 40_000}\r\n\r\n",
        f"GET /{'a' * 40_000} HTTP/1.1\r\n{HOST}\r\n",
        f"GET /healthz HTTP/1.1\r\n{HOST}x: {'a' * 2_000_000}",
        f"GET /healthz HTTP/1.1\r\n{HOST}" + f"x: {'a' * 100}\r\n" * 20_000,
        f"GET /{'a' * 2_000_000}",
    ],
    ids=["many headers", "a long header", "a long URL", "an endless header", "endless headers", "an endless URL"],
)
async def test_a_head_over_the_bound_is_refused_before_it_is_gathered(server: Server, head: str) -> None:
    async with peer_of(server) as peer:
        peer.send(head)
        assert refused(await peer.answer(), 431)
        assert await peer.reader.read() == b""


async def test_endless_trailers_are_refused(server: Server) -> None:
    async with peer_of(server) as peer:
        peer.send(
            f"POST /api/nodes HTTP/1.1\r\n{HOST}content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        peer.send('c\r\n{"name":"a"}\r\n0\r\n' + f"x: {'a' * 100}\r\n" * 20_000)
        assert refused(await peer.answer(), 431)


async def test_a_head_under_the_bound_is_taken_also_behind_other_requests(server: Server) -> None:
    long = f"GET /healthz HTTP/1.1\r\n{HOST}x: {'a' * 31_000}\r\n\r\n"
    async with peer_of(server) as peer:
        peer.send(long * 20)
        assert {(await peer.answer())[0] for _ in range(20)} == {200}


async def test_a_url_that_cannot_be_parsed_is_refused_also_behind_other_requests(server: Server) -> None:
    async with peer_of(server) as peer:
        peer.send(GET)
        assert (await peer.answer())[0] == 200
        peer.send(f"GET http://a:99999/ HTTP/1.1\r\n{HOST}\r\n")
        assert refused(await peer.answer(), 400)


async def test_requests_before_a_refused_one_are_answered(server: Server) -> None:
    async with peer_of(server) as peer:
        peer.send(GET + "nonsense\r\n\r\n")
        assert (await peer.answer())[0] == 200
        assert await peer.reader.read() == b""


@pytest.mark.parametrize(
    "beginning",
    [
        "",
        "GET /healthz HT",
        f"GET /healthz HTTP/1.1\r\n{HOST}x",
        post("/api/nodes", '{"name":"a"}')[:-3],
        post("/api/nodes/a/heartbeats", "{}")[:-1],
        post("/api/nodes", '{"name":"a"}', headers=H2C)[:-3],
    ],
    ids=["nothing", "half a line", "half a head", "half a body", "half a beat", "half a body behind an upgrade"],
)
async def test_a_request_that_does_not_end_in_time_is_a_408(
    server: Server, beginning: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(protocol, "RECEIVE_TIMEOUT_S", 0.05)
    async with peer_of(server) as peer:
        peer.send(beginning)
        assert refused(await peer.answer(), 408)
        assert await peer.reader.read() == b""
    assert [entry for entry in caplog.records if entry.levelno >= logging.WARNING] == []


async def test_an_answered_connection_outlives_the_time_for_a_request(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "RECEIVE_TIMEOUT_S", 0.02)
    async with peer_of(server) as idle:
        idle.send(GET)
        assert (await idle.answer())[0] == 200
        async with peer_of(server) as silent:
            assert refused(await silent.answer(), 408)
        idle.send(GET)
        assert (await idle.answer())[0] == 200


async def test_a_client_that_hangs_up_in_its_body_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with open_server(Settings(port=0, store="memory://")) as server:
        for path in ("/api/nodes", "/api/nodes/a/heartbeats"):
            async with peer_of(server) as peer:
                peer.send(post(path, '{"name":"a"}', headers="expect: 100-continue\r\n")[:-3])
                # Asked to go on, it is a route that waits for the body.
                assert (await peer.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
    # Closed, the server has ended all that was open.
    assert [entry for entry in caplog.records if entry.levelno >= logging.WARNING] == []
