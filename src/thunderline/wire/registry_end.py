"""The registry's end of a link: what may come when, and what is said in return. No I/O.

    state     | a frame comes        | becomes   | the caller says
    ----------|----------------------|-----------|----------------------------
    greeting  | hello                | opening   | welcome, which makes it open
    opening   | bye                  | leaving   |
    open      | hb, backlog, links   | open      |
    open      | bye                  | leaving   |
    leaving   | any                  | leaving   | passed over
    closed    | any                  | closed    | passed over

A frame of a known type in any other place is a violation of the protocol, and so is one that cannot be read: the caller
says so and closes. Frames of unknown types are passed over wherever they come.
"""

from __future__ import annotations

from enum import StrEnum

from thunderline.core.errors import ProtocolViolation, ThunderlineError
from thunderline.wire.acks import Acks
from thunderline.wire.codec import registry_codec
from thunderline.wire.frames import (
    Ack,
    Bye,
    Drain,
    ErrorFrame,
    Hello,
    Interval,
    NodeFrame,
    RegistryFrame,
    Welcome,
)


class LinkState(StrEnum):
    """See the table of the module."""

    GREETING = "greeting"
    OPENING = "opening"
    OPEN = "open"
    LEAVING = "leaving"
    CLOSED = "closed"


class RegistryEnd:
    """One link, from its first frame to its last."""

    __slots__ = ("_codec", "acks", "state")

    def __init__(self, subprotocol: str) -> None:
        """Raises: ValueError for a subprotocol that is not ours."""
        self._codec = registry_codec(subprotocol)
        self.acks = Acks()
        self.state = LinkState.GREETING

    def receive(self, data: bytes) -> NodeFrame | None:
        """The frame in one message; None: pass it over.

        Raises: BadFrame, BadBacklog for a frame that cannot be used, after which an open link goes on; MalformedBody,
        ProtocolViolation, after which it is to be closed.
        """
        state = self.state
        if state is LinkState.CLOSED or state is LinkState.LEAVING:
            return None
        frame = self._codec.decode(data)
        if frame is None:
            return None
        if state is LinkState.OPEN:
            if isinstance(frame, Hello):
                raise ProtocolViolation("hello comes once, at the beginning of a link")
            if isinstance(frame, Bye):
                self.state = LinkState.LEAVING
            return frame
        if state is LinkState.GREETING:
            if not isinstance(frame, Hello):
                raise ProtocolViolation("the first one should be hello")
            self.state = LinkState.OPENING
            return frame
        if not isinstance(frame, Bye):
            raise ProtocolViolation("nothing but bye has a place before welcome has come")
        self.state = LinkState.LEAVING
        return frame

    def welcome(self, welcome: Welcome) -> bytes:
        """The answer to hello; beats may come from now on."""
        if self.state is LinkState.OPENING:
            self.state = LinkState.OPEN
        return self._encode(welcome)

    def ack(self) -> bytes | None:
        """What is durable, if more than was said last."""
        seq = self.acks.due()
        return None if seq is None else self._encode(Ack(seq=seq))

    def interval(self, interval_ms: int) -> bytes:
        """The node's new interval."""
        return self._encode(Interval(interval_ms=interval_ms))

    def drain(self, within_ms: int) -> bytes:
        """The request to connect again within so many milliseconds."""
        return self._encode(Drain(reconnect_within_ms=within_ms))

    def error(self, error: ThunderlineError, *, seq: int | None = None, retryable: bool | None = None) -> bytes:
        """What the peer is told of `error`; about one beat if `seq` names it."""
        retry_after_s = getattr(error, "retry_after_s", None)
        return self._encode(
            ErrorFrame(
                code=error.code,
                message=str(error),
                retryable=error.retryable if retryable is None else retryable,
                retry_after_ms=None if retry_after_s is None else round(retry_after_s * 1000),
                seq=seq,
                field=getattr(error, "field", None),
            )
        )

    def close(self) -> None:
        """Take nothing more."""
        self.state = LinkState.CLOSED

    def _encode(self, frame: RegistryFrame) -> bytes:
        encoded: bytes = self._codec.encode(frame)
        return encoded
