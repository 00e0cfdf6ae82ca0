"""A link through whatever may happen to it: at the end every beat is accounted for, and the registry has each once."""

from __future__ import annotations

import asyncio
import random
from typing import Final

import pytest

from thunderline.client.link import Link
from thunderline.testing import Fault, MemoryTransport
from thunderline.testing.harness import Cluster, open_cluster

HAPPENINGS: Final = (
    *("turn",) * 6,
    *("beat",) * 4,
    *("cut", "cut_after", "hold_up", "hold_down", "release", "refuse", "hang", "listen", "listen"),
    *("store_away", "store_back", "store_back", "lost_before", "lost_after", "pause"),
)


class Faults:
    """Chance, at the switches of a cluster and of a transport."""

    def __init__(self, cluster: Cluster, transport: MemoryTransport, rng: random.Random) -> None:
        self._cluster = cluster
        self._transport = transport
        self._rng = rng

    async def happen(self) -> bool:
        """Something; true if it is that the program beats by hand."""
        transport, store, rng = self._transport, self._cluster.store, self._rng
        match what := rng.choice(HAPPENINGS):
            case "turn":
                await self._cluster.turn(rng.uniform(0, 6), step_s=0.25)
            case "cut":
                transport.cut()
            case "cut_after":
                transport.cut_after(rng.randint(1, 3))
            case "hold_up" | "hold_down":
                transport.hold(up=what == "hold_up", down=what == "hold_down")
            case "release":
                transport.release()
            case "refuse":
                transport.refusing = True
            case "hang":
                transport.hanging = True
            case "listen":
                transport.refusing = transport.hanging = False
            case "store_away":
                store.away = True
            case "store_back":
                store.away = False
            case "lost_before":
                store.faults.append(Fault.LOST_BEFORE)
            case "lost_after":
                store.faults.append(Fault.LOST_AFTER)
            case "pause":
                self._cluster.clock.pause(rng.uniform(0, 20))
        return what == "beat"

    async def heal(self) -> None:
        """Nothing is in the way any more, and there is time."""
        self._transport.refusing = self._transport.hanging = self._cluster.store.away = False
        self._cluster.store.faults.clear()
        self._transport.release()
        await self._cluster.turn(90, step_s=0.25)


@pytest.mark.parametrize("seed", range(25))
async def test_every_beat_is_kept_once_or_counted_whatever_happens(seed: int) -> None:
    rng = random.Random(seed)
    async with open_cluster(seed=seed) as cluster:
        transport = MemoryTransport(cluster.registry)
        faults = Faults(cluster, transport, rng)
        async with Link(
            "http://cluster",
            name="worker-1",
            interval_s=rng.choice([1, 5]),
            transport=transport,
            clock=cluster.clock,
            rng=random.Random(seed),
            backlog_max=rng.choice([8, 900]),
        ) as link:
            by_hand: list[asyncio.Task[None]] = []
            for _ in range(80):
                if await faults.happen():
                    by_hand.append(asyncio.create_task(link.beat(cpu_load=len(by_hand))))
                    await asyncio.sleep(0)
            await faults.heal()
            flushing = asyncio.create_task(link.flush())
            await cluster.turn(30, step_s=0.25)
            await flushing
            stats = link.stats
            assert link.connected
            assert stats.beats_taken == stats.beats_acked + stats.beats_dropped + stats.beats_refused + stats.backlog
            assert stats.backlog <= 1  # one that was taken after the flush
            answer = await cluster.http.get("/api/nodes/worker-1/heartbeats", params={"minutes": 1_000})
            kept = [beat["seq"] for beat in answer.json()["heartbeats"]]
            assert len(kept) == len(set(kept)), "kept twice"
            # A beat that was given up may have been kept: the registry lost its acknowledgement, not the beat.
            assert stats.beats_acked <= len(kept) <= stats.beats_taken
            loads = {beat["cpu_load"] for beat in answer.json()["heartbeats"]}
            for number, task in enumerate(by_hand):
                assert task.done()
                if task.exception() is None:
                    assert number in loads, "acknowledged but not kept"
