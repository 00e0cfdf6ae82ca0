"""Streams of events of a real server: over a socket, and through its end."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.server.processes import ServerProcess, running
from thunderline.client import BlockingClient
from thunderline.client.events import Message, MessageReader


def test_a_server_that_stops_ends_its_streams_and_exits_with_0(tmp_path: Path) -> None:
    reader, found = MessageReader(), list[Message]()
    # Far longer than a test may take: a stream that held the server up would fail this one.
    with running(tmp_path / "t.db", environ={"THUNDERLINE_SHUTDOWN_TIMEOUT_S": "600"}) as server:
        with server.http.stream("GET", "/api/events", headers={"accept": "text/event-stream"}) as stream:
            pieces = stream.iter_bytes()
            found += reader.feed(next(pieces))
            server.process.terminate()
            # Ended, and not broken off: that would raise here.
            for piece in pieces:
                found += reader.feed(piece)
        assert server.process.wait(30) == 0
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""
    last = json.loads(found[-1].data or b"")
    assert (found[-1].event, last["code"]) == ("thunderline.cut", "shutting_down")
    assert last["resume_from"].rpartition(":")[0]


@contextmanager
def unread_streams(server: ServerProcess, count: int) -> Iterator[None]:
    """Streams of the whole log whose clients read nothing of it."""
    with ExitStack() as open_sockets:
        for _ in range(count):
            client = open_sockets.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            host, _, port = server.url.removeprefix("http://").partition(":")
            client.connect((host, int(port)))
            client.sendall(
                f"GET /api/events?since=0 HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: text/event-stream\r\n\r\n".encode()
            )
            # The head and no more: the stream has begun.
            assert client.recv(15) == b"HTTP/1.1 200 OK"
        yield


def test_clients_that_read_nothing_do_not_hold_up_a_server_that_stops(tmp_path: Path) -> None:
    meta = {"filler": "x" * 15_000}
    with running(tmp_path / "t.db", environ={"THUNDERLINE_SHUTDOWN_TIMEOUT_S": "600"}) as server:
        with BlockingClient(server.url) as client:
            # More than sockets and their buffers hold between them.
            for i in range(600):
                client.ensure_node({"name": f"n{i}", "meta": meta})
        with unread_streams(server, 3):
            server.process.terminate()
            assert server.process.wait(30) == 0
        assert server.process.stderr is not None
        told = [json.loads(line) for line in server.process.stderr.read().splitlines()]
    assert {line["level"] for line in told} <= {"info"}


def test_a_client_that_hangs_up_does_not_disturb_the_others(tmp_path: Path) -> None:
    with running(tmp_path / "t.db") as server, BlockingClient(server.url) as client:
        with client.watch("cluster.node.registered") as staying:
            for i in range(20):
                with client.watch(since="0") as leaving:
                    next(leaving)
                client.ensure_node({"name": f"n{i}"})
            assert [next(staying).subject for _ in range(20)] == [f"n{i}" for i in range(20)]
        assert server.stop() == 0
        assert server.process.stderr is not None
        assert server.process.stderr.read() == ""


def test_a_client_that_does_not_read_is_cut_and_goes_on_where_it_was(tmp_path: Path) -> None:
    meta = {"filler": "x" * 15_000}
    lost: list[str] = []
    with (
        running(tmp_path / "t.db", environ={"THUNDERLINE_WATCH_BACKLOG_MAX": "16"}) as server,
        BlockingClient(server.url) as client,
        client.watch("cluster.node.registered", on_lost=lambda error: lost.append(str(error))) as events,
    ):
        # More than sockets and their buffers hold between them.
        for i in range(600):
            client.ensure_node({"name": f"n{i}", "meta": meta})
        assert [next(events).subject for _ in range(600)] == [f"n{i}" for i in range(600)]
    assert "fell behind" in lost[0]
