"""The event log as a stream: one message for each event, for as long as the client stays.

    : thunderline                        the head, and then every 15 s of silence: nothing that matches came up to here
    id: <log id>:<revision>

    id: <log id>:<revision>              an event; a heartbeat has no id, because it is not in the log
    event: cluster.node.online
    data: {...}

    event: thunderline.cut               the last message, where there is one: why the stream ends, where to go on
    data: {"code":"watch_cut","detail":...,"retryable":true,"resume_from":"<log id>:<revision>"}

A client that does not read is given up: its connection is dropped, and it goes on from its last cursor if it returns.

Source: WHATWG HTML, section 9.2 (server-sent events).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from litestar import Litestar, Request, Response
from litestar.response.base import ASGIResponse

from thunderline.core.envelope import encode_event
from thunderline.core.errors import ThunderlineError
from thunderline.core.logging import get_logger
from thunderline.core.records import Event, Reliability
from thunderline.gate.bodies import encode
from thunderline.gate.edge import Message, Receive, Scope, Send
from thunderline.gate.stream_protocol import DROP
from thunderline.link.registry import Registry
from thunderline.link.watch import Watch

log = get_logger(__name__)

STREAM_TYPE: Final = "text/event-stream"
CUT_EVENT: Final = "thunderline.cut"
KEEP_ALIVE_S: Final = 15.0
"""Below the 30 to 60 s after which proxies drop a silent connection; a dead client is found out as often, too."""

SEND_TIMEOUT_S: Final = 30.0
"""How long a client may leave a message waiting. Raising it lets one that is dead hold its backlog for longer; lowering
it cuts off those on a line that stalls."""

END_TIMEOUT_S: Final = 1.5
"""How long a stream may take to tell the rest once watches end: well within the time that a server takes to stop."""

_HEADERS: Final = (
    (b"content-type", STREAM_TYPE.encode()),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would gather messages otherwise
)


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """Why a stream ends: watching from `resume_from` goes on behind its last event."""

    code: str
    detail: str
    retryable: bool
    resume_from: str


class EventStream(Response[bytes]):
    """The answer that gives the events of `watch`; it closes the watch when either side ends."""

    def __init__(self, registry: Registry, watch: Watch) -> None:
        super().__init__(b"", media_type=STREAM_TYPE)
        self._registry = registry
        self._watch = watch

    def to_asgi_response(self, app: Litestar | None, request: Request[Any, Any, Any], **_: Any) -> ASGIResponse:
        return _Stream(self._registry, self._watch)


class _Stream(ASGIResponse):
    def __init__(self, registry: Registry, watch: Watch) -> None:
        super().__init__()
        self._registry = registry
        self._watch = watch
        self._sending_since: float | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]  # as the edge has it
        async with self._watch:
            telling = asyncio.create_task(self._tell(send), name="event stream")
            leaving = asyncio.create_task(_until_gone(receive), name="event stream's reader")
            stalling = asyncio.create_task(self._until_stalled(), name="event stream's patience")
            tasks = (telling, leaving, stalling)
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if stalling.done() and not telling.done() and not leaving.done():
                    log.info("event stream given up: its client does not read", cursor=self._watch.cursor)
                    await _end([telling])
                    if (drop := scope.get("extensions", {}).get(DROP)) is not None:
                        drop()
                        await leaving  # the server says so at once; what ends before that counts as a failure there
            finally:
                await _end(tasks)
        if not telling.cancelled():
            telling.result()

    async def _tell(self, send: Send) -> None:
        # Some servers say so when a client is gone, others swallow what is sent to it.
        with contextlib.suppress(OSError):
            await self._send(send, {"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
            await self._send_part(send, self._alive())
            try:
                await self._tell_events(send)
            except ThunderlineError as error:
                await self._send_part(send, self._cut(error))
            await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell_events(self, send: Send) -> None:
        """Send events as they come, for ever. Raises: what ends the watch."""
        hearing: asyncio.Future[Event] | None = None
        waking: asyncio.Future[None] | None = None
        try:
            while True:
                hearing = hearing or asyncio.ensure_future(anext(self._watch))
                waking = waking or asyncio.ensure_future(self._registry.clock.sleep(KEEP_ALIVE_S))
                both: tuple[asyncio.Future[Any], ...] = (hearing, waking)
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
                if hearing.done():
                    event, hearing = hearing.result(), None
                    await self._send_part(send, self._message(event))
                else:
                    # Only while no event is on its way out: the id says that all before it was given.
                    waking = None
                    await self._send_part(send, self._alive())
        finally:
            await _end([task for task in (hearing, waking) if task is not None])

    async def _send_part(self, send: Send, message: bytes) -> None:
        await self._send(send, {"type": "http.response.body", "body": message, "more_body": True})

    async def _send(self, send: Send, message: Message) -> None:
        self._sending_since = self._registry.clock.monotonic()
        await send(message)
        self._sending_since = None

    async def _until_stalled(self) -> None:
        """Return when the client has left a message waiting for too long, or watches ended a while ago."""
        # Beside the sending, and not around each message: a timer for each would cost more than the message.
        clock = self._registry.clock
        ending = asyncio.ensure_future(self._registry.log.watches_ended.wait())
        waiting: asyncio.Future[None] | None = None
        try:
            while not ending.done():
                now = clock.monotonic()
                since = now if self._sending_since is None else self._sending_since
                if now - since >= SEND_TIMEOUT_S:
                    return
                waiting = asyncio.ensure_future(clock.sleep_until(since + SEND_TIMEOUT_S))
                await asyncio.wait([ending, waiting], return_when=asyncio.FIRST_COMPLETED)
                await _end([waiting])
            await clock.sleep(END_TIMEOUT_S)
        finally:
            await _end([task for task in (ending, waiting) if task is not None])

    def _message(self, event: Event) -> bytes:
        message = b"event: " + event.name.encode() + b"\ndata: " + encode_event(event) + b"\n\n"
        if event.reliability is Reliability.TRANSIENT:
            return message
        return b"id: " + self._registry.log.cursor_at(event.revision).encode() + b"\n" + message

    def _alive(self) -> bytes:
        return f": thunderline\nid: {self._registry.log.cursor_at(self._watch.position)}\n\n".encode()

    def _cut(self, error: ThunderlineError) -> bytes:
        cut = Cut(
            code=error.code,
            detail=str(error),
            retryable=error.retryable,
            resume_from=self._registry.log.cursor_at(self._watch.position),
        )
        return f"event: {CUT_EVENT}\ndata: ".encode() + encode(cut) + b"\n\n"


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel the tasks and wait for them. What they raised is not raised here, and counts as seen."""
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
