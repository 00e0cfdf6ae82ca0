"""The beats of a node that are not acknowledged: what it has to be able to send again.

    add()        a beat is taken          -> waiting
    next_live()  sent as of now           waiting -> carried
    next_late()  sent with its age        waiting, refused -> carried
    refuse()     refused for now          carried -> refused
    forget()     refused for good         carried, refused -> given up
    ack()        durable                  carried -> settled
    lost()       the connection is gone   carried, refused -> waiting
    add()        full, or a beat too old  waiting -> dropped, the oldest first, and counted

Numbers ascend on every connection: an acknowledgement covers what this connection carried so far, and would be taken
for that of a lower number that is sent only afterwards. What a connection carried is never dropped while it stands:
after a refusal for now the registry acknowledges nothing beyond that beat before it has come again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from thunderline.core.inputs import HeartbeatInput
from thunderline.wire.frames import BACKLOG_BEATS_MAX, FRAME_MAX_BYTES, UNACKED_MAX, Beat, LateBeat

BEATS_MAX: Final = 900
"""Below the window of numbers (`UNACKED_MAX`) in which the registry knows a repeated beat."""

AGE_MAX_S: Final = 3600.0
"""Oldest age that the registry believes."""

_FRAME_BYTES: Final = 64
"""What a `backlog` frame takes around its beats, rounded up."""

_SEPARATOR_BYTES: Final = 1


class Taken(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A beat as it was taken, at `at` on the monotonic clock; `incarnation` None: before there was one."""

    seq: int
    at: float
    incarnation: int | None
    figures: HeartbeatInput


