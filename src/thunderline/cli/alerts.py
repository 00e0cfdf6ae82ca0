"""`thunderline alerts`: what fires, silences, who has taken what on; and rules run over the past."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from thunderline.cli.figures import ago, rfc3339
from thunderline.cli.options import AsJson, Ca, Server, TokenFile
from thunderline.cli.remote import Remote
from thunderline.cli.screen import note, on_terminal, open_console, plain, write_json, write_line, write_rows
from thunderline.cli.when import read_when
from thunderline.client import calls
from thunderline.client.alerts import (
    AlertAnswer,
    AlertPage,
    SilenceAnswer,
    SilencesAnswer,
    ToldAlert,
    ToldSilence,
)
from thunderline.client.calls import Call
from thunderline.core.alerts import AlertState, PendingAlert, Severity, parse_matcher
from thunderline.core.clock import SystemClock, to_ms

if TYPE_CHECKING:
    from thunderline.core.records import Event
    from thunderline.prism.alerts.rehearsal import Found, Rehearsal

_COLUMNS: Final = (
    *("STATE", "SEVERITY", "RULE", "LABELS", "STARTS_AT", "FIRED_AT", "RESOLVED_AT", "NODES", "ACKNOWLEDGED_BY"),
    *("SILENCED_BY", "SUMMARY", "ID"),
)
_SILENCE_COLUMNS: Final = ("ID", "ACTIVE", "MATCHERS", "UNTIL", "BY", "AT", "REASON")
_TEST_COLUMNS: Final = ("FIRED", "BY_RULES", "SEVERITY", "RULE", "LABELS", "FIRED_AT", "RESOLVED_AT", "SUMMARY", "ID")
_STYLES: Final = {Severity.CRITICAL: "red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}
_LENGTH: Final = re.compile(r"(\d{1,9})\s*([smhdw])")
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_PAGE: Final = 1_000

_NEVER: Final = "-"


class ListsByDefault(TyperGroup):
    """`alerts` alone, or with options, lists."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


alerts = typer.Typer(
    name="alerts",
    cls=ListsByDefault,
    help="Show alerts, silence them, take them on; or run rules over the past.",
    rich_markup_mode=None,
)


def _read_length(text: str) -> int:
    found = _LENGTH.fullmatch(text.strip())
    if found is None or int(found[1]) == 0:
        raise typer.BadParameter(f"{text!r} is no length of time; it should look like 90s, 15m, 12h, 30d or 4w")
    return int(found[1]) * _UNITS[found[2]]


def _read_id(text: str) -> str:
    if re.fullmatch(r"[0-9a-f-]{1,64}", text) is None:
        raise typer.BadParameter(f"{text!r} is no id; 'thunderline alerts' shows them")
    return text


def _read_time(text: str | None) -> datetime | None:
    moment = read_when(text)
    if moment is None:
        return None
    try:
        return datetime.fromisoformat(moment)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no time; it should look like 2026-01-31T03:12:00Z, or 2h") from error


