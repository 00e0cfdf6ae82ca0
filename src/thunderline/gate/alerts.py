"""The routes of alerts: what fires, who has taken it on, and silences."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Annotated, Final, TypeVar

import msgspec
from litestar import Response, Router, delete, get, post
from litestar.params import FromQuery, PathParameter, QueryParameter, RawBody

from thunderline.core.alerts import Alert, AlertState, Matcher, PendingAlert, Severity, Silence
from thunderline.core.inputs import AcknowledgeInput, NewSilence, read_json
from thunderline.gate.bodies import answer, encode
from thunderline.gate.conditions import NEVER_KEEP, Asked
from thunderline.gate.doorkeeper import actor_in
from thunderline.gate.once import Reply, keyed, once, reply_answer
from thunderline.gate.openapi import documented
from thunderline.gate.page_cursor import read_page_cursor, write_page_cursor
from thunderline.gate.parameters import PAGE_DEFAULT, Caller, Limit, Reg
from thunderline.link.alert_domain import AlertFilter, alert_key
from thunderline.link.conditions import Keeping
from thunderline.link.overlay import Overlay
from thunderline.link.registry import Registry

V = TypeVar("V")

_SILENCE: Final = msgspec.json.Decoder(NewSilence)
_ACKNOWLEDGE: Final = msgspec.json.Decoder(AcknowledgeInput)

AlertRef = Annotated[str, PathParameter(description="An alert's id.")]
SilenceRef = Annotated[str, PathParameter(description="A silence's id.")]


class ShownAlert(Alert, frozen=True, kw_only=True):
    """An alert, its state, and the silence that keeps it from being told now."""

    state: AlertState
    silenced_by: str | None


class AlertsBody(msgspec.Struct, frozen=True, kw_only=True):
    """A page of alerts, the newest first; what is pending stands on the first page, the oldest first."""

    alerts: Sequence[ShownAlert]
    pending: Sequence[PendingAlert]
    next_cursor: str | None
    revision: int


class AlertBody(msgspec.Struct, frozen=True, kw_only=True):
    """One alert."""

    alert: ShownAlert


class ShownSilence(msgspec.Struct, frozen=True, kw_only=True):
    """A silence, and whether it holds now."""

    id: str
    matchers: Sequence[Matcher]
    until: datetime
    by: str
    at: datetime
    reason: str | None
    active: bool


class SilenceBody(msgspec.Struct, frozen=True, kw_only=True):
    """One silence."""

    silence: ShownSilence


class SilencesBody(msgspec.Struct, frozen=True, kw_only=True):
    """All silences, the oldest first."""

    silences: Sequence[ShownSilence]


@get(
    "/",
    opt=documented(
        "List alerts: what fires, what was resolved within the last day, and what is pending. The log has the others, "
        "as `alert.*`.",
        answers={200: AlertsBody},
    ),
)
async def list_alerts(
    registry: Reg,
    actor: Caller,
    in_state: Annotated[AlertState | None, QueryParameter(name="state", description="Only what is in it.")] = None,
    severity: FromQuery[Severity | None] = None,
    rule: Annotated[str | None, QueryParameter(description="Only of the rule of that name.")] = None,
    node: Annotated[
        str | None, QueryParameter(description="Only what is about the node of that name, among others, too.")
    ] = None,
    silenced: Annotated[bool | None, QueryParameter(description="Only what a silence keeps, or does not.")] = None,
    acknowledged: Annotated[bool | None, QueryParameter(description="Only what somebody took on, or did not.")] = None,
    limit: Limit = PAGE_DEFAULT,
    cursor: Annotated[str | None, QueryParameter(description="`next_cursor` of the page before, same filters.")] = None,
) -> Response[bytes]:
    wanted = AlertFilter(
        state=in_state, severity=severity, rule=rule, node=node, silenced=silenced, acknowledged=acknowledged
    )
    after = None if cursor is None else read_page_cursor(cursor, wanted, tuple[str, str])
    found, more = registry.alerts.list_alerts(wanted, actor=actor, after=after, limit=limit)
    shows_pending = in_state in (None, AlertState.PENDING) and cursor is None and not silenced and not acknowledged
    pending = [
        alert
        for alert in (registry.alerts.list_pending(actor=actor) if shows_pending else ())
        if (severity is None or alert.severity is severity)
        and (rule is None or alert.rule == rule)
        and (node is None or alert.labels.get("node") == node)
    ]
    body = AlertsBody(
        alerts=[_shown(alert, registry) for alert in found],
        pending=pending,
        next_cursor=write_page_cursor(alert_key(found[-1]), wanted) if more else None,
        revision=registry.roster.revision,
    )
    return answer(encode(body), registry, cache=NEVER_KEEP)


@get("/{alert:str}", opt=documented("One alert.", answers={200: AlertBody}, errors=(404,)))
async def get_alert(registry: Reg, actor: Caller, alert: AlertRef) -> Response[bytes]:
    found = registry.alerts.get_alert(alert, actor=actor)
    return answer(_alert_json(found, registry), registry, cache=NEVER_KEEP)


@post(
    "/{alert:str}/ack",
    status_code=200,
    opt=documented(
        "Take a firing alert on, so that others know. One that somebody has taken on stays theirs; one that was "
        "resolved is a 409 `alert_over`.",
        body=AcknowledgeInput,
        body_required=False,
        answers={200: AlertBody},
        errors=(404, 409),
        keyed=True,
    ),
)
async def acknowledge(registry: Reg, actor: Caller, request: Asked, alert: AlertRef, body: RawBody) -> Response[bytes]:
    wanted = read_json(body, _ACKNOWLEDGE) if body else AcknowledgeInput()

    def told(taken: Alert, overlay: Overlay | None) -> Reply:
        return Reply(200, _alert_json(taken, registry))

    return await _change(
        registry,
        request,
        body,
        lambda keeping: registry.alerts.acknowledge(alert, wanted, actor=actor, under=keeping),
        told,
    )


@get("/silences", opt=documented("List silences, the oldest first.", answers={200: SilencesBody}))
async def list_silences(registry: Reg, actor: Caller) -> Response[bytes]:
    body = SilencesBody(
        silences=[_shown_silence(each, registry) for each in registry.alerts.list_silences(actor=actor)]
    )
    return answer(encode(body), registry, cache=NEVER_KEEP)


@post(
    "/silences",
    opt=documented(
        "Silence alerts: as long as it holds, those for which all `matchers` hold fire and are resolved without being "
        "told. What fires still when it ends is told then.",
        body=NewSilence,
        answers={201: SilenceBody},
        errors=(403,),
        keyed=True,
    ),
)
async def silence(registry: Reg, actor: Caller, request: Asked, body: RawBody) -> Response[bytes]:
    wanted = read_json(body, _SILENCE)

    def told(made: Silence, overlay: Overlay | None) -> Reply:
        return Reply(201, encode(SilenceBody(silence=_shown_silence(made, registry))))

    return await _change(
        registry, request, body, lambda keeping: registry.alerts.silence(wanted, actor=actor, under=keeping), told
    )


@delete(
    "/silences/{silence_id:str}",
    status_code=204,
    opt=documented("End a silence.", answers={204: None}, errors=(404,)),
)
async def unsilence(registry: Reg, actor: Caller, silence_id: SilenceRef) -> None:
    await registry.alerts.unsilence(silence_id, actor=actor)


async def _change(
    registry: Registry,
    request: Asked,
    body: bytes,
    act: Callable[[Keeping | None], Awaitable[V]],
    told: Callable[[V, Overlay | None], Reply],
) -> Response[bytes]:
    named = keyed(request.scope, body, actor_in(request.scope))
    return reply_answer(registry, await once(registry, named, act, told))


def _alert_json(alert: Alert, registry: Registry) -> bytes:
    return encode(AlertBody(alert=_shown(alert, registry)))


def _shown(alert: Alert, registry: Registry) -> ShownAlert:
    silencer = registry.alerts.silencer(alert)
    record = {field: getattr(alert, field) for field in alert.__struct_fields__}
    return ShownAlert(**record, state=alert.state, silenced_by=None if silencer is None else silencer.id)


def _shown_silence(found: Silence, registry: Registry) -> ShownSilence:
    return ShownSilence(
        id=found.id,
        matchers=found.matchers,
        until=found.until,
        by=found.by,
        at=found.at,
        reason=found.reason,
        active=registry.clock.now() < found.until,
    )


ROUTES: Final = Router(
    "/api/alerts",
    route_handlers=[list_alerts, get_alert, acknowledge, list_silences, silence, unsilence],
    tags=["alerts"],
)
