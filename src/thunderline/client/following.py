"""Where a watch stands, and what it does next, without doing it: both clients' watches are driven by this.

A watch is connected again for as long as it takes, after a random time that grows from failure to failure. What it is
given then begins exactly behind what it had. Only a failure before the first connection, and a refusal that would come
again, end it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from thunderline.client.backoff import Backoff
from thunderline.client.errors import (
    AnswerLost,
    ClientError,
    ListAgain,
    NotThunderline,
    Problem,
    ServerUnavailable,
    ServerUnreachable,
)
from thunderline.client.events import CUT_EVENT, RESET_EVENT, Message, MessageReader, ToldEvent, read_event

FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 30.0

_PASSING: Final = (ServerUnreachable, AnswerLost, ServerUnavailable)

_SILENT_END: Final = "the stream ended"
_ENDS: Final = {
    "watch_cut": "this watcher fell behind and was cut off",
    "watch_stalled": "this watcher read nothing for too long and was cut off",
    "shutting_down": "it is shutting down",
    "token_revoked": "this watcher's token was revoked",
    "token_expired": "this watcher's token has expired",
}

OnLost = Callable[[ClientError], None]
OnBack = Callable[[], None]


class _Cut(msgspec.Struct, frozen=True):
    code: str


class Following:
    """The state of one watch. `cursor` is the place behind the last event that was given, or after it."""

    def __init__(
        self,
        url: str,
        *,
        pattern: str,
        transient: bool | None,
        damped: bool,
        since: str | None,
        rng: random.Random,
        on_lost: OnLost | None,
        on_back: OnBack | None,
    ) -> None:
        self.cursor = since
        self.query = {"match": pattern}
        if transient is not None:
            self.query["transient"] = "true" if transient else "false"
        if damped:
            self.query["damped"] = "true"
        self._url = url
        self._backoff = Backoff(rng, base_s=FIRST_WAIT_S, cap_s=LONGEST_WAIT_S)
        self._on_lost = on_lost
        self._on_back = on_back
        self._reader = MessageReader()
        self._waiting: deque[Message] = deque()
        self._was_connected = False
        self._end = _SILENT_END
        self._lost = False

    def connected(self) -> None:
        """A stream has begun."""
        self._reader = MessageReader()
        self._waiting.clear()
        self._end = _SILENT_END
        self._was_connected = True

    def heard(self, piece: bytes) -> None:
        """Take a piece of the stream. Raises: NotThunderline."""
        try:
            found = self._reader.feed(piece)
        except ValueError as error:
            raise NotThunderline(self._url, reason=str(error)) from error
        if found:
            # Not before the server said something: one that accepts and hangs up at once would be asked without pause.
            self._backoff.reset()
            if self._lost and found[0].event != RESET_EVENT:
                self._lost = False
                if self._on_back is not None:
                    self._on_back()
        self._waiting += found

    def next_event(self) -> ToldEvent | None:
        """The next event that is here already. Raises: NotThunderline, ListAgain."""
        while self._waiting:
            message = self._waiting.popleft()
            event = None
            if message.event == CUT_EVENT:
                self._end = self._why(message)
            elif message.event == RESET_EVENT:
                raise self._reset(message)
            elif message.data is not None:
                event = self._read(message)
            # Together with giving the event, and not before it: who goes on from the cursor must not miss it.
            self.cursor = message.id or self.cursor
            if event is not None:
                return event
        return None

    def lost(self, error: ClientError) -> float:
        """Seconds to wait before the next attempt. Raises: `error` itself, where another attempt is no use."""
        if not self._was_connected or not isinstance(error, _PASSING):
            raise error
        if not self._lost and self._on_lost is not None:
            self._on_lost(error)
        self._lost = True
        least_s = error.retry_after_s or 0.0 if isinstance(error, ServerUnavailable) else 0.0
        return least_s + self._backoff.next_s()

    def ended(self) -> AnswerLost:
        """The failure that the end of a stream is."""
        return AnswerLost(self._url, reason=self._end)

    def _why(self, message: Message) -> str:
        try:
            cut = msgspec.json.decode(message.data or b"", type=_Cut)
        except msgspec.DecodeError as error:
            raise NotThunderline(self._url, reason=str(error)) from error
        return _ENDS.get(cut.code) or f"it ended the stream: {cut.code}"

    def _reset(self, message: Message) -> ClientError:
        try:
            return ListAgain(msgspec.json.decode(message.data or b"", type=Problem))
        except msgspec.DecodeError as error:
            return NotThunderline(self._url, reason=str(error))

    def _read(self, message: Message) -> ToldEvent:
        try:
            return read_event(message.data or b"", cursor=message.id)
        except msgspec.DecodeError as error:
            raise NotThunderline(self._url, reason=str(error)) from error
