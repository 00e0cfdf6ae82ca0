"""What every request passes before any route: `Host`, `Origin`, the doorkeeper, content type and size.

A plain ASGI layer, so that routes which go around the framework pass it too.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, Final

import msgspec

from thunderline.core.errors import (
    BodyTooLarge,
    HostRefused,
    InvalidInput,
    OriginRefused,
    ThunderlineError,
    WrongContentType,
)
from thunderline.gate.doorkeeper import ACTOR, SEND_FROM_A_PAGE, Doorkeeper
from thunderline.gate.faults import PROBLEM_TYPE, Problem, plain_problem, problem_headers, problem_of
from thunderline.gate.limits import Headers
from thunderline.gate.methods import is_batch

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON_TYPE: Final = b"application/json"
MERGE_PATCH_TYPE: Final = b"application/merge-patch+json"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_SINGLE: Final = (b"host", b"origin", b"authorization", b"cookie", b"content-type", b"idempotency-key")
REACH_A_HOST: Final = "reach a host"
"""What the audit log calls a request for a host that is not ours."""
_KNOWN_HOSTS_MAX: Final = 256


class HostRules:
    """For which hosts this server answers, and to which origins' pages."""

    def __init__(self, allowed: Iterable[str]) -> None:
        """`allowed` names hosts besides `localhost` and loopback addresses."""
        self._allowed = frozenset(host.lower() for host in allowed)
        # `Host` values that passed: parsing one costs more than all the rest of the edge's checks.
        self._known: set[bytes] = set()

    def check_host(self, host: bytes) -> None:
        """Return if requests for `host` are ours to answer. Raises: HostRefused."""
        if host in self._known:
            return
        text = host.decode("latin-1")
        name = text.rpartition(":")[0] if ":" in text and not text.endswith("]") else text
        name = name.lower().strip("[]")
        if not (name == "localhost" or name in self._allowed or _is_loopback(name)):
            raise HostRefused(text)
        if len(self._known) < _KNOWN_HOSTS_MAX:
            self._known.add(host)

    def check_origin(self, origin: bytes | None, *, scheme: str, host: bytes) -> None:
        """Return if the request is of no page, or of one of ours. Raises: OriginRefused."""
        if origin is not None and origin != scheme.encode() + b"://" + host:
            raise OriginRefused(origin.decode("latin-1"))


