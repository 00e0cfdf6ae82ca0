"""At most one connection at a time, with the tasks that open it, read from it and write to it.

Whoever owns a line looks at it when one of `children` is done. It decides nothing: when to connect, what to send and
when to give up are its owner's.
"""

from __future__ import annotations

import asyncio
from typing import Any

from thunderline.client.errors import ServerUnreachable
from thunderline.client.link_errors import ConnectionLost
from thunderline.client.transport import Connection, Transport
from thunderline.core.errors import ThunderlineError
from thunderline.core.logging import get_logger

log = get_logger(__name__)


class Line:
    """A line to the server at `url`."""

    def __init__(self, transport: Transport, url: str) -> None:
        self.url = url
        self._transport = transport
        self._connection: Connection | None = None
        self._opening: asyncio.Task[Connection] | None = None
        self._receiving: asyncio.Task[bytes] | None = None
        self._sending: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[Any]] = set()
        self._unsendable = False

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._connection is not None

    @property
    def can_send(self) -> bool:
        """Whether a frame may be handed over now."""
        return self._connection is not None and self._sending is None and not self._unsendable

    @property
    def children(self) -> list[asyncio.Task[Any]]:
        """What may finish next."""
        return [task for task in (self._opening, self._receiving, self._sending) if task is not None]

    def open(self, *, token: str | None = None) -> None:
        """Begin to connect, as whoever `token` says."""
        self._opening = asyncio.create_task(self._transport.connect(self.url, token=token), name="link connect")

    def take_opened(self) -> str | ThunderlineError | None:
        """The subprotocol of a connection that is new since the last call, or why there is none; None: neither."""
        if self._opening is None or not self._opening.done():
            return None
        opened, self._opening = self._opening, None
        try:
            self._connection = opened.result()
        except ThunderlineError as error:
            return error
        except Exception as error:
            # A transport that fails in a way of its own is a bug, but none that the next attempt has to meet again.
            log.error("transport failed", url=self.url, exc_info=error)
            return ServerUnreachable(self.url, reason=type(error).__name__)
        self._unsendable = False
        self._receive()
        return self._connection.subprotocol

    def take_received(self) -> bytes | ConnectionLost | None:
        """The next message, or the end of the connection, behind everything that arrived; None: neither yet."""
        if self._receiving is None or not self._receiving.done():
            return None
        received, self._receiving = self._receiving, None
        try:
            data = received.result()
        except ConnectionLost as error:
            return error
        self._receive()
        return data

    def send(self, data: bytes) -> None:
        """Hand a frame over; only while `can_send`."""
        if self._connection is not None:
            self._sending = asyncio.create_task(self._connection.send(data), name="link send")

    def take_sent(self) -> None:
        """Make room for the next frame, if the one before has left."""
        if self._sending is not None and self._sending.done():
            sent, self._sending = self._sending, None
            # How the connection ended is heard by receiving, behind what arrived before: only stop sending here.
            self._unsendable = sent.exception() is not None

    def drop(self) -> None:
        """Give up the connection, or the attempt to make one, at once."""
        if self._connection is not None:
            self._connection.abort()
        self._forget()

    def part(self, code: int, reason: str) -> None:
        """Close the connection properly, in the background."""
        if self._connection is not None:
            self._keep(asyncio.create_task(self._connection.close(code, reason), name="link close"))
        self._forget()

    async def close(self) -> None:
        """Return when nothing of this line is left, not even a task."""
        self.drop()
        while self._closing:
            await asyncio.wait(set(self._closing))

    def _receive(self) -> None:
        if self._connection is not None:
            self._receiving = asyncio.create_task(self._connection.receive(), name="link receive")

    def _forget(self) -> None:
        if self._opening is not None:
            self._opening.add_done_callback(_abort_late)
        for task in self.children:
            task.cancel()
            self._keep(task)
        self._connection = self._opening = self._receiving = self._sending = None

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._closing.add(task)
        task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[Any]) -> None:
        self._closing.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that nobody complains that it was not: the connection is of no interest


def _abort_late(opened: asyncio.Task[Connection]) -> None:
    """Drop a connection that came just when it was no longer wanted."""
    if not opened.cancelled() and opened.exception() is None:
        opened.result().abort()
