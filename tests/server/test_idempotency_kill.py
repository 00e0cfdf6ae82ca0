"""kill -9 under load, and every request that carried a key sent again: each has its effect once."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.processes import ServerProcess, running

KILLS = 4
MANY_KILLS = 8
CLIENTS = 6


class Sent:
    """One request under a key of its own, and its answer if one came; done twice, it would make two nodes or events."""

    def __init__(self, key: str, path: str, body: dict[str, Any]) -> None:
        self.key = key
        self.path = path
        self.body = body
        self.answer: httpx.Response | None = None

    async def send(self, http: httpx.AsyncClient) -> httpx.Response:
        return await http.post(self.path, json=self.body, headers={"idempotency-key": self.key})


def made(name: str, rng: random.Random) -> Sent:
    """A request that makes nodes `name...` in one transaction: 201 once, and 200 for ever after."""
    if rng.random() < 0.5:
        return Sent(name, "/api/nodes", {"name": name, "meta": {"n": rng.random()}})
    nodes = [{"name": f"{name}.{i}"} for i in range(5)]
    return Sent(name, "/api/nodes/batch?atomic=true", {"nodes": nodes})


async def client(url: str, sent: list[Sent], prefix: str, rng: random.Random) -> None:
    """Send until the server is gone."""
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=10) as http:
        for number in range(1_000_000):
            one = made(f"{prefix}-{number}", rng)
            sent.append(one)
            try:
                one.answer = await one.send(http)
            except httpx.HTTPError:
                return


async def load_until_killed(server: ServerProcess, kill: int, rng: random.Random) -> list[Sent]:
    sent: list[Sent] = []
    clients = [
        asyncio.ensure_future(client(server.url, sent, f"k{kill}-c{i}", random.Random(rng.random())))
        for i in range(CLIENTS)
    ]
    end = time.monotonic() + rng.uniform(0.1, 0.5)
    while time.monotonic() < end:
        await asyncio.wait(clients, timeout=0.01)
    server.kill()
    await asyncio.gather(*clients)
    return sent


def statuses(answer: httpx.Response) -> set[int]:
    assert answer.is_success, answer.text
    body = answer.json()
    return {answer.status_code} if "node" in body else {result["status"] for result in body["results"]}


async def check(server: ServerProcess, sent: list[Sent]) -> None:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=10) as http:
        for one in sent:
            again = await one.send(http)
            # Without the answer that was kept with it, what had been done before the kill would be a 200 now.
            assert statuses(again) == {201}, one.key
            if one.answer is not None:
                assert (again.status_code, again.content) == (one.answer.status_code, one.answer.content)
                assert again.headers["idempotency-replayed"] == "true"
    registered: list[str] = []
    since = "0"
    while events := server.http.get("/api/events", params={"since": since, "limit": "10000"}).json()["events"]:
        registered += [event["subject"] for event in events if event["type"] == "cluster.node.registered"]
        since = str(events[-1]["revision"])
    assert len(set(registered)) == len(registered)
    wanted = {node["name"] for one in sent for node in one.body.get("nodes", [one.body])}
    assert wanted <= set(registered)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kills", [KILLS, pytest.param(MANY_KILLS, marks=pytest.mark.slow)])
async def test_after_kill_9_a_repeated_request_has_had_its_effect_once(tmp_path: Path, kills: int) -> None:
    rng = random.Random(20261123)
    unanswered = 0
    sent: list[Sent] = []
    for kill in range(kills):
        with running(tmp_path / "t.db") as server:
            await check(server, sent)
            sent = await load_until_killed(server, kill, rng)
        unanswered += sum(one.answer is None for one in sent)
    with running(tmp_path / "t.db") as server:
        await check(server, sent)
        assert server.stop() == 0
    assert unanswered > 0
