"""The route of the event log: a page of it, or a stream, as the client accepts."""

from __future__ import annotations

from typing import Annotated, Any, Final

from litestar import Request, Response, Router, get
from litestar.params import HeaderParameter, QueryParameter

from thunderline.core.errors import CursorGone, InvalidInput
from thunderline.core.ids import Revision
from thunderline.flow.match import GRAMMAR, PATTERN_MAX, Pattern
from thunderline.gate.bodies import EventsBody, answer, events_json
from thunderline.gate.doorkeeper import actor_in
from thunderline.gate.encoded import EncodedEvents
from thunderline.gate.openapi import documented
from thunderline.gate.parameters import CURSOR, PAGE_DEFAULT, Encoded, Limit, Reg
from thunderline.gate.sse import STREAM_TYPE, EventStream, reset_answer
from thunderline.link.actor import Actor
from thunderline.link.registry import Registry

_PAGE_TYPE: Final = "application/json"


@get(
    "/",
    opt=documented(
        "A page of the event log, oldest first. Go on from `next_since`, which moves on past events that do not match "
        "too. A cursor that this log cannot continue from is a 410: list again. With `Accept: text/event-stream` the "
        "answer is a stream that goes on with what happens: one message per event, `id` its cursor, `event` its name, "
        "`data` the same object as in a page; events that are not in the log, heartbeats, have no `id`. Every 15 s of "
        "silence a message with only an `id` moves the cursor on. A stream that the server ends says why and where to "
        "go on in a last message, `thunderline.cut`; one that cannot go on from its cursor is a single message, "
        "`thunderline.reset`: list again.",
        answers={200: EventsBody},
        streams=True,
        errors=(410,),
    ),
)
async def list_events(
    request: Request[Any, Any, Any],
    registry: Reg,
    encoded: Encoded,
    since: Annotated[
        str | None, QueryParameter(schema_extra=CURSOR, description="Cursor; absent or 0: from the oldest kept.")
    ] = None,
    before: Annotated[
        str | None, QueryParameter(schema_extra=CURSOR, description="Cursor; only events before its revision.")
    ] = None,
    match: Annotated[
        str,
        QueryParameter(
            schema_extra={"pattern": GRAMMAR, "max_length": PATTERN_MAX},
            description="Pattern, e.g. `cluster.node.*` or `cluster.>`.",
        ),
    ] = ">",
    limit: Limit = PAGE_DEFAULT,
    transient: Annotated[
        bool | None,
        QueryParameter(
            description="Whether a stream tells events that are not in the log: heartbeats, of a node 4 a second at "
            "most. By default where the pattern spells the word `heartbeat`."
        ),
    ] = None,
    damped: Annotated[
        bool,
        QueryParameter(
            description="Whether changes of status of nodes that are marked as `flapping` are left out; that a node "
            "began to flap, or no longer does, is told as `cluster.node.updated`."
        ),
    ] = False,
    last_event_id: Annotated[
        str | None,
        HeaderParameter(name="Last-Event-ID", description="Of a stream: the cursor; wins over `since`."),
    ] = None,
) -> Response[bytes]:
    if request.accept.best_match([_PAGE_TYPE, STREAM_TYPE], default=_PAGE_TYPE) == STREAM_TYPE:
        return _stream(
            request,
            registry,
            match,
            since=since,
            last_event_id=last_event_id,
            transient=transient,
            damped=damped,
            encoded=encoded,
            actor=actor_in(request.scope),
        )
    page = await registry.log.page(
        since=registry.log.revision_of(since),
        before=None if before is None else _revision_in("before", registry, before),
        pattern=Pattern(match, damped=damped),
        limit=limit,
    )
    next_since = registry.log.cursor_at(page.next_since)
    return answer(events_json(page.events, next_since=next_since, revision=page.revision), registry)


def _stream(
    request: Request[Any, Any, Any],
    registry: Registry,
    match: str,
    *,
    since: str | None,
    last_event_id: str | None,
    transient: bool | None,
    damped: bool,
    encoded: EncodedEvents,
    actor: Actor,
) -> Response[bytes]:
    for name in ("before", "limit"):
        if name in request.query_params:
            raise InvalidInput(name, "is of a page; a stream has no end")
    if last_event_id is not None:
        try:
            _revision_in("Last-Event-ID", registry, last_event_id)
        except CursorGone as error:
            return reset_answer(error)
        since = last_event_id
    # Without a cursor: from the oldest kept, as a page; who embeds the registry and names none watches from now on.
    try:
        watch = registry.subscribe(match, since=since or "0", transient=transient, paced=True, damped=damped)
    except CursorGone as error:
        return reset_answer(error)
    return EventStream(registry, watch, encoded, actor=actor)


def _revision_in(field: str, registry: Registry, cursor: str) -> Revision:
    try:
        return registry.log.revision_of(cursor)
    except InvalidInput as error:
        raise InvalidInput(field, error.problem) from error
    except CursorGone as error:
        # Whoever reads cursors knows only `since`.
        raise CursorGone(error.cursor, why=error.why, field=field) from error


ROUTES: Final = Router("/api/events", route_handlers=[list_events], tags=["events"])
