"""Messages of Phoenix Channels, version 2 of the serializer: what a client sent, read; what it is told, written.

    [join_ref, ref, topic, event, payload]           JSON, in a text frame

`ref` numbers what the client pushes, and comes back in the reply to it; `join_ref` is that of the join which the
message belongs to, so that what was meant for an earlier join of a topic is known by it. Clients may push binary
payloads, too; none of ours takes one, and they are read so far that the push is answered.

Source: Phoenix documentation, "Writing a Channels Client"; the serializer of its JavaScript client, version 1.8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from websockets.frames import Frame, Opcode

from thunderline.core.errors import MalformedBody
from thunderline.core.inputs import read_json

VERSION: Final = "2.0.0"
PATH: Final = "/socket/websocket"
SUBPROTOCOL: Final = "phoenix"
"""What the JavaScript client offers where it also brings a token."""

SOCKET_TOPIC: Final = "phoenix"
HEARTBEAT: Final = "heartbeat"
JOIN: Final = "phx_join"
LEAVE: Final = "phx_leave"
REPLY: Final = "phx_reply"
CLOSE: Final = "phx_close"
ERROR: Final = "phx_error"

FRAGMENT_BYTES: Final = 32 * 1024
"""Of a message that is sent in pieces, so that a client that reads slowly has few of them waiting."""

_PUSH: Final = 0
_HEADER_BYTES: Final = 5

Label = Annotated[str, Meta(max_length=512)]
Number = Label | int | None
"""A reference: the JavaScript client's are numbers in a string."""


class ClientMessage(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a client pushed. `payload` is JSON that was not looked into; of a binary push it is empty."""

    join_ref: Number
    ref: Number
    topic: Label
    event: Label
    payload: msgspec.Raw


_DECODER: Final = msgspec.json.Decoder(ClientMessage)
_ENCODE: Final = msgspec.json.Encoder().encode


def read_message(data: bytes, *, text: bool) -> ClientMessage:
    """The message in one frame. Raises: InvalidInput, of which MalformedBody is one."""
    return read_json(data, _DECODER) if text else _read_binary(data)


def _read_binary(data: bytes) -> ClientMessage:
    if len(data) < _HEADER_BYTES or data[0] != _PUSH:
        raise MalformedBody("frame", "should be JSON in a text frame, or a binary push")
    labels = []
    at = _HEADER_BYTES
    for size_bytes in data[1:_HEADER_BYTES]:
        if at + size_bytes > len(data):
            raise MalformedBody("frame", "ends before its header says")
        labels.append(data[at : at + size_bytes])
        at += size_bytes
    try:
        join_ref, ref, topic, event = (label.decode() for label in labels)
    except UnicodeDecodeError as error:
        raise MalformedBody("frame", f"has a header that is not valid UTF-8 at byte {error.start}") from error
    return ClientMessage(join_ref or None, ref or None, topic, event, msgspec.Raw())


def reply(message: ClientMessage, *, ok: bool, response: bytes = b"{}") -> list[bytes]:
    """The answer to a push, in parts that stand one after another; `response` is JSON."""
    return [*reply_around(message, ok=ok, parts=[response])]


def reply_around(message: ClientMessage, *, ok: bool, parts: Sequence[bytes]) -> list[bytes]:
    """The same with a response that is in parts already."""
    head = _ENCODE((message.join_ref, message.ref, message.topic, REPLY))[:-1]
    return [head + (b',{"status":"ok","response":' if ok else b',{"status":"error","response":'), *parts, b"}]"]


def push(join_ref: Number, topic: str, event: str, payload: bytes = b"{}") -> bytes:
    """What the server tells a channel; `payload` is JSON."""
    # The server's own closing messages have the join's reference as theirs; the others have none.
    ref = join_ref if event in (CLOSE, ERROR) else None
    return _ENCODE((join_ref, ref, topic, event))[:-1] + b"," + payload + b"]"


def text_frame(message: bytes) -> bytes:
    """A message as the bytes that are sent."""
    return Frame(Opcode.TEXT, message).serialize(mask=False)


def text_frames(parts: Sequence[bytes]) -> Iterator[bytes]:
    """A message in parts as frames of a bounded size, made as they are asked for: it is never put together."""
    last = len(parts) - 1
    opcode = Opcode.TEXT
    for index, part in enumerate(parts):
        for start in range(0, len(part), FRAGMENT_BYTES):
            end = start + FRAGMENT_BYTES
            is_last = index == last and end >= len(part)
            yield Frame(opcode, part[start:end], fin=is_last).serialize(mask=False)
            opcode = Opcode.CONT
