"""What a connection passes before anything that it sends is read: whether it may come in, and for whom it speaks.

A proxy of `behind_proxy` speaks for its clients, request by request; with such proxies, only they and this machine may
come in. Of connections from one address there are so many at most. What is refused goes to the audit log.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, assert_never

from thunderline.core.errors import NotPermitted, RateLimited
from thunderline.core.logging import get_logger
from thunderline.core.sites import site_of
from thunderline.gate.proxies import Address, Proxies, address_of
from thunderline.link.actor import NOBODY
from thunderline.link.refusals import Refusals

log = get_logger(__name__)

CONNECT: Final = "connect"
"""What the audit log calls it."""

_FORWARDED_FOR: Final = b"x-forwarded-for"
_FORWARDED_PROTO: Final = b"x-forwarded-proto"


class Entrance:
    """The entrance of one server. It keeps one number for each address that is connected, and nothing of others."""

    def __init__(self, proxies: Proxies, *, connections_max: int, refusals: Refusals) -> None:
        self.proxies = proxies
        self._connections_max = connections_max
        self._refusals = refusals
        self.entered = self.left = 0
        """Connections since the start, and those of them that have ended."""
        self._counts: dict[str, int] = {}

    def enter(self, peer: str | None) -> Place:
        """A place for a connection from there. Raises: RateLimited when that address has its share of them."""
        address = None if peer is None else address_of(peer)
        outside = Sender.STRANGER if self.proxies else Sender.CLIENT
        if address is None:
            return Place(self, None, outside)
        if self.proxies.are_at(address):
            return Place(self, address, Sender.PROXY)
        if address.is_loopback:
            return Place(self, address, Sender.CLIENT)
        counted = site_of(str(address))
        count = self._counts.get(counted, 0)
        if count >= self._connections_max:
            error = RateLimited(f"{self._connections_max} connections from one address are open")
            self._refusals.note(error, action=CONNECT, address=counted)
            raise error
        self._counts[counted] = count + 1
        return Place(self, address, outside, counted=counted)

    def leave(self, counted: str) -> None:
        """One connection less from there."""
        left = self._counts[counted] - 1
        if left:
            self._counts[counted] = left
        else:
            del self._counts[counted]

    def refuse(self, address: str | None, problem: str) -> NotPermitted:
        """The error for a connection, or a request, that may not come in; noted."""
        error = NotPermitted(address or str(NOBODY), problem)
        self._refusals.note(error, action=CONNECT, address=address)
        return error


class Sender(StrEnum):
    """Who is at the other end of a connection."""

    CLIENT = "client"
    PROXY = "proxy"
    STRANGER = "stranger"
    """A client where only proxies may come in."""


class Place:
    """One connection, from its beginning to its end. `address` is who is connected; None where that is not known."""

    __slots__ = ("_counted", "_entrance", "_is_local", "_is_open", "_sender", "address", "is_plain")

    def __init__(
        self, entrance: Entrance, address: Address | None, sender: Sender, *, counted: str | None = None
    ) -> None:
        entrance.entered += 1
        self._is_open = True
        self._entrance = entrance
        self._sender = sender
        self._counted = counted
        self._is_local = address is not None and address.is_loopback
        self.address = None if address is None else str(address)
        self.is_plain = sender is Sender.CLIENT
        """Whether all requests are of `address`, in the scheme of the connection."""

    def client_of(self, headers: Iterable[tuple[bytes, bytes]], *, scheme: str) -> tuple[str | None, str]:
        """The address of who sent a request, and the scheme that they speak; `scheme` is that of the connection.

        Raises: NotPermitted for a stranger, and for one whose proxy says that it came unencrypted.
        """
        match self._sender:
            case Sender.CLIENT:
                return self.address, scheme
            case Sender.STRANGER:
                raise self._entrance.refuse(
                    self.address, "connect here: this server answers its proxies alone, which behind_proxy lists"
                )
            case Sender.PROXY:
                return self._client_of_proxy(headers, scheme)
            case _:
                assert_never(self._sender)

    def _client_of_proxy(self, headers: Iterable[tuple[bytes, bytes]], scheme: str) -> tuple[str | None, str]:
        forwarded_for, forwarded_proto = _joined(headers, _FORWARDED_FOR), _joined(headers, _FORWARDED_PROTO)
        if forwarded_for is None and forwarded_proto is None and self._is_local:
            return self.address, scheme  # somebody on the machine that the proxy runs on, too
        address = self._entrance.proxies.client_of(self.address, forwarded_for)
        spoken = self._entrance.proxies.scheme_of(forwarded_proto)
        if spoken != "https":
            raise self._entrance.refuse(
                address,
                "send requests over plain HTTP, which X-Forwarded-Proto says of this one; use https, and let the proxy "
                "redirect what is not",
            )
        return address, spoken

    def leave(self) -> None:
        """The connection has ended. Idempotent."""
        if self._is_open:
            self._is_open = False
            self._entrance.left += 1
        counted, self._counted = self._counted, None
        if counted is not None:
            self._entrance.leave(counted)


def _joined(headers: Iterable[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    values = [value for name, value in headers if name == wanted]
    return b",".join(values) if values else None
