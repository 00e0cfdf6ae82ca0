"""The topology as text: a tree on a terminal, indented lines in a pipe."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text
from rich.tree import Tree

from thunderline.cli.answers import GraphLink, GraphNode
from thunderline.cli.figures import milliseconds
from thunderline.cli.marks import mark_of
from thunderline.cli.screen import cell
from thunderline.cli.topology import Topology


def draw_tree(topology: Topology) -> Iterator[Tree]:
    """One tree for each domain: its nodes with shape and colour, under each the links that it opened."""
    for domain, nodes in topology.domains.items():
        tree = Tree(Text(cell(domain), style="bold"), guide_style="dim")
        for node in nodes:
            branch = tree.add(_node_text(topology, node))
            for link in topology.opened_by(node):
                branch.add(Text.assemble(("→ ", "dim"), " ".join(_link_words(topology, link))))
        yield tree


def draw_lines(topology: Topology) -> Iterator[str]:
    """A line for each domain, each node (two spaces in) and each link (four): words only, so that grep finds them."""
    for domain, nodes in topology.domains.items():
        yield cell(domain)
        for node in nodes:
            yield f"  {cell(node.name)} {node.status} {cell(node.role)}"
            for link in topology.opened_by(node):
                yield f"    -> {' '.join(_link_words(topology, link))}"


def _node_text(topology: Topology, node: GraphNode) -> Text:
    mark = mark_of(node.status, left=topology.left_on_purpose(node))
    taken = topology.taken_by(node)
    links_in = f", {taken} {'link' if taken == 1 else 'links'} in" if taken else ""
    return Text.assemble(
        (f"{mark.shape} ", mark.colour),
        cell(node.name),
        (f"  {cell(node.role)}, ", "dim"),
        (node.status, mark.colour),
        (links_in, "dim"),
    )


def _link_words(topology: Topology, link: GraphLink) -> list[str]:
    words = [topology.name_of(link.target), link.session_type, link.connection_type, link.status]
    if link.latency_ms is not None:
        words.append(milliseconds(link.latency_ms))
    return [cell(word) for word in words]
