"""`thunderline diff`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.text import Text

from thunderline.cli.options import AsJson, Ca, Server, TokenFile
from thunderline.cli.remote import Remote
from thunderline.cli.screen import cell, note, on_terminal, open_console, write_json, write_rows
from thunderline.cli.when import WHEN_HELP, read_when
from thunderline.client import past
from thunderline.client.answers import GraphLink, GraphNode
from thunderline.client.calls import Call
from thunderline.client.past import Changed, GraphDiff

_PIPED_COLUMNS: Final = ("CHANGE", "KIND", "NAME", "FIELD", "BEFORE", "AFTER")
_STYLES: Final = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}

Row = tuple[str, str, str, str | None, str | None, str | None]


def diff(
    *,
    since: Annotated[
        str,
        typer.Argument(metavar="FROM", callback=read_when, show_default=False, help=f"The earlier moment. {WHEN_HELP}"),
    ],
    until: Annotated[
        str | None,
        typer.Argument(metavar="TO", callback=read_when, show_default="now", help="The later moment, likewise."),
    ] = None,
    include_offline: Annotated[
        bool, typer.Option("--include-offline", help="Compare offline nodes, too: else they count as gone.")
    ] = False,
    domain: Annotated[str | None, typer.Option(metavar="DOMAIN", help="Only nodes of this domain.")] = None,
    server: Server,
    token_file: TokenFile = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """Show what differs between the topologies of two moments: what came, what went, and what changed.

    In a pipe each difference is a tab-separated line, and of what changed each field is one, its values as JSON. The
    first line names the columns.
    """
    with Remote(server, token_file=token_file, ca=ca, warn=note) as remote:
        # As far as this has come: nothing that happens meanwhile is in it.
        call = past.graph_diff(
            since,
            until or remote.get("/api/summary", _Cursor).cursor,
            include_offline=include_offline,
            domain=domain,
            group=None,
            level="nodes",
        )
        if as_json:
            write_json(bytes(remote.ask(Call(call.method, call.path, msgspec.Raw, query=call.query))))
            return
        found = remote.ask(call)
    rows = list(_rows(found))
    if not on_terminal():
        write_rows(_PIPED_COLUMNS, rows)
    for row in rows if on_terminal() else ():
        open_console().print(_line(row), soft_wrap=True)
    if not rows:
        note(f"nothing differs between revision {found.since} and {found.until}")


class _Cursor(msgspec.Struct, frozen=True):
    cursor: str


def _rows(found: GraphDiff) -> Iterator[Row]:
    names = {
        node.id: node.name
        for node in (*found.nodes.added, *found.nodes.removed, *(each.after for each in found.nodes.changed))
    }
    for change, nodes in (("added", found.nodes.added), ("removed", found.nodes.removed)):
        for node in nodes:
            yield change, "node", node.name, None, None, None
    for changed in found.nodes.changed:
        yield from _fields("node", changed.after.name, changed)
    for change, links in (("added", found.links.added), ("removed", found.links.removed)):
        for link in links:
            yield change, "link", _name(link, names), None, None, None
    for changed_link in found.links.changed:
        yield from _fields("link", _name(changed_link.after, names), changed_link)


def _name(link: GraphLink, names: dict[str, str]) -> str:
    ends = [names.get(end, end) for end in (link.source, link.target)]
    return (
        f"{link.session_id} ({' -> '.join(ends)})"
        if all(end in names for end in (link.source, link.target))
        else link.session_id
    )


def _fields(kind: str, name: str, changed: Changed[GraphNode] | Changed[GraphLink]) -> Iterator[Row]:
    before, after = msgspec.to_builtins(changed.before), msgspec.to_builtins(changed.after)
    for field in changed.fields:
        yield "changed", kind, name, field, _json(before.get(field)), _json(after.get(field))


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _line(row: Row) -> Text:
    change, kind, name, field, before, after = row
    shape, colour = _STYLES[change]
    text = Text.assemble((shape, colour), " ", (kind, "dim"), " ", (cell(name), "bold"))
    if field is not None:
        text.append_text(Text.assemble("  ", field, "  ", (cell(before), "dim"), " -> ", cell(after)))
    return text