class Acknowledged(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers that an acknowledgement settled, ascending; `late` of them had been sent with an age."""

    seqs: tuple[int, ...]
    late: int


class Backlog:
    """Keeps at most `beats_max` beats, and none that is older than `age_max_s` unless it is on the way."""

    def __init__(self, *, beats_max: int = BEATS_MAX, age_max_s: float = AGE_MAX_S) -> None:
        """Raises: ValueError for bounds that cannot be kept."""
        if not 2 <= beats_max <= UNACKED_MAX:
            raise ValueError(f"a backlog holds 2 to {UNACKED_MAX} beats, not {beats_max}")
        self._beats_max = beats_max
        self._age_max_s = age_max_s
        # Half of what is kept at most, so that there is always something that may be dropped.
        self._carried_max = min(UNACKED_MAX, beats_max) // 2
        self._waiting: dict[int, Taken] = {}
        self._carried: dict[int, Taken] = {}
        self._refused: dict[int, Taken] = {}
        self._late: set[int] = set()
        self._highest_carried = -1
        self._dropped_seqs: list[int] = []
        self.dropped = 0
        """Beats lost so far, which no registry will ever see."""

    def __len__(self) -> int:
        return len(self._waiting) + len(self._carried) + len(self._refused)

    def __contains__(self, seq: int) -> bool:
        return seq in self._waiting or seq in self._carried or seq in self._refused

    @property
    def waiting(self) -> int:
        """Beats that are yet to be sent, or to be sent again."""
        return len(self._waiting) + len(self._refused)

    @property
    def on_the_way(self) -> int:
        """Beats that were sent and whose fate is not known."""
        return len(self._carried)

    @property
    def late_on_the_way(self) -> int:
        """How many of those were sent with an age."""
        return len(self._late)

    @property
    def lowest(self) -> int | None:
        """The lowest number that is not settled."""
        return min((*self._waiting, *self._carried, *self._refused), default=None)

    def add(self, taken: Taken) -> None:
        """Keep a beat, whose number is higher than all before it; the oldest go to make room for it."""
        self._waiting[taken.seq] = taken
        self.expire(taken.at)
        while len(self) > self._beats_max:
            self._drop([next(iter(self._waiting))])

    def expire(self, now: float) -> None:
        """Drop what waits and is too old by now."""
        while self._waiting:
            taken = next(iter(self._waiting.values()))
            if now - taken.at <= self._age_max_s:
                return
            self._drop([taken.seq])

    def next_live(self, now: float, *, within_s: float) -> Beat | None:
        """The oldest beat that waits as one of now, if nothing has to go before it and there is room.

        None for one that is older than `within_s`, or was sent before.
        """
        if not self._waiting or self._refused or not self._room:
            return None
        taken = next(iter(self._waiting.values()))
        if not self._is_fresh(taken, now, within_s):
            return None
        self._carry(taken.seq, taken)
        return Beat(**_fields(taken))

    def next_late(
        self,
        now: float,
        *,
        size_bytes: Callable[[LateBeat], int],
        limit: int = BACKLOG_BEATS_MAX,
        live_within_s: float | None = None,
    ) -> tuple[LateBeat, ...]:
        """The next beats to send, with their ages, as many as one frame holds; they count as carried from now on.

        Empty when there are none, or when as many are on the way as may be. `size_bytes` tells the size of a beat.
        Those that `next_live` would give within `live_within_s` are left to it: what is sent with an age is history,
        and says nothing of how the node is now. None leaves it none.
        """
        self.expire(now)
        beats: list[LateBeat] = []
        bytes_left = FRAME_MAX_BYTES - _FRAME_BYTES
        for taken in self._next(min(limit, BACKLOG_BEATS_MAX)):
            if live_within_s is not None and self._is_fresh(taken, now, live_within_s):
                break  # and so are all that were taken after it
            beat = _aged(taken, now)
            bytes_left -= size_bytes(beat) + _SEPARATOR_BYTES
            if bytes_left < 0 and beats:
                break
            beats.append(beat)
            self._carry(taken.seq, taken)
            self._late.add(taken.seq)
        return tuple(beats)

    def ack(self, seq: int) -> Acknowledged:
        """Forget what was carried up to `seq`; what was refused and not sent again stays."""
        settled = tuple(carried for carried in self._carried if carried <= seq)
        late = 0
        for one in settled:
            del self._carried[one]
            late += one in self._late
            self._late.discard(one)
        return Acknowledged(seqs=tuple(sorted(settled)), late=late)

    def refuse(self, seq: int) -> bool:
        """Put a carried beat back to be sent again; False when none of that number is on the way."""
        taken = self._carried.pop(seq, None)
        if taken is None:
            return False
        self._refused[seq] = taken
        self._late.discard(seq)
        return True

    def forget(self, seq: int) -> bool:
        """Give up a beat that was refused for good; False when none of that number was carried."""
        self._late.discard(seq)
        return self._carried.pop(seq, None) is not None or self._refused.pop(seq, None) is not None

    def lost(self) -> None:
        """The connection is gone: everything has to be sent again."""
        self._waiting = dict(sorted((self._waiting | self._carried | self._refused).items()))
        self._carried, self._refused = {}, {}
        self._late.clear()

    def keep_incarnation(self, incarnation: int) -> int:
        """Drop what an earlier incarnation left behind, which nobody takes any more; gives how many those were.

        To be called before anything is carried on a new connection.
        """
        stale = [seq for seq, taken in self._waiting.items() if taken.incarnation not in (None, incarnation)]
        self._drop(stale)
        return len(stale)

    def take_dropped(self) -> list[int]:
        """The numbers that were dropped since the last call."""
        dropped, self._dropped_seqs = self._dropped_seqs, []
        return dropped

    @property
    def is_busy(self) -> bool:
        """Whether as many beats as may be on the way are kept already: one more would wait, and in the end drop one."""
        return len(self) >= self._carried_max

    @property
    def _room(self) -> bool:
        return len(self._carried) + len(self._refused) < self._carried_max

    def _is_fresh(self, taken: Taken, now: float, within_s: float) -> bool:
        return now - taken.at <= within_s and taken.seq > self._highest_carried

    def _next(self, limit: int) -> list[Taken]:
        # What was refused is lower than all that was never sent, and has its place on the way already.
        again = [self._refused[seq] for seq in sorted(self._refused)][:limit]
        room = self._carried_max - len(self._carried) - len(self._refused)
        fresh = min(limit - len(again), room)
        return [*again, *(taken for _, taken in zip(range(fresh), self._waiting.values(), strict=False))]

    def _carry(self, seq: int, taken: Taken) -> None:
        self._waiting.pop(seq, None)
        self._refused.pop(seq, None)
        self._carried[seq] = taken
        self._highest_carried = max(self._highest_carried, seq)

    def _drop(self, seqs: Iterable[int]) -> None:
        for seq in seqs:
            del self._waiting[seq]
            self._dropped_seqs.append(seq)
            self.dropped += 1


def _aged(taken: Taken, now: float) -> LateBeat:
    return LateBeat(**_fields(taken), age_ms=max(0, round((now - taken.at) * 1000)))


def _fields(taken: Taken) -> dict[str, Any]:
    return msgspec.structs.asdict(taken.figures) | {"seq": taken.seq, "incarnation": None}
