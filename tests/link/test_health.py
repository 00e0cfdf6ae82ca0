"""Degraded by figures: sustained, with hysteresis, named in the reason, and never instead of what is worse."""

from __future__ import annotations

from typing import Any

import pytest

from thunderline.block.memory import MemoryStore
from thunderline.core.inputs import HeartbeatInput
from thunderline.core.records import Node
from thunderline.core.settings import Settings
from thunderline.link.health import Health
from thunderline.link.roster import Entry
from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import FaultyStore
from thunderline.testing.harness import Cluster, open_cluster
from thunderline.testing.records import make_node

SETTINGS = Settings(degraded_cpu_load=90, degraded_latency_ms=100)


class Patient:
    def __init__(self, settings: Settings = SETTINGS, node: Node | None = None) -> None:
        self.now = 0.0
        self.node = node or make_node(1)
        self.entry = Entry(self.node)
        self.health = Health(settings, now=lambda: self.now)

    def beat(self, after_s: float = 10.0, **figures: Any) -> str:
        self.now += after_s
        return self.health.judge(self.entry, self.node, HeartbeatInput(**figures))


def test_without_thresholds_nothing_is_judged_or_remembered() -> None:
    patient = Patient(Settings())
    assert [patient.beat(cpu_load=1e6) for _ in range(10)] == [""] * 10
    assert patient.entry.strain is None


def test_a_figure_has_to_stay_too_high_for_a_while() -> None:
    patient = Patient()
    assert [patient.beat(cpu_load=90) for _ in range(5)] == ["", "", "", "cpu_load", "cpu_load"]


def test_one_good_beat_begins_the_while_anew() -> None:
    patient = Patient()
    assert [patient.beat(cpu_load=cpu) for cpu in (95, 95, 95, 89, 95, 95, 95)] == [""] * 7
    assert patient.beat(cpu_load=95) == "cpu_load"


def test_it_is_well_again_once_it_stayed_well_below_for_as_long() -> None:
    patient = Patient()
    for _ in range(4):
        patient.beat(cpu_load=95)
    assert {patient.beat(cpu_load=cpu) for cpu in [85, 81] * 20} == {"cpu_load"}
    assert [patient.beat(cpu_load=80) for _ in range(5)] == ["cpu_load"] * 3 + ["", ""]
    assert patient.entry.strain is None


def test_several_figures_are_named_in_one_order() -> None:
    patient = Patient()
    patient.beat(latency_ms=500)
    for _ in range(3):
        patient.beat(latency_ms=500, cpu_load=99)
    assert patient.beat(latency_ms=500, cpu_load=99) == "cpu_load, latency_ms"


def test_a_figure_that_is_not_reported_any_more_is_not_too_high() -> None:
    patient = Patient()
    for _ in range(4):
        patient.beat(cpu_load=95)
    assert [patient.beat() for _ in range(4)] == ["cpu_load"] * 3 + [""]


def test_without_a_while_each_beat_speaks_for_itself() -> None:
    patient = Patient(Settings(degraded_cpu_load=90, degraded_after_s=0, degraded_hysteresis=0))
    assert [patient.beat(cpu_load=cpu) for cpu in (90, 89, 95)] == ["cpu_load", "", "cpu_load"]


def test_another_process_begins_anew() -> None:
    patient = Patient()
    for _ in range(4):
        patient.beat(cpu_load=95)
    patient.node = make_node(1, incarnation=2)
    assert patient.beat(cpu_load=95) == ""


# In a registry


async def beat(cluster: Cluster, cpu_load: float, status: str = "online") -> tuple[str, str]:
    await cluster.clock.advance(10)
    await cluster.registry.heartbeat("a", status, {"cpu_load": cpu_load})
    node = cluster.registry.get_node("a")
    return node.status, node.status_reason


async def test_a_node_that_says_it_is_well_is_degraded_and_the_reason_names_the_figure() -> None:
    async with open_cluster(settings=SETTINGS) as cluster:
        await cluster.node("a")
        told = [await beat(cluster, 99) for _ in range(5)]
        assert told[2] == ("online", "heartbeat")
        assert told[3] == told[4] == ("degraded", "strained: cpu_load")
        revision = cluster.registry.get_node("a").revision
        await beat(cluster, 99)
        assert cluster.registry.get_node("a").revision == revision
        told = [await beat(cluster, 10) for _ in range(4)]
        assert told[2:] == [("degraded", "strained: cpu_load"), ("online", "heartbeat")]


async def test_what_the_node_says_of_itself_comes_first() -> None:
    async with open_cluster(settings=SETTINGS) as cluster:
        await cluster.node("a")
        for _ in range(4):
            await beat(cluster, 99, "degraded")
        assert cluster.registry.get_node("a").status_reason == "reported"
        assert await beat(cluster, 99) == ("degraded", "strained: cpu_load")
        assert await beat(cluster, 99, "offline") == ("offline", "goodbye")
        assert await beat(cluster, 99) == ("offline", "goodbye")


async def test_silence_and_return_leave_a_strained_node_degraded() -> None:
    async with open_cluster(settings=SETTINGS) as cluster:
        await cluster.node("a")
        for _ in range(4):
            await beat(cluster, 99)
        await cluster.clock.advance(31)
        assert cluster.registry.get_node("a").status == "disconnected"
        assert await beat(cluster, 99) == ("degraded", "strained: cpu_load")


@pytest.mark.parametrize(("cpu_load", "beats"), [(99, 1), (10, 4)])
async def test_a_restart_of_the_registry_does_not_make_a_strained_node_well(cpu_load: float, beats: int) -> None:
    clock, store = ManualClock(), FaultyStore(MemoryStore())
    async with open_cluster(store=store, clock=clock, settings=SETTINGS) as cluster:
        await cluster.node("a")
        for _ in range(4):
            await beat(cluster, 99)
        revision = cluster.registry.get_node("a").revision
    async with open_cluster(store=store, clock=clock, settings=SETTINGS) as cluster:
        told = [await beat(cluster, cpu_load) for _ in range(beats)]
        assert told[0] == ("degraded", "strained: cpu_load")
        if cpu_load == 99:
            assert cluster.registry.get_node("a").revision == revision
        else:
            assert told[-1] == ("online", "heartbeat")


async def test_an_override_is_not_touched_by_figures() -> None:
    async with open_cluster(settings=SETTINGS) as cluster:
        await cluster.node("a")
        await cluster.registry.mark_status("a", "online", "I know better")
        for _ in range(5):
            shown = await beat(cluster, 99)
        assert shown == ("online", "I know better")
        assert cluster.registry.get_node("a").observed_status == "degraded"
        lifted = await cluster.registry.clear_override("a")
        assert (lifted.status, lifted.status_reason) == ("degraded", "strained: cpu_load")
