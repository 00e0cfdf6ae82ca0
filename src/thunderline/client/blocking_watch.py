"""The blocking client's watch: events as they come, over connections that it makes again by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

import httpx

from thunderline.client.errors import ClientError
from thunderline.client.events import ToldEvent
from thunderline.client.exchange import check_stream, naming_failures, refused, stream_options
from thunderline.client.following import Following

if TYPE_CHECKING:
    from thunderline.client.blocking import BlockingClient


class BlockingWatch:
    """An iterator of events; made by `BlockingClient.watch`, closed at the end of its `with`.

    Interrupting a wait for the next event loses none. One thread iterates it.
    """

    def __init__(
        self,
        client: BlockingClient,
        http: httpx.Client,
        following: Following,
        *,
        timeout_s: float,
        sleep: Callable[[float], object],
    ) -> None:
        """Use `BlockingClient.watch`."""
        self._client = client
        self._http = http
        self._following = following
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._response: httpx.Response | None = None
        self._pieces: Iterator[bytes] | None = None
        self._closed = False

    @property
    def cursor(self) -> str | None:
        """Watching from here goes on behind the last event that was given; None before the first connection."""
        return self._following.cursor

    def __enter__(self) -> Self:
        # So that "from now on" begins with the block, and a server that is not there is told before it.
        try:
            self._connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ToldEvent:
        while not self._closed:
            if (event := self._following.next_event()) is not None:
                return event
            try:
                self._following.heard(self._piece())
            except ClientError as error:
                self._disconnect()
                self._sleep(self._following.lost(error))
            except BaseException:
                # Interrupted: what was under way on this connection cannot be taken up again.
                self._disconnect()
                raise
        raise StopIteration

    def close(self) -> None:
        """Close the connection and end the iteration; idempotent."""
        self._closed = True
        self._disconnect()

    def _piece(self) -> bytes:
        pieces = self._pieces or self._connect()
        with naming_failures(self._client.url, timeout_s=self._timeout_s):
            piece = next(pieces, None)
        if piece is None:
            raise self._following.ended()
        return piece

    def _connect(self) -> Iterator[bytes]:
        following, url = self._following, self._client.url
        if following.cursor is None:
            following.cursor = self._client.cursor()
        options = stream_options(following.query, following.cursor, timeout_s=self._timeout_s)
        with naming_failures(url, timeout_s=self._timeout_s):
            self._response = self._http.send(self._http.build_request(**options), stream=True)
            if not self._response.is_success:
                self._response.read()
                raise refused(url, self._response)
        check_stream(url, self._response)
        self._pieces = self._response.iter_bytes()
        following.connected()
        return self._pieces

    def _disconnect(self) -> None:
        response, self._response, self._pieces = self._response, None, None
        if response is not None:
            response.close()
