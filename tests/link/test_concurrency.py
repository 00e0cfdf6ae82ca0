"""Many callers at once: one id for one name, and every invariant kept whatever the order."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.engines import ENGINES, Stores
from thunderline.block.store import Store
from thunderline.core.errors import Conflict, InvalidInput, NotFound
from thunderline.core.ids import Revision
from thunderline.core.records import OPEN_SESSION_STATUSES, LinkSession, Node, NodeStatus, SessionStatus
from thunderline.link.registry import Registry
from thunderline.testing.harness import Cluster, open_cluster

NAMES = [f"n{number}" for number in range(6)]
SESSIONS = [f"s{number}" for number in range(8)]
DOWN = (NodeStatus.DISCONNECTED, NodeStatus.OFFLINE)


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, stores: Stores) -> Store:
    return stores.new(request.param)


async def test_two_hundred_at_once_ensure_one_name_and_get_one_id(store: Store) -> None:
    async with open_cluster(store=store) as cluster:
        embedded = [cluster.registry.ensure_node({"name": "worker-1"}) for _ in range(100)]
        over_http = [cluster.http.post("/api/nodes", json={"name": "worker-1"}) for _ in range(100)]
        nodes, answers = await cluster.turn_until(asyncio.gather(asyncio.gather(*embedded), asyncio.gather(*over_http)))
        found = [node.id for node in nodes] + [answer.json()["node"]["id"] for answer in answers]
        assert len(found) == 200
        assert set(found) == {cluster.registry.get_node("worker-1").id}
        assert sum(answer.status_code == 201 for answer in answers) <= 1
        told = await cluster.store.read_events(after=Revision(0), limit=10)
        assert [event.name for event in told] == ["cluster.node.registered"]


def action(registry: Registry, rng: random.Random) -> Awaitable[Any]:
    """Something that any caller might do at any time; most of it meets what others did just before."""
    name, other = rng.choice(NAMES), rng.choice(NAMES)
    session = rng.choice(SESSIONS)
    choices: list[Callable[[], Awaitable[Any]]] = [
        lambda: registry.ensure_node({"name": name, "meta": {"by": rng.random()}}),
        lambda: registry.ensure_node({"name": name}),
        lambda: registry.mark_online(name, {"session_id": session}, instance=rng.choice(["one", None])),
        lambda: registry.mark_online(name),
        lambda: registry.heartbeat(name, rng.choice(["online", "degraded", "online", "offline"])),
        lambda: registry.mark_status(name, rng.choice(["online", "degraded", "offline"])),
        lambda: registry.clear_override(name),
        lambda: registry.establish_link_session(name, other, {"session_id": session}),
        lambda: registry.establish_link_session(name, other, {"session_id": session, "status": "establishing"}),
        lambda: registry.update_link_session(session, {"status": rng.choice(["established", "degraded"])}),
        lambda: registry.update_link_session(session, {"latency_ms": rng.random()}),
        lambda: registry.close_link_session(session),
        lambda: registry.add_capability(name, "gpu", rng.choice(["a", "b"])),
        lambda: registry.remove_capability(name, "gpu"),
        lambda: registry.update_node(name, {"labels": {"l": str(rng.random())}}),
        lambda: registry.deregister(name, force=rng.random() < 0.5),
    ]
    return rng.choice(choices)()


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_many_do_at_once_every_invariant_holds(store: Store, seed: int) -> None:
    rng = random.Random(seed)
    async with open_cluster(store=store, seed=seed) as cluster:
        for _ in range(40):
            actions = [action(cluster.registry, rng) for _ in range(rng.randint(2, 40))]
            results = await cluster.turn_until(asyncio.gather(*actions, return_exceptions=True))
            refused = [result for result in results if isinstance(result, BaseException)]
            assert [error for error in refused if not isinstance(error, Conflict | NotFound | InvalidInput)] == []
            check_roster(cluster.registry)
            if rng.random() < 0.2:
                await cluster.turn(rng.choice([31, 95]))
                check_roster(cluster.registry)
        await check_log(cluster)
        inner, before = cluster.store.inner, state_of(cluster.registry)
    async with Registry.open(inner) as restarted:
        assert state_of(restarted) == before


def state_of(registry: Registry) -> tuple[list[Node], list[LinkSession]]:
    return registry.list_nodes(), registry.list_sessions()


def check_roster(registry: Registry) -> None:
    """What always holds of nodes and sessions, whoever did what."""
    nodes = {entry.node.id: entry for entry in registry.roster}
    assert len({entry.node.name for entry in nodes.values()}) == len(nodes)
    sessions = list(registry.roster.sessions)
    assert len({one.session_id for one in sessions}) == len(sessions)
    for one in sessions:
        assert one.status in OPEN_SESSION_STATUSES
        assert set(one.ends) <= nodes.keys()
        observed = {nodes[end].node.observed_status for end in one.ends}
        assert NodeStatus.OFFLINE not in observed
        if one.status is SessionStatus.ESTABLISHED:
            assert observed.isdisjoint(DOWN)
    for node_id, entry in nodes.items():
        assert {one.id for one in entry.sessions.values()} == {one.id for one in sessions if node_id in one.ends}
        shown = entry.node.override.status if entry.node.override else entry.node.observed_status
        assert entry.node.status in (shown, entry.node.observed_status)


async def check_log(cluster: Cluster) -> None:
    """Revisions have no gap, and the newest event of each entity is what the roster and the store hold."""
    registry = cluster.registry
    events = await cluster.store.read_events(after=Revision(0), limit=1_000_000)
    assert [event.revision for event in events] == list(range(1, registry.roster.revision + 1))
    newest = {event.entity_id: event for event in events}
    nodes = [event.payload for event in newest.values() if isinstance(event.payload, Node) and not event.deleted]
    assert sorted(nodes, key=lambda node: node.name) == registry.list_nodes()
    links = [event.payload for event in newest.values() if isinstance(event.payload, LinkSession)]
    still_open = [one for one in links if one.status in OPEN_SESSION_STATUSES]
    assert sorted(still_open, key=lambda one: one.id) == registry.list_sessions()
