"""A simulated node: a process that announces itself and beats until something befalls it.

It does what the SDK does where that matters for liveness: full jitter before it announces itself again, beats that come
up to a tenth of their interval early. Messages take the node's path both ways. What they are is up to the transport:
see `HttpNode` and `LinkNode`.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from thunderline.client.backoff import Backoff
from thunderline.client.driver import JITTER
from thunderline.core.inputs import NodeAttrs
from thunderline.testing.simulation.network import Path
from thunderline.testing.simulation.site import Call, Site
from thunderline.testing.simulation.world import World

ANSWER_TIMEOUT_S: Final = 10.0
"""An announcement that is not answered for so long is made again."""

RESENT_S: Final = 1.0
"""What a kernel sends, the end of a connection, comes so much later where it was lost at first. Source: RFC 6298."""


class Tally:
    """What is counted for the nodes of one fleet. `refused`: by the registry, or because there was none."""

    __slots__ = ("lost", "refused", "sent")

    def __init__(self) -> None:
        self.sent = self.lost = self.refused = 0


class SimulatedNode(ABC):
    """What both transports have in common: a process, its path, and when it beats."""

    def __init__(
        self,
        name: str,
        *,
        world: World,
        site: Site,
        path: Path,
        rng: random.Random,
        interval_s: float | None,
        zone: str | None,
        tally: Tally,
        changed: Callable[[SimulatedNode], None],
    ) -> None:
        """`changed` hears when it becomes well, or no longer is."""
        self.name = name
        self.zone = zone
        self.path = path
        self.runs = False
        """Whether its process exists."""
        self.has_left = False
        """Whether it said goodbye."""
        self.is_well = False
        """Whether it runs, and reaches the registry's machine."""
        self.well_since = 0.0
        self.world = world
        self.site = site
        self.tally = tally
        self.instance = ""
        self.interval_s = 0.0
        """None was told yet where it is 0."""
        self._rng = rng
        self._changed = changed
        self._asked_interval_s = interval_s
        self._backoff = Backoff(rng)
        self._stops = 0
        self._attempt = 0
        self._seq = 0
        self._is_announced = False
        self._owes_beat = False

    # What befalls it

    def start(self) -> None:
        """A new process begins, unless there is one."""
        if self.runs:
            return
        self.runs, self.has_left = True, False
        self.instance = f"{self._rng.getrandbits(64):016x}"
        self._seq = 0
        self._backoff.reset()
        self._look()
        self._announce()

    def crash(self) -> None:
        """The process dies, and the kernel closes what it had open."""
        self._end_process()
        self.close()

    def leave(self) -> None:
        """Say goodbye, and end."""
        if self.runs and self._is_announced:
            self.has_left = True
            self.say_goodbye(self._seq + 1)
        self._end_process()

    def stop(self) -> None:
        """The process stands still."""
        self._stops += 1
        self._look()

    def go_on(self) -> None:
        """One fault less makes it stand still. A beat that is overdue goes out at once."""
        self._stops -= 1
        self._look()
        if not self._stops and self._owes_beat:
            self._owes_beat = False
            self._beat(self._attempt)

    def cut(self) -> None:
        """Nothing passes between it and the registry."""
        self.path.cuts += 1
        self._look()

    def mend(self) -> None:
        """One fault less cuts it."""
        self.path.cuts -= 1
        self._look()

    def _end_process(self) -> None:
        self.runs = self._is_announced = self._owes_beat = False
        self._attempt += 1
        self._look()

    def _look(self) -> None:
        is_well = self.runs and not self._stops and not self.path.cuts
        if is_well is not self.is_well:
            self.is_well, self.well_since = is_well, self.world.now
            self._changed(self)

    # Messages

    def send(self, call: Call, *, refused: Callable[[], None], not_before: float = 0.0) -> float | None:
        """Send what makes the registry do `call`, and give when it will arrive; None: it is lost.

        Where no registry is, the machine answers and this end does `refused`.
        """
        takes_s = self.path.pass_s()
        if takes_s is None:
            return None
        arrives_at = max(self.world.now + takes_s, not_before)
        self.world.at(arrives_at, partial(self.site.arrive, call, refused=self.reply(refused)))
        return arrives_at

    def reply(self, act: Callable[..., None]) -> Callable[..., None]:
        """What the registry's end calls for this end to do `act` once the answer is here.

        It comes to nothing when it is lost, or when the node is at another attempt, or gone, by then.
        """
        attempt = self._attempt

        def answer(*given: Any) -> None:
            takes_s = self.path.pass_s()
            if takes_s is not None:
                self.world.after(takes_s, partial(heard, *given))

        def heard(*given: Any) -> None:
            if attempt == self._attempt and not self._stops:
                act(*given)

        return answer

    # Announcing

    def welcomed(self, interval_s: float) -> None:
        """The registry knows that the node is there. The first beat comes at once."""
        self._is_announced = True
        self._backoff.reset()
        self.interval_s = interval_s
        self._beat(self._attempt)

    def announce_again(self, retry_after_s: float = 0.0) -> None:
        """Begin anew in a while."""
        self._attempt += 1
        self._is_announced = False
        attempt = self._attempt
        wait_s = retry_after_s + self._backoff.next_s(interval_s=self.interval_s or None)
        self.world.after(wait_s, lambda: self._announce() if attempt == self._attempt else None)

    def _announce(self) -> None:
        self._attempt += 1
        attempt = self._attempt
        self.announce()
        self.world.after(ANSWER_TIMEOUT_S, lambda: self._unanswered(attempt))

    def _unanswered(self, attempt: int) -> None:
        if attempt == self._attempt and not self._is_announced:
            self.close()
            self.announce_again()

    # Beating

    def _beat(self, attempt: int) -> None:
        if attempt != self._attempt:
            return
        if self._stops:
            self._owes_beat = True
            return
        self._seq += 1
        self.tally.sent += 1
        if not self.send_beat(self._seq):
            self.tally.lost += 1
        if attempt == self._attempt:
            pause_s = self.interval_s * (1 - JITTER * self._rng.random())
            self.world.after(pause_s, lambda: self._beat(attempt))

    # What the transport does

    @abstractmethod
    def announce(self) -> None:
        """Tell the registry that the node is there; `welcomed` or `announce_again` follows."""

    @abstractmethod
    def send_beat(self, seq: int) -> bool:
        """Send a heartbeat. Gives whether it will arrive."""

    @abstractmethod
    def say_goodbye(self, seq: int) -> None:
        """Tell the registry that the node goes."""

    @abstractmethod
    def close(self) -> None:
        """Close what is open to the registry."""

    @property
    def attrs(self) -> NodeAttrs:
        """What the node says of itself."""
        asked = self._asked_interval_s
        return NodeAttrs(name=self.name, heartbeat_interval_ms=None if asked is None else round(asked * 1000))
