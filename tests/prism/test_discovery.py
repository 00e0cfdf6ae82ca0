"""The nodes as targets: exactly what Prometheus' HTTP service discovery reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from thunderline.prism.discovery import split_address
from thunderline.testing.harness import Cluster, open_cluster

PATH = "/api/sd/prometheus"


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with open_cluster() as opened:
        yield opened


async def register(cluster: Cluster, name: str, **attrs: Any) -> None:
    (await cluster.http.post("/api/nodes", json={"name": name, **attrs})).raise_for_status()


async def targets(cluster: Cluster, query: str = "") -> list[str]:
    """The targets in their order."""
    answer = await cluster.http.get(f"{PATH}{query}")
    assert answer.status_code == 200, answer.text
    return [target for group in answer.json() for target in group["targets"]]


async def test_the_answer_is_what_prometheus_reads(cluster: Cluster) -> None:
    assert (await cluster.http.get(PATH)).json() == []
    await register(
        cluster,
        "worker-1",
        role="worker",
        domain="west",
        address="10.0.0.1:9100",
        labels={"zone/a": "eu-1", "zone.a": "other"},
        capabilities={"gpu": {"value": "a100"}, "fast": {}, "off": {"enabled": False}},
    )
    await cluster.registry.create_group({"name": "rack-1"})
    await cluster.registry.add_to_group("worker-1", "rack-1")
    answer = await cluster.http.get(PATH)
    assert answer.headers["content-type"] == "application/json"
    node = cluster.registry.get_node("worker-1")
    assert answer.json() == [
        {
            "targets": ["10.0.0.1:9100"],
            "labels": {
                "__meta_thunderline_id": node.id,
                "__meta_thunderline_name": "worker-1",
                "__meta_thunderline_status": "connecting",
                "__meta_thunderline_role": "worker",
                "__meta_thunderline_domain": "west",
                "__meta_thunderline_cluster_type": "in_cluster",
                "__meta_thunderline_address": "10.0.0.1:9100",
                "__meta_thunderline_groups": ",rack-1,",
                # Both keys become one name; the first of them counts.
                "__meta_thunderline_label_zone_a": "other",
                "__meta_thunderline_capability_gpu": "a100",
                "__meta_thunderline_capability_fast": "true",
            },
        }
    ]


async def test_the_port_is_that_of_the_label_else_the_one_given_else_that_of_the_address(cluster: Cluster) -> None:
    await register(cluster, "a", address="10.0.0.1:80", labels={"metrics_port": "9101"})
    await register(cluster, "b", address="10.0.0.2")
    await register(cluster, "c", address="10.0.0.3:81", labels={"metrics_port": "none"})
    await register(cluster, "d", labels={"metrics_port": "9101"})
    assert await targets(cluster) == ["10.0.0.1:80", "10.0.0.2", "10.0.0.3:81"]
    assert await targets(cluster, "?port=9100") == ["10.0.0.1:9100", "10.0.0.2:9100", "10.0.0.3:9100"]
    assert await targets(cluster, "?port_label=metrics_port") == ["10.0.0.1:9101"]
    both = await targets(cluster, "?port_label=metrics_port&port=9100")
    assert both == ["10.0.0.1:9101", "10.0.0.2:9100", "10.0.0.3:9100"]


async def test_filters_are_those_of_the_list_of_nodes(cluster: Cluster) -> None:
    await register(cluster, "a-1", address="a", role="edge", labels={"tier": "x"}, capabilities={"gpu": {}})
    await register(cluster, "a-2", address="b", domain="west", cluster_type="out_of_cluster")
    online = await cluster.node("b", address="c")
    await online.beat()
    await cluster.registry.create_group({"name": "rack"})
    await cluster.registry.add_to_group("a-2", "rack")
    for query, wanted in (
        ("status=online", ["c"]),
        ("status=online,connecting&name=a-*", ["a", "b"]),
        ("role=edge", ["a"]),
        ("domain=west", ["b"]),
        ("cluster_type=out_of_cluster", ["b"]),
        ("group=rack", ["b"]),
        ("label=tier=x", ["a"]),
        ("capability=gpu", ["a"]),
        ("role=edge&domain=west", []),
    ):
        assert await targets(cluster, f"?{query}") == wanted, query


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("port=0", 422, "port"),
        ("port=65536", 422, "port"),
        ("port=x", 422, "port"),
        ("status=dead", 422, "status"),
        ("label=x", 422, "label"),
        ("group=none", 404, "none"),
        ("ports=1", 422, "ports"),
    ],
)
async def test_a_wrong_parameter_is_refused_by_name(cluster: Cluster, query: str, status: int, field: str) -> None:
    answer = await cluster.http.get(f"{PATH}?{query}")
    assert (answer.status_code, field in answer.text) == (status, True), answer.text


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("10.0.0.1", ("10.0.0.1", None)),
        ("10.0.0.1:9100", ("10.0.0.1", 9100)),
        ("host.example:80", ("host.example", 80)),
        ("http://host.example:8080/path", ("host.example", 8080)),
        ("https://user:word@host", ("host", None)),
        ("fd00::1", ("[fd00::1]", None)),
        ("[fd00::1]:9100", ("[fd00::1]", 9100)),
        ("http://[fd00::1]:9100", ("[fd00::1]", 9100)),
        ("10.0.0.1:0", ("10.0.0.1", None)),
        ("10.0.0.1:99999", None),
        ("a b", None),
        ("host/../x y", ("host", None)),
        ("[nonsense]:1", None),
        ("ünicode.example", None),
        (":9100", None),
        ("", None),
    ],
)
def test_addresses_are_read_as_nodes_give_them(address: str, wanted: tuple[str, int | None] | None) -> None:
    assert split_address(address) == wanted


async def test_many_nodes_do_not_keep_others_waiting(cluster: Cluster) -> None:
    for number in range(1_200):
        await cluster.registry.ensure_node({"name": f"n{number:04}", "address": f"10.0.{number // 250}.{number % 250}"})
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(others())
    assert len(await targets(cluster, "?port=1")) == 1_200
    task.cancel()
    assert turns > 2
