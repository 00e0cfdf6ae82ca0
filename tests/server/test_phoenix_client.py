"""The stock client of Phoenix Channels, cut off at seeded moments: it misses and doubles nothing."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.server.processes import ServerProcess, running, until
from tests.server.proxy import Proxy

CLIENT = Path(__file__).parents[1] / "phoenix"
GRAPH = "thunderlink:graph"
CUTS = 30
TOGETHER = 20

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="there is no node on the PATH"),
    pytest.mark.skipif(
        not (CLIENT / "node_modules" / "phoenix").exists(),
        reason="the Phoenix client is not installed: .ci/phoenix-client",
    ),
]


class Page:
    """The client as a process; `told` is what it heard so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.told: list[dict[str, Any]] = []

    async def read(self) -> None:
        """Take what it tells, to the end."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.told.append(json.loads(line))

    async def tells(self, **what: Any) -> dict[str, Any]:
        """The first thing that it told which has all of `what`."""

        def find() -> dict[str, Any] | None:
            return next((told for told in self.told if what.items() <= told.items()), None)

        return await until(find)

    def joins(self) -> list[dict[str, Any]]:
        """The answers to its joins."""
        return [told for told in self.told if "joined" in told]

    async def is_joined(self) -> int:
        """Wait for its first join; gives the revision that it began behind."""
        first = await until(lambda: next(iter(self.joins()), None))
        return int(first["joined"].rpartition(":")[2])

    def revisions(self) -> list[int]:
        """Of the events that it heard, in that order."""
        return [told["revision"] for told in self.told if told.get("revision") is not None]

    def heard(self, subject: str) -> list[str]:
        """What it heard of one node."""
        return [told["event"] for told in self.told if told.get("subject") == subject]


@asynccontextmanager
async def page(url: str, topic: str = GRAPH, *, token: str | None = None) -> AsyncIterator[Page]:
    """The client on that topic, with that `authToken`."""
    socket_url = url.replace("http://", "ws://") + "/socket"
    process = await asyncio.create_subprocess_exec(
        *("node", "client.mjs", socket_url, topic),
        cwd=CLIENT,
        stdin=PIPE,
        stdout=PIPE,
        env={**os.environ, **({} if token is None else {"AUTH_TOKEN": token})},
    )
    opened = Page(process)
    reading = asyncio.create_task(opened.read())
    try:
        yield opened
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


async def leave(opened: Page) -> int:
    """Let the client leave and end; gives its exit code."""
    assert opened.process.stdin is not None
    opened.process.stdin.write(b"leave\n")
    await opened.tells(left=True)
    opened.process.stdin.close()
    return await opened.process.wait()


def head(server: ServerProcess) -> int:
    """The newest revision."""
    return int(server.http.get("/api/summary").json()["cursor"].rpartition(":")[2])


async def test_it_shows_its_token_and_is_out_when_that_is_revoked(tmp_path: Path) -> None:
    with running(tmp_path / "t.db", "--auth") as server:
        admin = (tmp_path / "thunderline-admin.token").read_text(encoding="utf-8").strip()
        server.http.headers["authorization"] = f"Bearer {admin}"
        made = server.http.post("/api/tokens", json={"name": "page", "scopes": ["read"]}).raise_for_status().json()
        async with page(server.url, token=made["text"]) as opened:
            await opened.is_joined()
            server.http.post("/api/nodes", json={"name": "worker-1"}).raise_for_status()
            await opened.tells(event="node_changed", subject="worker-1")
            server.http.delete("/api/tokens/page").raise_for_status()
            await until(lambda: any("error" in told for told in opened.told))
            server.http.post("/api/nodes", json={"name": "worker-2"}).raise_for_status()
            assert opened.heard("worker-2") == []
            assert len(opened.joins()) == 1


async def test_it_joins_is_cut_off_rejoins_and_has_heard_everything_once(tmp_path: Path) -> None:
    with running(tmp_path / "t.db") as server:
        async with Proxy(server.url, rng=random.Random(5)) as proxy, page(proxy.url) as opened:
            await opened.tells(open=True)
            start = await opened.is_joined()
            for name in ("worker-1", "worker-2"):
                server.http.post("/api/nodes", json={"name": name}).raise_for_status()
                server.http.post(f"/api/nodes/{name}/online", json={}).raise_for_status()
            session = {"session_id": "s", "node_id": "worker-1", "remote_node_id": "worker-2"}
            server.http.post("/api/sessions", json=session).raise_for_status()
            await opened.tells(event="link_up")
            assert opened.heard("worker-2") == ["node_changed", "node_up"]

            for conduit in proxy.sound:
                conduit.close(reset=True)
            # While it is away.
            server.http.post("/api/nodes/worker-2/heartbeats", json={"status": "offline"}).raise_for_status()
            await opened.tells(event="link_down")
            assert opened.heard("worker-2") == ["node_changed", "node_up", "node_down"]
            server.http.delete("/api/nodes/worker-2").raise_for_status()
            end = head(server)
            await opened.tells(revision=end)
            assert len(opened.joins()) == 2
            assert opened.joins()[1]["nodes"] is None
            assert opened.revisions() == list(range(start + 1, end + 1))
            assert await leave(opened) == 0
        assert server.stop() == 0
        assert server.complaints() == []


async def test_cut_off_again_and_again_under_churn(tmp_path: Path) -> None:
    rng = random.Random(23)
    with running(tmp_path / "t.db") as server:
        async with Proxy(server.url, rng=rng) as proxy, page(proxy.url) as opened:
            start = await opened.is_joined()
            enough = asyncio.Event()
            churn = asyncio.create_task(_churn(server.url, enough))
            for _ in range(CUTS):
                joins, heard = len(opened.joins()), len(opened.revisions())
                more = rng.randrange(1, 5 * TOGETHER)
                await until(lambda: len(opened.revisions()) >= heard + more)  # noqa: B023
                conduits = await until(lambda: proxy.sound or None)
                if rng.random() < 0.5:
                    conduits[-1].cut_in_message("down")
                else:
                    conduits[-1].close(reset=rng.random() < 0.5)
                await until(lambda: len(opened.joins()) > joins)  # noqa: B023
            # Not cancelled: the server would go on with what it was asked for, beyond what is taken for the end.
            enough.set()
            await churn
            end = head(server)
            await opened.tells(revision=end)
            assert len(opened.joins()) > CUTS
            assert opened.revisions() == list(range(start + 1, end + 1))
        assert server.stop() == 0
        assert server.complaints() == []


async def test_a_server_that_is_killed_and_started_again(tmp_path: Path) -> None:
    with running(tmp_path / "t.db") as server:
        port = str(urlsplit(server.url).port)
        async with page(server.url) as opened:
            start = await opened.is_joined()
            server.http.post("/api/nodes", json={"name": "before"}).raise_for_status()
            await opened.tells(subject="before")
            server.kill()
            with running(tmp_path / "t.db", "--port", port) as again:
                again.http.post("/api/nodes", json={"name": "after"}).raise_for_status()
                end = head(again)
                await opened.tells(revision=end)
                assert opened.revisions() == list(range(start + 1, end + 1))
                assert await leave(opened) == 0
                assert again.stop() == 0


async def test_the_channel_of_a_node_that_is_removed_closes(tmp_path: Path) -> None:
    with running(tmp_path / "t.db") as server:
        server.http.post("/api/nodes", json={"name": "worker-1"}).raise_for_status()
        async with page(server.url, "thunderlink:node:worker-1") as opened:
            await opened.is_joined()
            server.http.delete("/api/nodes/worker-1").raise_for_status()
            await opened.tells(closed=True)
            assert [told.get("event") for told in opened.told[2:]] == ["node_down", None]
        async with page(server.url, "thunderlink:node:worker-1") as late:
            await late.tells(refused="unknown_node")


async def _churn(url: str, enough: asyncio.Event) -> None:
    made = 0
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
        while not enough.is_set():
            nodes = [{"name": f"n{made + i}"} for i in range(TOGETHER)]
            (await http.post("/api/nodes/batch", json={"nodes": nodes})).raise_for_status()
            made += TOGETHER
