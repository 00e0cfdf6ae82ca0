"""The event log as a stream: one message for each event, for as long as the client stays.

    : thunderline                        the head, and then every 15 s of silence: nothing that matches came up to here
    id: <log id>:<revision>

    id: <log id>:<revision>              an event; a heartbeat has no id, because it is not in the log
    event: cluster.node.online
    data: {...}

    event: thunderline.cut               the last message, where there is one: why the stream ends, where to go on
    data: {"code":"watch_cut","detail":...,"retryable":true,"resume_from":"<log id>:<revision>"}

    retry: 15000                         instead: the log cannot be continued from the cursor; list again, and watch
    event: thunderline.reset             from the list's own
    data: {"code":"cursor_gone","detail":...,"status":410,"field":"Last-Event-ID"}

Events that wait are sent together. A client that does not read is given up: if it begins to read soon after, it finds
such a last message behind what was already on its way to it, otherwise its connection is dropped. A stream whose token
is no longer good ends with such a message, too, which is not retryable: `token_revoked`, `token_expired`.

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

from thunderline.core.errors import CursorGone, ThunderlineError, Unauthenticated, WatchStalled
from thunderline.core.ids import Revision
from thunderline.core.logging import get_logger
from thunderline.gate.bodies import encode
from thunderline.gate.edge import Message, Receive, Scope, Send
from thunderline.gate.encoded import EncodedEvents
from thunderline.gate.faults import http_status
from thunderline.gate.stream_protocol import BOUND, DROP
from thunderline.link.access import Hold
from thunderline.link.actor import LOCAL_OPERATOR, Actor
from thunderline.link.registry import Registry
from thunderline.link.watch import Watch

log = get_logger(__name__)

STREAM_TYPE: Final = "text/event-stream"
CUT_EVENT: Final = "thunderline.cut"
RESET_EVENT: Final = "thunderline.reset"
RESET_RETRY_MS: Final = 15_000
"""How long a browser waits before it asks again with the same cursor, if its page does not heed the reset."""
KEEP_ALIVE_S: Final = 15.0
"""Below the 30 to 60 s after which proxies drop a silent connection; a dead client is found out as often, too."""

SEND_TIMEOUT_S: Final = 30.0
"""How long a client may leave a message waiting. Raising it lets one that is dead hold its backlog for longer; lowering
it cuts off those on a line that stalls."""

END_TIMEOUT_S: Final = 1.5
"""How long a stream may take to tell the rest once watches end: well within the time that a server takes to stop. So
long has a client, too, to take the word that its token is no longer good."""

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


class Reset(msgspec.Struct, frozen=True, kw_only=True):
    """Why a stream cannot go on from its cursor; what is kept has to be read anew."""

    code: str
    detail: str
    status: int
    field: str
    retryable: bool = False


def reset_answer(error: CursorGone) -> Response[bytes]:
    """The answer to a cursor that cannot be continued: 200, so that a browser's page hears of it at all."""
    log.info("event stream reset", cursor=error.cursor, why=error.why)
    headers = {name.decode(): value.decode() for name, value in _HEADERS[1:]}
    return Response(_reset(error), media_type=STREAM_TYPE, headers=headers)


def _reset(error: CursorGone) -> bytes:
    status = http_status(type(error))
    reset = Reset(code=error.code, detail=str(error), status=status, field=error.field)
    return f"retry: {RESET_RETRY_MS}\nevent: {RESET_EVENT}\ndata: ".encode() + encode(reset) + b"\n\n"


class EventStream(Response[bytes]):
    """The answer that gives the events of `watch`; it closes the watch when either side, or `actor`'s token, ends."""

    def __init__(
        self, registry: Registry, watch: Watch, encoded: EncodedEvents, *, actor: Actor = LOCAL_OPERATOR
    ) -> None:
        super().__init__(b"", media_type=STREAM_TYPE)
        self._registry = registry
        self._watch = watch
        self._encoded = encoded
        self._actor = actor

    def to_asgi_response(self, app: Litestar | None, request: Request[Any, Any, Any], **_: Any) -> ASGIResponse:
        return _Stream(self._registry, self._watch, self._encoded, self._actor)


