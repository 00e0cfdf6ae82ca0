"""The examples, each with the library that it is for, before a real server."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import Page

if TYPE_CHECKING:
    from tests.browser.conftest import ServerThread

ROOT = Path(__file__).parents[2]
MODULES = ROOT / "ui/node_modules"
HOLDS = """
() => {
  const { nodes, links } = drawing.graphData();
  return {
    nodes: nodes.map((node) => node.name).sort(),
    // The library has put the nodes themselves where their ids were.
    links: links.map((link) => `${link.source.name} ${link.target.name} ${link.session_id}`).sort(),
    placed: nodes.every((node) => Number.isFinite(node.x) && Number.isFinite(node.y)),
  };
}
"""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (MODULES / "force-graph").is_dir(), reason="force-graph is not installed: npm ci in ui/"),
]


@pytest.fixture
def example(server: ServerThread) -> Iterator[str]:
    """The address of `examples/graph/serve.py` before the server."""
    command = [sys.executable, str(ROOT / "examples/graph/serve.py"), "--server", server.url]
    arguments = ["--port", "0", "--modules", str(MODULES)]
    with subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://[^/\s]+", process.stdout.readline())
            assert found is not None
            yield found[0]
        finally:
            process.terminate()


def test_force_graph_holds_the_nodes_and_links_of_the_graph(example: str, page: Page, server: ServerThread) -> None:
    for name in ("worker-1", "worker-2", "worker-3"):
        server.register(name, domain="training")
    for source, target in (("worker-1", "worker-2"), ("worker-2", "worker-3")):
        session = {"node_id": source, "remote_node_id": target, "session_id": f"{source}-{target}"}
        server.http.post("/api/sessions", json=session).raise_for_status()
    graph = server.http.get("/api/graph", params={"include_offline": True}).json()

    page.goto(f"{example}/2d.html")
    page.wait_for_function("() => globalThis.drawing?.graphData().nodes.every((node) => 'x' in node)")

    names = {node["id"]: node["name"] for node in graph["nodes"]}
    assert len(graph["links"]) == 2
    assert page.evaluate(HOLDS) == {
        "nodes": sorted(names.values()),
        "links": sorted(
            f"{names[link['source']]} {names[link['target']]} {link['session_id']}" for link in graph["links"]
        ),
        "placed": True,
    }


def test_what_the_server_refuses_comes_through_with_its_reason(example: str, server: ServerThread) -> None:
    refused = server.http.get("/api/graph?at=tomorrow")

    answer = httpx.get(f"{example}/api/graph?at=tomorrow")

    assert refused.status_code >= 400
    assert (answer.status_code, answer.json()["status"]) == (refused.status_code, refused.status_code)
