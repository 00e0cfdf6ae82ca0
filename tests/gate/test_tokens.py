"""The routes of tokens and of the audit log: what they take, what they tell, and that no secret is told twice."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.engines import Opening
from tests.gate.callers import World, open_world
from thunderline.gate.app import build_litestar
from thunderline.gate.openapi import build_document


@pytest.fixture
async def world(open_cluster: Opening) -> AsyncIterator[World]:
    async with open_world(open_cluster) as opened:
        yield opened


async def test_a_token_is_created_told_once_and_good(world: World) -> None:
    answer = await world.ask("admin", "POST", "/api/tokens", {"name": "ci", "scopes": ["node", "read"]})
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    told = answer.json()
    token = told["token"]
    assert {field: token[field] for field in ("kind", "name", "scopes", "join", "created_by", "revoked_at")} == {
        "kind": "token",
        "name": "ci",
        "scopes": ["read", "node"],
        "join": None,
        "created_by": "operator:admin",
        "revoked_at": None,
    }
    assert "digest" not in token
    world.texts["ci"] = told["text"]
    assert (await world.ask("ci", "GET", "/api/nodes")).status_code == 200
    for path in ("/api/tokens/ci", f"/api/tokens/{token['id']}", f"/api/tokens/{token['id'].upper()}"):
        assert (await world.ask("admin", "GET", path)).json() == {"token": token}
    for path in ("/api/tokens", "/api/tokens/ci", "/api/audit", "/api/events"):
        assert told["text"].rpartition("_")[2] not in (await world.ask("admin", "GET", path)).text


async def test_a_join_token_says_whom_it_enrols_and_ends_in_time(world: World) -> None:
    body = {"name": "fleet", "join": {"names": "edge-*", "role": "edge", "uses": 3}, "expires_in_s": 3600}
    token = (await world.ask("admin", "POST", "/api/tokens", body)).json()["token"]
    assert token["join"] == {"names": "edge-*", "role": "edge", "domain": None, "uses_left": 3}
    assert (token["kind"], token["scopes"]) == ("join", [])
    assert token["expires_at"] > token["created_at"]


async def test_a_token_that_cannot_be_is_refused_by_field(world: World) -> None:
    before = world.state()
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"name": "x"}, 422, "scopes"),
        ({"name": "x", "scopes": []}, 422, "scopes"),
        ({"name": "x", "scopes": ["root"]}, 422, "scopes[0]"),
        ({"name": "x", "scopes": ["read"], "join": {}}, 422, "scopes"),
        ({"name": "x", "scopes": ["read"], "expires_in_s": 0}, 422, "expires_in_s"),
        ({"name": "x", "scopes": ["read"], "digest": "y"}, 422, "digest"),
        ({"name": "x y", "scopes": ["read"]}, 422, "name"),
        ({"name": "reader", "scopes": ["read"]}, 409, "name"),
    ]
    for body, status, field in cases:
        answer = await world.ask("admin", "POST", "/api/tokens", body)
        assert (answer.status_code, answer.json()["field"]) == (status, field), body
    assert world.state() == before


async def test_no_secret_is_kept_under_an_idempotency_key(world: World) -> None:
    before = world.state()
    for path, body in (("/api/tokens", {"name": "x", "scopes": ["read"]}), ("/api/nodes/a/reissue", {})):
        answer = await world.ask("admin", "POST", path, body, headers={"idempotency-key": "k"})
        assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_refused")
        assert answer.json()["field"] == "Idempotency-Key"
    assert world.state() == before


async def test_revoking_is_done_once_and_frees_the_name(world: World) -> None:
    token = (await world.ask("admin", "GET", "/api/tokens/reader")).json()["token"]
    assert (await world.ask("admin", "DELETE", "/api/tokens/reader")).status_code == 204
    assert (await world.ask("reader", "GET", "/api/nodes")).json()["code"] == "token_revoked"
    assert (await world.ask("admin", "DELETE", "/api/tokens/reader")).json()["code"] == "unknown_token"
    assert (await world.ask("admin", "DELETE", f"/api/tokens/{token['id']}")).status_code == 204
    shown = (await world.ask("admin", "GET", f"/api/tokens/{token['id']}")).json()["token"]
    assert shown["revoked_at"] is not None
    assert (await world.ask("admin", "POST", "/api/tokens", {"name": "reader", "scopes": ["read"]})).status_code == 201


async def test_lists_come_in_pages_and_without_the_revoked_ones_unless_asked_for(world: World) -> None:
    names, cursor = [], ""
    while True:
        page = (await world.ask("admin", "GET", f"/api/tokens?limit=3{cursor}")).json()
        assert len(page["tokens"]) <= 3
        names += [token["name"] for token in page["tokens"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert names == ["reader", "gateway", "operator", "admin", "expired", "joiner", "a", "b"]
    whole = (await world.ask("admin", "GET", "/api/tokens?revoked=true")).json()
    assert {token["name"] for token in whole["tokens"]} == {*names, "revoked"}
    other = await world.ask("admin", "GET", f"/api/tokens?revoked=true{cursor}")
    assert (other.status_code, other.json()["field"]) == (422, "cursor")


async def test_a_node_gets_a_new_credential_and_the_old_one_ends(world: World) -> None:
    node = world.registry.get_node("a")
    answer = await world.ask("admin", "POST", f"/api/nodes/{node.id}/reissue", {"expires_in_s": 60})
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    assert (answer.json()["token"]["kind"], answer.json()["token"]["name"]) == ("credential", "a")
    assert (await world.ask("a", "POST", "/api/nodes/a/heartbeats", {})).status_code == 401
    world.texts["a"] = answer.json()["text"]
    assert (await world.ask("a", "POST", "/api/nodes/a/heartbeats", {})).status_code == 201


async def test_a_node_gets_a_credential_before_it_is_registered(world: World) -> None:
    answer = await world.ask("admin", "POST", "/api/nodes/new@prod/reissue")
    assert answer.status_code == 201
    world.texts["new"] = answer.json()["text"]
    assert (await world.ask("new", "POST", "/api/nodes", {"name": "new@prod"})).status_code == 201
    assert (await world.ask("new", "POST", "/api/nodes", {"name": "other"})).status_code == 403
    assert (await world.ask("new", "PATCH", "/api/nodes/new@prod", {"address": "10.0.0.1"})).status_code == 200


async def test_what_is_no_name_gets_no_credential(world: World) -> None:
    before = world.state()
    for ref, status, code in (
        ("0190f5fe-7a1b-7c3d-8e4f-123456789abc", 404, "unknown_node"),
        ("-x", 422, "invalid_input"),
        ("a b", 422, "invalid_input"),
        ("x" * 256, 422, "invalid_input"),
    ):
        answer = await world.ask("admin", "POST", f"/api/nodes/{ref}/reissue")
        assert (answer.status_code, answer.json()["code"]) == (status, code), ref
    assert world.state() == before


async def test_the_audit_log_is_read_newest_first_and_in_pages(world: World) -> None:
    await world.ask("operator", "PATCH", "/api/nodes/a", {"address": "10.0.0.1"})
    whole = await world.audit()
    change = next(entry for entry in whole if entry["action"] == "cluster.node.updated")
    assert (change["actor"], change["outcome"], change["subject"]) == ("operator:operator", "done", "a")
    assert (change["address"], change["revision"]) == ("127.0.0.1", world.registry.get_node("a").revision)
    entries: list[dict[str, Any]] = []
    cursor = ""
    while len(entries) < len(whole):
        page = (await world.ask("admin", "GET", f"/api/audit?limit=4{cursor}")).json()
        entries += page["entries"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert entries == whole
    assert [entry["id"] for entry in whole] == sorted((entry["id"] for entry in whole), reverse=True)
    foreign = await world.ask("admin", "GET", "/api/audit?cursor=nonsense")
    assert (foreign.status_code, foreign.json()["field"]) == (422, "cursor")


async def test_no_text_of_a_token_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answer = await world.ask("admin", "POST", "/api/tokens", {"name": "ci", "scopes": ["read"]})
    await world.ask("admin", "DELETE", "/api/tokens/ci")
    world.texts["ci"] = answer.json()["text"]
    await world.ask("ci", "GET", "/api/nodes")
    logged = "".join(str(record.__dict__) for record in caplog.records)
    assert not any(text[-20:] in logged for who, text in world.texts.items() if who != "nobody's")


async def test_the_document_says_what_a_caller_has_to_show(world: World) -> None:
    document = build_document(build_litestar(asks=True))
    assert set(document["components"]["securitySchemes"]) == {"bearer", "cookie"}
    open_to_all = {
        f"{method} {path}"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if operation["security"] == []
    }
    assert open_to_all == {
        "get /healthz",
        "get /readyz",
        "get /api/session",
        "post /api/session",
        "delete /api/session",
    }
