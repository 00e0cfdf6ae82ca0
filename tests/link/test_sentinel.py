"""Who is heard, and who is convicted: the cases that a plain deadline gets wrong."""

from __future__ import annotations

from thunderline.block.memory import MemoryStore
from thunderline.link.actor import NODE_SCOPES, Actor, ActorKind
from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import FaultyStore
from thunderline.testing.harness import Cluster, open_cluster


async def status(cluster: Cluster, name: str) -> str:
    """The node's status once every transition that is due was committed."""
    await cluster.registry.update_node(name, {})
    return cluster.registry.get_node(name).status


async def test_a_repeated_beat_is_a_sign_of_life_though_it_is_kept_once() -> None:
    async with open_cluster() as cluster:
        node = await cluster.node("a")
        await cluster.clock.advance(31)
        assert await status(cluster, "a") == "disconnected"
        again = await cluster.http.post("/api/nodes/a/heartbeats", json={"seq": 1})
        assert again.status_code == 200
        assert await status(cluster, "a") == "online"
        await node.leave()
        await cluster.http.post("/api/nodes/a/heartbeats", json={"seq": 1})
        assert await status(cluster, "a") == "offline"  # after a goodbye it is none


async def test_a_repeated_goodbye_does_not_take_down_a_node_that_came_back() -> None:
    async with open_cluster() as cluster:
        node = await cluster.node("a")
        await node.leave()
        await node.announce()
        again = await cluster.http.post("/api/nodes/a/heartbeats", json={"seq": 2, "status": "offline"})
        assert again.status_code == 200
        assert await status(cluster, "a") == "online"


async def test_a_beat_that_is_refused_for_its_number_still_brings_its_node_back() -> None:
    async with open_cluster() as cluster:
        await cluster.http.post("/api/nodes", json={"name": "a"})
        await cluster.http.post("/api/nodes/a/heartbeats", json={"seq": 5000})
        await cluster.clock.advance(31)
        refused = await cluster.http.post("/api/nodes/a/heartbeats", json={"seq": 1})
        assert (refused.status_code, refused.json()["code"]) == (409, "stale_sequence")
        assert await status(cluster, "a") == "online"
        assert len(await cluster.registry.recent_heartbeats("a")) == 1


async def test_changing_a_silent_node_grants_it_no_new_deadline_after_a_restart() -> None:
    clock, store = ManualClock(), FaultyStore(MemoryStore())
    async with open_cluster(store=store, clock=clock) as cluster:
        await cluster.node("a")
    async with open_cluster(store=store, clock=clock) as cluster:
        for i in range(6):
            await cluster.clock.advance(10)
            await cluster.registry.update_node("a", {"meta": {"i": i}})
        assert await status(cluster, "a") == "disconnected"


async def test_a_shorter_interval_holds_from_the_first_beat_at_it_on() -> None:
    async with open_cluster() as cluster:
        node = await cluster.node("a", heartbeat_interval_ms=60_000)
        await cluster.clock.advance(30)
        await cluster.registry.update_node("a", {"heartbeat_interval_ms": 1000})
        await cluster.clock.advance(100)
        assert await status(cluster, "a") == "online"
        assert (await node.beat()).json()["next_interval_ms"] == 1000
        await cluster.clock.advance(100)
        assert await status(cluster, "a") == "online"  # that answer may have been lost
        await node.beat()
        await cluster.clock.advance(3.2)
        assert await status(cluster, "a") == "disconnected"


async def test_a_longer_interval_holds_at_once() -> None:
    async with open_cluster() as cluster:
        await cluster.node("a")
        await cluster.registry.update_node("a", {"heartbeat_interval_ms": 60_000})
        await cluster.clock.advance(170)
        assert await status(cluster, "a") == "online"


async def test_our_own_pause_convicts_nobody() -> None:
    async with open_cluster() as cluster:
        node = await cluster.node("a")
        await cluster.clock.advance(25)
        cluster.clock.pause(3600)
        await cluster.clock.advance(4)
        assert await status(cluster, "a") == "online"
        await cluster.clock.advance(4)
        assert await status(cluster, "a") == "disconnected"  # but silence before and after the pause counts
        await node.beat()
        assert await status(cluster, "a") == "online"


async def test_what_a_node_says_of_itself_is_a_sign_of_life_and_its_reason_is_kept() -> None:
    async with open_cluster() as cluster:
        await cluster.node("a")
        known = cluster.registry.get_node("a")
        itself = Actor(kind=ActorKind.NODE, name="a", scopes=NODE_SCOPES, node_id=known.id)
        await cluster.clock.advance(29)
        await cluster.registry.mark_status("a", "degraded", "fan broken", actor=itself)
        await cluster.clock.advance(29)
        assert await status(cluster, "a") == "degraded"
        assert cluster.registry.get_node("a").status_reason == "fan broken"
        left = await cluster.registry.mark_offline("a", "battery empty", actor=itself)
        assert left.status_reason == "goodbye: battery empty"
        await cluster.registry.heartbeat("a")
        assert await status(cluster, "a") == "offline"


async def test_an_override_changes_what_shows_and_not_which_links_are_there() -> None:
    async with open_cluster() as cluster:
        node = await cluster.node("a")
        await node.announce(session={"session_id": "s1"})
        sessions = cluster.registry.roster.find("a").sessions
        await cluster.registry.mark_status("a", "offline", "goodbye")
        assert [session.status for session in sessions.values()] == ["established"]
        await cluster.registry.mark_status("a", "online", "trust me")
        await cluster.clock.advance(31)
        await status(cluster, "a")
        assert [session.status for session in sessions.values()] == ["degraded"]
        await cluster.clock.advance(61)
        assert await status(cluster, "a") == "online"  # as the operator will have it
        assert len(sessions) == 0


async def test_a_restart_says_so_in_the_reason() -> None:
    async with open_cluster() as cluster:
        node = await cluster.node("a")
        await node.announce(instance="i1")
        await node.announce(instance="i2")
        shown = cluster.registry.get_node("a")
        assert (shown.status, shown.status_reason, shown.incarnation) == ("online", "restarted", 2)
