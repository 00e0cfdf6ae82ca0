"""Who may do what over HTTP: every route and method that the application has, and every kind of caller.

A route without a line in `LINES` fails `test_every_route_has_a_line`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec
import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute

from tests.engines import Opening
from tests.gate.callers import ORIGIN, OWN_PAGE, World, open_world, send_late
from thunderline.core.access import Scope
from thunderline.core.inputs import NewToken
from thunderline.gate.app import build_litestar
from thunderline.gate.openapi import route_docs
from thunderline.link.actor import EMBEDDING_PROGRAM
from thunderline.testing.harness import Cluster

OPEN: Final = "open"
"""Nobody needs to show anything."""
READ: Final = "read"
NODE: Final = "node"
"""Scope `node`, or the credential of the node that it is about."""
OPERATOR: Final = "operator"
ADMIN: Final = "admin"
GOOD: Final = {
    READ: ("reader", "operator", "admin"),
    NODE: ("a", "gateway", "operator", "admin"),
    OPERATOR: ("operator", "admin"),
    ADMIN: ("admin",),
}
"""Whose tokens are good enough."""
KNOWN: Final = frozenset({"reader", "a", "b", "gateway", "operator", "admin"})


class Line(msgspec.Struct, frozen=True):
    """What a route needs, and a request that then succeeds. `{}` in its path stands for something of each caller's."""

    needs: str
    path: str
    body: Any = None
    items: bool = False
    """Whether what is refused is told of each item."""
    is_there: bool = True


