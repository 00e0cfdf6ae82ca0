"""The dashboard, in a real browser before a real server."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.looks import (
    OWN,
    cell,
    chip,
    faults,
    is_live,
    manual_clock,
    names,
    needs_axe,
    needs_dashboard,
    row,
)
from tests.server.processes import running
from thunderline.block.engines import store_from_url
from thunderline.core.access import Scope
from thunderline.core.inputs import NewToken
from thunderline.link.actor import EMBEDDING_PROGRAM
from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import FaultyStore

if TYPE_CHECKING:
    from tests.browser.conftest import Seen, ServerThread

pytestmark = [pytest.mark.browser, needs_dashboard]

HOSTILE = "<img src=x onerror=\"window.hostile='ran'\">"
UNKNOWN = "\N{EN DASH}"
TABS = 9
WATCHERS_LOOKS = 100
WATCHERS_LOOK_MS = 100


@pytest.fixture
def fleet(server: ServerThread) -> ServerThread:
    """Nodes in two domains: two online, one degraded, one that left, and what the registry itself is."""
    for name, role, domain, load in (
        ("gpu-1", "worker", "training", 80),
        ("gpu-2", "worker", "training", 10),
        ("gpu-10", "worker", "training", 20),
        ("cam-1", "edge", "street", 5),
    ):
        server.register(name, role=role, domain=domain, labels={"zone": "a"}, meta={"version": "2.4.1"})
        server.beat(name, cpu_load=load, mem_used_mb=2048, latency_ms=3.5)
    server.beat("gpu-2", status="degraded", cpu_load=10)
    server.beat("cam-1", status="offline")
    return server


# What it shows, and that it follows


def test_a_node_that_comes_up_and_goes_down_is_seen_without_a_reload(page: Page, server: ServerThread) -> None:
    page.goto(f"{server.url}/#/nodes")
    expect(row(page, OWN)).to_contain_text("Online")

    server.register("worker-1", role="gpu", domain="training")
    expect(row(page, "worker-1")).to_contain_text("Connecting")
    expect(cell(page, "worker-1", "domain")).to_have_text("training")
    expect(page.locator("#total")).to_have_text("2")

    server.beat("worker-1", cpu_load=12.5)
    expect(row(page, "worker-1")).to_contain_text("Online")
    expect(cell(page, "worker-1", "cpu")).to_have_text("12.5 %")

    server.beat("worker-1", status="offline")
    expect(row(page, "worker-1")).to_contain_text("Left")
    expect(cell(page, "worker-1", "cpu")).to_have_text(UNKNOWN)
    expect(chip(page, "left")).to_contain_text("1")

    server.http.delete("/api/nodes/worker-1").raise_for_status()
    expect(row(page, "worker-1")).to_have_count(0)
    expect(page.locator("#total")).to_have_text("1")


def test_every_kind_of_status_has_a_shape_of_its_own(page: Page, start_server: Callable[..., ServerThread]) -> None:
    clock = manual_clock()
    server = start_server(clock=clock, offline_after_s=60.0)
    for name in ("online", "degraded", "left"):
        server.register(name)
        server.beat(name)
    server.register("lost", heartbeat_interval_ms=10_000)
    server.beat("lost")
    server.run(clock.advance(60))
    server.register("disconnected", heartbeat_interval_ms=10_000)
    server.beat("disconnected")
    server.run(clock.advance(35))
    server.register("connecting")
    server.beat("degraded", status="degraded")
    server.beat("left", status="offline")

    page.goto(f"{server.url}/#/nodes")

    for kind in ("online", "degraded", "disconnected", "lost", "connecting", "left"):
        expect(row(page, kind)).to_have_attribute("data-kind", kind)
        expect(chip(page, kind).locator("b")).to_have_text("2" if kind == "online" else "1")
    shapes = page.evaluate(
        "[...document.querySelectorAll('.chip .glyph')].map((glyph) => glyph.innerHTML.replace(/class=.\\w+./g, ''))"
    )
    assert len(set(shapes)) == len(shapes) == 6


def test_what_is_not_known_is_a_dash_and_never_a_zero(page: Page, server: ServerThread) -> None:
    server.register("silent")
    server.register("idle")
    server.beat("idle", cpu_load=0, mem_used_mb=0, latency_ms=0)

    page.goto(f"{server.url}/#/nodes")

    for column in ("cpu", "memory", "latency", "seen"):
        expect(cell(page, "silent", column)).to_have_text(UNKNOWN)
    expect(cell(page, "idle", "cpu")).to_have_text("0.0 %")
    expect(cell(page, "idle", "memory")).to_have_text("0 MiB")
    expect(cell(page, "idle", "latency")).to_have_text("0.0 ms")


def test_what_nodes_say_of_themselves_is_text_on_every_page(page: Page, server: ServerThread) -> None:
    server.register("worker-1", labels={"a": HOSTILE}, meta={"b": HOSTILE}, capabilities={"c": {"value": HOSTILE}})
    server.beat("worker-1")
    server.mark("worker-1", "degraded", HOSTILE)

    for address in ("overview", "topology?node=worker-1", "nodes", "nodes/worker-1", "events"):
        page.goto(f"{server.url}/#/{address}")
        expect(page.locator("main")).to_contain_text(HOSTILE)
    assert page.evaluate("window.hostile ?? null") is None


def test_each_page_shows_the_fleet(page: Page, fleet: ServerThread) -> None:
    page.goto(fleet.url)
    expect(page.get_by_role("heading", name="Domains, worst first")).to_be_visible()
    expect(page.locator(".rows li").first).to_contain_text("training")
    expect(page.locator(".attention")).to_contain_text("gpu-2")
    expect(page.locator(".feed")).to_contain_text("cam-1")

    page.get_by_role("link", name="Topology", exact=True).click()
    expect(page.locator("canvas[role=application]")).to_have_attribute("data-settled", "true")
    expect(page.locator("canvas[role=application]")).to_have_attribute("aria-label", re.compile("Graph of 5 nodes"))
    page.get_by_role("button", name="Grid").click()
    expect(page.locator("canvas[role=application]")).to_have_attribute("aria-label", re.compile("Grid of 5 nodes"))
    expect(page).to_have_url(re.compile("view=grid"))

    page.get_by_role("link", name="Nodes", exact=True).click()
    expect(names(page)).to_have_count(5)

    page.get_by_role("link", name="Events", exact=True).click()
    expect(page.locator("table.events")).to_contain_text("Left")
    expect(page.locator("table.events")).to_contain_text("the node said goodbye")


def test_the_page_of_a_node_has_its_record_figures_and_history(page: Page, server: ServerThread) -> None:
    node = server.register(
        "worker-1", labels={"zone": "a"}, meta={"rack": "r7"}, capabilities={"gpu": {"value": "a100"}}
    )
    server.http.post("/api/nodes/worker-1/online", json={"session": {"session_id": "s-1"}}).raise_for_status()
    server.beat("worker-1", cpu_load=12.5, mem_used_mb=2048, latency_ms=4)
    server.beat("worker-1", status="degraded", cpu_load=12.5, mem_used_mb=2048, latency_ms=4)

    page.goto(f"{server.url}/#/nodes/worker-1")

    main = page.locator("main")
    for said in (node["id"], "zone=a", "gpu=a100", '"rack": "r7"', "s-1", "the node reports it of itself"):
        expect(main).to_contain_text(said)
    expect(page.locator(".beats i")).to_have_count(60)
    expect(page.get_by_role("img", name=re.compile("^CPU: .*newest 12.5 %"))).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^Memory: .*newest 2.0 GiB"))).to_be_visible()
    expect(page.get_by_role("img", name=re.compile("^Heartbeat latency: .*newest 4.0 ms"))).to_be_visible()
    expect(page.locator("table.history tbody tr").first).to_contain_text("Degraded")


def test_missed_heartbeats_are_gaps_and_empty_cells(page: Page, start_server: Callable[..., ServerThread]) -> None:
    clock = ManualClock(start_ms=round(time.time() * 1000) - 480_000)
    server = start_server(clock=clock, offline_after_s=600.0)
    server.register("worker-1", heartbeat_interval_ms=10_000)
    for minute in range(8):
        for _ in range(6):
            if minute not in (3, 4):
                server.beat("worker-1", cpu_load=10 * minute, mem_used_mb=1024)
            server.run(clock.advance(10))

    page.goto(f"{server.url}/#/nodes/worker-1")

    expect(page.get_by_role("img", name=re.compile("^CPU: .*one gap"))).to_be_visible()
    expect(page.locator(".beats .missed").first).to_be_visible()
    assert page.locator(".beats .missed").count() in (1, 2)


# Finding


def test_search_filters_sort_and_address_say_the_same(page: Page, fleet: ServerThread) -> None:
    page.goto(f"{fleet.url}/#/nodes")
    expect(names(page)).to_have_text(["gpu-2", "gpu-1", "gpu-10", OWN, "cam-1"])
    page.keyboard.press("/")
    page.keyboard.type("role:worker -gpu-2 zone=a")
    expect(names(page)).to_have_text(["gpu-1", "gpu-10"])
    expect(page).to_have_url(re.compile("q=role:worker"))
    page.get_by_role("columnheader", name="CPU").get_by_role("button").click()
    expect(page).to_have_url(re.compile("sort=-cpu"))
    page.get_by_role("columnheader", name="CPU").get_by_role("button").click()
    expect(names(page)).to_have_text(["gpu-10", "gpu-1"])
    address = page.url

    page.goto("about:blank")
    page.goto(address)

    expect(names(page)).to_have_text(["gpu-10", "gpu-1"])
    expect(page.get_by_role("searchbox")).to_have_value("role:worker -gpu-2 zone=a")
    page.get_by_role("button", name="Clear filters").click()
    chip(page, "degraded").click()
    chip(page, "left").click()
    expect(page).to_have_url(re.compile("status=degraded,left"))
    expect(names(page)).to_have_text(["gpu-2", "cam-1"])
    page.go_back()
    expect(names(page)).to_have_text(["gpu-2"])
    page.get_by_role("complementary", name="Filters").get_by_role("button", name="street").click()
    expect(page.locator(".table")).to_contain_text("No node matches the filter")


def test_metadata_is_searched_by_its_key(page: Page, fleet: ServerThread) -> None:
    fleet.register("old-1", meta={"version": "2.3.9"})

    page.goto(f"{fleet.url}/#/nodes?q=version:2.3")

    expect(names(page)).to_have_text(["old-1"])


def test_the_keyboard_reaches_everything(page: Page, fleet: ServerThread) -> None:
    page.goto(f"{fleet.url}/#/nodes?sort=name")
    expect(names(page)).to_have_text(["cam-1", "gpu-1", "gpu-2", "gpu-10", OWN])
    page.locator(".c-name a[tabindex='0']").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(row(page, "gpu-2").get_by_role("link")).to_be_focused()
    page.keyboard.press("End")
    expect(row(page, OWN).get_by_role("link")).to_be_focused()
    page.keyboard.press("Home")
    expect(row(page, "cam-1").get_by_role("link")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="cam-1")).to_be_visible()

    page.keyboard.press("g")
    page.keyboard.press("t")
    canvas = page.locator("canvas[role=application]")
    expect(canvas).to_have_attribute("data-settled", "true")
    canvas.focus()
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile("node="))
    page.keyboard.press("Escape")
    expect(page).not_to_have_url(re.compile("node="))
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys and search")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("g")
    page.keyboard.press("e")
    expect(page.get_by_role("heading", name="Latest events")).to_be_visible()


def test_of_a_long_list_only_the_rows_in_view_are_in_the_document(page: Page, server: ServerThread) -> None:
    server.http.post(
        "/api/nodes/batch", json={"nodes": [{"name": f"worker-{number:03}"} for number in range(400)]}
    ).raise_for_status()
    page.goto(f"{server.url}/#/nodes?sort=name")
    expect(page.get_by_role("table", name="Nodes")).to_have_attribute("aria-rowcount", "402")
    assert names(page).count() < 100

    page.locator(".c-name a[tabindex='0']").focus()
    page.keyboard.press("End")

    expect(row(page, "worker-399").get_by_role("link")).to_be_focused()
    expect(row(page, "worker-399")).to_have_attribute("aria-rowindex", "402")
    assert names(page).count() < 100


# The past


def test_the_past_is_shown_as_it_was_and_one_button_leads_back(
    page: Page, start_server: Callable[..., ServerThread]
) -> None:
    clock = ManualClock(start_ms=round(time.time() * 1000) - 1_200_000)
    server = start_server(clock=clock)
    server.register("worker-1")
    server.beat("worker-1")
    server.register("gone-1")
    server.beat("gone-1", status="offline")
    server.run(clock.advance(600))
    then = clock.now()
    server.run(clock.advance(300))
    server.beat("worker-1", status="degraded")
    server.http.delete("/api/nodes/gone-1").raise_for_status()
    server.run(clock.advance(300))
    page.goto(f"{server.url}/#/nodes")
    expect(row(page, "worker-1")).to_contain_text("Degraded")

    page.goto(f"{server.url}/#/nodes?at={then.isoformat().replace('+00:00', 'Z')}")

    expect(page.locator(".banner.past")).to_contain_text("The past")
    expect(row(page, "worker-1")).to_contain_text("Online")
    # Why it was offline its history knows.
    expect(row(page, "gone-1")).to_contain_text("Left")
    row(page, "worker-1").get_by_role("link").click()
    expect(page.get_by_role("button", name="Mark offline")).to_be_disabled()
    expect(page.locator(".title")).to_contain_text("Online")
    page.get_by_role("button", name="Back to live", exact=True).click()
    expect(page.locator(".title")).to_contain_text("Degraded")
    expect(page.locator(".banner")).to_have_count(0)
    expect(page.get_by_role("button", name="Mark offline")).to_be_enabled()


def test_the_playhead_moves_by_keys_and_by_changes(page: Page, start_server: Callable[..., ServerThread]) -> None:
    clock = ManualClock(start_ms=round(time.time() * 1000) - 600_000)
    server = start_server(clock=clock, offline_after_s=3600.0)
    server.register("worker-1")
    server.run(clock.advance(300))
    server.beat("worker-1")
    server.run(clock.advance(300))
    page.goto(f"{server.url}/#/nodes")
    expect(row(page, "worker-1")).to_contain_text("Online")
    slider = page.get_by_role("slider", name="Point in time")
    slider.focus()
    page.keyboard.press("PageUp")
    expect(page).to_have_url(re.compile("at="))
    page.keyboard.press("PageUp")
    expect(row(page, "worker-1")).to_contain_text("Connecting")

    page.get_by_role("button", name="Next change of a node").click()

    expect(row(page, "worker-1")).to_contain_text("Online")
    slider.focus()
    page.keyboard.press("End")
    expect(page).not_to_have_url(re.compile("at="))
    expect(slider).to_have_attribute("aria-valuetext", "live")


def test_a_moment_before_the_first_event_is_an_empty_cluster(page: Page, fleet: ServerThread) -> None:
    page.goto(f"{fleet.url}/#/nodes?at=2001-01-01T00:00:00Z")

    expect(page.locator(".banner.past")).to_contain_text("The past")
    expect(page.locator("#total")).to_have_text("0")


# Actions


def test_an_override_is_laid_and_lifted_and_each_asks_first(page: Page, fleet: ServerThread) -> None:
    page.goto(f"{fleet.url}/#/nodes/gpu-1")
    page.get_by_role("button", name="Mark offline").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Mark offline").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Say why")
    dialog.get_by_label("Reason").fill("kernel upgrade")
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    expect(page.locator(".title")).to_contain_text("Left")
    expect(page.locator("main")).to_contain_text("kernel upgrade")
    expect(page.locator(".facts").first).to_contain_text("online: a heartbeat arrived")

    page.get_by_role("button", name="Lift override").click()
    page.get_by_role("dialog").get_by_role("button", name="Lift").click()

    expect(page.locator(".title")).to_contain_text("Online")


def test_a_refusal_is_shown_with_its_reason_and_what_can_be_done(page: Page, seen: Seen, server: ServerThread) -> None:
    server.register("worker-1")
    server.http.post("/api/nodes/worker-1/online", json={"session": {"session_id": "s-1"}}).raise_for_status()
    page.goto(f"{server.url}/#/nodes/worker-1")
    page.get_by_role("button", name="Deregister").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Deregister").click()

    expect(dialog.get_by_role("alert")).to_contain_text("link")
    assert server.http.get("/api/nodes/worker-1").status_code == 200
    seen.errors = [text for text in seen.errors if "409" not in text]
    dialog.get_by_role("checkbox").check()
    dialog.get_by_role("button", name="Deregister").click()

    expect(page.locator("main")).to_contain_text("There is no node of this name")
    # What the page had asked about the node just before is answered by then.
    page.goto("about:blank")
    seen.errors = [text for text in seen.errors if "404" not in text]


def test_actions_are_offered_to_whom_they_are_allowed(
    page: Page, seen: Seen, start_server: Callable[..., ServerThread], tmp_path: Path
) -> None:
    server = start_server(auth=True, admin_token_file=str(tmp_path / "admin.token"))

    async def token(name: str, scope: Scope) -> str:
        made = NewToken(name=name, scopes=(scope,))
        return (await server.registry.tokens.create_token(made, actor=EMBEDDING_PROGRAM)).text

    for name, scope, offered in (("reader", Scope.READ, 0), ("ada", Scope.OPERATOR, 1)):
        text = server.run(token(name, scope))
        page.goto(f"{server.url}/#/nodes/{OWN}")
        page.get_by_label("Token").fill(text)
        page.get_by_role("button", name="Log in").click()
        expect(page.locator("#who-name")).to_have_text(name)
        expect(page.locator(".title")).to_contain_text("Online")
        expect(page.get_by_role("button", name="Mark degraded")).to_have_count(offered)
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_label("Token")).to_be_visible()
    # What was on its way when the session ended is refused, which Chromium reports by itself.
    seen.errors = [text for text in seen.errors if "401" not in text]


# When it does not know


def test_a_server_that_restarts_makes_the_page_stale_and_then_nothing_is_missing(
    page: Page, seen: Seen, tmp_path: Path
) -> None:
    store = tmp_path / "nodes.db"
    with running(store) as first:
        page.goto(f"{first.url}/#/nodes?sort=name&q=worker")
        is_live(page)
        first.http.post("/api/nodes", json={"name": "worker-1"}).raise_for_status()
        expect(names(page)).to_have_text(["worker-1"])
        first.kill()
        expect(page.locator("body")).to_have_attribute("data-feed", "stale")
        expect(page.locator(".banner.stale")).to_contain_text("Stale since")
        expect(page.locator(".verdict")).to_contain_text("Unknown")
    with running(store, "--port", first.url.rpartition(":")[2]) as second:
        # Before the page is back, and while it comes.
        for number in (2, 3, 4):
            second.http.post("/api/nodes", json={"name": f"worker-{number}"}).raise_for_status()
        expect(names(page)).to_have_text([f"worker-{number}" for number in (1, 2, 3, 4)])
        is_live(page)
        expect(page.locator(".banner.stale")).to_have_count(0)
        revision = second.http.get("/api/summary").json()["revision"]
        expect(page.locator(".pill .num")).to_have_text(f"r{revision:,}")
        page.goto("about:blank")
    seen.errors = [text for text in seen.errors if "Failed to load resource" not in text]


def test_a_store_that_is_away_is_said(page: Page, start_server: Callable[..., ServerThread], monkeypatch: Any) -> None:
    stores: list[FaultyStore] = []

    def faulty(*args: Any, **kwargs: Any) -> FaultyStore:
        stores.append(FaultyStore(store_from_url(*args, **kwargs)))
        return stores[-1]

    monkeypatch.setattr("thunderline.server.store_from_url", faulty)
    server = start_server()
    page.goto(server.url)
    is_live(page)
    stores[0].away = True
    server.http.post("/api/nodes", json={"name": "worker-1"})

    expect(page.locator(".banner.watch")).to_contain_text("The server's store is away")


GUARDED = 20
EVERYWHERE = ("overview", "topology", "nodes", "nodes/worker-0", "events", "alerts")


def expect_everywhere(page: Page, server: ServerThread, text: str) -> None:
    """That a banner says so on every page, of which none is loaded anew."""
    page.evaluate("window.isSamePage = true")
    for address in EVERYWHERE:
        page.goto(f"{server.url}/#/{address}")
        expect(page.locator(".banner.watch")).to_contain_text(text)
    assert page.evaluate("window.isSamePage") is True


def test_a_guard_that_is_engaged_is_told_on_every_page_until_it_is_released(
    page: Page, start_server: Callable[..., ServerThread]
) -> None:
    clock = manual_clock()
    server = start_server(clock=clock)
    for number in range(GUARDED):
        server.register(f"worker-{number}", heartbeat_interval_ms=10_000)
        server.beat(f"worker-{number}")
    page.goto(server.url)
    expect(chip(page, "online").locator("b")).to_have_text(str(GUARDED + 1))
    expect(page.locator(".banner")).to_have_count(0)

    server.run(clock.advance(31))

    expect_everywhere(page, server, "Guard engaged in everything")
    [guard] = server.http.get("/api/summary").json()["liveness"]["guards"]
    expect(page.locator(".banner.watch")).to_contain_text(f"{guard['fallen']} of {guard['nodes']} nodes fell silent")
    before = server.http.get("/api/timeline", params={"bins": 1}).json()["oldest"]
    page.goto(f"{server.url}/#/alerts?at={before}")
    expect(page.locator(".banner.watch")).to_contain_text("Now: Guard engaged")
    page.get_by_role("button", name="Back to live", exact=True).click()
    for _ in range(2):
        server.run(clock.advance(121))
    assert server.http.get("/api/summary").json()["liveness"]["guards"] == []
    expect(page.locator(".banner")).to_have_count(0)
    page.goto(f"{server.url}/#/events?about=registry")
    expect(page.locator("table.events")).to_contain_text("Guard engaged")
    expect(page.locator("table.events tbody tr").first).to_contain_text("Guard released")


def test_a_fleet_that_beats_more_than_the_server_is_set_for_is_told_on_every_page(
    page: Page, start_server: Callable[..., ServerThread]
) -> None:
    clock = manual_clock()
    server = start_server(clock=clock, max_heartbeats_per_second=1, max_interval_s=10, heartbeat_interval_s=1)
    page.goto(server.url)
    is_live(page)
    for number in range(11):
        server.register(f"worker-{number}")
        server.beat(f"worker-{number}")
    server.run(clock.advance(1))

    expect_everywhere(page, server, "Over capacity")

    for number in range(1, 11):
        server.http.delete(f"/api/nodes/worker-{number}").raise_for_status()
    server.run(clock.advance(1))
    expect(page.locator(".banner")).to_have_count(0)


# Many tabs


def watchers(server: ServerThread) -> int:
    """Who watches the server's events, by its own count: streams of pages, and one of its own for alerts."""
    [found] = re.findall(r"^thunderline_watchers (\d+)", server.http.get("/metrics").text, re.MULTILINE)
    return int(found)


