"""`thunderline audit`: who changed what, and who was refused what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from thunderline.cli.desk import ConfigOption, Desk, StoreOption
from thunderline.cli.figures import rfc3339
from thunderline.cli.options import AsJson, Ca, NamedServer, TokenFile
from thunderline.cli.screen import note, on_terminal, open_console, plain, write_json, write_rows
from thunderline.core.access import AuditEntry, Outcome

if TYPE_CHECKING:
    from thunderline.gate.control_messages import AuditAnswer, DeskRequest

_PIPED_COLUMNS: Final = (
    *("AT", "ACTOR", "ACTION", "SUBJECT", "OUTCOME", "REASON", "COUNT", "FIRST_AT", "ADDRESS", "REVISION", "ID"),
)

audit = typer.Typer(name="audit", help="Read the audit log.", no_args_is_help=True)


@audit.callback()
def _audit() -> None:
    """Read the audit log: who changed what, and who was refused what."""


@audit.command("list")
def list_entries(
    *,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many entries.")] = 100,
    server: NamedServer,
    token_file: TokenFile = None,
    ca: Ca = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    as_json: AsJson = False,
) -> None:
    """List the newest entries, the newest first.

    Refusals of one kind from one place are counted for some seconds, and are one entry. In a pipe the list is
    tab-separated; its first line names the columns, which are fields of the API.
    """
    from thunderline.gate.control_messages import AuditAnswer, AuditRequest

    left = limit

    def then(answer: AuditAnswer) -> DeskRequest | None:
        nonlocal left
        left -= len(answer.body.entries)
        cursor = answer.body.next_cursor
        return None if cursor is None or left < 1 else AuditRequest(before=cursor, limit=left)

    desk = Desk(server=server, token_file=token_file, ca=ca, store=store, config=config)
    pages = desk.collect(AuditRequest(limit=limit), AuditAnswer, then)
    found = [each for page in pages for each in page.body.entries]
    if as_json:
        write_json(msgspec.json.encode({"entries": found}))
    elif not on_terminal():
        write_rows(_PIPED_COLUMNS, map(_row, found))
    elif found:
        _show(found)
    if not found:
        note("the audit log is empty")


def _row(entry: AuditEntry) -> Sequence[object]:
    return (
        *(rfc3339(entry.at), entry.actor, entry.action, entry.subject, entry.outcome, entry.reason, entry.count),
        *(rfc3339(entry.first_at), entry.address, entry.revision, entry.id),
    )


def _show(found: Sequence[AuditEntry]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for heading in ("AT", "ACTOR", "ACTION", "SUBJECT", "OUTCOME", "FROM"):
        table.add_column(heading, overflow="fold")
    for each in found:
        table.add_row(
            plain(f"{each.at:%Y-%m-%d %H:%M:%S}"),
            plain(each.actor),
            plain(each.action),
            plain(each.subject),
            _outcome(each),
            plain(each.address),
        )
    open_console().print(table)


def _outcome(entry: AuditEntry) -> Text:
    if entry.outcome is Outcome.DONE:
        return plain(entry.outcome, "green")
    times = "" if entry.count == 1 else f" x{entry.count}"
    return plain(f"{entry.reason}{times}", "yellow")
