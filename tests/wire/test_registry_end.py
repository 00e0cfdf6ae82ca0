"""The registry's end: its table, and that no bytes make it raise anything but what it says it raises."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderline.core.errors import MalformedBody, NameInUse, ProtocolViolation
from thunderline.wire import registry_end
from thunderline.wire.codec import BadFrame, node_codec
from thunderline.wire.frames import JSON_SUBPROTOCOL, SUBPROTOCOLS, ErrorFrame, Welcome
from thunderline.wire.registry_end import LinkState, RegistryEnd

FRAMES: dict[str, dict[str, Any]] = {
    "hello": {"name": "worker-1", "instance": "a"},
    "hb": {"seq": 1},
    "backlog": {"beats": []},
    "links": {"sessions": []},
    "bye": {},
}
WELCOME = Welcome(node_id="n", session_id="s", secret="x", incarnation=1, interval_ms=1000, cursor="c", server_time="t")


def end_in(state: LinkState) -> RegistryEnd:
    end = RegistryEnd(JSON_SUBPROTOCOL)
    end.state = state
    return end


def frame(type_: str, **fields: Any) -> bytes:
    return msgspec.json.encode({"type": type_, **FRAMES.get(type_, {}), **fields})


def table() -> dict[tuple[LinkState, str], LinkState]:
    """(state, frame) -> state after it, read from the docstring of the module."""
    rows: dict[tuple[LinkState, str], LinkState] = {}
    for line in (inspect.getdoc(registry_end) or "").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) != 4 or cells[0] == "state" or set(cells[0]) == {"-"}:
            continue
        for name in FRAMES if cells[1] == "any" else cells[1].split(", "):
            rows[LinkState(cells[0]), name] = LinkState(cells[2])
    return rows


TABLE = table()


@pytest.mark.parametrize("state", LinkState)
@pytest.mark.parametrize("type_", FRAMES)
def test_every_frame_in_every_state_does_what_the_table_says(state: LinkState, type_: str) -> None:
    end = end_in(state)
    if (state, type_) not in TABLE:
        with pytest.raises(ProtocolViolation):
            end.receive(frame(type_))
        return
    told = end.receive(frame(type_))
    assert end.state is TABLE[state, type_]
    assert (told is None) == (state in (LinkState.LEAVING, LinkState.CLOSED))


@pytest.mark.parametrize("state", LinkState)
def test_frame_of_an_unknown_type_is_passed_over_everywhere(state: LinkState) -> None:
    end = end_in(state)
    assert end.receive(frame("news")) is None
    assert end.state is state


def test_welcome_opens_a_link_and_not_one_that_is_already_left() -> None:
    end = end_in(LinkState.OPENING)
    end.welcome(WELCOME)
    assert end.state is LinkState.OPEN
    left = end_in(LinkState.LEAVING)
    left.welcome(WELCOME)
    assert left.state is LinkState.LEAVING


def test_error_says_what_when_and_about_which_beat() -> None:
    data = end_in(LinkState.OPEN).error(NameInUse("worker-1", retry_after_s=2.5), seq=7)
    told = node_codec(JSON_SUBPROTOCOL).decode(data)
    assert isinstance(told, ErrorFrame)
    assert (told.code, told.retryable, told.retry_after_ms, told.seq) == ("name_in_use", True, 2_500, 7)


def test_secrets_stay_out_of_representations() -> None:
    assert "x" not in repr(WELCOME).replace("<Welcome n>", "")
    end = end_in(LinkState.GREETING)
    told = end.receive(frame("hello", token="tok-123", resume={"session_id": "s", "secret": "sec-123"}))
    assert "123" not in repr(told)
    assert "123" not in repr(told.resume)  # type: ignore[union-attr]


@given(st.sampled_from(SUBPROTOCOLS), st.lists(st.binary(max_size=200), max_size=8))
def test_no_bytes_raise_anything_else(subprotocol: str, messages: list[bytes]) -> None:
    end = RegistryEnd(subprotocol)
    for message in messages:
        try:
            end.receive(message)
        except (BadFrame, MalformedBody, ProtocolViolation):
            end.close()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=8),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(max_size=8), below, max_size=4),
    max_leaves=8,
)
_FIELDS = sorted({"name", "instance", "seq", "beats", "meta", "peers", "resume", "features", "interval_ms", "labels"})


@given(
    st.sampled_from(SUBPROTOCOLS),
    st.lists(
        st.tuples(st.sampled_from([*FRAMES, "news", 7]), st.dictionaries(st.sampled_from(_FIELDS), _JSON, max_size=4)),
        max_size=6,
    ),
)
def test_no_frames_in_any_order_raise_anything_else(subprotocol: str, frames: list[tuple[Any, dict[str, Any]]]) -> None:
    form = msgspec.json if subprotocol == JSON_SUBPROTOCOL else msgspec.msgpack
    end = RegistryEnd(subprotocol)
    for type_, fields in frames:
        try:
            end.receive(form.encode({"type": type_, **FRAMES.get(type_, {}), **fields}))
        except (BadFrame, MalformedBody, ProtocolViolation):
            end.close()
        if end.state is LinkState.OPENING:
            end.welcome(WELCOME)
