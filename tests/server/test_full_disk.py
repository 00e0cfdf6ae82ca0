"""A real server whose files may not grow any more: refused, not lost; then it goes on by itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import resource
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.server.load import check_kept, events_of, taken_by
from tests.server.processes import ServerProcess, running, serve_command, until
from thunderline.client import Link

SETTINGS = {"THUNDERLINE_DEADLINE_INTERVALS": "2"}
INTERVAL_S = 1.0
"""So that a deadline is 2 s, which a full disk outlasts."""

OUTAGE_ANSWERS = 20


def limit_files(server: ServerProcess, size_bytes: int) -> None:
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))


class Load:
    """Registrations and beats over HTTP, and what came of them."""

    def __init__(self, url: str, rng: random.Random) -> None:
        self.url = url
        self.rng = rng
        self.nodes: dict[str, str] = {}
        self.beats: dict[str, set[int]] = {}
        self.refused: list[httpx.Response] = []
        self.stopping = False

    async def client(self, names: Iterator[str]) -> None:
        """Register, and let what was registered beat, until told to stop."""
        mine: dict[str, int] = {}
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=30) as http:
            while not self.stopping:
                if not mine or (len(mine) < 15 and self.rng.random() < 0.3):
                    name = next(names)
                    meta = {"filler": "x" * self.rng.choice([0, 500, 15_000])}
                    body = {"name": name, "heartbeat_interval_ms": 60_000, "meta": meta}
                    answer = await http.post("/api/nodes", json=body)
                    if answer.status_code in (200, 201):
                        self.nodes[name] = answer.json()["node"]["id"]
                        mine[name] = 0
                else:
                    name = self.rng.choice(list(mine))
                    mine[name] += 1
                    answer = await http.post(f"/api/nodes/{name}/heartbeats", json={"seq": mine[name]})
                    if answer.status_code == 201:
                        self.beats.setdefault(self.nodes[name], set()).add(mine[name])
                if answer.status_code == 503:
                    self.refused.append(answer)
                    await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0.02)
                else:
                    assert answer.status_code in (200, 201), answer.text


def check(server: ServerProcess, load: Load, links: dict[str, int]) -> None:
    """All that was acknowledged is there, and nobody was convicted."""
    check_kept(server.http, nodes=load.nodes, beats=load.beats, links=links)
    shown = {event["data"].get("status") for event in events_of(server.http) if event["entitykind"] == "node"}
    assert shown == {"connecting", "online"}


async def look_while_full(server: ServerProcess) -> None:
    async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as http:
        listed = await http.get("/api/nodes")
        assert listed.status_code == 200
        assert float(listed.headers["x-thunderline-stale-seconds"]) >= 0
        for path in ("/readyz", "/api/nodes?consistent=true"):
            refused = await http.get(path)
            assert (refused.status_code, refused.json()["code"]) == (503, "store_unavailable")
            assert int(refused.headers["retry-after"]) >= 1
        assert (await http.get("/healthz")).status_code == 200


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))])
async def test_a_full_disk_refuses_loses_nothing_convicts_nobody_and_ends_by_itself(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    store = tmp_path / "t.db"
    with running(store, environ=SETTINGS) as server:
        load = Load(server.url, rng)
        names = (f"n{seed}-{i}" for i in range(1_000_000))
        clients = [asyncio.ensure_future(load.client(names)) for _ in range(4)]
        links = [Link(server.url, name=f"linked-{i}", interval_s=INTERVAL_S, rng=random.Random(i)) for i in range(5)]
        async with contextlib.AsyncExitStack() as stack:
            for link in links:
                await stack.enter_async_context(link)
            before = rng.randrange(100, 500)
            await until(lambda: sum(map(len, load.beats.values())) >= before)
            wal = store.with_name("t.db-wal")
            for _ in range(2):
                taken_before, refused_before = [link.stats.beats_taken for link in links], len(load.refused)
                limit_files(server, wal.stat().st_size + rng.randrange(30_000))
                # Beats taken meanwhile, for longer than the deadline of the nodes that take them.
                await until(lambda past=refused_before: len(load.refused) > past + OUTAGE_ANSWERS)  # type: ignore[misc]
                # From here on not even into what the log has kept of a batch that failed.
                limit_files(server, 1)
                await until(lambda: server.http.get("/readyz").status_code == 503)
                await look_while_full(server)
                await until(
                    lambda past=taken_before: all(  # type: ignore[misc]
                        link.stats.beats_taken >= taken + 4 for link, taken in zip(links, past, strict=True)
                    )
                )
                await look_while_full(server)
                limit_files(server, resource.RLIM_INFINITY)
                acknowledged = len(load.beats) + sum(map(len, load.beats.values()))
                await until(
                    lambda past=acknowledged: len(load.beats) + sum(map(len, load.beats.values())) > past + 50,  # type: ignore[misc]
                    within_s=8,
                )
                assert server.http.get("/readyz").status_code == 200
            load.stopping = True
            await asyncio.gather(*clients)
            await asyncio.gather(*(link.flush() for link in links))
            taken = taken_by(links)
            assert [(link.stats.links, link.stats.beats_dropped, link.stats.beats_refused) for link in links] == [
                (1, 0, 0)
            ] * 5
            await asyncio.to_thread(check, server, load, taken)
            await asyncio.to_thread(server.kill)
            assert server.process.stderr is not None
            log = [json.loads(line) for line in server.process.stderr.read().splitlines()]
            for link in links:
                await link.abandon()
    codes = Counter(answer.json()["code"] for answer in load.refused)
    assert set(codes) <= {"store_unavailable", "outcome_unknown"}
    log_says = Counter(line["event"] for line in log)
    # Before the limit of 1 byte a batch may fit in what another has failed to fill; then the store is away once more.
    assert 2 <= log_says["store is away"] <= 6, log
    # Only what was in the very commit that failed may be unsure.
    assert codes["outcome_unknown"] <= 4 * log_says["store is away"], codes
    for answer in load.refused:
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert int(answer.headers["retry-after"]) >= 1
    assert len(log) <= 8 * log_says["store is away"], log
    assert not any("exception" in line for line in log)
    with running(store, environ={"THUNDERLINE_DEADLINE_INTERVALS": "60"}) as server:
        await asyncio.to_thread(check, server, load, taken)
        assert server.stop() == 0


def start_limited(store: Path, size_bytes: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["prlimit", f"--fsize={size_bytes}", *serve_command(store)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


@pytest.mark.parametrize("size_bytes", [0, 10, 30_000, 60_000])
def test_a_start_on_a_full_disk_says_so_and_exits_with_2(tmp_path: Path, size_bytes: int) -> None:
    failed = start_limited(tmp_path / "t.db", size_bytes)
    assert failed.returncode == 2
    assert "Traceback" not in failed.stderr
    assert "store" in failed.stderr.splitlines()[-1]
    with running(tmp_path / "t.db") as server:
        assert server.stop() == 0


def test_a_stop_on_a_full_disk_is_a_clean_one(tmp_path: Path) -> None:
    with running(tmp_path / "t.db") as server:
        assert server.http.post("/api/nodes", json={"name": "a"}).status_code == 201
        limit_files(server, 1)
        assert server.http.post("/api/nodes", json={"name": "b"}, timeout=30).status_code == 503
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        assert server.process.stderr is not None
        assert "Traceback" not in server.process.stderr.read()
    with running(tmp_path / "t.db") as server:
        assert server.http.get("/api/nodes/a").status_code == 200
        assert server.stop() == 0
