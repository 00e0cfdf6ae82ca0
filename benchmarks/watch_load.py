"""Many watchers of one server over plain sockets, read by one thread that looks at as little as it can."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import urlsplit

_TOLD: Final = re.compile(rb"id: [0-9a-f-]+:(\d+)\nevent: (?!thunderline)")
_PIECE_BYTES: Final = 256 * 1024
_CONNECT_TIMEOUT_S: Final = 30.0


class Watcher:
    """One stream. `heard` counts its events, `last` is the revision of the newest."""

    def __init__(self, url: str, *, since: str, receive_bytes: int | None = None) -> None:
        parts = urlsplit(url)
        self.socket = socket.socket()
        self.socket.settimeout(_CONNECT_TIMEOUT_S)
        if receive_bytes is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.connect((parts.hostname, parts.port))
        head = f"GET /api/events?since={since} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/event-stream\r\n\r\n"
        self.socket.sendall(head.encode())
        self.heard = 0
        self.first = self.last = 0
        self.in_order = True
        self.tail = b""

    def begin(self) -> None:
        """Wait for the head of the stream, and read no further."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)
            assert byte, "the server hung up"
            head += byte
        assert head.startswith(b"HTTP/1.1 200"), head
        self.socket.setblocking(False)

    def read(self) -> int:
        """Take what is there; gives the number of events that it ended, -1 at the end of the stream."""
        try:
            piece = self.socket.recv(_PIECE_BYTES)
        except BlockingIOError:
            return 0
        except ConnectionError:
            return -1
        if not piece:
            return -1
        data = self.tail + piece
        found = _TOLD.findall(data)
        if not found:
            self.tail = data[-4096:] if len(data) > 1_000_000 else data
            return 0
        self.tail = data[data.rfind(b"\nevent: ") + 1 :]
        newest, oldest = int(found[-1]), int(found[0])
        if self.heard == 0:
            self.first = oldest
        self.in_order &= newest - (self.last or oldest - 1) == len(found)
        self.last = newest
        self.heard += len(found)
        return len(found)

    def read_to_end(self, *, timeout_s: float) -> bytes:
        """All that still comes, until the stream ends. Raises: TimeoutError, ConnectionError."""
        self.socket.settimeout(timeout_s)
        read = bytearray()
        while not read.endswith(b"\r\n0\r\n\r\n") and (piece := self.socket.recv(_PIECE_BYTES)):
            read += piece
        return bytes(read)


@contextlib.contextmanager
def watching(url: str, *, count: int, since: str, receive_bytes: int | None = None) -> Iterator[list[Watcher]]:
    """So many streams that have begun."""
    watchers: list[Watcher] = []
    try:
        for _ in range(count):
            watchers.append(Watcher(url, since=since, receive_bytes=receive_bytes))
            watchers[-1].begin()
        yield watchers
    finally:
        for watcher in watchers:
            watcher.socket.close()


class Readers:
    """Reads watchers as their events come; `deliveries` are (when, revision before, revision) of each read."""

    def __init__(self, watchers: list[Watcher]) -> None:
        self._by_fd = {watcher.socket.fileno(): watcher for watcher in watchers}
        self._poll = select.epoll()
        for fd in self._by_fd:
            self._poll.register(fd, select.EPOLLIN)
        self.deliveries: list[tuple[float, int, int]] = []
        self.ended = 0

    def turn(self, timeout_s: float) -> None:
        """Read what is there, waiting `timeout_s` at most for the first of it."""
        for fd, _ in self._poll.poll(timeout_s):
            watcher = self._by_fd[fd]
            before = watcher.last
            found = watcher.read()
            if found > 0:
                self.deliveries.append((time.perf_counter(), before or watcher.first - 1, watcher.last))
            elif found < 0:
                self._poll.unregister(fd)
                self.ended += 1

    def turn_until(self, done: Callable[[], bool], *, timeout_s: float) -> None:
        """Read until `done`. Raises: TimeoutError."""
        deadline = time.perf_counter() + timeout_s
        while not done():
            if time.perf_counter() > deadline:
                raise TimeoutError(f"not within {timeout_s:g} s")
            self.turn(0.05)

    def close(self) -> None:
        """Look after nothing more."""
        self._poll.close()
