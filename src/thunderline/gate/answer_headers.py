"""What every answer tells a browser to keep it from: one place for all routes, the plain ones and the framework's.

The lists are made once. An answer's own `Cache-Control` stands; one without is not kept by anybody. Source: Fetch
(`Cross-Origin-Resource-Policy`, `X-Content-Type-Options`), HTML (`Cross-Origin-Opener-Policy`), CSP Level 3, Trusted
Types, RFC 6797 (`Strict-Transport-Security`).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final

from thunderline.gate.edge import AsgiApp, Message, Receive, Scope, Send

Headers = list[tuple[bytes, bytes]]

PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types thunderline-layout"
)
"""Pages load what this server has, and nothing that stands in themselves; no form of theirs goes anywhere, so that a
token cannot get into an address, whatever becomes of their scripts. Text never becomes script or markup; the one policy
is the dashboard's, which makes the address of its own worker and no other."""

API_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"

HSTS_S: Final = 31_536_000
"""For so long a browser that came by TLS comes by nothing else, to any port of the host. Browsers heed it for names
alone, not for addresses."""

_KEEP_NOTHING: Final = (b"cache-control", b"no-store")
_BEATS: Final[Headers] = [(b"x-content-type-options", b"nosniff")]
"""To beats, which no browser sends: each header more costs a hundredth of what the whole request does."""
_API: Final[Headers] = [
    *_BEATS,
    (b"content-security-policy", API_POLICY.encode()),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]
_PAGES: Final[Headers] = [
    *_BEATS,
    (b"content-security-policy", PAGE_POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]
_SECURE: Final = (b"strict-transport-security", f"max-age={HSTS_S}".encode())
_API_SECURE: Final[Headers] = [*_API, _SECURE]
_PAGES_SECURE: Final[Headers] = [*_PAGES, _SECURE]
_PAGE_PATHS: Final = frozenset({"/", "/docs", "/docs/"})
_ASSETS: Final = "/assets/"
_BEATS_PATH: Final = "/heartbeats"


class AnswerHeaders:
    """`app`, whose every answer gets them."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self._app(scope, receive, send)
        added = _headers_for(scope)

        # No coroutines of their own, here and above: each answer would pay for them.
        def completing(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                given: Headers = message["headers"]
                message["headers"] = [*given, *added]
                if added is not _BEATS and not any(name == b"cache-control" for name, _ in given):
                    message["headers"].append(_KEEP_NOTHING)
            return send(message)

        return self._app(scope, receive, completing)


def _headers_for(scope: Scope) -> Headers:
    path: str = scope["path"]
    if scope["method"] == "POST" and path.endswith(_BEATS_PATH):
        return _BEATS
    is_secure = scope["scheme"] == "https"
    if path in _PAGE_PATHS or path.startswith(_ASSETS):
        return _PAGES_SECURE if is_secure else _PAGES
    return _API_SECURE if is_secure else _API
