"""HTTP/1.1 on a connection: uvicorn's protocol, with an end to what one connection may ask of the server.

A request for a WebSocket hands the connection over to that WebSocket's protocol. Any other upgrade is ignored, as RFC
9110 section 7.8 lets a server do, and its request is answered in HTTP/1.1. The head of a request is bounded in size,
and head and body together in time. How long an answer takes to be read is not bounded here.

Here, too, a request gets its client's address and scheme, so that nothing behind it need know of proxies: they stand in
its scope, or in what the WebSocket's protocol is given.
"""

from __future__ import annotations

import asyncio
from functools import partial
from http import HTTPStatus
from typing import Any, Final, cast

import httptools
import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from thunderline.core.errors import NotPermitted, RateLimited
from thunderline.gate.entrance import Entrance, Place
from thunderline.gate.faults import PROBLEM_TYPE, Problem, plain_problem, problem_of
from thunderline.gate.upgrades import Upgrades
from thunderline.gate.websocket import UpgradeRequest

HEAD_MAX_BYTES: Final = 32 * 1024
"""URL and headers of one request. Ours take a few hundred bytes; more lets proxies in front add theirs."""

RECEIVE_TIMEOUT_S: Final = 30.0
"""For the first byte on a connection, and from the first byte of a request to its last. A body is 64 KiB at most, so
that this cuts off only who does not mean to finish; raising it lets them hold a connection for longer."""

LINGER_S: Final = 1.0
"""How long what a refused client still sends is read and dropped: closing at once would reset the connection, and the
answer would be lost with it."""


class _HeadTooLarge(Exception):
    """The head of the request that is being parsed is over the bound."""


