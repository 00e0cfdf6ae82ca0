"""Pieces of JSON in the order of their keys, put together in runs of some hundred.

A change makes one run anew; the rest is handed out as it is, so that a large document costs what changed in it, and is
never copied as a whole. What was handed out never changes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Final, Generic, TypeVar

RUN: Final = 256
"""Pieces in a run, up to twice as many: some 100 KB of nodes. A change costs a run; an answer one write for each."""

K = TypeVar("K", bound=str)


class _Run(Generic[K]):
    def __init__(self, keys: list[K], pieces: list[bytes]) -> None:
        self.keys = keys
        self.pieces = pieces
        self.joined: bytes | None = None
        """With a comma in front; None since a piece has changed."""


class Pieces(Generic[K]):
    """Pieces by key."""

    def __init__(self, items: Iterable[tuple[K, bytes]] = ()) -> None:
        """`items` are in ascending order of their keys."""
        everything = list(items)
        self._runs = [
            _Run([key for key, _ in part], [piece for _, piece in part])
            for part in (everything[start : start + RUN] for start in range(0, len(everything), RUN))
        ]
        self._firsts = [run.keys[0] for run in self._runs]

    def put(self, key: K, piece: bytes) -> None:
        """Add a piece, or put it in the place of the one with that key."""
        if not self._runs:
            self._runs = [_Run([key], [piece])]
            self._firsts = [key]
            return
        at = max(bisect_right(self._firsts, key) - 1, 0)
        run = self._runs[at]
        place = bisect_left(run.keys, key)
        run.joined = None
        if place < len(run.keys) and run.keys[place] == key:
            run.pieces[place] = piece
            return
        run.keys.insert(place, key)
        run.pieces.insert(place, piece)
        self._firsts[at] = run.keys[0]
        if len(run.keys) > 2 * RUN:
            self._runs.insert(at + 1, _Run(run.keys[RUN:], run.pieces[RUN:]))
            self._firsts.insert(at + 1, run.keys[RUN])
            del run.keys[RUN:], run.pieces[RUN:]

    def drop(self, key: K) -> None:
        """Take the piece with that key away, if there is one."""
        at = bisect_right(self._firsts, key) - 1
        if at < 0:
            return
        run = self._runs[at]
        place = bisect_left(run.keys, key)
        if place == len(run.keys) or run.keys[place] != key:
            return
        run.joined = None
        del run.keys[place], run.pieces[place]
        if run.keys:
            self._firsts[at] = run.keys[0]
        else:
            del self._runs[at], self._firsts[at]

    def joined(self) -> list[bytes]:
        """All pieces with commas between, in parts to be written one after another."""
        parts = []
        for run in self._runs:
            if run.joined is None:
                run.joined = b"," + b",".join(run.pieces)
            parts.append(run.joined)
        if parts:
            parts[0] = parts[0][1:]
        return parts
