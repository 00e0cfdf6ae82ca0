"""The registry's end of one connection of Phoenix Channels: who joined what, and what each channel is told.

A join without a cursor is answered with a snapshot and the cursor that it is as of; one with a cursor is answered with
that cursor, and what followed it is told. Either way the channel then hears every event behind its cursor once, in
order. What goes on a channel names its join, so that nothing which was meant for an earlier one is taken for its own.

It knows no socket: `Carrier` carries it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterable
from typing import Any, Final, Protocol

import msgspec

from thunderline.core.errors import (
    InvalidInput,
    MalformedBody,
    RateLimited,
    ShuttingDown,
    ThunderlineError,
    WatchCut,
)
from thunderline.core.ids import Revision
from thunderline.core.inputs import read_json
from thunderline.core.logging import get_logger
from thunderline.core.records import Event, Reliability
from thunderline.flow.taxonomy import TAXONOMY
from thunderline.gate.bodies import encode
from thunderline.gate.encoded import EncodedEvents
from thunderline.gate.faults import close_code
from thunderline.gate.phoenix import (
    CLOSE,
    ERROR,
    HEARTBEAT,
    JOIN,
    LEAVE,
    SOCKET_TOPIC,
    ClientMessage,
    Number,
    push,
    read_message,
    reply,
    reply_around,
    text_frame,
    text_frames,
)
from thunderline.gate.topics import JoinParameters, Topic, find_topic
from thunderline.gate.websocket import CLOSE_TIMEOUT_S
from thunderline.link.actor import LOCAL_OPERATOR, Actor
from thunderline.link.registry import Registry
from thunderline.link.watch import Watch

log = get_logger(__name__)

CHANNELS_MAX: Final = 64
"""Topics joined on one connection at once; a page shows a few."""

SILENCE_MAX_S: Final = 60.0
"""How long a client may say nothing; those of this protocol send a heartbeat every 30 s. Raising it lets one that is
gone without a word be told events for longer."""

UNREAD_MAX_S: Final = 30.0
"""How long a client may leave what it was sent unread. Raising it lets one that is dead hold its backlog for longer;
lowering it cuts off those on a line that stalls."""

LAST_UNREAD_S: Final = 30.0
"""How long the reason then waits for the client behind what is on its way to it. Raising it lets those that sleep for
longer learn why they were given up, and holds some 100 KiB for each for as long."""

LOOK_S: Final = 15.0
"""How often a connection is looked after: for the two bounds above, and for cursors that moved on in silence."""

MESSAGES_PER_S: Final = 50.0
MESSAGES_AT_ONCE: Final = 500.0
"""What a client may send. A page that joins as often as it can stays far below; more costs the server more to answer
than the client to ask."""

INBOX_MAX: Final = 64
"""Messages that wait for the answers to those before; beyond it nothing more is read from the client."""

CURSOR: Final = "cursor"
"""The event that moves a channel's cursor on past what did not concern it."""

INTERNAL_ERROR: Final = 1011
TRY_AGAIN_LATER: Final = 1013
"""Source: the IANA registry of WebSocket close codes."""

_PARAMETERS: Final = msgspec.json.Decoder(JoinParameters)


class Carrier(Protocol):
    """What a connection needs of whatever carries it."""

    unread_since: float | None
    """On the registry's clock: since when the client takes nothing of what is on its way; None while it reads."""

    async def send(self, frames: Iterable[bytes]) -> None:
        """Send frames that belong together; returns once the client may be sent more. Cancelling takes nothing back."""

    def close(self, code: int, reason: str, *, linger_s: float) -> None:
        """Close behind what was sent, which the client may take `linger_s` to read; idempotent."""

    def hold(self, held: bool) -> None:
        """Read nothing more from the client, or go on reading."""


