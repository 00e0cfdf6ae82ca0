"""`thunderline graph`: the tree, the indented text, Graphviz, JSON."""

from __future__ import annotations

import re

from tests.cli.commands import on_screen, parsed, piped
from tests.cli.servers import LONG_NAME, ServedRegistry
from thunderline.cli.answers import GraphAnswer, GraphLink, GraphNode
from thunderline.cli.dot import draw_dot
from thunderline.cli.topology import Topology
from thunderline.core.records import NodeStatus

QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


def test_a_piped_graph_is_indented_text(fleet: ServedRegistry) -> None:
    lines = piped("graph", "--server", fleet.url).stdout.splitlines()
    assert lines[:2] == ["edge-eu", "  new-1 connecting edge"]
    assert lines[-3:] == [
        "training",
        f"  {LONG_NAME} online worker",
        "    -> registry@here cluster websocket established 3.0 ms",
    ]


def test_a_graph_on_a_terminal_is_a_tree_by_domain_with_shapes(fleet: ServedRegistry) -> None:
    screen = on_screen("graph", "--server", fleet.url)
    at = screen.lines.index("thunderlink")
    tree = "\n".join(screen.lines[at:])
    assert "├── ● registry@here  controller, online, 5 links in" in tree
    assert "├── ◆ silent-1  worker, disconnected" in tree
    assert "● worker-1@prod  worker, online\n│   └── → registry@here cluster websocket established 0.0 ms" in tree


def test_a_graph_says_what_it_leaves_out(fleet: ServedRegistry) -> None:
    screen = on_screen("graph", "--server", fleet.url, columns=160)
    assert screen.lines[-1].endswith("5 links; offline nodes are left out, see --include-offline")


def test_offline_nodes_are_drawn_by_why_they_are_offline(fleet: ServedRegistry) -> None:
    text = on_screen("graph", "--include-offline", "--server", fleet.url).text
    assert "⊠ lost-1  worker, offline" in text
    assert "○ relay-1  worker, offline" in text
    assert "○ gateway-1  worker, offline" in text
    assert "left out" not in text


def test_a_graph_can_be_of_one_domain(fleet: ServedRegistry) -> None:
    done = piped("graph", "--domain", "edge-eu", "--server", fleet.url)
    assert done.stdout == "edge-eu\n  new-1 connecting edge\n"


def test_a_graph_of_nothing_says_so(fleet: ServedRegistry) -> None:
    done = piped("graph", "--domain", "nowhere", "--server", fleet.url)
    assert (done.returncode, done.stdout) == (0, "")
    assert "no node to draw" in done.stderr


def test_json_is_the_answer_of_the_api(fleet: ServedRegistry) -> None:
    body = fleet.http.get("/api/graph?include_offline=true").text
    for option in (["--json"], ["--format", "json"]):
        assert piped("graph", "--include-offline", *option, "--server", fleet.url).stdout == body + "\n"


def test_json_and_another_format_contradict_each_other() -> None:
    refused = parsed("graph", "--json", "--format", "dot")
    assert refused.exit_code == 2
    assert "contradict" in refused.stderr


def test_dot_names_every_node_and_link(fleet: ServedRegistry) -> None:
    text = piped("graph", "--include-offline", "--format", "dot", "--server", fleet.url).stdout
    drawn = fleet.ask("GET", "/api/graph?include_offline=true")
    assert text.startswith("digraph thunderline {\n")
    assert text.endswith("}\n")
    assert text.count("{") == text.count("}")
    for node in drawn["nodes"]:
        assert f'"{node["name"]}" [label="{node["name"]}\\n{node["role"]}, {node["status"]}"' in text
    assert text.count(" -> ") == len(drawn["links"])


def test_dot_quotes_what_would_end_a_string_or_mean_something_in_it() -> None:
    name = 'a"b\\c\\N<b>&amp;\x1b[31m{|}'
    node = GraphNode(id="1", name=name, role="r", domain='d"', status=NodeStatus.ONLINE)
    link = GraphLink(
        source="1", target="1", session_type="t", connection_type="c", status="established", latency_ms=None
    )
    lines = list(draw_dot(Topology(GraphAnswer([node], [link]), left=frozenset())))
    (edge,) = (line for line in lines if " -> " in line)
    quoted = QUOTED.findall(edge)
    meant = [re.sub(r"\\(.)", r"\1", text).replace("&amp;", "&") for text in quoted]
    assert meant == [name.replace("\x1b", ""), name.replace("\x1b", ""), "t, c"]
    assert QUOTED.sub("", edge).strip() == "->  [label=, style=solid];"
