"""A node that holds a link: what it sends keeps its order, and a connection can end. Frames are not simulated.

A link is given up, and made anew, when nothing comes back over it for as long as the SDK waits.
"""

from __future__ import annotations

from collections.abc import Callable

from thunderline.client.driver import SILENCE_S
from thunderline.core.errors import Deregistered, StaleIncarnation, ThunderlineError, Unavailable
from thunderline.core.inputs import HeartbeatInput
from thunderline.link.registry import Registry
from thunderline.link.uplinks import Uplink
from thunderline.testing.simulation.node import RESENT_S, SimulatedNode


class LinkNode(SimulatedNode):
    """Shakes hands, or resumes; beats over the link; connects again when it is lost."""

    _connection: Connection | None = None
    _resume: tuple[str, str] | None = None
    _unanswered_since: float | None = None

    def announce(self) -> None:
        self._unanswered_since = None
        connection = self._connection = Connection(self)
        self.send(connection.greet, refused=self.lost)

    def welcomed_over(self, connection: Connection, secret: str, interval_ms: int) -> None:
        """The link stands."""
        self._resume = (connection.session_id, secret)
        self.welcomed(interval_ms / 1000)

    @property
    def resumable(self) -> tuple[str, str] | None:
        """The session to resume, and its secret."""
        return self._resume

    def refused_for(self, error: ThunderlineError) -> None:
        """The registry said no, or ended the link."""
        self._connection = None
        if isinstance(error, Deregistered):
            self.crash()  # as the agent does, for good
            return
        self.announce_again(error.retry_after_s if isinstance(error, Unavailable) else 0.0)

    def told_interval(self, interval_ms: int) -> None:
        """The registry wants another interval."""
        self.interval_s = interval_ms / 1000

    def answered(self) -> None:
        """The registry read something; its answer passes, or not. How long that takes is left out."""
        if self.path.pass_s() is not None:
            self._unanswered_since = None

    def send_beat(self, seq: int) -> bool:
        now = self.world.now
        since = self._unanswered_since
        if since is not None and now - since >= SILENCE_S:
            self._give_up()
            return False
        if since is None:
            self._unanswered_since = now
        elif since + SILENCE_S < now + self.interval_s:
            self.world.at(since + SILENCE_S, lambda: self._look_for_answer(since))
        connection = self._connection
        assert connection is not None
        arrives_at = self.send(
            lambda registry: connection.take(registry, seq), refused=self.lost, not_before=connection.arrives_at
        )
        if arrives_at is None:
            return False
        connection.arrives_at = arrives_at
        return True

    def say_goodbye(self, seq: int) -> None:
        connection = self._connection
        if connection is not None:
            self.send(connection.leave, refused=lambda: None, not_before=connection.arrives_at)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None or self.path.cuts:
            return
        takes_s = self.path.pass_s()
        arrives_at = max(self.world.now + (RESENT_S if takes_s is None else takes_s), connection.arrives_at)
        self.world.at(arrives_at, lambda: self.site.arrive(connection.closed, refused=lambda: None))

    def _look_for_answer(self, since: float) -> None:
        if self._unanswered_since == since and self._connection is not None:
            self._give_up()

    def _give_up(self) -> None:
        self.close()
        self.announce_again()

    def lost(self) -> None:
        """The connection was reset: nobody is there."""
        self.tally.refused += 1
        self._connection = None
        self.announce_again()


class Connection(Uplink):
    """One connection of a node, as the registry's process has it."""

    __slots__ = ("_end", "_is_over", "_node", "_registry", "_reset", "_told", "_welcome", "arrives_at")

    def __init__(self, node: LinkNode) -> None:
        super().__init__()
        self.arrives_at = 0.0
        """When what was sent last arrives; nothing overtakes it."""
        self._node = node
        self._registry: Registry | None = None
        self._is_over = False
        self._welcome: Callable[..., None] = node.reply(node.welcomed_over)
        self._end: Callable[..., None] = node.reply(node.refused_for)
        self._told: Callable[..., None] = node.reply(node.told_interval)
        self._reset: Callable[..., None] = node.reply(node.lost)

    # What comes from the node

    def greet(self, registry: Registry) -> None:
        """The connection is made, and the handshake is here."""
        self._registry = registry
        self._node.site.connections[self] = None
        resume = self._node.resumable
        if resume is not None:
            node = registry.links.resume(self, *resume, name=self._node.name, instance=self._node.instance)
            if node is not None:
                self._welcome(self, resume[1], self.interval_ms)
                return
        self._node.site.work(self._open(registry))

    async def _open(self, registry: Registry) -> None:
        try:
            await registry.links.open(
                self, self._node.attrs, instance=self._node.instance, session_id=registry.new_id()
            )
        except ThunderlineError as error:
            self.end(error)
            return
        if self._is_over:
            registry.links.drop(self)
        else:
            self._welcome(self, registry.uplinks.secret(self.session_id), self.interval_ms)

    def take(self, registry: Registry, seq: int) -> None:
        """A beat is here."""
        if self._is_over or self._registry is not registry or not self.session_id:
            self._reset()
            return
        registry.links.hear(self)
        self._node.answered()
        try:
            registry.links.take_beat(self, HeartbeatInput(seq=seq), seq, self, 0)
        except StaleIncarnation as error:
            self.end(error)
        except ThunderlineError:
            self._node.tally.refused += 1

    def leave(self, registry: Registry) -> None:
        """The node's goodbye is here."""
        if self.session_id and self._registry is registry:
            self._node.site.work(self._leave(registry))

    async def _leave(self, registry: Registry) -> None:
        try:
            await registry.links.leave(self, None)
        except ThunderlineError:
            self._node.tally.refused += 1

    def closed(self, registry: Registry) -> None:
        """The node's end of the connection is closed."""
        self._over()
        if self.session_id and self._registry is registry:
            registry.links.drop(self)

    def reset(self) -> None:
        """The registry's process ended, and with it the connection."""
        self._over()
        self._reset()

    # What the registry says

    def end(self, error: ThunderlineError) -> None:
        if not self._is_over:
            self._over()
            self._end(error)

    def tell_interval(self, interval_ms: int) -> None:
        self._told(interval_ms)

    def beat_kept(self, seq: int) -> None:
        """The beat is durable."""

    def beat_refused(self, seq: int, error: BaseException) -> None:
        """The beat was not kept."""
        self._node.tally.refused += 1

    def _over(self) -> None:
        self._is_over = True
        self._node.site.connections.pop(self, None)
