"""One node of a fleet: a `NodeEnd` of the SDK with its connection, and what befalls it.

It does what `client.driver` does where a server can tell: jitter, full jitter between attempts, `resume`, beats of an
outage with their age, sessions reported again, silence given up. What it has not is a task, or figures of its own.

    state       what happens        becomes     what a server sees
    down        start               opening     a connection, `hello`
    opening     welcome             linked      `links`, then beats
    any up      crash               down        the connection ends, with no word
    linked      leave               leaving     `bye`
    any up      cut                 cut off     nothing at all
    any up      drop                cut off     the connection ends
    cut off     mend                opening     another connection, `resume`, what was kept meanwhile
    any up      the server ends it  ended       nothing: it is over for good
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final

from thunderline.client.backoff import Backoff
from thunderline.client.driver import JITTER, LIVED_S, SILENCE_S, WELCOME_TIMEOUT_S
from thunderline.client.errors import ClientError, Unauthorized
from thunderline.client.link_errors import LinkEnded, link_ended
from thunderline.core.errors import ThunderlineError
from thunderline.core.inputs import CapabilityAttrs, HeartbeatInput
from thunderline.core.records import BeatStatus, SessionStatus
from thunderline.testing.fleet import figures
from thunderline.testing.fleet.agenda import Agenda
from thunderline.testing.fleet.plan import PlannedNode
from thunderline.testing.fleet.socket import LinkSocket, Owner
from thunderline.wire.frames import MSGPACK_SUBPROTOCOL, Hello, Links, SeenSession
from thunderline.wire.node_end import Acked, Broken, DrainAsked, Ended, IntervalChanged, Left, NodeEnd, State, Welcomed

BACKLOG_MAX: Final = 32
"""Beats that a node keeps in an outage: thousands of nodes have one memory."""

_LATE: Final = (1.3, 2.4)
"""Intervals between two beats of a slow node: now and then beyond its deadline's half, never beyond all of it."""

_OF_THE_TOKEN: Final = frozenset(
    {"unauthenticated", "token_unknown", "token_expired", "token_revoked", "not_permitted", "join_refused"}
)
"""What ends the links of all nodes; all else is about one of them."""


class Around(ABC):
    """What a node needs of its fleet."""

    agenda: Agenda
    token: str | None
    nodes: Mapping[str, LiveNode]

    @abstractmethod
    def connect(self, node: LiveNode) -> None:
        """Make a connection for the node once it is its turn: `LiveNode.dial`."""

    @abstractmethod
    def settled(self, node: LiveNode) -> None:
        """The attempt came to its end, one way or the other."""

    @abstractmethod
    def linked(self, node: LiveNode, *, resumed: bool, first: bool) -> None:
        """Its link stands. `first`: as never before."""

    @abstractmethod
    def unlinked(self, node: LiveNode) -> None:
        """Its link stands no more."""

    @abstractmethod
    def acked(self, beats: int) -> None:
        """So many beats are durable."""

    @abstractmethod
    def left(self, node: LiveNode, *, heard: bool) -> None:
        """Its goodbye is over. `heard`: it is durable."""

    @abstractmethod
    def ended(self, node: LiveNode, error: ThunderlineError, *, for_all: bool) -> None:
        """The server ended its link for good; `for_all`: it would do the same to any other."""


