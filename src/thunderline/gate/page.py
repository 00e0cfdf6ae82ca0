"""`/`, the dashboard, or the page to log in where that is needed first; and their assets. All of it comes from this
server, none from elsewhere.

Whose dashboard it is the gate does not know: the composition root hands it over. Without one `/` says so.
"""

from __future__ import annotations

from importlib import resources
from typing import Any, Final, Protocol, runtime_checkable

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from thunderline.gate.browser_session import Sessions, login_in
from thunderline.gate.docs_page import render_docs
from thunderline.gate.openapi import document_of
from thunderline.gate.parameters import Reg

_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "txt": "text/plain"}
_CACHE: Final = {"cache-control": "no-cache"}


@runtime_checkable  # the framework looks at what it hands over
class Dashboard(Protocol):
    """What is served at `/`, and the assets that it asks for."""

    @property
    def page(self) -> bytes:
        """The page that loads all else."""

    def read(self, name: str) -> bytes | None:
        """The file of that name, or None where there is none."""


class NoDashboard:
    """In place of one that was not built: a page that says how to have it."""

    @property
    def page(self) -> bytes:
        """The page that says so."""
        return _read("no-dashboard.html")

    def read(self, name: str) -> bytes | None:
        """None: it has no files."""
        del name
        return None


Shown = NamedDependency[Dashboard]


@get("/", include_in_schema=False)
async def front_page(
    registry: Reg, logins: Sessions, dashboard: Shown, request: Request[Any, Any, Any]
) -> Response[bytes]:
    needs_login = registry.settings.auth and login_in(request, logins) is None
    # Not to be kept: which of the two it is depends on the cookie.
    return Response(_read("login.html") if needs_login else dashboard.page, media_type="text/html")


@get("/assets/{name:str}", include_in_schema=False)
async def asset(dashboard: Shown, name: FromPath[str]) -> Response[bytes]:
    media_type = _TYPES.get(name.rpartition(".")[2])
    if media_type is None:
        raise NotFoundException
    found = dashboard.read(name)
    return Response(_read(name) if found is None else found, media_type=media_type, headers=_CACHE)


@get("/docs", include_in_schema=False)
async def docs_page(request: Request[Any, Any, Any]) -> Response[str]:
    return Response(render_docs(document_of(request.app)), media_type="text/html", headers=_CACHE)


def _read(name: str) -> bytes:
    known = {file.name: file for file in (resources.files(__package__) / "assets").iterdir()}
    if name not in known:
        raise NotFoundException
    return known[name].read_bytes()
