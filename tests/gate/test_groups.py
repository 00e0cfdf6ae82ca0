"""Groups over HTTP: what each route answers, what is refused by name, and that a refusal changes nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from thunderline.testing.harness import Cluster

JSON = {"content-type": "application/json"}
UUID = "01a20925-53fe-7230-808d-cad59ba10008"


async def create(cluster: Cluster, name: str, **attrs: Any) -> dict[str, Any]:
    answer = await cluster.http.post("/api/groups", json={"name": name, **attrs})
    assert answer.status_code == 201, answer.text
    group: dict[str, Any] = answer.json()["group"]
    return group


async def names(cluster: Cluster, path: str, key: str = "groups") -> list[str]:
    answer = await cluster.http.get(path)
    assert answer.status_code == 200, answer.text
    return [item["name"] for item in answer.json()[key]]


async def test_group_is_created_once_and_told(cluster: Cluster) -> None:
    group = await create(cluster, "eu", group_type="region", meta={"k": 1})
    assert group | {"id": "", "inserted_at": "", "updated_at": "", "revision": 0} == {
        "id": "",
        "name": "eu",
        "group_type": "region",
        "parent": None,
        "meta": {"k": 1},
        "inserted_at": "",
        "updated_at": "",
        "revision": 0,
        "members": 0,
    }
    again = await cluster.http.post("/api/groups", json={"name": "eu", "group_type": "region", "meta": {"k": 1}})
    assert (again.status_code, again.json()["group"]) == (200, group)
    (event,) = (await cluster.http.get("/api/events?match=cluster.group.>")).json()["events"]
    assert (event["type"], event["subject"], event["entitykind"], event["entityid"]) == (
        "cluster.group.created",
        "eu",
        "group",
        group["id"],
    )
    assert event["data"] == {key: value for key, value in group.items() if key != "members"}


async def test_same_name_with_other_values_is_a_mismatch(cluster: Cluster) -> None:
    await create(cluster, "eu", group_type="region")
    answer = await cluster.http.post("/api/groups", json={"name": "eu", "group_type": "zone"})
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (409, "mismatch", "group_type")


async def test_group_is_found_by_id_and_by_name_with_any_sign(cluster: Cluster) -> None:
    group = await create(cluster, "zone-1@prod:eu.west")
    for ref in ("zone-1@prod:eu.west", "zone-1%40prod%3Aeu.west", group["id"], group["id"].upper()):
        assert (await cluster.http.get(f"/api/groups/{ref}")).json() == {"group": group}


async def test_node_with_any_sign_in_its_name_joins_such_a_group_and_leaves_it(cluster: Cluster) -> None:
    await cluster.node("worker-1@prod:7")
    await create(cluster, "zone-1@prod:eu")
    path = "/api/groups/zone-1%40prod%3Aeu/members/worker-1@prod:7"
    joined = await cluster.http.put(path)
    assert (joined.status_code, joined.json()["node"]["groups"]) == (201, ["zone-1@prod:eu"])
    assert "presence" in joined.json()["node"]
    again = await cluster.http.put(path, json={})
    assert (again.status_code, again.json()["node"]["groups"]) == (200, ["zone-1@prod:eu"])
    assert (await cluster.http.get("/api/groups/zone-1@prod:eu")).json()["group"]["members"] == 1
    assert (await cluster.http.delete(path)).status_code == 204
    gone = await cluster.http.delete(path)
    assert (gone.status_code, gone.json()["code"]) == (404, "unknown_membership")
    assert await names(cluster, "/api/nodes?group=zone-1%40prod:eu", "nodes") == []


async def test_list_of_nodes_holds_members_of_the_groups_below(cluster: Cluster) -> None:
    for name in ("a", "b", "c"):
        await cluster.node(name, role="edge" if name == "c" else "worker")
    await create(cluster, "eu")
    await create(cluster, "eu-1", parent="eu")
    for group, node in (("eu", "a"), ("eu-1", "b"), ("eu-1", "c"), ("eu", "c")):
        await cluster.http.put(f"/api/groups/{group}/members/{node}")
    assert await names(cluster, "/api/nodes?group=eu", "nodes") == ["a", "b", "c"]
    assert await names(cluster, "/api/nodes?group=eu-1&role=edge", "nodes") == ["c"]
    first = (await cluster.http.get("/api/nodes?group=eu&limit=2")).json()
    assert await names(cluster, f"/api/nodes?group=eu&limit=2&cursor={first['next_cursor']}", "nodes") == ["c"]
    other = await cluster.http.get(f"/api/nodes?group=eu-1&cursor={first['next_cursor']}")
    assert (other.status_code, other.json()["field"]) == (422, "cursor")


async def test_groups_are_listed_in_pages_by_name(cluster: Cluster) -> None:
    for name in ("c", "a", "b"):
        await create(cluster, name, group_type="zone")
    await create(cluster, "b-1", parent="b")
    assert await names(cluster, "/api/groups") == ["a", "b", "b-1", "c"]
    assert await names(cluster, "/api/groups?parent=b") == ["b-1"]
    first = (await cluster.http.get("/api/groups?group_type=zone&limit=2")).json()
    assert [group["name"] for group in first["groups"]] == ["a", "b"]
    assert first["revision"] == cluster.registry.roster.revision
    rest = (await cluster.http.get(f"/api/groups?group_type=zone&limit=2&cursor={first['next_cursor']}")).json()
    assert ([group["name"] for group in rest["groups"]], rest["next_cursor"]) == (["c"], None)
    refused = await cluster.http.get(f"/api/groups?cursor={first['next_cursor']}")
    assert (refused.status_code, refused.json()["field"]) == (422, "cursor")


async def test_group_is_moved_and_changed_by_merge_patch(cluster: Cluster) -> None:
    await create(cluster, "eu")
    await create(cluster, "eu-1", parent="eu", meta={"a": 1, "b": 2})
    answer = await cluster.http.patch("/api/groups/eu-1", json={"parent": None, "meta": {"a": None}})
    assert answer.status_code == 200
    assert (answer.json()["group"]["parent"], answer.json()["group"]["meta"]) == (None, {"b": 2})
    await cluster.http.patch("/api/groups/eu", json={"parent": "eu-1"})
    refused = await cluster.http.patch("/api/groups/eu-1", json={"parent": "eu"})
    problem = refused.json()
    assert (refused.status_code, problem["code"], problem["field"]) == (409, "group_cycle", "parent")
    assert "eu-1 in eu in eu-1" in problem["detail"]


async def test_group_in_use_is_deleted_by_force_alone(cluster: Cluster) -> None:
    await cluster.node("a")
    await create(cluster, "eu")
    await create(cluster, "eu-1", parent="eu")
    await cluster.http.put("/api/groups/eu/members/a")
    refused = await cluster.http.delete("/api/groups/eu")
    assert (refused.status_code, refused.json()["code"]) == (409, "group_in_use")
    assert (await cluster.http.delete("/api/groups/eu?force=true")).status_code == 204
    gone = await cluster.http.delete("/api/groups/eu")
    assert (gone.status_code, gone.json()["code"]) == (404, "unknown_group")
    assert (await cluster.http.get("/api/groups/eu-1")).json()["group"]["parent"] is None
    assert (await cluster.http.get("/api/nodes/a")).json()["node"]["groups"] == []


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/api/groups/nowhere", "unknown_group"),
        ("GET", f"/api/groups/{UUID}", "unknown_group"),
        ("GET", "/api/groups/%FF%FE", "unknown_group"),
        ("PATCH", "/api/groups/nowhere", "unknown_group"),
        ("DELETE", "/api/groups/nowhere", "unknown_group"),
        ("PUT", "/api/groups/nowhere/members/known", "unknown_group"),
        ("DELETE", "/api/groups/nowhere/members/known", "unknown_group"),
        ("PUT", "/api/groups/eu/members/nobody", "unknown_node"),
        ("DELETE", "/api/groups/eu/members/nobody", "unknown_node"),
        ("DELETE", "/api/groups/eu/members/known", "unknown_membership"),
        ("GET", "/api/groups?parent=nowhere", "unknown_group"),
        ("GET", "/api/nodes?group=nowhere", "unknown_group"),
        ("GET", "/api/nodes?group=", "unknown_group"),
        ("GET", "/api/nodes?group=nowhere&name=known", "unknown_group"),
    ],
)
async def test_what_is_not_there_is_a_404_that_says_so(cluster: Cluster, method: str, path: str, code: str) -> None:
    await cluster.node("known")
    await create(cluster, "eu")
    answer = await cluster.http.request(method, path, **({"json": {}} if method == "PATCH" else {}))
    assert (answer.status_code, answer.json()["code"]) == (404, code)


# what is wrong, body, expected status, the field that must be named
BODIES: list[tuple[str, bytes, int, str]] = [
    ("no name", b"{}", 422, "name"),
    ("name is a number", b'{"name":5}', 422, "name"),
    ("name with a slash", b'{"name":"a/b"}', 422, "name"),
    ("name with a newline at the end", b'{"name":"a\\n"}', 422, "name"),
    ("name of 256 characters", json.dumps({"name": "n" * 256}).encode(), 422, "name"),
    ("name that is a UUID", json.dumps({"name": UUID}).encode(), 422, "name"),
    ("unknown type", b'{"name":"x","group_type":"planet"}', 422, "group_type"),
    ("type of null", b'{"name":"x","group_type":null}', 422, "group_type"),
    ("parent that is not there", b'{"name":"x","parent":"nowhere"}', 422, "parent"),
    ("parent that no group can be", b'{"name":"x","parent":"a b"}', 422, "parent"),
    ("parent that is an id", json.dumps({"name": "x", "parent": UUID}).encode(), 422, "parent"),
    ("itself as parent", b'{"name":"x","parent":"x"}', 409, "parent"),
    ("meta that is a list", b'{"name":"x","meta":[]}', 422, "meta"),
    ("meta over 16 KiB", json.dumps({"name": "x", "meta": {"a": "b" * 17_000}}).encode(), 422, "meta"),
    ("unknown field", b'{"name":"x","members":[]}', 422, "members"),
    ("other values of a known name", b'{"name":"eu","parent":null,"meta":{"a":1}}', 409, "meta"),
    ("NaN", b'{"name":"x","meta":{"a":NaN}}', 400, "body"),
    ("half a document", b'{"name":"x"', 400, "body"),
    ("nothing", b"", 400, "body"),
]
PATCHES: list[tuple[str, bytes, int, str]] = [
    ("a name, which is immutable", b'{"name":"y"}', 422, "name"),
    ("unknown type", b'{"group_type":"planet"}', 422, "group_type"),
    ("parent that is not there", b'{"parent":"nowhere"}', 422, "parent"),
    ("itself as parent", b'{"parent":"eu"}', 409, "parent"),
    ("a group below as parent", b'{"parent":"eu-1"}', 409, "parent"),
    ("meta that grows over 16 KiB", json.dumps({"meta": {"b": "b" * 15_000}}).encode(), 422, "meta"),
    ("meta that is text", b'{"meta":"x"}', 422, "meta"),
    ("a list", b"[]", 422, "body"),
    ("nothing", b"", 400, "body"),
]


async def snapshot(cluster: Cluster) -> Any:
    registry = cluster.registry
    return registry.roster.revision, registry.list_groups(), registry.list_nodes()


async def nest(cluster: Cluster) -> None:
    await create(cluster, "eu", meta={"a": "a" * 2_000})
    await create(cluster, "eu-1", parent="eu")


@pytest.mark.parametrize(("what", "body", "status", "field"), BODIES, ids=[case[0] for case in BODIES])
async def test_a_bad_group_is_refused_by_name_and_changes_nothing(
    cluster: Cluster, what: str, body: bytes, status: int, field: str
) -> None:
    await nest(cluster)
    before = await snapshot(cluster)
    answer = await cluster.http.post("/api/groups", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text
    assert await snapshot(cluster) == before


@pytest.mark.parametrize(("what", "body", "status", "field"), PATCHES, ids=[case[0] for case in PATCHES])
async def test_a_bad_patch_is_refused_by_name_and_changes_nothing(
    cluster: Cluster, what: str, body: bytes, status: int, field: str
) -> None:
    await nest(cluster)
    before = await snapshot(cluster)
    answer = await cluster.http.patch("/api/groups/eu", content=body, headers=JSON)
    assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text
    assert await snapshot(cluster) == before


async def test_a_membership_takes_no_attributes(cluster: Cluster) -> None:
    await cluster.node("a")
    await create(cluster, "eu")
    before = await snapshot(cluster)
    answer = await cluster.http.put("/api/groups/eu/members/a", json={"role": "leader"})
    assert (answer.status_code, answer.json()["field"]) == (422, "role")
    assert await snapshot(cluster) == before


@pytest.mark.parametrize(
    ("query", "field"),
    [("group_type=planet", "group_type"), ("kind=zone", "kind"), ("limit=0", "limit"), ("cursor=x", "cursor")],
)
async def test_a_bad_parameter_is_refused_by_name(cluster: Cluster, query: str, field: str) -> None:
    answer = await cluster.http.get(f"/api/groups?{query}")
    assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_a_problem_is_short_however_much_was_sent(cluster: Cluster) -> None:
    for path in (f"/api/groups/{'x' * 2_000}", f"/api/nodes?group={'x' * 2_000}"):
        answer = await cluster.http.get(path)
        assert answer.status_code == 404
        assert len(answer.content) < 700
