"""`GET /api/nodes/{id}/history` and `GET /api/timeline`."""

from __future__ import annotations

import pytest

from thunderline.testing.harness import Cluster


async def test_a_history_over_http(cluster: Cluster) -> None:
    await cluster.node("worker-1")
    await cluster.turn(5)
    node = cluster.registry.get_node("worker-1")
    answer = await cluster.http.get("/api/nodes/worker-1/history")
    assert answer.status_code == 200
    told = answer.json()
    assert (told["node_id"], told["name"], told["earlier"]) == (node.id, "worker-1", None)
    assert [span["status"] for span in told["spans"]] == ["connecting", "online"]
    assert told["uptime"]["ratio"] == 1.0
    by_id = (await cluster.http.get(f"/api/nodes/{node.id}/history", params={"limit": 1, "from": told["from"]})).json()
    assert by_id["spans"] == told["spans"][-1:]
    assert by_id["earlier"] == told["spans"][-1]["since"]


@pytest.mark.parametrize(
    ("path", "query", "status", "field"),
    [
        ("worker-1", {"from": "yesterday"}, 422, "from"),
        ("worker-1", {"from": "another:1"}, 422, "from"),
        ("worker-1", {"from": "01900000-0000-7000-8000-000000000000:1"}, 410, "from"),
        ("worker-1", {"limit": "0"}, 422, "limit"),
        ("worker-1", {"since": "0"}, 422, "since"),
        ("nobody", {}, 404, None),
    ],
)
async def test_what_cannot_be_told(
    cluster: Cluster, path: str, query: dict[str, str], status: int, field: str | None
) -> None:
    await cluster.node("worker-1")
    answer = await cluster.http.get(f"/api/nodes/{path}/history", params=query)
    assert (answer.status_code, answer.json().get("field")) == (status, field)


async def test_a_timeline_over_http(cluster: Cluster) -> None:
    await cluster.node("worker-1")
    told = (await cluster.http.get("/api/timeline", params={"bins": 12})).json()
    assert (len(told["at"]), sum(told["events"]), told["counts"]["node_up"][-1]) == (12, 2, 1)
    refused = await cluster.http.get("/api/timeline", params={"bins": "many"})
    assert (refused.status_code, refused.json()["field"]) == (422, "bins")