LINES: Final[dict[tuple[str, str], Line]] = {
    ("GET", "/"): Line(OPEN, "/"),
    ("GET", "/assets/{name}"): Line(OPEN, "/assets/page.css"),
    ("GET", "/healthz"): Line(OPEN, "/healthz"),
    ("GET", "/readyz"): Line(OPEN, "/readyz"),
    ("GET", "/api/session"): Line(OPEN, "/api/session"),
    ("POST", "/api/session"): Line(OPEN, "/api/session"),
    ("DELETE", "/api/session"): Line(OPEN, "/api/session"),
    ("GET", "/docs"): Line(READ, "/docs"),
    ("GET", "/schema"): Line(READ, "/schema"),
    ("GET", "/schema/openapi.json"): Line(READ, "/schema/openapi.json"),
    ("GET", "/schema/{path}"): Line(READ, "/schema/nothing", is_there=False),
    ("GET", "/api/nodes"): Line(READ, "/api/nodes"),
    ("POST", "/api/nodes"): Line(NODE, "/api/nodes", {"name": "a"}),
    ("POST", "/api/nodes/batch"): Line(NODE, "/api/nodes/batch", {"nodes": [{"name": "a"}]}, items=True),
    ("GET", "/api/nodes/{ref}"): Line(READ, "/api/nodes/a"),
    ("PATCH", "/api/nodes/{ref}"): Line(NODE, "/api/nodes/a", {"address": "10.0.0.1"}),
    ("DELETE", "/api/nodes/{ref}"): Line(OPERATOR, "/api/nodes/doomed-{}"),
    ("POST", "/api/nodes/{ref}/online"): Line(NODE, "/api/nodes/a/online", {}),
    ("POST", "/api/nodes/{ref}/status"): Line(NODE, "/api/nodes/a/status", {"status": "degraded"}),
    ("DELETE", "/api/nodes/{ref}/override"): Line(OPERATOR, "/api/nodes/a/override"),
    ("POST", "/api/nodes/{ref}/heartbeats"): Line(NODE, "/api/nodes/a/heartbeats", {}),
    ("GET", "/api/nodes/{ref}/heartbeats"): Line(READ, "/api/nodes/a/heartbeats"),
    ("GET", "/api/nodes/{ref}/series"): Line(READ, "/api/nodes/a/series"),
    ("GET", "/api/nodes/{ref}/history"): Line(READ, "/api/nodes/a/history"),
    ("GET", "/api/nodes/{ref}/sessions"): Line(READ, "/api/nodes/a/sessions"),
    ("PUT", "/api/nodes/{ref}/capabilities/{key}"): Line(NODE, "/api/nodes/a/capabilities/{}", {}),
    ("DELETE", "/api/nodes/{ref}/capabilities/{key}"): Line(NODE, "/api/nodes/a/capabilities/doomed-{}"),
    ("POST", "/api/nodes/{ref}/reissue"): Line(ADMIN, "/api/nodes/new-{}/reissue", {}),
    ("GET", "/api/heartbeats"): Line(READ, "/api/heartbeats"),
    ("POST", "/api/heartbeats"): Line(NODE, "/api/heartbeats", {"heartbeats": [{"node": "a"}]}, items=True),
    ("GET", "/api/groups"): Line(READ, "/api/groups"),
    ("POST", "/api/groups"): Line(OPERATOR, "/api/groups", {"name": "group"}),
    ("GET", "/api/groups/{group}"): Line(READ, "/api/groups/group"),
    ("PATCH", "/api/groups/{group}"): Line(OPERATOR, "/api/groups/group", {"meta": {}}),
    ("DELETE", "/api/groups/{group}"): Line(OPERATOR, "/api/groups/doomed-{}"),
    ("PUT", "/api/groups/{group}/members/{ref}"): Line(OPERATOR, "/api/groups/group/members/a", {}),
    ("DELETE", "/api/groups/{group}/members/{ref}"): Line(OPERATOR, "/api/groups/in-{}/members/a"),
    ("GET", "/api/sessions"): Line(READ, "/api/sessions"),
    ("POST", "/api/sessions"): Line(NODE, "/api/sessions", {"node_id": "a", "session_id": "new"}),
    ("GET", "/api/sessions/{session_ref}"): Line(READ, "/api/sessions/open"),
    ("PATCH", "/api/sessions/{session_ref}"): Line(NODE, "/api/sessions/open", {"latency_ms": 1}),
    ("DELETE", "/api/sessions/{session_ref}"): Line(NODE, "/api/sessions/doomed-{}"),
    ("POST", "/api/nodes/{ref}/offline"): Line(NODE, "/api/nodes/a/offline", {}),
    ("GET", "/api/graph"): Line(READ, "/api/graph"),
    ("GET", "/api/graph/diff"): Line(READ, "/api/graph/diff?from=1"),
    ("GET", "/api/summary"): Line(READ, "/api/summary"),
    ("GET", "/api/timeline"): Line(READ, "/api/timeline"),
    ("GET", "/api/events"): Line(READ, "/api/events"),
    ("GET", "/api/tokens"): Line(ADMIN, "/api/tokens"),
    ("POST", "/api/tokens"): Line(ADMIN, "/api/tokens", {"name": "another", "scopes": ["read"]}),
    ("GET", "/api/tokens/{ref}"): Line(ADMIN, "/api/tokens/reader"),
    ("DELETE", "/api/tokens/{ref}"): Line(ADMIN, "/api/tokens/doomed-{}"),
    ("GET", "/api/audit"): Line(ADMIN, "/api/audit"),
    ("GET", "/api/alerts"): Line(READ, "/api/alerts"),
    ("GET", "/api/alerts/{alert}"): Line(READ, "/api/alerts/0", is_there=False),
    ("POST", "/api/alerts/{alert}/ack"): Line(OPERATOR, "/api/alerts/0/ack", {}, is_there=False),
    ("GET", "/api/alerts/silences"): Line(READ, "/api/alerts/silences"),
    ("POST", "/api/alerts/silences"): Line(
        OPERATOR, "/api/alerts/silences", {"matchers": [{"label": "node", "value": "a"}], "for_s": 60}
    ),
    ("DELETE", "/api/alerts/silences/{silence_id}"): Line(OPERATOR, "/api/alerts/silences/0", is_there=False),
    ("GET", "/metrics"): Line(READ, "/metrics"),
    ("GET", "/api/sd/prometheus"): Line(READ, "/api/sd/prometheus"),
}
CLOSED: Final = {key: line for key, line in LINES.items() if line.needs != OPEN}


@pytest.fixture
async def world(open_cluster: Opening) -> AsyncIterator[World]:
    async with open_world(open_cluster) as opened:
        yield opened


async def furnish(world: World, who: str) -> None:
    """What the requests of `LINES` are about, with something for this caller to remove."""
    registry = world.registry
    await registry.ensure_node({"name": f"doomed-{who}"})
    await registry.mark_online("a")
    for group in ("group", f"doomed-{who}", f"in-{who}"):
        await registry.create_group({"name": group})
    await registry.add_to_group("a", f"in-{who}")
    await registry.add_capability("a", f"doomed-{who}")
    for session in ("open", f"doomed-{who}"):
        await registry.establish_link_session("a", session={"session_id": session})
    doomed = NewToken(name=f"doomed-{who}", scopes=(Scope.READ,))
    await registry.tokens.create_token(doomed, actor=EMBEDDING_PROGRAM)


