"""The node's end of a link: which frames leave, and what those that arrive mean; no I/O, and no clock but `now`.

    state      what happens                     becomes    what leaves, or what the caller is told
    apart      connected                        greeting   `hello`, with `resume` if there is a session to resume
    greeting   `welcome`                        linked     Welcomed; then every beat that is not acknowledged
    linked     `ack`, `interval`, `drain`       linked     Acked, IntervalChanged, DrainAsked
    linked     bye                              leaving    `bye`, behind what may still be sent
    leaving    `ack`, `interval`, `drain`       leaving    Acked
    any link   `error` with `seq`               same       BeatRefused; or the beat goes again later, refused for now
    any link   `error` without `seq`            same       Troubled; it decides if the link is lost right after it
    any link   a frame out of place, or none    broken     Broken: the caller closes the connection
    leaving    lost                             ended      Left
    any link   lost after a final error         ended      Ended
    any link   lost otherwise                   apart      Lost
    apart      lost                             apart      Lost

"Any link" are greeting, linked, leaving and broken. Beats are taken in every state; what no link carries waits in the
backlog. While the registry refuses beats for now, the lowest of them is tried again alone, ever more rarely, and frames
without beats keep the node alive meanwhile: a fleet that repeated all of its beats would hold up what it waits for.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, TypeAlias, assert_never

import msgspec

from thunderline.core.access import read_token
from thunderline.core.errors import InvalidInput
from thunderline.core.inputs import HeartbeatInput
from thunderline.wire import frames
from thunderline.wire.backlog import BEATS_MAX, Backlog, Taken
from thunderline.wire.codec import Codec, node_codec
from thunderline.wire.frames import FEATURES, Ack, Drain, ErrorFrame, Hello, Interval, Welcome

LIVE_WITHIN_S: Final = 0.2
"""A beat that waited no longer goes out as one of now; the registry dates it when it arrives."""

ERROR_DECIDES_S: Final = 10.0
"""An error about the link is the reason of a close that follows within this time; a later close has another one."""

RETRY_MAX_S: Final = 3600.0
"""Longest wait that a registry may ask for."""

_INTERVAL_MS: Final = range(100, 3_600_001)
_SESSION_ENDED: Final = "session_ended"
_NEVER_FINAL: Final = frozenset({"outcome_unknown", "internal_error", "store_fault"})
"""The registry's own trouble. A call must not be repeated blindly after it, but a handshake may always be."""


class State(Enum):
    """Where the link stands; see the table above."""

    APART = "apart"
    GREETING = "greeting"
    LINKED = "linked"
    LEAVING = "leaving"
    BROKEN = "broken"
    ENDED = "ended"


class Welcomed(msgspec.Struct, frozen=True, kw_only=True):
    """The link stands. `undeliverable`: beats dropped because the registry counts another incarnation than before.

    `credential`: what the node is known by from now on, in place of the token that it joined with; None: as before.
    """

    node_id: str
    incarnation: int
    interval_s: float
    resumed: bool
    undeliverable: int
    credential: str | None = None

    def __repr__(self) -> str:
        return f"<Welcomed {self.node_id}>"  # a credential must not reach a log


class Acked(msgspec.Struct, frozen=True, kw_only=True):
    """These beats are durable, `late` of them sent with an age.

    `round_trip_s`: from sending the newest timed beat to now, the registry's commit included; None if none was timed.
    """

    seqs: tuple[int, ...]
    late: int
    round_trip_s: float | None


class BeatRefused(msgspec.Struct, frozen=True, kw_only=True):
    """The registry does not take this beat, now or later."""

    seq: int
    code: str
    message: str


class IntervalChanged(msgspec.Struct, frozen=True, kw_only=True):
    """Beat at this interval from now on."""

    interval_s: float


class DrainAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Connect again at a random moment within this time."""

    within_s: float


class Troubled(msgspec.Struct, frozen=True, kw_only=True):
    """The registry complains about the link, which may or may not end by it."""

    code: str
    message: str


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """The registry sent what it must not: the connection is of no more use."""

    reason: str


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """Connect again, not before `retry_after_s`; `code` and `message` of the error that ended the link, if one did."""

    retry_after_s: float
    code: str | None = None
    message: str | None = None


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """The link ended after this end's goodbye."""


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """The registry ended the link for good."""

    code: str
    message: str


LinkEvent: TypeAlias = Welcomed | Acked | BeatRefused | IntervalChanged | DrainAsked | Troubled | Broken
Loss: TypeAlias = Lost | Left | Ended


REPORT_AGAIN_S: Final = 60.0
"""Between two reports of the same sessions, at the next beat: one that names a node which was not there may then be
taken."""


class _Hold(msgspec.Struct):
    """The registry refuses beats for now: one, `probe`, is tried alone when `until` has passed."""

    until: float
    refusals: int = 1
    probe: int | None = None


