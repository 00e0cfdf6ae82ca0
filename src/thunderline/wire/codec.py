"""Frames as bytes: JSON or MessagePack, the same frames in either.

What cannot be read raises; what is of an unknown type is None, which the receiver passes over.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec
from msgspec import Meta

from thunderline.core.errors import InvalidInput, MalformedBody
from thunderline.core.inputs import explain, refuse
from thunderline.wire.frames import (
    BACKLOG_BEATS_MAX,
    FRAME_MAX_BYTES,
    JSON_SUBPROTOCOL,
    MSGPACK_SUBPROTOCOL,
    Backlog,
    LateBeat,
    NodeFrame,
    RegistryFrame,
)

T = TypeVar("T")


class _Envelope(msgspec.Struct):
    """As much of a frame as tells what it is about, when the rest cannot be read."""

    type: str
    seq: Any = None


class _Numbered(msgspec.Struct):
    """As much of a beat as tells which it is."""

    seq: Any = None


class BadFrame(InvalidInput):
    """A frame of a known type that cannot be used; `seq` if it is a beat that says which."""

    code = "invalid_input"

    def __init__(self, field: str, problem: str, *, seq: int | None) -> None:
        super().__init__(field, problem)
        self.seq = seq


class BadBacklog(BadFrame):
    """A backlog some of whose beats cannot be used: `bad`, each with its number. The others are in `good`."""

    def __init__(self, good: Backlog, bad: list[BadFrame]) -> None:
        super().__init__(bad[0].field, bad[0].problem, seq=None)
        self.good = good
        self.bad = bad


class _LooseBacklog(msgspec.Struct):
    """A backlog whose beats are yet to be read."""

    beats: Annotated[list[msgspec.Raw], Meta(max_length=BACKLOG_BEATS_MAX)]


class Codec(Generic[T]):
    """Reads the frames of one side and writes those of the other, in the encoding of one subprotocol."""

    def __init__(self, subprotocol: str, reads: Any) -> None:
        """`reads`: the union of frame types that come in. Raises: ValueError for a subprotocol that is not ours."""
        if subprotocol not in _FORMATS:
            raise ValueError(f"{subprotocol!r} is none of {', '.join(_FORMATS)}")
        form: Any = _FORMATS[subprotocol]
        self.subprotocol = subprotocol
        self.is_text: Final = subprotocol == JSON_SUBPROTOCOL
        self.encode: Final = form.Encoder().encode
        """The bytes of a frame."""
        self._decode: Final = form.Decoder(reads).decode
        self._look: Final = form.Decoder(_Envelope).decode
        self._look_loosely: Final = form.Decoder(_LooseBacklog).decode
        self._look_at_beat: Final = form.Decoder(_Numbered).decode
        self._decode_late: Final = form.Decoder(LateBeat).decode
        self._types: Final = frozenset(kind.__struct_config__.tag for kind in reads.__args__)

    def decode(self, data: bytes) -> T | None:
        """The frame in `data`; None when its type is unknown.

        Raises: MalformedBody when it is no frame at all, or carries beats of which it cannot be told which; BadFrame
        when it is one that cannot be used, BadBacklog when that is some beats of many.
        """
        if len(data) > FRAME_MAX_BYTES:
            raise MalformedBody("frame", f"takes {len(data)} bytes, {FRAME_MAX_BYTES} at most")
        try:
            frame: T = self._decode(data)
        except msgspec.ValidationError as error:
            self._pass_over_or_refuse(data, error)
            return None
        except RecursionError as error:
            raise MalformedBody("frame", "is nested too deeply") from error
        except (UnicodeDecodeError, msgspec.DecodeError) as error:
            # Text that is not UTF-8 raises the one or the other, by the version of msgspec.
            raise MalformedBody("frame", f"cannot be read: {error}") from error
        return frame

    def _pass_over_or_refuse(self, data: bytes, error: msgspec.ValidationError) -> None:
        """Return if only the type is unknown. Raises: MalformedBody, BadFrame."""
        try:
            envelope = self._look(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as worse:
            raise MalformedBody("frame", "should be an object with a `type`") from worse
        if envelope.type not in self._types:
            return
        if envelope.type == _BACKLOG:
            raise self._sorted(data) from error
        seq = _number(envelope.seq)
        try:
            refuse(error)
        except InvalidInput as refused:
            raise BadFrame(refused.field, refused.problem, seq=seq) from error

    def _sorted(self, data: bytes) -> InvalidInput:
        """What is wrong with a backlog, beat by beat: an acknowledgement must not cover one that nobody was told of."""
        good: list[LateBeat] = []
        bad: list[BadFrame] = []
        try:
            beats = self._look_loosely(data).beats
        except msgspec.ValidationError as error:
            path, problem = explain(error)
            return MalformedBody(path or "frame", problem)
        for index, raw in enumerate(beats):
            try:
                good.append(self._decode_late(raw))
            except msgspec.ValidationError as error:
                path, problem = explain(error)
                field = f"beats[{index}].{path}" if path else f"beats[{index}]"
                seq = self._seq_of(raw)
                if seq is None:
                    return MalformedBody(field, f"{problem}; without a number it cannot be told which beat it is")
                bad.append(BadFrame(field, problem, seq=seq))
        return BadBacklog(Backlog(beats=tuple(good)), bad) if bad else MalformedBody("frame", "cannot be used")

    def _seq_of(self, raw: msgspec.Raw) -> int | None:
        try:
            return _number(self._look_at_beat(raw).seq)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return None


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


_BACKLOG: Final = "backlog"
_FORMATS: Final = {JSON_SUBPROTOCOL: msgspec.json, MSGPACK_SUBPROTOCOL: msgspec.msgpack}


@cache
def registry_codec(subprotocol: str) -> Codec[NodeFrame]:
    """The registry's end: reads the node's frames."""
    return Codec(subprotocol, NodeFrame)


@cache
def node_codec(subprotocol: str) -> Codec[RegistryFrame]:
    """The node's end: reads the registry's frames."""
    return Codec(subprotocol, RegistryFrame)