class Edge:
    """Refuses what no route should see; all else goes on to `app`, `HEAD` as the `GET` whose body is left out."""

    def __init__(
        self,
        app: AsgiApp,
        *,
        rules: HostRules,
        doorkeeper: Doorkeeper,
        body_max_bytes: int,
        batch_body_max_bytes: int = 0,
    ) -> None:
        self._app = app
        self._rules = rules
        self._doorkeeper = doorkeeper
        self._body_max_bytes = body_max_bytes
        self._batch_body_max_bytes = max(batch_body_max_bytes, body_max_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        if len(headers) != len(scope["headers"]) and (name := _repeated(scope["headers"])) is not None:
            # One of two would win here and the other elsewhere; which of them was checked must not be a question.
            detail = f"{name.decode()} is given more than once"
            await send_refusal(send, plain_problem(HTTPStatus.BAD_REQUEST, detail))
            return
        method: str = scope["method"]
        client = scope.get("client")
        address: str | None = None if client is None else client[0]
        told: Headers = ()
        try:
            self._check_source(scope, headers, address)
            visit = self._doorkeeper.meet(
                headers, address=address, method=method, path=scope["path"], scheme=scope["scheme"]
            )
            told = visit.headers
            if visit.error is None and method not in _SAFE:
                receive = self._checked(scope, headers, receive)
        except ThunderlineError as error:
            await send_problem(send, error, headers=told)
            return
        if visit.error is not None:
            await send_problem(send, visit.error, headers=told)
            return
        scope[ACTOR] = visit.actor
        if told:
            send = _telling(told, send)
        if method == "HEAD":
            head = _Head(receive, send)
            await self._app({**scope, "method": "GET"}, head.receive, head.send)
            return
        await self._app(scope, receive, send)

    def _check_source(self, scope: Scope, headers: dict[bytes, bytes], address: str | None) -> None:
        host = headers.get(b"host", b"")
        try:
            self._rules.check_host(host)
            # A page of another site may read, as anybody may who needs no token; with a cookie it would be as somebody.
            if scope["method"] not in _SAFE or (self._doorkeeper.asks and b"cookie" in headers):
                self._rules.check_origin(headers.get(b"origin"), scheme=scope["scheme"], host=host)
        except HostRefused as error:
            raise self._doorkeeper.refuse(error, REACH_A_HOST, address=address) from None
        except OriginRefused as error:
            raise self._doorkeeper.refuse(error, SEND_FROM_A_PAGE, address=address) from None

    def _checked(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive) -> Receive:
        length = headers.get(b"content-length")
        if length is None and b"transfer-encoding" not in headers:
            return receive
        if length == b"0":
            return receive
        _check_content_type(scope["method"], headers.get(b"content-type", b""))
        if length is None:
            return _counting(receive, self._limit_bytes(scope))
        if not length.isdigit() or int(length) > self._body_max_bytes:
            limit_bytes = self._limit_bytes(scope)
            if not length.isdigit() or int(length) > limit_bytes:
                raise BodyTooLarge(limit_bytes)
        return receive

    def _limit_bytes(self, scope: Scope) -> int:
        return self._batch_body_max_bytes if is_batch(scope["method"], scope["path"]) else self._body_max_bytes


def _telling(told: Headers, send: Send) -> Send:
    """`send`, whose answer has these headers, too."""

    def telling(message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *told]
        return send(message)

    return telling


def _repeated(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    names = [name for name, _ in headers]
    return next((name for name in _SINGLE if names.count(name) > 1), None)


class _Head:
    """An answer without its body. A stream, whose body would not end, is told that its client has gone."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._answered = asyncio.Event()

    async def send(self, message: Message) -> None:
        if self._answered.is_set():
            return
        if message["type"] == "http.response.body":
            self._answered.set()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def receive(self) -> Message:
        received = asyncio.ensure_future(self._receive())
        answered = asyncio.ensure_future(self._answered.wait())
        try:
            await asyncio.wait([received, answered], return_when=asyncio.FIRST_COMPLETED)
            return received.result() if received.done() else {"type": "http.disconnect"}
        finally:
            received.cancel()
            answered.cancel()


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _check_content_type(method: str, content_type: bytes) -> None:
    bare = content_type.partition(b";")[0].strip().lower()
    if bare == JSON_TYPE or (method == "PATCH" and bare == MERGE_PATCH_TYPE):
        return
    raise WrongContentType(content_type.decode("latin-1"))


def _counting(receive: Receive, limit_bytes: int) -> Receive:
    """`receive`, raising BodyTooLarge once more than `limit_bytes` of body came: a chunked one has no length."""
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        return message

    return counted


async def read_body(receive: Receive) -> bytes:
    """The whole body of a request that the edge let through. Raises: BodyTooLarge, InvalidInput."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise InvalidInput("body", "the client went away before the end of the body")
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body
    parts = [body]
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidInput("body", "the client went away before the end of the body")
        parts.append(message.get("body", b""))
    return b"".join(parts)


async def send_json(
    send: Send,
    status: int,
    body: bytes,
    *,
    content_type: bytes = JSON_TYPE,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Send one whole answer."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [
                (b"content-type", content_type),
                (b"content-length", str(len(body)).encode()),
                *headers,
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})


async def send_problem(send: Send, error: ThunderlineError, *, headers: Headers = ()) -> None:
    """Send what the caller is told of `error`; with `headers` beside those that go with it."""
    await send_refusal(send, problem_of(error), headers=headers)


async def send_refusal(send: Send, problem: Problem, *, headers: Headers = ()) -> None:
    """Send a problem."""
    told = [(name.encode(), value.encode()) for name, value in problem_headers(problem)]
    await send_json(
        send,
        problem.status,
        msgspec.json.encode(problem),
        content_type=PROBLEM_TYPE.encode(),
        headers=[*told, *headers],
    )