def watchers_are(page: Page, server: ServerThread, wanted: int) -> None:
    """Wait until there are so many; a stream's end is noticed by the server in its own time."""
    for _ in range(WATCHERS_LOOKS):
        if watchers(server) == wanted:
            return
        page.wait_for_timeout(WATCHERS_LOOK_MS)
    assert watchers(server) == wanted


def test_nine_tabs_hold_one_stream_and_the_next_takes_over(
    context: BrowserContext, seen: Seen, server: ServerThread
) -> None:
    without = watchers(server)
    tabs = [context.new_page() for _ in range(TABS)]
    streams: dict[int, int] = {}
    for index, tab in enumerate(tabs):
        seen.watch(tab)
        streams[index] = 0

        def count(request: Any, index: int = index) -> None:
            streams[index] += "/api/events?match" in request.url

        tab.on("request", count)
        tab.goto(f"{server.url}/#/nodes")
        expect(row(tab, OWN)).to_be_visible()
    server.register("worker-1")
    for tab in tabs:
        expect(row(tab, "worker-1")).to_be_visible()
    assert sum(streams.values()) == streams[0] == 1
    watchers_are(tabs[0], server, without + 1)

    tabs[0].close()
    server.register("worker-2")

    for tab in tabs[1:]:
        expect(row(tab, "worker-2")).to_be_visible()
    assert sum(streams.values()) == 2
    watchers_are(tabs[1], server, without + 1)
    for tab in tabs[1:]:
        tab.close()
    assert seen.errors == []


