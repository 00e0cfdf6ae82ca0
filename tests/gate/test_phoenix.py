"""Messages of Phoenix Channels as bytes."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode
from websockets.protocol import CLIENT, Protocol, State

from thunderline.core.errors import InvalidInput, MalformedBody
from thunderline.gate.phoenix import FRAGMENT_BYTES, push, read_message, reply, reply_around, text_frame, text_frames

LABEL = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NUMBER = st.none() | LABEL | st.integers(0, 2**31)


def binary_push(join_ref: str, ref: str, topic: str, event: str, payload: bytes) -> bytes:
    labels = [label.encode() for label in (join_ref, ref, topic, event)]
    return struct.pack("!5B", 0, *map(len, labels)) + b"".join(labels) + payload


@given(NUMBER, NUMBER, LABEL, LABEL, st.dictionaries(LABEL, st.integers()))
def test_what_a_client_pushes_is_read_and_answered_in_its_own_words(
    join_ref: Any, ref: Any, topic: str, event: str, payload: dict[str, int]
) -> None:
    message = read_message(json.dumps([join_ref, ref, topic, event, payload]).encode(), text=True)
    assert (message.join_ref, message.ref, message.topic, message.event) == (join_ref, ref, topic, event)
    assert json.loads(bytes(message.payload)) == payload
    answered = json.loads(b"".join(reply(message, ok=False, response=b'{"reason":"x"}')))
    assert answered == [join_ref, ref, topic, "phx_reply", {"status": "error", "response": {"reason": "x"}}]


@given(LABEL, LABEL, LABEL, LABEL, st.binary(max_size=20))
def test_a_binary_push_is_read_so_far_that_it_can_be_answered(
    join_ref: str, ref: str, topic: str, event: str, payload: bytes
) -> None:
    message = read_message(binary_push(join_ref, ref, topic, event, payload), text=False)
    assert (message.join_ref, message.ref, message.topic, message.event) == (
        join_ref or None,
        ref or None,
        topic,
        event,
    )
    assert bytes(message.payload) == b""


@given(st.binary(max_size=60), st.booleans())
def test_anything_else_is_refused_and_never_breaks(data: bytes, text: bool) -> None:
    with contextlib.suppress(InvalidInput):
        read_message(data, text=text)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "body"),
        (b"[]", "length"),
        (b'["1","1","t","e",{},1]', "length"),
        (b'["1","1","t","e"]', "length"),
        (b'{"topic":"t"}', "array"),
        (b'["1","1",7,"e",{}]', "[2]"),
        (b'["1",true,"t","e",{}]', "[1]"),
        (b'["1","1","' + b"t" * 600 + b'","e",{}]', "[2]"),
        (b"\xff", "body"),
    ],
)
def test_a_message_of_another_shape_is_told_what_is_wrong(data: bytes, named: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        read_message(data, text=True)
    assert named in str(raised.value)


@pytest.mark.parametrize(
    "data", [b"", b"\x00\x01\x01", b"\x01\x00\x00\x00\x00", b"\x00\x05\x00\x00\x00ab", b"\x00\x00\x00\x01\x00\xff"]
)
def test_a_binary_frame_that_is_no_push_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedBody, match="frame"):
        read_message(data, text=False)


def test_what_ends_a_channel_has_the_reference_of_its_join() -> None:
    assert json.loads(push("3", "t", "phx_close")) == ["3", "3", "t", "phx_close", {}]
    assert json.loads(push("3", "t", "phx_error", b'{"reason":"x"}')) == ["3", "3", "t", "phx_error", {"reason": "x"}]
    assert json.loads(push("3", "t", "node_up", b'{"a":1}')) == ["3", None, "t", "node_up", {"a": 1}]


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=5), st.integers(0, 2))
def test_parts_are_one_message_to_whoever_receives_the_frames(parts: list[bytes], large: int) -> None:
    parts[0] += b"x" * (large * FRAGMENT_BYTES)
    client = Protocol(CLIENT, state=State.OPEN)
    frames: list[Any] = []
    for data in text_frames(parts):
        assert len(data) <= FRAGMENT_BYTES + 10
        client.receive_data(data)
        frames += client.events_received()
    assert [frame.opcode for frame in frames] == [Opcode.TEXT] + [Opcode.CONT] * (len(frames) - 1)
    assert [frame.fin for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert b"".join(bytes(frame.data) for frame in frames) == b"".join(parts)


def test_a_message_of_one_part_is_one_frame() -> None:
    assert list(text_frames([b"[]"])) == [text_frame(b"[]")]


def test_a_response_in_parts_is_the_same_reply() -> None:
    message = read_message(b'["1","2","t","phx_join",{}]', text=True)
    parts = reply_around(message, ok=True, parts=[b'{"a":', b"1}"])
    assert b"".join(parts) == b"".join(reply(message, ok=True, response=b'{"a":1}'))
