"""`Idempotency-Key`: a request that is repeated under its key has its effect once and gets its first answer again.

What is kept is the answer as it was written at the change's turn in a batch, with the change. Only successes are: what
was refused may be tried again under the same key. A request without the header passes through untouched.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from litestar import Response

from thunderline.block.store import KeptAnswer
from thunderline.core.errors import ContentRejected, InvalidInput
from thunderline.core.ids import Revision
from thunderline.core.records import Node
from thunderline.gate.bodies import answer, changed_node_json, node_tag, with_node
from thunderline.gate.conditions import Asked, header
from thunderline.gate.doorkeeper import actor_in
from thunderline.link.actor import Actor
from thunderline.link.answers import KeyedRequest
from thunderline.link.conditions import Keeping, entity_tag
from thunderline.link.domain import NodeDomain
from thunderline.link.overlay import Overlay
from thunderline.link.registry import Registry

V = TypeVar("V")

KEY_HEADER: Final = "Idempotency-Key"
REPLAYED_HEADER: Final = "idempotency-replayed"
_KEY: Final = re.compile(r"[\x20-\x7e]{1,255}")


class Reply(msgspec.Struct, frozen=True):
    """An answer before it is sent; `replayed` if it was given before."""

    status: int
    body: bytes
    tag: str | None = None
    replayed: bool = False


def keyed(scope: Mapping[str, Any], body: bytes, actor: Actor) -> KeyedRequest | None:
    """The request as its key names it; None without one. Raises: InvalidInput."""
    key = header(scope, b"idempotency-key")
    if key is None:
        return None
    if _KEY.fullmatch(key) is None:
        raise InvalidInput(KEY_HEADER, "should be 1 to 255 printable ASCII characters")
    told = (scope["method"].encode(), scope["path"].encode(), scope["query_string"], hashlib.sha256(body).digest())
    return KeyedRequest(actor, key, hashlib.sha256(msgspec.msgpack.encode(told)).digest())


async def once(
    registry: Registry,
    request: KeyedRequest | None,
    act: Callable[[Keeping | None], Awaitable[V]],
    render: Callable[[V, Overlay | None], Reply],
) -> Reply:
    """What `render` makes of what `act` gives, or what the request was answered before.

    With a key `act` has to lay the condition that it is given around its one change; `render` is then called inside
    the plan, with the overlay, and what it gave is kept in the same commit.

    Raises: what `act` does; IdempotencyKeyInUse, IdempotencyKeyReused; StoreUnavailable when it cannot be looked up.
    """
    if request is None:
        return render(await act(None), None)
    answers = registry.answers
    rendered: list[Reply] = []

    def keep(overlay: Overlay, result: V) -> None:
        rendered[:] = [render(result, overlay)]
        answers.keep(overlay, request, status=rendered[0].status, body=rendered[0].body)

    with answers.claimed(request):
        if (kept := await answers.find(request)) is not None:
            return replay(registry, kept)
        try:
            await act(Keeping(keep))
        except ContentRejected:
            # An answer may have been kept since it was looked for, by a request whose caller did not wait for it.
            if (kept := await answers.find(request)) is None:
                raise
            return replay(registry, kept)
        return rendered[0]


class _NodeTold(msgspec.Struct, frozen=True):
    """What of an answer tells the tag of the record that it shows."""

    class Record(msgspec.Struct, frozen=True):
        revision: Revision

    node: Record


_NODE_TOLD: Final = msgspec.json.Decoder(_NodeTold)


def replay(registry: Registry, kept: KeptAnswer) -> Reply:
    """An answer that was kept, with the tag that it had then, if it shows a node."""
    try:
        tag = entity_tag(registry.roster.log_id, _NODE_TOLD.decode(kept.body).node.revision)
    except msgspec.DecodeError:
        tag = None
    return Reply(kept.status, kept.body, tag, replayed=True)


def node_reply(
    registry: Registry,
    node: Node,
    overlay: Overlay | None,
    *,
    status: int = 200,
    extra: Mapping[str, bytes] | None = None,
) -> Reply:
    """A node that was changed, and what else goes with it, as JSON already; `overlay` if it is not committed yet."""
    sessions = None if overlay is None else len(overlay.open_sessions(node.id))
    body = with_node(changed_node_json(node, registry, sessions=sessions), extra or {})
    return Reply(status, body, node_tag(registry, node))


def reply_answer(registry: Registry, reply: Reply) -> Response[bytes]:
    """The framework's answer for `reply`."""
    answered = answer(reply.body, registry, status=reply.status, tag=reply.tag)
    if reply.replayed:
        answered.headers[REPLAYED_HEADER] = "true"
    return answered


async def change(
    registry: Registry,
    asked: Asked,
    body: bytes,
    act: Callable[[NodeDomain], Awaitable[V]],
    render: Callable[[V, Overlay | None], Reply],
) -> Response[bytes]:
    """The framework's answer to a request that changes something by one action of the domain, as `once` gives it."""

    def acting(keeping: Keeping | None) -> Awaitable[V]:
        return act(registry.domain if keeping is None else registry.domain.under(keeping))

    actor = actor_in(asked.scope)
    registry.access.still(actor)  # a body may have been long in coming
    request = keyed(asked.scope, body, actor)
    return reply_answer(registry, await once(registry, request, acting, render))