class _Stream(ASGIResponse):
    def __init__(self, registry: Registry, watch: Watch, encoded: EncodedEvents, actor: Actor) -> None:
        super().__init__()
        self._registry = registry
        self._watch = watch
        self._encoded = encoded
        self._actor = actor
        self._is_begun = False
        # One message at a time: silences are broken beside the telling of events.
        self._turn = asyncio.Lock()
        self._sending_since: float | None = None
        self._sent_at = registry.clock.monotonic()
        self._sent = watch.cursor
        self._has_all = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]  # as the edge has it
        if (bound := scope.get("extensions", {}).get(BOUND)) is not None:
            bound()
        leaving = asyncio.create_task(_until_gone(receive), name="event stream's reader")
        revoked: asyncio.Future[ThunderlineError] = asyncio.get_running_loop().create_future()
        hold = self._hold(revoked)
        try:
            async with self._watch:
                telling = asyncio.create_task(self._tell(send), name="event stream")
                stalling = asyncio.create_task(self._until_stalled(send), name="event stream's patience")
                try:
                    await asyncio.wait((telling, leaving, stalling, revoked), return_when=asyncio.FIRST_COMPLETED)
                    over = telling.done() or leaving.done()
                finally:
                    await _end((telling, stalling))
            # Not in the block above: who is given up may take a while to go, and hears nothing more.
            if revoked.done() and not over:
                await self._say_why(send, scope, revoked.result(), leaving)
            elif stalling.done() and not stalling.cancelled() and not over:
                await self._give_up(scope, leaving)
        finally:
            if hold is not None:
                hold.release()
            await _end((leaving,))
        if not telling.cancelled():
            telling.result()

    def _hold(self, revoked: asyncio.Future[ThunderlineError]) -> Hold | None:
        """Have `revoked` done once the token is no longer good."""

        def cut(error: ThunderlineError) -> None:
            if not revoked.done():
                revoked.set_result(error)

        try:
            return self._registry.access.hold(self._actor, cut)
        except Unauthenticated as error:
            cut(error)
            return None

    async def _tell(self, send: Send) -> None:
        # Some servers say so when a client is gone, others swallow what is sent to it.
        with contextlib.suppress(OSError):
            await self._begin(send)
            try:
                await self._tell_events(send)
            except CursorGone as error:
                await self._send_part(send, _reset(error))
            except ThunderlineError as error:
                await self._send_part(send, self._cut(error, self._watch.position))
            await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self, send: Send) -> None:
        await self._send(send, {"type": "http.response.start", "status": 200, "headers": list(_HEADERS)})
        self._is_begun = True
        await self._send_part(send, self._alive())

    async def _tell_events(self, send: Send) -> None:
        """Send events as they come, for ever. Raises: what ends the watch."""
        heard_by = self._watch.pattern.key
        while True:
            self._has_all = True
            events = await self._watch.take()
            self._has_all = False
            while events:
                chunk, count = self._encoded.chunk(events, heard_by=heard_by, form=self._encoded.message)
                await self._send_part(send, chunk)
                # A transient event has the revision of the last one before it, or of one before that.
                self._sent = max(self._sent, events[count - 1].revision)
                del events[:count]

    async def _send_part(self, send: Send, message: bytes) -> None:
        await self._send(send, {"type": "http.response.body", "body": message, "more_body": True})

    async def _send(self, send: Send, message: Message) -> None:
        async with self._turn:
            self._sending_since = self._sent_at = self._registry.clock.monotonic()
            await send(message)
            self._sending_since = None

    async def _until_stalled(self, send: Send) -> None:
        """Break silences; return when the client has left a message waiting too long, or watches ended a while ago."""
        # Beside the sending, and not around each message: a timer for each would cost more than the message.
        clock = self._registry.clock
        ending = asyncio.ensure_future(self._registry.log.watches_ended.wait())
        waiting: asyncio.Future[None] | None = None
        breaking: asyncio.Future[None] | None = None
        try:
            while not ending.done():
                now = clock.monotonic()
                if self._sending_since is not None:
                    due = self._sending_since + SEND_TIMEOUT_S
                    if now >= due:
                        return
                else:
                    due = self._sent_at + KEEP_ALIVE_S
                    if now >= due:
                        # Only while no event is on its way out: the id says that all before it was given.
                        if self._has_all:
                            breaking = asyncio.ensure_future(self._break_silence(send))
                        due = now + KEEP_ALIVE_S
                waiting = asyncio.ensure_future(clock.sleep_until(due))
                await asyncio.wait([ending, waiting], return_when=asyncio.FIRST_COMPLETED)
                await _end([waiting])
            await clock.sleep(END_TIMEOUT_S)
        finally:
            await _end([task for task in (ending, waiting, breaking) if task is not None])

    async def _break_silence(self, send: Send) -> None:
        # Some servers say so when a client is gone; the reader then learns of it, too.
        with contextlib.suppress(OSError):
            await self._send_part(send, self._alive())

    async def _say_why(self, send: Send, scope: Scope, error: ThunderlineError, leaving: asyncio.Future[None]) -> None:
        """End a stream whose token is no longer good. A client that does not take the word is cut without it."""
        log.info("event stream cut: its token is no longer good", code=error.code, actor=str(self._actor))
        ending = asyncio.create_task(self._end_with(send, error), name="event stream's end")
        patience = asyncio.ensure_future(self._registry.clock.sleep(END_TIMEOUT_S))
        try:
            await asyncio.wait((ending, leaving, patience), return_when=asyncio.FIRST_COMPLETED)
            stalled = not ending.done() and not leaving.done()
        finally:
            await _end((ending, patience))
        if stalled and (drop := scope.get("extensions", {}).get(DROP)) is not None:
            drop(b"")
            await leaving

    async def _end_with(self, send: Send, error: ThunderlineError) -> None:
        with contextlib.suppress(OSError):
            if not self._is_begun:
                await self._begin(send)
            await self._send_part(send, self._cut(error, self._sent))
            await self._send(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _give_up(self, scope: Scope, leaving: asyncio.Future[None]) -> None:
        """Be rid of a client that reads nothing. If it reads again soon, it learns why, and where it was."""
        log.info("event stream given up: its client does not read", cursor=self._sent)
        if (drop := scope.get("extensions", {}).get(DROP)) is None:
            return
        ended = self._registry.log.watches_ended.is_set()
        stalled = WatchStalled(silent_s=SEND_TIMEOUT_S, resume_from=self._sent)
        drop(b"" if ended else self._cut(stalled, self._sent))
        await leaving  # what ends before the connection does counts as a failure there

    def _alive(self) -> bytes:
        return f": thunderline\nid: {self._registry.log.cursor_at(self._watch.position)}\n\n".encode()

    def _cut(self, error: ThunderlineError, position: Revision) -> bytes:
        cut = Cut(
            code=error.code,
            detail=str(error),
            retryable=error.retryable,
            resume_from=self._registry.log.cursor_at(position),
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
