"""What commands talk to: a real server in a thread of its own, or a web server that is none of ours."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

import httpx

from thunderline.core.settings import Settings
from thunderline.server import Server, open_server
from thunderline.testing import ManualClock

T = TypeVar("T")

LONG_NAME = "gpu-a100-eu-west-1a-0001@training.prod.example.com"
HOSTILE_REASON = "[red]rack move[/red]"
"""What a reason may hold: markup, and a C1 control character that terminals read as the start of a sequence."""


class ServedRegistry:
    """A server that runs in another thread; `http` asks it, `do` runs something on its loop, `clock` is its clock."""

    def __init__(self, server: Server, clock: ManualClock, loop: asyncio.AbstractEventLoop, http: httpx.Client) -> None:
        self.url = server.url
        self.registry = server.registry
        self.http = http
        self._clock = clock
        self._loop = loop

    def do(self, action: Callable[[], Awaitable[T]]) -> T:
        """What `action` gives, run on the server's loop."""

        async def run() -> T:
            return await action()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout=20)

    def advance(self, duration_s: float) -> None:
        """Turn the server's clock on."""
        self.do(lambda: self._clock.advance(duration_s))

    def ask(self, method: str, path: str, **given: Any) -> Any:
        """The body of an answer that must be a good one."""
        response = self.http.request(method, path, **given)
        response.raise_for_status()
        return response.json() if response.content else None

    def add(self, name: str, **attrs: Any) -> None:
        """Register a node, which is then `connecting`."""
        self.ask("POST", "/api/nodes", json={"name": name, **attrs})

    def beat(self, name: str, **beat: Any) -> None:
        """Send a heartbeat of the node."""
        self.ask("POST", f"/api/nodes/{name}/heartbeats", json=beat)


@contextmanager
def serving() -> Iterator[ServedRegistry]:
    """A server that answers by the time the block starts, and has ended after it."""
    started: queue.Queue[Any] = queue.Queue()

    async def serve() -> None:
        clock, stop = ManualClock(), asyncio.Event()
        settings = Settings(port=0, store="memory://", node_name="registry@here")
        async with open_server(settings, clock=clock) as server:
            started.put((server, clock, asyncio.get_running_loop(), stop))
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            started.put(error)
            raise

    thread = threading.Thread(target=run, name="served")
    thread.start()
    found = started.get(timeout=20)
    if isinstance(found, BaseException):
        raise found
    server, clock, loop, stop = found
    try:
        with httpx.Client(base_url=server.url, trust_env=False) as http:
            yield ServedRegistry(server, clock, loop, http)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=20)


class Stranger:
    """A web server that is none of ours: it gives one answer to everything, and keeps what it was asked."""

    def __init__(self, url: str, asked: list[str]) -> None:
        self.url = url
        self.asked = asked


@contextmanager
def stranger(status: int, content_type: str, body: bytes, headers: dict[str, str] | None = None) -> Iterator[Stranger]:
    """A web server that gives this answer for the length of the block."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response_only(status)  # without a Date of its own
            for name, value in {"Content-Type": content_type, **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the test's output is about the command."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Stranger(f"http://127.0.0.1:{listening.server_address[1]}", asked)
        finally:
            listening.shutdown()
            thread.join(timeout=20)
