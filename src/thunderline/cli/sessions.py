"""`thunderline sessions`, and `thunderline session` with what ends one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Final, TypeVar

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from thunderline.cli.figures import ago
from thunderline.cli.options import AsJson, Ca, Server, TokenFile, check_node
from thunderline.cli.remote import Remote
from thunderline.cli.screen import note, on_terminal, open_console, plain, write_json, write_line, write_rows
from thunderline.client import calls
from thunderline.client.answers import NodePage
from thunderline.core.ids import NodeId
from thunderline.core.records import LinkSession, SessionStatus, SessionType

T = TypeVar("T")

_PIPED_COLUMNS: Final = (
    *("SESSION_ID", "NODE_ID", "REMOTE_NODE_ID", "SESSION_TYPE", "CONNECTION_TYPE", "STATUS", "LATENCY_MS"),
    *("ESTABLISHED_AT", "STATUS_REASON"),
)

session = typer.Typer(name="session", help="End a link session by hand.", no_args_is_help=True)


class _Named(msgspec.Struct, frozen=True):
    """What of a node tells whose a session is."""

    id: NodeId
    name: str


class _Page(msgspec.Struct, frozen=True):
    """A page of sessions, each as it came."""

    sessions: list[msgspec.Raw]
    next_cursor: str | None
    revision: int


def sessions(
    *,
    node: Annotated[
        str | None, typer.Option(metavar="NODE", callback=check_node, help="Only those with this node at either end.")
    ] = None,
    status: Annotated[SessionStatus | None, typer.Option(help="Only those with this status.")] = None,
    session_type: Annotated[SessionType | None, typer.Option("--type", help="Only those of this type.")] = None,
    connection_type: Annotated[
        str | None, typer.Option("--connection", metavar="TYPE", help="Only those over this, as in websocket.")
    ] = None,
    server: Server,
    token_file: TokenFile = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """List open link sessions, the oldest first: who is linked to the registry, and which nodes to each other.

    In a pipe the list is tab-separated; its first line names the columns, which are fields of the API.
    """
    conditions = calls.session_filter(node, status=status, session_type=session_type, connection_type=connection_type)
    with Remote(server, token_file=token_file, ca=ca, warn=note) as remote:
        pages = list(_pages(remote, conditions))
        if as_json:
            # As of the first page's revision: whoever watches from there misses nothing of the later ones.
            merged = {"sessions": [each for page in pages for each in page.sessions], "revision": pages[0].revision}
            write_json(msgspec.json.encode(merged))
            return
        found = [msgspec.json.decode(each, type=LinkSession) for page in pages for each in page.sessions]
        names = _names(remote) if found and on_terminal() else {}
    if not on_terminal():
        write_rows(_PIPED_COLUMNS, map(_row, found))
    elif found:
        _show(found, names, remote.now)
    if not found:
        note("no open session matches" if conditions else "there are no open sessions")


@session.command()
def close(
    *,
    session_id: Annotated[
        str,
        typer.Argument(metavar="SESSION", show_default=False, help="The session's session_id, or its id."),
    ],
    reason: Annotated[str | None, typer.Option(help="Why, for whoever looks at it later.")] = None,
    server: Server,
    token_file: TokenFile = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Close a session; one that is closed already stays as it is."""
    call = calls.close_link_session(session_id, reason)
    with Remote(server, token_file=token_file, ca=ca, warn=note) as remote:
        if as_json:
            write_json(bytes(remote.ask(calls.Call(call.method, call.path, msgspec.Raw, body=call.body))))
            return
        closed = remote.ask(call).session
    write_line(f"{closed.session_id} is {closed.status}: {closed.status_reason}")


def _pages(remote: Remote, conditions: calls.Query) -> Iterator[_Page]:
    cursor: str | None = None
    while True:
        call = calls.list_sessions(conditions, cursor=cursor)
        page = remote.ask(calls.Call(call.method, call.path, _Page, query=call.query))
        yield page
        cursor = page.next_cursor
        if cursor is None:
            return


def _names(remote: Remote) -> dict[NodeId, str]:
    """The name of every node: sessions tell ids."""
    pages = remote.node_pages(NodePage[_Named], (("presence", "false"),), limit=None)
    return {each.id: each.name for page in pages for each in page.nodes}


def _row(each: LinkSession) -> Sequence[object]:
    return (
        *(each.session_id, each.node_id, each.remote_node_id, each.session_type, each.connection_type, each.status),
        *(each.latency_ms, each.established_at, each.status_reason),
    )


def _show(found: Sequence[LinkSession], names: Mapping[NodeId, str], now: datetime) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for heading in ("SESSION", "NODE", "LINKED TO", "TYPE", "OVER", "STATUS", "LATENCY", "SINCE"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "LATENCY" else "left")
    for each in found:
        far = each.controller or "the registry"
        if each.remote_node_id is not None:
            far = names.get(each.remote_node_id, each.remote_node_id)
        table.add_row(
            plain(each.session_id),
            plain(names.get(each.node_id, each.node_id)),
            plain(far),
            plain(each.session_type),
            plain(each.connection_type),
            Text(each.status, style="" if each.status is SessionStatus.ESTABLISHED else "yellow"),
            plain("-" if each.latency_ms is None else f"{each.latency_ms:g} ms"),
            plain(ago(each.established_at, now)),
        )
    open_console().print(table)
    open_console().print(f"\n{len(found)} open {'session' if len(found) == 1 else 'sessions'}")
