"""Who comes in: one place that all requests pass, and by which a route is closed unless it is said here to be open.

What is not open needs a good token, or the session of a browser that logged in by one; reading needs the right to
read, and whatever changes something is authorised by the action that it becomes, in `link`. How much may come from one
caller is looked at here, too: by the token where there is a good one, else by the address, so that whoever fails from
an address keeps nobody out who does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from thunderline.core.errors import CsrfRefused, Refused, ThunderlineError, Unauthenticated
from thunderline.core.sites import site_of
from thunderline.gate.bearers import bearer_in
from thunderline.gate.limits import Headers, Limit, Limits, is_loopback
from thunderline.gate.logins import Logins, check_csrf, check_upgrade, cookie_in
from thunderline.gate.methods import beat_ref
from thunderline.link.actor import LOCAL_OPERATOR, NOBODY, Action, Actor
from thunderline.link.registry import Registry

ACTOR: Final = "thunderline.actor"
"""Where a request's scope says on whose behalf it is."""

AUTHENTICATE: Final = "authenticate"
SEND_REQUESTS: Final = "send requests"
SEND_BEATS: Final = "send heartbeats"
SEND_FROM_A_PAGE: Final = "send a page's request"
"""What the audit log calls what was refused here."""

FRONT_PATH: Final = "/"
"""The page to log in, where nobody has."""
SESSION_PATH: Final = "/api/session"
ASSETS: Final = "/assets/"
_OPEN_TO_READ: Final = frozenset({"/healthz", "/readyz", FRONT_PATH})
_READING: Final = frozenset({"GET", "HEAD"})


class Visit(msgspec.Struct, frozen=True):
    """One request, as it was met at the door."""

    actor: Actor
    error: ThunderlineError | None = None
    """Why it goes no further."""
    headers: Headers = ()
    """What its answer tells of the caller's limit."""


_LOCAL: Final = Visit(LOCAL_OPERATOR)


