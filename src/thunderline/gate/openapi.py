"""The OpenAPI document: parameters as the framework reads them, bodies and answers as msgspec reads them.

A route says what it takes and gives with `documented`; a route without it does not get past a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from litestar import Litestar, MediaType, Request
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.routes import HTTPRoute

from thunderline import __version__
from thunderline.core.inputs import HeartbeatInput
from thunderline.gate.batches import BatchProblem, HeartbeatResults, HeartbeatsInput, NodeResults, NodesInput
from thunderline.gate.bodies import HeartbeatBody
from thunderline.gate.doorkeeper import is_open
from thunderline.gate.faults import PROBLEM_TYPE, Problem
from thunderline.gate.logins import CSRF_HEADER, CSRF_VALUE
from thunderline.gate.methods import BEAT_BATCH_PATH, NODE_BATCH_PATH
from thunderline.gate.schema_words import without_null

_KEY: Final = "thunderline_doc"
ASKS: Final = "asks"
"""Where an application's state says whether its callers have to show who they are."""
_SCHEMES: Final[dict[str, dict[str, str]]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A token: `Authorization: Bearer tl_...`."},
    "cookie": {
        "type": "apiKey",
        "in": "cookie",
        "name": "thunderline-4040",
        "description": "A browser's session, from `POST /api/session`. The name ends in the port that is in `Host`, if "
        "there is one; over TLS it begins with `__Host-`. Unsafe requests need `X-Thunderline: 1` and the server's own "
        "`Origin`, too.",
    },
}
_REF: Final = "#/components/schemas/{name}"
_DESCRIPTION: Final = (
    "The node registry of a cluster. Times are RFC 3339 in UTC; a node is named by its id or its name; unknown fields "
    "and parameters are refused. Errors are problem details (RFC 9457) whose `code` is stable. A server with `auth` "
    "wants a token, or a browser's session, on all routes but those of sessions and health."
)


class RouteDoc(msgspec.Struct, frozen=True, kw_only=True):
    """What one route takes and gives."""

    summary: str
    body: type | None
    body_required: bool
    answers: Mapping[int, type | None]
    errors: tuple[int, ...]
    streams: bool
    """Whether 200 can be a stream of events instead."""
    keyed: bool
    """Whether an `Idempotency-Key` is heeded."""
    matched: bool
    """Whether `If-Match` is."""
    text: str | None
    """The media type of a 200 that is no JSON."""
    revalidates: bool
    """Whether `If-None-Match` is, and 304 can be the answer."""
    needs: tuple[str, ...]
    """Parameters that the route itself refuses to do without."""
    guarded: bool
    """Whether the header against requests of other sites' pages is needed, whoever calls."""


def documented(
    summary: str,
    *,
    answers: Mapping[int, type | None],
    body: type | None = None,
    body_required: bool = True,
    errors: tuple[int, ...] = (),
    streams: bool = False,
    keyed: bool = False,
    matched: bool = False,
    revalidates: bool = False,
    needs: tuple[str, ...] = (),
    guarded: bool = False,
    text: str | None = None,
) -> dict[str, RouteDoc]:
    """The `opt` of a route handler: its first sentence becomes the summary, all of it the description."""
    doc = RouteDoc(
        summary=summary,
        body=body,
        body_required=body_required,
        answers=answers,
        errors=(*errors, *((412,) if matched else ())),
        streams=streams,
        keyed=keyed,
        matched=matched,
        revalidates=revalidates,
        needs=needs,
        guarded=guarded,
        text=text,
    )
    return {_KEY: doc}


