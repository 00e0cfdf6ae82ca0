"""The token that a request for a WebSocket shows: in a header, or where a browser cannot set one, as a subprotocol.

Phoenix' JavaScript client offers its `authToken` beside the subprotocol that it speaks, in base64 without padding:

    Sec-WebSocket-Protocol: phoenix, base64url.bearer.phx.dGxfLi4u

Source: RFC 6750, section 2.1; Phoenix 1.8, guide "Channels", and the `Socket` of its JavaScript client.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Final

from thunderline.core.errors import Unauthenticated

PHOENIX_PREFIX: Final = "base64url.bearer.phx."
_SCHEME: Final = "bearer "
_TO_STANDARD: Final = str.maketrans("-_", "+/")


def bearer_in(headers: Mapping[bytes, bytes]) -> str | None:
    """The token in `Authorization`; None without one. Raises: Unauthenticated for another scheme."""
    shown = headers.get(b"authorization")
    if shown is None:
        return None
    text = shown.decode("latin-1")
    if text[: len(_SCHEME)].lower() != _SCHEME:
        raise Unauthenticated("Authorization: should be `Bearer TOKEN`")
    return text[len(_SCHEME) :].strip(" ")


def offered_token(subprotocols: Iterable[str]) -> str | None:
    """The token among the subprotocols that a client offers; None without one.

    Raises: Unauthenticated for more than one, or one that cannot be read.
    """
    found = [name.removeprefix(PHOENIX_PREFIX) for name in subprotocols if name.startswith(PHOENIX_PREFIX)]
    if not found:
        return None
    if len(found) > 1:
        raise Unauthenticated("Sec-WebSocket-Protocol: two tokens are offered; offer one")
    # The name says base64url, the client writes plain base64: either is read.
    text = found[0].translate(_TO_STANDARD)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise Unauthenticated("Sec-WebSocket-Protocol: what is offered as a token is not base64 of one") from error
