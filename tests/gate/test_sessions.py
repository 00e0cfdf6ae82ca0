"""Link sessions: opened, changed and ended over HTTP and embedded, and what becomes of them as their ends fall."""

from __future__ import annotations

import base64
import random
from typing import Any

import pytest

from tests.engines import Opening
from thunderline.core.errors import EndNotUp, NotPermitted, SessionTaken, UnknownSession
from thunderline.core.inputs import NewSession, SessionPatch
from thunderline.core.records import LinkSession
from thunderline.link.actor import NODE_SCOPES, Actor, ActorKind
from thunderline.testing.harness import Cluster


async def pair(cluster: Cluster) -> None:
    await cluster.node("a")
    await cluster.node("b")


async def opened(cluster: Cluster, **attrs: Any) -> dict[str, Any]:
    body = {"node_id": "a", "remote_node_id": "b", "session_id": "s1", **attrs}
    answer = await cluster.http.post("/api/sessions", json=body)
    answer.raise_for_status()
    session: dict[str, Any] = answer.json()["session"]
    return session


async def session(cluster: Cluster, ref: str = "s1") -> dict[str, Any]:
    found: dict[str, Any] = (await cluster.http.get(f"/api/sessions/{ref}")).json()["session"]
    return found


async def link_events(cluster: Cluster) -> list[str]:
    answer = await cluster.http.get("/api/events?match=cluster.link.*&limit=1000")
    told = answer.json()["events"]
    return [f"{event['type'].removeprefix('cluster.link.')} {event['data']['status']}" for event in told]


async def listed(cluster: Cluster, query: str = "") -> list[str]:
    return [one["session_id"] for one in (await cluster.http.get(f"/api/sessions{query}")).json()["sessions"]]


# Opening


