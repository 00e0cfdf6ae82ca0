"""Proxies that speak for their clients: who they are, and what is believed of what they say.

Only `X-Forwarded-For` and `X-Forwarded-Proto` are read, and only on connections from `behind_proxy`. What a client
itself writes into them stands left of what its proxy adds, so they are read from the right.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final, TypeAlias

from thunderline.core.errors import SettingsError

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

HOPS_MAX: Final = 16
"""Proxies that a request may have come by; what stands further left is not looked at."""

_TEXT_MAX: Final = 64
_SECURE: Final = frozenset({b"https", b"wss"})
"""Some proxies name the scheme of a WebSocket."""
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")


def address_of(text: str) -> Address | None:
    """The address in `text`, which may hold a port, and brackets; None where it is none.

    One of IPv4 in the form of IPv6, as a socket for both shows it, is the address of IPv4.
    """
    if len(text) > _TEXT_MAX:
        return None
    if text.startswith("["):
        text, bracket, port = text[1:].partition("]")
        if not bracket or (port and not _is_port(port)):
            return None
    elif text.count(":") == 1:
        text, _, port = text.partition(":")
        if not _is_port(f":{port}"):
            return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_port(text: str) -> bool:
    return text.startswith(":") and text.isascii() and text[1:].isdigit() and int(text[1:]) <= 65_535


def networks_of(given: Iterable[str]) -> tuple[Network, ...]:
    """The networks that the setting `behind_proxy` names. Raises: SettingsError."""
    return tuple(_network(text) for text in given)


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        try:
            meant = f"; did you mean {ipaddress.ip_network(text, strict=False)}?"
        except ValueError:
            meant = ""
        raise SettingsError(
            "behind_proxy",
            f"{text!r} is no network; it should look like 10.0.0.0/24, fd00::/64 or 10.0.0.1{meant}",
            source="behind_proxy",
        ) from error
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        mapped = network.network_address.ipv4_mapped
        assert mapped is not None  # all of that network are
        network = ipaddress.ip_network((mapped, network.prefixlen - _MAPPED.prefixlen))
    if network.prefixlen == 0 or (isinstance(network, ipaddress.IPv6Network) and network.supernet_of(_MAPPED)):
        raise SettingsError(
            "behind_proxy",
            f"{text} is every address there is, so that anybody could say who they are; name the proxies' own networks",
            source="behind_proxy",
        )
    return network


class Proxies:
    """The proxies of `behind_proxy`; without any, nobody is believed and nobody refused."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        """Raises: SettingsError for one that cannot be used."""
        self._networks = networks_of(networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def are_at(self, address: Address) -> bool:
        """Whether one of them speaks from there."""
        return any(address.version == network.version and address in network for network in self._networks)

    def client_of(self, peer: str | None, forwarded_for: bytes | None) -> str | None:
        """Who is behind a request of `peer`: the last address that is no proxy's; None where that is not known.

        What is no address ends the search: nothing left of it can be told from a client's invention.
        """
        address = None if peer is None else address_of(peer)
        if address is None:
            return None
        if forwarded_for is not None and self.are_at(address):
            for entry in reversed(forwarded_for.rsplit(b",", HOPS_MAX)[-HOPS_MAX:]):
                found = address_of(entry.strip().decode("latin-1"))
                if found is None:
                    break
                address = found
                if not self.are_at(address):
                    break
        return str(address)

    def scheme_of(self, forwarded_proto: bytes | None) -> str:
        """What the client of a proxy speaks. One that does not say is believed to do what it is there for: `https`."""
        if forwarded_proto is None:
            return "https"
        return "https" if forwarded_proto.rpartition(b",")[2].strip().lower() in _SECURE else "http"
