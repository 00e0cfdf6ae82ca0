"""Events as the bytes that are sent, made once however many watch.

What was made last is kept, up to a bound; what is asked for later than that is made again. Bytes that many connections
wait to send are the same object.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final, Generic, TypeVar

from thunderline.core.envelope import encode_event
from thunderline.core.ids import EventId
from thunderline.core.records import Event, Reliability
from thunderline.link.event_log import EventLog

KEPT_MAX_BYTES: Final = 2 * 1024 * 1024
"""Of single events, and as much again of what is sent together. Raising it spares work where watchers are far apart."""

CHUNK_BYTES: Final = 32 * 1024
"""What is sent together at most, unless one event alone is more. A client that reads nothing holds two or three of
them; less would cost a write to each socket more often."""

K = TypeVar("K", bound=Hashable)


class EncodedEvents:
    """The events of one log as the outside gets them."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._envelopes: _Newest[EventId] = _Newest(KEPT_MAX_BYTES)
        self._chunks: _Newest[tuple[Hashable, EventId, EventId, int]] = _Newest(KEPT_MAX_BYTES)

    def envelope(self, event: Event) -> bytes:
        """`event` as a CloudEvent in JSON."""
        if (envelope := self._envelopes.get(event.id)) is None:
            envelope = self._envelopes.keep(event.id, encode_event(event))
        return envelope

    def message(self, event: Event) -> bytes:
        """`event` as a message of a stream."""
        message = b"event: " + event.name.encode() + b"\ndata: " + self.envelope(event) + b"\n\n"
        if event.reliability is Reliability.TRANSIENT:
            return message
        return b"id: " + self._log.cursor_at(event.revision).encode() + b"\n" + message

    def chunk(
        self, events: Sequence[Event], *, heard_by: Hashable, form: Callable[[Event], bytes]
    ) -> tuple[bytes, int]:
        """The first of `events`, each in its `form`, and how many they are, at least one.

        `heard_by` is the key of the pattern that they match, and of the form: between two of its events there is one
        sequence of a length at most.
        """
        count, size_bytes = 0, 0
        for event in events:
            size_bytes += len(self.envelope(event))
            if count and size_bytes > CHUNK_BYTES:
                break
            count += 1
        key = (heard_by, events[0].id, events[count - 1].id, count)
        if (chunk := self._chunks.get(key)) is None:
            chunk = self._chunks.keep(key, b"".join(map(form, events[:count])))
        return chunk, count


class _Newest(Generic[K]):
    """Bytes by key, those that were kept last, up to a size."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: dict[K, bytes] = {}
        self._size_bytes = 0

    def get(self, key: K) -> bytes | None:
        """What is kept under `key`."""
        return self._kept.get(key)

    def keep(self, key: K, value: bytes) -> bytes:
        """Keep `value`, which is given back; the oldest make room for it."""
        self._kept[key] = value
        self._size_bytes += len(value)
        while self._size_bytes > self._max_bytes:
            self._size_bytes -= len(self._kept.pop(next(iter(self._kept))))
        return value
