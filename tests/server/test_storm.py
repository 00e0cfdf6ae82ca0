"""A fleet whose links are all cut and that comes back at once. How fast it does is `benchmarks/storm.py`'s."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from benchmarks.storm_load import Fleet
from tests.server.processes import running

LINKS: Final = 10_000
FILES_ASIDE: Final = 500
"""What else a process has open, with room for connections that the other side has not closed yet."""


@contextlib.contextmanager
def as_many_files_as_may_be() -> Iterator[int]:
    """How many files this process may open for the length of the block; the server raises its limit by itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def weather(store: Path, links: int) -> None:
    """Open so many links to a server of their own, cut them all, and look at what is there once they are back."""
    with running(store) as server:
        fleet = Fleet(server.url, links)
        try:
            await fleet.open()
            await fleet.heard()
            await fleet.cut_and_return()
            await fleet.heard()
            # Before the look: what is acknowledged meanwhile need not be in what is looked at.
            acknowledged = {node.name: dict(node.acked) for node in fleet.nodes}
            counts, kept = await asyncio.to_thread(look, server.http, sorted(acknowledged))
        finally:
            fleet.close()
        assert await asyncio.to_thread(server.stop) == 0
        assert server.complaints() == []
    assert counts == {"online": links}
    assert all(len(lives) >= 2 for lives in acknowledged.values())
    for name, lives in acknowledged.items():
        count = kept[name]
        assert {beat: times for beat, times in count.items() if times != 1} == {}, name
        assert {(life, seq) for life, last in lives.items() for seq in range(1, last + 1)} <= set(count), name


def look(http: httpx.Client, names: list[str]) -> tuple[dict[str, int], dict[str, Counter[tuple[int, int]]]]:
    """How many nodes of the fleet have which status; and each one's beats, by incarnation and number."""
    nodes: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    while True:
        page = http.get("/api/nodes", params={"name": "storm-*", "limit": "10000", **cursor}).raise_for_status().json()
        nodes += page["nodes"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    kept = {}
    for name in names:
        answer = http.get(f"/api/nodes/{name}/heartbeats?minutes=60").raise_for_status().json()
        kept[name] = Counter((beat["incarnation"], beat["seq"]) for beat in answer["heartbeats"])
    return Counter(node["status"] for node in nodes), kept


async def test_300_links_that_are_cut_come_back_and_no_acknowledged_beat_is_lost(tmp_path: Path) -> None:
    await weather(tmp_path / "t.db", 300)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_10_000_links_that_are_cut_come_back_and_no_acknowledged_beat_is_lost(tmp_path: Path) -> None:
    with as_many_files_as_may_be() as files:
        links = min(LINKS, files - FILES_ASIDE)
        await weather(tmp_path / "t.db", links)
    if links < LINKS:
        pytest.skip(f"it held with {links:,} links; for {LINKS:,} a process may not open enough files: {files:,}")