# Looks


@pytest.mark.parametrize(("scheme", "background"), [("dark", "rgb(12, 16, 24)"), ("light", "rgb(238, 241, 246)")])
def test_it_follows_the_colour_scheme_until_a_theme_is_chosen(
    page: Page, server: ServerThread, scheme: Any, background: str
) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(server.url)
    expect(page.locator("body")).to_have_css("background-color", background)

    page.get_by_role("button", name=re.compile("theme")).click()
    expect(page.locator("body")).not_to_have_css("background-color", background)
    page.reload()

    expect(page.locator("body")).not_to_have_css("background-color", background)


def test_nothing_moves_for_who_wants_no_motion(page: Page, fleet: ServerThread) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.goto(f"{fleet.url}/#/topology")
    expect(page.locator("canvas[role=application]")).to_have_attribute("data-settled", "true")

    assert page.evaluate("document.getAnimations().length") == 0


def test_a_narrow_screen_shows_everything_without_scrolling_sideways(page: Page, fleet: ServerThread) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    page.goto(f"{fleet.url}/#/nodes")

    for column in ("status", "name", "role", "domain", "cpu", "memory", "latency", "seen"):
        expect(cell(page, "gpu-1", column)).to_be_in_viewport(ratio=1)
    assert page.evaluate("document.documentElement.scrollWidth") == 400


