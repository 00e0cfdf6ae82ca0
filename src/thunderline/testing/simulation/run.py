"""Runs a scenario: makes the world, lets the faults happen, and says what came of it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Final, assert_never

from thunderline.link.registry import Registry
from thunderline.testing.records import numbered_ids
from thunderline.testing.simulation.http_node import HttpNode
from thunderline.testing.simulation.link_node import LinkNode
from thunderline.testing.simulation.network import Path
from thunderline.testing.simulation.node import SimulatedNode, Tally
from thunderline.testing.simulation.observer import Observer, Watched
from thunderline.testing.simulation.report import Report, missed_bars
from thunderline.testing.simulation.scenario import (
    Crash,
    Cut,
    Fault,
    Fleet,
    Impair,
    Leave,
    NodeFault,
    RegistryPause,
    RegistryRestart,
    Scenario,
    Stop,
    StoreOutage,
    WallJump,
)
from thunderline.testing.simulation.site import Site
from thunderline.testing.simulation.store import SimulatedStore
from thunderline.testing.simulation.world import SimulatedClock, SimulatedLoop, World

Progress = Callable[[float, float], None]
"""Is told how many seconds of how many have passed."""

_NODES: Final = {"link": LinkNode, "http": HttpNode}
_PROGRESS_STEPS: Final = 200


def simulate(scenario: Scenario, *, progress: Progress | None = None) -> Report:
    """Run it to its end, in simulated time, and say what came of it. Not from within a running event loop."""
    world = World()
    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(world)) as runner:
        return runner.run(_Simulation(scenario, world).run(progress))


class _Simulation:
    def __init__(self, scenario: Scenario, world: World) -> None:
        self._scenario = scenario
        self._world = world
        self._rng = random.Random(scenario.seed)
        self._observer = Observer(world)
        ids = numbered_ids()
        self._store = SimulatedStore(
            ids=ids, commit_s=scenario.commit, keeps_history=scenario.history, committed=self._observer.committed
        )
        self._clock = SimulatedClock(world)
        self._site = Site(
            world,
            clock=self._clock,
            store=self._store,
            settings=scenario.registry_settings(),
            ids=ids,
            rng=random.Random(self._rng.random()),
        )
        self._zones: dict[str, list[SimulatedNode]] = {}
        self._nodes: dict[str, list[SimulatedNode]] = {}
        self._restarting: asyncio.Task[None] | None = None

    async def run(self, progress: Progress | None) -> Report:
        """The whole of it."""
        scenario, world = self._scenario, self._world
        registry = await self._site.start()
        for zone in dict.fromkeys(zone for fleet in scenario.fleets for zone in fleet.zones):
            await registry.create_group({"name": zone, "group_type": "zone"})
        for fleet in scenario.fleets:
            self._deploy(fleet)
        await asyncio.gather(*(_place(registry, node) for nodes in self._nodes.values() for node in nodes if node.zone))
        for fault in scenario.faults:
            world.at(fault.at, partial(self._befall, fault))
        self._sample()
        for step in range(1, _PROGRESS_STEPS + 1):
            await self._clock.sleep_until(scenario.duration * step / _PROGRESS_STEPS)
            if progress is not None:
                progress(world.now, scenario.duration)
        if self._restarting is not None:
            await self._restarting
        report = await self._report()
        await self._site.stop(kill=False)
        return report

    def _deploy(self, fleet: Fleet) -> None:
        watched = self._observer.fleets[fleet.name] = Watched(tally=Tally())
        nodes = self._nodes[fleet.name] = []
        digits = max(4, len(str(fleet.count)))
        for number in range(1, fleet.count + 1):
            rng = random.Random(self._rng.random())
            node = _NODES[fleet.transport](
                f"{fleet.name}-{number:0{digits}}",
                world=self._world,
                site=self._site,
                path=Path(rng, loss=fleet.loss, delay=fleet.delay),
                rng=rng,
                interval_s=fleet.interval,
                zone=fleet.zones[number % len(fleet.zones)] if fleet.zones else None,
                tally=watched.tally,
                changed=self._observer.changed,
            )
            nodes.append(node)
            self._observer.watch(fleet.name, node)
            self._world.after(self._rng.uniform(0, self._scenario.join_within), node.start)

    def _sample(self) -> None:
        self._observer.sample(self._site.registry)
        self._world.after(self._scenario.sample_every, self._sample)

    # Faults

    def _befall(self, fault: Fault) -> None:
        match fault:
            case RegistryRestart():
                self._world.hand(lambda: self._begin_restart(fault))
            case RegistryPause():
                self._world.stand_still(fault.span)
            case StoreOutage():
                self._store.away = True
                self._world.after(fault.span, self._bring_store_back)
            case WallJump():
                self._clock.jump_wall(fault.by)
            case Crash() | Cut() | Stop() | Leave() | Impair():
                for node in self._befallen(fault):
                    self._strike(fault, node)
            case _:
                assert_never(fault)

    def _strike(self, fault: NodeFault, node: SimulatedNode) -> None:
        world = self._world
        match fault:
            case Crash():
                node.crash()
                if fault.restart_after is not None:
                    world.after(fault.restart_after, node.start)
            case Cut():
                node.cut()
                if fault.span is not None:
                    world.after(fault.span, node.mend)
            case Stop():
                node.stop()
                world.after(fault.span, node.go_on)
            case Leave():
                node.leave()
            case Impair():
                world.after(fault.span, node.path.impair(loss=fault.loss, delay=fault.delay))
            case _:
                assert_never(fault)

    def _befallen(self, fault: NodeFault) -> list[SimulatedNode]:
        fleets = self._nodes.values() if fault.fleet is None else [self._nodes[fault.fleet]]
        nodes = [node for fleet in fleets for node in fleet if fault.zone is None or node.zone == fault.zone]
        if fault.share < 1:
            nodes = self._rng.sample(nodes, round(fault.share * len(nodes)))
        return nodes

    def _begin_restart(self, fault: RegistryRestart) -> None:
        self._restarting = asyncio.get_running_loop().create_task(self._restart(fault))

    async def _restart(self, fault: RegistryRestart) -> None:
        await self._site.stop(kill=fault.kill)
        await self._clock.sleep(fault.down)
        await self._site.start()

    def _bring_store_back(self) -> None:
        self._store.away = False

    # In the end

    async def _report(self) -> Report:
        scenario, observer = self._scenario, self._observer
        registry = self._site.registry
        assert registry is not None, "it is only down within a restart"
        report = Report(
            title=scenario.title,
            seed=scenario.seed,
            duration_s=float(scenario.duration),
            nodes=sum(map(len, self._nodes.values())),
            commits=self._store.commits,
            beats_kept=self._store.beats,
            beats_in_history=await self._store.count_beats() if scenario.history else None,
            events=dict(sorted(observer.events.items())),
            told=observer.told,
            fleets=observer.reports(registry),
            curve=observer.curve,
            missed=[],
        )
        report.missed.extend(
            missed_bars(
                scenario.bars,
                report,
                longest_hidden_s=observer.longest_s("shown_at"),
                longest_until_offline_s=observer.longest_s("offline_at"),
            )
        )
        return report


async def _place(registry: Registry, node: SimulatedNode) -> None:
    """Register the node in its zone, as whoever sets up a cluster would."""
    assert node.zone is not None
    await registry.ensure_node({"name": node.name})
    await registry.add_to_group(node.name, node.zone)
