"""Where the topology puts nodes, in a real browser before a real server: places are kept, also those of who left."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Locator, Page, expect

from thunderline.prism.dashboard import Bundle
from thunderline.testing.clock import ManualClock

if TYPE_CHECKING:
    from tests.browser.conftest import ServerThread

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(Bundle.installed() is None, reason="the dashboard is not built: make dashboard"),
]

Places = dict[str, list[float]]

PLACES_OF = """
(ids) => new Promise((resolve) => {
  const look = () => {
    const canvas = document.querySelector("canvas[role=application]");
    const places = canvas?.places() ?? [];
    const known = new Set(places.filter(([, place]) => place).map(([id]) => id));
    if (canvas?.dataset.settled === "true" && places.length === ids.length && ids.every((id) => known.has(id)))
      resolve(Object.fromEntries(places));
    else requestAnimationFrame(look);
  };
  look();
})
"""
STEP_PX = 12
FAR = 2_000
LEFT_LATELY = re.compile("lately deregistered")
KEPT = "thunderline.places.domain"


def canvas(page: Page) -> Locator:
    return page.locator("canvas[role=application]")


def places(page: Page, server: ServerThread) -> Places:
    """Of exactly the nodes that the server has, once the page has put all of them somewhere."""
    listed = server.http.get("/api/graph", params={"include_offline": True}).json()["nodes"]
    return page.evaluate(PLACES_OF, [node["id"] for node in listed])


def register(server: ServerThread, names: list[str]) -> None:
    nodes = [{"name": name, "domain": f"domain-{index % 4}"} for index, name in enumerate(names)]
    server.http.post("/api/nodes/batch", json={"nodes": nodes}).raise_for_status()


def deregister(server: ServerThread, name: str) -> None:
    server.http.delete(f"/api/nodes/{name}").raise_for_status()


def total(page: Page) -> Locator:
    return page.locator("#total")


def middle(page: Page) -> tuple[float, float]:
    box = canvas(page).bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def find_in_grid(page: Page, name: str) -> tuple[float, float]:
    """A point at which the pointer is on the node's cell."""
    box = canvas(page).bounding_box()
    assert box is not None
    for y in range(STEP_PX, round(box["height"]), STEP_PX):
        for x in range(STEP_PX, round(box["width"]) // 2, STEP_PX):
            page.mouse.move(box["x"] + x, box["y"] + y)
            if page.evaluate(
                "() => new Promise((resolve) => requestAnimationFrame(() => setTimeout(() =>"
                " resolve(document.querySelector('.tip b')?.textContent))))"
            ) == name:  # fmt: skip
                return box["x"] + x, box["y"] + y
    raise AssertionError(f"{name} is nowhere in the grid")


# Who stays


def test_ten_joins_and_ten_leaves_move_no_survivor(page: Page, server: ServerThread) -> None:
    register(server, [f"worker-{number}" for number in range(1_000)])
    page.goto(f"{server.url}/#/topology")
    before = places(page, server)

    register(server, [f"joiner-{number}" for number in range(10)])
    for number in range(10):
        deregister(server, f"worker-{number * 100}")

    after = places(page, server)
    survivors = before.keys() & after.keys()
    assert len(survivors) == len(before) - 10 == len(after) - 10
    assert {node: after[node] for node in survivors} == {node: before[node] for node in survivors}


def test_a_page_that_is_loaded_again_looks_as_it_did_until_it_is_laid_out_again(
    page: Page, server: ServerThread
) -> None:
    register(server, [f"worker-{number}" for number in range(8)])
    page.goto(f"{server.url}/#/topology")
    places(page, server)
    # These come to a drawing that stands, so that a new one would look otherwise.
    register(server, [f"joiner-{number}" for number in range(40)])
    grown = places(page, server)

    page.reload()
    assert places(page, server) == grown

    page.get_by_role("button", name="Lay out again").click()
    anew = places(page, server)
    assert anew != grown
    page.reload()
    assert places(page, server) == anew


@pytest.mark.parametrize(
    "kept",
    [
        '{"anchors": [',
        "null",
        "7",
        '{"anchors": 7, "places": "none"}',
        '{"anchors": [["domain-0", null, 1], ["domain-1", 1e999, 1], "domain-2", [3]], "places": [{}, [1, 2, 3]]}',
    ],
)
def test_places_that_are_broken_or_of_others_are_ignored(page: Page, server: ServerThread, kept: str) -> None:
    register(server, [f"worker-{number}" for number in range(8)])
    page.goto(f"{server.url}/#/topology")
    places(page, server)
    page.evaluate("([item, kept]) => localStorage.setItem(item, kept)", [KEPT, kept])

    page.reload()

    found = places(page, server)
    assert all(abs(x) < FAR and abs(y) < FAR for x, y in found.values())
    # What was found instead is kept from then on.
    now_kept = json.loads(page.evaluate("(item) => localStorage.getItem(item)", KEPT))
    assert {node: [x, y] for node, x, y in now_kept["places"]} == found


def test_of_very_many_groups_those_are_one_whose_names_begin_alike(page: Page, server: ServerThread) -> None:
    for start in (0, 800):
        nodes = [{"name": f"worker-{start + number}", "domain": f"rack-{number:03}"} for number in range(800)]
        server.http.post("/api/nodes/batch", json={"nodes": nodes}).raise_for_status()

    page.goto(f"{server.url}/#/topology")

    # rack-00… to rack-79…, and that of the registry.
    expect(page.locator(".tools .note")).to_contain_text("1,601 nodes in 81 groups")


# Who leaves


def test_who_was_deregistered_is_a_ring_at_its_place_counted_and_selected_by_nobody(
    page: Page, server: ServerThread
) -> None:
    register(server, ["worker-1", "worker-2", "worker-3"])
    page.emulate_media(reduced_motion="reduce")
    page.goto(f"{server.url}/#/topology?node=worker-1")
    places(page, server)
    canvas(page).focus()
    page.keyboard.press("z")
    page.mouse.move(*middle(page))
    expect(page.locator(".tip")).to_contain_text("Connecting")
    moment = server.http.get("/api/timeline?bins=1").json()["newest"]

    deregister(server, "worker-1")

    expect(total(page)).to_have_text("3")
    expect(canvas(page)).to_have_attribute("aria-label", re.compile("Graph of 3 nodes, 1 lately deregistered"))
    page.mouse.move(0, 0)
    page.mouse.move(*middle(page))
    expect(page.locator(".tip")).to_contain_text("worker-1Deregistered")
    page.mouse.click(*middle(page))
    expect(page).not_to_have_url(re.compile("node="))
    page.goto(f"{server.url}/#/topology?at={moment}")
    expect(page.locator(".banner.past")).to_be_visible()
    expect(canvas(page)).to_have_attribute("aria-label", re.compile("Graph of 4 nodes"))
    expect(canvas(page)).not_to_have_attribute("aria-label", LEFT_LATELY)


def test_in_the_grid_who_left_keeps_the_cell_and_all_others_theirs(page: Page, server: ServerThread) -> None:
    register(server, ["worker-1", "worker-2", "worker-3"])
    page.goto(f"{server.url}/#/topology?view=grid&group=none")
    expect(canvas(page)).to_have_attribute("aria-label", re.compile("Grid of 4 nodes"))
    left = find_in_grid(page, "worker-1")
    stays = find_in_grid(page, "worker-3")

    deregister(server, "worker-1")

    expect(canvas(page)).to_have_attribute("aria-label", re.compile("Grid of 3 nodes, 1 lately deregistered"))
    page.mouse.move(*left)
    expect(page.locator(".tip")).to_contain_text("worker-1Deregistered")
    page.mouse.move(*stays)
    expect(page.locator(".tip b")).to_have_text("worker-3")
    expect(page.locator(".tip")).to_contain_text("Connecting")


def test_after_ten_minutes_nothing_is_left_of_who_was_deregistered(
    page: Page, start_server: Callable[..., ServerThread]
) -> None:
    # The page judges ages by the server's `date`, which is real; events have the time of this clock.
    clock = ManualClock(start_ms=round(time.time() * 1000) - 660_000)
    server = start_server(clock=clock)
    register(server, ["worker-1", "worker-2"])
    page.goto(f"{server.url}/#/topology")
    places(page, server)

    deregister(server, "worker-1")
    expect(total(page)).to_have_text("2")
    expect(canvas(page)).not_to_have_attribute("aria-label", LEFT_LATELY)
    server.run(clock.advance(120))
    deregister(server, "worker-2")

    expect(total(page)).to_have_text("1")
    expect(canvas(page)).to_have_attribute("aria-label", re.compile("Graph of 1 node, 1 lately deregistered"))


def test_the_ring_of_who_left_goes_by_itself(page: Page, server: ServerThread) -> None:
    register(server, ["worker-1"])
    page.clock.install()
    page.goto(f"{server.url}/#/topology")
    expect(total(page)).to_have_text("2")
    deregister(server, "worker-1")
    expect(canvas(page)).to_have_attribute("aria-label", LEFT_LATELY)

    page.clock.fast_forward("10:05")

    expect(canvas(page)).not_to_have_attribute("aria-label", LEFT_LATELY)
    expect(canvas(page)).to_have_attribute("aria-label", re.compile("Graph of 1 node"))
