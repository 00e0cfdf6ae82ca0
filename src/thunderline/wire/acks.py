"""Which beats of one link are durable, as one cumulative number."""

from __future__ import annotations


class Acks:
    """The beats that came and are not durable yet. `due` never passes one of them, whatever was kept after it.

    A beat that was refused for now is owed: the node sends it again, and until it is durable the number stands still.
    """

    __slots__ = ("_ascending", "_highest", "_pending", "_told", "in_flight")

    def __init__(self) -> None:
        self.in_flight = 0
        """How many are on their way to the store; the others that are pending are owed."""
        # seq -> how many times it is on its way.
        self._pending: dict[int, int] = {}
        self._highest: int | None = None
        # While beats come in ascending order, as they should, the lowest pending one is the first.
        self._ascending = True
        self._told = True

    @property
    def owed(self) -> int:
        """How many were refused for now and have not come again; fewer if some are on their way twice."""
        return max(0, len(self._pending) - self.in_flight)

    def received(self, seq: int) -> None:
        """A beat came and is on its way to the store."""
        self.in_flight += 1
        if self._highest is None or seq > self._highest:
            self._highest = seq
        elif self._pending and seq not in self._pending:
            self._ascending = False
        self._pending[seq] = self._pending.get(seq, 0) + 1

    def settled(self, seq: int) -> None:
        """The beat is durable, or refused for good, which an error has told."""
        if (times := self._pending.pop(seq, None)) is None:
            return
        self.in_flight -= times
        self._told = False
        if not self._pending:
            self._ascending = True

    def postponed(self, seq: int) -> None:
        """The beat was refused for now."""
        if times := self._pending.get(seq):
            self._pending[seq] = times - 1
            self.in_flight -= 1

    def due(self) -> int | None:
        """The number to tell; None while there is nothing new to tell."""
        if self._told or self._highest is None:
            return None
        self._told = True
        if not self._pending:
            return self._highest
        lowest = next(iter(self._pending)) if self._ascending else min(self._pending)
        return lowest - 1 if lowest > 0 else None
