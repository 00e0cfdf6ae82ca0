"""HTTP/1.1 on a connection whose client may read nothing: what it was sent then neither hangs nor holds up an end.

An answer that is a stream finds `DROP` among its scope's extensions and calls it to be rid of such a client, with a
last part of the answer or without. At the end of the server a connection whose last answer is not taken within
`UNREAD_S` is dropped, too.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Final

from thunderline.gate.protocol import BoundedHttpProtocol

DROP: Final = "thunderline.drop"
"""The extension of a request's scope: a function that ends its connection. The last part of the answer, if it is given
one, goes behind what is on its way, and the client has `LAST_UNREAD_S` to take it; else all that is lost at once."""

LAST_UNREAD_S: Final = 30.0
"""How long the last part of an answer waits for a client that read nothing. Raising it lets those that sleep for longer
learn why they were given up, and holds what is on its way to them, some 100 KiB, for as long."""

BOUND: Final = "thunderline.bound"
"""The extension of a request's scope: a function that bounds what the system keeps on its way to the client."""

STREAM_SEND_BYTES: Final = 64 * 1024
"""That bound; Linux takes twice as much, its own records included. Without one the system grows it to megabytes for
each client that reads nothing. A client that is 100 ms away still gets more than half a megabyte a second."""

UNREAD_S: Final = 2.0
"""How long a server that stops waits for a client to take the rest of an answer that is complete."""


class StreamHttpProtocol(BoundedHttpProtocol):
    """One connection, which its answer may drop."""

    _stopping = False

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {DROP: self._end, BOUND: self._bound}  # type: ignore[dict-item]  # as uvicorn types those that it knows

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

    def _end(self, last: bytes) -> None:
        if not last or self.transport.is_closing() or not self.cycle.chunked_encoding:
            self._drop()
            return
        self.transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last))
        self.transport.close()
        self.loop.call_later(UNREAD_S if self._stopping else LAST_UNREAD_S, self._drop)

    def _bound(self) -> None:
        if (connected := self.transport.get_extra_info("socket")) is not None:
            # The client may have hung up meanwhile, and its socket be closed.
            with contextlib.suppress(OSError):
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, STREAM_SEND_BYTES)

    def _drop(self) -> None:
        self.transport.abort()
