"""Conditional requests: changes of a node as it was read, and answers that a client holds already."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from thunderline.core.errors import InvalidInput
from thunderline.gate.conditions import read_tags
from thunderline.testing.harness import Cluster

CHANGES: list[tuple[str, str, Any]] = [
    ("PATCH", "/api/nodes/a", {"address": "new"}),
    ("DELETE", "/api/nodes/a", None),
    ("POST", "/api/nodes/a/status", {"status": "degraded"}),
    ("POST", "/api/nodes/a/offline", {}),
    ("DELETE", "/api/nodes/a/override", None),
    ("PUT", "/api/nodes/a/capabilities/gpu", {"value": "h100"}),
    ("DELETE", "/api/nodes/a/capabilities/gpu", None),
    ("PUT", "/api/groups/other/members/a", None),
    ("DELETE", "/api/groups/zone-a/members/a", None),
]
VIEWS = [
    *("/api/nodes?presence=false", "/api/nodes/a?presence=false", "/api/graph", "/api/graph?include_offline=true"),
    *("/api/sessions", "/api/nodes/a/sessions", "/api/groups", "/api/groups/zone-a"),
]


@pytest.fixture
async def tag(cluster: Cluster) -> str:
    """The tag of a node `a`, which has an override and a capability."""
    await cluster.node("a", capabilities={"gpu": {"value": "a100"}})
    for group in ("zone-a", "other"):
        await cluster.http.post("/api/groups", json={"name": group, "group_type": "zone"})
    await cluster.http.put("/api/groups/zone-a/members/a")
    await cluster.http.post("/api/nodes/a/status", json={"status": "degraded", "reason": "test"})
    return str((await cluster.http.get("/api/nodes/a")).headers["etag"])


def asking(method: str, body: Any) -> dict[str, Any]:
    return {"method": method} | ({} if body is None else {"json": body})


async def test_a_nodes_tag_is_its_log_and_revision_in_every_answer(cluster: Cluster, tag: str) -> None:
    node = cluster.registry.get_node("a")
    assert tag == f'"{cluster.registry.roster.log_id}:{node.revision}"'
    for answer in (
        await cluster.http.get("/api/nodes/a?presence=false"),
        await cluster.http.get("/api/nodes/a?load=sessions"),
        await cluster.http.post("/api/nodes", json={"name": "a"}),
        await cluster.http.patch("/api/nodes/a", json={}),
    ):
        assert answer.headers["etag"] == tag
    changed = await cluster.http.patch("/api/nodes/a", json={"address": "x"})
    assert changed.headers["etag"] == f'"{cluster.registry.roster.log_id}:{changed.json()["node"]["revision"]}"' != tag


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_a_change_is_made_if_the_node_is_as_it_was_read(
    cluster: Cluster, tag: str, method: str, path: str, body: Any
) -> None:
    answer = await cluster.http.request(url=path, headers={"if-match": f'"x", {tag}'}, **asking(method, body))
    assert answer.is_success, answer.text


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_a_change_is_refused_if_the_node_has_changed(
    cluster: Cluster, tag: str, method: str, path: str, body: Any
) -> None:
    await cluster.http.patch("/api/nodes/a", json={"address": "meanwhile"})
    before = cluster.registry.roster.revision
    answer = await cluster.http.request(url=path, headers={"if-match": tag}, **asking(method, body))
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["field"]) == (412, "precondition_failed", "If-Match")
    assert f"revision {before}" in problem["detail"]
    assert cluster.registry.roster.revision == before


@pytest.mark.parametrize("wanted", ["W/{tag}", '"other-log:1"', '"", "x"'])
async def test_weak_and_foreign_tags_never_match(cluster: Cluster, tag: str, wanted: str) -> None:
    headers = {"if-match": wanted.format(tag=tag)}
    assert (await cluster.http.delete("/api/nodes/a", headers=headers)).status_code == 412


async def test_a_star_matches_any_node_that_is_there(cluster: Cluster, tag: str) -> None:
    headers = {"if-match": "*"}
    assert (await cluster.http.patch("/api/nodes/a", json={"address": "x"}, headers=headers)).status_code == 200
    assert (await cluster.http.patch("/api/nodes/nobody", json={}, headers=headers)).status_code == 404


async def test_repeated_headers_are_one_list(cluster: Cluster, tag: str) -> None:
    answer = await cluster.http.delete("/api/nodes/a", headers=[("if-match", '"x"'), ("if-match", tag)])
    assert answer.status_code == 204


@pytest.mark.parametrize("text", ["", "7", '"a', "a, *", '*, "a"', '"a" "b"', "W/", 'w/"a"', '"a"b', ", ,"])
async def test_a_malformed_condition_is_refused_by_name(cluster: Cluster, tag: str, text: str) -> None:
    before = cluster.registry.roster.revision
    answer = await cluster.http.patch("/api/nodes/a", json={"address": "x"}, headers={"if-match": text})
    assert (answer.status_code, answer.json()["field"]) == (422, "If-Match")
    assert cluster.registry.roster.revision == before
    answer = await cluster.http.get("/api/graph", headers={"if-none-match": text})
    assert (answer.status_code, answer.json()["field"]) == (422, "If-None-Match")


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("*", None),
        (" * ", None),
        ('"a"', [(False, '"a"')]),
        ('W/"a",\t"b,c"', [(True, '"a"'), (False, '"b,c"')]),
        (',, "a" ,,"b",', [(False, '"a"'), (False, '"b"')]),
        ('""', [(False, '""')]),
        ('"\xe4"', [(False, '"\xe4"')]),
    ],
)
def test_lists_of_tags_are_read_as_the_standard_has_them(text: str, tags: Any) -> None:
    assert read_tags("If-Match", text) == tags


def test_a_long_list_of_nothing_is_refused_at_once() -> None:
    with pytest.raises(InvalidInput):
        read_tags("If-Match", "," * 20_000 + "x")


async def test_of_two_that_change_what_they_read_one_is_refused(cluster: Cluster, tag: str) -> None:
    answers = await asyncio.gather(
        *(
            cluster.http.patch("/api/nodes/a", json={"address": f"10.0.0.{i}"}, headers={"if-match": tag})
            for i in range(20)
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 19


@pytest.mark.parametrize("path", VIEWS)
async def test_what_a_client_holds_is_not_sent_again_until_it_changes(cluster: Cluster, tag: str, path: str) -> None:
    first = await cluster.http.get(path)
    assert (first.status_code, first.headers["cache-control"]) == (200, "private, no-cache")
    held = {"if-none-match": f'"x", W/{first.headers["etag"]}'}
    again = await cluster.http.get(path, headers=held)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert "x-thunderline-revision" in again.headers
    assert (await cluster.http.get(path, headers={"if-none-match": "*"})).status_code == 304
    assert (await cluster.http.head(path, headers=held)).status_code == 304
    await cluster.http.patch("/api/nodes/a", json={"address": "x"})
    changed = await cluster.http.get(path, headers=held)
    assert (changed.status_code, changed.headers["etag"] != first.headers["etag"]) == (200, True)


@pytest.mark.parametrize(
    "query",
    [
        "/api/nodes?presence=false&group=nowhere",
        "/api/nodes?presence=false&cursor=x",
        "/api/nodes?presence=false&status=asleep",
        "/api/sessions?cursor=x",
        "/api/groups?cursor=x",
        "/api/graph?group=nowhere",
        "/api/graph?group=nowhere&level=groups",
    ],
)
async def test_what_is_not_there_is_not_unmodified(cluster: Cluster, query: str) -> None:
    plain = await cluster.http.get(query)
    answer = await cluster.http.get(query, headers={"if-none-match": "*"})
    assert answer.status_code == plain.status_code >= 400
    assert answer.json()["code"] == plain.json()["code"]


async def test_another_query_has_another_tag(cluster: Cluster, tag: str) -> None:
    paths = [*VIEWS, "/api/nodes?presence=false&limit=1", "/api/nodes?presence=false&status=online"]
    tags = [(await cluster.http.get(path)).headers["etag"] for path in paths]
    assert len(set(tags)) == len(paths)


@pytest.mark.parametrize("path", ["/api/nodes", "/api/nodes/a", "/api/nodes/a?load=sessions&presence=false"])
async def test_what_each_beat_changes_is_never_held(cluster: Cluster, tag: str, path: str) -> None:
    answer = await cluster.http.get(path, headers={"if-none-match": "*"})
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")


async def test_a_list_in_an_order_that_beats_change_is_no_list_to_keep(cluster: Cluster) -> None:
    first, _ = await cluster.node("a"), await cluster.node("b")
    path = "/api/nodes?presence=false&sort=-last_seen_at"
    before = await cluster.http.get(path)
    await cluster.turn(1)
    await first.beat()
    after = await cluster.http.get(path, headers={"If-None-Match": before.headers.get("etag", '"none"')})
    assert (after.status_code, after.headers["cache-control"]) == (200, "no-store")
    assert [node["name"] for node in after.json()["nodes"]] == ["a", "b"]
