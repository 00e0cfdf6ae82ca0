"""One link at the gate: from frames to what the registry does, and back. It knows no socket: `Peer` carries it."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Final, Protocol, assert_never

from thunderline.core.access import Token
from thunderline.core.errors import (
    MalformedBody,
    OutcomeUnknown,
    Overloaded,
    ProtocolViolation,
    RateLimited,
    ShuttingDown,
    ThunderlineError,
    Unauthenticated,
    Unavailable,
)
from thunderline.core.logging import get_logger
from thunderline.core.records import BeatStatus, Node
from thunderline.core.tracing import Attributes, Caller, Span
from thunderline.gate.faults import close_code
from thunderline.gate.link_gate import LinkGate
from thunderline.link.uplinks import Uplink
from thunderline.wire.codec import BadBacklog, BadFrame
from thunderline.wire.frames import (
    BACKLOG_AGE_MAX_MS,
    FEATURES,
    UNACKED_MAX,
    Backlog,
    Beat,
    Bye,
    Hello,
    LateBeat,
    Links,
    NodeFrame,
    SeenSession,
    Welcome,
)
from thunderline.wire.registry_end import LinkState, RegistryEnd

log = get_logger(__name__)

NORMAL_CLOSURE: Final = 1000
BURST_S: Final = 2.0
"""A link may be ahead of its rate by so many seconds' worth of frames."""


class Peer(Protocol):
    """What a link needs of whatever carries it."""

    def send(self, data: bytes) -> None:
        """Send one whole message; to a peer that is gone, nothing happens."""

    def close(self, code: int, reason: str) -> None:
        """Close behind what was sent; idempotent."""

    def hold(self, held: bool) -> None:
        """Read nothing more from the peer, or go on reading."""


