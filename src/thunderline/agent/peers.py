"""How far away other nodes are: the time that a TCP connection to each takes, measured beside the beats."""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
from collections.abc import Mapping
from typing import Final

import msgspec

from thunderline.core.clock import Clock

CONNECT_TIMEOUT_S: Final = 2.0
"""A peer that takes longer counts as unreachable."""

INTERVAL_S: Final = 10.0
JITTER: Final = 0.1


class Peer(msgspec.Struct, frozen=True):
    """Where another node can be reached."""

    host: str
    port: int


class PeerMeter:
    """Measures every peer about every `interval_s`, all at once. `latencies` never makes anybody wait."""

    def __init__(
        self,
        peers: Mapping[str, Peer],
        *,
        clock: Clock,
        rng: random.Random,
        interval_s: float = INTERVAL_S,
        timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self._peers = dict(peers)
        self._clock = clock
        self._rng = rng
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self.latencies: dict[str, float | None] = {}
        """Milliseconds by name, as measured last; None: unreachable. A peer that was not measured yet is missing."""

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            await self.measure()
            await self._clock.sleep(self._interval_s * (1 - self._rng.uniform(0, JITTER)))

    async def measure(self) -> None:
        """Measure every peer once."""
        async with asyncio.TaskGroup() as group:
            for name, peer in self._peers.items():
                group.create_task(self._measure(name, peer), name=f"peer {name}")

    async def _measure(self, name: str, peer: Peer) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                self.latencies[name] = await self._connect_ms(peer)
        except (OSError, TimeoutError, UnicodeError):  # the last: a name that cannot even be looked up
            self.latencies[name] = None

    async def _connect_ms(self, peer: Peer) -> float:
        loop = asyncio.get_running_loop()
        host = peer.host
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            # Looked up first: the name server's time is not the peer's.
            found = await loop.getaddrinfo(host, peer.port, type=socket.SOCK_STREAM)
            host = str(found[0][4][0])
            address = ipaddress.ip_address(host.partition("%")[0])
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            started = self._clock.monotonic()
            await loop.sock_connect(probe, (host, peer.port))
            return round((self._clock.monotonic() - started) * 1000, 3)
