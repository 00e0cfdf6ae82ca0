"""`/api/session`: a browser logs in, asks who it is, and logs out. Anybody may ask; what it takes stands here."""

from __future__ import annotations

import contextlib
import math
from datetime import datetime
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, Router, delete, get, post
from litestar.di import NamedDependency
from litestar.params import RawBody

from thunderline.core.access import Scope
from thunderline.core.errors import CsrfRefused, InvalidInput, OutcomeUnknown, Unauthenticated, Unavailable
from thunderline.core.inputs import read_json
from thunderline.core.logging import get_logger
from thunderline.gate.bodies import answer, encode
from thunderline.gate.doorkeeper import SEND_FROM_A_PAGE, SESSION_PATH
from thunderline.gate.logins import CSRF_HEADER, CSRF_VALUE, Login, Logins, check_csrf, cookie_in, set_cookie
from thunderline.gate.openapi import documented
from thunderline.gate.parameters import Reg
from thunderline.link.actor import Actor
from thunderline.link.registry import Registry

log = get_logger(__name__)

OPENED: Final = "session.opened"
CLOSED: Final = "session.closed"

Sessions = NamedDependency[Logins]
Asked = Request[Any, Any, Any]


class LoginInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """By which token a browser logs in."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=255, description="Of scope `read` or wider.")]

    def __repr__(self) -> str:
        return "<LoginInput>"  # a secret must not reach a log


class BrowserSession(msgspec.Struct, frozen=True, kw_only=True):
    """Who is logged in, by the token of that name."""

    name: str
    scopes: tuple[Scope, ...]
    expires_at: datetime
    """When it ends, unless the token is revoked before."""


class LoggedInBody(msgspec.Struct, frozen=True, kw_only=True):
    """The session that was opened."""

    session: BrowserSession


class WhoBody(msgspec.Struct, frozen=True, kw_only=True):
    """Whether anybody has to log in here (`auth`), and who has in this browser."""

    auth: bool
    session: BrowserSession | None


_LOGIN: Final = msgspec.json.Decoder(LoginInput)


@post(
    "/",
    opt=documented(
        "Log a browser in by a token: the answer sets a cookie that stands for the token until `expires_at`, and no "
        "longer than the token is good. The header `X-Thunderline: 1` is needed. With that cookie, unsafe requests "
        "need the header and the server's own `Origin`, WebSockets that `Origin`. Programs send the token itself, as "
        "`Authorization: Bearer`.",
        body=LoginInput,
        answers={201: LoggedInBody},
        errors=(401, 403, 422, 429),
        guarded=True,
    ),
)
async def log_in(registry: Reg, logins: Sessions, request: Asked, body: RawBody) -> Response[bytes]:
    headers, scheme = dict(request.scope["headers"]), request.scope["scheme"]
    # A page of another site must not log a browser in either, under a name of its own choice.
    if headers.get(CSRF_HEADER.lower().encode()) != CSRF_VALUE.encode():
        raise _noted(registry, request, CsrfRefused(f"{CSRF_HEADER}: {CSRF_VALUE}"))
    if not registry.settings.auth:
        raise InvalidInput("token", "is not needed: this server runs without `auth`, and nobody has to log in")
    wanted = read_json(body, _LOGIN)
    address = _address(request)
    value = logins.open(wanted.token, address=address)
    try:
        actor, login = logins.actor_of(value, address=address), logins.find(value)
        if actor is None or login is None:
            raise Unauthenticated("the session is over already; log in again")
        await _note(registry, OPENED, actor)
    except BaseException:
        logins.close(value)
        raise
    if (before := cookie_in(headers, scheme=scheme)) is not None:
        logins.close(before)
    answered = answer(encode(LoggedInBody(session=_shown(login))), registry, status=201)
    lifetime_s = math.ceil((login.expires_at - registry.clock.now()).total_seconds())
    answered.headers["set-cookie"] = set_cookie(headers, value, scheme=scheme, max_age_s=max(1, lifetime_s))
    return answered


@get(
    "/",
    opt=documented(
        "Who is logged in in this browser. `session` is null where nobody is; with `auth` false nobody has to be.",
        answers={200: WhoBody},
    ),
)
async def who(registry: Reg, logins: Sessions, request: Asked) -> Response[bytes]:
    login = login_in(request, logins)
    body = WhoBody(auth=registry.settings.auth, session=None if login is None else _shown(login))
    return answer(encode(body), registry)


@delete(
    "/",
    status_code=204,
    opt=documented(
        "Log this browser out: its session ends, and its cookie is taken back. Without a session nothing happens.",
        answers={204: None},
        errors=(403,),
    ),
)
async def log_out(registry: Reg, logins: Sessions, request: Asked) -> Response[None]:
    headers, scheme = dict(request.scope["headers"]), request.scope["scheme"]
    value = cookie_in(headers, scheme=scheme)
    if value is not None:
        try:
            check_csrf(headers, method=request.method, scheme=scheme)
        except CsrfRefused as error:
            raise _noted(registry, request, error) from None
        actor = None if logins.find(value) is None else logins.actor_of(value, address=_address(request))
        logins.close(value)
        if actor is not None:
            # A token that is revoked just now has ended the session, too; that is in the log already.
            with contextlib.suppress(Unauthenticated):
                await _note(registry, CLOSED, actor)
    cookie = set_cookie(headers, "", scheme=scheme, max_age_s=0)
    return Response(None, status_code=204, headers={"set-cookie": cookie})


def login_in(request: Asked, logins: Logins) -> Login | None:
    """The good session whose cookie the request has, if any."""
    value = cookie_in(dict(request.scope["headers"]), scheme=request.scope["scheme"])
    return None if value is None else logins.find(value)


def _shown(login: Login) -> BrowserSession:
    return BrowserSession(name=login.name, scopes=login.scopes, expires_at=login.expires_at)


def _address(request: Asked) -> str | None:
    client = request.scope.get("client")
    return None if client is None else client[0]


def _noted(registry: Registry, request: Asked, error: CsrfRefused) -> CsrfRefused:
    registry.access.refusals.note(error, action=SEND_FROM_A_PAGE, address=_address(request))
    return error


async def _note(registry: Registry, action: str, actor: Actor) -> None:
    try:
        await registry.tokens.note(action, subject=actor.name, actor=actor)
    except (Unavailable, OutcomeUnknown) as error:
        # While the store is away people need the page most; and nothing can be changed by it.
        log.warning("audit entry lost", action=action, actor=str(actor), code=error.code)


ROUTES: Final = Router(SESSION_PATH, route_handlers=[log_in, who, log_out], tags=["browser session"])