async def test_session_between_two_nodes_is_created_once_and_then_known(cluster: Cluster) -> None:
    await pair(cluster)
    body = {"node_id": "a", "remote_node_id": "b", "session_id": "s1", "session_type": "tocp", "latency_ms": 1.5}
    first = await cluster.http.post("/api/sessions", json=body)
    again = await cluster.http.post("/api/sessions", json=body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    made = first.json()["session"]
    assert (made["status"], made["status_reason"], made["session_type"]) == ("established", "opened by local", "tocp")
    assert made["node_id"] == cluster.registry.find_id("a")
    assert made["remote_node_id"] == cluster.registry.find_id("b")
    assert await link_events(cluster) == ["established established"]


async def test_session_reported_from_its_other_end_is_the_same(cluster: Cluster) -> None:
    await pair(cluster)
    first = await opened(cluster, local_peer_id="pa", remote_peer_id="pb")
    answer = await cluster.http.post(
        "/api/sessions",
        json={
            **{"node_id": "b", "remote_node_id": "a", "session_id": "s1"},
            **{"local_peer_id": "pb", "remote_peer_id": "pa"},
        },
    )
    assert (answer.status_code, answer.json()["session"]) == (200, first)


async def test_session_is_found_by_its_id_too_open_or_not(cluster: Cluster) -> None:
    await pair(cluster)
    made = await opened(cluster)
    assert await session(cluster, made["id"]) == made
    assert (await cluster.http.delete(f"/api/sessions/{made['id']}")).status_code == 204
    assert (await session(cluster, made["id"].upper()))["status"] == "closed"


async def test_session_being_established_is_told_as_such_first(cluster: Cluster) -> None:
    await pair(cluster)
    made = await opened(cluster, status="establishing")
    assert (made["status"], made["established_at"]) == ("establishing", None)
    made = await opened(cluster)
    assert made["established_at"] is not None
    assert await link_events(cluster) == ["updated establishing", "established established"]


async def test_closed_session_is_opened_again_and_not_doubled(cluster: Cluster) -> None:
    await pair(cluster)
    first = await opened(cluster)
    await cluster.http.delete("/api/sessions/s1")
    await cluster.turn(3)
    second = await opened(cluster, latency_ms=7)
    assert (second["id"], second["status"], second["closed_at"]) == (first["id"], "established", None)
    assert second["established_at"] > first["established_at"]
    assert await link_events(cluster) == ["established established", "closed closed", "established established"]
    assert await listed(cluster) == ["s1"]


async def test_session_id_of_others_is_taken(cluster: Cluster) -> None:
    await pair(cluster)
    await cluster.node("c")
    await opened(cluster)
    for ends in ({"node_id": "a"}, {"node_id": "a", "remote_node_id": "c"}, {"node_id": "c", "remote_node_id": "b"}):
        answer = await cluster.http.post("/api/sessions", json={**ends, "session_id": "s1"})
        assert (answer.status_code, answer.json()["code"]) == (409, "session_taken")
    answer = await cluster.http.post("/api/nodes/c/online", json={"session": {"session_id": "s1"}})
    assert (answer.status_code, answer.json()["code"]) == (409, "session_taken")


async def test_session_over_whose_other_end_is_gone_may_link_its_successor(cluster: Cluster) -> None:
    await pair(cluster)
    first = await opened(cluster)
    await cluster.http.delete("/api/nodes/b?force=true")
    assert (await session(cluster))["status_reason"] == "deregistered"
    await cluster.node("b")
    second = await opened(cluster)
    assert second["id"] == first["id"]
    assert second["remote_node_id"] == cluster.registry.find_id("b") != first["remote_node_id"]


async def test_session_with_a_node_that_is_not_there_is_refused(cluster: Cluster) -> None:
    await pair(cluster)
    await cluster.turn(31)
    answer = await cluster.http.post("/api/sessions", json={"node_id": "a", "remote_node_id": "b"})
    assert (answer.status_code, answer.json()["code"]) == (409, "end_not_up")
    with pytest.raises(EndNotUp):
        await cluster.registry.establish_link_session("a", "b")


async def test_session_of_a_node_that_was_never_heard_can_be_recorded(cluster: Cluster) -> None:
    for name in ("a", "b"):
        await cluster.registry.ensure_node({"name": name})
    made = await cluster.registry.establish_link_session("a", "b", {"session_id": "s1"})
    assert made.status == "established"


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "node_id"),
        ({"node_id": "nobody"}, 404, None),
        ({"node_id": "a", "remote_node_id": "nobody"}, 404, None),
        ({"node_id": "a", "remote_node_id": "a"}, 422, "remote_node_id"),
        ({"node_id": "a", "status": "closed"}, 422, "status"),
        ({"node_id": "a", "weight": 1.5}, 422, "weight"),
        ({"node_id": "a", "latency_ms": -1}, 422, "latency_ms"),
        ({"node_id": "a", "session_type": "tcp"}, 422, "session_type"),
        ({"node_id": "a", "connection_type": "Web Socket"}, 422, "connection_type"),
        ({"node_id": "a", "session_id": ""}, 422, "session_id"),
        *(({"node_id": "a", "session_id": bad}, 422, "session_id") for bad in ("/a", "a/", "a//b", "..", "a/../b")),
        ({"node_id": "a", "meta": []}, 422, "meta"),
        ({"node_id": "a", "holder": "me"}, 422, "holder"),
    ],
)
async def test_bad_session_names_the_field_and_changes_nothing(
    cluster: Cluster, body: dict[str, Any], status: int, field: str | None
) -> None:
    await pair(cluster)
    before = cluster.registry.roster.revision
    answer = await cluster.http.post("/api/sessions", json=body)
    assert (answer.status_code, answer.json().get("field")) == (status, field)
    assert cluster.registry.roster.revision == before


# Changing


async def test_figures_are_patched_and_the_very_same_again_makes_no_event(cluster: Cluster) -> None:
    await pair(cluster)
    await opened(cluster, meta={"keep": 1, "drop": 2})
    patch = {"latency_ms": 2.5, "bandwidth_mbps": 940, "weight": 0.5, "meta": {"drop": None, "new": 3}}
    changed = (await cluster.http.patch("/api/sessions/s1", json=patch)).json()["session"]
    assert {key: changed[key] for key in ("latency_ms", "bandwidth_mbps", "weight", "meta")} == {
        **{"latency_ms": 2.5, "bandwidth_mbps": 940.0, "weight": 0.5},
        "meta": {"keep": 1, "new": 3},
    }
    await cluster.http.patch("/api/sessions/s1", json=patch)
    assert await link_events(cluster) == ["established established", "updated established"]
    reset = (await cluster.http.patch("/api/sessions/s1", json={"latency_ms": None, "weight": None})).json()["session"]
    assert (reset["latency_ms"], reset["weight"], reset["bandwidth_mbps"]) == (None, 1.0, 940.0)


