"""The routes of nodes and heartbeats, as a client sees them."""

from __future__ import annotations

import asyncio

import pytest

from thunderline.testing.harness import Cluster


async def test_ensuring_a_node_is_201_then_200_with_the_same_id(cluster: Cluster) -> None:
    first = await cluster.http.post("/api/nodes", json={"name": "worker-1@prod", "meta": {"a": 1}})
    again = await cluster.http.post("/api/nodes", json={"name": "worker-1@prod", "meta": {"a": 2, "b": 3}})
    assert (first.status_code, again.status_code) == (201, 200)
    node = again.json()["node"]
    assert node["id"] == first.json()["node"]["id"]
    assert node["meta"] == {"a": 1, "b": 3}  # absent fields are filled, present ones stay
    assert (node["status"], node["role"], node["domain"]) == ("connecting", "worker", "thunderlink")


async def test_a_known_name_with_another_role_is_a_mismatch(cluster: Cluster) -> None:
    await cluster.http.post("/api/nodes", json={"name": "a", "role": "edge"})
    answer = await cluster.http.post("/api/nodes", json={"name": "a", "role": "relay"})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (409, "mismatch", "role")
    assert (await cluster.http.post("/api/nodes", json={"name": "a"})).json()["node"]["role"] == "edge"


async def test_two_hundred_simultaneous_registrations_of_one_name_give_one_id(cluster: Cluster) -> None:
    answers = await asyncio.gather(*(cluster.http.post("/api/nodes", json={"name": "a"}) for _ in range(200)))
    assert len({answer.json()["node"]["id"] for answer in answers}) == 1
    assert sorted(answer.status_code for answer in answers) == [200] * 199 + [201]


async def test_a_node_is_found_by_name_and_by_id_in_any_case(cluster: Cluster) -> None:
    await cluster.node("a:b@c")
    by_name = (await cluster.http.get("/api/nodes/a:b@c")).json()["node"]
    for ref in (by_name["id"], by_name["id"].upper(), "a%3Ab%40c"):
        assert (await cluster.http.get(f"/api/nodes/{ref}")).json()["node"]["id"] == by_name["id"]


async def test_a_first_beat_brings_a_node_online_with_its_figures_under_presence(cluster: Cluster) -> None:
    await cluster.http.post("/api/nodes", json={"name": "a"})
    beat = {"cpu_load": 12.5, "mem_used_mb": 2048, "latency_ms": 0.5, "seq": 1, "peers": {"b": None}, "meta": {"x": 1}}
    answer = await cluster.http.post("/api/nodes/a/heartbeats", json=beat)
    assert answer.status_code == 201
    assert answer.json()["next_interval_ms"] == 10_000
    node = (await cluster.http.get("/api/nodes/a")).json()["node"]
    assert (node["status"], node["status_reason"]) == ("online", "heartbeat")
    assert node["presence"]["last_heartbeat"] == answer.json()["heartbeat"]
    assert node["presence"]["last_heartbeat"]["mem_used_mb"] == 2048
    assert node["presence"]["last_heartbeat_at"] == node["presence"]["last_seen_at"] == "2026-01-01T00:00:00Z"


async def test_a_repeated_beat_is_200_and_kept_once(cluster: Cluster) -> None:
    await cluster.http.post("/api/nodes", json={"name": "a"})
    first = await cluster.http.post("/api/nodes/a/heartbeats", json={"seq": 7, "cpu_load": 1})
    await cluster.turn(3)
    again = await cluster.http.post("/api/nodes/a/heartbeats", json={"seq": 7, "cpu_load": 1})
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["heartbeat"] == first.json()["heartbeat"]
    assert len((await cluster.http.get("/api/nodes/a/heartbeats")).json()["heartbeats"]) == 1


async def test_beats_that_arrive_out_of_order_are_all_kept(cluster: Cluster) -> None:
    await cluster.http.post("/api/nodes", json={"name": "a"})
    for seq in (3, 1, 2, 3, 1):
        await cluster.http.post("/api/nodes/a/heartbeats", json={"seq": seq})
    kept = (await cluster.http.get("/api/nodes/a/heartbeats")).json()["heartbeats"]
    assert [beat["seq"] for beat in kept] == [3, 1, 2]


