"""How much is taken from one caller: by token, by address, and of heartbeats by node; on the injected clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.engines import Opening
from tests.gate.callers import OWN_PAGE, World, at_address, open_world
from thunderline.core.settings import Settings
from thunderline.core.sites import site_of
from thunderline.gate.limits import BURST_S, Limit, is_loopback
from thunderline.testing.clock import ManualClock

SLOW = Settings(auth=True, requests_per_second_address=1, requests_per_second_token=2)


def a_limit(clock: ManualClock, per_second: float = 2.0, keys_max: int = 10) -> Limit:
    return Limit("node", "heartbeats a second of one node", per_second, clock=clock, keys_max=keys_max)


@pytest.fixture
async def slow(open_cluster: Opening) -> AsyncIterator[World]:
    async with open_world(open_cluster, SLOW) as opened:
        yield opened


# One bucket


async def test_a_bucket_holds_ten_seconds_worth_and_fills_as_time_passes(clock: ManualClock) -> None:
    limit = a_limit(clock)
    assert [limit.take("a") for _ in range(20)] == [0.0] * 20
    assert limit.take("a") == pytest.approx(0.5)
    await clock.advance(0.4)
    assert limit.take("a") == pytest.approx(0.1)
    await clock.advance(0.1)
    assert limit.take("a") == 0.0
    assert limit.take("a") > 0
    await clock.advance(3600)
    assert [limit.take("a") for _ in range(20)] == [0.0] * 20
    assert limit.take("a") > 0


def test_buckets_do_not_share(clock: ManualClock) -> None:
    limit = a_limit(clock, per_second=0.1)
    assert (limit.take("a"), limit.take("b")) == (0.0, 0.0)
    assert limit.take("a") > 0


def test_the_longest_unused_bucket_makes_room(clock: ManualClock) -> None:
    limit = a_limit(clock, per_second=0.1, keys_max=3)
    for key in ("a", "b", "c"):
        limit.take(key)
    assert limit.take("a") > 0  # used last now
    limit.take("d")
    assert len(limit) == 3
    assert limit.take("a") > 0
    assert limit.take("b") == 0.0


def test_what_answers_tell_of_a_bucket(clock: ManualClock) -> None:
    limit = a_limit(clock, per_second=2)
    waits = [limit.take("a") for _ in range(20)]
    policy = (b"ratelimit-policy", b'"node";q=20;w=%d' % BURST_S)
    assert limit.headers("a", waits[-1]) == ((b"ratelimit", b'"node";r=0;t=10'), policy)
    wait_s = limit.take("a")
    assert limit.headers("a", wait_s) == ((b"ratelimit", b'"node";r=0;t=1'), policy)
    error = limit.error(wait_s)
    assert str(error) == "more than 2 heartbeats a second of one node, or 20 at once; retry in 0.5 s"
    limit.take("b")
    assert limit.headers("b", 0.0)[0] == (b"ratelimit", b'"node";r=19;t=1')


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::9", "2001:db8:1:2::"),
        ("2001:db8:1:3::9", "2001:db8:1:3::"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::"),
        ("no:address", ""),
        (None, ""),
    ],
)
def test_one_customer_of_ipv6_is_one_address(address: str | None, key: str) -> None:
    assert site_of(address) == key


@pytest.mark.parametrize(
    ("address", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("10.0.0.1", False), ("x", False)],
)
def test_loopback_is_told(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected


# Callers


def told(answer: httpx.Response) -> tuple[int, str | None, str | None]:
    return answer.status_code, answer.headers.get("ratelimit"), answer.headers.get("retry-after")


async def test_a_token_has_a_bucket_of_its_own(slow: World) -> None:
    first = await slow.ask("reader", "GET", "/api/nodes")
    assert told(first) == (200, '"token";r=19;t=1', None)
    assert first.headers["ratelimit-policy"] == '"token";q=20;w=10'
    for _ in range(19):
        assert (await slow.ask("reader", "GET", "/api/nodes")).status_code == 200
    refused = await slow.ask("reader", "GET", "/api/nodes")
    assert told(refused) == (429, '"token";r=0;t=1', "1")
    assert (refused.json()["code"], refused.json()["retryable"]) == ("rate_limited", True)
    assert (await slow.ask("admin", "GET", "/api/nodes")).status_code == 200
    await slow.cluster.clock.advance(0.5)
    assert (await slow.ask("reader", "GET", "/api/nodes")).status_code == 200
    [entry] = [entry for entry in await slow.audit() if entry["reason"] == "rate_limited"]
    assert (entry["actor"], entry["action"], entry["count"]) == ("reader:reader", "send requests", 1)


async def test_a_refusal_counts_against_the_token_as_well(slow: World) -> None:
    for _ in range(20):
        assert (await slow.ask("b", "GET", "/api/nodes")).status_code == 403
    assert (await slow.ask("b", "GET", "/api/nodes")).status_code == 429


async def test_who_fails_is_limited_by_address_and_keeps_nobody_else_out(slow: World) -> None:
    good = {"authorization": f"Bearer {slow.texts['reader']}"}
    for number, who in enumerate((None, "nobody's", "expired", "joiner")):
        async with at_address(slow, f"10.0.{number}.1") as http, at_address(slow, f"10.0.{number}.2") as other:
            bad = {} if who is None else {"authorization": f"Bearer {slow.texts[who]}"}
            status = 403 if who == "joiner" else 401
            answers = [await http.get("/api/nodes", headers=bad) for _ in range(11)]
            assert [answer.status_code for answer in answers] == [status] * 10 + [429]
            assert told(answers[0]) == (status, '"address";r=9;t=1', None)
            assert told(answers[-1]) == (429, '"address";r=0;t=1', "1")
            assert (await http.get("/api/nodes", headers=good)).status_code == 200
            assert (await other.get("/api/nodes", headers=bad)).status_code == status


async def test_tries_to_log_in_are_limited_by_address(slow: World) -> None:
    async with at_address(slow, "2001:db8::1") as http, at_address(slow, "2001:db8::2") as neighbour:
        body: Any = {"token": slow.texts["nobody's"]}
        answers = [await http.post("/api/session", json=body, headers=OWN_PAGE) for _ in range(11)]
        assert [answer.status_code for answer in answers] == [401] * 10 + [429]
        body = {"token": slow.texts["admin"]}
        assert (await neighbour.post("/api/session", json=body, headers=OWN_PAGE)).status_code == 429
        await slow.cluster.clock.advance(1)
        assert (await neighbour.post("/api/session", json=body, headers=OWN_PAGE)).status_code == 201


async def test_browsers_that_are_logged_in_load_the_page_by_their_token(slow: World) -> None:
    cookie = await slow.log_in("reader")
    async with at_address(slow, "10.0.0.1") as http:
        for _ in range(11):
            await http.get("/healthz")
        assert (await http.get("/")).status_code == 429
        page = await http.get("/", headers={"cookie": cookie})
        assert (page.status_code, page.headers["ratelimit"]) == (200, '"token";r=19;t=1')


async def test_browsers_that_are_logged_in_log_in_by_address(slow: World) -> None:
    cookie = await slow.log_in("reader")
    async with at_address(slow, "10.0.0.1") as http:
        headers, body = {**OWN_PAGE, "cookie": cookie}, {"token": slow.texts["nobody's"]}
        answers = [await http.post("/api/session", json=body, headers=headers) for _ in range(11)]
        assert [answer.status_code for answer in answers] == [401] * 10 + [429]


async def test_without_auth_only_other_machines_are_limited(open_cluster: Opening) -> None:
    async with open_cluster(settings=Settings(requests_per_second_address=1)) as cluster:
        world = World(cluster)
        for address in ("127.0.0.1", "127.0.0.2", "::1"):
            async with at_address(world, address) as http:
                answers = [await http.get("/api/nodes") for _ in range(20)]
                assert {told(answer) for answer in answers} == {(200, None, None)}
        async with at_address(world, "10.0.0.1") as http:
            answers = [await http.get("/api/nodes") for _ in range(11)]
            assert [answer.status_code for answer in answers] == [200] * 10 + [429]


# Heartbeats


BEATS = Settings(heartbeats_per_second_node=0.1, heartbeat_interval_s=10, deadline_intervals=3)
"""One at once, and the next 10 s later."""


@pytest.mark.parametrize("batch", [False, True])
async def test_a_beat_too_many_is_refused_and_still_a_sign_of_life(open_cluster: Opening, batch: bool) -> None:
    async with open_cluster(settings=BEATS) as cluster:
        await cluster.http.post("/api/nodes", json={"name": "a"})

        async def beat() -> tuple[int, str]:
            if not batch:
                answer = await cluster.http.post("/api/nodes/a/heartbeats", json={})
                return answer.status_code, answer.json().get("code", "")
            answer = await cluster.http.post("/api/heartbeats", json={"heartbeats": [{"node": "a"}]})
            [result] = answer.json()["results"]
            return result["status"], result.get("problem", {}).get("code", "")

        assert await beat() == (201, "")
        await cluster.turn(9)
        assert await beat() == (429, "rate_limited")
        # The first beat is 38 s old, and its deadline over.
        await cluster.turn(29)
        assert cluster.registry.get_node("a").status == "online"
        await cluster.turn(2)
        assert cluster.registry.get_node("a").status == "disconnected"
        assert await beat() == (201, "")
        assert len(await cluster.registry.recent_heartbeats()) == 2


async def test_an_answer_with_a_beat_too_many_is_not_kept(open_cluster: Opening) -> None:
    async with open_cluster(settings=BEATS) as cluster:
        await cluster.http.post("/api/nodes", json={"name": "a"})
        body, key = {"heartbeats": [{"node": "a", "seq": 1}, {"node": "a", "seq": 2}]}, {"idempotency-key": "k"}
        statuses = []
        for _ in range(2):
            answer = await cluster.http.post("/api/heartbeats", json=body, headers=key)
            statuses.append([result["status"] for result in answer.json()["results"]])
            await cluster.turn(20)
        assert statuses == [[201, 429], [200, 429]]


async def test_only_who_may_speak_for_a_node_uses_up_what_is_taken_from_it(open_cluster: Opening) -> None:
    async with open_world(open_cluster, SLOW, heartbeats_per_second_node=0.1) as world:
        for _ in range(3):
            assert (await world.ask("b", "POST", "/api/nodes/a/heartbeats", {})).status_code == 403
        assert (await world.ask("a", "POST", "/api/nodes/a/heartbeats", {})).status_code == 201
        refused = await world.ask("a", "POST", "/api/nodes/a/heartbeats", {})
        assert told(refused) == (429, '"node";r=0;t=10', "10")
        [entry] = [entry for entry in await world.audit() if entry["reason"] == "rate_limited"]
        assert (entry["actor"], entry["action"], entry["subject"]) == ("node:a", "send heartbeats", "a")


async def test_beats_of_many_nodes_by_one_token_do_not_count_against_it_and_those_that_fail_do(slow: World) -> None:
    for number in range(30):
        await slow.registry.ensure_node({"name": f"n{number}"})
        answer = await slow.ask("gateway", "POST", f"/api/nodes/n{number}/heartbeats", {})
        assert told(answer) == (201, None, None)
    for number in range(20):
        answer = await slow.ask("gateway", "POST", "/api/nodes/nobody/heartbeats", {})
        assert told(answer)[:2] == (404, f'"token";r={19 - number};t={(number + 2) // 2}')
    answer = await slow.ask("gateway", "POST", "/api/nodes/nobody/heartbeats", {})
    assert told(answer) == (429, '"token";r=0;t=1', "1")
