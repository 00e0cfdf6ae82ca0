"""A fleet at a real server process: linked, placed, seen; what befalls it is in the log."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from tests.server.processes import ServerProcess, running, until
from thunderline.client import Unauthorized
from thunderline.client.link_errors import LinkEnded
from thunderline.testing import ManualClock
from thunderline.testing.fleet import Fleet, Happening, Script, What, draw_plan

PLAN = draw_plan(30, seed=5)
QUICK = {
    "THUNDERLINE_HEARTBEAT_INTERVAL_S": "0.5",
    "THUNDERLINE_DROP_GRACE_S": "0.2",
    "THUNDERLINE_GUARD_FRACTION": "1",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One that finds out in seconds."""
    with running(tmp_path_factory.mktemp("fleet") / "t.db", environ=QUICK) as found:
        yield found


@pytest.fixture
async def fleet(server: ServerProcess) -> AsyncIterator[Fleet]:
    """Thirty nodes, up; in the end nothing is left of them."""
    async with Fleet(server.url, PLAN) as found:
        await found.up()
        yield found
        await found.leave()
        await found.remove()


def befall(fleet: Fleet, what: What, *names: str, zone: str | None = None) -> None:
    fleet.befall(Happening(at_s=0, what=what, nodes=names, zone=zone))


def statuses(server: ServerProcess, name: str, since: str) -> list[tuple[str, str]]:
    """The node's statuses after `since`, each with its reason."""
    query = {"since": since, "match": "cluster.node.*", "limit": 10_000}
    page: dict[str, Any] = server.http.get("/api/events", params=query).json()
    records = [event["data"] for event in page["events"] if event["subject"] == name]
    found = [(record["status"], record["status_reason"]) for record in records]
    return [pair for at, pair in enumerate(found) if not at or found[at - 1][0] != pair[0]]


def cursor(server: ServerProcess) -> str:
    return str(server.http.get("/api/summary").json()["cursor"])


async def test_every_node_is_online_in_its_group_with_figures_and_links(server: ServerProcess, fleet: Fleet) -> None:
    listed = {
        node["name"]: node for node in server.http.get("/api/nodes", params={"label": "simulated=true"}).json()["nodes"]
    }
    assert set(listed) == {node.name for node in PLAN.nodes}
    for planned in PLAN.nodes:
        node = listed[planned.name]
        assert (node["status"], node["role"], node["domain"]) == ("online", planned.role, planned.domain)
        assert node["groups"] == [planned.group]
        assert set(node["capabilities"]) == set(planned.capabilities)
    await until(lambda: fleet.counts.beats >= len(PLAN.nodes))
    beat = server.http.get(f"/api/nodes/{PLAN.nodes[-1].name}").json()["node"]["presence"]["last_heartbeat"]
    assert 0 < beat["cpu_load"] < 100
    assert set(beat["peers"]) == {link.remote for link in PLAN.nodes[-1].links}
    wanted = {frozenset((node.name, link.remote)) for node in PLAN.nodes for link in node.links}

    def drawn() -> bool:
        graph = server.http.get("/api/graph").json()
        names = {node["id"]: node["name"] for node in graph["nodes"]}
        between = {frozenset((names[link["source"]], names[link["target"]])) for link in graph["links"]}
        return wanted <= between

    await until(drawn)


async def test_a_crash_a_departure_and_slowness_are_what_the_log_says(server: ServerProcess, fleet: Fleet) -> None:
    crashed, gone, slow = (node.name for node in PLAN.nodes[-3:])
    before = cursor(server)
    befall(fleet, What.CRASH, crashed)
    befall(fleet, What.LEAVE, gone)
    befall(fleet, What.SLOW, slow)
    await until(lambda: ("disconnected", "link_lost") in statuses(server, crashed, before))
    await until(lambda: ("offline", "goodbye: maintenance") in statuses(server, gone, before))
    await until(lambda: "degraded" in [status for status, _ in statuses(server, slow, before)])
    befall(fleet, What.RESTART, crashed)
    befall(fleet, What.JOIN, gone)
    befall(fleet, What.RECOVER, slow)
    for name in (crashed, gone, slow):
        await until(lambda name=name: statuses(server, name, before)[-1][0] == "online")
    assert server.http.get(f"/api/nodes/{crashed}").json()["node"]["incarnation"] == 2
    counts = fleet.counts
    assert (counts.linked, counts.down, counts.slow) == (30, 0, 0)
    assert counts.happened == {"crash": 1, "join": 1, "leave": 1, "recover": 1, "restart": 1, "slow": 1}


