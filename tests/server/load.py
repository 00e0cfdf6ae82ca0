"""Load on a real server, and whether all that it acknowledged is there afterwards."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import httpx

from thunderline.client import Link

NODES_OF_CLIENT: Final = 12
REPEAT_AFTER_S: Final = 0.02


def events_of(http: httpx.Client) -> list[dict[str, Any]]:
    """The whole log, in which no revision is missing or there twice."""
    found: list[dict[str, Any]] = []
    while page := http.get("/api/events", params={"since": str(len(found)), "limit": "10000"}).json()["events"]:
        found += page
        assert [event["revision"] for event in found] == list(range(1, len(found) + 1))
    return found


def check_kept(
    http: httpx.Client, *, nodes: Mapping[str, str], beats: Mapping[str, set[int]], links: Mapping[str, int]
) -> None:
    """These nodes (ids by name) and beats (sequence numbers by node) are there, each beat once; so is every beat up to
    that number of each link."""
    kept = {node["name"]: node["id"] for node in http.get("/api/nodes?limit=10000").json()["nodes"]}
    assert {name: kept[name] for name in nodes} == nodes
    wanted = dict(beats) | {kept[name]: set(range(1, taken + 1)) for name, taken in links.items()}
    for node_id, seqs in wanted.items():
        found = http.get(f"/api/nodes/{node_id}/heartbeats?minutes=60&limit=10000").json()["heartbeats"]
        count = Counter(beat["seq"] for beat in found)
        assert seqs <= set(count), node_id
        assert {seq: times for seq, times in count.items() if times != 1} == {}, node_id


def taken_by(links: list[Link]) -> dict[str, int]:
    """How many beats each link has taken."""
    return {link.name: link.stats.beats_taken for link in links}


class RepeatingLoad:
    """Registrations, beats and overrides over HTTP, each repeated until it is answered with success."""

    def __init__(self, url: str, rng: random.Random) -> None:
        self.url = url
        self.nodes: dict[str, str] = {}
        self.beats: dict[str, set[int]] = {}
        self.reasons: dict[str, list[str]] = {}
        """By node, the reasons of the overrides that were laid over it, in order."""
        self.refused: list[httpx.Response] = []
        self.done = 0
        self.stopping = False
        self._rng = rng
        self._names = (f"n{i}" for i in itertools.count())

    async def client(self) -> None:
        """Register, and let what was registered beat and be marked, until told to stop."""
        mine: dict[str, int] = {}
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=60) as http:
            while not self.stopping:
                choice = self._rng.random()
                if not mine or (len(mine) < NODES_OF_CLIENT and choice < 0.3):
                    name = next(self._names)
                    body = {"name": name, "heartbeat_interval_ms": 60_000, "meta": {"n": choice}}
                    answer = await self._send(http, "/api/nodes", body, key=name)
                    self.nodes[name] = answer.json()["node"]["id"]
                    mine[name] = 0
                elif choice < 0.8:
                    name = self._rng.choice(list(mine))
                    mine[name] += 1
                    await self._send(http, f"/api/nodes/{name}/heartbeats", {"seq": mine[name]})
                    self.beats.setdefault(self.nodes[name], set()).add(mine[name])
                else:
                    name = self._rng.choice(list(mine))
                    reasons = self.reasons.setdefault(self.nodes[name], [])
                    reason = f"{name} for the {len(reasons)} th time"
                    status = self._rng.choice(["online", "degraded"])
                    await self._send(
                        http, f"/api/nodes/{name}/status", {"status": status, "reason": reason}, key=reason
                    )
                    reasons.append(reason)
                self.done += 1

    async def _send(
        self, http: httpx.AsyncClient, path: str, body: dict[str, Any], *, key: str | None = None
    ) -> httpx.Response:
        headers = {} if key is None else {"idempotency-key": key}
        may_be_there = False
        while True:
            answer = await http.post(path, json=body, headers=headers)
            if answer.status_code == 503:
                self.refused.append(answer)
                may_be_there = may_be_there or answer.json()["code"] == "outcome_unknown"
                await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=REPEAT_AFTER_S)
                continue
            # Any other code of refusal says that nothing was written: then the repeated request is the first.
            is_first = "idempotency-replayed" not in answer.headers and (
                answer.status_code == 201 or (answer.status_code == 200 and path.endswith("/status"))
            )
            assert answer.is_success, answer.text
            assert is_first or may_be_there, (answer.status_code, answer.headers, answer.text)
            return answer


def check_load(http: httpx.Client, load: RepeatingLoad, links: Mapping[str, int]) -> None:
    """All that was acknowledged is there once, and nobody was convicted."""
    check_kept(http, nodes=load.nodes, beats=load.beats, links=links)
    events = events_of(http)
    told = [event for event in events if event["entitykind"] == "node"]
    assert {event["data"].get("status") for event in told} <= {"connecting", "online", "degraded"}
    registered = Counter(event["subject"] for event in told if event["type"] == "cluster.node.registered")
    assert set(registered.values()) == {1}
    for node_id, reasons in load.reasons.items():
        overrides = (event["data"]["override"] for event in told if event["entityid"] == node_id)
        shown = [reason for reason, _ in itertools.groupby(each["reason"] for each in overrides if each is not None)]
        assert shown[: len(reasons)] == reasons
        assert len(shown) - len(reasons) in (0, 1)  # one whose answer nobody waited for any longer
