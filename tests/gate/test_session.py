"""Browsers: logging in by a token, what a session is good for and for how long, and how it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.engines import Opening
from tests.gate.browsers import OWN, log_in, new_token, open_browser, revoke
from thunderline.core.access import Scope
from thunderline.core.inputs import JoinInput, NewToken, ReissueInput
from thunderline.core.settings import Settings
from thunderline.gate import logins
from thunderline.gate.browser_session import LoginInput
from thunderline.gate.logins import Logins
from thunderline.link.actor import EMBEDDING_PROGRAM
from thunderline.testing.harness import Cluster

TTL_S = 3600.0
NOBODY = {"auth": True, "session": None}


@pytest.fixture
async def guarded(open_cluster: Opening) -> AsyncIterator[Cluster]:
    settings = Settings(auth=True, session_ttl_s=TTL_S, allowed_hosts=("registry.example",))
    async with open_cluster(settings=settings) as cluster:
        yield cluster


async def audit(cluster: Cluster) -> list[tuple[str, str, str | None]]:
    """(actor, action, reason), the oldest first."""
    # Refusals are told some seconds later.
    await cluster.turn(11)
    entries = await cluster.registry.tokens.read_audit(actor=EMBEDDING_PROGRAM, limit=100)
    return [(entry.actor, entry.action, entry.reason) for entry in reversed(entries)]


# Logging in


async def test_a_token_opens_a_session_that_says_whose_it_is(guarded: Cluster) -> None:
    token = await new_token(guarded, "ci", Scope.OPERATOR)
    async with open_browser(guarded) as browser:
        answer = await log_in(browser, token)

        shown = {"name": "ci", "scopes": ["operator"], "expires_at": "2026-01-01T01:00:00Z"}
        assert (answer.status_code, answer.json()) == (201, {"session": shown})
        assert (await browser.get("/api/session")).json() == {"auth": True, "session": shown}
        assert (await browser.get("/api/nodes")).status_code == 200
        made = await browser.post("/api/nodes", json={"name": "worker-1"}, headers=OWN)
        assert made.status_code == 201
    assert ("operator:ci", "cluster.node.registered", None) in await audit(guarded)


async def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites(guarded: Cluster) -> None:
    token = await new_token(guarded, "ci", Scope.READ)
    async with open_browser(guarded, "http://127.0.0.1:4040") as browser:
        cookie = (await log_in(browser, token)).headers["set-cookie"]
    name, _, rest = cookie.partition("=")
    assert name == "thunderline-4040"
    assert rest.split("; ")[1:] == ["Path=/", "Max-Age=3600", "HttpOnly", "SameSite=Strict"]
    assert token not in cookie


async def test_over_tls_the_cookie_goes_over_tls_only_and_to_that_host_only(guarded: Cluster) -> None:
    token = await new_token(guarded, "ci", Scope.READ)
    async with open_browser(guarded, "https://registry.example") as browser:
        cookie = (await log_in(browser, token)).headers["set-cookie"]
        name, _, rest = cookie.partition("=")
        assert name == "__Host-thunderline"
        assert rest.split("; ")[1:] == ["Path=/", "Max-Age=3600", "HttpOnly", "SameSite=Strict", "Secure"]
        assert (await browser.get("/api/nodes")).status_code == 200
        value = rest.partition(";")[0]
    async with open_browser(guarded, "https://registry.example") as browser:
        # Whoever can meddle with plain HTTP can plant a cookie of that name, but none with the prefix.
        planted = await browser.get("/api/session", headers={"cookie": f"thunderline={value}"})
        assert planted.json() == NOBODY


@pytest.mark.parametrize(
    ("made", "status", "code"),
    [
        ("unknown", 401, "token_unknown"),
        ("revoked", 401, "token_revoked"),
        ("expired", 401, "token_expired"),
        ("join", 403, "not_permitted"),
        ("credential", 403, "not_permitted"),
        ("gateway", 403, "not_permitted"),
    ],
)
async def test_what_is_no_good_token_of_a_reader_does_not_log_in(
    guarded: Cluster, made: str, status: int, code: str
) -> None:
    tokens = guarded.registry.tokens
    match made:
        case "join":
            wanted = NewToken(name="made", join=JoinInput())
            text = (await tokens.create_token(wanted, actor=EMBEDDING_PROGRAM)).text
        case "credential":
            text = (await tokens.reissue("made", ReissueInput(), actor=EMBEDDING_PROGRAM)).text
        case "unknown":
            text = await new_token(guarded, "made", Scope.ADMIN)
            text = text[:-4] + ("AAAA" if not text.endswith("AAAA") else "BBBA")
        case _:
            scope = Scope.NODE if made == "gateway" else Scope.READ
            text = await new_token(guarded, "made", scope, expires_in_s=60 if made == "expired" else None)
    if made == "revoked":
        await revoke(guarded, "made")
    if made == "expired":
        await guarded.clock.advance(61)
    async with open_browser(guarded) as browser:
        answer = await log_in(browser, text)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert "set-cookie" not in answer.headers
        assert (await browser.get("/api/session")).json() == NOBODY
        assert text not in answer.text
    assert [(action, reason) for _, action, reason in await audit(guarded) if reason] == [("log in", code)]


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 403, "csrf_refused"),
        ({"x-thunderline": "true"}, 403, "csrf_refused"),
        ({**OWN, "origin": "http://elsewhere.example"}, 403, "origin_refused"),
        ({**OWN, "origin": "null"}, 403, "origin_refused"),
        ({**OWN, "content-type": "text/plain"}, 415, "wrong_content_type"),
    ],
)
async def test_a_page_of_another_site_logs_nobody_in(
    guarded: Cluster, headers: dict[str, str], status: int, code: str
) -> None:
    token = await new_token(guarded, "theirs", Scope.READ)
    async with open_browser(guarded) as browser:
        body = f'{{"token": "{token}"}}'
        answer = await browser.post(
            "/api/session", content=body, headers={"content-type": "application/json", **headers}
        )
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert "set-cookie" not in answer.headers


@pytest.mark.parametrize(
    "body", [{}, {"token": ""}, {"token": 7}, {"token": "tl_" + "a" * 300}, {"token": "a", "b": 1}]
)
async def test_a_login_without_a_token_is_named_as_such(guarded: Cluster, body: dict[str, Any]) -> None:
    answer = await guarded.http.post("/api/session", json=body, headers=OWN)
    assert (answer.status_code, answer.json()["field"]) == (422, "b" if "b" in body else "token")
    assert "tl_a" not in answer.text


async def test_without_auth_nobody_has_to_log_in(cluster: Cluster) -> None:
    assert (await cluster.http.get("/api/session")).json() == {"auth": False, "session": None}
    answer = await log_in(cluster.http, "tl_x")
    assert (answer.status_code, answer.json()["field"]) == (422, "token")
    assert "without `auth`" in answer.json()["detail"]
    assert "without its dashboard" in (await cluster.http.get("/")).text


async def test_logging_in_anew_ends_the_session_before(guarded: Cluster) -> None:
    one, other = await new_token(guarded, "one", Scope.READ), await new_token(guarded, "other", Scope.READ)
    async with open_browser(guarded) as browser:
        await log_in(browser, one)
        before = browser.cookies["thunderline"]
        await log_in(browser, other)
        assert (await browser.get("/api/session")).json()["session"]["name"] == "other"
    stale = {"cookie": f"thunderline={before}"}
    assert (await guarded.http.get("/api/session", headers=stale)).json() == NOBODY
    assert (await guarded.http.get("/api/nodes", headers=stale)).status_code == 401


async def test_the_front_page_is_the_one_to_log_in_until_somebody_has(guarded: Cluster) -> None:
    token = await new_token(guarded, "ci", Scope.READ)
    async with open_browser(guarded) as browser:
        front = await browser.get("/")
        assert (front.status_code, 'type="password"' in front.text) == (200, True)
        assert front.headers["cache-control"] == "no-store"
        await log_in(browser, token)
        assert "without its dashboard" in (await browser.get("/")).text
        assert (await browser.get("/assets/login.html")).status_code == 404


async def test_logging_in_works_while_the_store_is_away(guarded: Cluster) -> None:
    token = await new_token(guarded, "ci", Scope.READ)
    guarded.store.away = True
    async with open_browser(guarded) as browser:
        assert (await guarded.turn_until(log_in(browser, token))).status_code == 201
        assert (await browser.get("/api/nodes")).status_code == 200
    guarded.store.away = False


# What a session is good for


@pytest.mark.parametrize(
    "headers", [{}, {"x-thunderline": "0"}, {**OWN, "origin": ""}, {**OWN, "origin": "http://127.0.0.1:81"}]
)
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE", "PUT"])
async def test_an_unsafe_request_with_the_cookie_alone_is_refused(
    guarded: Cluster, method: str, headers: dict[str, str]
) -> None:
    token = await new_token(guarded, "ci", Scope.ADMIN)
    async with open_browser(guarded) as browser:
        await log_in(browser, token)
        request = browser.build_request(method, "/api/nodes/worker-1", headers=headers)
        if headers.get("origin") == "":
            del request.headers["origin"]
        answer = await browser.send(request)
    assert (answer.status_code, answer.json()["code"]) in ((403, "csrf_refused"), (403, "origin_refused"))


async def test_a_cookie_that_is_there_twice_is_nobodys(guarded: Cluster) -> None:
    token = await new_token(guarded, "ci", Scope.READ)
    async with open_browser(guarded) as browser:
        await log_in(browser, token)
        value = browser.cookies["thunderline"]
    twice = {"cookie": f"thunderline={value}; other=1; thunderline=planted"}
    assert (await guarded.http.get("/api/session", headers=twice)).json() == NOBODY
    among = {"cookie": f"thunderline-81=x; thunderline={value}; other=1"}
    assert (await guarded.http.get("/api/session", headers=among)).json()["session"]["name"] == "ci"


async def test_a_session_may_what_its_token_may(guarded: Cluster) -> None:
    token = await new_token(guarded, "eyes", Scope.READ)
    async with open_browser(guarded) as browser:
        await log_in(browser, token)
        answer = await browser.post("/api/nodes", json={"name": "worker-1"}, headers=OWN)
    assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted")
    assert guarded.registry.list_nodes() == []


# How it ends


async def test_a_session_ends_after_its_time_however_much_it_is_used(guarded: Cluster) -> None:
    token = await new_token(guarded, "ci", Scope.READ)
    async with open_browser(guarded) as browser:
        await log_in(browser, token)
        browser.cookies = dict(browser.cookies)  # which a browser would forget by its own clock
        await guarded.clock.advance(TTL_S - 1)
        # A wall clock that goes back makes no session longer.
        guarded.clock.jump_wall(-7200)
        assert (await browser.get("/api/nodes")).status_code == 200
        await guarded.clock.advance(1)
        assert (await browser.get("/api/nodes")).status_code == 401
        assert (await browser.get("/api/session")).json() == NOBODY


@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_a_session_ends_with_its_token_and_its_page_is_told_why(guarded: Cluster, how: str) -> None:
    token = await new_token(guarded, "ci", Scope.OPERATOR, expires_in_s=600)
    async with open_browser(guarded) as browser:
        opened = await log_in(browser, token)
        assert opened.json()["session"]["expires_at"] == "2026-01-01T00:10:00Z"
        assert "Max-Age=600;" in opened.headers["set-cookie"]
        if how == "revoked":
            await revoke(guarded, "ci")
        else:
            await guarded.clock.advance(600)
        for answer in (
            await browser.get("/api/nodes"),
            await browser.get("/api/nodes"),
            await browser.post("/api/nodes", json={"name": "worker-1"}, headers=OWN),
        ):
            assert (answer.status_code, answer.json()["code"]) == (401, f"token_{how}")
        assert (await browser.get("/api/session")).json() == NOBODY
        assert 'type="password"' in (await browser.get("/")).text


async def test_logging_out_ends_the_session_and_takes_the_cookie(guarded: Cluster) -> None:
    token = await new_token(guarded, "ci", Scope.READ)
    async with open_browser(guarded) as browser:
        await log_in(browser, token)
        value = browser.cookies["thunderline"]
        assert (await browser.delete("/api/session")).json()["code"] == "csrf_refused"
        answer = await browser.delete("/api/session", headers=OWN)
        assert (answer.status_code, answer.content) == (204, b"")
        assert dict(browser.cookies) == {}
        assert (await browser.delete("/api/session", headers=OWN)).status_code == 204
    stale = {"cookie": f"thunderline={value}"}
    assert (await guarded.http.get("/api/nodes", headers=stale)).status_code == 401
    told = [(actor, action) for actor, action, _ in await audit(guarded)]
    assert told.index(("reader:ci", "session.opened")) < told.index(("reader:ci", "session.closed"))


async def test_a_session_whose_token_is_revoked_can_still_be_left(guarded: Cluster) -> None:
    token = await new_token(guarded, "ci", Scope.READ)
    async with open_browser(guarded) as browser:
        await log_in(browser, token)
        await revoke(guarded, "ci")
        assert (await browser.delete("/api/session", headers=OWN)).status_code == 204
        assert dict(browser.cookies) == {}


# What is kept


async def test_of_many_sessions_those_unused_for_longest_end_first(
    guarded: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logins, "SESSIONS_MAX", 4)
    monkeypatch.setattr(logins, "PER_TOKEN_MAX", 3)
    kept = Logins(guarded.registry)
    one, other = await new_token(guarded, "one", Scope.READ), await new_token(guarded, "other", Scope.READ)
    quiet = kept.open(other, address=None)
    ones = [kept.open(one, address=None) for _ in range(3)]
    assert kept.find(ones[0]) is not None

    # One token's sessions push out their own, not another's.
    ones.append(kept.open(one, address=None))
    assert [kept.find(value) is not None for value in (quiet, *ones)] == [True, True, False, True, True]

    third = kept.open(await new_token(guarded, "third", Scope.READ), address=None)
    assert kept.find(quiet) is None
    assert kept.find(third) is not None
    assert len(kept) == 4


async def test_neither_token_nor_session_can_be_read_from_what_is_kept(guarded: Cluster) -> None:
    token = await new_token(guarded, "ci", Scope.READ)
    kept = Logins(guarded.registry)
    value = kept.open(token, address=None)
    told = f"{vars(kept)} {kept.find(value)!r} {LoginInput(token=token)!r}"
    assert value not in told
    assert token not in told
    assert token[-20:] not in told