class _Refusal(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a push was refused, or a channel ended."""

    reason: str
    detail: str
    retryable: bool
    field: str | None = None
    resume_from: str | None = None


class ChannelSocket:
    """One connection and its channels. Its tasks end with `lost`."""

    def __init__(
        self, registry: Registry, encoded: EncodedEvents, carrier: Carrier, *, actor: Actor = LOCAL_OPERATOR
    ) -> None:
        """The connection ends with `actor`'s token. Raises: TokenRevoked, TokenExpired where that is not good now."""
        self._hold = registry.access.hold(actor, self.end)
        self.registry = registry
        self.encoded = encoded
        self._carrier = carrier
        self._channels: dict[str, Channel] = {}
        self._inbox: deque[ClientMessage] = deque()
        self._arrived = asyncio.Event()
        self._heard_at = self._allowed_at = registry.clock.monotonic()
        self._allowance = MESSAGES_AT_ONCE
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_over = False
        self.run(self._answer(), name="channels")
        self.run(self._look_after(), name="channels' patience")

    # What comes from the client

    def received(self, data: bytes, *, text: bool) -> None:
        """One whole message came."""
        if self._is_over:
            return
        self._heard_at = self.registry.clock.monotonic()
        self.count()
        try:
            self._inbox.append(read_message(data, text=text))
        except InvalidInput as error:
            # The client does not speak the protocol, or not this version of it.
            self.end(error if isinstance(error, MalformedBody) else MalformedBody("message", str(error)))
            return
        self._arrived.set()
        if len(self._inbox) >= INBOX_MAX:
            self._carrier.hold(True)

    def count(self) -> None:
        """Something came; too much of it ends the connection."""
        now = self.registry.clock.monotonic()
        earned = (now - self._allowed_at) * MESSAGES_PER_S
        self._allowance = min(MESSAGES_AT_ONCE, self._allowance + earned) - 1
        self._allowed_at = now
        if self._allowance < 0:
            self.end(
                RateLimited(
                    limit=f"{MESSAGES_PER_S:g} messages a second", retry_after_s=MESSAGES_AT_ONCE / MESSAGES_PER_S
                )
            )

    def lost(self) -> None:
        """The connection is gone."""
        self._is_over = True
        if self._hold is not None:
            self._hold.release()
        for task in self._tasks:
            task.cancel()

    # What goes to it

    def end(self, error: ThunderlineError) -> None:
        """Close the connection, saying why."""
        self._close(close_code(type(error)), f"{error.code}: {error}")

    def _close(self, code: int, reason: str, *, linger_s: float = CLOSE_TIMEOUT_S) -> None:
        self._is_over = True
        self._inbox.clear()
        for task in self._tasks - {asyncio.current_task()}:
            # There is nobody left to tell.
            task.cancel()
        # A reason has 123 bytes; what is cut must still be text.
        self._carrier.close(code, reason.encode()[:123].decode(errors="ignore"), linger_s=linger_s)

    async def send(self, frames: Iterable[bytes]) -> None:
        """As `Carrier.send`."""
        await self._carrier.send(frames)

    def run(self, body: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Do something beside the rest for as long as the connection stands."""
        task = asyncio.create_task(body, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug of ours; the client connects again, and goes on where it was.
            log.error("channels failed", exc_info=error)
            self._close(INTERNAL_ERROR, "internal error")

    # Pushes

    async def _answer(self) -> None:
        """Answer what the client pushes, one after another, for ever."""
        while True:
            while self._inbox:
                message = self._inbox.popleft()
                if not self._inbox:
                    self._carrier.hold(False)
                await self._handle(message)
            self._arrived.clear()
            await self._arrived.wait()

    async def _handle(self, message: ClientMessage) -> None:
        joined = self._channels.get(message.topic)
        if message.topic == SOCKET_TOPIC:
            if message.event == HEARTBEAT:
                await self._reply(message)
            else:
                await self._refuse(message, InvalidInput("event", f"should be {HEARTBEAT} on this topic"))
        elif message.event == JOIN:
            await self._join(message)
        elif message.event == LEAVE:
            await self._leave(message, joined)
        elif joined is None:
            error = InvalidInput("topic", "is not joined")
            await self._reply(message, _Refusal(reason="unmatched topic", detail=str(error), retryable=False))
        else:
            await self._refuse(
                message, InvalidInput("event", f"{message.event[:40]!r} is none that this channel takes")
            )

    async def _join(self, message: ClientMessage) -> None:
        if (earlier := self._channels.get(message.topic)) is not None:
            await earlier.end()
        try:
            if len(self._channels) >= CHANNELS_MAX:
                raise InvalidInput("topic", f"is one too many: a connection has {CHANNELS_MAX} channels at most")
            wanted = read_json(bytes(message.payload), _PARAMETERS)
            topic = find_topic(message.topic, self.registry, wanted)
            watch = self.registry.subscribe(
                ">",
                None if wanted.since is None else str(wanted.since),
                transient=wanted.heartbeats,
                paced=True,
                damped=wanted.damped,
            )
        except ThunderlineError as error:
            await self._refuse(message, error)
            return
        # In one go with the watch, which begins where the snapshot ends.
        cursor = encode(self.registry.log.cursor_at(watch.cursor))
        parts = [b'{"cursor":' + cursor, b"}"]
        if wanted.since is None:
            parts[1:] = [b',"snapshot":', *topic.snapshot(), b"}"]
        joined = text_frames(reply_around(message, ok=True, parts=parts))
        self._channels[message.topic] = Channel(self, message.topic, message.join_ref, topic, watch, joined)

    async def _leave(self, message: ClientMessage, joined: Channel | None) -> None:
        # What leaves an earlier join must not end the one after it.
        if joined is not None and message.join_ref in (None, joined.join_ref):
            await joined.stop()
            await self._reply(message)
            await joined.end()
        else:
            await self._reply(message)

    async def _reply(self, message: ClientMessage, refusal: _Refusal | None = None) -> None:
        response = b"{}" if refusal is None else encode(refusal)
        await self.send([text_frame(b"".join(reply(message, ok=refusal is None, response=response)))])

    async def _refuse(self, message: ClientMessage, error: ThunderlineError) -> None:
        await self._reply(message, _refusal(error))

    # Time

    async def _look_after(self) -> None:
        """End the connection of a client that is silent or does not read; move cursors on."""
        clock = self.registry.clock
        while not self._is_over:
            due = clock.monotonic() + LOOK_S
            await clock.sleep_until(due)
            now = clock.monotonic()
            if (late := now - due) > LOOK_S:
                # A pause of our own: what the client said meanwhile has not been read yet.
                self._heard_at += late
            unread_since = self._carrier.unread_since
            if unread_since is not None and now - unread_since >= UNREAD_MAX_S:
                log.info("channels given up: their client does not read", channels=len(self._channels))
                reason = f"watch_stalled: nothing was read for {UNREAD_MAX_S:g} s; join with since"
                self._close(TRY_AGAIN_LATER, reason, linger_s=LAST_UNREAD_S)
            elif now - self._heard_at >= SILENCE_MAX_S:
                self._close(TRY_AGAIN_LATER, f"no_heartbeat: nothing came for {SILENCE_MAX_S:g} s")
            elif unread_since is None:
                for channel in self._channels.values():
                    # Not in this task: a client that reads nothing would hold it up.
                    self.run(channel.move_on(), name="channel's cursor")

    def left(self, channel: Channel) -> None:
        """The channel is over."""
        if self._channels.get(channel.name) is channel:
            del self._channels[channel.name]


class Channel:
    """One join of a topic, until it is left, ends, or is taken over by another join of the same."""

    def __init__(
        self, over: ChannelSocket, name: str, join_ref: Number, topic: Topic, watch: Watch, joined: Iterable[bytes]
    ) -> None:
        """`joined` is the answer to the join, which is sent before anything else."""
        self.name = name
        self.join_ref = join_ref
        self._over = over
        self._topic = topic
        self._watch = watch
        self._told = watch.cursor
        self._has_all = False
        self._task = over.run(self._tell(joined), name=f"channel {name}")

    async def stop(self) -> None:
        """Tell nothing more."""
        self._over.left(self)
        self._task.cancel()
        await asyncio.wait([self._task])

    async def end(self) -> None:
        """Stop, and say so."""
        await self.stop()
        await self._push(CLOSE)

    async def move_on(self) -> None:
        """Tell where the log stands, if nothing up to there concerned this channel."""
        position = self._watch.position
        if self._has_all and position > self._told:
            self._told = position
            await self._push(CURSOR, b'{"cursor":%b}' % encode(self._over.registry.log.cursor_at(position)))

    async def _tell(self, joined: Iterable[bytes]) -> None:
        try:
            async with self._watch:
                await self._over.send(joined)
                await self._tell_events()
        except ShuttingDown as error:
            self._over.end(error)
        except ThunderlineError as error:
            # The client joins again, and goes on from there.
            resume_from = self._over.registry.log.cursor_at(self._told) if isinstance(error, WatchCut) else None
            self._over.left(self)
            await self._push(ERROR, encode(_refusal(error, resume_from=resume_from)))
        else:
            self._over.left(self)
            await self._push(CLOSE)

    async def _tell_events(self) -> None:
        """Tell events as they come, until there is nothing left to tell of. Raises: what ends the watch."""
        topic, encoded = self._topic, self._over.encoded
        heard_by = ("channel", self.name, self.join_ref, self._watch.pattern.key)
        is_over = False
        while not is_over:
            self._has_all = True
            taken = await self._watch.take()
            self._has_all = False
            events = [event for event in taken if topic.concerns(event)]
            is_over = any(topic.ends_with(event) for event in events)
            while events:
                chunk, count = encoded.chunk(events, heard_by=heard_by, form=self._frame)
                await self._over.send([chunk])
                # A transient event has the revision of the last one before it, or of one before that.
                self._told = max(self._told, events[count - 1].revision)
                del events[:count]

    def _frame(self, event: Event) -> bytes:
        payload = self._over.encoded.envelope(event)
        if event.reliability is Reliability.PERSISTENT:
            cursor = encode(self._over.registry.log.cursor_at(Revision(event.revision)))
            payload = payload[:-1] + b',"cursor":' + cursor + b"}"
        return text_frame(push(self.join_ref, self.name, TAXONOMY[event.name].phoenix, payload))

    async def _push(self, event: str, payload: bytes = b"{}") -> None:
        await self._over.send([text_frame(push(self.join_ref, self.name, event, payload))])


def _refusal(error: ThunderlineError, *, resume_from: str | None = None) -> _Refusal:
    return _Refusal(
        reason=error.code,
        detail=str(error),
        retryable=error.retryable,
        field=getattr(error, "field", None),
        resume_from=resume_from,
    )