def routes_of(app: Litestar) -> set[tuple[str, str]]:
    """(method, path) of all that is answered, what stands in front of the framework included."""
    found = {(method.upper(), path) for path, method in route_docs(app)}
    for route in app.routes:
        assert isinstance(route, HTTPRoute), f"{route.path} is of a kind that this test knows nothing of"
        for handler in route.route_handlers:
            path = route.path_format.rstrip("/") or "/"
            found |= {(method, path) for method in handler.http_methods - {"OPTIONS"}}
    return found


async def test_every_route_has_a_line(cluster: Cluster) -> None:
    assert routes_of(build_litestar()) == set(LINES)


async def test_who_has_no_good_token_is_refused_everywhere(world: World) -> None:
    before = world.state()
    for who, status, code, error in (
        (None, 401, "unauthenticated", ""),
        ("nobody's", 401, "token_unknown", ', error="invalid_token"'),
        ("expired", 401, "token_expired", ', error="invalid_token"'),
        ("revoked", 401, "token_revoked", ', error="invalid_token"'),
        ("joiner", 403, "not_permitted", ', error="insufficient_scope"'),
    ):
        for (method, _), line in CLOSED.items():
            answer = await world.ask(who, method, line.path, line.body)
            told = answer.json()
            assert (answer.status_code, told["status"], told["code"]) == (status, status, code), (who, method, line)
            assert answer.headers["www-authenticate"] == f'Bearer realm="thunderline"{error}'
        for path in ("/api/nothing", "/metrics", "/api/nodes/a/nothing", "//api/nodes", "/healthz/x", "/readyz//"):
            assert (await world.ask(who, "GET", path)).status_code == status, path
        assert (await world.ask(who, "HEAD", "/api/nodes")).status_code == status
    assert world.state() == before


@pytest.mark.parametrize("who", sorted(KNOWN))
async def test_a_token_is_good_for_what_its_scope_says_and_nothing_else(world: World, who: str) -> None:
    await furnish(world, who)
    refused = {key: line for key, line in CLOSED.items() if who not in GOOD[line.needs]}
    before = world.state()
    for (method, _), line in refused.items():
        answer = await world.ask(who, method, line.path.format(who), line.body)
        told = answer.json()
        if line.items:
            assert answer.status_code == 200
            [told] = (result["problem"] for result in told["results"])
        assert (told["status"], told["code"]) == (403, "not_permitted"), (method, line, told)
    assert world.state() == before
    for key, line in CLOSED.items():
        if key in refused:
            continue
        method = key[0]
        answer = await world.ask(who, method, line.path.format(who), line.body)
        assert answer.is_success if line.is_there else answer.status_code == 404, (method, line, answer.text)
        if line.items:
            [told] = answer.json()["results"]
            assert told["status"] in (200, 201), (method, line, told)


async def test_what_is_open_is_open_to_anybody_and_no_token_is_looked_at(world: World) -> None:
    for who in (None, "expired", "revoked", "nobody's", "joiner", "admin"):
        for (method, _), line in LINES.items():
            if line.needs == OPEN and method == "GET":
                assert (await world.ask(who, method, line.path)).status_code == 200, (who, line)
                assert (await world.ask(who, "HEAD", line.path)).status_code == 200, (who, line)
        assert (await world.ask(who, "OPTIONS", "/api/nodes")).status_code == 204


async def test_a_cookie_changes_nothing_without_what_our_own_page_sends(world: World) -> None:
    cookie = await world.log_in("admin")
    before = world.state()
    for headers, code in (
        ({}, "csrf_refused"),
        ({"x-thunderline": "1"}, "csrf_refused"),
        ({"x-thunderline": "yes", "origin": ORIGIN}, "csrf_refused"),
        ({"x-thunderline": "1", "origin": "http://127.0.0.1.evil.example"}, "origin_refused"),
        ({"x-thunderline": "1", "origin": "null"}, "origin_refused"),
    ):
        for (method, _), line in CLOSED.items():
            # With a cookie a page of another site does not even read.
            if method != "GET" or code == "origin_refused":
                answer = await world.ask(None, method, line.path, line.body, headers={"cookie": cookie, **headers})
                assert (answer.status_code, answer.json()["code"]) == (403, code), (headers, method, line)
    assert world.state() == before