_BEAT: Final = documented(
    "Send one heartbeat: 201 when it is in history, 200 when it already was (same incarnation and `seq`).",
    body=HeartbeatInput,
    answers={201: HeartbeatBody, 200: HeartbeatBody},
    errors=(404, 409, 503),
)[_KEY]
BEAT_PATH: Final = "/api/nodes/{ref}/heartbeats"
_NODE_BATCH: Final = documented(
    "Ensure many nodes, 1,000 at most, in order. Each item fails for itself, with the status that the single call "
    "would have had; `atomic=true` does all or none, and none is a 409 that says what is wrong with which.",
    body=NodesInput,
    answers={200: NodeResults},
    errors=(413, 422, 503),
    keyed=True,
)[_KEY]
_BEAT_BATCH: Final = documented(
    "Send many heartbeats, of any nodes, 1,000 at most, in order. Each item fails for itself, with the status that the "
    "single call would have had; `atomic=true` keeps all or none, and none is a 409 that says what is wrong with "
    "which. All that name their node's process count as signs of life on arrival.",
    body=HeartbeatsInput,
    answers={200: HeartbeatResults},
    errors=(413, 422, 503),
    keyed=True,
)[_KEY]
_UNFRAMED: Final = {
    (BEAT_PATH, "post"): _BEAT,
    (NODE_BATCH_PATH, "post"): _NODE_BATCH,
    (BEAT_BATCH_PATH, "post"): _BEAT_BATCH,
}
"""Routes that are answered in front of the framework."""
_ATOMIC: Final[dict[str, Any]] = {
    "name": "atomic",
    "in": "query",
    "description": "All or nothing.",
    "required": False,
    "schema": {"type": "boolean", "default": False},
}
_KEY_HEADER: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Repeated under its key, the request is done once and answered as before, for 24 h by default.",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
}
_REPLAYED: Final[dict[str, Any]] = {
    "Idempotency-Replayed": {
        "description": "`true` if this is the answer to an earlier request with the same key.",
        "schema": {"type": "string"},
    }
}
_ETAG: Final[dict[str, Any]] = {"ETag": {"description": "What the answer shows.", "schema": {"type": "string"}}}


def _tags_header(name: str, description: str) -> dict[str, Any]:
    schema = {"type": "string", "examples": ["*", '"0190f5fe:42"']}
    return {"name": name, "in": "header", "description": description, "required": False, "schema": schema}


_IF_MATCH: Final = _tags_header("If-Match", "Only if the node's `ETag` is one of these; `*`: if there is such a node.")
_IF_NONE_MATCH: Final = _tags_header("If-None-Match", "304 without a body if the answer's `ETag` is one of these.")
_GUARD: Final[dict[str, Any]] = {
    "name": CSRF_HEADER,
    "in": "header",
    "description": "What no page of another site can send.",
    "required": True,
    "schema": {"type": "string", "enum": [CSRF_VALUE]},
}


def route_docs(app: Litestar) -> dict[tuple[str, str], RouteDoc | None]:
    """(path, lower-case method) of every route in the document, and what it says of itself."""
    found: dict[tuple[str, str], RouteDoc | None] = {}
    for route in app.routes:
        if isinstance(route, HTTPRoute) and not route.path.startswith("/schema"):
            for handler in route.route_handlers:
                if handler.include_in_schema is False:
                    continue
                for method in handler.http_methods - {"OPTIONS"}:
                    found[route.path_format.rstrip("/") or "/", method.lower()] = handler.opt.get(_KEY)
    return found | _UNFRAMED


class ApiDocument(OpenAPIRenderPlugin):
    """Serves the document at `/schema`, in place of the framework's own."""

    def __init__(self) -> None:
        super().__init__(path=("/", "/openapi.json"), media_type=MediaType.JSON)

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return msgspec.json.encode(document_of(request.app))


def document_of(app: Litestar) -> dict[str, Any]:
    """The document of a running application, made at its first use: drafting it takes a tenth of a second."""
    document: dict[str, Any] | None = app.state.get("openapi_document")
    if document is None:
        document = app.state["openapi_document"] = build_document(app)
    return document


