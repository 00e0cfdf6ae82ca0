"""The graph and the event log, as a client sees them."""

from __future__ import annotations

import msgspec
import pytest

from thunderline.core.inputs import NodeAttrs, OnlineInput
from thunderline.gate import bodies
from thunderline.link.actor import Actor, ActorKind
from thunderline.testing.harness import Cluster

NODE_KEYS = {"id", "name", "role", "domain", "status", "cluster_type", "val", "meta"}
LINK_KEYS = {
    *("source", "target", "type", "session_id", "session_type", "connection_type"),
    *("status", "value", "latency_ms", "bandwidth_mbps", "established_at"),
}


async def with_controller(cluster: Cluster) -> str:
    """A node that stands for the registry, as a server has one."""
    actor = Actor(kind=ActorKind.SYSTEM, name="test")
    domain = cluster.registry.domain
    node = await domain.claim_own_node(NodeAttrs(name=cluster.registry.owner, role="controller"), actor=actor)
    await domain.mark_node_online(node.id, OnlineInput(), actor=actor)
    return node.id


async def test_the_graph_has_the_shape_that_force_graph_reads(cluster: Cluster) -> None:
    controller = await with_controller(cluster)
    node = await cluster.node("a", meta={"rack": 7})
    await node.announce(session={"session_id": "s1", "connection_type": "websocket", "latency_ms": 1.5, "weight": 0.25})
    graph = (await cluster.http.get("/api/graph")).json()
    assert all(set(shown) == NODE_KEYS for shown in graph["nodes"])
    (link,) = graph["links"]
    assert set(link) == LINK_KEYS
    assert (link["source"], link["target"], link["type"]) == (graph["nodes"][0]["id"], controller, "registry")
    assert (link["value"], link["latency_ms"], link["status"]) == (0.25, 1.5, "established")
    assert graph["cursor"].endswith(f":{graph['revision']}")
    assert {shown["name"]: shown["val"] for shown in graph["nodes"]} == {"a": 2, cluster.registry.owner: 2}


async def test_offline_nodes_and_their_links_are_drawn_only_when_asked_for(cluster: Cluster) -> None:
    await with_controller(cluster)
    node = await cluster.node("a")
    await node.leave()
    assert [shown["name"] for shown in (await cluster.http.get("/api/graph")).json()["nodes"]] == [
        cluster.registry.owner
    ]
    whole = (await cluster.http.get("/api/graph?include_offline=true")).json()
    assert [shown["name"] for shown in whole["nodes"]] == ["a", cluster.registry.owner]


async def test_a_link_with_an_end_that_is_not_drawn_is_left_out(cluster: Cluster) -> None:
    await with_controller(cluster)
    node = await cluster.node("a", domain="other")
    await node.announce(session={"session_id": "s1"})
    graph = (await cluster.http.get("/api/graph?domain=other")).json()
    assert ([shown["name"] for shown in graph["nodes"]], graph["links"]) == (["a"], [])


async def test_the_log_is_paged_by_cursor_without_gaps(cluster: Cluster) -> None:
    for i in range(30):
        await cluster.node(f"n{i}")
    since, revisions = "0", []
    while True:
        page = (await cluster.http.get("/api/events", params={"since": since, "limit": "7"})).json()
        revisions += [event["revision"] for event in page["events"]]
        since = page["next_since"]
        if not page["events"]:
            break
    assert revisions == list(range(1, 61))


async def test_a_filtered_page_moves_on_past_what_does_not_match(cluster: Cluster) -> None:
    for i in range(10):
        await cluster.node(f"n{i}")
    page = (await cluster.http.get("/api/events?match=cluster.link.*")).json()
    assert page["events"] == []
    assert page["next_since"].endswith(":20")
    online = (await cluster.http.get("/api/events?match=cluster.node.online&limit=3")).json()
    assert [event["revision"] for event in online["events"]] == [2, 4, 6]
    before = (await cluster.http.get("/api/events?since=2&before=6")).json()
    assert [event["revision"] for event in before["events"]] == [3, 4, 5]


async def test_an_event_carries_its_envelope_and_a_deletion_says_so(cluster: Cluster) -> None:
    await cluster.node("a", meta={"k": "v"})
    await cluster.http.delete("/api/nodes/a")
    events = (await cluster.http.get("/api/events")).json()["events"]
    assert [event["data"].get("deleted") for event in events] == [None, None, True]
    last = events[-1]
    assert (last["type"], last["actor"], last["subject"]) == ("cluster.node.deregistered", "operator:local", "a")
    assert (last["entitykind"], last["entityid"], last["eventversion"]) == ("node", last["data"]["id"], 1)
    assert last["data"]["meta"] == {"k": "v"}
    assert last["reliability"] == "persistent"


