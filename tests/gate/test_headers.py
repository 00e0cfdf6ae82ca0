"""What every answer keeps browsers from."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.engines import Opening
from thunderline.core.settings import Settings
from thunderline.gate.answer_headers import API_POLICY, PAGE_POLICY
from thunderline.testing.harness import Cluster

EVERY = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


def told(answer: httpx.Response) -> dict[str, Any]:
    return {name: answer.headers.get(name) for name in EVERY}


@pytest.mark.parametrize(
    ("path", "status", "cache"),
    [
        ("/", 200, "no-store"),
        ("/docs", 200, "no-cache"),
        ("/docs/", 200, "no-cache"),
        ("/assets/login.js", 200, "no-cache"),
        ("/assets/favicon.svg", 200, "no-cache"),
        ("/assets/absent.js", 404, "no-store"),
    ],
)
async def test_a_page_loads_its_own_and_stands_in_no_frame(
    cluster: Cluster, path: str, status: int, cache: str
) -> None:
    answer = await cluster.http.get(path)
    assert (answer.status_code, told(answer)) == (status, EVERY)
    assert answer.headers["content-security-policy"] == PAGE_POLICY
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert "camera=()" in answer.headers["permissions-policy"]
    assert answer.headers["cache-control"] == cache


def test_the_policy_of_pages_lets_nothing_in_that_stands_in_them() -> None:
    rules = dict(rule.split(" ", 1) for rule in PAGE_POLICY.split("; "))
    assert rules.pop("default-src") == "'none'"
    assert not any(word in PAGE_POLICY for word in ("unsafe", "*", "data:", "http:", "https:"))
    assert {rules[name] for name in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}


@pytest.mark.parametrize(
    ("method", "path", "status", "cache"),
    [
        ("GET", "/api/nodes", 200, "no-store"),
        ("GET", "/api/nodes?presence=false", 200, "private, no-cache"),
        ("GET", "/api/graph", 200, "private, no-cache"),
        ("GET", "/api/session", 200, "no-store"),
        ("GET", "/api/nodes/nobody", 404, "no-store"),
        ("GET", "/nowhere", 404, "no-store"),
        ("PUT", "/api/nodes", 405, "no-store"),
        ("OPTIONS", "/api/nodes", 204, "no-store"),
        ("POST", "/api/nodes/batch", 400, "no-store"),
        ("GET", "/schema", 200, "no-store"),
        ("GET", "/healthz", 200, "no-store"),
    ],
)
async def test_an_answer_of_the_api_is_no_page_and_nobody_elses(
    cluster: Cluster, method: str, path: str, status: int, cache: str
) -> None:
    answer = await cluster.http.request(method, path)
    assert (answer.status_code, told(answer)) == (status, EVERY)
    assert answer.headers["content-security-policy"] == API_POLICY
    assert answer.headers.get_list("cache-control") == [cache]


async def test_what_the_edge_refuses_has_them_too(cluster: Cluster) -> None:
    answer = await cluster.http.get("/api/nodes", headers={"host": "elsewhere.example"})
    assert (answer.status_code, told(answer)) == (421, EVERY)


async def test_a_304_says_what_the_answer_said(cluster: Cluster) -> None:
    first = await cluster.http.get("/api/graph")
    again = await cluster.http.get("/api/graph", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, told(again)) == (304, EVERY)
    assert again.headers["cache-control"] == first.headers["cache-control"]


@pytest.mark.parametrize("body", [{}, {"status": "odd"}])
async def test_the_answer_to_a_beat_cannot_be_taken_for_a_page(cluster: Cluster, body: dict[str, Any]) -> None:
    await cluster.node("worker-1")
    answer = await cluster.http.post("/api/nodes/worker-1/heartbeats", json=body)
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/api/nodes", "/assets/page.css"])
async def test_only_over_tls_browsers_are_told_to_come_by_it(open_cluster: Opening, path: str) -> None:
    async with open_cluster(settings=Settings(allowed_hosts=("registry.example",))) as cluster:
        assert "strict-transport-security" not in (await cluster.http.get(path)).headers
        secure = await cluster.http.get(f"https://registry.example{path}")
    assert (secure.status_code, secure.headers["strict-transport-security"]) == (200, "max-age=31536000")
