"""`/`, the live page of the nodes, or the page to log in where that is needed first; and their assets. All of it comes
from this server, none from elsewhere."""

from __future__ import annotations

from importlib import resources
from typing import Any, Final

from litestar import Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from thunderline.gate.browser_session import Sessions, login_in
from thunderline.gate.docs_page import render_docs
from thunderline.gate.openapi import document_of
from thunderline.gate.parameters import Reg

_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_CACHE: Final = {"cache-control": "no-cache"}


@get("/", include_in_schema=False)
async def front_page(registry: Reg, logins: Sessions, request: Request[Any, Any, Any]) -> Response[str]:
    needs_login = registry.settings.auth and login_in(request, logins) is None
    # Not to be kept: which of the two it is depends on the cookie.
    return Response(_read("login.html" if needs_login else "index.html"), media_type="text/html")


@get("/assets/{name:str}", include_in_schema=False)
async def asset(name: FromPath[str]) -> Response[str]:
    media_type = _TYPES.get(name.rpartition(".")[2])
    if media_type is None:
        raise NotFoundException
    return Response(_read(name), media_type=media_type, headers=_CACHE)


@get("/docs", include_in_schema=False)
async def docs_page(request: Request[Any, Any, Any]) -> Response[str]:
    return Response(render_docs(document_of(request.app)), media_type="text/html", headers=_CACHE)


def _read(name: str) -> str:
    known = {file.name: file for file in (resources.files(__package__) / "assets").iterdir()}
    if name not in known:
        raise NotFoundException
    return known[name].read_text(encoding="utf-8")