async def test_the_summary_counts_nodes_sessions_and_how_the_cache_serves(cluster: Cluster) -> None:
    for name, role in (("a", "worker"), ("b", "edge"), ("c", "edge")):
        await cluster.node(name, role=role)
    await cluster.registry.establish_link_session("a", "b")
    await cluster.http.post("/api/nodes/c/heartbeats", json={"status": "offline"})
    assert (await cluster.http.get("/api/nodes/nobody")).status_code == 404
    summary = (await cluster.http.get("/api/summary")).json()
    assert summary["nodes"] == {
        "total": 3,
        "by_status": {"connecting": 0, "online": 2, "degraded": 0, "disconnected": 0, "offline": 1},
        "by_role": {"edge": 2, "worker": 1},
        "by_domain": {"thunderlink": 3},
    }
    assert summary["sessions"] == {
        "total": 1,
        "by_status": {"degraded": 0, "established": 1, "establishing": 0},
        "links": 0,
    }
    cache = summary["cache"]
    assert (cache["misses"], cache["stale_s"], cache["nodes"]) == (1, None, 3)
    assert cache["hit_rate"] == cache["hits"] / (cache["hits"] + 1)
    assert summary["cursor"].endswith(f":{summary['revision']}")


async def test_the_summary_says_how_stale_it_may_be(cluster: Cluster) -> None:
    await cluster.node("a")
    cluster.store.away = True
    await cluster.http.post("/api/nodes", json={"name": "b"})
    await cluster.turn(5)
    assert (await cluster.http.get("/api/summary")).json()["cache"]["stale_s"] == 5
    assert (await cluster.http.get("/api/summary?consistent=true")).status_code == 503
    cluster.store.away = False
    await cluster.turn(5)
    assert (await cluster.http.get("/api/summary")).json()["cache"]["stale_s"] is None


async def test_the_graph_at_a_revision_is_the_one_that_was_drawn_then(cluster: Cluster) -> None:
    controller = await with_controller(cluster)
    drawn: dict[int, dict[str, object]] = {}

    async def note() -> None:
        graph = (await cluster.http.get("/api/graph?include_offline=true")).json()
        drawn[graph["revision"]] = graph

    for name in ("a", "b", "c"):
        await (await cluster.node(name, meta={"of": name})).announce(session={"session_id": f"home-{name}"})
        await note()
    await cluster.registry.establish_link_session("a", "b", {"session_id": "s1", "latency_ms": 2})
    await note()
    await cluster.registry.update_node("a", {"domain": "east", "meta": {"more": 1}})
    await note()
    await cluster.http.post("/api/nodes/b/heartbeats", json={"status": "offline"})
    await note()
    await cluster.registry.deregister("c", force=True)
    await note()
    await cluster.node("c")
    await note()
    assert any(link["target"] == controller for link in drawn[max(drawn)]["links"])  # type: ignore[index,attr-defined]
    for revision, graph in drawn.items():
        assert (await cluster.http.get(f"/api/graph?revision={revision}&include_offline=true")).json() == graph
    first = (await cluster.http.get("/api/graph?revision=0")).json()
    assert (first["nodes"], first["links"], first["cursor"]) == ([], [], f"{cluster.registry.roster.log_id}:0")
    east = (await cluster.http.get(f"/api/graph?revision={max(drawn)}&domain=east")).json()
    assert [node["name"] for node in east["nodes"]] == ["a"]


async def test_a_revision_that_is_still_to_come_is_refused(cluster: Cluster) -> None:
    for revision in ("1", "-1", "x"):
        answer = await cluster.http.get(f"/api/graph?revision={revision}")
        assert (answer.status_code, answer.json()["field"]) == (422, "revision")


async def zoned(cluster: Cluster) -> str:
    """Two zones in a region, two nodes in each, one outside; every node linked to the registry, some to each other."""
    controller = await with_controller(cluster)
    registry = cluster.registry
    await registry.create_group({"name": "eu", "group_type": "region"})
    for zone in ("eu-1", "eu-2"):
        await registry.create_group({"name": zone, "group_type": "zone", "parent": "eu"})
    await registry.create_group({"name": "project-x", "group_type": "project"})
    for name, zone in (("a", "eu-1"), ("b", "eu-1"), ("c", "eu-2"), ("d", "eu-2"), ("e", None)):
        node = await cluster.node(name)
        await node.announce(session={"session_id": f"home-{name}"})
        await registry.add_to_group(name, "project-x")
        if zone is not None:
            await registry.add_to_group(name, zone)
    for one, other, latency_ms in (("a", "b", 1), ("a", "c", 2), ("b", "c", 4), ("d", "a", 8)):
        await registry.establish_link_session(one, other, {"latency_ms": latency_ms, "bandwidth_mbps": 10})
    return controller


