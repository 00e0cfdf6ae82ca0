"""What counts as one place in the network: an address, of IPv6 the /64 that one customer has at least."""

from __future__ import annotations

import ipaddress
from typing import Final

NOWHERE: Final = ""
"""Stands for all addresses that are not known."""

_SITE_BITS: Final = 64


def site_of(address: str | None) -> str:
    """The place of an address, as text; what is no address is `NOWHERE`."""
    if address is None:
        return NOWHERE
    if ":" not in address:
        return address
    try:
        read = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return NOWHERE
    if read.ipv4_mapped is not None:
        return str(read.ipv4_mapped)
    return str(ipaddress.IPv6Network((read, _SITE_BITS), strict=False).network_address)
