"""The event log as a stream: one message for each event, for as long as the client stays.

    : thunderline                        the head, and then every 15 s of silence: nothing that matches came up to here
    id: <log id>:<revision>

    id: <log id>:<revision>              an event; a heartbeat has no id, because it is not in the log
    event: cluster.node.online
    data: {...}

    event: thunderline.cut               the last message, where there is one: why the stream ends, where to go on
    data: {"code":"watch_cut","detail":...,"retryable":true,"resume_from":"<log id>:<revision>"}

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

from thunderline.core.codec import encode_event
from thunderline.core.errors import ThunderlineError
from thunderline.core.records import Event, Reliability
from thunderline.gate.bodies import encode
from thunderline.gate.edge import Receive, Scope, Send
from thunderline.link.registry import Registry
from thunderline.link.watch import Watch

STREAM_TYPE: Final = "text/event-stream"
CUT_EVENT: Final = "thunderline.cut"
KEEP_ALIVE_S: Final = 15.0
"""Below the 30 to 60 s after which proxies drop a silent connection; a dead client is found out as often, too."""

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]  # as the edge has it
        async with self._watch:
            telling = asyncio.create_task(self._tell(send), name="event stream")
            leaving = asyncio.create_task(_until_gone(receive), name="event stream's reader")
            try:
                await asyncio.wait([telling, leaving], return_when=asyncio.FIRST_COMPLETED)
            finally:
                await _end([telling, leaving])
        if not telling.cancelled():
            telling.result()

    async def _tell(self, send: Send) -> None:
        # Some servers say so when a client is gone, others swallow what is sent to it.
        with contextlib.suppress(OSError):
            await send({"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
            await _send(send, self._alive())
            try:
                await self._tell_events(send)
            except ThunderlineError as error:
                await _send(send, self._cut(error))
            await send({"type": "http.response.body", "body": b"", "more_body": False})

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
                    await _send(send, self._message(event))
                else:
                    # Only while no event is on its way out: the id says that all before it was given.
                    waking = None
                    await _send(send, self._alive())
        finally:
            await _end([task for task in (hearing, waking) if task is not None])

    def _message(self, event: Event) -> bytes:
        message = b"event: " + event.name.encode() + b"\ndata: " + encode_event(event) + b"\n\n"
        if event.reliability is Reliability.TRANSIENT:
            return message
        return b"id: " + self._registry.cursor_at(event.revision).encode() + b"\n" + message

    def _alive(self) -> bytes:
        return f": thunderline\nid: {self._registry.cursor_at(self._watch.position)}\n\n".encode()

    def _cut(self, error: ThunderlineError) -> bytes:
        cut = Cut(
            code=error.code,
            detail=str(error),
            retryable=error.retryable,
            resume_from=self._registry.cursor_at(self._watch.position),
        )
        return f"event: {CUT_EVENT}\ndata: ".encode() + encode(cut) + b"\n\n"


async def _send(send: Send, message: bytes) -> None:
    await send({"type": "http.response.body", "body": message, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel the tasks and wait for them. What they raised is not raised here, and counts as seen."""
    waiting = list(tasks)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
