"""Conditions of requests: `If-Match` before a change, `If-None-Match` instead of an answer that the client holds.

Source: RFC 9110, sections 8.8.3 and 13.1. A node's tag is its log and its revision, with presence or without: it is
there to be named in `If-Match`. A list's tag is the log, its revision and a digest of what was asked for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from litestar import Request, Response

from thunderline.core.errors import InvalidInput
from thunderline.core.ids import NodeId
from thunderline.gate.bodies import answer_headers
from thunderline.link.conditions import OnlyIf
from thunderline.link.domain import NodeDomain
from thunderline.link.registry import Registry

REVALIDATE: Final = "private, no-cache"
"""The client's own cache may keep the answer, and asks each time whether it still holds; nobody else's may."""
NEVER_KEEP: Final = "no-store"
"""What each beat changes is in the answer."""

_TAG: Final = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_SEPARATOR: Final = re.compile(r"[ \t]*(,[ \t]*|$)")

Asked = Request[Any, Any, Any]


def header(scope: Mapping[str, Any], name: bytes) -> str | None:
    """The value of a request's header, of a repeated one all values with commas between; None if it has none."""
    found = [value for key, value in scope["headers"] if key == name]
    return b", ".join(found).decode("latin-1") if found else None


def read_tags(field: str, text: str) -> list[tuple[bool, str]] | None:
    """The entity tags of a condition, each with whether it is weak; None for `*`. Raises: InvalidInput."""
    text = text.strip(" \t")
    if text == "*":
        return None
    found: list[tuple[bool, str]] = []
    place = 0
    while place < len(text):
        # Empty elements of a list are passed over: RFC 9110, section 5.6.1.
        if (tag := _TAG.match(text, place)) is not None:
            found.append((tag[1] is not None, tag[2]))
            place = tag.end()
        separator = _SEPARATOR.match(text, place)
        if separator is None or (tag is None and not separator[1]):
            break
        place = separator.end()
    if not found or place < len(text):
        raise InvalidInput(field, 'should be * or entity tags in quotes, e.g. "log:7", with commas between')
    return found


def only_if(domain: NodeDomain, registry: Registry, scope: Mapping[str, Any], node_id: NodeId) -> NodeDomain:
    """`domain`, whose next action is refused unless the node is as `If-Match` says. Raises: InvalidInput."""
    text = header(scope, b"if-match")
    if text is None:
        return domain
    tags = read_tags("If-Match", text)
    # Strong comparison: a weak tag never matches.
    strong = None if tags is None else frozenset(tag for is_weak, tag in tags if not is_weak)
    return domain.under(OnlyIf(node_id, strong, log_id=registry.roster.log_id))


def matching(registry: Registry, request: Asked, ref: str) -> tuple[NodeId, NodeDomain]:
    """The node that is meant, and the actions under the request's `If-Match`. Raises: UnknownNode, InvalidInput."""
    node_id = registry.find_id(ref)
    return node_id, only_if(registry.domain, registry, request.scope, node_id)


def view_tag(registry: Registry, request: Asked) -> str:
    """The tag of what this query gives while the log stands where it does."""
    asked: Iterable[bytes] = (request.scope["path"].encode(), request.scope["query_string"])
    digest = hashlib.blake2b(b"?".join(asked), digest_size=8).hexdigest()
    return f'"{registry.roster.log_id}:{registry.roster.revision}:{digest}"'


def not_modified(registry: Registry, request: Asked, tag: str) -> Response[None] | None:
    """The answer to a client that holds what `tag` names; None if it has to be told. Raises: InvalidInput."""
    text = header(request.scope, b"if-none-match")
    if text is None:
        return None
    tags = read_tags("If-None-Match", text)
    if tags is not None and all(held != tag for _, held in tags):
        return None
    headers = {**answer_headers(registry), "etag": tag, "cache-control": REVALIDATE}
    return Response(None, status_code=304, headers=headers)
