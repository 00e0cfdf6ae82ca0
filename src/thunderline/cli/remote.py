"""One server, asked by a command through the blocking client; its errors become those of the command line.

Nothing is tried twice, except that a watch goes on: the person at the terminal decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from thunderline.cli.failures import NoAnswer, NoServer, NotThunderline, RemoteError, ServerRefused
from thunderline.client import errors
from thunderline.client.answers import N, NodePage
from thunderline.client.calls import NODES_PAGE, Call
from thunderline.client.errors import ClientError
from thunderline.client.events import ToldEvent
from thunderline.core.clock import SystemClock
from thunderline.core.errors import InvalidInput

T = TypeVar("T")
Query = Sequence[tuple[str, str | int]]

ANSWER_TIMEOUT_S: Final = 30.0

OPTIONS: Final = {"url": "--server", "token_file": "--token-file", "ca": "--ca"}
"""What a person gave, by the argument of the client that it became."""

_CURSOR_FIELD: Final = "Last-Event-ID"
"""How a stream's cursor travels, which nobody at a terminal has heard of."""


class Remote:
    """The server at `url`, for the length of a `with` block; `warn` is told once if its answers may be stale.

    `token_file` and `ca` are as given on the command line; None: as the environment says. Raises: RemoteError for files
    that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        token_file: Path | None = None,
        ca: Path | None = None,
        warn: Callable[[str], None],
        answer_timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        # Imported here: httpx takes as long as all else together, which --help need not wait for.
        from thunderline.client.blocking import BlockingClient

        self.url = url
        self.now = SystemClock().now()
        """The server's time at its last answer, so that "4s ago" holds on a machine whose clock is wrong, too."""
        self._warn: Callable[[str], None] | None = warn
        try:
            self._client = BlockingClient(url, token_file=token_file, ca=ca, timeout_s=answer_timeout_s)
        except InvalidInput as error:
            raise RemoteError(f"{OPTIONS.get(error.field, error.field)}: {error.problem}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._client.close()

    def get(self, path: str, kind: type[T], query: Query = ()) -> T:
        """What `path` answers, read as a `kind`; `msgspec.Raw` is the body as it came. Raises: RemoteError."""
        return self.ask(Call("GET", path, kind, query=tuple((name, str(value)) for name, value in query)))

    def delete(self, path: str, kind: type[T]) -> T:
        """What deleting `path` answers. Raises: RemoteError."""
        return self.ask(Call("DELETE", path, kind))

    def node_pages(self, kind: type[NodePage[N]], query: Query = (), *, limit: int | None) -> Iterator[NodePage[N]]:
        """The nodes that match, page by page, `limit` of them at most. Raises: RemoteError."""
        cursor: str | None = None
        remaining = limit
        while remaining is None or remaining > 0:
            size = NODES_PAGE if remaining is None else min(NODES_PAGE, remaining)
            place = () if cursor is None else (("cursor", cursor),)
            page = self.get("/api/nodes", kind, (*query, ("limit", size), *place))
            yield page
            cursor = page.next_cursor
            if cursor is None:
                return
            if remaining is not None:
                remaining -= len(page.nodes)

    @contextmanager
    def watch(
        self, pattern: str, since: str | None, *, damped: bool = False, say: Callable[[str], None]
    ) -> Iterator[Iterator[ToldEvent]]:
        """Events that match, after `since` or from now on, for ever; `say` is told of a server that went and came back.

        The block begins once the server is connected. Raises: RemoteError.
        """
        with (
            retold(options={_CURSOR_FIELD: "--since"}),
            self._client.watch(
                pattern,
                since,
                damped=damped,
                on_lost=lambda error: say(f"lost the server at {self.url} ({_reason(error)}); trying again"),
                on_back=lambda: say("the server answers again; nothing was missed"),
            ) as events,
        ):
            yield iter(events)

    def ask(self, call: Call[T]) -> T:
        """What `call` answers. Raises: RemoteError."""
        with retold():
            answer = self._client.ask(call)
        self.now = answer.served_at or SystemClock().now()
        if self._warn is not None and answer.stale_s is not None:
            self._warn(f"the server's store is away; what it shows may be {answer.stale_s} s behind")
            self._warn = None
        return answer.value


@contextmanager
def retold(*, options: Mapping[str, str] | None = None) -> Iterator[None]:
    """A block whose ClientErrors are told with what to do at a terminal; `options` names those that fields come from.

    Raises: RemoteError.
    """
    try:
        yield
    except errors.ServerUnreachable as error:
        raise NoServer(error.url, reason=error.reason) from error
    except errors.AnswerLost as error:
        raise NoAnswer(error.url, reason=error.reason) from error
    except errors.NotThunderline as error:
        raise NotThunderline(error.url, reason=error.reason) from error
    except errors.ServerRefused as error:
        raise ServerRefused(error, option=(options or {}).get(error.field or "")) from error
    except ClientError as error:
        raise RemoteError(str(error)) from error


def _reason(error: ClientError) -> str:
    if isinstance(error, errors.ServerUnreachable | errors.AnswerLost):
        return error.reason or "connection refused"
    return str(error)
