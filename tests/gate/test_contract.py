"""What holds for all routes: they are documented, and every error has its status."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus

from thunderline.core import errors
from thunderline.core.errors import ThunderlineError
from thunderline.gate.app import build_litestar
from thunderline.gate.faults import http_status
from thunderline.gate.openapi import build_document, route_docs
from thunderline.testing.harness import Cluster


def all_errors() -> list[type[ThunderlineError]]:
    """Every error that a registry can raise; other packages have errors of their own, which no server answers with."""
    return [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, ThunderlineError) and kind is not ThunderlineError
    ]


def test_every_error_has_a_status_and_only_bugs_have_500() -> None:
    statuses = {kind.__name__: http_status(kind) for kind in all_errors()}
    bugs = {name for name, status in statuses.items() if status is HTTPStatus.INTERNAL_SERVER_ERROR}
    assert bugs == {"UndeclaredEvent", "SettingsError"}


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [kind.code for kind in all_errors()]
    assert len(set(codes)) == len(codes)


async def test_every_route_is_documented(cluster: Cluster) -> None:
    undocumented = {key for key, doc in route_docs(build_litestar()).items() if doc is None}
    assert undocumented == set()


async def test_the_document_resolves_and_names_every_body(cluster: Cluster) -> None:
    document = build_document(build_litestar())
    assert document["openapi"] == "3.1.0"
    schemas = document["components"]["schemas"]

    def refs(part: object) -> Iterator[str]:
        if isinstance(part, dict):
            if "$ref" in part:
                yield str(part["$ref"])
            for below in part.values():
                yield from refs(below)
        elif isinstance(part, list):
            for below in part:
                yield from refs(below)

    assert {ref.rpartition("/")[2] for ref in refs(document)} <= schemas.keys()
    writing = [
        operation
        for path in document["paths"].values()
        for method, operation in path.items()
        if method in ("post", "patch", "put")
    ]
    assert writing
    assert all("requestBody" in operation for operation in writing)
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(ids)) == len(ids)


async def test_the_document_says_what_texts_a_parameter_takes(cluster: Cluster) -> None:
    document = (await cluster.http.get("/schema")).json()
    parameters = {
        (path, parameter["name"]): parameter["schema"]
        for path, operations in document["paths"].items()
        for operation in operations.values()
        for parameter in operation.get("parameters", ())
    }
    # What is left out is not null: a query cannot say that.
    assert [key for key, schema in parameters.items() if "oneOf" in schema or schema.get("type") == "null"] == []
    for name in ("a", "b"):
        await cluster.node(name)
    page = (await cluster.http.get("/api/nodes?limit=1")).json()
    cursor = (await cluster.http.get("/api/graph")).json()["cursor"]
    taken = {
        ("/api/nodes", "cursor"): [page["next_cursor"]],
        ("/api/nodes", "status"): ["online", "online,degraded"],
        ("/api/nodes", "sort"): ["name", "-status"],
        ("/api/nodes/{ref}", "load"): ["sessions", "sessions,heartbeats"],
        ("/api/events", "since"): ["0", "1", cursor],
        ("/api/events", "before"): ["1", cursor],
        ("/api/events", "match"): [">", "*", "cluster.node.*", "cluster.>"],
    }
    for (path, name), values in taken.items():
        for value in values:
            assert re.search(parameters[path, name]["pattern"], value), (path, name, value)
            answer = await cluster.http.get(path.replace("{ref}", "a"), params={name: value})
            assert answer.status_code == 200, (path, name, value)
    for path, name in taken:
        for value in ("/", "sessions,", "cluster.>.x", "a b"):
            assert not re.search(parameters[path, name]["pattern"], value), (path, name, value)
            refused = await cluster.http.get(path.replace("{ref}", "a"), params={name: value})
            assert (refused.status_code, refused.json()["field"]) == (422, name), (path, name, value)
    assert re.search(parameters["/api/nodes/{ref}/capabilities/{key}", "key"]["pattern"], "gpu/0")
    assert parameters["/api/nodes", "label"]["items"]["pattern"]
    assert parameters["/api/sessions", "session_type"]["enum"] == ["cluster", "hotline", "service", "tocp"]
    moment = [said.get("format") or said["pattern"] for said in parameters["/api/graph", "at"]["anyOf"]]
    assert moment[0] == "date-time"
    assert re.search(moment[1], cursor)
    diff = document["paths"]["/api/graph/diff"]["get"]["parameters"]
    assert [parameter["name"] for parameter in diff if parameter["required"]] == ["from"]


async def test_the_document_knows_nodes_without_presence(cluster: Cluster) -> None:
    await cluster.node("a")
    answer = await cluster.http.get("/api/nodes/a", params={"presence": "false"})
    schema = build_document(build_litestar())["components"]["schemas"]["PresentNode"]
    assert set(schema["required"]) <= answer.json()["node"].keys() == schema["properties"].keys() - {"presence"}


async def test_the_document_names_the_header_that_logging_in_needs(cluster: Cluster) -> None:
    operations = build_document(build_litestar())["paths"]["/api/session"]
    (header,) = operations["post"]["parameters"]
    assert (header["name"], header["in"], header["required"]) == ("X-Thunderline", "header", True)


async def test_the_schema_the_docs_and_the_page_are_served(cluster: Cluster) -> None:
    assert (await cluster.http.get("/schema")).json()["info"]["title"] == "Thunderline"
    docs = await cluster.http.get("/docs")
    assert "/api/nodes/{ref}/heartbeats" in docs.text
    for path in ("/docs", "/"):
        answer = await cluster.http.get(path)
        assert answer.headers["content-type"].startswith("text/html")
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert "//" not in answer.text.replace("http://www.w3.org/2000/svg", "").replace("<!-- ", "")


async def test_health_and_readiness_answer(cluster: Cluster) -> None:
    assert (await cluster.http.get("/healthz")).json()["status"] == "alive"
    assert (await cluster.http.get("/readyz")).json()["status"] == "ready"