async def test_session_degraded_by_hand_stays_so_while_its_nodes_come_and_go(cluster: Cluster) -> None:
    await pair(cluster)
    await opened(cluster)
    patch = {"status": "degraded", "reason": "packet loss"}
    changed = (await cluster.http.patch("/api/sessions/s1", json=patch)).json()["session"]
    assert (changed["status"], changed["status_reason"]) == ("degraded", "packet loss")
    await cluster.turn(31)
    for name in ("a", "b"):
        await cluster.http.post(f"/api/nodes/{name}/heartbeats", json={})
    assert await session(cluster) == changed
    mended = (await cluster.http.patch("/api/sessions/s1", json={"status": "established"})).json()["session"]
    assert (mended["status"], mended["status_reason"]) == ("established", "established by local")
    assert mended["established_at"] == changed["established_at"]


async def test_session_that_is_over_is_not_changed_but_opened_again(cluster: Cluster) -> None:
    await pair(cluster)
    await opened(cluster)
    failed = (await cluster.http.patch("/api/sessions/s1", json={"status": "failed", "reason": "reset"})).json()
    assert (failed["session"]["status"], failed["session"]["status_reason"]) == ("failed", "reset")
    answer = await cluster.http.patch("/api/sessions/s1", json={"latency_ms": 1})
    assert (answer.status_code, answer.json()["code"]) == (409, "session_over")
    again = await cluster.http.patch("/api/sessions/s1", json={"status": "failed"})
    assert (again.status_code, again.json()) == (200, failed)
    assert await link_events(cluster) == ["established established", "closed failed"]


async def test_session_is_not_established_over_a_node_that_is_not_there(cluster: Cluster) -> None:
    await pair(cluster)
    await opened(cluster)
    await cluster.turn(31)
    await cluster.http.post("/api/nodes/a/heartbeats", json={})
    answer = await cluster.http.patch("/api/sessions/s1", json={"status": "established"})
    assert (answer.status_code, answer.json()["code"]) == (409, "end_not_up")