class Doorkeeper:
    """The one of a server. Without `auth` everybody is the local operator."""

    def __init__(self, registry: Registry, logins: Logins) -> None:
        self.logins = logins
        self.limits = Limits(registry.settings, clock=registry.clock)
        self.asks: Final = registry.settings.auth
        """Whether callers have to show who they are."""
        self._access = registry.access

    def caller(
        self, headers: Mapping[bytes, bytes], *, address: str | None, method: str, path: str, scheme: str = "http"
    ) -> Actor:
        """On whose behalf a request is; names of `headers` are in lower case.

        Raises: Unauthenticated, CsrfRefused, NotPermitted, RateLimited.
        """
        visit = self.meet(headers, address=address, method=method, path=path, scheme=scheme)
        if visit.error is not None:
            raise visit.error
        return visit.actor

    def upgrading(self, headers: Mapping[bytes, bytes], *, address: str | None, path: str, scheme: str) -> Actor:
        """On whose behalf a WebSocket is asked for, which is for reading. A page can only show its `Origin` for it.

        Raises: as `caller`; OriginRefused.
        """
        actor = self.caller(headers, address=address, method="GET", path=path, scheme=scheme)
        if self.asks and cookie_in(headers, scheme=scheme) is not None:
            try:
                check_upgrade(headers, scheme=scheme)
            except Refused as error:
                self.refuse(error, SEND_FROM_A_PAGE, actor=actor, address=address)
                raise
        return actor

    def meet(
        self, headers: Mapping[bytes, bytes], *, address: str | None, method: str, path: str, scheme: str
    ) -> Visit:
        """A request whose head has come; what is refused is noted. A heartbeat is counted by its route."""
        if not self.asks:
            return _LOCAL if address is None or is_loopback(address) else self._by_address(LOCAL_OPERATOR, address)
        if is_open(method, path):
            return self._at_an_open_door(headers, address, scheme, logs_in=method == "POST")
        try:
            actor = self._known(headers, address=address, method=method, scheme=scheme)
        except ThunderlineError as error:
            return self._by_address(NOBODY, address, error)
        headers_told: Headers = ()
        if not (method == "POST" and beat_ref(path) is not None):
            counted = self._by_token(actor)
            if counted.error is not None:
                return counted
            headers_told = counted.headers
        if method in _READING:
            try:
                self._access.authorise(actor, Action.READ)
            except Refused as error:
                return Visit(actor, error, headers_told)
        return Visit(actor, None, headers_told)

    # How much

    def too_many_beats(self, actor: Actor, node_id: str, name: str) -> Visit | None:
        """Count a heartbeat of a node; gives what to answer where it is one too many."""
        beats = self.limits.beats
        wait_s = beats.take(node_id)
        if not wait_s:
            return None
        error = beats.error(wait_s)
        self._access.refusals.note(error, action=SEND_BEATS, actor=actor, subject=name)
        return Visit(actor, error, beats.headers(node_id, wait_s))

    def beat_failed(self, actor: Actor, error: ThunderlineError) -> Visit:
        """What to answer to a heartbeat that was refused before it counted for a node: it counts as any request."""
        if actor.token_id is None:
            return Visit(actor, error)
        counted = self._by_token(actor)
        return Visit(actor, counted.error or error, counted.headers)

    def _by_token(self, actor: Actor) -> Visit:
        assert actor.token_id is not None  # by which it became known
        return self._counted(self.limits.tokens, actor.token_id, actor, actor.address)

    def _by_address(self, actor: Actor, address: str | None, error: ThunderlineError | None = None) -> Visit:
        return self._counted(self.limits.addresses, site_of(address), actor, address, error)

    def _counted(
        self,
        limit: Limit,
        key: str,
        actor: Actor,
        address: str | None,
        error: ThunderlineError | None = None,
    ) -> Visit:
        wait_s = limit.take(key)
        if wait_s:
            error = limit.error(wait_s)
            self._access.refusals.note(error, action=SEND_REQUESTS, actor=actor, address=address)
        return Visit(actor, error, limit.headers(key, wait_s))

    # Who

    def _at_an_open_door(
        self, headers: Mapping[bytes, bytes], address: str | None, scheme: str, *, logs_in: bool
    ) -> Visit:
        cookie = cookie_in(headers, scheme=scheme)
        login = None if cookie is None else self.logins.find(cookie)
        if login is None or logs_in:
            return self._by_address(NOBODY, address)
        # Many browsers may be behind one address, and load the page at once.
        return self._counted(self.limits.tokens, login.token_id, NOBODY, address)

    def _known(self, headers: Mapping[bytes, bytes], *, address: str | None, method: str, scheme: str) -> Actor:
        try:
            text, cookie = bearer_in(headers), cookie_in(headers, scheme=scheme)
            if text is None and cookie is None:
                raise Unauthenticated
            if text is not None and cookie is not None:
                raise Unauthenticated("this came with a token and with a session's cookie; send one of the two")
        except Unauthenticated as error:
            raise self.refuse(error, address=address) from None
        if text is not None:
            return self._access.authenticate(text, address=address)
        assert cookie is not None
        actor = self.logins.actor_of(cookie, address=address)
        if actor is None:
            raise self.refuse(Unauthenticated("this browser is not logged in any more; log in again"), address=address)
        try:
            check_csrf(headers, method=method, scheme=scheme)
        except CsrfRefused as error:
            raise self.refuse(error, SEND_FROM_A_PAGE, actor=actor, address=address) from None
        return actor

    def stranger(self, address: str | None) -> None:
        """Count somebody who shows no good token for what stays open. Raises: RateLimited."""
        visit = self._by_address(NOBODY, address)
        if visit.error is not None:
            raise visit.error

    def refuse(
        self,
        error: ThunderlineError,
        action: str = AUTHENTICATE,
        *,
        actor: Actor | None = None,
        address: str | None,
    ) -> ThunderlineError:
        """The error, noted."""
        self._access.refusals.note(error, action=action, actor=actor, address=address)
        return error


def is_open(method: str, path: str) -> bool:
    """Whether nobody has to show who they are: for being probed, and for logging in. What a server can do, at `/docs`
    and `/schema`, is for those who may read."""
    path = path.removesuffix("/") or FRONT_PATH
    if method == "OPTIONS" or path == SESSION_PATH:
        return True
    return method in _READING and (path in _OPEN_TO_READ or path.startswith(ASSETS))


def actor_in(scope: Mapping[str, Any]) -> Actor:
    """On whose behalf a request is that the edge let through."""
    actor: Actor = scope[ACTOR]
    return actor