async def test_a_number_far_behind_is_refused_rather_than_guessed(cluster: Cluster) -> None:
    await cluster.http.post("/api/nodes", json={"name": "a"})
    await cluster.http.post("/api/nodes/a/heartbeats", json={"seq": 5000})
    answer = await cluster.http.post("/api/nodes/a/heartbeats", json={"seq": 1})
    assert (answer.status_code, answer.json()["code"]) == (409, "stale_sequence")
    await cluster.http.post("/api/nodes/a/online", json={"instance": "first"})
    await cluster.http.post("/api/nodes/a/online", json={"instance": "second"})
    assert (await cluster.http.post("/api/nodes/a/heartbeats", json={"seq": 1})).status_code == 201


async def test_after_a_goodbye_only_an_announcement_brings_a_node_back(cluster: Cluster) -> None:
    node = await cluster.node("a")
    await node.leave()
    assert cluster.registry.get_node("a").status_reason == "goodbye"
    await node.beat()
    assert cluster.registry.get_node("a").status == "offline"
    answer = await node.announce(instance="i1")
    assert answer.json()["node"]["status"] == "online"
    assert answer.json()["session"] is None


async def test_a_new_instance_is_a_new_incarnation_and_the_old_one_is_refused(cluster: Cluster) -> None:
    node = await cluster.node("a")
    await node.announce(instance="i1", session={"session_id": "s1"})
    restarted = (await node.announce(instance="i2")).json()["node"]
    assert (restarted["incarnation"], restarted["presence"]["sessions"]) == (2, 0)
    answer = await cluster.http.post("/api/nodes/a/heartbeats", json={"incarnation": 1})
    assert (answer.status_code, answer.json()["code"]) == (409, "stale_incarnation")
    assert (await node.announce(instance="i2")).json()["node"]["incarnation"] == 2


async def test_an_override_hides_the_truth_until_it_is_lifted(cluster: Cluster) -> None:
    node = await cluster.node("a")
    marked = (await cluster.http.post("/api/nodes/a/offline", json={"reason": "disk swap"})).json()["node"]
    assert (marked["status"], marked["observed_status"], marked["status_reason"]) == ("offline", "online", "disk swap")
    assert marked["override"]["by"] == "operator:local"
    await node.beat()
    await node.announce()
    assert cluster.registry.get_node("a").status == "offline"
    lifted = (await cluster.http.delete("/api/nodes/a/override")).json()["node"]
    assert (lifted["status"], lifted["override"]) == ("online", None)


async def test_a_dead_node_does_not_show_as_degraded(cluster: Cluster) -> None:
    await cluster.node("a")
    await cluster.http.post("/api/nodes/a/status", json={"status": "degraded", "reason": "noisy"})
    assert cluster.registry.get_node("a").status == "degraded"
    await cluster.turn(31)
    assert cluster.registry.get_node("a").status == "disconnected"
    await cluster.turn(61)
    assert cluster.registry.get_node("a").status == "offline"


@pytest.mark.parametrize("path", ["online", "offline", "status", "override"])
async def test_repeating_a_call_makes_no_event(cluster: Cluster, path: str) -> None:
    await cluster.node("a")

    async def call() -> int:
        if path == "override":
            return (await cluster.http.delete("/api/nodes/a/override")).status_code
        body = {"status": "degraded", "reason": "x"} if path == "status" else {}
        return (await cluster.http.post(f"/api/nodes/a/{path}", json=body)).status_code

    assert await call() == 200
    revision = cluster.registry.roster.revision
    assert await call() == 200
    assert cluster.registry.roster.revision == revision


async def test_one_status_event_per_change(cluster: Cluster) -> None:
    node = await cluster.node("a")
    await node.beat("degraded")
    await node.beat("degraded")
    await node.beat()
    await cluster.http.post("/api/nodes/a/offline", json={})
    await node.beat("degraded")
    await cluster.http.delete("/api/nodes/a/override")
    events = (await cluster.http.get("/api/events")).json()["events"]
    assert [(event["type"].rpartition(".")[2], event["data"]["status"]) for event in events] == [
        ("registered", "connecting"),
        ("online", "online"),
        ("status_changed", "degraded"),
        ("online", "online"),
        ("offline", "offline"),
        ("status_changed", "offline"),  # the truth moved under the override
        ("status_changed", "degraded"),
    ]


