"""One machine as a node: linked until it is told to stop, or the registry ends the link for good."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from thunderline.agent.peers import Peer, PeerMeter
from thunderline.client.link import Link
from thunderline.client.transport import Transport
from thunderline.core.clock import Clock, SystemClock
from thunderline.core.host import HostMeter
from thunderline.core.logging import get_logger
from thunderline.core.tasks import Supervisor

log = get_logger(__name__)

_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)


class AgentOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent is told; None leaves it to the registry."""

    server: str
    name: str
    role: str | None = None
    domain: str | None = None
    interval_s: float | None = None
    labels: Mapping[str, str] | None = None
    meta: Mapping[str, object] | None = None
    capabilities: Mapping[str, Mapping[str, object]] | None = None
    peers: Mapping[str, Peer] = {}
    token_file: Path | None = None
    """With the node's credential, or a token by which it joins."""
    credential_file: Path | None = None
    """Where it keeps its credential; None: in memory alone."""
    ca: Path | None = None


class Agent:
    """The machine's link, its figures, and how far its peers are."""

    def __init__(
        self,
        options: AgentOptions,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        transport: Transport | None = None,
    ) -> None:
        """Raises: InvalidInput naming the option's field."""
        clock, rng = clock or SystemClock(), rng or random.Random()
        self._meter = HostMeter(clock)
        self._peers = PeerMeter(options.peers, clock=clock, rng=rng)
        self._measures = bool(options.peers)
        self.link = Link(
            options.server,
            name=options.name,
            role=options.role,
            domain=options.domain,
            interval_s=options.interval_s,
            labels=options.labels,
            meta=options.meta,
            capabilities=options.capabilities,
            metrics=self.figures,
            token_file=options.token_file,
            credential_file=options.credential_file,
            ca=options.ca,
            clock=clock,
            rng=rng,
            transport=transport,
        )

    async def figures(self) -> dict[str, object]:
        """What the next beat says. It waits for nothing."""
        read = self._meter.read()
        return {
            "cpu_load": read.cpu_load,
            "mem_used_mb": read.mem_used_mb,
            "latency_ms": self.link.round_trip_ms,
            "peers": self._peers.latencies if self._measures else None,
        }

    async def run(self, *, announce: Callable[[Link], None]) -> None:
        """Be a node until cancelled, which says goodbye; `announce` is told once the registry has welcomed it.

        Raises: LinkEnded when the registry ends the link for good; ServerRefused or NotThunderline when it refuses, or
        is none, at the beginning.
        """
        tasks = Supervisor()
        try:
            if self._measures:
                tasks.start(self._peers.run(), name="peers")
            async with self.link:
                announce(self.link)
                error = await self.link.wait_ended()
                if error is not None:
                    raise error
        finally:
            await tasks.close()


async def run_until_signalled(agent: Agent, *, announce: Callable[[Link], None]) -> None:
    """Run `agent` until SIGTERM or SIGINT, then say goodbye. Raises: what `Agent.run` raises."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal() -> None:
        stop.set()
        # A second one ends the process as it would any other.
        for number in _STOPPING:
            loop.remove_signal_handler(number)

    for number in _STOPPING:
        loop.add_signal_handler(number, on_signal)
    running = asyncio.create_task(agent.run(announce=announce), name="agent")
    signalled = asyncio.create_task(stop.wait(), name="signal")
    await asyncio.wait([running, signalled], return_when=asyncio.FIRST_COMPLETED)
    if signalled.done():
        log.info("stopping")
        running.cancel()
        await asyncio.wait([running])
        if running.cancelled():
            return
    signalled.cancel()
    await running
