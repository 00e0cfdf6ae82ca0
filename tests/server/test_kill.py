"""kill -9 under load, at moments that nobody chose: everything that was acknowledged is there afterwards."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.processes import ServerProcess, running
from thunderline.link.checkpoint import ROUND_S

KILLS = 8
MANY_KILLS = 60
CLIENTS = 8


class Ledger:
    """What the server acknowledged, as its clients wrote it down."""

    def __init__(self) -> None:
        self.nodes: dict[str, str] = {}
        """name -> id"""
        self.unsure: set[str] = set()
        """Overrides that were sent and not answered: either outcome is right."""
        self.statuses: dict[str, str] = {}
        self.beats: dict[str, set[int]] = {}


async def client(url: str, ledger: Ledger, names: Iterator[str], rng: random.Random) -> None:
    """Register, beat and mark until the server is gone."""
    mine: list[str] = []
    seqs: dict[str, int] = {}
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=10) as http:
        while True:
            try:
                await step(http, ledger, names, rng, mine, seqs)
            except httpx.HTTPError:
                return


async def step(
    http: httpx.AsyncClient,
    ledger: Ledger,
    names: Iterator[str],
    rng: random.Random,
    mine: list[str],
    seqs: dict[str, int],
) -> None:
    choice = rng.random()
    name = next(names, None) if not mine or choice < 0.3 else None
    if name is not None:
        answer = await http.post("/api/nodes", json={"name": name, "meta": {"n": len(mine)}})
        assert answer.status_code == 201, answer.text
        ledger.nodes[name] = answer.json()["node"]["id"]
        mine.append(name)
    elif choice < 0.8 and mine:
        name = rng.choice(mine)
        seqs[name] = seqs.get(name, 0) + 1
        answer = await http.post(f"/api/nodes/{name}/heartbeats", json={"seq": seqs[name], "cpu_load": 1.5})
        assert answer.status_code == 201, answer.text
        ledger.beats.setdefault(ledger.nodes[name], set()).add(seqs[name])
    elif mine:
        name = rng.choice(mine)
        status = rng.choice(["degraded", "offline", "online"])
        ledger.unsure.add(name)
        answer = await http.post(f"/api/nodes/{name}/status", json={"status": status, "reason": "test"})
        assert answer.status_code == 200, answer.text
        ledger.unsure.discard(name)
        ledger.statuses[name] = status


async def load_until_killed(
    server: ServerProcess, ledger: Ledger, names: Iterator[str], rng: random.Random, *, life_s: tuple[float, float]
) -> None:
    clients = [
        asyncio.ensure_future(client(server.url, ledger, names, random.Random(rng.random()))) for _ in range(CLIENTS)
    ]
    # The moment is random, and so is what is in flight then; that is what this test is about.
    end = time.monotonic() + rng.uniform(*life_s)
    while time.monotonic() < end:
        await asyncio.wait(clients, timeout=0.01)
    server.kill()
    await asyncio.gather(*clients)


def everything(http: httpx.Client, path: str, key: str) -> list[dict[str, Any]]:
    """All pages of a listing."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        parameters = {"limit": "10000"} | ({"cursor": cursor} if cursor else {})
        body = http.get(path, params=parameters).json()
        found += body[key]
        cursor = body["next_cursor"]
        if cursor is None:
            return found


def history(http: httpx.Client, ledger: Ledger) -> list[dict[str, Any]]:
    """Every beat of the ledger's nodes: in one answer where it holds them all, else node by node."""
    if sum(map(len, ledger.beats.values())) < 5_000:
        return list(http.get("/api/heartbeats?minutes=60&limit=10000").json()["heartbeats"])
    paths = [f"/api/nodes/{node_id}/heartbeats?minutes=60&limit=10000" for node_id in ledger.beats]
    return [beat for path in paths for beat in http.get(path, timeout=60).json()["heartbeats"]]


def check(server: ServerProcess, ledger: Ledger) -> None:
    nodes = {node["name"]: node for node in everything(server.http, "/api/nodes", "nodes")}
    assert {name: nodes[name]["id"] for name in ledger.nodes} == ledger.nodes
    for name, status in ledger.statuses.items():
        if name not in ledger.unsure:
            assert nodes[name]["override"]["status"] == status
    kept: dict[str, list[int]] = {}
    for beat in history(server.http, ledger):
        if beat["seq"] is not None:
            kept.setdefault(beat["node_id"], []).append(beat["seq"])
    for node_id, seqs in ledger.beats.items():
        assert len(kept[node_id]) == len(set(kept[node_id])), "a beat was kept twice"
        assert seqs <= set(kept[node_id])
    for name, node in nodes.items():
        if ledger.beats.get(node["id"]):
            newest = node["presence"]["last_heartbeat"]["seq"]
            assert newest >= max(ledger.beats[node["id"]]), name
    revisions: list[int] = []
    since = "0"
    while events := server.http.get("/api/events", params={"since": since, "limit": "10000"}).json()["events"]:
        revisions += [event["revision"] for event in events]
        since = str(revisions[-1])
    assert revisions == list(range(1, len(revisions) + 1))


async def kill_and_look(store: Path | str, *, kills: int, rng: random.Random) -> None:
    """Load and a kill, again and again; each restart looks at what is there of the run before it."""
    ledger: Ledger | None = None
    for kill in range(kills):
        with running(store) as server:
            if ledger is not None:
                check(server, ledger)
            ledger = Ledger()
            names = (f"k{kill}-{i}" for i in range(1_000_000))
            await load_until_killed(server, ledger, names, rng, life_s=(0.05, 0.6))
    with running(store) as server:
        assert ledger is not None
        check(server, ledger)
        assert server.stop() == 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kills", [KILLS, pytest.param(MANY_KILLS, marks=pytest.mark.slow)])
async def test_after_kill_9_everything_that_was_acknowledged_is_there(tmp_path: Path, kills: int) -> None:
    rng = random.Random(20261123)
    for file in range(4):
        await kill_and_look(tmp_path / f"{file}.db", kills=kills // 4, rng=rng)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kills", [KILLS // 4, pytest.param(MANY_KILLS // 4, marks=pytest.mark.slow)])
async def test_after_kill_9_everything_that_was_acknowledged_is_in_postgresql(postgres_url: str, kills: int) -> None:
    rng = random.Random(20261123)
    await kill_and_look(postgres_url, kills=kills, rng=rng)


@pytest.mark.slow
@pytest.mark.timeout(1200)
async def test_after_kill_9_of_a_server_that_lived_through_presence_rounds_everything_is_there(tmp_path: Path) -> None:
    rng = random.Random(3)
    for kill in range(4):
        ledger = Ledger()
        names = iter([f"k{kill}-{i}" for i in range(60)])
        with running(tmp_path / "t.db") as server:
            await load_until_killed(server, ledger, names, rng, life_s=(ROUND_S + 2, ROUND_S * 2.2))
        with running(tmp_path / "t.db") as server:
            check(server, ledger)
            assert server.stop() == 0
