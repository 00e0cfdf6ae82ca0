"""The registry embedded in a program: what its caller gives, gets, and finds again."""

from __future__ import annotations

import asyncio
import gc
import logging
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

import thunderline
from thunderline import Registry
from thunderline.block.memory import MemoryStore
from thunderline.block.sqlite import SqliteStore
from thunderline.core.errors import (
    InvalidInput,
    NotPermitted,
    SettingsError,
    StoreLocked,
    StoreUnavailable,
    UnknownNode,
)
from thunderline.core.ids import GroupId, NodeId
from thunderline.core.records import Node, NodeGroup, NodeStatus
from thunderline.link.actor import NODE_SCOPES, Actor, ActorKind
from thunderline.testing.clock import ManualClock
from thunderline.testing.harness import open_cluster


def test_the_public_names_are_these() -> None:
    assert thunderline.__all__ == ["Registry", "Settings", "__version__", "load_settings"]
    assert all(hasattr(thunderline, name) for name in thunderline.__all__)


async def test_what_was_registered_and_heard_is_found_again_after_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nodes.db'}"
    clock = ManualClock()
    async with Registry.open(url, clock=clock) as registry:
        attrs = {"name": "worker-1", "meta": {"a": [1, {"b": None}]}, "labels": {"zone": "ä"}, "address": "10.0.0.1:70"}
        node = await registry.ensure_node(attrs)
        announced = await registry.mark_online("worker-1", {"session_id": "s1", "meta": {"k": 1}}, instance="i1")
        assert announced.session is not None
        await registry.heartbeat(node.id, "degraded", {"cpu_load": 99.5, "seq": 4, "peers": {"worker-2": None}})
        await registry.mark_status("worker-1", "offline", "disk swap")
        await registry.clear_override("worker-1")
        before = (registry.get_node(node.id), registry.presence(node.id), registry.graph(), registry.cursor)
    async with Registry.open(url, clock=clock) as registry:
        assert (
            registry.get_node("worker-1"),
            registry.presence("worker-1"),
            registry.graph(),
            registry.cursor,
        ) == before
        kept = await registry.heartbeat("worker-1", "degraded", {"seq": 4})
        assert kept == before[1].last_heartbeat
        assert len(await registry.recent_heartbeats("worker-1")) == 1


async def test_a_restart_convicts_nobody_before_a_full_deadline(tmp_path: Path) -> None:
    clock = ManualClock()
    store = SqliteStore(tmp_path / "nodes.db", clock=clock)
    async with open_cluster(store=store, clock=clock) as cluster:
        await cluster.node("a")
    await clock.advance(86_400)
    async with open_cluster(store=store, clock=clock) as cluster:
        await cluster.turn(29)
        assert cluster.registry.get_node("a").status == "online"
        await cluster.turn(17)
        # Behind whatever transition is queued now.
        await cluster.turn_until(cluster.registry.update_node("a", {}))
        assert cluster.registry.get_node("a").status == "disconnected"


async def test_a_node_speaks_for_itself_alone_and_never_overrides() -> None:
    async with Registry.open("memory://") as registry:
        node = await registry.ensure_node({"name": "a"})
        other = await registry.ensure_node({"name": "b"})
        itself = Actor(kind=ActorKind.NODE, name="a", scopes=NODE_SCOPES, node_id=node.id)
        marked = await registry.mark_status("a", "degraded", "hot", actor=itself)
        assert (marked.status, marked.observed_status, marked.override) == ("degraded", "degraded", None)
        left = await registry.mark_offline("a", actor=itself)
        assert (left.status_reason, left.override) == ("goodbye", None)
        for action in (
            registry.mark_status(other.id, "offline", actor=itself),
            registry.mark_online(other.id, actor=itself),
            registry.update_node(other.id, {"address": "x"}, actor=itself),
            registry.heartbeat(other.id, actor=itself),
            registry.clear_override("a", actor=itself),
            registry.deregister("a", actor=itself),
        ):
            with pytest.raises(NotPermitted):
                await action


