"""Browsers that have logged in: their sessions, the cookie that shows one, and what has to come with that cookie.

A session stands for the token that it was opened with: who it lets one be is asked anew each time, so that it ends
with the token. Sessions are in the memory of this process alone; a restart ends them all.

A browser sends a cookie along whichever page asks, and to whatever listens on another port of the same host. Against
the first stand `SameSite=Strict` and `check_csrf`, against the second nothing: TLS, where each service has a name of
its own. Source: RFC 6265bis, section 4.1.3 (prefixes of names) and 8.5 (ports).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec

from thunderline.core.access import Scope, Token, TokenKind, implied
from thunderline.core.errors import CsrfRefused, NotPermitted, OriginRefused, Refused, TokenRevoked, Unauthenticated
from thunderline.core.ids import TokenId
from thunderline.link.actor import Actor, ActorKind
from thunderline.link.registry import Registry

SESSIONS_MAX: Final = 10_000
"""Open at once, some 5 MB; one more ends the one that was used the longest time ago."""

PER_TOKEN_MAX: Final = 100
"""Of them by one token, so that its holder ends no one else's. It is the number of browsers that can share a token."""

CSRF_HEADER: Final = "X-Thunderline"
CSRF_VALUE: Final = "1"
"""A page of another site cannot send a header of its own without asking first, and is never told that it may."""

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_ID_BYTES: Final = 32


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """A session: whose, and until when."""

    token_id: TokenId
    name: str
    """The token's."""
    scopes: tuple[Scope, ...]
    expires_at: datetime
    """When it ends at the latest, for people to read; `deadline` decides."""
    deadline: float
    """Monotonic seconds."""


