"""All nodes of a fleet in one process, on one event loop: who connects when, and what befalls whom.

Connections are made a bounded number at a time, those of nodes that others speak to first. What a `Script` says happens
at its own time, counted from when all nodes were linked for the first time, however long that took.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
from collections import Counter, deque
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from thunderline.client.errors import ClientError, ServerUnreachable, ServerUntrusted
from thunderline.client.http import Client
from thunderline.client.trust import trust, untrusted
from thunderline.core.clock import Clock, SystemClock
from thunderline.core.errors import ThunderlineError
from thunderline.core.tasks import Supervisor
from thunderline.testing.fleet.agenda import Agenda
from thunderline.testing.fleet.live_node import Around, LiveNode
from thunderline.testing.fleet.places import Places
from thunderline.testing.fleet.plan import FleetPlan
from thunderline.testing.fleet.script import Happening, What
from thunderline.testing.fleet.socket import Address, LinkSocket

OPENING_MAX: Final = 128
"""Connections being made at once: below the handshakes that a server takes before it sends newcomers away."""

GOODBYES_A_SECOND: Final = 500
"""What any server commits; leaving waits that much longer for a larger fleet."""

_LEAVE_S: Final = 10.0
_CONNECT_TIMEOUT_S: Final = 10.0
_FILES_BESIDE: Final = 200
"""What a process has open beside its links."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How the fleet is, and what it did so far."""

    nodes: int
    """Who there is to be, the crashed included."""
    linked: int
    cut: int
    """Who is cut off from the network."""
    slow: int
    down: int
    """Whose process does not run."""
    placed: int
    """Who was put into a group so far."""
    links: int
    """Links that were made so far, the resumed included."""
    resumed: int
    beats: int
    """Heartbeats that are durable."""
    happened: dict[str, int]
    """How often which thing befell somebody; a zone's outage counts once, as `outage`."""
    ended: dict[str, int]
    """Links that the server ended for good, by its word for why."""


class TooFewFiles(ThunderlineError):
    """The system lets this process open too few files for so many links."""

    code = "too_few_files"

    def __init__(self, nodes: int, *, allowed: int) -> None:
        super().__init__(
            f"{nodes:,} links need as many open files, and this process may have {allowed:,}; raise it with 'ulimit -n "
            f"{nodes + _FILES_BESIDE}', or take fewer nodes"
        )


