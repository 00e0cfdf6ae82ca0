"""The dashboard before a fleet: a real server process, and nodes of `thunderline simulate` linked to it."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.looks import canvas, cell, chip, is_live, names, needs_dashboard, press, row
from tests.server.processes import ServerProcess, running
from thunderline.testing.fleet import Fleet, Happening, What, draw_plan

if TYPE_CHECKING:
    from tests.browser.conftest import Seen

pytestmark = [pytest.mark.browser, pytest.mark.slow, needs_dashboard]

PLAN: Final = draw_plan(60, seed=11)
NAMES: Final = sorted(node.name for node in PLAN.nodes)
ALL: Final = len(NAMES) + 1
"""With the registry itself."""
WORKERS: Final = sorted(node.name for node in PLAN.nodes if node.role == "worker")
ENVIRON: Final = {
    "THUNDERLINE_HEARTBEAT_INTERVAL_S": "1",
    "THUNDERLINE_DROP_GRACE_S": "0.2",
    "THUNDERLINE_GUARD_FRACTION": "1",
}
START_TIMEOUT_S: Final = 60


class World:
    """A server process, and the fleet that is linked to it from a thread with a loop of its own."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._stack = ExitStack()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._main, name="fleet")
        self._fleet: Future[Fleet] = Future()
        self._stop = asyncio.Event()
        self.server: ServerProcess = self._stack.enter_context(running(store, environ=ENVIRON))

    def __enter__(self) -> Self:
        self._thread.start()
        self._fleet.result(START_TIMEOUT_S)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_TIMEOUT_S)
        assert not self._thread.is_alive()
        self._stack.close()

    def befall(self, what: What, *nodes: str) -> None:
        """Let it happen to these nodes."""
        fleet = self._fleet.result()
        self._loop.call_soon_threadsafe(fleet.befall, Happening(at_s=0, what=what, nodes=nodes))

    def start_again(self) -> None:
        """Start another server over what a killed one left, where that one was."""
        port = self.server.url.rpartition(":")[2]
        self.server = self._stack.enter_context(running(self._store, "--port", port, environ=ENVIRON))

    @property
    def now(self) -> str:
        """A moment of the server: when the newest event of its log happened."""
        return str(self.server.http.get("/api/timeline", params={"bins": 1}).json()["newest"])

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._live())
        except BaseException as error:
            if self._fleet.done():
                raise
            self._fleet.set_exception(error)

    async def _live(self) -> None:
        async with Fleet(self.server.url, PLAN) as fleet:
            await fleet.up()
            self._fleet.set_result(fleet)
            await self._stop.wait()


