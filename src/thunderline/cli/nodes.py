"""`thunderline nodes`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
import typer

from thunderline.cli.figures import rfc3339
from thunderline.cli.nodes_table import show_table
from thunderline.cli.options import AsJson, Ca, Server, TokenFile, check_group
from thunderline.cli.remote import Query, Remote
from thunderline.cli.screen import note, on_terminal, open_console, write_json, write_rows
from thunderline.client.answers import NodePage, PresentNode
from thunderline.core.records import ClusterType, NodeStatus

_PIPED_COLUMNS: Final = (
    "NAME",
    "STATUS",
    "ROLE",
    "DOMAIN",
    "CPU_LOAD",
    "MEM_USED_MB",
    "LAST_SEEN_AT",
    "STATUS_REASON",
)


def _check_statuses(statuses: list[str] | None) -> list[str] | None:
    for status in _each(statuses):
        if status not in tuple(NodeStatus):
            raise typer.BadParameter(f"{status!r} is no status; there are {', '.join(NodeStatus)}")
    return statuses


def _check_labels(labels: list[str] | None) -> list[str] | None:
    for label in labels or ():
        if not label.partition("=")[0] or "=" not in label:
            raise typer.BadParameter(f"{label!r} should be key=value")
    return labels


def nodes(
    *,
    status: Annotated[
        list[str] | None,
        typer.Option(
            metavar="STATUS",
            callback=_check_statuses,
            help=f"Only nodes of this status: {', '.join(NodeStatus)}. For several: repeat it, or use commas.",
        ),
    ] = None,
    role: Annotated[str | None, typer.Option(metavar="ROLE", help="Only nodes of this role.")] = None,
    domain: Annotated[str | None, typer.Option(metavar="DOMAIN", help="Only nodes of this domain.")] = None,
    cluster_type: Annotated[ClusterType | None, typer.Option(help="Only nodes inside or outside the cluster.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", callback=_check_labels, help="Only nodes with this label; repeat for more."),
    ] = None,
    capability: Annotated[
        str | None,
        typer.Option(metavar="KEY[:VALUE]", help="Only nodes that can do this and have it enabled, e.g. gpu:a100."),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(metavar="GROUP", callback=check_group, help="Only members of this group and of those below it."),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME|PREFIX*", help="Only this name, or names that begin so.")
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", min=1, help="List so many at most. Default: all.")] = None,
    server: Server,
    token_file: TokenFile = None,
    ca: Ca = None,
    as_json: AsJson = False,
) -> None:
    """List nodes, their status and what they last reported.

    In a pipe the list is tab-separated. Its first line names the columns, which are fields of the API: CPU_LOAD in
    percent, MEM_USED_MB in MiB, times in RFC 3339, and - where there is nothing. With --json: one document of all
    nodes and the revision from which to watch what changed since.
    """
    given = {"status": ",".join(_each(status)), "role": role, "domain": domain, "cluster_type": cluster_type}
    given |= {"capability": capability, "group": group, "name": name}
    query = [(key, value) for key, value in given.items() if value]
    query += [("label", item) for item in label or ()]
    with Remote(server, token_file=token_file, ca=ca, warn=note) as remote:
        if as_json:
            write_json(_as_document(remote, query, limit))
            return
        found: list[PresentNode] = []
        more = False
        for page in remote.node_pages(NodePage[PresentNode], query, limit=limit):
            found += page.nodes
            more = page.next_cursor is not None
        if not on_terminal():
            write_rows(_PIPED_COLUMNS, [_piped_row(node) for node in found])
        elif found:
            show_table(open_console(), found, remote.now, more=more)
    if not found:
        note(_why_empty(server, filtered=bool(query)))


def _each(statuses: list[str] | None) -> list[str]:
    return [part.strip() for item in statuses or () for part in item.split(",")]


def _as_document(remote: Remote, query: Query, limit: int | None) -> bytes:
    pages = list(remote.node_pages(NodePage[msgspec.Raw], query, limit=limit))
    merged = [node for page in pages for node in page.nodes]
    # Pages of different moments: whoever watches from the first one's revision misses nothing of the later ones.
    return msgspec.json.encode({"nodes": merged, "revision": pages[0].revision})


def _piped_row(node: PresentNode) -> Sequence[object]:
    return (
        node.name,
        node.status,
        node.role,
        node.domain,
        node.cpu_load,
        node.mem_used_mb,
        rfc3339(node.presence.last_seen_at),
        node.status_reason,
    )


def _why_empty(server: str, *, filtered: bool) -> str:
    if filtered:
        return "no node matches; 'thunderline nodes' without filters lists all"
    return f"no nodes are registered at {server}; POST /api/nodes registers one, see {server}/docs"
