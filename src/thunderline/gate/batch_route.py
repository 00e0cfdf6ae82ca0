"""`POST /api/nodes/batch` and `POST /api/heartbeats`: up to 1,000 single calls in one request, in order.

Answered in front of the framework, which would take the name `batch` from the nodes.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

from thunderline.core.errors import BatchRefused, InvalidInput, ThunderlineError
from thunderline.core.logging import get_logger
from thunderline.gate.batches import refusal
from thunderline.gate.bodies import answer_headers
from thunderline.gate.doing_batches import BeatsBatch, NodesBatch
from thunderline.gate.doorkeeper import Doorkeeper, actor_in
from thunderline.gate.edge import AsgiApp, Receive, Scope, Send, read_body, send_json, send_problem, send_refusal
from thunderline.gate.faults import plain_problem
from thunderline.gate.methods import NODE_BATCH_PATH, is_batch
from thunderline.gate.once import REPLAYED_HEADER, Reply, keyed
from thunderline.gate.parameters import unknown_parameter
from thunderline.link.registry import Registry

log = get_logger(__name__)

_BOOLS: Final = {"true": True, "1": True, "false": False, "0": False}


class BatchRoute:
    """Answers batches itself and hands everything else to `app`."""

    def __init__(self, app: AsgiApp, registry: Registry, doorkeeper: Doorkeeper) -> None:
        self._app = app
        self._registry = registry
        self._doorkeeper = doorkeeper

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_batch(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        kind = NodesBatch if scope["path"].startswith(NODE_BATCH_PATH) else BeatsBatch
        try:
            atomic = _read_atomic(scope["query_string"])
            body = await read_body(receive)
            actor = actor_in(scope)
            # The body may have been long in coming: what is heard in it must not be of a token that was revoked since.
            self._registry.access.still(actor)
            request = keyed(scope, body, actor)
            batch = kind(self._registry, body, actor=actor, doorkeeper=self._doorkeeper)
            reply = await (batch.as_one(request) if atomic else batch.one_by_one(request))
        except BatchRefused as error:
            await send_refusal(send, refusal(error, items=kind.items))
        except ThunderlineError as error:
            await send_problem(send, error)
        except Exception:
            # In front of the framework nobody else would tell the caller.
            log.exception("request failed", request=f"POST {scope['path']}")
            detail = "this is a bug of the server; its log has the details"
            problem = plain_problem(HTTPStatus.INTERNAL_SERVER_ERROR, detail, code="internal_error")
            await send_refusal(send, problem)
        else:
            await self._send(reply, send)

    async def _send(self, reply: Reply, send: Send) -> None:
        headers = answer_headers(self._registry)
        if reply.replayed:
            headers[REPLAYED_HEADER] = "true"
        told = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send_json(send, reply.status, reply.body, headers=told)


def _read_atomic(query: bytes) -> bool:
    atomic: bool | None = None
    for name, text in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name != "atomic":
            raise unknown_parameter(name, known=("atomic",))
        if atomic is not None:
            raise InvalidInput("atomic", "is given more than once")
        atomic = _BOOLS.get(text.lower())
        if atomic is None:
            raise InvalidInput("atomic", f"should be true or false, not {text[:40]!r}")
    return bool(atomic)
