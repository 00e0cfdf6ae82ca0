"""`thunderline history`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from thunderline.cli.figures import rfc3339
from thunderline.cli.lookup import looking_up
from thunderline.cli.marks import status_text
from thunderline.cli.options import AsJson, Ca, NodeRef, Server, TokenFile
from thunderline.cli.remote import Remote
from thunderline.cli.screen import NOTHING, cell, note, on_terminal, open_console, plain, write_json, write_rows
from thunderline.cli.when import WHEN_HELP, read_when
from thunderline.client import past
from thunderline.client.calls import Call
from thunderline.client.past import StatusHistory, StatusSpan
from thunderline.core.records import NodeStatus
from thunderline.link.liveness import has_left

_PIPED_COLUMNS: Final = (
    *("SINCE", "UNTIL", "STATUS", "REASON", "OBSERVED_STATUS", "OVERRIDE", "EVENT", "ACTOR", "CURSOR"),
    *("CORRELATION_ID", "CAUSATION_ID"),
)
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def history(
    *,
    ref: NodeRef,
    since: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="WHEN", callback=read_when, show_default="24 h before the end", help="Where it begins."
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="WHEN", callback=read_when, show_default="now", help=f"Where it ends. {WHEN_HELP}"
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Spans at most, the newest.")] = past.SPANS_DEFAULT,
    server: Server,
    token_file: TokenFile = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Show what a node's status was, when, and why, and for how long it was up.

    The id of a node that was removed works, too. In a pipe the spans are tab-separated, the oldest first; the first
    line names the columns, which are fields of the API.
    """
    call = past.status_history(ref, since, until, limit=limit)
    with Remote(server, token_file=token_file, ca=ca, warn=note) as remote, looking_up(remote, ref):
        if as_json:
            write_json(bytes(remote.ask(Call(call.method, call.path, msgspec.Raw, query=call.query))))
            return
        found = remote.ask(call)
    if on_terminal():
        _show(found)
    else:
        write_rows(_PIPED_COLUMNS, map(_row, found.spans))
    if not found.spans:
        note(f"{found.name or ref} was not registered then")
    elif found.earlier is not None:
        note(f"there is more before {rfc3339(found.earlier)}: --to {rfc3339(found.earlier)}, or a higher --limit")


def _row(span: StatusSpan) -> tuple[object, ...]:
    return (
        *(rfc3339(span.since), rfc3339(span.until), span.status, span.reason, span.observed_status),
        *(span.override, span.event, span.actor, span.cursor),
        *(span.correlation_id, span.causation_id),
    )


def _show(found: StatusHistory) -> None:
    console = open_console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("SINCE", "FOR", "STATUS", "REASON", "BY"):
        table.add_column(column, justify="right" if column == "FOR" else "left", no_wrap=column != "REASON")
    for span in found.spans:
        table.add_row(
            plain(f"{span.since.astimezone():%Y-%m-%d %H:%M:%S}", "dim"),
            plain(_length((span.until or found.until) - span.since)) if span.until else Text("so far", "dim"),
            status_text(span.status, left=_left(span)),
            plain(span.reason),
            cell(span.actor or NOTHING),
        )
    if found.spans:
        console.print(table)
    console.print(_uptime(found))


def _left(span: StatusSpan) -> bool:
    return span.override is NodeStatus.OFFLINE or has_left(span.observed_status, span.reason)


def _uptime(found: StatusHistory) -> Text:
    uptime = found.uptime
    window = f"{_time(found.since)} to {_time(found.until)}"
    if uptime.ratio is None:
        return Text(f"\nnot registered from {window}", "dim")
    parts = [f"{status} {_seconds(passed_s)}" for status, passed_s in uptime.seconds.items() if passed_s]
    if uptime.unregistered_s:
        parts.append(f"not registered {_seconds(uptime.unregistered_s)}")
    return Text.assemble("\n", (f"up {uptime.ratio:.3%}", "bold"), f" from {window}: {', '.join(parts)}")


def _time(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S}"


def _length(passed: object) -> str:
    return _seconds(passed.total_seconds())  # type: ignore[attr-defined]


def _seconds(passed_s: float) -> str:
    """`2d 4h`, `3m 12s`: the two largest units that are not zero."""
    rest = round(passed_s)
    parts = []
    for unit_s, unit in _UNITS:
        count, rest = divmod(rest, unit_s)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"