class Fleet(Around):
    """The nodes of `plan`, linked to the server at `url` for the length of an `async with` block.

    Entering creates the groups; then the nodes connect, and `up` returns when all of them have. The end of the block
    says goodbye for those that are linked.
    """

    def __init__(
        self,
        url: str,
        plan: FleetPlan,
        *,
        script: Iterable[Happening] = (),
        told: Callable[[Happening], None] = lambda happening: None,
        token: str | None = None,
        token_file: str | Path | None = None,
        ca: str | Path | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        """`script` says what befalls the nodes, and `told` hears of each when it does. The token, by default the one in
        THUNDERLINE_TOKEN_FILE, has the scope `operator`; with `node` alone there are no groups. `rng` is for jitter
        and the like, and for what tells this process from others: what happens is up to the script.

        Raises: InvalidInput naming the argument; TooFewFiles.
        """
        shown = trust(url, token=token, token_file=token_file, ca=ca)
        self.plan = plan
        self.token = shown.token
        self._clock = clock or SystemClock()
        self.agenda = Agenda(self._clock)
        self._rng = rng or random.Random()
        self._address = Address(url, tls=shown.tls)
        self._client = Client(url, token=shown.token, ca=ca, clock=self._clock)
        self._script = script
        self._told = told
        self.nodes: dict[str, LiveNode] = {node.name: LiveNode(node, self, rng=self._rng) for node in plan.nodes}
        _allow_files(len(plan.nodes))

    async def __aenter__(self) -> Self:
        """Raises: ClientError when the server cannot be asked, or refuses what is needed."""
        loop = asyncio.get_running_loop()
        self._tasks = Supervisor()
        self._waiting: deque[LiveNode] = deque()
        self._opening: set[LiveNode] = set()
        self._dialling: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[ThunderlineError] = loop.create_future()
        self._all_up: asyncio.Future[None] = loop.create_future()
        self._all_left: asyncio.Future[None] | None = None
        self._leaving: set[LiveNode] = set()
        self._awaited = set(self.nodes)
        self._linked = self._links = self._resumed = self._beats = self._goodbyes = 0
        self._happened: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        self.places = Places(self._client, clock=self._clock, changed=self._look)
        try:
            await self.places.create(self.plan)
        except BaseException:
            await self._client.aclose()
            raise
        self.places.start(self._tasks)
        self._tasks.start(self.agenda.run(), name="fleet agenda")
        self._tasks.start(self._play(), name="fleet script")
        for node in self.nodes.values():
            node.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await self.leave()
        finally:
            for node in self.nodes.values():
                node.give_up()
            await self._tasks.close()
            for task in list(self._dialling):
                task.cancel()
            if self._dialling:
                await asyncio.wait(self._dialling)
            await self._client.aclose()

    async def up(self) -> None:
        """Return when every node was linked once and is in its group. Raises: what `failed` does."""
        either: set[asyncio.Future[Any]] = {self._all_up, self._failed}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if self._failed.done():
            raise self._failed.result()

    async def failed(self) -> None:
        """Never return. Raises: what ended a link for good and would end all of them: LinkEnded, ClientError."""
        raise await asyncio.shield(self._failed)

    async def leave(self) -> int:
        """Say goodbye for all, and wait for it to be durable, not for ever; gives how many goodbyes were."""
        await self._tasks.end("fleet script")
        self._all_left = asyncio.get_running_loop().create_future()
        before, self._leaving = self._goodbyes, {node for node in self.nodes.values() if node.runs}
        longest_s = _LEAVE_S + len(self._leaving) / GOODBYES_A_SECOND
        for node in list(self._leaving):
            node.leave("the simulation ended")
        if self._leaving:
            timer = asyncio.create_task(self._clock.sleep(longest_s), name="fleet leaving")
            await asyncio.wait([self._all_left, timer], return_when=asyncio.FIRST_COMPLETED)
            timer.cancel()
        return self._goodbyes - before

    async def remove(self) -> int:
        """Take all nodes and groups out of the registry; gives how many nodes that were. Raises: ClientError."""
        return await self.places.remove(list(self.nodes), self.plan)

    @property
    def counts(self) -> Counts:
        """How things are."""
        nodes = self.nodes.values()
        return Counts(
            nodes=len(nodes),
            linked=self._linked,
            cut=sum(node.is_cut for node in nodes),
            slow=sum(node.is_slow for node in nodes),
            down=sum(not node.runs for node in nodes),
            placed=self.places.done,
            links=self._links,
            resumed=self._resumed,
            beats=self._beats,
            happened=dict(sorted(self._happened.items())),
            ended=dict(sorted(self._ended.items())),
        )

    # What befalls it

    async def _play(self) -> None:
        await asyncio.shield(self._all_up)
        begun = self._clock.monotonic()
        for happening in self._script:
            await self._clock.sleep_until(begun + happening.at_s)
            self.befall(happening)

    def befall(self, happening: Happening) -> None:
        """Let it happen now."""
        if happening.newcomer is not None:
            self.nodes[happening.newcomer.name] = LiveNode(happening.newcomer, self, rng=self._rng)
        for name in happening.nodes:
            if (node := self.nodes.get(name)) is not None:
                _befall(node, happening.what)
        self._happened["outage" if happening.what is What.CUT else happening.what.value] += 1
        self._told(happening)

    # What its nodes need

    def connect(self, node: LiveNode) -> None:
        self._waiting.append(node)
        self._dial()

    def settled(self, node: LiveNode) -> None:
        self._opening.discard(node)
        self._dial()

    def linked(self, node: LiveNode, *, resumed: bool, first: bool) -> None:
        self._linked += 1
        self._links += 1
        self._resumed += resumed
        if first:
            self.places.take(node.plan)
        self._awaited.discard(node.plan.name)
        self._look()

    def unlinked(self, node: LiveNode) -> None:
        self._linked -= 1

    def acked(self, beats: int) -> None:
        self._beats += beats

    def left(self, node: LiveNode, *, heard: bool) -> None:
        self._goodbyes += heard
        self._leaving.discard(node)
        if not self._leaving and self._all_left is not None and not self._all_left.done():
            self._all_left.set_result(None)

    def ended(self, node: LiveNode, error: ThunderlineError, *, for_all: bool) -> None:
        self._ended[error.code] += 1
        self._awaited.discard(node.plan.name)
        if for_all and not self._failed.done():
            self._failed.set_result(error)
        self._look()

    def _look(self) -> None:
        if not self._awaited and self.places.are_settled and not self._all_up.done():
            self._all_up.set_result(None)

    def _dial(self) -> None:
        while self._waiting and len(self._opening) < OPENING_MAX and not self._failed.done():
            node = self._waiting.popleft()
            socket = LinkSocket(node, self._address, token=node.token)
            if node.dial(socket):
                self._opening.add(node)
                task = asyncio.create_task(self._connect(node, socket), name="fleet connect")
                self._dialling.add(task)
                task.add_done_callback(self._dialling.discard)

    async def _connect(self, node: LiveNode, socket: LinkSocket) -> None:
        address = self._address
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(
                    lambda: socket, address.host, address.port, ssl=address.tls
                )
        except (OSError, TimeoutError) as error:
            node.not_connected(socket, self._not_connected(error))

    def _not_connected(self, error: Exception) -> ClientError:
        if (why := untrusted(error)) is not None:
            return ServerUntrusted(self._address.url, reason=why)
        return ServerUnreachable(self._address.url, reason=str(error) or None)


def _befall(node: LiveNode, what: What) -> None:
    match what:
        case What.CRASH:
            node.crash()
        case What.RESTART | What.JOIN:
            node.start()
        case What.SLOW:
            node.slow_down(True)
        case What.RECOVER:
            node.slow_down(False)
        case What.CUT:
            node.cut()
        case What.DROP:
            node.drop()
        case What.MEND:
            node.mend()
        case What.LEAVE:
            node.leave("maintenance")


def _allow_files(nodes: int) -> None:
    """Raises: TooFewFiles."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = nodes + _FILES_BESIDE
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        return
    raise TooFewFiles(nodes, allowed=soft)
