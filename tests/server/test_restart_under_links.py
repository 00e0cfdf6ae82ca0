"""A server that is restarted under 500 links: on the same file and port, once asked to stop, once killed."""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.processes import ServerProcess, running, until
from thunderline.client import Link
from thunderline.client.transport import Connection
from thunderline.client.websocket import WebSocketTransport

LINKS = 500
BACK_WITHIN_S = 15.0

INTERVAL_S = 1.0
# The 30 s of the defaults, in which nobody is convicted; only the beats come ten times as often, for a gap with some.
SETTINGS = {"THUNDERLINE_DEADLINE_INTERVALS": "30"}

BUCKET_S = 0.1
RETURNS_PEAK = LINKS * 3 // 5
"""Most links that begin the attempt that succeeds in one bucket.

After a drain, moments are uniform over 5 ms for each link, 2.5 s in all: 20 in a bucket. After a kill the first wait is
uniform over 0.5 s, when nothing listens yet, and each further one over twice as long: when the server is there about a
second later, they are uniform over 1 to 4 s, some 30 in a bucket. A loop that is held up for a few buckets by a busy
machine begins all of theirs at once: 42 to 122 were seen, on a machine with twice as much to do as it can up to 195. A
fleet that waits as long, but without jitter, begins as one, unless its own loop is too slow for that; see below.

How many are greeted in a bucket is shown, too, but says more of the machine: who comes while the server loads its file
waits in the socket's queue, and is answered when it begins to serve.
"""
SPREAD_MIN_S = 0.5
"""Between the first and the last of the four fifths in the middle of those moments: 0.9 to 1.6 s were seen."""

ATTEMPTS_MAX = 6 * LINKS
"""Attempts to connect in all: each wait is twice as long as the one before, so that five fit into 15 s, on average."""