async def test_a_page_of_ours_does_with_a_cookie_what_its_token_may(world: World) -> None:
    await furnish(world, "admin")
    shown = {"cookie": await world.log_in("admin"), **OWN_PAGE}
    for (method, _), line in CLOSED.items():
        answer = await world.ask(None, method, line.path.format("admin"), line.body, headers=shown)
        assert answer.is_success if line.is_there else answer.status_code == 404, (method, line, answer.text)
    reading = {"cookie": await world.log_in("reader"), **OWN_PAGE}
    assert (await world.ask(None, "GET", "/api/nodes", headers=reading)).status_code == 200
    assert (await world.ask(None, "PATCH", "/api/nodes/a", {}, headers=reading)).json()["code"] == "not_permitted"


async def test_a_foreign_page_changes_nothing_whatever_token_it_has(world: World) -> None:
    before = world.state()
    for (method, _), line in CLOSED.items():
        if method != "GET":
            foreign = {"origin": "http://evil.example"}
            answer = await world.ask("admin", method, line.path, line.body, headers=foreign)
            assert (answer.status_code, answer.json()["code"]) == (403, "origin_refused"), (method, line)
    assert world.state() == before


async def test_a_session_that_is_over_and_a_token_beside_a_cookie_are_refused(world: World) -> None:
    cookie = await world.log_in("admin")
    both = await world.ask("admin", "GET", "/api/nodes", headers={"cookie": cookie})
    assert (both.status_code, both.json()["code"]) == (401, "unauthenticated")
    await world.cluster.clock.advance(world.registry.settings.session_ttl_s + 1)
    over = await world.ask(None, "GET", "/api/nodes", headers={"cookie": cookie})
    assert (over.status_code, over.json()["code"]) == (401, "unauthenticated")
    assert "log in again" in over.json()["detail"]


async def test_what_is_no_bearer_token_is_refused_and_its_scheme_read_in_any_case(world: World) -> None:
    for shown in ("Basic YTpi", "Bearer", "Bearer ", "bearer\ttl_x", "tl_x", "Bearer tl_\x7f"):
        assert (await world.ask(None, "GET", "/api/nodes", headers={"authorization": shown})).status_code == 401
    good = {"authorization": f"bEARER  {world.texts['reader']}"}
    assert (await world.ask(None, "GET", "/api/nodes", headers=good)).status_code == 200


async def test_a_token_that_is_revoked_between_head_and_body_changes_nothing(world: World) -> None:
    states = []

    async def revoke() -> None:
        await world.registry.tokens.revoke("late", actor=EMBEDDING_PROGRAM)
        states[:] = [world.state()]

    for method, path, body in (
        ("PATCH", "/api/nodes/a", {"address": "10.0.0.9"}),
        ("POST", "/api/nodes", {"name": "late"}),
        ("POST", "/api/nodes/batch", {"nodes": [{"name": "late"}]}),
        ("POST", "/api/nodes/a/heartbeats", {}),
        ("POST", "/api/heartbeats", {"heartbeats": [{"node": "a"}]}),
        ("POST", "/api/tokens", {"name": "later", "scopes": ["admin"]}),
    ):
        issued = await world.registry.tokens.create_token(
            NewToken(name="late", scopes=(Scope.ADMIN,)), actor=EMBEDDING_PROGRAM
        )
        world.texts["late"] = issued.text
        status, told = await send_late(world, "late", method, path, body, revoke)
        assert (status, told["code"]) == (401, "token_revoked"), path
        assert states == [world.state()], path
    assert await world.registry.recent_heartbeats() == []


async def test_two_tokens_with_one_key_do_not_share_an_answer(world: World) -> None:
    key = {"idempotency-key": "k1"}
    first = await world.ask("operator", "POST", "/api/nodes", {"name": "new"}, headers=key)
    other = await world.ask("admin", "POST", "/api/nodes", {"name": "new"}, headers=key)
    again = await world.ask("operator", "POST", "/api/nodes", {"name": "new"}, headers=key)
    assert [answer.status_code for answer in (first, other, again)] == [201, 200, 201]
    assert [answer.headers.get("idempotency-replayed") for answer in (first, other, again)] == [None, None, "true"]
    # Also a token of the same name is another caller.
    await world.registry.tokens.revoke("operator", actor=EMBEDDING_PROGRAM)
    named = NewToken(name="operator", scopes=(Scope.OPERATOR,))
    world.texts["operator"] = (await world.registry.tokens.create_token(named, actor=EMBEDDING_PROGRAM)).text
    renewed = await world.ask("operator", "POST", "/api/nodes", {"name": "new"}, headers=key)
    assert (renewed.status_code, renewed.headers.get("idempotency-replayed")) == (200, None)