async def test_silence_is_disconnected_then_offline_and_a_beat_brings_the_node_back(cluster: Cluster) -> None:
    node = await cluster.node("a")
    await node.announce(session={"session_id": "s1"})
    await cluster.turn(29)
    assert cluster.registry.get_node("a").status == "online"
    await cluster.turn(2)
    shown = cluster.registry.get_node("a")
    assert (shown.status, shown.status_reason) == ("disconnected", "silent")
    assert [session.status for session in cluster.registry.roster.find("a").sessions.values()] == ["degraded"]
    await node.beat()
    assert [session.status for session in cluster.registry.roster.find("a").sessions.values()] == ["established"]
    await cluster.turn(31)
    await cluster.turn(60)
    shown = cluster.registry.get_node("a")
    assert (shown.status, shown.status_reason, cluster.registry.presence("a").sessions) == ("offline", "silent", 0)
    await node.beat()
    assert cluster.registry.get_node("a").status == "online"


async def test_a_node_that_never_beats_is_offline_as_never_seen(cluster: Cluster) -> None:
    await cluster.http.post("/api/nodes", json={"name": "a"})
    await cluster.turn(61)
    assert cluster.registry.get_node("a").status_reason == "never_seen"


async def test_a_node_with_its_own_interval_has_its_own_deadline(cluster: Cluster) -> None:
    node = await cluster.node("a", heartbeat_interval_ms=1000)
    assert (await node.beat()).json()["next_interval_ms"] == 1000
    await cluster.turn(3.2)
    assert cluster.registry.get_node("a").status == "disconnected"


async def test_a_jump_of_the_wall_clock_convicts_nobody(cluster: Cluster) -> None:
    node = await cluster.node("a")
    for jump_s in (365 * 86400, -2 * 365 * 86400):
        cluster.clock.jump_wall(jump_s)
        await cluster.turn(20)
        assert cluster.registry.get_node("a").status == "online"
        await node.beat()


async def test_a_patch_merges_meta_and_labels_and_null_resets(cluster: Cluster) -> None:
    attrs = {"meta": {"a": {"b": 1, "c": 2}}, "labels": {"x": "1", "y": "2"}, "address": "10.0.0.1"}
    await cluster.node("a", **attrs)
    patch = {"meta": {"a": {"b": None, "d": 3}}, "labels": {"x": None, "z": "3"}, "address": None, "role": "edge"}
    headers = {"content-type": "application/merge-patch+json"}
    node = (await cluster.http.patch("/api/nodes/a", json=patch, headers=headers)).json()["node"]
    assert node["meta"] == {"a": {"c": 2, "d": 3}}
    assert node["labels"] == {"y": "2", "z": "3"}
    assert (node["address"], node["role"]) == (None, "edge")
    assert (await cluster.http.patch("/api/nodes/a", json={"name": "b"})).json()["field"] == "name"


async def test_a_patch_that_would_outgrow_a_bound_changes_nothing(cluster: Cluster) -> None:
    await cluster.node("a", meta={"a": "x" * 10_000}, labels={f"l{i}": "" for i in range(60)})
    revision = cluster.registry.roster.revision
    too_much = await cluster.http.patch("/api/nodes/a", json={"meta": {"b": "x" * 10_000}})
    too_many = await cluster.http.patch("/api/nodes/a", json={"labels": {f"m{i}": "" for i in range(5)}})
    assert [(a.status_code, a.json()["field"]) for a in (too_much, too_many)] == [(422, "meta"), (422, "labels")]
    assert cluster.registry.roster.revision == revision


async def test_deregistering_is_204_then_404_and_frees_the_name(cluster: Cluster) -> None:
    node = await cluster.node("a")
    old = cluster.registry.get_node("a").id
    assert (await cluster.http.delete("/api/nodes/a")).status_code == 204
    assert (await cluster.http.delete("/api/nodes/a")).status_code == 404
    assert (await node.beat()).json()["code"] == "unknown_node"
    await cluster.node("a")
    assert cluster.registry.get_node("a").id != old
    by_id = (await cluster.http.get(f"/api/nodes/{old}/heartbeats")).json()["heartbeats"]
    assert len(by_id) == 1


