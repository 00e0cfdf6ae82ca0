"""What nodes can do: over HTTP and embedded, one event a change, found by key and by key and value."""

from __future__ import annotations

import pytest

from tests.engines import Opening
from thunderline.core.errors import InvalidInput, NotPermitted, UnknownCapability, UnknownNode
from thunderline.core.inputs import CAPABILITIES_MAX
from thunderline.link.actor import NODE_SCOPES, Actor, ActorKind
from thunderline.testing.harness import Cluster


async def names(cluster: Cluster, capability: str) -> list[str]:
    answer = await cluster.http.get("/api/nodes", params={"capability": capability})
    return [node["name"] for node in answer.json()["nodes"]]


async def events(cluster: Cluster) -> list[str]:
    answer = await cluster.http.get("/api/events?match=cluster.capability.*")
    return [event["type"].removeprefix("cluster.capability.") for event in answer.json()["events"]]


async def test_capability_is_put_changed_and_taken_with_one_event_each(cluster: Cluster) -> None:
    await cluster.node("worker-1")
    path = "/api/nodes/worker-1/capabilities/gpu"
    added = await cluster.http.put(path, json={"value": "a100"})
    assert added.status_code == 201
    assert added.json()["node"]["capabilities"] == {"gpu": {"value": "a100", "enabled": True}}
    assert (await cluster.http.put(path, json={"value": "a100"})).status_code == 200
    changed = await cluster.http.put(path, json={"value": "h100"})
    assert (changed.status_code, changed.json()["node"]["capabilities"]["gpu"]["value"]) == (200, "h100")
    assert (await cluster.http.delete(path)).status_code == 204
    assert await events(cluster) == ["added", "updated", "removed"]
    again = await cluster.http.delete(path)
    assert (again.status_code, again.json()["code"]) == (404, "unknown_capability")
    assert cluster.registry.get_node("worker-1").capabilities == {}


async def test_capability_without_a_body_has_no_value_and_is_enabled(cluster: Cluster) -> None:
    await cluster.node("worker-1")
    answer = await cluster.http.put("/api/nodes/worker-1/capabilities/relay")
    assert answer.json()["node"]["capabilities"] == {"relay": {"value": None, "enabled": True}}


async def test_key_with_slashes_and_colons_is_one_key(cluster: Cluster) -> None:
    await cluster.node("worker-1")
    for path in ("example.com/gpu:2", "example.com%2Fgpu%3A2"):
        answer = await cluster.http.put(f"/api/nodes/worker-1/capabilities/{path}", json={"value": "x"})
        assert list(answer.json()["node"]["capabilities"]) == ["example.com/gpu:2"]
    assert await names(cluster, "example.com/gpu:2") == ["worker-1"]
    assert await names(cluster, "example.com/gpu:2:x") == ["worker-1"]
    assert (await cluster.http.delete("/api/nodes/worker-1/capabilities/example.com/gpu:2")).status_code == 204


@pytest.mark.parametrize(
    ("key", "body", "field"),
    [
        ("-gpu", {}, "key"),
        ("g pu", {}, "key"),
        ("x" * 318, {}, "key"),
        ("gpu", {"value": 7}, "value"),
        ("gpu", {"enabled": "yes"}, "enabled"),
        ("gpu", {"colour": "red"}, "colour"),
        ("gpu", {"value": "a\x00b"}, "value"),
    ],
)
async def test_bad_capability_names_the_field_and_changes_nothing(
    cluster: Cluster, key: str, body: dict[str, object], field: str
) -> None:
    await cluster.node("worker-1")
    before = cluster.registry.roster.revision
    answer = await cluster.http.put(f"/api/nodes/worker-1/capabilities/{key}", json=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert cluster.registry.roster.revision == before


async def test_capability_of_a_node_that_is_not_there_is_a_404(cluster: Cluster) -> None:
    for method in ("PUT", "DELETE"):
        answer = await cluster.http.request(method, "/api/nodes/nobody/capabilities/gpu")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_node")


async def test_nodes_are_found_by_what_they_can_do_and_have_enabled(cluster: Cluster) -> None:
    registry = cluster.registry
    for name, value in (("a", "a100"), ("b", "h100"), ("c", None)):
        await cluster.node(name, role="edge" if name == "b" else "worker")
        await registry.add_capability(name, "gpu", value)
    assert await names(cluster, "gpu") == ["a", "b", "c"]
    assert await names(cluster, "gpu:h100") == ["b"]
    assert await names(cluster, "gpu:none") == []
    assert [node.name for node in registry.list_nodes(capability="gpu", role="worker")] == ["a", "c"]
    await registry.disable_capability("a", "gpu")
    assert [node.name for node in registry.nodes_with_capability("gpu")] == ["b", "c"]
    assert registry.get_node("a").capabilities["gpu"].value == "a100"
    await registry.enable_capability("a", "gpu")
    assert [node.name for node in registry.nodes_with_capability("gpu", "a100")] == ["a"]
    await registry.remove_capability("a", "gpu")
    await registry.deregister("b", force=True)
    assert [node.name for node in registry.nodes_with_capability("gpu")] == ["c"]


async def test_enabling_twice_is_one_event(cluster: Cluster) -> None:
    await cluster.node("a")
    await cluster.registry.add_capability("a", "gpu", enabled=False)
    for _ in range(2):
        await cluster.registry.enable_capability("a", "gpu")
    assert await events(cluster) == ["added", "updated"]


async def test_what_is_not_there_cannot_be_enabled_disabled_or_removed(cluster: Cluster) -> None:
    await cluster.node("a")
    registry = cluster.registry
    for change in (registry.enable_capability, registry.disable_capability, registry.remove_capability):
        with pytest.raises(UnknownCapability):
            await change("a", "gpu")
        with pytest.raises(UnknownNode):
            await change("nobody", "gpu")


async def test_a_node_has_so_many_capabilities_at_most(cluster: Cluster) -> None:
    await cluster.node("a")
    for number in range(CAPABILITIES_MAX):
        await cluster.registry.add_capability("a", f"c{number}")
    with pytest.raises(InvalidInput, match="64 capabilities"):
        await cluster.registry.add_capability("a", "one-more")
    await cluster.registry.add_capability("a", "c0", "changed")


async def test_a_node_changes_its_own_capabilities_alone(cluster: Cluster) -> None:
    await cluster.node("a")
    await cluster.node("b")
    node = cluster.registry.get_node("a")
    actor = Actor(kind=ActorKind.NODE, name="a", scopes=NODE_SCOPES, node_id=node.id)
    await cluster.registry.add_capability("a", "gpu", actor=actor)
    with pytest.raises(NotPermitted):
        await cluster.registry.add_capability("b", "gpu", actor=actor)
    with pytest.raises(NotPermitted):
        await cluster.registry.remove_capability("a", "gpu", actor=Actor(kind=ActorKind.SYSTEM, name="liveness"))


async def test_capabilities_survive_a_restart_and_are_found_after_it(open_cluster: Opening) -> None:
    async with open_cluster() as cluster:
        await cluster.node("a")
        await cluster.registry.add_capability("a", "gpu", "a100")
    async with open_cluster(store=cluster.store, clock=cluster.clock) as again:
        assert [node.name for node in again.registry.nodes_with_capability("gpu", "a100")] == ["a"]