@alerts.command("list")
def list_alerts(
    *,
    state: Annotated[
        AlertState | None, typer.Option(help="Only alerts in this state.", show_default="firing and pending")
    ] = None,
    severity: Annotated[Severity | None, typer.Option(help="Only alerts of this severity.")] = None,
    rule: Annotated[str | None, typer.Option(metavar="RULE", help="Only alerts of this rule.")] = None,
    node: Annotated[str | None, typer.Option(metavar="NODE", help="Only alerts about the node of this name.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Those, too, that were resolved within the last day.")] = False,
    server: Server,
    token_file: TokenFile = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """List alerts that fire, and what is about to.

    In a pipe the list is tab-separated; its first line names the columns.
    """
    given = {"state": state, "severity": severity, "rule": rule, "node": node}
    query = tuple((name, str(value)) for name, value in given.items() if value is not None)
    with Remote(server, token_file=token_file, ca=ca, warn=note) as remote:
        pages = list(_pages(remote, query))
        now = remote.now
    shown = [
        alert
        for page in pages
        for alert in page.alerts
        if every or state is not None or alert.state is not AlertState.RESOLVED
    ]
    pending = pages[0].pending
    if as_json:
        write_json(msgspec.json.encode({"alerts": shown, "pending": pending}))
        return
    if not on_terminal():
        write_rows(_COLUMNS, [*(_row(alert) for alert in shown), *(_pending_row(alert) for alert in pending)])
    elif shown or pending:
        open_console().print(_table(shown, pending, now))
    if not shown and not pending:
        note("nothing fires")


@alerts.command()
def ack(
    *,
    alert: Annotated[str, typer.Argument(metavar="ID", callback=_read_id, show_default=False, help="The alert's id.")],
    message: Annotated[str | None, typer.Option("--note", help="What others should know.")] = None,
    server: Server,
    token_file: TokenFile = None,
    ca: Ca = None,
) -> None:
    """Take a firing alert on, so that others know."""
    body = msgspec.json.encode({} if message is None else {"note": message})
    with Remote(server, token_file=token_file, ca=ca, warn=note) as remote:
        taken = remote.ask(Call("POST", f"/api/alerts/{alert}/ack", AlertAnswer, body=body)).alert
    assert taken.acknowledged is not None
    write_line(f"{taken.rule}: taken on by {taken.acknowledged.by}")


@alerts.command()
def silence(
    *,
    matchers: Annotated[
        list[str],
        typer.Argument(
            metavar="MATCHER...",
            show_default=False,
            help="Conditions on labels, of which all must hold: zone=eu-1, node~'web-*', severity!=critical.",
        ),
    ],
    length: Annotated[
        str, typer.Option("--for", metavar="LENGTH", show_default=False, help="For how long: 90s, 15m, 12h, 30d, 4w.")
    ],
    reason: Annotated[str | None, typer.Option(help="Why.")] = None,
    server: Server,
    token_file: TokenFile = None,
    ca: Ca = None,
) -> None:
    """Have alerts not told for a while; prints the silence's id.

    Labels are those that alerts have, `rule` and `severity` among them. With ~ and !~ an asterisk stands for anything.
    """
    read = []
    for text in matchers:
        if (matcher := parse_matcher(text)) is None:
            raise typer.BadParameter(
                f"{text!r} is no matcher; it should look like zone=eu-1 or node~'web-*'", param_hint="MATCHER"
            )
        read.append({"label": matcher.label, "op": matcher.op, "value": matcher.value})
    given: dict[str, object] = {"matchers": read, "for_s": _read_length(length)}
    if reason is not None:
        given["reason"] = reason
    with Remote(server, token_file=token_file, ca=ca, warn=note) as remote:
        made = remote.ask(Call("POST", "/api/alerts/silences", SilenceAnswer, body=msgspec.json.encode(given))).silence
    write_line(made.id)
    note(f"silenced until {rfc3339(made.until)}")


@alerts.command()
def unsilence(
    *,
    silence_id: Annotated[
        str, typer.Argument(metavar="ID", callback=_read_id, show_default=False, help="The silence's id.")
    ],
    server: Server,
    token_file: TokenFile = None,
    ca: Ca = None,
) -> None:
    """End a silence. What it kept and still fires is told then."""
    with Remote(server, token_file=token_file, ca=ca, warn=note) as remote:
        remote.ask(Call("DELETE", f"/api/alerts/silences/{silence_id}", type(None)))
    write_line(f"ended {silence_id}")


@alerts.command()
def silences(*, server: Server, token_file: TokenFile = None, ca: Ca = None, as_json: AsJson = False) -> None:
    """List silences, the oldest first."""
    with Remote(server, token_file=token_file, ca=ca, warn=note) as remote:
        if as_json:
            write_json(bytes(remote.get("/api/alerts/silences", msgspec.Raw)))
            return
        found = remote.get("/api/alerts/silences", SilencesAnswer).silences
        now = remote.now
    if not on_terminal():
        write_rows(
            _SILENCE_COLUMNS,
            [
                (each.id, each.active, _matchers(each), rfc3339(each.until), each.by, rfc3339(each.at), each.reason)
                for each in found
            ],
        )
    elif found:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for heading in ("ID", "ALERTS", "UNTIL", "BY", "REASON"):
            table.add_column(heading, overflow="fold")
        for each in found:
            ends = rfc3339(each.until) if each.active else f"over since {ago(each.until, now)}"
            table.add_row(*(plain(cell) for cell in (each.id, _matchers(each), ends, each.by, each.reason or _NEVER)))
        open_console().print(table)
    if not found:
        note("there are no silences")


@alerts.command("test")
def rehearse(
    *,
    rules: Annotated[
        Path,
        typer.Argument(
            metavar="RULES", exists=True, dir_okay=False, show_default=False, help="A TOML file with rules."
        ),
    ],
    since: Annotated[
        str, typer.Option("--from", metavar="WHEN", show_default="24h", help="Begin: a time, or how long ago.")
    ] = "24h",
    until: Annotated[
        str | None, typer.Option("--to", metavar="WHEN", show_default="now", help="End, likewise.")
    ] = None,
    server: Server,
    token_file: TokenFile = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Run rules over the past, and compare what they find with what had fired.

    The server's log is read from its beginning, since what is offline at --from may have been so for long. Rules over
    figures that are in no log (latencies, the store, expiries) are passed over. Each alert is marked: = had fired, too;
    + would fire by these rules alone; - had fired, and would not by these.
    """
    from thunderline.prism.alerts.rehearsal import Rehearsal
    from thunderline.prism.alerts.rules import read_config

    config = read_config(rules.read_text(encoding="utf-8"), source=str(rules))
    begin, end = _read_time(since), _read_time(until) or SystemClock().now()
    assert begin is not None
    if begin >= end:
        raise typer.BadParameter("should be before --to", param_hint="--from")
    rehearsal = Rehearsal(config, since_ms=to_ms(begin), until_ms=to_ms(end))
    with Remote(server, token_file=token_file, ca=ca, warn=note) as remote:
        _feed(rehearsal, remote)
    found = rehearsal.finish()
    if as_json:
        write_json(msgspec.json.encode({"alerts": found, "passed_over": [rule.name for rule in rehearsal.figures]}))
        return
    if not on_terminal():
        write_rows(_TEST_COLUMNS, [_test_row(each) for each in found])
    for each in found if on_terminal() else ():
        open_console().print(_test_line(each), soft_wrap=True)
    if rehearsal.figures:
        note(f"not in the log, and so passed over: {', '.join(rule.name for rule in rehearsal.figures)}")
    same = sum(each.by_rules and each.fired for each in found)
    more = sum(each.by_rules and not each.fired for each in found)
    note(f"{same} as they had fired, {more} more, {len(found) - same - more} fewer")


def _feed(rehearsal: Rehearsal, remote: Remote) -> None:
    since: str | None = None
    while True:
        page = calls.page_of(remote.ask(calls.events(since, before=None, pattern=">", limit=_PAGE)))
        for told in page.events:
            if (event := _event_of(told)) is not None and not rehearsal.feed(event):
                return
        since = page.next_since
        if since == page.cursor:
            return


def _event_of(told: Any) -> Event | None:
    """The event as the server has it; None of a kind that this version does not know."""
    from thunderline.core.ids import EventId, Revision
    from thunderline.core.records import EntityKind, Event

    record = told.record
    if isinstance(record, dict):
        return None
    return Event(
        id=EventId(told.id),
        revision=Revision(told.revision),
        name=told.name,
        at=told.at,
        source=told.source.removeprefix("./"),
        actor=told.actor,
        subject=told.subject,
        entity_kind=EntityKind(told.entity_kind),
        entity_id=told.entity_id,
        correlation_id=told.correlation_id,
        causation_id=told.causation_id,
        event_version=told.event_version,
        payload=record,
        deleted=told.deleted,
    )


def _pages(remote: Remote, query: Sequence[tuple[str, str]]) -> Iterator[AlertPage]:
    cursor: str | None = None
    while True:
        place = () if cursor is None else (("cursor", cursor),)
        page = remote.get("/api/alerts", AlertPage, (*query, ("limit", _PAGE), *place))
        yield page
        cursor = page.next_cursor
        if cursor is None:
            return


def _row(alert: ToldAlert) -> Sequence[object]:
    by = None if alert.acknowledged is None else alert.acknowledged.by
    return (
        *(alert.state, alert.severity, alert.rule, _labels(alert.labels), rfc3339(alert.starts_at)),
        *(rfc3339(alert.fired_at), rfc3339(alert.resolved_at), alert.nodes, by, alert.silenced_by),
        *(alert.summary, alert.id),
    )


def _pending_row(alert: PendingAlert) -> Sequence[object]:
    return (
        *(AlertState.PENDING, alert.severity, alert.rule, _labels(alert.labels), rfc3339(alert.starts_at)),
        *(None, None, None, None, None, _pending_summary(alert), None),
    )


def _pending_summary(alert: PendingAlert) -> str:
    if alert.due_at is None:
        return f"held back: {alert.held_by}"
    return f"due at {rfc3339(alert.due_at)}"


def _table(shown: Sequence[ToldAlert], pending: Sequence[PendingAlert], now: datetime) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("STATE", "RULE", "SINCE", "WHAT", "ID"):
        table.add_column(heading, overflow="fold")
    for alert in shown:
        marks = [alert.summary]
        if alert.acknowledged is not None:
            marks.append(f"taken on by {alert.acknowledged.by}")
        if alert.silenced_by is not None:
            marks.append("silenced")
        style = "dim" if alert.state is AlertState.RESOLVED else _STYLES[alert.severity]
        table.add_row(
            *(plain(alert.state, style), plain(alert.rule), plain(ago(alert.starts_at, now))),
            *(plain("; ".join(marks)), plain(alert.id, "dim")),
        )
    for each in pending:
        table.add_row(
            *(plain(AlertState.PENDING, "dim"), plain(each.rule), plain(ago(each.starts_at, now))),
            *(plain(f"{_labels(each.labels)}; {_pending_summary(each)}"), plain("")),
        )
    return table


def _test_row(each: Found) -> Sequence[object]:
    alert = each.alert
    return (
        *(each.fired, each.by_rules, alert.severity, alert.rule, _labels(alert.labels)),
        *(rfc3339(alert.fired_at), rfc3339(alert.resolved_at), alert.summary, alert.id),
    )


def _test_line(each: Found) -> Text:
    mark, style = ("=", "dim") if each.fired and each.by_rules else ("+", "green") if each.by_rules else ("-", "red")
    alert = each.alert
    until = "" if alert.resolved_at is None else f" to {rfc3339(alert.resolved_at)}"
    return Text.assemble(
        (mark, style),
        " ",
        (rfc3339(alert.fired_at), "dim"),
        until,
        "  ",
        plain(alert.rule, "bold"),
        "  ",
        plain(alert.summary),
    )


def _labels(labels: dict[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in labels.items())


def _matchers(found: ToldSilence) -> str:
    return " ".join(f"{each.label}{each.op}{each.value}" for each in found.matchers)
