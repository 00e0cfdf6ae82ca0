"""`/`, the live page of the nodes, and its assets; all from this server, none from elsewhere."""

from __future__ import annotations

from importlib import resources
from typing import Any, Final

from litestar import Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from thunderline.gate.docs_page import render_docs
from thunderline.gate.openapi import document_of

_TYPES: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


@get("/", include_in_schema=False)
async def live_page() -> Response[str]:
    return _asset("index.html")


@get("/assets/{name:str}", include_in_schema=False)
async def asset(name: FromPath[str]) -> Response[str]:
    return _asset(name)


@get("/docs", include_in_schema=False)
async def docs_page(request: Request[Any, Any, Any]) -> Response[str]:
    return Response(render_docs(document_of(request.app)), media_type="text/html", headers=_HEADERS)


def _asset(name: str) -> Response[str]:
    known = {file.name: file for file in (resources.files(__package__) / "assets").iterdir()}
    media_type = _TYPES.get(name.rpartition(".")[2])
    if name not in known or media_type is None:
        raise NotFoundException
    return Response(known[name].read_text(encoding="utf-8"), media_type=media_type, headers=_HEADERS)