class Watched(WebSocketTransport):
    """Notes when it was asked to connect, when that was to succeed, and when it had."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts: list[float] = []
        self.returns: list[float] = []
        self.connected: list[float] = []

    async def connect(self, url: str, *, token: str | None = None) -> Connection:
        begun_at = time.monotonic()
        self.attempts.append(begun_at)
        connection = await super().connect(url, token=token)
        self.returns.append(begun_at)
        self.connected.append(time.monotonic())
        return connection

    def forget(self) -> None:
        self.attempts.clear()
        self.returns.clear()
        self.connected.clear()


def peak(moments: list[float]) -> int:
    """How many were in the fullest bucket."""
    return max(Counter(int(at / BUCKET_S) for at in moments).values(), default=0)


def spread_s(moments: list[float]) -> float:
    """How long the four fifths in the middle took."""
    tenths = statistics.quantiles(moments, n=10)
    return tenths[-1] - tenths[0]


def at_s(event: dict[str, Any]) -> float:
    """When the registry says that it happened."""
    return datetime.fromisoformat(event["time"]).timestamp()


@contextlib.contextmanager
def fleet_log() -> Iterator[list[str]]:
    """What asyncio found to complain about in this process."""
    loop = asyncio.get_running_loop()
    found: list[str] = []
    loop.set_exception_handler(lambda _, context: found.append(str(context)))
    try:
        yield found
    finally:
        loop.set_exception_handler(None)


def events_of(http: httpx.Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    since = "0"
    while (
        page := http.get("/api/events", params={"since": since, "limit": "10000"}).raise_for_status().json()["events"]
    ):
        found += page
        since = str(page[-1]["revision"])
    return found


def kept_seqs(http: httpx.Client) -> dict[str, Counter[int]]:
    """node id -> how often each of its beats is in the history."""
    kept: dict[str, Counter[int]] = {}
    for node in http.get("/api/nodes", params={"limit": "10000", "role": "worker"}).json()["nodes"]:
        beats = http.get(f"/api/nodes/{node['id']}/heartbeats?minutes=60&limit=10000").raise_for_status().json()
        kept[node["id"]] = Counter(beat["seq"] for beat in beats["heartbeats"])
    return kept


async def started(stack: contextlib.ExitStack, store: Path, *options: str) -> ServerProcess:
    """A server; the loop, and with it the links, runs on while it starts."""
    return await asyncio.to_thread(stack.enter_context, running(store, *options, environ=SETTINGS))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
async def test_500_links_outlive_a_restart_unseen_and_come_back_spread_out(
    tmp_path: Path, how: str, record_property: Callable[[str, object], None]
) -> None:
    store = tmp_path / "nodes.db"
    watched = Watched()
    with fleet_log() as complaints, contextlib.ExitStack() as servers:
        first = await started(servers, store)
        links = [
            Link(
                first.url,
                name=f"worker-{at}",
                interval_s=INTERVAL_S,
                transport=watched,
                rng=random.Random(at),
            )
            for at in range(LINKS)
        ]
        async with contextlib.AsyncExitStack() as block:
            await asyncio.gather(*(block.enter_async_context(link) for link in links))
            await asyncio.gather(*(link.flush() for link in links))
            watched.forget()
            begun_at = time.monotonic()
            taken_before = [link.stats.beats_taken for link in links]
            if how == "SIGTERM":
                assert await asyncio.to_thread(first.stop) == 0
            else:
                await asyncio.to_thread(first.kill)
            assert first.complaints() == []
            gone_at, gone_at_s = time.monotonic(), time.time()
            # Beats that are taken while nobody listens, beside those that the links take by themselves.
            gap = [asyncio.create_task(link.beat(meta={"gap": True})) for link in links]
            second = await started(servers, store, "--port", first.url.rpartition(":")[2])
            serving_at = time.monotonic()

            def all_are_back() -> bool:
                return all(link.connected and link.stats.links >= 2 for link in links)

            await until(all_are_back, within_s=gone_at + BACK_WITHIN_S - time.monotonic())
            back_at = time.monotonic()
            attempts, returns, handshakes = (
                list(noted) for noted in (watched.attempts, watched.returns, watched.connected)
            )

            taken = [link.stats.beats_taken for link in links]
            await asyncio.gather(*gap)
            await asyncio.gather(*(link.flush() for link in links))
            assert all(now > before for before, now in zip(taken_before, taken, strict=True))
            history = await asyncio.to_thread(kept_seqs, second.http)
            for link, count in zip(links, taken, strict=True):
                kept = history[link.node_id]
                assert [seq for seq in range(1, count + 1) if kept[seq] != 1] == [], link.name
                assert set(kept.values()) == {1}, link.name
                assert (link.stats.beats_dropped, link.stats.beats_refused, link.incarnation) == (0, 0, 1)

            events = await asyncio.to_thread(events_of, second.http)
            shown = [
                (event["type"], event["data"]["status"])
                for event in events
                if event["entitykind"] == "node" and event["subject"].startswith("worker-")
            ]
            assert Counter(shown) == {
                ("cluster.node.registered", "connecting"): LINKS,
                ("cluster.node.online", "online"): LINKS,
            }
            opened = [at_s(event) for event in events if event["type"] == "cluster.link.established"]
            again = [at for at in opened if at > gone_at_s]
        assert await asyncio.to_thread(second.stop) == 0
        assert second.complaints() == []
    assert complaints == []

    figures = {
        "down_s": round(serving_at - gone_at, 2),
        "back_s": round(back_at - gone_at, 2),
        "attempts": len(attempts),
        "attempts_peak": peak(attempts),
        "returns_peak": peak(returns),
        "handshakes": len(handshakes),
        "handshakes_peak": peak(handshakes),
        "committed_peak": peak(again),
        "spread_s": round(spread_s(returns), 2),
        "stopped_s": round(gone_at - begun_at, 2),
    }
    for name, value in figures.items():
        record_property(name, value)
    print(how, figures)  # noqa: T201 - shown with `pytest -s`, or when the test fails
    assert len(handshakes) <= LINKS * 1.1, figures
    assert len(again) == LINKS, figures
    assert len(attempts) <= ATTEMPTS_MAX, figures
    assert peak(returns) <= RETURNS_PEAK, figures
    assert spread_s(returns) >= SPREAD_MIN_S, figures
