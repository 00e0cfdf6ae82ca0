"""`thunderline db copy` of a whole cluster's life, there and back: the same graph at any past revision."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from thunderline.block.sqlite import SqliteStore
from thunderline.block.store import WriteBatch
from thunderline.core.ids import BatchId, Revision, new_uuid7
from thunderline.core.records import LinkSession, Node, NodeStatus, SessionStatus
from thunderline.link.graph import Graph
from thunderline.link.registry import Registry
from thunderline.testing.records import make_event, make_node, make_session, node_id

TOGETHER = 2_000
MOMENTS = 10


async def fill(path: Path, *, nodes: int, events: int, rng: random.Random) -> None:
    """Register the nodes, then change them and their links at random, and replace some, up to so many events."""
    status = [NodeStatus.ONLINE, NodeStatus.ONLINE, NodeStatus.DEGRADED, NodeStatus.DISCONNECTED, NodeStatus.OFFLINE]
    records: list[Node | LinkSession] = [make_node(number) for number in range(nodes)]
    async with SqliteStore(path) as store:
        revision = 0
        while revision < events:
            while len(records) < TOGETHER:
                number = rng.randrange(nodes)
                if rng.random() < 0.3:
                    open_ = rng.choice([SessionStatus.ESTABLISHED, SessionStatus.DEGRADED, SessionStatus.CLOSED])
                    # A session keeps its ends, whatever becomes of it.
                    far = node_id((number * 7 + 1) % nodes)
                    records.append(make_session(number, node_id(number), remote_node_id=far, status=open_))
                else:
                    now = rng.choice(status)
                    meta = {"build": rng.randrange(50)}
                    records.append(
                        make_node(number, status=now, observed_status=now, meta=meta, domain=f"d{number % 9}")
                    )
            part, records = records[:TOGETHER], records[TOGETHER:]
            newest = {record.id: record for record in part}.values()
            await store.commit(
                WriteBatch(
                    batch_id=BatchId(new_uuid7()),
                    base=Revision(revision),
                    events=[make_event(revision + at, record) for at, record in enumerate(part, start=1)],
                    nodes=[record for record in newest if isinstance(record, Node)],
                    sessions=[record for record in newest if isinstance(record, LinkSession)],
                )
            )
            revision += len(part)


async def graphs(url: str, revisions: list[int]) -> list[Graph]:
    async with Registry.open(url) as registry:
        found = [await registry.graph_at(revision, include_offline=True) for revision in revisions]
        # Of another log; all else should be the same.
        return [msgspec.structs.replace(graph, cursor="") for graph in found]


def copy(origin: str, target: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "thunderline.cli", "db", "copy", origin, target, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(
    ("nodes", "events"),
    [(500, 10_000), pytest.param(100_000, 1_000_000, marks=pytest.mark.slow)],
    ids=["small", "large"],
)
async def test_a_copy_and_its_copy_back_show_the_same_graph_at_past_revisions(
    tmp_path: Path, postgres_url: str, nodes: int, events: int
) -> None:
    rng = random.Random(events)
    await fill(tmp_path / "origin.db", nodes=nodes, events=events, rng=rng)
    revisions = sorted(rng.randrange(1, events + 1) for _ in range(MOMENTS))
    origin, back = f"sqlite:///{tmp_path}/origin.db", f"sqlite:///{tmp_path}/back.db"
    there = copy(origin, postgres_url)
    again = copy(postgres_url, back)
    assert there["revision"] == again["revision"] >= events
    wanted = await graphs(origin, revisions)
    assert all(graph.nodes for graph in wanted)
    assert await graphs(postgres_url, revisions) == wanted
    assert await graphs(back, revisions) == wanted
    assert len({there["log_id"], again["log_id"], wanted[0].cursor}) == 3
