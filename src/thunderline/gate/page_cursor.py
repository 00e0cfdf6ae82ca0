"""Keyset cursors of lists: where the page before ended, bound to the filter and the order that it was made for."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

import msgspec

from thunderline.core.errors import InvalidInput

_CURSOR: Final = msgspec.msgpack.Decoder(tuple[bytes, str])


def write_page_cursor(last: str, wanted: msgspec.Struct) -> str:
    """The cursor behind the item whose key is `last`, in a list of what `wanted` asks for."""
    packed = msgspec.msgpack.encode((_fingerprint(wanted), last))
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def read_page_cursor(text: str, wanted: msgspec.Struct) -> str:
    """The key behind which the page goes on. Raises: InvalidInput."""
    try:
        padded = text.encode() + b"=" * (-len(text) % 4)
        fingerprint, last = _CURSOR.decode(base64.urlsafe_b64decode(padded))
    except (ValueError, msgspec.DecodeError) as error:
        raise InvalidInput("cursor", "is not one that a list gave") from error
    if fingerprint != _fingerprint(wanted):
        raise InvalidInput("cursor", "belongs to a list with other filters; start without a cursor")
    return last


def _fingerprint(wanted: msgspec.Struct) -> bytes:
    return hashlib.blake2b(msgspec.json.encode(wanted, order="deterministic"), digest_size=6).digest()
