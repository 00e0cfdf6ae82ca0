"""`thunderline watch`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from thunderline.cli.failures import NotThunderline
from thunderline.cli.figures import mebibytes, milliseconds, percent, rfc3339
from thunderline.cli.marks import flapping_reason, left_on_purpose, status_text
from thunderline.cli.options import Ca, Server, TokenFile
from thunderline.cli.remote import Remote
from thunderline.cli.screen import (
    NOTHING,
    cell,
    note,
    on_terminal,
    open_console,
    plain,
    write_header,
    write_json_line,
    write_row,
)
from thunderline.client.events import ToldEvent
from thunderline.core.alerts import Alert
from thunderline.core.records import CapacityReport, GuardReport, Heartbeat, LinkSession, Node, NodeGroup, Payload

_PIPED_COLUMNS: Final = ("AT", "EVENT", "SUBJECT", "STATUS", "REASON", "CURSOR")
_PREFIX: Final = "cluster."
_EVENT_WIDTH: Final = len("node.status_changed")
_SUBJECT_WIDTH: Final = 20
"""Room for a usual name; a longer one moves what follows it, and is not cut."""
_MEMBERSHIP: Final = "cluster.group."

Record = Payload | dict[str, Any]


def watch(
    *,
    match: Annotated[
        str,
        typer.Option(
            metavar="PATTERN",
            show_default="everything but heartbeats",
            help="Only events whose name matches: * is one word, > at the end the rest. "
            "Heartbeats are shown only where the pattern spells the word, as cluster.node.heartbeat does.",
        ),
    ] = ">",
    since: Annotated[
        str | None,
        typer.Option(
            metavar="CURSOR",
            help="Begin behind this place in the log; 0 is the oldest event that is kept.",
            show_default="now",
        ),
    ] = None,
    damped: Annotated[
        bool, typer.Option("--damped", help="Leave out changes of status of nodes that are marked as flapping.")
    ] = False,
    server: Server,
    token_file: TokenFile = None,
    ca: Ca = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each event as the API tells it, one JSON object per line.")
    ] = False,
) -> None:
    """Show what changes, as it happens, until Ctrl-C.

    When the server goes away this says so, and goes on where it was once the server is back: no event is lost or shown
    twice, heartbeats aside, which are in no log. In a pipe the events are tab-separated, each written at once; the
    first line names the columns. CURSOR is what --since takes to go on behind that event.
    """
    with (
        Remote(server, token_file=token_file, ca=ca, warn=note) as remote,
        _read_by(server),
        remote.watch(match, since, damped=damped, say=note) as events,
    ):
        if as_json:
            for event in events:
                write_json_line(event.json)
        elif on_terminal():
            _show(open_console(), events)
        else:
            write_header(_PIPED_COLUMNS)
            for event in events:
                write_row(_piped_row(event))


@contextmanager
def _read_by(server: str) -> Iterator[None]:
    """A block in which records are read. Raises: NotThunderline for one that this version cannot read."""
    try:
        yield
    except msgspec.ValidationError as error:
        raise NotThunderline(server, reason=str(error)) from error


def _piped_row(event: ToldEvent) -> tuple[object, ...]:
    record = event.record
    return rfc3339(event.at), event.name, event.subject, _status(record), _reason(event.name, record), event.cursor


def _show(console: Console, events: Iterator[ToldEvent]) -> None:
    day: date | None = None
    for event in events:
        at = event.at.astimezone()
        if at.date() != day:
            day = at.date()
            console.print(Text(f"{day}", style="dim"))
        # The terminal folds what is too long for it; a person who copies the line then gets one line.
        console.print(_line(event, f"{at:%H:%M:%S}"), soft_wrap=True)


def _line(event: ToldEvent, at: str) -> Text:
    record = event.record
    return Text.assemble(
        (at, "dim"),
        "  ",
        cell(event.name.removeprefix(_PREFIX)).ljust(_EVENT_WIDTH),
        "  ",
        (cell(event.subject).ljust(_SUBJECT_WIDTH), "bold"),
        "  ",
        _shown_status(record),
        "  ",
        plain(_reason(event.name, record)),
    )


def _shown_status(record: Record) -> Text:
    if isinstance(record, Node):
        return status_text(record.status, left=left_on_purpose(record))
    return plain(_status(record))


def _status(record: Record) -> object:
    match record:
        case NodeGroup():
            return None
        case GuardReport():
            return "engaged" if record.engaged else "released"
        case CapacityReport():
            return "exceeded" if record.exceeded else "restored"
        case Alert():
            return record.state
    return record.get("status") if isinstance(record, dict) else record.status


def _reason(name: str, record: Record) -> str:
    """Why, or what else there is to say of a change in a few words."""
    match record:
        case Node() if name.startswith(_MEMBERSHIP):
            return f"in {', '.join(record.groups) or 'no group'}"
        case Node():
            return flapping_reason(record)
        case NodeGroup():
            return record.group_type if record.parent is None else f"{record.group_type}, in {record.parent}"
        case LinkSession():
            figures = [] if record.latency_ms is None else [milliseconds(record.latency_ms)]
            return " ".join([record.session_type, record.connection_type, *figures])
        case GuardReport():
            return f"{record.fallen} of {record.nodes} nodes down, {record.held} held back"
        case CapacityReport():
            return f"{record.nodes} nodes, {record.heartbeats_per_second:.0f} heartbeats/s"
        case Alert():
            return record.summary
        case Heartbeat():
            told = {
                "cpu": percent(record.cpu_load),
                "mem": mebibytes(record.mem_used_mb),
                "latency": milliseconds(record.latency_ms),
            }
            return ", ".join(f"{name} {figure}" for name, figure in told.items() if figure != NOTHING)
        case _:
            return NOTHING