@pytest.fixture(scope="module")
def world(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    del browser  # without one no fleet is started
    with World(tmp_path_factory.mktemp("fleet") / "nodes.db") as world:
        yield world


def all_are_online(page: Page) -> None:
    expect(chip(page, "online").locator("b")).to_have_text(str(ALL))


def test_each_page_opens_with_the_fleet(page: Page, world: World) -> None:
    page.goto(world.server.url)
    is_live(page)
    expect(page.locator("#total")).to_have_text(str(ALL))
    all_are_online(page)
    expect(page.locator(".verdict")).to_contain_text("All well")
    expect(page.locator(".rows").first.locator("li")).to_have_count(len({node.domain for node in PLAN.nodes}) + 1)
    expect(page.locator(".feed li").first).to_be_visible()

    press(page, "g", "t")
    for view, shown in (("Graph", f"Graph of {ALL} nodes"), ("Grid", f"Grid of {ALL} nodes")):
        page.get_by_role("button", name=view).click()
        expect(canvas(page)).to_have_attribute("data-settled", "true")
        expect(canvas(page)).to_have_attribute("aria-label", re.compile(shown))

    press(page, "g", "n")
    expect(page.get_by_role("table", name="Nodes")).to_have_attribute("aria-rowcount", str(ALL + 1))
    expect(cell(page, WORKERS[0], "cpu")).to_have_text(re.compile(r"\d+\.\d %"))

    page.goto(f"{world.server.url}/#/nodes/{WORKERS[0]}")
    expect(page.locator(".title")).to_contain_text("Online")
    expect(page.get_by_role("img", name=re.compile("^CPU: .*newest"))).to_be_visible()
    expect(page.locator(".links li").first).to_be_visible()

    press(page, "g", "e")
    expect(page.locator("table.events tbody tr").first).to_be_visible()
    press(page, "g", "a")
    expect(page.locator("main")).to_contain_text("Nothing fires.")


def test_nodes_that_fall_and_return_are_seen_without_a_reload(page: Page, world: World) -> None:
    crashed, left = WORKERS[:2]
    page.goto(f"{world.server.url}/#/nodes?q=name:={crashed},={left}")
    expect(names(page)).to_have_text([crashed, left])
    page.evaluate("window.isSamePage = true")

    world.befall(What.CRASH, crashed)
    world.befall(What.LEAVE, left)

    expect(row(page, crashed)).to_have_attribute("data-kind", "disconnected")
    expect(row(page, left)).to_have_attribute("data-kind", "left")
    expect(chip(page, "online").locator("b")).to_have_text(str(ALL - 2))
    world.befall(What.RESTART, crashed)
    world.befall(What.JOIN, left)
    for name in (crashed, left):
        expect(row(page, name)).to_have_attribute("data-kind", "online")
    all_are_online(page)
    assert page.evaluate("window.isSamePage") is True


def test_a_filter_of_the_fleet_is_a_link(page: Page, world: World) -> None:
    zone, domain = next((node.zone, node.domain) for node in PLAN.nodes if node.name == WORKERS[0])
    wanted = sorted(
        node.name for node in PLAN.nodes if node.domain == domain and node.role == "worker" and node.zone == zone
    )
    page.goto(f"{world.server.url}/#/nodes?sort=name")
    page.get_by_role("complementary", name="Filters").get_by_role("button", name=domain).click()
    page.get_by_role("searchbox").fill(f"role:worker zone:{zone}")
    expect(names(page)).to_have_count(len(wanted))
    address = page.url

    page.goto("about:blank")
    page.goto(address)

    expect(page.locator("main h1")).to_have_text(f"{len(wanted)} nodes")
    assert sorted(names(page).all_text_contents()) == wanted
    page.get_by_role("link", name="In the topology").click()
    expect(page.locator(".stage")).to_contain_text(f"{len(wanted)} of {ALL} match")


def test_by_the_keyboard_alone_a_node_is_found_marked_and_released(page: Page, world: World) -> None:
    name = WORKERS[2]
    page.goto(world.server.url)
    all_are_online(page)
    press(page, "/")
    page.keyboard.type(f"name:={name}")
    press(page, "Enter")
    expect(page.get_by_role("heading", name=name)).to_be_visible()

    def press_button(word: str) -> None:
        button = page.get_by_role("button", name=word, exact=True)
        expect(button).to_be_visible()
        for _ in range(60):
            if button.evaluate("(button) => button === document.activeElement"):
                break
            press(page, "Tab")
        expect(button).to_be_focused()
        press(page, "Enter")

    press_button("Mark degraded")
    expect(page.get_by_role("dialog").get_by_label("Reason")).to_be_focused()
    page.keyboard.type("slow disk")
    press(page, "Enter")
    expect(page.locator(".title")).to_contain_text("Degraded")
    press_button("Lift override")
    expect(page.get_by_role("dialog")).to_be_visible()
    press_button("Lift")
    expect(page.locator(".title")).to_contain_text("Online")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_an_action_that_is_refused_changes_nothing(page: Page, seen: Seen, world: World) -> None:
    name = WORKERS[3]
    page.goto(f"{world.server.url}/#/nodes/{name}")
    page.get_by_role("button", name="Deregister").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Deregister").click()

    expect(dialog.get_by_role("alert")).to_contain_text("link")
    press(page, "Escape")
    expect(page.locator(".title")).to_contain_text("Online")
    assert world.server.http.get(f"/api/nodes/{name}").json()["node"]["status"] == "online"
    seen.errors = [text for text in seen.errors if "409" not in text]


def test_the_past_is_as_it_was_and_the_way_back_is_one_key(page: Page, world: World) -> None:
    name = WORKERS[4]
    page.goto(f"{world.server.url}/#/nodes?q=name:={name}")
    expect(row(page, name)).to_have_attribute("data-kind", "online")
    world.befall(What.LEAVE, name)
    expect(row(page, name)).to_have_attribute("data-kind", "left")
    then = world.now
    world.befall(What.JOIN, name)
    expect(row(page, name)).to_have_attribute("data-kind", "online")

    page.goto(f"{world.server.url}/#/nodes?q=name:={name}&at={then}")

    expect(page.locator(".banner.past")).to_contain_text("The past")
    expect(row(page, name)).to_have_attribute("data-kind", "left")
    press(page, "g", "t")
    expect(canvas(page)).to_have_attribute("aria-label", re.compile(f"{ALL} nodes"))
    page.get_by_role("slider", name="Point in time").focus()
    press(page, "End")
    expect(page).not_to_have_url(re.compile("at="))
    press(page, "g", "n")
    expect(row(page, name)).to_have_attribute("data-kind", "online")


def test_after_a_server_was_killed_no_event_is_missing(page: Page, seen: Seen, world: World) -> None:
    page.goto(f"{world.server.url}/#/events")
    is_live(page)
    all_are_online(page)
    before = world.server.http.get("/api/summary").json()["revision"]
    expect(page.locator(".pill .num")).to_have_text(f"r{before:,}")

    world.server.kill()
    expect(page.locator("body")).to_have_attribute("data-feed", "stale")
    expect(page.locator(".banner.stale")).to_contain_text("Stale since")
    world.start_again()

    is_live(page)
    all_are_online(page)
    world.server.http.post("/api/nodes", json={"name": "the-last"}).raise_for_status()
    expect(page.locator("table.events tbody tr").first).to_contain_text("the-last")
    after = world.server.http.get("/api/summary").json()["revision"]
    expect(page.locator(".pill .num")).to_have_text(f"r{after:,}")
    told = [int(text.replace(",", "")) for text in page.locator("table.events td.num").all_text_contents()]
    assert told == list(range(after, after - len(told), -1))
    assert told[-1] <= before + 1
    world.server.http.delete("/api/nodes/the-last").raise_for_status()
    expect(page.locator("#total")).to_have_text(str(ALL))
    seen.errors = [text for text in seen.errors if "Failed to load resource" not in text]