class Logins:
    """The sessions of one process. Of their ids only the SHA-256 is kept, as of tokens."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        # Both in the order of their last use.
        self._logins: dict[bytes, Login] = {}
        self._by_token: dict[TokenId, dict[bytes, None]] = {}

    def __len__(self) -> int:
        return len(self._logins)

    def open(self, token_text: str, *, address: str | None) -> str:
        """A new session by this token; gives the value of its cookie.

        Raises: Unauthenticated; NotPermitted for a token that is not for reading, or of a node. What is refused is
        noted.
        """
        access = self._registry.access
        try:
            token = access.token_of(token_text)
            if token.kind is not TokenKind.TOKEN or Scope.READ not in implied(token.scopes):
                raise NotPermitted(f"{token.kind}:{token.name}", "log in: that takes a token of scope `read` or wider")
        except Refused as error:
            access.refusals.note(error, action="log in", address=address, actor=access.shown_by(token_text))
            raise
        value = secrets.token_urlsafe(_ID_BYTES)
        self._keep(_digest(value), self._login(token))
        return value

    def find(self, value: str) -> Login | None:
        """The session, while its token is good; None where there is none, or it is over."""
        login = self._find(value)
        if login is None:
            return None
        try:
            self._token_of(login)
        except Unauthenticated:
            return None
        return login

    def actor_of(self, value: str, *, address: str | None) -> Actor | None:
        """Who the session lets one be; None where there is none, or its time is over.

        Raises: TokenRevoked, TokenExpired where its token is not good any more, which is noted.
        """
        login = self._find(value)
        if login is None:
            return None
        access = self._registry.access
        try:
            token = self._token_of(login)
        except Unauthenticated as error:
            # The session is kept until its time is over: all that its page asks for next is told the same.
            shown = Actor(kind=ActorKind.READER, name=login.name, token_id=login.token_id)
            access.refusals.note(error, action="authenticate", actor=shown, address=address)
            raise
        return access.actor_of(token, address=address)

    def close(self, value: str) -> None:
        """End the session; idempotent."""
        digest = _digest(value)
        login = self._logins.get(digest)
        if login is not None:
            self._drop(digest, login)

    def _find(self, value: str) -> Login | None:
        digest = _digest(value)
        login = self._logins.get(digest)
        if login is None:
            return None
        self._drop(digest, login)
        if self._registry.clock.monotonic() >= login.deadline:
            return None
        self._put(digest, login)
        return login

    def _token_of(self, login: Login) -> Token:
        token = self._registry.roster.tokens.get(login.token_id)
        if token is None:
            raise TokenRevoked(login.name)
        self._registry.access.check(token)
        return token

    def _login(self, token: Token) -> Login:
        clock, ttl_s = self._registry.clock, self._registry.settings.session_ttl_s
        ends_at = clock.now() + timedelta(seconds=ttl_s)
        return Login(
            token_id=token.id,
            name=token.name,
            scopes=token.scopes,
            expires_at=ends_at if token.expires_at is None else min(ends_at, token.expires_at),
            deadline=clock.monotonic() + ttl_s,
        )

    def _keep(self, digest: bytes, login: Login) -> None:
        self._put(digest, login)
        others = self._by_token[login.token_id]
        if len(others) > PER_TOKEN_MAX:
            self._drop(next(iter(others)), login)
        elif len(self._logins) > SESSIONS_MAX:
            oldest = next(iter(self._logins))
            self._drop(oldest, self._logins[oldest])

    def _put(self, digest: bytes, login: Login) -> None:
        self._logins[digest] = login
        self._by_token.setdefault(login.token_id, {})[digest] = None

    def _drop(self, digest: bytes, login: Login) -> None:
        del self._logins[digest]
        same = self._by_token[login.token_id]
        del same[digest]
        if not same:
            del self._by_token[login.token_id]


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode()).digest()


# The cookie


def cookie_name(headers: Mapping[bytes, bytes], *, scheme: str) -> str:
    """What the cookie is called at the host that these headers name.

    With the port, as a browser keeps one jar for all ports of a host. Over TLS the prefix has it refuse a cookie of
    that name from a neighbouring host, or from a connection that somebody could meddle with.
    """
    host = headers.get(b"host", b"").decode("latin-1")
    port = host.rpartition(":")[2]
    name = f"thunderline-{port}" if port.isascii() and port.isdigit() else "thunderline"
    return f"__Host-{name}" if scheme == "https" else name


def cookie_in(headers: Mapping[bytes, bytes], *, scheme: str) -> str | None:
    """The value of the session's cookie; None without one, or with two, of which one would be somebody else's."""
    text = headers.get(b"cookie")
    if text is None:
        return None
    start = cookie_name(headers, scheme=scheme) + "="
    pairs = (pair.strip(" \t") for pair in text.decode("latin-1").split(";"))
    values = [pair[len(start) :] for pair in pairs if pair.startswith(start)]
    return values[0] if len(values) == 1 and values[0] else None


def set_cookie(headers: Mapping[bytes, bytes], value: str, *, scheme: str, max_age_s: int) -> str:
    """The `Set-Cookie` that gives a browser its session for `max_age_s` seconds; 0 takes it away."""
    secure = "; Secure" if scheme == "https" else ""
    name = cookie_name(headers, scheme=scheme)
    return f"{name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}"


# What has to come with it


def check_csrf(headers: Mapping[bytes, bytes], *, method: str, scheme: str) -> None:
    """Return if a request with a session's cookie is of a page of ours, as far as it may change anything.

    Raises: CsrfRefused.
    """
    if method in SAFE_METHODS:
        return
    told = headers.get(CSRF_HEADER.lower().encode())
    if told != CSRF_VALUE.encode() or headers.get(b"origin") != _own_origin(headers, scheme):
        raise CsrfRefused(f"{CSRF_HEADER}: {CSRF_VALUE}")


def check_upgrade(headers: Mapping[bytes, bytes], *, scheme: str) -> None:
    """Return if a WebSocket is asked for, with a session's cookie, by a page of ours: it can send no header more.

    Raises: OriginRefused, also where there is no `Origin`.
    """
    origin = headers.get(b"origin", b"")
    if origin != _own_origin(headers, scheme):
        raise OriginRefused(origin.decode("latin-1"))


def _own_origin(headers: Mapping[bytes, bytes], scheme: str) -> bytes:
    return scheme.encode() + b"://" + headers.get(b"host", b"")
