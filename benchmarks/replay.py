"""What a server answered to a page, recorded once and told again at the same pace."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final
from urllib.parse import urlsplit

import msgspec

_EVENT_STREAM: Final = "text/event-stream"
_PIECE_BYTES: Final = 64 * 1024
_TIMEOUT_S: Final = 60.0
_NOT_PASSED_ON: Final = frozenset(
    {"connection", "host", "if-modified-since", "if-none-match", "keep-alive", "transfer-encoding", "content-length"}
)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer as it came, compressed or not, and how long it took."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    took_s: float


class Recording:
    """All answers by what was asked for, and the pieces of the stream with their times after `begin`."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.stream_headers: list[tuple[str, str]] = []
        self.pieces: list[tuple[float, bytes]] = []
        self._begun_at: float | None = None
        self._heard = threading.Condition()

    def find(self, target: str) -> Answer | None:
        """The answer to `target`; where only its query was never asked, that of the same path."""
        path = urlsplit(target).path
        alike = (answer for asked, answer in self.answers.items() if urlsplit(asked).path == path)
        return self.answers.get(target) or next(alike, None)

    def begin(self) -> None:
        """From now on the time of what comes counts; what came before is the beginning of the stream."""
        with self._heard:
            self._begun_at = time.perf_counter()

    def open_stream(self, headers: list[tuple[str, str]]) -> None:
        """The page reads the stream from now on."""
        with self._heard:
            self.stream_headers = headers
            self._heard.notify_all()

    def hear(self, piece: bytes) -> None:
        """Take a piece of the stream."""
        with self._heard:
            after_s = 0.0 if self._begun_at is None else time.perf_counter() - self._begun_at
            self.pieces.append((after_s, piece))
            self._heard.notify_all()

    def wait_for_stream(self) -> None:
        """Until the page reads it. Raises: TimeoutError."""
        self._wait(lambda: bool(self.stream_headers), "the page did not ask for the stream")

    def wait_for_event(self, cursor: str) -> None:
        """Until the stream told the event at `cursor`. Raises: TimeoutError."""
        line = f"id: {cursor}\n".encode()
        self._wait(lambda: line in b"".join(piece for _, piece in self.pieces), f"the stream did not reach {cursor}")

    def _wait(self, done: Callable[[], bool], otherwise: str) -> None:
        with self._heard:
            if not self._heard.wait_for(done, _TIMEOUT_S):
                raise TimeoutError(otherwise)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the table is what a benchmark prints."""

    def begin_answer(self, status: int, headers: list[tuple[str, str]], *, length: int | None) -> None:
        # The recorded headers have the server's date, which the page takes its time from.
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        if length is None:
            self.close_connection = True
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()


@contextlib.contextmanager
def recorder(url: str) -> Iterator[tuple[str, Recording]]:
    """A server before that at `url`, and what it hears through it."""
    recording = Recording()
    upstream = urlsplit(url).netloc

    class Handler(_Handler):
        def do_GET(self) -> None:
            started = time.perf_counter()
            asked = {name: value for name, value in self.headers.items() if name.lower() not in _NOT_PASSED_ON}
            connection = http.client.HTTPConnection(upstream, timeout=_TIMEOUT_S)
            with contextlib.closing(connection):
                connection.request("GET", self.path, headers=asked)
                response = connection.getresponse()
                headers = [pair for pair in response.getheaders() if pair[0].lower() not in _NOT_PASSED_ON]
                if (response.getheader("Content-Type") or "").startswith(_EVENT_STREAM):
                    self.begin_answer(response.status, headers, length=None)
                    recording.open_stream(headers)
                    # Ends when the browser is closed, or the server.
                    with contextlib.suppress(ConnectionError):
                        while piece := response.read1(_PIECE_BYTES):
                            recording.hear(piece)
                            self.wfile.write(piece)
                    return
                body = response.read()
            took_s = time.perf_counter() - started
            recording.answers[self.path] = Answer(status=response.status, headers=headers, body=body, took_s=took_s)
            self.begin_answer(response.status, headers, length=len(body))
            self.wfile.write(body)

    with _serving(Handler) as address:
        yield address, recording


@contextlib.contextmanager
def player(recording: Recording) -> Iterator[tuple[str, threading.Event]]:
    """A server that tells it again; the stream goes on from its beginning when the event is set."""
    begun, ended = threading.Event(), threading.Event()

    class Handler(_Handler):
        def do_GET(self) -> None:
            if _EVENT_STREAM in (self.headers.get("Accept") or ""):
                self.begin_answer(200, recording.stream_headers, length=None)
                with contextlib.suppress(ConnectionError):
                    self._tell()
                return
            answer = recording.find(self.path)
            if answer is None:
                self.send_error(404, f"{self.path} was not recorded")
                return
            ended.wait(answer.took_s)
            self.begin_answer(answer.status, answer.headers, length=len(answer.body))
            self.wfile.write(answer.body)

        def _tell(self) -> None:
            started = None
            for after_s, piece in recording.pieces:
                if after_s > 0 and started is None:
                    begun.wait()
                    started = time.perf_counter()
                if started is not None and ended.wait(max(0.0, started + after_s - time.perf_counter())):
                    return
                self.wfile.write(piece)
            ended.wait()

    with _serving(Handler) as address:
        try:
            yield address, begun
        finally:
            begun.set()
            ended.set()


@contextlib.contextmanager
def _serving(handler: type[_Handler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        # A stream may still be waiting for its next piece.
        server.block_on_close = False
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, name="replay")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
