"""When certificates expire. Source: RFC 5280, section 4.1, and X.690 for DER; nothing else of them is read."""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from typing import Final

_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE: Final = 0x30
_VERSION: Final = 0xA0
_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18


def expiry_of(pem: bytes) -> datetime | None:
    """When the first of the certificates in it expires; None where none can be read."""
    found = []
    for match in _PEM.finditer(pem):
        try:
            found.append(_not_after(base64.b64decode(match[1])))
        except (ValueError, IndexError, binascii.Error):
            continue
    return min(found, default=None)


def _not_after(der: bytes) -> datetime:
    certificate = _items(_inside(der))[0][1]
    fields = _items(certificate)
    if fields[0][0] == _VERSION:
        fields = fields[1:]
    # serialNumber, signature, issuer, validity
    tag, validity = fields[3]
    if tag != _SEQUENCE:
        raise ValueError
    tag, text = _items(validity)[1]
    if tag == _UTC_TIME:
        # Years from 50 on are of the century before, and `%y` turns at 69.
        year = int(text[:2])
        return _read(f"{1900 + year if year >= 50 else 2000 + year}{text[2:].decode('ascii')}")
    if tag != _GENERALIZED_TIME:
        raise ValueError
    return _read(text.decode("ascii"))


def _read(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)


def _inside(der: bytes) -> bytes:
    [(tag, content)] = _items(der)
    if tag != _SEQUENCE:
        raise ValueError
    return content


def _items(der: bytes) -> list[tuple[int, bytes]]:
    """Tags and contents of what stands one after another."""
    items, place = [], 0
    while place < len(der):
        tag, length, place = der[place], der[place + 1], place + 2
        if length & 0x80:
            size = length & 0x7F
            length, place = int.from_bytes(der[place : place + size], "big"), place + size
        if place + length > len(der):
            raise ValueError
        items.append((tag, der[place : place + length]))
        place += length
    return items
