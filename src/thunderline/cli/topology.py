"""The graph as the drawings of it read it: nodes by domain, each with the links that it opened."""

from __future__ import annotations

from thunderline.cli.answers import GraphAnswer, GraphLink, GraphNode


class Topology:
    """`domains` in alphabetical order, each with its nodes by name; `left` are ids of nodes offline on purpose."""

    def __init__(self, answer: GraphAnswer, *, left: frozenset[str]) -> None:
        self.nodes = answer.nodes
        self.links = answer.links
        self.domains: dict[str, list[GraphNode]] = {}
        for node in sorted(answer.nodes, key=lambda node: node.domain):
            self.domains.setdefault(node.domain, []).append(node)
        self._left = left
        self._names = {node.id: node.name for node in answer.nodes}
        self._opened: dict[str, list[GraphLink]] = {}
        self._taken: dict[str, int] = {}
        for link in answer.links:
            self._opened.setdefault(link.source, []).append(link)
            self._taken[link.target] = self._taken.get(link.target, 0) + 1

    def opened_by(self, node: GraphNode) -> list[GraphLink]:
        """The links that begin at `node`."""
        return self._opened.get(node.id, [])

    def taken_by(self, node: GraphNode) -> int:
        """How many links end at `node`."""
        return self._taken.get(node.id, 0)

    def name_of(self, node_id: str) -> str:
        """The name of a link's end; its id if the graph does not hold it."""
        return self._names.get(node_id, node_id)

    def left_on_purpose(self, node: GraphNode) -> bool:
        """Whether an offline node said goodbye or was taken down, rather than being found dead."""
        return node.id in self._left
