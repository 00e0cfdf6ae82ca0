"""Which heartbeats of a node were already taken: a sliding window over sequence numbers.

Source: the anti-replay window of RFC 4303, section 3.4.3, here to keep a retried beat from being kept twice.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

WINDOW: Final = 1024
"""Numbers below the highest that are still told apart: what a client may have in flight or in a backlog."""

_ALL: Final = (1 << WINDOW) - 1


class Taken(Enum):
    """What a sequence number is to a window."""

    NEW = "new"
    REPEATED = "repeated"
    TOO_OLD = "too_old"


class SequenceWindow:
    """The numbers taken of one incarnation."""

    __slots__ = ("_mask", "high")

    def __init__(self, high: int | None = None, mask: bytes = b"") -> None:
        self.high = high
        # Bit i stands for the number high - i; bit 0 is always set once there is a high.
        self._mask = int.from_bytes(mask, "little")

    def look(self, seq: int) -> Taken:
        """What `seq` would be; changes nothing."""
        if self.high is None or seq > self.high:
            return Taken.NEW
        distance = self.high - seq
        if distance >= WINDOW:
            return Taken.TOO_OLD
        return Taken.REPEATED if self._mask >> distance & 1 else Taken.NEW

    def take(self, seq: int) -> None:
        """Remember `seq`; again, or too old: nothing happens."""
        if self.high is None:
            self.high, self._mask = seq, 1
        elif seq > self.high:
            ahead = seq - self.high
            kept = 0 if ahead >= WINDOW else self._mask << ahead & _ALL
            self.high, self._mask = seq, kept | 1
        elif self.high - seq < WINDOW:
            self._mask |= 1 << (self.high - seq)

    def mask(self) -> bytes:
        """The window's bits, to be given back to the constructor."""
        return self._mask.to_bytes((self._mask.bit_length() + 7) // 8, "little")
