"""Keyset cursors of lists: where the page before ended, bound to the filter and the order that it was made for."""

from __future__ import annotations

import base64
import hashlib
from typing import Final, TypeVar

import msgspec

from thunderline.core.errors import InvalidInput

K = TypeVar("K")

_CURSOR: Final = msgspec.msgpack.Decoder(tuple[bytes, msgspec.Raw])


def write_page_cursor(last: object, listed: msgspec.Struct) -> str:
    """The cursor behind the item whose key is `last`, in a list of what `listed` asks for."""
    packed = msgspec.msgpack.encode((_fingerprint(listed), last))
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def read_page_cursor(text: str, listed: msgspec.Struct, kind: type[K]) -> K:
    """The key behind which the page goes on, a `kind`. Raises: InvalidInput."""
    try:
        padded = text.encode() + b"=" * (-len(text) % 4)
        fingerprint, last = _CURSOR.decode(base64.urlsafe_b64decode(padded))
        key = msgspec.msgpack.decode(last, type=kind)
    except (ValueError, RecursionError, msgspec.DecodeError) as error:
        raise InvalidInput("cursor", "is not one that a list gave") from error
    if fingerprint != _fingerprint(listed):
        raise InvalidInput("cursor", "belongs to a list with other filters or another order; start without a cursor")
    return key


def _fingerprint(listed: msgspec.Struct) -> bytes:
    return hashlib.blake2b(msgspec.json.encode(listed, order="deterministic"), digest_size=6).digest()
