"""A receiver of webhooks on loopback, which fails in the ways that receivers do; and who waits for what is sent."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from tests.server.processes import until as wait
from thunderline.prism.alerts.outlets import Notification, Sink
from thunderline.testing.harness import Cluster


class Trouble(Enum):
    """What becomes of a request."""

    ERROR = "500"
    SILENT = "never answers"
    DRIPPING = "answers a byte now and then, for ever"
    CUT = "reads, and closes the connection"
    REDIRECT = "sends elsewhere"
    REFUSED = "does not listen"
    STRANGER = "shows a certificate of an authority that nobody trusts"


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One that was read; names of headers in lower case."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def told(self) -> dict[str, Any]:
        """The notification."""
        body: dict[str, Any] = json.loads(self.body)
        return body


class Hook:
    """Where webhooks are sent. `requests` are all that were read, `taken` those of them that were answered 200."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.taken: list[Request] = []
        self.trouble: Trouble | None = None
        self.elsewhere = "http://127.0.0.1:9/"
        self.released = threading.Event()
        self.port = 0
        self._tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}/hook"

    def speak_tls(self, good: tuple[Path, Path], strange: tuple[Path, Path]) -> None:
        """Show the good certificate (with its key), and the strange one in that trouble."""
        contexts = []
        for cert, key in (good, strange):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cert, key)
            contexts.append(context)
        self._tls = (contexts[0], contexts[1])

    def begin(self) -> None:
        """Listen, at the port of before where there was one."""
        hook = self

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self) -> tuple[socket.socket, Any]:
                connection, address = super().get_request()
                if hook._tls is not None:
                    context = hook._tls[hook.trouble is Trouble.STRANGER]
                    # The handshake is the handler's, so that one which fails ends nothing but its connection.
                    connection = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                return connection, address

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that went away, or did not like the certificate

        self._server = Server(("127.0.0.1", self.port), self._handler())
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def end(self) -> None:
        """Listen no more; idempotent."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server = self._thread = None

    def get_into(self, trouble: Trouble) -> None:
        """From now on every request meets this."""
        self.trouble = trouble
        if trouble is Trouble.REFUSED:
            self.end()

    def recover(self) -> None:
        """Take what comes again."""
        if self.trouble is Trouble.REFUSED:
            self.begin()
        self.trouble = None
        self.released.set()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                request = Request(headers={name.lower(): value for name, value in self.headers.items()}, body=body)
                hook.requests.append(request)
                match hook.trouble:
                    case Trouble.ERROR:
                        self._answer(500)
                    case Trouble.REDIRECT:
                        self._answer(307, location=hook.elsewhere)
                    case Trouble.CUT:
                        self.close_connection = True
                    case Trouble.SILENT:
                        hook.released.wait()
                    case Trouble.DRIPPING:
                        self.wfile.write(b"HTTP/1.1 200 OK\r\nx-drip: ")
                        while not hook.released.wait(0.02):
                            self.wfile.write(b"x")
                            self.wfile.flush()
                    case _:
                        hook.taken.append(request)
                        self._answer(200)

            def _answer(self, status: int, **headers: str) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        return Handler


@contextmanager
def listening() -> Iterator[Hook]:
    """A receiver for the length of a block, which is not listening yet."""
    hook = Hook()
    try:
        yield hook
    finally:
        hook.released.set()
        hook.end()


def is_genuine(request: Request, secret: bytes, *, now_s: int) -> bool:
    """What `docs/monitoring.md` says that a receiver does."""
    timestamp, signature = request.headers["thunderline-timestamp"], request.headers["thunderline-signature"]
    wanted = hmac.new(secret, timestamp.encode() + b"." + request.body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(f"v1={wanted}", signature) and abs(now_s - int(timestamp)) <= 300


class Counted(Sink):
    """A sink that counts its attempts, and of which it is known when none is under way: that takes real time, ahead of
    which no manual clock should run."""

    def __init__(self, inner: Sink) -> None:
        self.inner = inner
        self.attempts_max, self.retry_max_s, self.repeat_s = inner.attempts_max, inner.retry_max_s, inner.repeat_s
        self.attempts = 0
        self._under_way = 0

    async def send(self, notification: Notification) -> None:
        self.attempts += 1
        self._under_way += 1
        try:
            await self.inner.send(notification)
        finally:
            self._under_way -= 1

    async def repeat(self, alerts: list[Any]) -> None:
        self._under_way += 1
        try:
            await self.inner.repeat(alerts)
        finally:
            self._under_way -= 1

    async def close(self) -> None:
        await self.inner.close()

    @property
    def is_idle(self) -> bool:
        """Whether no attempt is under way."""
        return not self._under_way


async def turn(
    cluster: Cluster, sink: Counted, duration_s: float, *, until: Callable[[], object] = lambda: False
) -> None:
    """Turn the clock second by second, waiting for every attempt that this begins; or until something is so."""
    for _ in range(round(duration_s)):
        await cluster.clock.advance(1)
        await wait(lambda: sink.is_idle)
        await cluster.clock.advance(0)
        if until():
            return