async def test_on_the_level_of_groups_each_group_is_one_node_and_links_are_bundled(cluster: Cluster) -> None:
    await zoned(cluster)
    await (await cluster.node("b")).beat("degraded")
    graph = (await cluster.http.get("/api/graph?level=groups")).json()
    assert all(set(shown) == NODE_KEYS for shown in graph["nodes"])
    assert all(set(link) == LINK_KEYS for link in graph["links"])
    names = {shown["id"]: shown["name"] for shown in graph["nodes"]}
    assert sorted(names.values()) == sorted(["eu-1", "eu-2", "project-x", cluster.registry.owner])
    by_name = {shown["name"]: shown for shown in graph["nodes"]}
    assert by_name["eu-1"]["meta"] == {"members": 2, "by_status": {"online": 1, "degraded": 1}, "parent": "eu"}
    assert (by_name["eu-1"]["status"], by_name["eu-2"]["status"]) == ("degraded", "online")
    assert (by_name["eu-1"]["role"], by_name["eu-1"]["val"]) == ("zone", 3)
    links = {(names[link["source"]], names[link["target"]]): link for link in graph["links"] if link["type"] == "node"}
    assert set(links) == {("eu-1", "eu-2"), ("eu-2", "eu-1")}
    bundle = links["eu-1", "eu-2"]
    assert (bundle["value"], bundle["latency_ms"], bundle["bandwidth_mbps"]) == (2, 3, 20)
    home = [names[link["source"]] for link in graph["links"] if link["type"] == "registry"]
    assert sorted(home) == ["eu-1", "eu-2", "project-x"]


async def test_the_graph_of_a_group_follows_what_is_in_it(cluster: Cluster) -> None:
    await zoned(cluster)

    async def drawn(query: str) -> list[str]:
        return [shown["name"] for shown in (await cluster.http.get(f"/api/graph?{query}")).json()["nodes"]]

    assert await drawn("group=eu") == ["a", "b", "c", "d"]
    assert await drawn("group=eu-1") == ["a", "b"]
    revision = cluster.registry.roster.revision
    await cluster.registry.remove_from_group("a", "eu-1")
    assert await drawn("group=eu") == ["b", "c", "d"]
    await cluster.registry.update_group("eu-2", {"parent": None})
    assert await drawn("group=eu") == ["b"]
    assert await drawn("group=eu&level=groups") == ["eu-1"]
    assert await drawn(f"group=eu&revision={revision}") == ["a", "b", "c", "d"]
    assert await drawn(f"group=eu&revision={revision}&level=groups") == ["eu-1", "eu-2"]
    for query in ("group=nowhere", "group=eu&revision=1", "group=nowhere&level=groups"):
        answer = await cluster.http.get(f"/api/graph?{query}")
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_group")
    assert (await cluster.http.get("/api/graph?level=zones")).json()["field"] == "level"


async def test_the_level_of_groups_is_encoded_once_for_each_revision(cluster: Cluster) -> None:
    await zoned(cluster)
    registry = cluster.registry
    assert registry.graph_json(level="groups") is registry.graph_json(level="groups")
    assert registry.graph_json(level="groups") == msgspec.json.encode(registry.graph(level="groups"))
    before = registry.graph_json(level="groups")
    await registry.remove_from_group("a", "eu-1")
    assert registry.graph_json(level="groups") != before


async def test_a_large_graph_is_written_in_parts_and_is_the_same(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        await cluster.registry.ensure_node({"name": f"node-{number}"})
    whole = await cluster.http.get("/api/graph")
    monkeypatch.setattr(bodies, "WHOLE_MAX_BYTES", 10)
    parted = await cluster.http.get("/api/graph")
    assert parted.content == whole.content == cluster.registry.graph_json()
    assert parted.headers == whole.headers
    held = {"if-none-match": parted.headers["etag"]}
    assert (await cluster.http.get("/api/graph", headers=held)).status_code == 304


async def test_the_graph_at_a_moment_is_told_by_time_revision_or_cursor(cluster: Cluster) -> None:
    await cluster.node("a")
    then = (await cluster.http.get("/api/graph")).json()
    at = cluster.clock.now().isoformat()
    await cluster.turn(60)
    await cluster.node("b")
    for moment in (at, then["revision"], then["cursor"]):
        answer = await cluster.http.get("/api/graph", params={"at": moment})
        assert (answer.status_code, answer.json()) == (200, then)


@pytest.mark.parametrize(
    ("query", "field", "status"),
    [
        ("graph?at=soon", "at", 422),
        ("graph?at=999", "at", 422),
        ("graph?at=0&revision=0", "at", 422),
        ("graph?at=00000000-0000-7000-8000-000000000000:0", "at", 410),
        ("graph/diff?from=soon", "from", 422),
        ("graph/diff?from=0&to=999", "to", 422),
        ("graph/diff", "from", 422),
    ],
)
async def test_a_moment_that_is_none_is_refused_by_name(cluster: Cluster, query: str, field: str, status: int) -> None:
    answer = await cluster.http.get(f"/api/{query}")
    assert (answer.status_code, answer.json()["field"]) == (status, field)


async def test_the_difference_between_two_moments(cluster: Cluster) -> None:
    await cluster.node("stays")
    since = cluster.registry.cursor
    await cluster.node("comes")
    await cluster.http.patch("/api/nodes/stays", json={"meta": {"v": 2}})
    found = (await cluster.http.get("/api/graph/diff", params={"from": since})).json()
    assert [node["name"] for node in found["nodes"]["added"]] == ["comes"]
    assert [(each["before"]["meta"], each["after"]["meta"]) for each in found["nodes"]["changed"]] == [({}, {"v": 2})]
    assert (found["from"], found["to"]) == (int(since.rpartition(":")[2]), cluster.registry.roster.revision)
    assert found["links"] == {"added": [], "removed": [], "changed": []}