class LinkConnection(Uplink):
    """The registry's end of one connection."""

    __slots__ = (
        "_allowance",
        "_allowed_at",
        "_bearer",
        "_caller",
        "_drain_ms",
        "_end",
        "_flushing",
        "_gate",
        "_gone",
        "_goodbye_seq",
        "_handshake",
        "_held",
        "_peer",
        "_reporting",
        "_seen",
    )

    def __init__(
        self,
        gate: LinkGate,
        peer: Peer,
        *,
        subprotocol: str,
        address: str | None,
        bearer: str | None = None,
        caller: Caller | None = None,
    ) -> None:
        """`address` is the peer's, `bearer` the token that it has shown already, `caller` the trace that it named.

        Raises: Unauthenticated for a bearer that is not good; Overloaded when there is no room for another link.
        """
        super().__init__(address=address)
        if bearer is not None:
            gate.token_of(bearer, address=address)
        self._bearer = bearer
        self._caller = caller
        self._handshake: Span | None = None
        self._gate = gate
        self._peer = peer
        self._end = RegistryEnd(subprotocol)
        self._gone = False
        self._held = False
        self._flushing = False
        self._drain_ms: int | None = None
        self._goodbye_seq: int | None = None
        self._seen: tuple[SeenSession, ...] | None = None
        self._reporting = False
        self._allowance = gate.registry.settings.link_frames_per_second * BURST_S
        self._allowed_at = gate.registry.clock.monotonic()
        gate.connected(self)

    # What comes from the peer

    def received(self, data: bytes) -> None:
        """One whole message came."""
        end = self._end
        try:
            frame = end.receive(data)
        except BadFrame as error:
            self._bad_frame(error)
            return
        except (MalformedBody, ProtocolViolation) as error:
            self.end(error)
            return
        if end.state is LinkState.OPEN:
            # Before anything else can refuse it: whatever came, the node is alive.
            self._gate.registry.links.hear(self)
            if not self.count_frame() and not _is_goodbye(frame):
                self._throttle(frame)
                return
        if type(frame) is Beat:
            self._take(frame, 0)
        elif frame is not None:
            self._handle(frame)

    def _handle(self, frame: NodeFrame) -> None:
        match frame:
            case Hello():
                self._greet(frame)
            case Beat():
                self._take(frame, 0)
            case Backlog():
                for beat in frame.beats:
                    # Of no age at all it would pass for one of now.
                    self._take(beat, min(max(beat.age_ms, 1), BACKLOG_AGE_MAX_MS))
            case Links():
                self._report(frame)
            case Bye():
                self._gate.work(self, self._leave(frame.reason))
            case _:
                assert_never(frame)

    def lost(self) -> None:
        """The connection is gone."""
        if self._gone:
            return
        self._gone = True
        self._end.close()
        self._shaken({}, failure="connection_lost")
        self._bearer = self.credential = None
        self._gate.disconnected(self)
        if self.session_id:
            self._gate.registry.links.drop(self)

    # Handshake and goodbye

    def _greet(self, hello: Hello) -> None:
        resume, node = hello.resume, None
        if (tracer := self._gate.registry.tracer) is not None:
            self._handshake = tracer.start(
                "handshake", caller=self._caller, attributes={"thunderline.node": hello.name}
            )
        try:
            self._gate.greeted(self)
            token = self._gate.token_of(self._shown(hello), address=self.address)
            if resume is not None and not self._gate.draining:
                node = self._gate.registry.links.resume(
                    self, resume.session_id, resume.secret, name=hello.name, instance=hello.instance, token=token
                )
        except ThunderlineError as error:
            self.end(error)
            return
        if node is not None:
            self._welcome(node, resumed=True)
        else:
            self._gate.work(self, self._open(hello, token))

    def _shown(self, hello: Hello) -> str | None:
        """The token that the peer shows, at the upgrade or now. Raises: Unauthenticated for two different ones."""
        bearer, self._bearer = self._bearer, None
        if bearer is not None and hello.token not in (None, bearer):
            error = Unauthenticated("token: is not the one that came with the upgrade; send one of the two")
            self._gate.refuse(error, address=self.address)
            raise error
        return hello.token if bearer is None else bearer

    async def _open(self, hello: Hello, token: Token | None) -> None:
        registry = self._gate.registry
        try:
            with self._handshake or nullcontext():
                node = await registry.links.open(
                    self, hello.attrs, instance=hello.instance, session_id=registry.new_id(), token=token
                )
        except ThunderlineError as error:
            self.end(error)
            return
        if self.leaving:
            self.credential = None
            await self._leave(self.leaving_reason)
            if self._gone:
                registry.links.drop(self)
        elif self._end.state is LinkState.OPENING:
            self._welcome(node, resumed=False)
        else:
            self.credential = None
            registry.links.drop(self)

    def _welcome(self, node: Node, *, resumed: bool) -> None:
        registry = self._gate.registry
        # It is told once, and nowhere kept.
        credential, self.credential = self.credential, None
        welcome = Welcome(
            node_id=node.id,
            session_id=self.session_id,
            secret=registry.uplinks.secret(self.session_id),
            incarnation=self.incarnation,
            interval_ms=self.interval_ms,
            cursor=registry.cursor,
            server_time=registry.clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            resumed=resumed,
            credential=credential,
            features=FEATURES,
        )
        self._peer.send(self._end.welcome(welcome))
        self._shaken({"thunderline.resumed": resumed, "thunderline.incarnation": self.incarnation})
        log.debug("link open", node=node.name, session_id=self.session_id, resumed=resumed, address=self.address)
        if self._drain_ms is not None:
            self.drain(self._drain_ms)

    def _shaken(self, attributes: Attributes, *, failure: str | None = None) -> None:
        """The handshake is over, where one was under way that somebody hears of."""
        span, self._handshake = self._handshake, None
        if span is None:
            return
        span.tell(attributes)
        if failure is not None:
            span.fail(failure)
        span.end()

    async def _leave(self, reason: str | None) -> None:
        self.leaving, self.leaving_reason = True, reason
        if not self.session_id:
            return  # not open yet; it leaves once it is
        try:
            await self._gate.registry.links.leave(self, reason)
        except ThunderlineError as error:
            self.end(error)
            return
        self.flush()

    # Beats

    def _take(self, beat: Beat | LateBeat, late_ms: int) -> None:
        acks = self._end.acks
        acks.received(beat.seq)
        if beat.status is BeatStatus.OFFLINE and not late_ms:
            self._goodbye_seq = beat.seq
        try:
            self._gate.registry.links.take_beat(self, beat, beat.seq, self, late_ms)
        except ThunderlineError as error:
            self.beat_refused(beat.seq, error)
        if acks.in_flight >= UNACKED_MAX and not self._held:
            self._held = True
            self._peer.hold(True)

    # Sessions with other nodes

    def _report(self, links: Links) -> None:
        """Let what the node sees be known; while one report is on its way, the newest of those that follow waits."""
        self._seen = links.sessions
        if not self._reporting:
            self._reporting = True
            self._gate.work(self, self._tell_seen())

    async def _tell_seen(self) -> None:
        try:
            while (seen := self._seen) is not None:
                self._seen = None
                await self._gate.registry.links.report(self, seen)
        except ThunderlineError as error:
            # Nothing is lost by it: a node names all that it sees, and does so again.
            log.debug("report of sessions not taken", session_id=self.session_id, reason=str(error))
        finally:
            self._reporting = False

    def beat_kept(self, seq: int) -> None:
        """The beat is durable."""
        self._end.acks.settled(seq)
        if not self._flushing:
            self._flushing = True
            self._gate.flush_soon(self)

    def beat_refused(self, seq: int, error: BaseException) -> None:
        """The beat was not kept, or it is not known: the peer is told, and whether it should come again."""
        if self._is_closed:
            return
        if not isinstance(error, ThunderlineError):
            error = OutcomeUnknown(f"the server failed: {type(error).__name__}")
        acks = self._end.acks
        # Numbers are recognised, so that a beat whose outcome is unknown may come again, too.
        for_now = isinstance(error, Unavailable | OutcomeUnknown)
        self._peer.send(self._end.error(error, seq=seq, retryable=for_now))
        if for_now and seq == self._goodbye_seq:
            # As after a bye: the node goes, and its goodbye is made good when the store takes it.
            self.leaving = True
            self.end(error)
        elif for_now:
            acks.postponed(seq)
            if acks.owed > UNACKED_MAX:
                self.end(Overloaded("link's"))
        else:
            acks.settled(seq)
        if not self._flushing:
            self._flushing = True
            self._gate.flush_soon(self)

    def flush(self) -> None:
        """Tell what has become durable, and close if that was the last there is to tell."""
        self._flushing = False
        if self._is_closed:
            return
        if (ack := self._end.ack()) is not None:
            self._peer.send(ack)
        in_flight = self._end.acks.in_flight
        if self._held and in_flight < UNACKED_MAX // 2:
            self._held = False
            self._peer.hold(False)
        if in_flight:
            return
        if self.leaving:
            # The goodbye itself may still be on its way; it flushes again.
            if self._gate.registry.roster.sessions.named(self.session_id) is None:
                self._close(NORMAL_CLOSURE, "goodbye")
        elif self._drain_ms is not None:
            self._close(close_code(ShuttingDown), "drain")

    # What the registry has to say

    def end(self, error: ThunderlineError) -> None:
        """Tell the peer why, and close."""
        if self._is_closed:
            return
        self._shaken({}, failure=error.code)
        # A handshake or a goodbye whose outcome is unknown may be made again: it finds what is there.
        retryable = error.retryable or isinstance(error, OutcomeUnknown)
        self._peer.send(self._end.error(error, retryable=retryable))
        self._close(close_code(type(error)), error.code)

    def tell_interval(self, interval_ms: int) -> None:
        """Tell the peer at which interval to beat from now on."""
        if self._end.state is LinkState.OPEN:
            self._peer.send(self._end.interval(interval_ms))

    def drain(self, within_ms: int) -> None:
        """Ask the peer to connect again in a while; the link closes once all that it sent is durable."""
        self._drain_ms = within_ms
        if self._end.state is LinkState.GREETING:
            self.end(ShuttingDown())
        elif self._end.state is LinkState.OPEN:
            self._peer.send(self._end.drain(within_ms))
            self.flush()

    @property
    def _is_closed(self) -> bool:
        return self._gone or self._end.state is LinkState.CLOSED

    def _close(self, code: int, reason: str) -> None:
        self._end.close()
        self._peer.close(code, reason)

    # Bounds

    def _bad_frame(self, error: BadFrame) -> None:
        if self._end.state is not LinkState.OPEN:
            self.end(error)
            return
        self._gate.registry.links.hear(self)
        within = self.count_frame()
        if self._is_closed:
            return
        # Also beyond the rate: a beat that nobody is told of would count as durable with the next acknowledgement.
        for bad in error.bad if isinstance(error, BadBacklog) else (error,):
            self._peer.send(self._end.error(bad, seq=bad.seq, retryable=False))
        if isinstance(error, BadBacklog):
            if within:
                self._handle(error.good)
            else:
                self._throttle(error.good)

    def count_frame(self) -> bool:
        """Count one frame of whatever kind; whether the link is still within its rate."""
        rate = self._gate.registry.settings.link_frames_per_second
        now = self._gate.registry.clock.monotonic()
        self._allowance = min(self._allowance + (now - self._allowed_at) * rate, rate * BURST_S)
        self._allowed_at = now
        self._allowance -= 1
        if self._allowance < -rate * BURST_S:
            self.end(_too_many(rate))  # it was told often enough, or does not listen
        return self._allowance >= 0

    def _throttle(self, frame: NodeFrame | None) -> None:
        if self._is_closed:
            return  # ended for it
        error = _too_many(self._gate.registry.settings.link_frames_per_second)
        beats = frame.beats if isinstance(frame, Backlog) else (frame,) if isinstance(frame, Beat) else ()
        for beat in beats:
            self._end.acks.received(beat.seq)
            self.beat_refused(beat.seq, error)
        if not beats:
            self._peer.send(self._end.error(error))


def _is_goodbye(frame: NodeFrame | None) -> bool:
    return isinstance(frame, Bye) or (isinstance(frame, Beat) and frame.status is BeatStatus.OFFLINE)


def _too_many(rate: float) -> RateLimited:
    return RateLimited(f"{rate:g} frames a second")
