"""How many requests are taken from one caller: a bucket for each, which fills again as time passes.

A bucket is kept as one number, the moment at which it is full again. Of those that are kept at once there is a bound,
beyond which the one that was used the longest time ago is forgotten, which fills it: memory is bounded before callers
are. Source: the generic cell rate algorithm of ITU-T I.371, and draft-ietf-httpapi-ratelimit-headers-10 for the
headers.
"""

from __future__ import annotations

import ipaddress
import math
from typing import Final

from thunderline.core.clock import Clock
from thunderline.core.errors import RateLimited
from thunderline.core.settings import Settings

BURST_S: Final = 10
"""So many seconds' worth may come at once."""

NODES_MAX: Final = 100_000
CALLERS_MAX: Final = 20_000
"""Buckets that are kept at once, about 150 bytes each."""

_ROUNDING_S: Final = 1e-9
"""An error in the last digit must not cost a request."""

Headers = tuple[tuple[bytes, bytes], ...]


class Limit:
    """One bucket for each key, all of one size."""

    def __init__(self, name: str, what: str, per_second: float, *, clock: Clock, keys_max: int) -> None:
        """`name` stands in headers, `what` in errors."""
        self._clock = clock
        self._keys_max = keys_max
        self._spacing_s = 1 / per_second
        self._full_at: dict[str, float] = {}
        quota = math.floor(per_second * BURST_S)
        self._words = f"{per_second:g} {what}, or {quota} at once"
        self._name = f'"{name}"'.encode()
        self._policy = (b"ratelimit-policy", b"%b;q=%d;w=%d" % (self._name, quota, BURST_S))

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: str) -> float:
        """Count a request: 0 if it is taken, else the seconds until one is; such a one costs nothing."""
        now = self._clock.monotonic()
        full_at = self._full_at.pop(key, now)
        after_s = max(0.0, full_at - now) + self._spacing_s
        wait_s = after_s - BURST_S - _ROUNDING_S
        if wait_s > 0:
            self._full_at[key] = full_at
            return wait_s
        self._full_at[key] = now + after_s
        if len(self._full_at) > self._keys_max:
            del self._full_at[next(iter(self._full_at))]
        return 0.0

    def error(self, wait_s: float) -> RateLimited:
        """What the caller of a request that is one too many is told."""
        return RateLimited(self._words, retry_after_s=math.ceil(wait_s * 10) / 10)

    def headers(self, key: str, wait_s: float) -> Headers:
        """What the answer to a request tells of its bucket, once it was counted: `r` requests are taken at once; `t`
        seconds until it is full, or, of a request that is refused, until the next one is taken."""
        now = self._clock.monotonic()
        missing_s = max(0.0, self._full_at.get(key, now) - now)
        left = 0 if wait_s else math.floor((BURST_S - missing_s) / self._spacing_s + _ROUNDING_S)
        until_s = math.ceil(wait_s or missing_s)
        return ((b"ratelimit", b"%b;r=%d;t=%d" % (self._name, left, until_s)), self._policy)


class Limits:
    """Those of one server."""

    def __init__(self, settings: Settings, *, clock: Clock) -> None:
        per_token, per_address = settings.requests_per_second_token, settings.requests_per_second_address
        self.tokens = Limit("token", "requests a second with one token", per_token, clock=clock, keys_max=CALLERS_MAX)
        """By the token's id."""
        self.addresses = Limit(
            "address",
            "requests a second from one address without a good token",
            per_address,
            clock=clock,
            keys_max=CALLERS_MAX,
        )
        """By `site_of` the address."""
        self.beats = Limit(
            "node",
            "heartbeats a second of one node",
            settings.heartbeats_per_second_node,
            clock=clock,
            keys_max=NODES_MAX,
        )
        """By the node's id."""


def is_loopback(address: str | None) -> bool:
    """Whether it is this machine itself."""
    if address in ("127.0.0.1", "::1"):
        return True
    try:
        return address is not None and ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