def test_on_a_narrow_screen_a_long_table_ends_above_the_timeline(page: Page, server: ServerThread) -> None:
    nodes = [{"name": f"worker-{number:02}"} for number in range(30)]
    server.http.post("/api/nodes/batch", json={"nodes": nodes}).raise_for_status()
    page.set_viewport_size({"width": 400, "height": 800})
    page.goto(f"{server.url}/#/nodes?sort=name")
    expect(row(page, "worker-00")).to_be_visible()

    table, timeline = page.locator(".table").bounding_box(), page.locator(".timeline").bounding_box()
    assert table is not None
    assert timeline is not None
    assert table["y"] + table["height"] <= timeline["y"]


@needs_axe
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_no_page_has_a_fault_that_axe_finds(page: Page, fleet: ServerThread, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    fleet.mark("gpu-1", "degraded", "slow disk")
    past = json.loads(fleet.http.get("/api/timeline?bins=1").text)["newest"]
    found = []
    for address in (
        "overview",
        "topology",
        "topology?view=grid&node=gpu-1",
        "topology?status=degraded",
        "nodes",
        "nodes?q=none-of-these",
        "nodes/gpu-1",
        "nodes/absent",
        "events",
        "alerts",
        f"alerts?at={past}",
        f"overview?at={past}",
        f"topology?at={past}",
        f"nodes/gpu-1?at={past}",
    ):
        page.goto(f"{fleet.url}/#/{address}")
        is_live(page)
        expect(page.locator("main h1").first).to_be_attached()
        found += [f"{address}: {fault}" for fault in faults(page)]
    page.goto(f"{fleet.url}/#/nodes/gpu-1")
    page.get_by_role("button", name="Mark offline").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert [*found, *faults(page)] == []
