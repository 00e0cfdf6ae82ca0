"""The asynchronous client's watch: events as they come, over connections that it makes again by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

import httpx

from thunderline.client.errors import ClientError
from thunderline.client.events import ToldEvent
from thunderline.client.exchange import check_stream, naming_failures, refused, stream_options
from thunderline.client.following import Following
from thunderline.core.clock import Clock

if TYPE_CHECKING:
    from thunderline.client.http import Client


class Watch:
    """An async iterator of events; made by `Client.watch`, closed at the end of its `async with`.

    Cancelling a wait for the next event loses none. One task iterates it.
    """

    def __init__(
        self, client: Client, http: httpx.AsyncClient, following: Following, *, timeout_s: float, clock: Clock
    ) -> None:
        """Use `Client.watch`."""
        self._client = client
        self._http = http
        self._following = following
        self._timeout_s = timeout_s
        self._clock = clock
        self._response: httpx.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None
        self._closed = False

    @property
    def cursor(self) -> str | None:
        """Watching from here goes on behind the last event that was given; None before the first connection."""
        return self._following.cursor

    async def __aenter__(self) -> Self:
        # So that "from now on" begins with the block, and a server that is not there is told before it.
        try:
            await self._connect()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ToldEvent:
        while not self._closed:
            if (event := self._following.next_event()) is not None:
                return event
            try:
                self._following.heard(await self._piece())
            except ClientError as error:
                await self._disconnect()
                await self._clock.sleep(self._following.lost(error))
            except BaseException:
                # Cancelled: what was under way on this connection cannot be taken up again.
                await self._disconnect()
                raise
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Close the connection and end the iteration; idempotent."""
        self._closed = True
        await self._disconnect()

    async def _piece(self) -> bytes:
        pieces = self._pieces or await self._connect()
        with naming_failures(self._client.url, timeout_s=self._timeout_s):
            piece = await anext(pieces, None)
        if piece is None:
            raise self._following.ended()
        return piece

    async def _connect(self) -> AsyncIterator[bytes]:
        following, url = self._following, self._client.url
        if following.cursor is None:
            following.cursor = await self._client.cursor()
        options = stream_options(following.query, following.cursor, timeout_s=self._timeout_s)
        with naming_failures(url, timeout_s=self._timeout_s):
            self._response = await self._http.send(self._http.build_request(**options), stream=True)
            if not self._response.is_success:
                await self._response.aread()
                raise refused(url, self._response)
        check_stream(url, self._response)
        self._pieces = self._response.aiter_bytes()
        following.connected()
        return self._pieces

    async def _disconnect(self) -> None:
        response, self._response, self._pieces = self._response, None, None
        if response is not None:
            await response.aclose()
