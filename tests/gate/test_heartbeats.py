"""The routes that read history, as a client sees them."""

from __future__ import annotations

import pytest

from thunderline.testing.harness import Cluster


async def test_series_are_columns_with_null_where_nothing_came(cluster: Cluster) -> None:
    node = await cluster.node("a", heartbeat_interval_ms=3_600_000)
    await cluster.turn(60)
    await node.beat("degraded", cpu_load=10, mem_used_mb=512)
    await node.beat(cpu_load=20)
    answer = await cluster.http.get("/api/nodes/a/series?minutes=2&resolution=60")
    assert answer.status_code == 200
    assert "x-thunderline-revision" in answer.headers
    assert answer.json() == {
        "node_id": cluster.registry.find_id("a"),
        "since": "2025-12-31T23:59:00Z",
        "until": "2026-01-01T00:02:00Z",
        "resolution_s": 60,
        "at": ["2025-12-31T23:59:00Z", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"],
        "beats": [0, 1, 2],
        "status": [None, "online", "degraded"],
        "cpu_load": {"min": [None, None, 10.0], "mean": [None, None, 15.0], "max": [None, None, 20.0]},
        "mem_used_mb": {"min": [None, None, 512.0], "mean": [None, None, 512.0], "max": [None, None, 512.0]},
        "latency_ms": {"min": [None] * 3, "mean": [None] * 3, "max": [None] * 3},
    }


async def test_a_series_chooses_its_resolution_and_says_which(cluster: Cluster) -> None:
    await cluster.node("a")
    for minutes, resolution_s in ((1, 10), (60, 15), (1440, 300), (43_200, 10_800)):
        series = (await cluster.http.get(f"/api/nodes/a/series?minutes={minutes}")).json()
        assert series["resolution_s"] == resolution_s
        assert len(series["at"]) <= 301


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("minutes=0", "minutes"),
        ("minutes=nan", "minutes"),
        ("minutes=527041", "minutes"),
        ("resolution=0", "resolution"),
        ("resolution=-60", "resolution"),
        ("resolution=61", "resolution"),
        ("resolution=1.5", "resolution"),
        ("resolution=x", "resolution"),
        (f"resolution={10**30}", "resolution"),
        ("minutes=527040&resolution=60", "resolution"),
        ("bucket=60", "bucket"),
    ],
)
async def test_a_series_that_cannot_be_is_refused_by_the_name_of_the_field(
    cluster: Cluster, query: str, field: str
) -> None:
    await cluster.node("a")
    answer = await cluster.http.get(f"/api/nodes/a/series?{query}")
    assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_the_series_of_an_unknown_node_is_404_and_of_a_removed_one_found_by_id(cluster: Cluster) -> None:
    await cluster.node("a")
    node_id = cluster.registry.find_id("a")
    await cluster.http.delete("/api/nodes/a?force=true")
    missing = await cluster.http.get("/api/nodes/a/series")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_node")
    found = await cluster.http.get(f"/api/nodes/{node_id}/series")
    assert sum(found.json()["beats"]) == 1


async def test_heartbeats_by_resolution_are_the_last_of_each_span(cluster: Cluster) -> None:
    node = await cluster.node("a", heartbeat_interval_ms=3_600_000)
    for number in range(1, 13):
        await cluster.turn(10)
        await node.beat(cpu_load=number)
    answer = await cluster.http.get("/api/nodes/a/heartbeats?resolution=60")
    assert [beat["cpu_load"] for beat in answer.json()["heartbeats"]] == [5.0, 11.0, 12.0]
    answer = await cluster.http.get("/api/nodes/a/heartbeats?resolution=60&limit=1")
    assert [beat["cpu_load"] for beat in answer.json()["heartbeats"]] == [12.0]
    refused = await cluster.http.get("/api/nodes/a/heartbeats?resolution=0")
    assert (refused.status_code, refused.json()["field"]) == (422, "resolution")
    refused = await cluster.http.get("/api/heartbeats?resolution=60")
    assert (refused.status_code, refused.json()["field"]) == (422, "resolution")
