"""`POST /api/nodes/{id}/heartbeats`, the one hot route, answered without the framework in between.

Its checks, its errors and its documentation are those of every other route; only the way to it is shorter.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl

import msgspec

from thunderline.core.errors import ThunderlineError
from thunderline.core.inputs import HeartbeatInput, read_json
from thunderline.gate.bodies import REVISION_HEADER, HeartbeatBody, encode
from thunderline.gate.doorkeeper import Doorkeeper, Visit, actor_in
from thunderline.gate.edge import AsgiApp, Receive, Scope, Send, read_body, send_json, send_problem
from thunderline.gate.methods import beat_ref
from thunderline.gate.parameters import unknown_parameter
from thunderline.link.registry import Registry

_DECODER: Final = msgspec.json.Decoder(HeartbeatInput)


class BeatRoute:
    """Answers beats itself and hands everything else to `app`."""

    def __init__(self, app: AsgiApp, registry: Registry, doorkeeper: Doorkeeper) -> None:
        self._app = app
        self._registry = registry
        self._doorkeeper = doorkeeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            ref = beat_ref(scope["path"])
            if ref is not None:
                await self._take(ref, scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _take(self, ref: str, scope: Scope, receive: Receive, send: Send) -> None:
        registry, actor = self._registry, actor_in(scope)
        refused: Visit | None = None
        try:
            if scope["query_string"]:
                _refuse_parameters(scope["query_string"])
            body = await read_body(receive)
            beat = read_json(body, _DECODER)
            entry = registry.roster.find(ref)
            # The body may have been long in coming, and a token that was revoked meanwhile is no sign of life.
            registry.access.still(actor)
            registry.domain.hear(entry, beat, actor=actor)
        except ThunderlineError as error:
            refused = self._doorkeeper.beat_failed(actor, error)
        else:
            # Not before: nobody but who may speak for a node can use up what is taken from it.
            refused = self._doorkeeper.too_many_beats(actor, entry.node.id, entry.node.name)
        if refused is not None and refused.error is not None:
            await send_problem(send, refused.error, headers=refused.headers)
            return
        try:
            kept = await registry.domain.keep_beat(entry, beat, actor=actor)
        except ThunderlineError as error:
            await send_problem(send, error)
            return
        answer = encode(HeartbeatBody(heartbeat=kept.heartbeat, next_interval_ms=kept.next_interval_ms))
        revision = (REVISION_HEADER.encode(), str(registry.roster.revision).encode())
        await send_json(send, 200 if kept.repeated else 201, answer, headers=[revision])


def _refuse_parameters(query: bytes) -> None:
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        raise unknown_parameter(name, known=())