def build_document(app: Litestar) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the whole API."""
    docs = {key: doc for key, doc in route_docs(app).items() if doc is not None}
    kinds: list[type] = [Problem, BatchProblem]
    for doc in docs.values():
        kinds += [kind for kind in (doc.body, *doc.answers.values()) if kind is not None]
    unique = list(dict.fromkeys(kinds))
    schemas, components = msgspec.json.schema_components(unique, ref_template=_REF)
    by_kind = dict(zip(unique, schemas, strict=True))
    drafted = app.openapi_schema.to_schema()
    paths: dict[str, dict[str, Any]] = {}
    for (path, method), doc in sorted(docs.items(), key=lambda item: item[0]):
        operation = _operation(doc, by_kind)
        draft = _draft(drafted, path, method)
        operation["operationId"] = f"{method}{path.replace('/', '_').replace('{', '').replace('}', '')}"
        operation["tags"] = draft.get("tags", ["heartbeats"])
        if parameters := [*(_parameter(each, doc) for each in draft.get("parameters", ())), *_headers(doc)]:
            operation["parameters"] = parameters
        if app.state.get(ASKS):
            # Said of each: what is added without a thought must not look open.
            operation["security"] = [] if is_open(method.upper(), path) else [{name: []} for name in _SCHEMES]
        paths.setdefault(path, {})[method] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Thunderline", "version": __version__, "description": _DESCRIPTION},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SCHEMES},
    }


def _parameter(drafted: dict[str, Any], doc: RouteDoc) -> dict[str, Any]:
    """A parameter without the null that stands for being left out: neither a query nor a header can say it."""
    required = drafted.get("required", False) or drafted["name"] in doc.needs
    return {**drafted, "required": required, "schema": without_null(drafted["schema"])}


def _draft(drafted: dict[str, Any], path: str, method: str) -> dict[str, Any]:
    if (path, method) == (BEAT_PATH, "post"):
        reading: dict[str, Any] = _draft(drafted, path, "get")
        in_path = [parameter for parameter in reading["parameters"] if parameter["in"] == "path"]
        return {"parameters": in_path, "tags": reading["tags"]}
    if (path, method) in _UNFRAMED:
        return {"parameters": [_ATOMIC], "tags": ["nodes" if path == NODE_BATCH_PATH else "heartbeats"]}
    found: dict[str, Any] = drafted["paths"].get(path, {}).get(method, {})
    return found


def _headers(doc: RouteDoc) -> list[dict[str, Any]]:
    taken = (
        (doc.keyed, _KEY_HEADER),
        (doc.matched, _IF_MATCH),
        (doc.revalidates, _IF_NONE_MATCH),
        (doc.guarded, _GUARD),
    )
    return [parameter for is_taken, parameter in taken if is_taken]


def _operation(doc: RouteDoc, by_kind: dict[type, dict[str, Any]]) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": doc.summary.partition(". ")[0].rstrip("."), "description": doc.summary}
    if doc.body is not None:
        content = {"application/json": {"schema": by_kind[doc.body]}}
        operation["requestBody"] = {"required": doc.body_required, "content": content}
    problem = {"content": {PROBLEM_TYPE: {"schema": by_kind[Problem]}}}
    responses: dict[str, Any] = {}
    for status, kind in doc.answers.items():
        responses[str(status)] = {"description": "Done."}
        if kind is not None:
            responses[str(status)]["content"] = {"application/json": {"schema": by_kind[kind]}}
        if told := {**(_REPLAYED if doc.keyed else {}), **(_ETAG if doc.revalidates or doc.matched else {})}:
            responses[str(status)]["headers"] = told
    if doc.revalidates:
        responses["304"] = {"description": "The client holds the answer already.", "headers": _ETAG}
    if doc.body in (NodesInput, HeartbeatsInput):
        refused = {"content": {PROBLEM_TYPE: {"schema": by_kind[BatchProblem]}}}
        responses["409"] = {"description": "Some items cannot be done, so none was.", **refused}
    if doc.text is not None:
        responses["200"]["content"] = {doc.text: {"schema": {"type": "string"}}}
    if doc.streams:
        responses["200"]["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    for status in doc.errors:
        responses[str(status)] = {"description": "Refused; see `code`.", **problem}
    responses["default"] = {"description": "Any other error.", **problem}
    operation["responses"] = responses
    return operation
