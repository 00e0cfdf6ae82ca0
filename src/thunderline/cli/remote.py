"""One server, asked over HTTP. What it does not answer, or not as our API does, is an error that says what to do.

Nothing is tried twice: the person at the terminal decides. Proxies that the environment names are not used, they
would capture loopback.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar
from urllib.parse import quote

import msgspec

from thunderline.cli.answers import N, NodePage
from thunderline.cli.failures import NoAnswer, NoServer, NotThunderline, Problem, RemoteError, ServerRefused
from thunderline.core.clock import SystemClock

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
Query = Sequence[tuple[str, str | int]]

CONNECT_TIMEOUT_S: Final = 5.0
ANSWER_TIMEOUT_S: Final = 30.0
PAGE_SIZE: Final = 1_000
"""Nodes asked for at a time: about 1 MB of answer, which keeps the server's loop busy for a few milliseconds."""

PROBLEM_TYPE: Final = "application/problem+json"
JSON_TYPE: Final = "application/json"
STALE_HEADER: Final = "x-thunderline-stale-seconds"


class Remote:
    """The server at `url`, for the length of a `with` block; `warn` is told once if its answers may be stale."""

    def __init__(self, url: str, *, warn: Callable[[str], None], answer_timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        # Imported here and in `_send`: it takes as long as all else together, which --help need not wait for.
        import httpx

        self.url = url
        self.now = SystemClock().now()
        """The server's time at its last answer, so that "4s ago" holds on a machine whose clock is wrong, too."""
        self._warn: Callable[[str], None] | None = warn
        self._answer_timeout_s = answer_timeout_s
        self._client = httpx.Client(
            base_url=url,
            timeout=httpx.Timeout(answer_timeout_s, connect=min(CONNECT_TIMEOUT_S, answer_timeout_s)),
            trust_env=False,
            headers={"accept": f"{JSON_TYPE}, {PROBLEM_TYPE}"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._client.close()

    def get(self, path: str, kind: type[T], query: Query = ()) -> T:
        """What `path` answers, read as a `kind`; `msgspec.Raw` is the body as it came. Raises: RemoteError."""
        return self._ask("GET", path, kind, query)

    def delete(self, path: str, kind: type[T]) -> T:
        """What deleting `path` answers. Raises: RemoteError."""
        return self._ask("DELETE", path, kind, ())

    def node_pages(self, kind: type[NodePage[N]], query: Query = (), *, limit: int | None) -> Iterator[NodePage[N]]:
        """The nodes that match, page by page, `limit` of them at most. Raises: RemoteError."""
        cursor: str | None = None
        remaining = limit
        while remaining is None or remaining > 0:
            size = PAGE_SIZE if remaining is None else min(PAGE_SIZE, remaining)
            place = () if cursor is None else (("cursor", cursor),)
            page = self.get("/api/nodes", kind, (*query, ("limit", size), *place))
            yield page
            cursor = page.next_cursor
            if cursor is None:
                return
            if remaining is not None:
                remaining -= len(page.nodes)

    def _ask(self, method: str, path: str, kind: type[T], query: Query) -> T:
        response = self._send(method, path, query)
        if response.status_code != 200:
            raise _refusal(self.url, response)
        self._note(response.headers)
        try:
            # As text: a body that is taken as it came is not looked into, and must still be UTF-8.
            return msgspec.json.decode(response.content.decode(), type=kind)
        except msgspec.ValidationError as error:
            raise NotThunderline(self.url, reason=str(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NotThunderline(self.url, reason=_not_json(response)) from error

    def _send(self, method: str, path: str, query: Query) -> httpx.Response:
        import httpx

        try:
            return self._client.request(method, path, params=list(query) or None)
        except httpx.ConnectTimeout as error:
            raise NoServer(self.url, reason="no answer to the attempt to connect") from error
        except httpx.ConnectError as error:
            reason = re.sub(r"^\[Errno -?\d+\] ", "", str(error))
            raise NoServer(self.url, reason=None if reason == "Connection refused" else reason) from error
        except httpx.TimeoutException as error:
            raise NoAnswer(self.url, reason=f"waited {self._answer_timeout_s:g} s") from error
        except httpx.NetworkError as error:
            raise NoAnswer(self.url, reason="the connection broke") from error
        except httpx.RemoteProtocolError as error:
            if "disconnected" in str(error):
                raise NoAnswer(self.url, reason="the connection broke") from error
            raise NotThunderline(self.url, reason=str(error)) from error
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise NotThunderline(self.url, reason=str(error)) from error

    def _note(self, headers: Mapping[str, str]) -> None:
        self.now = _served_at(headers.get("date")) or SystemClock().now()
        if self._warn is not None and (stale_s := headers.get(STALE_HEADER)) is not None:
            self._warn(f"the server's store is away; what it shows may be {stale_s} s behind")
            self._warn = None


def node_path(ref: str) -> str:
    """The path of the node with this id or name."""
    return f"/api/nodes/{quote(ref, safe='')}"


def _refusal(url: str, response: httpx.Response) -> RemoteError:
    if response.headers.get("content-type", "").startswith(PROBLEM_TYPE):
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
            return ServerRefused(msgspec.json.decode(response.content, type=Problem))
    return NotThunderline(url, reason=_not_json(response))


def _not_json(response: httpx.Response) -> str:
    content_type = response.headers.get("content-type", "no content type").partition(";")[0]
    return f"HTTP {response.status_code}, {content_type}"


def _served_at(date: str | None) -> datetime | None:
    try:
        return None if date is None else parsedate_to_datetime(date).astimezone(UTC)
    except ValueError:
        return None
