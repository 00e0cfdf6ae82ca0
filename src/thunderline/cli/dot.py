"""The topology in Graphviz' language. Source: https://graphviz.org/doc/info/lang.html, and `escString` for labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

from thunderline.cli.answers import GraphLink, GraphNode
from thunderline.cli.figures import milliseconds
from thunderline.cli.screen import clean
from thunderline.cli.topology import Topology
from thunderline.core.records import NodeStatus


def draw_dot(topology: Topology) -> Iterator[str]:
    """The lines of a `digraph`: a cluster for each domain, nodes and edges under the nodes' names."""
    yield "digraph thunderline {"
    yield "  rankdir=LR;"
    yield '  node [fontname="sans-serif"];'
    yield '  edge [fontname="sans-serif", fontsize=10];'
    for domain, nodes in topology.domains.items():
        yield f"  subgraph {_quoted(f'cluster_{domain}')} {{"
        yield f"    label={_quoted(domain)};"
        for node in nodes:
            yield f"    {_node(topology, node)}"
        yield "  }"
    for link in topology.links:
        yield f"  {_edge(topology, link)}"
    yield "}"


def _node(topology: Topology, node: GraphNode) -> str:
    look = _look(node.status, left=topology.left_on_purpose(node))
    label = _quoted(f"{node.name}\n{node.role}, {node.status}")
    return f"{_quoted(node.name)} [label={label}, {look}];"


def _edge(topology: Topology, link: GraphLink) -> str:
    ends = f"{_quoted(topology.name_of(link.source))} -> {_quoted(topology.name_of(link.target))}"
    latency = "" if link.latency_ms is None else f"\n{milliseconds(link.latency_ms)}"
    style = "solid" if link.status == "established" else "dashed"
    return f"{ends} [label={_quoted(f'{link.session_type}, {link.connection_type}{latency}')}, style={style}];"


def _look(status: NodeStatus, *, left: bool) -> str:
    """The shapes of `marks`, as far as Graphviz has them; colours that show on white."""
    match status:
        case NodeStatus.ONLINE:
            return 'shape=ellipse, style=filled, fillcolor="#136a66", fontcolor=white'
        case NodeStatus.DEGRADED:
            return 'shape=triangle, style=bold, color="#c76f00"'
        case NodeStatus.DISCONNECTED:
            return 'shape=diamond, style=bold, color="#1f78f5"'
        case NodeStatus.OFFLINE if left:
            return 'shape=ellipse, penwidth=0.5, color="#7b8497", fontcolor="#7b8497"'
        case NodeStatus.OFFLINE:
            return 'shape=Msquare, style=bold, color="#b0231a"'
        case NodeStatus.CONNECTING:
            return 'shape=ellipse, style=dashed, color="#5b1494"'
        case _:
            assert_never(status)


def _quoted(text: str) -> str:
    r"""`text` as a quoted string that means exactly this text: Graphviz reads `\N` and `&amp;` inside quotes, too."""
    lines = (clean(line).replace("\\", "\\\\").replace('"', '\\"').replace("&", "&amp;") for line in text.split("\n"))
    return '"' + "\\n".join(lines) + '"'
