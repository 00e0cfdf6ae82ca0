"""Which events belong together, and which brought which about."""

from __future__ import annotations

from tests.gate.links import Links
from thunderline.core.records import Event
from thunderline.testing.harness import Cluster, open_cluster


def told(cluster: Cluster, since: int = 0) -> list[Event]:
    """What was committed after that revision."""
    return [event for batch in cluster.store.commits for event in batch.events if event.revision > since]


def causes(events: list[Event]) -> list[tuple[str, str | None]]:
    """Each event and the one that caused it, by their last words."""
    names = {event.id: event.name.removeprefix("cluster.") for event in events}
    return [(names[event.id], None if event.causation_id is None else names[event.causation_id]) for event in events]


async def test_a_handshake_is_one_chain() -> None:
    async with open_cluster() as cluster:
        await Links(cluster).open("worker-1")
        events = told(cluster)
        assert causes(events) == [
            ("node.registered", None),
            ("node.online", "node.registered"),
            ("link.established", "node.online"),
        ]
        assert len({event.correlation_id for event in events}) == 1


async def test_a_new_process_is_what_opens_its_session() -> None:
    async with open_cluster() as cluster:
        links = Links(cluster)
        await links.open("worker-1", "a")
        since = cluster.registry.roster.revision
        await links.open("worker-1", "b")
        events = told(cluster, since)
        assert causes(events) == [
            ("link.closed", None),
            ("node.updated", None),
            ("link.established", "node.updated"),
        ]
        assert len({event.correlation_id for event in events}) == 1


async def test_a_node_that_falls_silent_takes_its_sessions_with_it() -> None:
    async with open_cluster() as cluster:
        for name in ("a", "b"):
            await cluster.node(name)
        body = {"session_id": "s1", "node_id": "a", "remote_node_id": "b"}
        assert (await cluster.http.post("/api/sessions", json=body)).status_code == 201
        since = cluster.registry.roster.revision
        for _ in range(40):
            await cluster.clock.advance(5)
            await cluster.http.post("/api/nodes/b/heartbeats", json={})
        events = told(cluster, since)
        assert causes(events) == [
            ("node.status_changed", None),
            ("link.updated", "node.status_changed"),
            ("node.offline", None),
            ("link.closed", "node.offline"),
        ]
        assert [events[i].correlation_id == events[i + 1].correlation_id for i in (0, 2)] == [True, True]
        assert events[0].correlation_id != events[2].correlation_id


async def test_items_of_a_batch_belong_together_and_cause_nothing_in_each_other() -> None:
    async with open_cluster() as cluster:
        nodes = [{"name": f"n{i}"} for i in range(3)]
        answer = await cluster.http.post("/api/nodes/batch?atomic=true", json={"nodes": nodes})
        assert answer.status_code == 200
        events = told(cluster)
        assert causes(events) == [("node.registered", None)] * 3
        assert len({event.correlation_id for event in events}) == 1
