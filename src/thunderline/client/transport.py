"""What carries a link: the seam between `Link` and a socket, or whatever stands in for one in a test."""

from __future__ import annotations

from abc import ABC, abstractmethod


class Connection(ABC):
    """One connection, with messages that arrive whole and in order, or not at all.

    One task at a time sends, one at a time receives, and the two may be at it together.
    """

    @property
    @abstractmethod
    def subprotocol(self) -> str:
        """The encoding that both ends agreed on: one of `wire.frames.SUBPROTOCOLS`."""

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Hand one message to the connection; returning says nothing of its arrival.

        Waits while too much is on the way. Raises: ConnectionLost.
        """

    @abstractmethod
    async def receive(self) -> bytes:
        """The next message. What arrived before the connection was closed comes first.

        A cancelled call takes no message. Raises: ConnectionLost with the other end's close code and reason.
        """

    @abstractmethod
    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close properly, and wait a bounded time for the other end to agree; never raises, may be repeated."""

    @abstractmethod
    def abort(self) -> None:
        """Drop the connection at once; never raises, may be repeated."""


class Transport(ABC):
    """Makes connections to a server's link endpoint."""

    @abstractmethod
    async def connect(self, url: str, *, token: str | None = None) -> Connection:
        """A new connection to the server whose API is at `url`, e.g. `http://127.0.0.1:4040`.

        `token` is shown with the request for it. The caller closes it. A cancelled call leaves nothing open.

        Raises: ServerUnreachable when nothing answers; ServerUntrusted when what answers cannot show that it is the
        server; ServerRefused when it answers with a problem; NotThunderline for any other answer, a redirect included;
        InvalidInput naming `url` for one that is no server's.
        """