@pytest.mark.parametrize(
    ("attrs", "field"),
    [
        ({"name": "a", "colour": 1}, "colour"),
        ({"name": "a", "meta": {"x": float("nan")}}, "meta.x"),
        ({"name": "a", "meta": {"x": datetime(2026, 1, 1, tzinfo=UTC)}}, "meta.x"),
        ({"name": "\ud800"}, "name"),
        ({}, "name"),
    ],
)
async def test_a_program_that_gives_bad_attributes_learns_which(attrs: dict[str, object], field: str) -> None:
    async with Registry.open("memory://") as registry:
        with pytest.raises(InvalidInput) as refused:
            await registry.ensure_node(attrs)
        assert refused.value.field == field
        assert registry.roster.revision == 0


async def test_bad_figures_and_spans_are_refused() -> None:
    async with Registry.open("memory://") as registry:
        await registry.ensure_node({"name": "a"})
        for metrics in ({"cpu_load": float("inf")}, {"cpu_load": float("nan")}, {"cpu_load": -1}, {"load": 1}):
            with pytest.raises(InvalidInput):
                await registry.heartbeat("a", "online", metrics)
        for minutes in (0, -1, float("nan"), 1e12):
            with pytest.raises(InvalidInput, match="minutes"):
                await registry.recent_heartbeats("a", minutes=minutes)
        with pytest.raises(InvalidInput, match="status"):
            await registry.mark_status("a", "connecting")
        with pytest.raises(UnknownNode):
            await registry.recent_heartbeats("nobody")
        assert await registry.recent_heartbeats() == []


async def test_a_listing_combines_its_filters() -> None:
    async with Registry.open("memory://") as registry:
        for i in range(12):
            role = "edge" if i % 2 else "worker"
            await registry.ensure_node({"name": f"n{i:02}", "role": role, "labels": {"z": str(i % 3)}})
        await registry.heartbeat("n03")
        names = [node.name for node in registry.list_nodes(role="edge", labels={"z": "0"})]
        assert names == ["n03", "n09"]
        assert [node.name for node in registry.list_nodes(status="online, degraded")] == ["n03"]
        assert [node.name for node in registry.list_nodes(name="n1*", status="connecting")] == ["n10", "n11"]
        with pytest.raises(InvalidInput, match="status"):
            registry.list_nodes(status="asleep")


async def test_a_store_has_one_registry_at_a_time(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nodes.db'}"
    async with Registry.open(url):
        with pytest.raises(StoreLocked):
            async with Registry.open(url):
                pass
    async with Registry.open(url) as registry:
        await registry.ensure_node({"name": "a"})


async def test_a_start_that_is_cancelled_gives_the_store_back(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nodes.db'}"
    for turns in range(12):
        opening = asyncio.ensure_future(Registry.open(url).__aenter__())
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        async with Registry.open(url) as registry:
            await registry.ensure_node({"name": f"n{turns}"})


@pytest.mark.parametrize("url", ["redis://x", "nodes.db", "sqlite://nodes.db"])
async def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="store"):
        async with Registry.open(url):
            pass


async def test_an_embedded_registry_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    async with Registry.open("memory://") as registry:
        await registry.ensure_node({"name": "a"})
    assert capfd.readouterr() == ("", "")


async def test_its_log_reaches_the_program_s_own(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with Registry.open("memory://"):
        pass
    (opened,) = (record for record in caplog.records if record.message == "registry open")
    assert opened.nodes == 0


async def test_records_are_values() -> None:
    async with Registry.open("memory://") as registry:
        node = await registry.ensure_node({"name": "a"})
        with pytest.raises(AttributeError):
            node.status = NodeStatus.ONLINE  # type: ignore[misc]
        assert msgspec.json.decode(msgspec.json.encode(node), type=type(node)) == node
        assert registry.get_node(NodeId(node.id.upper())) is node


async def test_the_collector_rests_while_the_roster_is_loaded_and_no_longer() -> None:
    class Watched(MemoryStore):
        async def scan_nodes(self, *, after: NodeId | None, limit: int) -> list[Node]:
            assert not gc.isenabled()
            return await super().scan_nodes(after=after, limit=limit)

        async def scan_groups(self, *, after: GroupId | None, limit: int) -> list[NodeGroup]:
            raise StoreUnavailable("gone")

    with pytest.raises(StoreUnavailable):
        async with open_cluster(store=Watched()):
            pass
    assert gc.isenabled()