async def test_closing_is_a_204_and_then_a_404(cluster: Cluster) -> None:
    await pair(cluster)
    await opened(cluster)
    answers = [await cluster.http.delete("/api/sessions/s1") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [204, 404]
    assert (await session(cluster))["status_reason"] == "closed by local"
    assert (await cluster.registry.close_link_session("s1")).status == "closed"
    with pytest.raises(UnknownSession):
        await cluster.registry.close_link_session("nobody")
    for method in ("GET", "PATCH", "DELETE"):
        answer = await cluster.http.request(method, "/api/sessions/nobody", json={} if method == "PATCH" else None)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_session")


async def test_reason_goes_with_a_status_and_keeps_no_session_from_returning(cluster: Cluster) -> None:
    await pair(cluster)
    await opened(cluster)
    await cluster.turn(31)
    answer = await cluster.http.patch("/api/sessions/s1", json={"reason": "looking into it"})
    assert (answer.status_code, answer.json()["field"]) == (422, "reason")
    for name in ("a", "b"):
        await cluster.http.post(f"/api/nodes/{name}/heartbeats", json={})
    assert (await session(cluster))["status"] == "established"


async def test_session_id_that_is_the_id_of_another_session_is_taken(cluster: Cluster) -> None:
    await pair(cluster)
    victim = await opened(cluster)
    for path, body in (
        ("/api/sessions", {"node_id": "a", "remote_node_id": "b", "session_id": victim["id"]}),
        ("/api/nodes/a/online", {"session": {"session_id": victim["id"]}}),
    ):
        answer = await cluster.http.post(path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (409, "session_taken")
    assert await session(cluster, victim["id"]) == victim


# Following their nodes


async def test_session_is_degraded_while_either_end_is_away_and_returns_with_the_last(cluster: Cluster) -> None:
    await pair(cluster)
    await opened(cluster)
    await cluster.turn(31)
    assert (await session(cluster))["status"] == "degraded"
    await cluster.http.post("/api/nodes/b/heartbeats", json={})
    assert (await session(cluster))["status"] == "degraded"
    await cluster.http.post("/api/nodes/a/heartbeats", json={})
    assert (await session(cluster))["status"] == "established"
    assert await link_events(cluster) == ["established established", "updated degraded", "updated established"]


async def test_session_being_established_returns_as_it_was(cluster: Cluster) -> None:
    await pair(cluster)
    await opened(cluster, status="establishing")
    await cluster.turn(31)
    for name in ("a", "b"):
        await cluster.http.post(f"/api/nodes/{name}/heartbeats", json={})
    assert (await session(cluster))["status"] == "establishing"


@pytest.mark.parametrize("name", ["a", "b"])
async def test_goodbye_of_either_end_closes_the_session(cluster: Cluster, name: str) -> None:
    await pair(cluster)
    await opened(cluster)
    await cluster.http.post(f"/api/nodes/{name}/heartbeats", json={"status": "offline"})
    assert {key: (await session(cluster))[key] for key in ("status", "status_reason")} == {
        **{"status": "closed", "status_reason": "node_left"},
    }
    assert await listed(cluster) == []


@pytest.mark.parametrize("kept", ["a", "b"])
async def test_session_fails_with_either_end_in_the_same_commit(cluster: Cluster, kept: str) -> None:
    await pair(cluster)
    await opened(cluster)
    for _ in range(40):
        await cluster.turn(5)
        await cluster.http.post(f"/api/nodes/{kept}/heartbeats", json={})
    assert (await session(cluster))["status"] == "failed"
    told = (await cluster.http.get("/api/events?limit=1000")).json()["events"]
    offline, closed = (
        next(event for event in told if event["type"] == name)
        for name in ("cluster.node.offline", "cluster.link.closed")
    )
    assert (closed["revision"], closed["correlationid"]) == (offline["revision"] + 1, offline["correlationid"])


async def test_new_process_of_a_node_supersedes_its_sessions(cluster: Cluster) -> None:
    await pair(cluster)
    await cluster.http.post("/api/nodes/a/online", json={"instance": "one"})
    await opened(cluster)
    await cluster.http.post("/api/nodes/a/online", json={"instance": "two"})
    assert (await session(cluster))["status_reason"] == "superseded"


async def test_override_leaves_sessions_alone(cluster: Cluster) -> None:
    await pair(cluster)
    before = await opened(cluster)
    await cluster.http.post("/api/nodes/a/offline", json={})
    assert await session(cluster) == before


async def test_deregistering_an_end_needs_force_and_closes_the_session(cluster: Cluster) -> None:
    await pair(cluster)
    await opened(cluster)
    assert (await cluster.http.delete("/api/nodes/b")).json()["code"] == "live_link"
    assert (await cluster.http.delete("/api/nodes/b?force=true")).status_code == 204
    assert (await session(cluster))["status"] == "closed"
    assert (await cluster.http.get("/api/nodes/a?load=sessions")).json()["sessions"] == []


# Reading


async def test_lists_are_filtered_and_paged_in_the_order_of_ids(cluster: Cluster) -> None:
    for name in ("a", "b", "c"):
        await cluster.node(name)
    await cluster.http.post("/api/nodes/a/online", json={"session": {"session_id": "home"}})
    made = random.Random(7).sample(range(20), 20)
    for number in made:
        ends = {"node_id": "a", "remote_node_id": "b"} if number % 2 else {"node_id": "c", "remote_node_id": "a"}
        body = {**ends, "session_id": f"s{number}", "connection_type": "quic" if number < 5 else "tcp"}
        await cluster.http.post("/api/sessions", json=body)
    await cluster.http.patch("/api/sessions/s4", json={"status": "degraded"})
    await cluster.http.delete("/api/sessions/s19")
    order = [f"s{number}" for number in made if number != 19]
    assert await listed(cluster) == ["home", *order]
    assert await listed(cluster, "?node=b") == [name for name in order if int(name[1:]) % 2]
    assert await listed(cluster, "?node=a&between_nodes=false") == ["home"]
    assert await listed(cluster, "?connection_type=quic&status=established,establishing") == [
        name for name in order if int(name[1:]) < 4
    ]
    paged, cursor = [], ""
    while True:
        answer = (await cluster.http.get(f"/api/nodes/a/sessions?limit=3{cursor}")).json()
        paged += [one["session_id"] for one in answer["sessions"]]
        if answer["next_cursor"] is None:
            break
        cursor = f"&cursor={answer['next_cursor']}"
        if len(paged) == 3:
            # Those that come and go elsewhere in the list move nothing.
            await cluster.http.delete(f"/api/sessions/{paged[1]}")
    assert paged == ["home", *order]


async def test_cursor_that_nests_without_end_is_no_cursor(cluster: Cluster) -> None:
    nested = base64.urlsafe_b64encode(b"\x92\xc4\x06aaaaaa" + b"\x91" * 3000 + b"\xc0").rstrip(b"=").decode()
    for path in ("sessions", "nodes", "groups"):
        answer = await cluster.http.get(f"/api/{path}?cursor={nested}")
        assert (answer.status_code, answer.json()["field"]) == (422, "cursor")


@pytest.mark.parametrize(
    ("query", "field"),
    [("status=closed", "status"), ("status=up", "status"), ("session_type=x", "session_type"), ("cursor=x", "cursor")],
)
async def test_bad_filter_of_sessions_is_named(cluster: Cluster, query: str, field: str) -> None:
    answer = await cluster.http.get(f"/api/sessions?{query}")
    assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_presence_counts_sessions_at_either_end(cluster: Cluster) -> None:
    await pair(cluster)
    await opened(cluster)
    for name in ("a", "b"):
        assert cluster.registry.presence(name).sessions == 1


async def test_node_changes_the_sessions_of_which_it_is_an_end_and_no_others(cluster: Cluster) -> None:
    await pair(cluster)
    await cluster.node("c")
    await opened(cluster)
    domain = cluster.registry.domain
    b, c = (
        Actor(kind=ActorKind.NODE, name=name, scopes=NODE_SCOPES, node_id=cluster.registry.find_id(name))
        for name in ("b", "c")
    )
    assert (await domain.update_link_session("s1", SessionPatch(latency_ms=3), actor=b)).latency_ms == 3
    with pytest.raises(NotPermitted):
        await domain.close_link_session("s1", actor=c)
    with pytest.raises(NotPermitted):
        await domain.create_link_session(NewSession(node_id="a", remote_node_id="b"), actor=c)


async def test_sessions_are_there_after_a_restart(open_cluster: Opening) -> None:
    async with open_cluster() as cluster:
        await pair(cluster)
        await opened(cluster)
        before = cluster.registry.list_sessions("b")
        assert before
    async with open_cluster(store=cluster.store, clock=cluster.clock) as restarted:
        assert restarted.registry.list_sessions("b") == before == restarted.registry.list_sessions("a")


async def test_embedded_names_do_the_same(cluster: Cluster) -> None:
    await pair(cluster)
    registry = cluster.registry
    made = await registry.establish_link_session("a", "b", {"session_id": "s1", "session_type": "service"})
    assert isinstance(made, LinkSession)
    assert registry.list_sessions("b", status="established", session_type="service") == [made]
    changed = await registry.update_link_session("s1", {"latency_ms": 4})
    assert await registry.get_link_session("s1") == changed
    with pytest.raises(SessionTaken):
        await registry.establish_link_session("a", None, {"session_id": "s1"})
    closed = await registry.close_link_session("s1", "maintenance")
    assert (closed.status, closed.status_reason) == ("closed", "maintenance")
    assert await registry.get_link_session("s1") == closed