class Answers:
    """Where answers are written: after the client has gone, nowhere. Between that and the moment at which a cycle
    learns of it, uvloop raises for what is written."""

    __slots__ = ("_transport",)

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._transport.close()


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection. It closes those that send too large a head, or too slowly."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        entrance: Entrance | None = None,
        place: Place | None = None,
    ) -> None:
        """`place` is the connection's, where it came by the entrance already; without an `entrance` all come in."""
        super().__init__(config, server_state, app_state, _loop)
        self._entrance = entrance
        self._place = place
        self.was_connected = False
        self._timer: asyncio.TimerHandle | None = None
        # Loop time since when a request, or the first byte, is awaited; None while nothing is.
        self._awaited_since: float | None = None
        self._in_body = False
        self._upgrading = False
        self._refused = False
        self._chunk_bytes = 0
        # Bytes that the parser was fed since it last came forward: what it gathers without telling is at most these.
        self._withheld_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.was_connected = True
        self._answers = Answers(transport)
        peer, port = self.client or (None, 0)
        if self._place is None and self._entrance is not None:
            try:
                self._place = self._entrance.enter(peer)
            except RateLimited:
                self._refused = True
                transport.abort()
                return
        if self._place is not None and self._place.address is not None:
            self.client = self._place.address, port
        self._awaited_since = self.loop.time()
        self._timer = self.loop.call_later(RECEIVE_TIMEOUT_S, self._check_time)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()
        if self._place is not None:
            self._place.leave()

    def data_received(self, data: bytes) -> None:
        left: bytes | memoryview = data
        # More than once only behind an upgrade.
        while left and not self._refused:
            left = self._feed(left)

    def _feed(self, data: bytes | memoryview) -> bytes | memoryview:
        """Parse `data`; gives what is left of it to parse."""
        self._chunk_bytes = len(data)
        self._withheld_bytes += self._chunk_bytes
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            rest = memoryview(data)[upgrade.args[0] :]
            if self._wants_websocket():
                self._hand_over(rest)
                return b""
            self._ignore_upgrade()
            return rest
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, _HeadTooLarge):
                self._refuse_head()
            elif isinstance(error.__context__, NotPermitted):
                self._answer_and_close(problem_of(error.__context__))
            else:
                self._refuse(HTTPStatus.BAD_REQUEST, "this is not HTTP/1.1")
        else:
            if self._withheld_bytes > HEAD_MAX_BYTES:
                self._refuse_head()
        return b""

    def on_message_begin(self) -> None:
        # Not at every byte that comes: empty lines between requests must not keep a connection open.
        self._unset_keepalive_if_required()
        self._awaited_since = self.loop.time()
        self._in_body = False
        self._withheld_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        # Adding up all headers costs more than asking first whether so much has come at all.
        if self._chunk_bytes + self._withheld_bytes > HEAD_MAX_BYTES and self._head_bytes() > HEAD_MAX_BYTES:
            raise _HeadTooLarge
        if self._place is not None and not self._place.is_plain:
            address, scheme = self._place.client_of(self.headers, scheme=self.scope["scheme"])
            self.scope["client"] = None if address is None else (address, 0)
            self.scope["scheme"] = scheme
        if self.parser.should_upgrade():
            self._upgrading = True
            return
        super().on_headers_complete()
        self.cycle.transport = self._answers  # type: ignore[assignment]  # all that a cycle does is in it
        # Not before: a URL that cannot be parsed raises, and the cycle is still the request's before.
        self._in_body = True

    def on_body(self, body: bytes) -> None:
        self._withheld_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        self._withheld_bytes = 0
        self._awaited_since = None
        self._in_body = False
        super().on_message_complete()

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _wants_websocket(self) -> bool:
        asked = (self.parser.get_method(), self.parser.get_http_version())
        return self._should_upgrade() and asked == (b"GET", "1.1")

    def _hand_over(self, rest: memoryview) -> None:
        """Let a WebSocket's protocol have the connection, and what came behind the request."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._refuse(HTTPStatus.BAD_REQUEST, "an upgrade must wait for the answers to the requests before it")
            return
        try:
            url = httptools.parse_url(self.url)
        except httptools.HttpParserInvalidURLError:
            self._refuse(HTTPStatus.BAD_REQUEST, "the URL cannot be read")
            return
        # Until it is its turn, nothing more is read, and the connection may be lost.
        self.transport.pause_reading()
        cast(Upgrades, self.ws_protocol_class).turns.take(partial(self._upgrade, url, bytes(rest)))

    def _upgrade(self, url: Any, rest: bytes) -> None:
        if self._refused or self.transport.is_closing():
            return
        self.transport.resume_reading()
        path = (url.path or b"/").decode("latin-1")
        upgrades = cast(Upgrades, self.ws_protocol_class)
        protocol = upgrades.protocol_at(path, self.server_state)
        if protocol is None:
            self._refuse(HTTPStatus.NOT_FOUND, f"no WebSocket is served at {path}; {upgrades.served()}")
            return
        if self._timer is not None:
            self._timer.cancel()
        self.connections.discard(self)
        self.parser = None  # type: ignore[assignment]  # as uvicorn ends it; it refers back to us
        self.transport.set_protocol(protocol)
        client = self.scope["client"]
        request = UpgradeRequest(
            path=path,
            query=(url.query or b"").decode("latin-1"),
            headers=self.headers,
            scheme=self.scope["scheme"],
            address=None if client is None else client[0],
            place=self._place,
        )
        protocol.upgrade(self.transport, request)
        if rest:
            protocol.data_received(rest)

    def _ignore_upgrade(self) -> None:
        """Parse the request again without its wish. The parser stops after such a head and would skip the body."""
        self._upgrading = False
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(HTTPStatus.BAD_REQUEST, "this server is no proxy")
            return
        version = self.parser.get_http_version().encode()
        head = [method, b" ", self.url, b" HTTP/", version, b"\r\n"]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(token for token in tokens if token.lower() != b"upgrade")
            if name != b"upgrade":
                head += [name, b": ", value, b"\r\n"]
        head.append(b"\r\n")
        awaited_since = self._awaited_since
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets it
        self._feed(b"".join(head))
        if self._awaited_since is not None:
            self._awaited_since = awaited_since

    def _check_time(self) -> None:
        now = self.loop.time()
        if self._awaited_since is None:
            due = now + RECEIVE_TIMEOUT_S
        elif self.flow.read_paused:
            # It is the server that does not read; the client's time begins when it does.
            self._awaited_since = now
            due = now + RECEIVE_TIMEOUT_S
        else:
            due = self._awaited_since + RECEIVE_TIMEOUT_S
            if due <= now:
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"a request must be sent within {RECEIVE_TIMEOUT_S:g} s")
                return
        self._timer = self.loop.call_at(due, self._check_time)

    def _refuse_head(self) -> None:
        self._refuse(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"URL and headers may take {HEAD_MAX_BYTES} bytes together"
        )

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        self._answer_and_close(plain_problem(status, detail))

    def _answer_and_close(self, problem: Problem) -> None:
        """Take nothing more, answer and close; only close where the answer would pass for another request's."""
        self._refused = True
        self._unset_keepalive_if_required()
        if self._timer is not None:
            self._timer.cancel()
        if self.transport.is_closing():
            return
        cycle = self.cycle
        unanswered = cycle is not None and not cycle.response_complete
        if unanswered and not self._in_body:
            # The requests before this one are whole: they are answered, and the last answer closes.
            cycle.keep_alive = False
            return
        if unanswered:
            # What works on this request must not write behind the end.
            cycle.disconnected = True
            cycle.waiting_for_100_continue = False
            cycle.message_event.set()
        if self._in_body and (not unanswered or cycle.response_started or self.pipeline):
            self.transport.close()
            return
        self.flow.resume_reading()
        body = msgspec.json.encode(problem)
        headers = [
            *self.server_state.default_headers,
            (b"content-type", PROBLEM_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(STATUS_LINE[problem.status] + lines + b"\r\n" + body)
        if self.transport.can_write_eof():  # TLS cannot say it
            self.transport.write_eof()
        self._timer = self.loop.call_later(LINGER_S, self.transport.close)