class NodeEnd:
    """One process of one node, over as many connections as its life takes.

    None of the methods raises for what a registry sends. `now` is monotonic seconds.
    """

    def __init__(self, hello: Hello, *, backlog_max: int = BEATS_MAX) -> None:
        """`hello`: who this is; `resume` and `features` are filled in here. Raises: ValueError for `backlog_max`."""
        self.state = State.APART
        self.backlog = Backlog(beats_max=backlog_max)
        self.interval_s: float | None = None
        """As the registry said last; None before the first welcome."""
        self.incarnation: int | None = None
        self.last_seq = 0
        self.refused = 0
        """Beats that the registry refused for good."""
        self.unanswered_since: float | None = None
        """Since when something that the registry has to answer is on the way while nothing arrives."""
        self._hello = hello
        self._codec: Codec[frames.RegistryFrame] = node_codec(frames.JSON_SUBPROTOCOL)
        self._resume: frames.Resume | None = None
        self._error: tuple[float, ErrorFrame] | None = None
        self._hold: _Hold | None = None
        self._timed: tuple[int, float] | None = None
        self._life_due = False
        self._bye: frames.Bye | None = None
        self._seen: frames.Links | None = None
        self._seen_at: float | None = None
        """When it was sent last over this connection; None: it is due."""
        self._takes_links = False

    @property
    def token(self) -> str | None:
        """What the next connection says who this is with."""
        return self._hello.token

    def use_token(self, token: str) -> None:
        """Say so with this one from now on."""
        self._hello = msgspec.structs.replace(self._hello, token=token)

    @property
    def is_linked(self) -> bool:
        """Whether beats reach the registry, as far as this end knows."""
        return self.state is State.LINKED

    @property
    def is_busy(self) -> bool:
        """Whether beats arrive, and a further one had better wait for some of them to be acknowledged.

        Never in an outage: then the backlog keeps the newest.
        """
        return self.state is State.LINKED and self._hold is None and self.backlog.is_busy

    def connected(self, subprotocol: str, now: float) -> bytes:
        """The first frame on a new connection."""
        self._codec = node_codec(subprotocol)
        self.state = State.GREETING
        self._error = None
        self.unanswered_since = now
        hello: bytes = self._codec.encode(msgspec.structs.replace(self._hello, resume=self._resume, features=FEATURES))
        return hello

    def beat(self, figures: HeartbeatInput, now: float) -> int:
        """Take a beat, and give its number; `next_frame` sends it, now or when there is a link."""
        self.last_seq += 1
        self.backlog.add(Taken(seq=self.last_seq, at=now, incarnation=self.incarnation, figures=figures))
        self._life_due = True
        return self.last_seq

    def report(self, seen: frames.Links) -> None:
        """Let the registry know these sessions with other nodes, over further connections, too, and now and then."""
        self._seen = seen
        self._seen_at = None

    def bye(self, reason: str | None) -> None:
        """Say goodbye, behind the beats that may still be sent; without a link nothing happens."""
        if self.state is State.LINKED:
            self._bye = frames.Bye(reason=reason)
            self.state = State.LEAVING

    def next_frame(self, now: float) -> bytes | None:
        """What to send next; None: nothing at present. To be asked again after each frame, event and beat."""
        if self.state not in (State.LINKED, State.LEAVING):
            return None
        if self.state is State.LEAVING and self._bye is None:
            return None  # nothing follows a goodbye
        frame: frames.NodeFrame | None = self._beats(now)
        if frame is None and self._bye is not None:
            frame, self._bye = self._bye, None
        if frame is not None:
            self.unanswered_since = now if self.unanswered_since is None else self.unanswered_since
        elif self._seen is not None and self._takes_links and self._report_is_due(now):
            frame, self._seen_at = self._seen, now
        elif self._life_due:
            frame = frames.Backlog(beats=())
        if frame is None:
            return None
        self._life_due = False
        data: bytes = self._codec.encode(frame)
        return data

    def _report_is_due(self, now: float) -> bool:
        return self._seen_at is None or now - self._seen_at >= REPORT_AGAIN_S

    def next_due(self) -> float | None:
        """When `next_frame` may have something to send though nothing happens until then."""
        if self._hold is None or self._hold.probe is not None or self.state is not State.LINKED:
            return None
        return self._hold.until

    def receive(self, data: bytes, now: float) -> list[LinkEvent]:
        """What a message of the registry means."""
        if self.state not in (State.GREETING, State.LINKED, State.LEAVING):
            return []
        try:
            frame = self._codec.decode(data)
        except InvalidInput as error:
            return self._break(str(error))
        events = [] if frame is None else self._read(frame, now)
        self.unanswered_since = now if self._awaits_answer else None
        return events

    def lost(self, now: float) -> Loss:
        """The connection is gone, whoever closed it; everything that it did not acknowledge waits again."""
        was, self.state = self.state, State.APART
        error = self._error[1] if self._error is not None and now - self._error[0] <= ERROR_DECIDES_S else None
        self._error = self._hold = self._timed = self._bye = self.unanswered_since = None
        self.backlog.lost()
        if was in (State.LEAVING, State.ENDED):
            self.state = State.ENDED
            return Left()
        if error is None:
            return Lost(retry_after_s=0.0)
        if not error.retryable and error.code not in _NEVER_FINAL:
            self.state = State.ENDED
            return Ended(code=error.code, message=error.message)
        if error.code == _SESSION_ENDED:
            self._resume = None
        return Lost(retry_after_s=_retry_s(error), code=error.code, message=error.message)

    @property
    def _awaits_answer(self) -> bool:
        return self.state in (State.GREETING, State.LEAVING) or self.backlog.on_the_way > 0

    def _beats(self, now: float) -> frames.Beat | frames.Backlog | None:
        limit = frames.BACKLOG_BEATS_MAX
        live_within_s: float | None = LIVE_WITHIN_S
        if self._hold is not None:
            if self._hold.probe is not None or now < self._hold.until:
                return None
            limit, live_within_s = 1, None
        elif (beat := self.backlog.next_live(now, within_s=LIVE_WITHIN_S)) is not None:
            if self._timed is None:
                self._timed = beat.seq, now
            return beat
        late = self.backlog.next_late(
            now, size_bytes=lambda one: len(self._codec.encode(one)), limit=limit, live_within_s=live_within_s
        )
        if not late:
            return None
        if self._hold is not None:
            self._hold.probe = late[0].seq
        return frames.Backlog(beats=late)

    def _read(self, frame: frames.RegistryFrame, now: float) -> list[LinkEvent]:
        if isinstance(frame, ErrorFrame):
            return self._read_error(frame, now)
        if isinstance(frame, Welcome) == (self.state is not State.GREETING):
            return self._break(f"a {type(frame).__name__.lower()} frame has no place here")
        match frame:
            case Welcome():
                return self._welcome(frame)
            case Ack():
                return self._ack(frame.seq, now)
            case Interval():
                if frame.interval_ms not in _INTERVAL_MS:
                    return self._break(f"an interval of {frame.interval_ms} ms is none")
                self.interval_s = frame.interval_ms / 1000
                return [IntervalChanged(interval_s=self.interval_s)]
            case Drain():
                return [DrainAsked(within_s=min(max(frame.reconnect_within_ms / 1000, 0.0), RETRY_MAX_S))]
            case _:
                assert_never(frame)

    def _welcome(self, frame: Welcome) -> list[LinkEvent]:
        if frame.interval_ms not in _INTERVAL_MS:
            return self._break(f"an interval of {frame.interval_ms} ms is none")
        try:
            self._resume = msgspec.convert({"session_id": frame.session_id, "secret": frame.secret}, frames.Resume)
        except msgspec.ValidationError:
            return self._break("session_id and secret cannot be sent back")
        if frame.credential is not None and read_token(frame.credential) is None:
            return self._break("its credential is no token")
        self.state = State.LINKED
        self._seen_at = None
        self._takes_links = frames.FEATURE_LINKS in frame.features
        self.interval_s = frame.interval_ms / 1000
        self.incarnation = frame.incarnation
        return [
            Welcomed(
                node_id=frame.node_id,
                incarnation=frame.incarnation,
                interval_s=self.interval_s,
                resumed=frame.resumed,
                undeliverable=self.backlog.keep_incarnation(frame.incarnation),
                credential=frame.credential,
            )
        ]

    def _ack(self, seq: int, now: float) -> list[LinkEvent]:
        settled = self.backlog.ack(seq)
        self._settle_probe()
        if not settled.seqs:
            return []
        round_trip_s = None
        if self._timed is not None and self._timed[0] <= settled.seqs[-1]:
            round_trip_s, self._timed = now - self._timed[1], None
        return [Acked(seqs=settled.seqs, late=settled.late, round_trip_s=round_trip_s)]

    def _read_error(self, frame: ErrorFrame, now: float) -> list[LinkEvent]:
        if frame.seq is None:
            self._error = now, frame
            return [Troubled(code=frame.code, message=frame.message)]
        if self._timed is not None and self._timed[0] == frame.seq:
            self._timed = None
        if frame.retryable:
            if self.backlog.refuse(frame.seq):
                self._hold_back(frame, now)
            return []
        if not self.backlog.forget(frame.seq):
            return []
        self._settle_probe()
        self.refused += 1
        return [BeatRefused(seq=frame.seq, code=frame.code, message=frame.message)]

    def _hold_back(self, frame: ErrorFrame, now: float) -> None:
        """Send no beats for a while: as long as the registry says, after further refusals longer, up to an interval."""
        wait_s = _retry_s(frame)
        if self._hold is None:
            self._hold = _Hold(until=now + wait_s)
        elif self._hold.probe == frame.seq:
            longer_s = min(wait_s * 2**self._hold.refusals, self.interval_s or wait_s)
            self._hold = _Hold(until=now + max(wait_s, longer_s), refusals=min(self._hold.refusals + 1, 16))
        else:
            self._hold.until = max(self._hold.until, now + wait_s)

    def _settle_probe(self) -> None:
        hold = self._hold
        if hold is not None and hold.probe is not None and hold.probe not in self.backlog:
            self._hold = None

    def _break(self, reason: str) -> list[LinkEvent]:
        self.state = State.BROKEN
        return [Broken(reason=reason)]


def _retry_s(error: ErrorFrame) -> float:
    return min(max((error.retry_after_ms or 0) / 1000, 0.0), RETRY_MAX_S)
