"""Both clients under one face, so that one test holds for both; and servers that say what a test tells them."""

from __future__ import annotations

import asyncio
import inspect
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from thunderline.client import BlockingClient, Client, ToldEvent

KINDS = ("Client", "BlockingClient")


class AtOnce(random.Random):
    """Waits of no length: nothing of a test is about how long."""

    def uniform(self, a: float, b: float) -> float:
        return a


class Driven:
    """A client whose calls block, whichever it is; other attributes are the client's own."""

    def __init__(self, client: Any, runner: asyncio.Runner) -> None:
        self.client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.client, name)
        if inspect.iscoroutinefunction(found):
            return lambda *args, **kwargs: self._runner.run(found(*args, **kwargs))
        return found

    @contextmanager
    def watching(self, *args: Any, **kwargs: Any) -> Iterator[DrivenWatch]:
        """A watch for the length of the block."""
        watch = self.client.watch(*args, **kwargs)
        if isinstance(self.client, BlockingClient):
            with watch:
                yield DrivenWatch(watch, self._runner)
            return
        self._runner.run(watch.__aenter__())
        try:
            yield DrivenWatch(watch, self._runner)
        finally:
            self._runner.run(watch.aclose())


class DrivenWatch:
    """A watch of either client."""

    def __init__(self, watch: Any, runner: asyncio.Runner) -> None:
        self.watch = watch
        self._runner = runner

    @property
    def cursor(self) -> str | None:
        cursor: str | None = self.watch.cursor
        return cursor

    def next(self) -> ToldEvent:
        """The next event."""
        event: ToldEvent
        if hasattr(self.watch, "__anext__"):

            async def following() -> ToldEvent:
                found: ToldEvent = await anext(self.watch)
                return found

            event = self._runner.run(following())
        else:
            event = next(self.watch)
        return event


@contextmanager
def driven(kind: str, url: str, **options: Any) -> Iterator[Driven]:
    """A client of that class, with waits of no length."""
    with asyncio.Runner() as runner:
        if kind == "BlockingClient":
            with BlockingClient(url, rng=AtOnce(), **options) as blocking:
                yield Driven(blocking, runner)
            return
        client = Client(url, rng=AtOnce(), **options)
        try:
            yield Driven(client, runner)
        finally:
            runner.run(client.aclose())


class Script:
    """What a scripted server was asked: (path with query, `Last-Event-ID`) of each request."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[tuple[str, str | None]] = []
        self.bodies: list[bytes] = []


@contextmanager
def scripted(answers: Sequence[tuple[int, str, bytes]]) -> Iterator[Script]:
    """A server that gives these answers (status, content type, body) in turn, closes after each, and repeats the last.

    A status of 0 hangs up without an answer.
    """

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            script.bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            script.asked.append((self.path, self.headers.get("Last-Event-ID")))
            status, content_type, body = answers[min(len(script.asked), len(answers)) - 1]
            if status == 0:
                return
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = do_PATCH = handle_any

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        script = Script(f"http://127.0.0.1:{listening.server_address[1]}")
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield script
        finally:
            listening.shutdown()
            thread.join(timeout=20)
