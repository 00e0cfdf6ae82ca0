"""Simulated time: what happens outside the registry's process, when, and an event loop whose waits cost nothing.

The registry under simulation runs unchanged on a `SimulatedLoop`. Whenever it has nothing left to do at a moment, the
loop passes to the next one: a timer of its own, or an action of the `World`, such as a message that arrives. A day
takes as long as there is work in it, and two runs from one seed are the same.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import selectors
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Any, Final, TypeVar, TypeVarTuple

from thunderline.core.clock import Clock
from thunderline.testing.clock import START_MS

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

SLEEP_MIN_S: Final = 1e-6
"""No sleep is shorter."""

Action = Callable[[], object]


class NothingLeft(RuntimeError):
    """Everybody waits, and nothing is going to happen any more: a mistake of the program that is simulated."""


class World:
    """What is going to happen, in order, and the time that it is. Times in seconds since the start."""

    def __init__(self) -> None:
        self.now = 0.0
        self._actions: list[tuple[float, int, Action]] = []
        self._order = itertools.count()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stands_still = False
        self._waiting: list[Action] = []
        self._handed = False

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand what concerns the process to this loop from now on."""
        self._loop = loop

    def at(self, time_s: float, action: Action) -> None:
        """Let `action` happen outside the process, no earlier than now; it must not wait."""
        heapq.heappush(self._actions, (max(time_s, self.now), next(self._order), action))

    def after(self, delay_s: float, action: Action) -> None:
        """The same, so many seconds from now."""
        heapq.heappush(self._actions, (self.now + delay_s, next(self._order), action))

    def hand(self, call: Action) -> None:
        """Let the process do `call` at its next turn: something arrived."""
        if self._stands_still:
            self._waiting.append(call)
        else:
            self._give(call)

    def stand_still(self, duration_s: float) -> None:
        """Let the process stand still: the world goes on, and what arrives meanwhile waits."""
        until = self.now + duration_s
        self._stands_still = True
        while self._actions and self._actions[0][0] <= until:
            self._act()
        self._stands_still = False
        self.now = until
        for call in self._waiting:
            self._give(call)
        self._waiting.clear()
        self._handed = True

    def pass_time(self, duration_s: float | None) -> None:
        """Go on for `duration_s` (None: for as long as it takes), at most until the process has something to do.

        Raises: NothingLeft.
        """
        until = math.inf if duration_s is None else self.now + duration_s
        self._handed = False
        while self._actions and self._actions[0][0] <= until:
            self._act()
            if self._handed:
                return
        if until == math.inf:
            raise NothingLeft("everybody waits, and nothing is going to happen")
        self.now = max(self.now, until)

    def _act(self) -> None:
        self.now, _, action = heapq.heappop(self._actions)
        action()

    def _give(self, call: Action) -> None:
        if self._loop is None:
            raise NothingLeft("the world has no process to hand anything to")
        self._handed = True
        self._loop.call_soon(call)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop in the time of a `World`."""

    def __init__(self, world: World) -> None:
        super().__init__(_Selector(world))
        self._world = world
        world.attach(self)

    def time(self) -> float:
        return self._world.now

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        # A thread would work in real time, in which simulated time would run away from it.
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class SimulatedClock(Clock):
    """The clocks of the simulated registry's machine."""

    def __init__(self, world: World, *, start_ms: int = START_MS) -> None:
        self._world = world
        self._start_ms = start_ms
        self._wall_offset_s = 0.0

    def now_ms(self) -> int:
        return self._start_ms + round((self._world.now + self._wall_offset_s) * 1000)

    def monotonic(self) -> float:
        return self._world.now

    async def sleep_until(self, deadline: float) -> None:
        # On a real machine time passes also for who only looks whether it is late enough yet.
        deadline = max(deadline, self._world.now + SLEEP_MIN_S)
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # An action and not a timer of the loop: those count from now, and rounding would wake us just too early.
        self._world.at(deadline, lambda: self._world.hand(lambda: _wake(woken)))
        await woken

    def jump_wall(self, duration_s: float) -> None:
        """Move the wall clock alone, either way."""
        self._wall_offset_s += duration_s


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():  # cancelled
        woken.set_result(None)


class _Selector(selectors.BaseSelector):
    """Lets simulated time pass instead of waiting. Real events, which signals are, come first."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._real = selectors.DefaultSelector()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if not ready and (timeout is None or timeout > 0):
            self._world.pass_time(timeout)
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()
