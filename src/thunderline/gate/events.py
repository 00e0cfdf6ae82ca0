"""The route of the event log."""

from __future__ import annotations

from typing import Annotated, Final

from litestar import Response, Router, get
from litestar.params import QueryParameter

from thunderline.core.errors import CursorGone, InvalidInput
from thunderline.core.ids import Revision
from thunderline.flow.match import Pattern
from thunderline.gate.bodies import EventsBody, answer, events_json
from thunderline.gate.openapi import documented
from thunderline.gate.parameters import PAGE_DEFAULT, Limit, Reg
from thunderline.link.registry import Registry


@get(
    "/",
    opt=documented(
        "A page of the event log, oldest first. Go on from `next_since`, which moves on past events that do not match "
        "too. A cursor that this log cannot continue from is a 410: list again.",
        answers={200: EventsBody},
        errors=(410,),
    ),
)
async def list_events(
    registry: Reg,
    since: Annotated[str | None, QueryParameter(description="Cursor; absent or 0: from the oldest kept.")] = None,
    before: Annotated[str | None, QueryParameter(description="Cursor; only events before its revision.")] = None,
    match: Annotated[str, QueryParameter(description="Pattern, e.g. `cluster.node.*` or `cluster.>`.")] = ">",
    limit: Limit = PAGE_DEFAULT,
) -> Response[bytes]:
    page = await registry.events_page(
        since=registry.revision_of(since),
        before=None if before is None else _revision_before(registry, before),
        pattern=Pattern(match),
        limit=limit,
    )
    next_since = registry.cursor_at(page.next_since)
    return answer(events_json(page.events, next_since=next_since, revision=page.revision), registry)


def _revision_before(registry: Registry, before: str) -> Revision:
    try:
        return registry.revision_of(before)
    except InvalidInput as error:
        raise InvalidInput("before", error.problem) from error
    except CursorGone as error:
        # Whoever reads cursors knows only `since`.
        error.field = "before"
        error.args = (str(error).replace("since", "before", 1),)
        raise


ROUTES: Final = Router("/api/events", route_handlers=[list_events], tags=["events"])
