"""Streams of events opened against the gate without a socket, one message of the server at a time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

from thunderline.client.events import Message, MessageReader
from thunderline.gate.app import build_app
from thunderline.gate.edge import AsgiApp
from thunderline.testing.harness import Cluster


class OpenStream:
    """A client of one stream. It reads all that comes, or nothing while `reading` is cleared."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""
        self.parts = 0
        self.ended = False
        self.serving: asyncio.Task[None] | None = None
        self.begun = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()
        self.gone = asyncio.Event()
        self._reader = MessageReader()
        self._messages: asyncio.Queue[Message] = asyncio.Queue()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        await self.reading.wait()
        if self.gone.is_set():
            raise OSError("the client is gone")
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            self.begun.set()
            return
        self.body += message["body"]
        self.parts += 1
        self.ended = not message.get("more_body", False)
        for found in self._reader.feed(message["body"]):
            self._messages.put_nowait(found)

    async def message(self) -> Message:
        """The next message, whatever it is."""
        return await self._messages.get()

    async def event(self) -> dict[str, Any]:
        """The next event, with what stands around it under `id` and `event` of `stream`."""
        while True:
            message = await self.message()
            if message.data is not None:
                return {**json.loads(message.data), "stream": (message.id, message.event)}

    async def over(self) -> None:
        """Return when the gate has let go of it."""
        assert self.serving is not None
        await asyncio.wait([self.serving])

    @property
    def waiting(self) -> int:
        """Messages that came and were not looked at."""
        return self._messages.qsize()


@asynccontextmanager
async def open_stream(
    cluster: Cluster,
    *,
    accept: str = "text/event-stream",
    last_event_id: str | None = None,
    app: AsgiApp | None = None,
    shown: Mapping[str, str] | None = None,
    **query: str,
) -> AsyncIterator[OpenStream]:
    """A stream whose head has come; at the end of the block its client hangs up, and the gate has let go of it.

    Streams of one `app` have in common what a server's have. `shown` are headers that say who the client is.
    """
    client = OpenStream()
    headers = [(b"host", b"127.0.0.1"), (b"accept", accept.encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in (shown or {}).items()]
    if last_event_id is not None:
        headers.append((b"last-event-id", last_event_id.encode()))
    scope = {
        "type": "http",
        "method": "GET",
        "scheme": "http",
        "path": "/api/events",
        "raw_path": b"/api/events",
        "query_string": urlencode(query).encode(),
        "root_path": "",
        "http_version": "1.1",
        "headers": headers,
    }
    serving = asyncio.create_task((app or build_app(cluster.registry))(scope, client.receive, client.send))
    client.serving = serving
    try:
        await client.begun.wait()
        yield client
    finally:
        client.gone.set()
        client.reading.set()
        await asyncio.wait([serving])
        if not serving.cancelled():
            serving.result()