async def test_a_node_does_not_say_itself_what_it_is(world: World) -> None:
    before = world.registry.get_node("a")
    for patch in ({"role": "controller"}, {"domain": "other"}, {"role": None}, {"address": "10.0.0.1", "domain": "x"}):
        answer = await world.ask("a", "PATCH", "/api/nodes/a", patch)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted"), patch
    assert world.registry.get_node("a") == before
    assert (await world.ask("a", "PATCH", "/api/nodes/a", {"address": "10.0.0.1"})).status_code == 200


async def test_a_node_reaches_no_other_in_a_batch(world: World) -> None:
    presence = world.registry.presence_of(world.registry.roster.find("b"))
    for path, items in (
        ("/api/nodes/batch", {"nodes": [{"name": name} for name in "aba"]}),
        ("/api/heartbeats", {"heartbeats": [{"node": name} for name in "aba"]}),
    ):
        results = (await world.ask("a", "POST", path, items)).json()["results"]
        assert [result["status"] < 300 for result in results] == [True, False, True]
        assert (results[1]["status"], results[1]["problem"]["code"]) == (403, "not_permitted")
        whole = await world.ask("a", "POST", f"{path}?atomic=true", items)
        told = whole.json()
        assert (whole.status_code, told["code"]) == (409, "batch_refused")
        assert [result["status"] for result in told["results"]] == [424, 403, 424]
    assert world.registry.presence_of(world.registry.roster.find("b")) == presence


async def test_what_is_refused_stands_in_the_audit_log_and_nothing_that_was_sent_does(world: World) -> None:
    cookie = await world.log_in("admin")
    await world.ask(None, "GET", "/api/nodes?secret-query=1")
    await world.ask("revoked", "GET", "/api/nodes")
    await world.ask("reader", "DELETE", "/api/nodes/a")
    await world.ask("admin", "DELETE", "/api/nodes/a", headers={"origin": "http://evil.example"})
    await world.ask(None, "DELETE", "/api/nodes/a", headers={"cookie": cookie, "origin": ORIGIN})
    await world.ask("admin", "GET", "/api/nodes", headers={"host": "evil.example"})
    for _ in range(3):
        await world.ask("b", "POST", "/api/nodes/a/heartbeats", {})
    found = {
        (entry["actor"], entry["action"], entry["reason"], entry["subject"], entry["count"])
        for entry in await world.audit()
        if entry["outcome"] == "refused" and entry["address"] == "127.0.0.1"
    }
    assert found >= {
        ("reader:anonymous", "authenticate", "unauthenticated", None, 1),
        ("reader:revoked", "authenticate", "token_revoked", None, 1),
        ("reader:reader", "deregister a node", "not_permitted", "a", 1),
        ("reader:anonymous", "send a page's request", "origin_refused", None, 1),
        ("operator:admin", "send a page's request", "csrf_refused", None, 1),
        ("reader:anonymous", "reach a host", "host_refused", None, 1),
        ("node:b", "send a node's heartbeats", "not_permitted", "a", 3),
    }
    whole = (await world.ask("admin", "GET", "/api/audit?limit=1000")).text
    assert "evil.example" not in whole
    assert "secret-query" not in whole
    assert not any(text in whole for text in world.texts.values())


async def test_without_auth_everybody_is_the_local_operator_and_nothing_is_limited(cluster: Cluster) -> None:
    answer = await cluster.http.post("/api/nodes", json={"name": "a"})
    assert (answer.status_code, answer.headers.get("ratelimit")) == (201, None)
    [event] = (await cluster.http.get("/api/events")).json()["events"]
    assert event["actor"] == "operator:local"
    shown = {"authorization": "Bearer tl_nonsense", "cookie": "thunderline=nonsense"}
    assert (await cluster.http.get("/api/tokens", headers=shown)).status_code == 200
