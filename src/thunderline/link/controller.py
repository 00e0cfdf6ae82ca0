"""The registry as a node of its own cluster: it beats with this machine's real figures and its own commit latency."""

from __future__ import annotations

from typing import Final

from thunderline.core.errors import ThunderlineError, UnknownNode
from thunderline.core.host import SHORTEST_CPU_S, HostMeter
from thunderline.core.inputs import HeartbeatInput, NodeAttrs, OnlineInput
from thunderline.core.logging import get_logger
from thunderline.core.records import BeatStatus
from thunderline.link.actor import Actor, ActorKind
from thunderline.link.registry import Registry

log = get_logger(__name__)

ROLE: Final = "controller"
FIRST_LOAD_S: Final = 2 * SHORTEST_CPU_S


class Controller:
    """Keeps the registry's own node alive. Its beats' `latency_ms` is the mean time of a commit since the last."""

    def __init__(self, registry: Registry, meter: HostMeter, *, address: str | None = None) -> None:
        self._registry = registry
        self._meter = meter
        self._address = address
        self._instance = registry.new_id()
        self._seq = 0
        self._actor = Actor(kind=ActorKind.SYSTEM, name=registry.owner)

    async def start(self) -> None:
        """Register under this process's address and interval, announce and beat once."""
        attrs = NodeAttrs(
            name=self._registry.owner,
            role=ROLE,
            address=self._address,
            heartbeat_interval_ms=self._registry.settings.heartbeat_interval_ms,
        )
        node = await self._registry.domain.claim_own_node(attrs, actor=self._actor)
        await self._registry.domain.mark_node_online(node.id, OnlineInput(instance=self._instance), actor=self._actor)
        await self._beat(BeatStatus.ONLINE)

    async def run(self) -> None:
        """Beat at the node's interval until cancelled. A beat that is refused is logged, and followed by the next."""
        interval_s = self._registry.settings.heartbeat_interval_s
        # The first beat could not know the load yet; this one does.
        wait_s = min(FIRST_LOAD_S, interval_s)
        while True:
            await self._registry.clock.sleep(wait_s)
            wait_s = interval_s
            try:
                interval_s = wait_s = await self._beat(BeatStatus.ONLINE) / 1000
            except UnknownNode:
                log.warning("own node was deregistered, registering again")
                await self._start_again()
            except ThunderlineError as error:
                log.warning("own heartbeat refused", error=str(error))

    async def _start_again(self) -> None:
        try:
            await self.start()
        except ThunderlineError as error:
            log.warning("own registration refused", error=str(error))

    async def stop(self) -> None:
        """Say goodbye, if the store still takes it."""
        try:
            await self._beat(BeatStatus.OFFLINE)
        except ThunderlineError as error:
            log.warning("own goodbye refused", error=str(error))

    async def _beat(self, status: BeatStatus) -> int:
        """Beat; gives the milliseconds to the next one."""
        self._seq += 1
        figures = self._meter.read()
        beat = HeartbeatInput(
            status=status,
            seq=self._seq,
            cpu_load=figures.cpu_load,
            mem_used_mb=figures.mem_used_mb,
            latency_ms=self._registry.stats.read_latency_ms(),
        )
        entry = self._registry.roster.find(self._registry.owner)
        kept = await self._registry.domain.update_heartbeat(entry, beat, actor=self._actor)
        return kept.next_interval_ms