async def test_a_zone_falls_silent_and_comes_back(server: ServerProcess, fleet: Fleet) -> None:
    zone = PLAN.nodes[0].zone
    inside = [node.name for node in PLAN.nodes if node.zone == zone]
    outside = next(node.name for node in PLAN.nodes if node.zone != zone)
    before = cursor(server)
    befall(fleet, What.CUT, *inside, zone=zone)
    assert fleet.counts.cut == len(inside)
    for name in inside:
        await until(lambda name=name: "disconnected" in [status for status, _ in statuses(server, name, before)])
    assert statuses(server, outside, before) == []
    befall(fleet, What.MEND, *inside, zone=zone)
    for name in inside:
        await until(lambda name=name: statuses(server, name, before)[-1][0] == "online")
    assert fleet.counts.happened == {"mend": 1, "outage": 1}


async def test_a_lost_connection_is_made_again_and_nothing_is_new(server: ServerProcess, fleet: Fleet) -> None:
    name = PLAN.nodes[-1].name
    before = cursor(server)
    befall(fleet, What.DROP, name)
    await until(lambda: ("disconnected", "link_lost") in statuses(server, name, before))
    befall(fleet, What.MEND, name)
    await until(lambda: statuses(server, name, before)[-1][0] == "online")
    assert server.http.get(f"/api/nodes/{name}").json()["node"]["incarnation"] == 1


async def test_a_node_that_somebody_removes_ends_and_the_others_go_on(server: ServerProcess, fleet: Fleet) -> None:
    name = PLAN.nodes[-1].name
    assert server.http.delete(f"/api/nodes/{name}", params={"force": "true"}).status_code == 204
    await until(lambda: fleet.counts.ended == {"deregistered": 1})
    assert fleet.counts.linked == 29


async def test_the_script_is_played_by_the_clock_and_a_newcomer_becomes_a_node(server: ServerProcess) -> None:
    clock, told = ManualClock(), list[Happening]()
    plan = draw_plan(30, seed=6)
    script = Script(plan, churn=60, faults=0)
    due = list(takewhile(lambda one: one.at_s <= 120, Script(plan, churn=60, faults=0)))
    newcomers = [one.newcomer.name for one in due if one.newcomer is not None]
    assert newcomers
    async with Fleet(server.url, plan, script=script, told=told.append, clock=clock, rng=random.Random(1)) as fleet:
        async with turning(clock):
            await fleet.up()
        while len(told) < len(due):
            await clock.advance(1)
        assert told[: len(due)] == due
        async with turning(clock):
            joined = await until(lambda: server.http.get(f"/api/nodes/{newcomers[0]}").json().get("node"))
            assert joined["labels"]["simulated"] == "true"
            await fleet.leave()
            await fleet.remove()


@contextlib.asynccontextmanager
async def turning(clock: ManualClock) -> AsyncIterator[None]:
    """Let the clock go on beside what waits for it and for sockets, for the length of the block."""
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def turn() -> None:
        while True:
            await clock.advance(0.05)
            await asyncio.wait([never], timeout=0.01)

    task = asyncio.create_task(turn())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_with_auth_an_operators_token_does_it_all_and_lesser_ones_say_what_they_lack(tmp_path: Path) -> None:
    with running(tmp_path / "t.db", "--auth") as server:
        admin = (tmp_path / "thunderline-admin.token").read_text().strip()

        def token(scope: str) -> str:
            shown = {"Authorization": f"Bearer {admin}"}
            answer = server.http.post("/api/tokens", json={"name": scope, "scopes": [scope]}, headers=shown)
            return str(answer.raise_for_status().json()["text"])

        plan = draw_plan(6)
        with pytest.raises(Unauthorized, match="token is needed"):
            async with Fleet(server.url, plan):
                pass
        async with Fleet(server.url, plan, token=token("operator")) as fleet:
            await fleet.up()
            assert (fleet.counts.linked, fleet.counts.placed, fleet.places.refused) == (6, 6, None)
        async with Fleet(server.url, plan, token=token("node")) as fleet:
            await fleet.up()
            assert (fleet.counts.linked, fleet.counts.placed) == (6, 0)
            assert fleet.places.refused is not None
        with pytest.raises(LinkEnded, match="reader:read"):
            async with Fleet(server.url, plan, token=token("read")) as fleet:
                await fleet.up()
