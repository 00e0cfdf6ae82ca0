"""Sets of names that are read in order, and sorted lists that are mended rather than made anew."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, TypeVar

K = TypeVar("K", bound=Any)

MANY: Final = 16
"""Changes from which on a list is put together anew, which is cheaper than a move of half of it for each."""

_FIRST_SLICE: Final = 256


class Names:
    """A set of names, sorted when it is first read in order, and kept so as it changes.

    Changes are noted as they come and put in their places by the next reading; when more have changed than it would
    cost to sort anew, the order is let go until then.
    """

    __slots__ = ("_changed", "_sorted", "members")

    def __init__(self, members: Iterable[str] = ()) -> None:
        self.members = set(members)
        """To be read by anybody, changed by `add`, `discard` and `replace` alone."""
        self._sorted: list[str] | None = None
        self._changed: set[str] = set()

    def __len__(self) -> int:
        return len(self.members)

    def add(self, name: str) -> None:
        """Take the name in."""
        self.members.add(name)
        if self._sorted is not None:
            self._note(name)

    def discard(self, name: str) -> None:
        """Leave the name out."""
        self.members.discard(name)
        if self._sorted is not None:
            self._note(name)

    def replace(self, members: set[str]) -> None:
        """Be these."""
        self.members = members
        self._forget_order()

    def in_order(self) -> Sequence[str]:
        """All, ascending, as of now; not to be held over a change."""
        if self._sorted is None:
            self._sorted = sorted(self.members)
        elif self._changed:
            self._mend(self._sorted)
        return self._sorted

    def walk(self, *, after: str | None = None, prefix: str | None = None) -> Iterator[str]:
        """Those beyond `after` that begin with `prefix`, ascending; to be used up before anything changes."""
        names = self.in_order()
        start = 0 if after is None else bisect_right(names, after)
        end = len(names)
        if prefix is not None:
            start = max(start, bisect_left(names, prefix))
            end = bisect_right(names, prefix, lo=start, key=lambda name: name[: len(prefix)])
        return chain.from_iterable(_slices(names, start, end))

    def _note(self, name: str) -> None:
        self._changed.add(name)
        if 2 * len(self._changed) > len(self.members) + MANY:
            # Also the end of an order that nobody asks for any more.
            self._forget_order()

    def _forget_order(self) -> None:
        self._sorted = None
        self._changed = set()

    def _mend(self, names: list[str]) -> None:
        gone: list[str] = []
        come: list[str] = []
        for name in self._changed:
            place = bisect_left(names, name)
            was_there = place < len(names) and names[place] == name
            if was_there is not (name in self.members):
                (gone if was_there else come).append(name)
        self._changed = set()
        self._sorted = mended(names, gone=gone, come=come)


def _slices(names: Sequence[str], start: int, end: int) -> Iterator[Sequence[str]]:
    """The names from `start` to `end` in slices that grow: most readers stop in the first."""
    size = _FIRST_SLICE
    while start < end:
        yield names[start : min(start + size, end)]
        start += size
        size *= 2


def mended(keys: list[K], *, gone: list[K], come: list[K]) -> list[K]:
    """Sorted `keys` without `gone`, which are all in it, and with `come`; the same list or another one."""
    if len(gone) + len(come) > MANY:
        return _spliced(keys, sorted(gone), sorted(come))
    for key in gone:
        del keys[bisect_left(keys, key)]
    for key in come:
        insort(keys, key)
    return keys


def _spliced(keys: list[K], gone: list[K], come: list[K]) -> list[K]:
    """The same, all sorted: whole stretches are taken over at once."""
    left: list[K] = []
    start = 0
    for key in gone:
        end = bisect_left(keys, key, start)
        left += keys[start:end]
        start = end + 1
    left += keys[start:]
    merged: list[K] = []
    start = 0
    for key in come:
        end = bisect_left(left, key, start)
        merged += left[start:end]
        merged.append(key)
        start = end
    merged += left[start:]
    return merged
