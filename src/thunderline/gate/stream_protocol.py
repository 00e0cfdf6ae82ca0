"""HTTP/1.1 on a connection whose client may read nothing: what it was sent then neither hangs nor holds up an end.

An answer that is a stream finds `DROP` among its scope's extensions and calls it to be rid of such a client. At the
end of the server a connection whose last answer is not taken within `UNREAD_S` is dropped, too.
"""

from __future__ import annotations

from typing import Final

from thunderline.gate.protocol import BoundedHttpProtocol

DROP: Final = "thunderline.drop"
"""The extension of a request's scope: a function that drops its connection at once, with all that was not taken."""

UNREAD_S: Final = 2.0
"""How long a server that stops waits for a client to take the rest of an answer that is complete."""


class StreamHttpProtocol(BoundedHttpProtocol):
    """One connection, which its answer may drop."""

    _stopping = False

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {DROP: self._drop}  # type: ignore[dict-item]  # as uvicorn types those that it knows

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._stopping:
            self._drop_unread()

    def shutdown(self) -> None:
        self._stopping = True
        super().shutdown()
        self._drop_unread()

    def _drop_unread(self) -> None:
        if self.transport.is_closing():
            self.loop.call_later(UNREAD_S, self._drop)

    def _drop(self) -> None:
        self.transport.abort()
