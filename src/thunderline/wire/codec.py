"""Frames as bytes: JSON or MessagePack, the same frames in either.

What cannot be read raises; what is of an unknown type is None, which the receiver passes over.
"""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

import msgspec

from thunderline.core.errors import InvalidInput, MalformedBody
from thunderline.core.inputs import refuse
from thunderline.wire.frames import (
    FRAME_MAX_BYTES,
    JSON_SUBPROTOCOL,
    MSGPACK_SUBPROTOCOL,
    NodeFrame,
    RegistryFrame,
)

T = TypeVar("T")


class _Envelope(msgspec.Struct):
    """As much of a frame as tells what it is about, when the rest cannot be read."""

    type: str
    seq: Any = None


class BadFrame(InvalidInput):
    """A frame of a known type that cannot be used; `seq` if it is a beat that says which."""

    code = "invalid_input"

    def __init__(self, field: str, problem: str, *, seq: int | None) -> None:
        super().__init__(field, problem)
        self.seq = seq


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
        self._types: Final = frozenset(kind.__struct_config__.tag for kind in reads.__args__)

    def decode(self, data: bytes) -> T | None:
        """The frame in `data`; None when its type is unknown.

        Raises: MalformedBody when it is no frame at all; BadFrame when it is one that cannot be used.
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
        except UnicodeDecodeError as error:
            raise MalformedBody("frame", "holds text that is not valid UTF-8") from error
        except msgspec.DecodeError as error:
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
        seq = envelope.seq if isinstance(envelope.seq, int) and not isinstance(envelope.seq, bool) else None
        try:
            refuse(error)
        except InvalidInput as refused:
            raise BadFrame(refused.field, refused.problem, seq=seq) from error


_FORMATS: Final = {JSON_SUBPROTOCOL: msgspec.json, MSGPACK_SUBPROTOCOL: msgspec.msgpack}


def registry_codec(subprotocol: str) -> Codec[NodeFrame]:
    """The registry's end: reads the node's frames."""
    return Codec(subprotocol, NodeFrame)


def node_codec(subprotocol: str) -> Codec[RegistryFrame]:
    """The node's end: reads the registry's frames."""
    return Codec(subprotocol, RegistryFrame)