class LiveNode(Owner):
    """A node, whether its process runs or not."""

    __slots__ = (
        "_around",
        "_attempt",
        "_backoff",
        "_beat_at",
        "_cuts",
        "_end",
        "_is_linked",
        "_linked_at",
        "_rng",
        "_socket",
        "_token",
        "_was_linked",
        "is_slow",
        "plan",
        "runs",
    )

    def __init__(self, plan: PlannedNode, around: Around, *, rng: random.Random) -> None:
        self.plan = plan
        self.runs = False
        """Whether its process exists."""
        self.is_slow = False
        self._around = around
        self._rng = rng
        self._backoff = Backoff(rng)
        self._token = around.token
        self._end: NodeEnd | None = None
        self._socket: LinkSocket | None = None
        self._cuts = 0
        self._attempt = 0
        self._is_linked = self._was_linked = False
        self._linked_at = self._beat_at = 0.0

    @property
    def is_linked(self) -> bool:
        """Whether its link stands and it may be reached."""
        return self._is_linked and not self._cuts

    @property
    def is_cut(self) -> bool:
        """Whether nothing reaches it."""
        return self._cuts > 0

    # What befalls it

    def start(self) -> None:
        """A new process begins, unless there is one."""
        if self.runs:
            return
        self.runs = True
        self._end = NodeEnd(self._hello(), backlog_max=BACKLOG_MAX)
        self._end.report(self._links())
        self._backoff.reset()
        self._open()

    def crash(self) -> None:
        """The process dies, and the kernel closes its connection."""
        self.runs = False
        self._end = None
        self._hang_up()

    def leave(self, reason: str) -> None:
        """Say goodbye, and end; without a link nobody is told."""
        self.runs = False
        end, socket = self._end, self._socket
        if end is None or socket is None or not self.is_linked or end.state is not State.LINKED:
            self._end = None
            self._hang_up()
            self._around.left(self, heard=False)
            return
        self._unlink()
        self._attempt += 1  # no beat follows
        end.bye(reason)
        self._send(socket)

    def cut(self) -> None:
        """Nothing passes any more, and nobody is told."""
        self._cuts += 1
        self._unlink()
        if self._socket is not None:
            self._socket.deafen()
            self._around.settled(self)

    def drop(self) -> None:
        """The connection breaks, and there is no other."""
        self._cuts += 1
        self._forget_connection()

    def mend(self) -> None:
        """One fault less keeps it from the network; whatever connection it had is stale."""
        self._cuts = max(0, self._cuts - 1)
        if not self._cuts and self.runs:
            self._forget_connection()
            self._wait_and_open(0.0)

    def slow_down(self, is_slow: bool) -> None:
        """Let it be slow, or no longer."""
        self.is_slow = is_slow
        if self._end is not None and self.plan.links:
            self._end.report(self._links())

    # Its connection

    def dial(self, socket: LinkSocket) -> bool:
        """Whether the connection that was asked for is still wanted; `socket` is it."""
        if not self.runs or self._cuts or self._socket is not None:
            return False
        self._socket = socket
        attempt = self._attempt
        self._around.agenda.after(WELCOME_TIMEOUT_S, lambda: self._unwelcome(attempt))
        return True

    @property
    def token(self) -> str | None:
        """What it says who it is with."""
        return self._token

    def not_connected(self, socket: LinkSocket, error: ClientError) -> None:
        """`socket` could not be connected."""
        if socket is not self._socket:
            return
        self._socket = None
        self._around.settled(self)
        if not error.retryable and not self._was_linked:
            self._over(error)
        elif self.runs and not self._cuts:
            self._wait_and_open(0.0)

    def opened(self, socket: LinkSocket) -> None:
        if self._end is not None and not self._cuts:
            socket.send(self._end.connected(MSGPACK_SUBPROTOCOL, self._around.agenda.now))

    def writable(self, socket: LinkSocket) -> None:
        self._send(socket)

    def received(self, socket: LinkSocket, data: bytes) -> None:
        end, now = self._end, self._around.agenda.now
        if end is None or self._cuts or socket is not self._socket:
            return
        for event in end.receive(data, now):
            if isinstance(event, Acked):
                self._around.acked(len(event.seqs))
            elif isinstance(event, Welcomed):
                self._welcome(event, now)
            elif isinstance(event, IntervalChanged):
                # While a fleet grows this comes again and again: it must not put off the beat that is due.
                if (pause_s := self._pause_s()) < self._beat_at - now:
                    self._beat_in(pause_s)
            elif isinstance(event, DrainAsked):
                self._around.agenda.after(self._rng.uniform(0, event.within_s), lambda: self._move(socket))
            elif isinstance(event, Broken):
                socket.abort()
                self.lost(socket, None)
                return
        self._send(socket)

    def lost(self, socket: LinkSocket, error: ClientError | None) -> None:
        if socket is not self._socket or self._cuts:
            return  # whoever is cut off does not know
        self._socket = None
        self._attempt += 1
        self._unlink()
        self._around.settled(self)
        end, now = self._end, self._around.agenda.now
        if end is None:
            return
        if isinstance(error, Unauthorized) or (error is not None and not error.retryable and not self._was_linked):
            self._over(error)
            return
        loss = end.lost(now)
        if isinstance(loss, Left):
            self._end = None
            self._around.left(self, heard=True)
        elif isinstance(loss, Ended):
            self._over(link_ended(loss.code, loss.message))
        elif not self.runs:
            self._end = None
            self._around.left(self, heard=False)
        else:
            if now - self._linked_at >= LIVED_S:
                self._backoff.reset()
            self._wait_and_open(max(loss.retry_after_s, getattr(error, "retry_after_s", None) or 0.0))

    def give_up(self) -> None:
        """Drop whatever there is, with no word."""
        self.runs = False
        self._end = None
        self._hang_up()

    def _over(self, error: ThunderlineError) -> None:
        self.runs = False
        self._end = None
        self._around.ended(self, error, for_all=not isinstance(error, LinkEnded) or error.code in _OF_THE_TOKEN)

    def _welcome(self, event: Welcomed, now: float) -> None:
        first, self._was_linked, self._is_linked = not self._was_linked, True, True
        self._linked_at = now
        if event.credential is not None and self._end is not None:
            self._token = event.credential
            self._end.use_token(event.credential)
        self._around.settled(self)
        self._around.linked(self, resumed=event.resumed, first=first)
        # At once, as any agent does; a resumed one goes on with what it kept.
        self._beat_in(0.0)

    def _unwelcome(self, attempt: int) -> None:
        if attempt == self._attempt and self._socket is not None and not self._was_welcomed:
            self._give_up_connection()

    @property
    def _was_welcomed(self) -> bool:
        return self._end is not None and self._end.state in (State.LINKED, State.LEAVING)

    def _move(self, socket: LinkSocket) -> None:
        """Part from this connection, as was asked, and connect again."""
        if self.is_linked and self._socket is socket:
            self._forget_connection()
            self._open()

    def _give_up_connection(self) -> None:
        self._forget_connection()
        self._wait_and_open(0.0)

    def _open(self) -> None:
        if self.runs and not self._cuts and self._socket is None:
            self._around.connect(self)

    def _wait_and_open(self, retry_after_s: float) -> None:
        self._attempt += 1
        attempt = self._attempt
        interval_s = None if self._end is None else self._end.interval_s
        wait_s = retry_after_s + self._backoff.next_s(interval_s=interval_s)
        self._around.agenda.after(wait_s, lambda: self._open() if attempt == self._attempt else None)
        if interval_s is not None:
            self._keep_beat(attempt, interval_s)

    def _keep_beat(self, attempt: int, interval_s: float) -> None:
        """Take beats while there is no link: they are delivered with their age."""

        def keep() -> None:
            if attempt == self._attempt and self._end is not None and self.runs:
                self._end.beat(self._figures(), self._around.agenda.now)
                self._around.agenda.after(interval_s, keep)

        self._around.agenda.after(interval_s, keep)

    def _hang_up(self) -> None:
        self._attempt += 1
        self._unlink()
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.abort()
            self._around.settled(self)

    def _forget_connection(self) -> None:
        self._hang_up()
        if self._end is not None:
            self._end.lost(self._around.agenda.now)

    def _unlink(self) -> None:
        if self._is_linked:
            self._is_linked = False
            self._around.unlinked(self)

    # What it says

    def _beat_in(self, wait_s: float) -> None:
        self._attempt += 1
        attempt = self._attempt
        self._beat_at = self._around.agenda.now + wait_s
        self._around.agenda.after(wait_s, lambda: self._beat(attempt))

    def _beat(self, attempt: int) -> None:
        end, socket, now = self._end, self._socket, self._around.agenda.now
        if attempt != self._attempt or end is None or not self.runs:
            return
        end.beat(self._figures(), now)
        if socket is not None and not self._cuts:
            if end.unanswered_since is not None and now - end.unanswered_since >= SILENCE_S:
                self._give_up_connection()
                return
            self._send(socket)
        self._beat_in(self._pause_s())

    def _pause_s(self) -> float:
        interval_s = (self._end.interval_s if self._end is not None else None) or 10.0
        if self.is_slow:
            return interval_s * self._rng.uniform(*_LATE)
        return interval_s * (1 - JITTER * self._rng.random())

    def _send(self, socket: LinkSocket) -> None:
        end = self._end
        if end is None or self._cuts:
            return
        while socket.is_open and not socket.is_full and (frame := end.next_frame(self._around.agenda.now)) is not None:
            socket.send(frame)

    def _figures(self) -> HeartbeatInput:
        at_s, plan = self._around.agenda.wall_s, self.plan
        cpu = figures.cpu_load(plan, at_s, is_slow=self.is_slow)
        peers = {one.remote: self._distance(one.remote, one.latency_ms, at_s) for one in plan.links}
        return HeartbeatInput(
            status=BeatStatus.DEGRADED if self.is_slow else BeatStatus.ONLINE,
            cpu_load=cpu,
            mem_used_mb=figures.mem_used_mb(plan, at_s, cpu),
            latency_ms=figures.latency_ms(plan, at_s, is_slow=self.is_slow),
            peers=peers or None,
        )

    def _distance(self, remote: str, usual_ms: float, at_s: float) -> float | None:
        other = self._around.nodes.get(remote)
        if other is None or not other.runs or other.is_cut or self._cuts:
            return None
        slow = self.is_slow or other.is_slow
        return figures.link_latency_ms(usual_ms, f"{self.plan.name} {remote}", at_s, is_slow=slow)

    def _hello(self) -> Hello:
        plan = self.plan
        return Hello(
            name=plan.name,
            instance=f"{self._rng.getrandbits(96):024x}",
            role=plan.role,
            domain=plan.domain,
            cluster_type=plan.cluster_type,
            address=plan.address,
            labels=plan.labels,
            capabilities={key: CapabilityAttrs(value=value) for key, value in plan.capabilities.items()},
            meta=dict(plan.meta),
            token=self._token,
        )

    def _links(self) -> Links:
        worse = 12 if self.is_slow else 1
        return Links(
            sessions=tuple(
                SeenSession(
                    session_id=f"{self.plan.name}~{one.remote}",
                    remote=one.remote,
                    session_type=one.session_type,
                    connection_type=one.connection_type,
                    status=SessionStatus.DEGRADED if self.is_slow else SessionStatus.ESTABLISHED,
                    latency_ms=round(one.latency_ms * worse, 2),
                    bandwidth_mbps=round(one.bandwidth_mbps / worse),
                )
                for one in self.plan.links
            )
        )
