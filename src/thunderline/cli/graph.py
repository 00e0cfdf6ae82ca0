"""`thunderline graph`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
import typer

from thunderline.cli.answers import GraphAnswer
from thunderline.cli.dot import draw_dot
from thunderline.cli.marks import count_line, left_on_purpose
from thunderline.cli.options import AsJson, Ca, Server, TokenFile
from thunderline.cli.remote import Query, Remote
from thunderline.cli.screen import note, on_terminal, open_console, write_json, write_lines
from thunderline.cli.topology import Topology
from thunderline.cli.tree import draw_lines, draw_tree
from thunderline.cli.when import WHEN_HELP, read_when
from thunderline.client.answers import NodePage
from thunderline.core.records import Node, NodeStatus


class GraphFormat(StrEnum):
    """How the topology is written."""

    TREE = "tree"
    DOT = "dot"
    JSON = "json"


def graph(
    *,
    include_offline: Annotated[bool, typer.Option("--include-offline", help="Draw offline nodes, too.")] = False,
    domain: Annotated[str | None, typer.Option(metavar="DOMAIN", help="Only nodes of this domain.")] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN", callback=read_when, show_default="now", help=f"As it stood at that moment. {WHEN_HELP}"
        ),
    ] = None,
    server: Server,
    token_file: TokenFile = None,
    ca: Ca = None,
    format: Annotated[
        GraphFormat | None,
        typer.Option(help="tree: text, by domain; dot: for Graphviz; json: the API's answer.", show_default="tree"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Draw who is linked to whom, by domain.

    A node's links stand under the node that opened them. In a pipe the tree is indented text of words: node, status,
    role; and for a link: ->, node, session type, connection type, status, latency.
    """
    chosen = _chosen(format, as_json=as_json)
    query = [("include_offline", "true")] if include_offline else []
    query += [("domain", domain)] if domain else []
    query += [("at", at)] if at is not None else []
    with Remote(server, token_file=token_file, ca=ca, warn=note) as remote:
        if chosen is GraphFormat.JSON:
            write_json(bytes(remote.get("/api/graph", msgspec.Raw, query)))
            return
        answer = remote.get("/api/graph", GraphAnswer, query)
        topology = Topology(answer, left=_left(remote, answer) if at is None else frozenset())
    if chosen is GraphFormat.DOT:
        write_lines(draw_dot(topology))
    elif on_terminal():
        _show(topology, include_offline=include_offline)
    else:
        write_lines(draw_lines(topology))
    if not topology.nodes:
        note(
            "no node to draw; 'thunderline nodes' lists those that there are, with every status"
            if at is None
            else "there was no node to draw then; offline ones are left out, see --include-offline"
        )


def _chosen(format: GraphFormat | None, *, as_json: bool) -> GraphFormat:
    if not as_json:
        return format or GraphFormat.TREE
    if format not in (None, GraphFormat.JSON):
        raise typer.BadParameter(f"--json and --format {format} contradict each other")
    return GraphFormat.JSON


def _left(remote: Remote, answer: GraphAnswer) -> frozenset[str]:
    """Ids of the nodes that are offline on purpose, which the graph itself does not tell."""
    if all(node.status is not NodeStatus.OFFLINE for node in answer.nodes):
        return frozenset()
    query: Query = (("status", NodeStatus.OFFLINE), ("presence", "false"))
    pages = remote.node_pages(NodePage[Node], query, limit=None)
    return frozenset(node.id for page in pages for node in page.nodes if left_on_purpose(node))


def _show(topology: Topology, *, include_offline: bool) -> None:
    if not topology.nodes:
        return
    console = open_console()
    for tree in draw_tree(topology):
        console.print(tree)
    links = len(topology.links)
    left_out = "" if include_offline else "; offline nodes are left out, see --include-offline"
    summary = count_line(node.status for node in topology.nodes)
    console.print(f"\n{summary}; {links} {'link' if links == 1 else 'links'}{left_out}")