async def test_a_live_link_is_cut_only_by_force(cluster: Cluster) -> None:
    node = await cluster.node("a")
    await node.announce(session={"session_id": "s1"})
    refused = await cluster.http.delete("/api/nodes/a")
    assert (refused.status_code, refused.json()["code"]) == (409, "live_link")
    assert (await cluster.http.delete("/api/nodes/a?force=true")).status_code == 204
    names = [event["type"] for event in (await cluster.http.get("/api/events")).json()["events"]]
    assert names[-2:] == ["cluster.link.closed", "cluster.node.deregistered"]


async def test_a_session_comes_back_as_itself_and_belongs_to_one_node(cluster: Cluster) -> None:
    node, other = await cluster.node("a"), await cluster.node("b")
    first = (await node.announce(session={"session_id": "s1"})).json()["session"]
    await node.leave()
    again = (await node.announce(session={"session_id": "s1", "weight": 0.5})).json()["session"]
    assert (again["id"], again["status"], again["weight"]) == (first["id"], "established", 0.5)
    refused = await other.announce(session={"session_id": "s1"})
    assert refused.status_code == 409


async def test_a_listing_filters_pages_and_binds_its_cursor(cluster: Cluster) -> None:
    for i in range(25):
        await cluster.node(f"n{i:02}", role="edge" if i % 5 == 0 else "worker", labels={"zone": f"z{i % 2}"})
    edges = (await cluster.http.get("/api/nodes?role=edge&label=zone=z1")).json()["nodes"]
    assert [node["name"] for node in edges] == ["n05", "n15"]
    assert len((await cluster.http.get("/api/nodes?name=n1*&status=online,degraded")).json()["nodes"]) == 10
    names, cursor = [], None
    while True:
        query = "limit=7" + (f"&cursor={cursor}" if cursor else "")
        page = (await cluster.http.get(f"/api/nodes?{query}")).json()
        names += [node["name"] for node in page["nodes"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        await cluster.http.delete(f"/api/nodes/{names[0]}")  # a node that goes does not shift the next page
    assert names == [f"n{i:02}" for i in range(25)]
    page = (await cluster.http.get("/api/nodes?limit=1")).json()
    refused = await cluster.http.get(f"/api/nodes?role=edge&cursor={page['next_cursor']}")
    assert (refused.status_code, refused.json()["field"]) == (422, "cursor")


async def test_a_node_can_be_loaded_with_its_sessions_and_beats(cluster: Cluster) -> None:
    node = await cluster.node("a")
    await node.announce(session={"session_id": "s1"})
    body = (await cluster.http.get("/api/nodes/a?load=sessions,heartbeats")).json()
    assert [session["session_id"] for session in body["sessions"]] == ["s1"]
    assert [beat["seq"] for beat in body["heartbeats"]] == [1]
    assert "presence" not in (await cluster.http.get("/api/nodes/a?presence=false")).json()["node"]
    assert (await cluster.http.get("/api/nodes/a?load=all")).json()["field"] == "load"


async def test_heartbeats_are_read_by_minutes_oldest_first(cluster: Cluster) -> None:
    node = await cluster.node("a", heartbeat_interval_ms=3_600_000)
    for _ in range(5):
        await cluster.turn(60)
        await node.beat()
    recent = (await cluster.http.get("/api/nodes/a/heartbeats?minutes=2")).json()["heartbeats"]
    assert [beat["seq"] for beat in recent] == [4, 5, 6]
    newest = (await cluster.http.get("/api/heartbeats?minutes=60&limit=2")).json()["heartbeats"]
    assert [beat["seq"] for beat in newest] == [5, 6]


async def test_http_sorts_and_binds_cursors_to_the_order(cluster: Cluster) -> None:
    for name, role in (("a", "worker"), ("b", "edge"), ("c", "worker"), ("d", "edge")):
        await cluster.node(name, role=role)
    first = (await cluster.http.get("/api/nodes?sort=-role&limit=3")).json()
    assert [node["name"] for node in first["nodes"]] == ["c", "a", "d"]
    rest = (await cluster.http.get(f"/api/nodes?sort=-role&limit=3&cursor={first['next_cursor']}")).json()
    assert ([node["name"] for node in rest["nodes"]], rest["next_cursor"]) == (["b"], None)
    for query in (f"sort=role&cursor={first['next_cursor']}", "sort=colour", "sort="):
        answer = await cluster.http.get(f"/api/nodes?{query}")
        assert answer.status_code == 422
    assert [node.name for node in cluster.registry.list_nodes(sort="-name")] == ["d", "c", "b", "a"]
