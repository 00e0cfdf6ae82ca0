"""What the two clients have in common: how a request leaves, how its answer is read, what each failure is called.

Nothing is tried twice here, and no redirect is followed: it could lead a token elsewhere. Proxies that the environment
names are not used, they would capture loopback.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Generic, TypeVar

import httpx
import msgspec

from thunderline.client.calls import Call
from thunderline.client.errors import (
    AnswerLost,
    ClientError,
    NotThunderline,
    Problem,
    ServerUnreachable,
    ServerUntrusted,
    refusal,
)
from thunderline.client.trust import Trust, untrusted

T = TypeVar("T")

CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 30.0
STREAM_SILENCE_S: Final = 45.0
"""A stream says something every 15 s; one that missed three turns has lost its server without being told."""

JSON_TYPE: Final = "application/json"
PROBLEM_TYPE: Final = "application/problem+json"
STREAM_TYPE: Final = "text/event-stream"
STALE_HEADER: Final = "x-thunderline-stale-seconds"

_GATEWAY: Final = frozenset({502, 503, 504})
"""In words that are not ours: a proxy's, whose server did not answer it."""


class Answer(msgspec.Struct, Generic[T], frozen=True):
    """What a call gave; `served_at` is the server's time then, `stale_s` how old it may be while the store is away."""

    value: T
    served_at: datetime | None
    stale_s: str | None
    tag: str | None = None
    """The entity tag of what was answered, as `if_match` takes it; None where the server names none."""


def http_options(url: str, timeout_s: float, trust: Trust) -> dict[str, Any]:
    """The options of either kind of httpx client."""
    return {
        "base_url": url,
        "timeout": httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
        "trust_env": False,
        # Where there is no TLS, one that trusts nobody: a client loads no authorities that it does not ask.
        "verify": trust.tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        "follow_redirects": False,
        "headers": {"accept": f"{JSON_TYPE}, {PROBLEM_TYPE}", **trust.headers},
    }


def request_options(call: Call[T]) -> dict[str, Any]:
    """`call` as the arguments of an httpx client's `request`."""
    return {
        "method": call.method,
        "url": call.path,
        # An empty list would leave a lone question mark in some versions.
        "params": list(call.query) or None,
        "content": call.body,
        "headers": {**dict(call.headers), **({} if call.body is None else {"content-type": JSON_TYPE})} or None,
    }


def stream_options(query: Mapping[str, str], cursor: str | None, *, timeout_s: float) -> dict[str, Any]:
    """A request for a stream of events as the arguments of an httpx client's `build_request`."""
    place = {} if cursor is None else {"last-event-id": cursor}
    return {
        "method": "GET",
        "url": "/api/events",
        "params": dict(query),
        # Problems come as JSON whatever is accepted; a page of events must not.
        "headers": {"accept": STREAM_TYPE, "cache-control": "no-store", **place},
        "timeout": httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s), read=STREAM_SILENCE_S),
    }


def read_answer(url: str, call: Call[T], response: httpx.Response) -> Answer[T]:
    """What `response`, which is read whole, says to `call`. Raises: ServerRefused, NotThunderline."""
    if not response.is_success:
        raise refused(url, response)
    headers = response.headers
    served_at, stale_s = _served_at(headers.get("date")), headers.get(STALE_HEADER)
    body = response.content
    try:
        # As text: a body that is taken as it came is not looked into, and must still be UTF-8.
        text = "null" if call.kind is type(None) and not body else body.decode()
        return Answer(msgspec.json.decode(text, type=call.kind), served_at, stale_s, headers.get("etag"))
    except msgspec.ValidationError as error:
        raise NotThunderline(url, reason=str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotThunderline(url, reason=_seen(response)) from error


def check_stream(url: str, response: httpx.Response) -> None:
    """Return if `response` is the head of a stream. Raises: NotThunderline."""
    if response.status_code != 200 or not response.headers.get("content-type", "").startswith(STREAM_TYPE):
        raise NotThunderline(url, reason=f"{_seen(response)} where a stream of events should be")


def refused(url: str, response: httpx.Response) -> ClientError:
    """The error that a response, which is read whole, stands for."""
    if response.headers.get("content-type", "").startswith(PROBLEM_TYPE):
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            return refusal(msgspec.json.decode(response.content, type=Problem))
    if response.status_code in _GATEWAY:
        return AnswerLost(url, reason=_seen(response))
    return NotThunderline(url, reason=_seen(response))


@contextlib.contextmanager
def naming_failures(url: str, *, timeout_s: float) -> Iterator[None]:
    """A block in which httpx is used.

    Raises: ServerUnreachable, ServerUntrusted, AnswerLost, NotThunderline in place of its errors.
    """
    try:
        yield
    except httpx.ConnectTimeout as error:
        raise ServerUnreachable(url, reason="no answer to the attempt to connect") from error
    except httpx.PoolTimeout as error:
        raise ServerUnreachable(url, reason="every connection of this client is in use") from error
    except httpx.ConnectError as error:
        if (why := untrusted(error)) is not None:
            raise ServerUntrusted(url, reason=why) from error
        reason = re.sub(r"^\[Errno -?\d+\] ", "", str(error))
        # asyncio tells of a refused connection in words of its own.
        known = reason in ("Connection refused", "All connection attempts failed")
        raise ServerUnreachable(url, reason=None if known else reason) from error
    except httpx.TimeoutException as error:
        raise AnswerLost(url, reason=f"waited {timeout_s:g} s") from error
    except httpx.NetworkError as error:
        raise AnswerLost(url, reason="the connection broke") from error
    except httpx.RemoteProtocolError as error:
        if "disconnected" in str(error) or "closed connection" in str(error):
            raise AnswerLost(url, reason="the connection broke") from error
        raise NotThunderline(url, reason=str(error)) from error
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise NotThunderline(url, reason=str(error)) from error


def _seen(response: httpx.Response) -> str:
    content_type = response.headers.get("content-type", "no content type").partition(";")[0]
    return f"HTTP {response.status_code}, {content_type}"


def _served_at(date: str | None) -> datetime | None:
    try:
        return None if date is None else parsedate_to_datetime(date).astimezone(UTC)
    except ValueError:
        return None
