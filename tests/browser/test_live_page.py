"""The live page, in a real browser before a real server."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from thunderline.block.engines import store_from_url
from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import FaultyStore

if TYPE_CHECKING:
    from tests.browser.conftest import Seen, ServerThread

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror=\"window.hostile='ran'\">"
OWN = "registry@here"
UNKNOWN = "\N{EN DASH}"


def row(page: Page, name: str) -> Locator:
    return page.locator(f'#rows tr[data-name="{name}"]')


def names(page: Page) -> Locator:
    return page.locator("#rows tr[data-id] .c-name")


def cell(page: Page, name: str, column: str) -> Locator:
    return row(page, name).locator(f".c-{column}")


def chip(page: Page, label: str) -> Locator:
    return page.get_by_role("group", name="Filter by status").get_by_role("button", name=label)


def manual_clock() -> ManualClock:
    """A clock that the test turns, at the present: the page judges ages by the server's `date`, which is real."""
    return ManualClock(start_ms=round(time.time() * 1000))


# What it shows


def test_the_registry_shows_its_own_host_online_with_its_real_memory(page: Page, server: ServerThread) -> None:
    memory = psutil.virtual_memory()
    used_mb = server.http.get(f"/api/nodes/{OWN}").json()["node"]["presence"]["last_heartbeat"]["mem_used_mb"]
    assert used_mb == pytest.approx((memory.total - memory.available) / 1_048_576, abs=512)

    page.goto(server.url)

    expect(row(page, OWN)).to_contain_text("Online")
    # Not the text itself: by the time the page is there another beat may have come, with a little more or less.
    expect(cell(page, OWN, "memory")).to_have_text(re.compile(r"^(\d+ MiB|\d+\.\d GiB)$"))
    number, unit = cell(page, OWN, "memory").inner_text().split()
    assert float(number) * (1024 if unit == "GiB" else 1) == pytest.approx(used_mb, abs=512)


def test_a_node_that_registers_appears_without_a_reload(page: Page, server: ServerThread) -> None:
    page.goto(server.url)
    expect(row(page, OWN)).to_be_visible()

    server.register("worker-1", role="gpu", domain="training")

    expect(row(page, "worker-1")).to_contain_text("Connecting")
    expect(cell(page, "worker-1", "role")).to_have_text("gpu")
    expect(cell(page, "worker-1", "domain")).to_have_text("training")
    expect(page.locator("#total")).to_have_text("2")


def test_a_node_that_is_deregistered_disappears(page: Page, server: ServerThread) -> None:
    server.register("worker-1")
    page.goto(server.url)
    expect(row(page, "worker-1")).to_be_visible()

    server.http.delete("/api/nodes/worker-1").raise_for_status()

    expect(row(page, "worker-1")).to_have_count(0)


def test_a_change_of_status_appears_with_its_reason(page: Page, server: ServerThread) -> None:
    server.register("worker-1")
    server.beat("worker-1")
    page.goto(server.url)
    expect(row(page, "worker-1")).to_contain_text("Online")
    expect(cell(page, "worker-1", "reason")).to_contain_text("heartbeat")

    server.beat("worker-1", status="degraded")

    expect(row(page, "worker-1")).to_contain_text("Degraded")
    expect(cell(page, "worker-1", "reason")).to_contain_text("reported")
    expect(chip(page, "Degraded")).to_contain_text("1")


def test_an_override_is_marked_and_what_is_observed_is_still_said(page: Page, server: ServerThread) -> None:
    server.register("worker-1")
    server.beat("worker-1", cpu_load=12.5)
    page.goto(server.url)
    expect(cell(page, "worker-1", "reason").get_by_text("override")).to_be_hidden()

    server.mark("worker-1", "offline", "kernel upgrade")

    expect(cell(page, "worker-1", "reason").get_by_text("override")).to_be_visible()
    expect(cell(page, "worker-1", "reason")).to_contain_text("kernel upgrade")
    expect(cell(page, "worker-1", "reason")).to_contain_text("observed online")
    expect(cell(page, "worker-1", "status")).to_have_text("Offlineby operator")
    expect(cell(page, "worker-1", "cpu")).to_have_text("12.5 %")

    server.http.delete("/api/nodes/worker-1/override").raise_for_status()

    expect(row(page, "worker-1")).to_contain_text("Online")
    expect(cell(page, "worker-1", "reason").get_by_text("override")).to_be_hidden()


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
    statuses = {node["name"]: node["status"] for node in server.http.get("/api/nodes").json()["nodes"]}
    assert statuses["lost"] == statuses["left"] == "offline"
    assert statuses["disconnected"] == "disconnected"

    page.goto(server.url)

    for kind in ("online", "degraded", "disconnected", "lost", "connecting", "left"):
        expect(row(page, kind).locator("use")).to_have_attribute("href", f"#glyph-{kind}")
        expect(page.locator(f'.chip[data-kind="{kind}"] b')).to_have_text("2" if kind == "online" else "1")


def test_what_is_not_known_is_a_dash_and_never_a_zero(page: Page, server: ServerThread) -> None:
    server.register("silent")
    server.register("idle")
    server.beat("idle", cpu_load=0, mem_used_mb=0, latency_ms=0)

    page.goto(server.url)

    for column in ("cpu", "memory", "latency", "seen"):
        expect(cell(page, "silent", column)).to_have_text(UNKNOWN)
    expect(cell(page, "idle", "cpu")).to_have_text("0.0 %")
    expect(cell(page, "idle", "memory")).to_have_text("0 MiB")
    expect(cell(page, "idle", "latency")).to_have_text("0 ms")


def test_the_last_figures_of_a_node_that_left_are_not_shown_as_its_present_ones(
    page: Page, server: ServerThread
) -> None:
    server.register("worker-1")
    server.beat("worker-1", cpu_load=70)
    page.goto(server.url)
    expect(cell(page, "worker-1", "cpu")).to_have_text("70.0 %")

    server.beat("worker-1", status="offline", cpu_load=70)

    expect(row(page, "worker-1")).to_contain_text("Offline")
    expect(cell(page, "worker-1", "cpu")).to_have_text(UNKNOWN)


def test_ages_go_on_between_two_polls(page: Page, server: ServerThread) -> None:
    page.clock.install()
    server.register("worker-1")
    server.beat("worker-1")
    page.goto(server.url)
    expect(cell(page, "worker-1", "seen")).to_have_text(re.compile(r"^(now|\d s ago)$"))
    page.clock.pause_at(page.evaluate("Date.now()") / 1000 + 1)
    page.route("**/api/nodes?*", lambda route: None)

    page.clock.fast_forward(3_000)

    expect(cell(page, "worker-1", "seen")).to_have_text(re.compile(r"^([3-9]|1\d) s ago$"))


# When it does not know


@contextmanager
def server_process(store: Path, *, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`thunderline serve` and its URL."""
    command = [sys.executable, "-c", "from thunderline.cli import main; main()", "serve"]
    arguments = ["--port", str(port), "--store", f"sqlite:///{store}"]
    with subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found is not None
            yield process, found[0]
        finally:
            process.terminate()


def test_a_killed_server_makes_the_page_stale_until_it_is_back(page: Page, seen: Seen, tmp_path: Path) -> None:
    store = tmp_path / "nodes.db"
    with server_process(store) as (process, url):
        page.goto(url)
        expect(page.locator("body")).to_have_attribute("data-feed", "live")
        expect(names(page)).to_have_count(1)
        expect(page.locator("#stale")).to_be_hidden()

        os.kill(process.pid, signal.SIGKILL)

        expect(page.get_by_role("alert").filter(has_text="Stale since")).to_be_visible()
    expect(page.locator("#stale b")).to_have_text(re.compile(r"^Stale since \d\d:\d\d:\d\d$"))
    expect(page.locator("#stale")).to_contain_text("cannot be reached")
    expect(page.locator("#feed-word")).to_have_text("Stale")
    expect(page).to_have_title("Stale: Thunderline")
    expect(page.locator("main")).to_have_css("filter", "grayscale(1)")
    expect(names(page)).to_have_count(1)

    with server_process(store, port=int(url.rpartition(":")[2])):
        expect(page.locator("#stale")).to_be_hidden()
        expect(page.locator("#feed-word")).to_have_text("Live")
        expect(page.locator("main")).to_have_css("filter", "none")
        page.goto("about:blank")
    seen.hosts.discard("")
    seen.forget_network_errors()


def test_an_answer_that_takes_over_five_seconds_makes_the_page_stale(page: Page, server: ServerThread) -> None:
    page.clock.install()
    page.goto(server.url)
    expect(names(page)).to_have_count(1)
    held: list[Route] = []
    page.route("**/api/nodes?*", lambda route: held.append(route))
    with page.expect_request("**/api/nodes?*"):
        page.clock.fast_forward(2_100)

    page.clock.fast_forward(5_500)

    expect(page.locator("#stale b")).to_contain_text("Stale since")
    expect(page.locator("#stale")).to_contain_text("no answer for more than 5 s")
    held[0].continue_()
    expect(page.locator("#stale")).to_be_hidden()


def test_a_refused_poll_is_stale_with_what_the_server_said(page: Page, seen: Seen, server: ServerThread) -> None:
    page.goto(server.url)
    expect(names(page)).to_have_count(1)

    page.route("**/api/nodes?*", lambda route: route.continue_(url=f"{route.request.url}&colour=red"))

    expect(page.locator("#stale")).to_contain_text("colour")
    page.unroute("**/api/nodes?*")
    expect(page.locator("#stale")).to_be_hidden()
    assert all("the server responded with a status of" in text for text in seen.errors)
    seen.errors.clear()


def test_before_the_first_answer_it_claims_nothing(page: Page, seen: Seen, server: ServerThread) -> None:
    page.route("**/api/nodes?*", lambda route: route.abort("connectionrefused"))

    page.goto(server.url)

    expect(page.locator("#stale b")).to_have_text("Nothing is known yet")
    expect(page.locator("#total")).to_have_text(UNKNOWN)
    expect(chip(page, "Online")).to_contain_text(UNKNOWN)
    expect(page.locator("#empty")).to_be_hidden()
    seen.forget_network_errors()


def test_while_the_store_is_away_the_page_says_so_and_since_when(
    page: Page, start_server: Callable[..., ServerThread], monkeypatch: pytest.MonkeyPatch
) -> None:
    stores: list[FaultyStore] = []

    def faulty(*args: Any, **kwargs: Any) -> FaultyStore:
        stores.append(FaultyStore(store_from_url(*args, **kwargs)))
        return stores[-1]

    monkeypatch.setattr("thunderline.server.store_from_url", faulty)
    server = start_server()
    page.goto(server.url)
    expect(page.locator("#feed-word")).to_have_text("Live")

    stores[0].away = True
    assert server.http.post("/api/nodes", json={"name": "worker-1"}).status_code == 503

    expect(page.get_by_role("alert").filter(has_text="The store is away since")).to_be_visible()
    expect(page.locator("#away b")).to_have_text(re.compile(r"since \d\d:\d\d:\d\d$"))
    expect(page.locator("#feed-word")).to_have_text("Store away")
    expect(page.locator("#stale")).to_be_hidden()

    stores[0].away = False

    expect(page.locator("#away")).to_be_hidden()
    expect(page.locator("#feed-word")).to_have_text("Live")


def test_an_engaged_guard_is_shown_with_where_and_how_many(
    page: Page, start_server: Callable[..., ServerThread]
) -> None:
    server = start_server(guard_window_s=1, guard_max_delay_s=3600, guard_min_nodes=0, guard_fraction=0.25)
    server.http.post("/api/groups", json={"name": "eu-1", "group_type": "zone"}).raise_for_status()
    for number in range(8):
        server.http.post("/api/nodes", json={"name": f"n{number}", "heartbeat_interval_ms": 100}).raise_for_status()
        server.http.put(f"/api/groups/eu-1/members/n{number}").raise_for_status()
    beats = [{"node": f"n{number}"} for number in range(8)]
    server.http.post("/api/heartbeats", json={"heartbeats": beats}).raise_for_status()
    page.goto(server.url)
    expect(page.locator("#guard b")).to_have_text("Guard engaged: eu-1")
    expect(page.locator("#guard span")).to_contain_text("6 of them are held back")
    expect(page.locator("tbody")).to_contain_text("silent")


def test_more_nodes_than_are_shown_are_said_to_be_there(page: Page, server: ServerThread) -> None:
    for number in range(6):
        server.register(f"worker-{number}")
    # Pages of one instead of a thousand: five of them are all that the page asks for.
    page.route("**/api/nodes?*", lambda route: route.continue_(url=route.request.url.replace("limit=1000", "limit=1")))

    page.goto(server.url)

    expect(page.locator("#more")).to_contain_text("There are more: only the first 5,000 by name")
    expect(page.locator("#total")).to_have_text("5+")
    expect(names(page)).to_have_count(5)


# Text from outside


def test_text_from_outside_is_shown_as_text_and_nothing_of_it_runs(page: Page, server: ServerThread) -> None:
    server.register("worker-1", labels={"note": HOSTILE}, address=HOSTILE, meta={HOSTILE: [HOSTILE]})
    server.beat("worker-1", meta={"note": HOSTILE})
    server.mark("worker-1", "degraded", HOSTILE)
    page.goto(server.url)
    expect(cell(page, "worker-1", "reason").get_by_text(HOSTILE)).to_be_visible()

    row(page, "worker-1").click()

    panel = page.get_by_role("complementary", name="worker-1")
    expect(panel.locator(".labels").get_by_text(HOSTILE)).to_be_visible()
    expect(panel.locator("dd").get_by_text(HOSTILE).first).to_be_visible()
    expect(panel.locator("pre")).to_contain_text("onerror")
    expect(panel.locator(".spark").first).to_be_visible()
    page.locator("#filter").fill(HOSTILE)
    expect(page.locator("main img")).to_have_count(0)
    assert page.evaluate("window.hostile") is None


def test_nothing_is_asked_of_another_host(page: Page, seen: Seen, server: ServerThread) -> None:
    page.goto(server.url)
    row(page, OWN).click()
    expect(page.locator("#panel .spark").first).to_be_visible()
    page.goto(f"{server.url}/docs")
    expect(page.get_by_role("heading", level=1)).to_be_visible()

    assert seen.hosts == {server.url.removeprefix("http://")}


# Filter and order


@pytest.fixture
def fleet(server: ServerThread) -> ServerThread:
    server.register("worker-1", role="worker", domain="jobs", labels={"zone": "a"})
    server.register("worker-2", role="worker", domain="jobs", labels={"zone": "b"})
    server.register("worker-10", role="worker", domain="ci", labels={"zone": "b"})
    server.register("cam-1", role="edge", domain="field", labels={"site": "oslo"})
    server.beat("worker-1", cpu_load=80)
    server.beat("worker-2", cpu_load=9, status="degraded")
    server.beat("worker-10", cpu_load=30)
    return server


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("worker", ["worker-2", "worker-1", "worker-10"]),
        ("role:edge", ["cam-1"]),
        ("zone=b", ["worker-2", "worker-10"]),
        ("zone=b domain:ci", ["worker-10"]),
        ("status:degraded", ["worker-2"]),
        ("label:oslo", ["cam-1"]),
        ("role:worker -zone=b", ["worker-1"]),
        ("no-such-thing", []),
    ],
)
def test_a_filter_finds_by_name_role_domain_status_and_label(
    page: Page, fleet: ServerThread, query: str, found: list[str]
) -> None:
    page.goto(fleet.url)
    expect(names(page)).to_have_count(5)

    page.get_by_role("searchbox", name="Filter nodes").fill(query)

    expect(names(page)).to_have_text(found)
    expect(page.locator("#found")).to_have_text(f"{len(found)} of 5 shown")


def test_the_filter_is_in_the_address_and_survives_a_reload(page: Page, fleet: ServerThread) -> None:
    page.goto(fleet.url)
    page.get_by_role("searchbox", name="Filter nodes").fill("role:worker")
    chip(page, "Degraded").click()
    expect(names(page)).to_have_text(["worker-2"])

    page.reload()

    expect(page.get_by_role("searchbox", name="Filter nodes")).to_have_value("role:worker")
    expect(chip(page, "Degraded")).to_have_attribute("aria-pressed", "true")
    expect(names(page)).to_have_text(["worker-2"])
    assert "q=role%3Aworker" in page.url
    assert "status=degraded" in page.url

    page.get_by_role("button", name="Clear filter").click()

    expect(names(page)).to_have_count(5)
    assert page.url == f"{fleet.url}/"


def test_status_counts_are_filters_that_add_up(page: Page, fleet: ServerThread) -> None:
    page.goto(fleet.url)
    chip(page, "Degraded").click()
    chip(page, "Connecting").click()
    expect(names(page)).to_have_text(["worker-2", "cam-1"])

    chip(page, "Degraded").click()

    expect(names(page)).to_have_text(["cam-1"])


def test_a_click_on_a_column_sorts_and_the_unknown_stays_last(page: Page, fleet: ServerThread) -> None:
    fleet.beat("worker-10", cpu_load=30)
    page.goto(f"{fleet.url}/#q=-registry")
    expect(names(page)).to_have_text(["worker-2", "cam-1", "worker-1", "worker-10"])
    head = page.get_by_role("columnheader", name="CPU")

    head.get_by_role("button").click()
    expect(names(page)).to_have_text(["worker-1", "worker-10", "worker-2", "cam-1"])
    expect(head).to_have_attribute("aria-sort", "descending")

    head.get_by_role("button").click()
    expect(names(page)).to_have_text(["worker-2", "worker-10", "worker-1", "cam-1"])
    expect(head).to_have_attribute("aria-sort", "ascending")

    page.get_by_role("columnheader", name="Name").get_by_role("button").click()
    expect(names(page)).to_have_text(["cam-1", "worker-1", "worker-2", "worker-10"])
    expect(head).not_to_have_attribute("aria-sort", "ascending")


# One node


def test_a_row_opens_the_node_with_its_record_heartbeats_and_sessions(page: Page, server: ServerThread) -> None:
    node = server.register("worker-1", labels={"zone": "a"}, meta={"rack": "r7", "serial": 2**60 + 1})
    server.http.post("/api/nodes/worker-1/online", json={"session": {"session_id": "s-1"}}).raise_for_status()
    server.beat("worker-1", cpu_load=12.5, mem_used_mb=2048, seq=2**62 + 1)
    page.goto(server.url)

    row(page, "worker-1").click()

    panel = page.get_by_role("complementary", name="worker-1")
    expect(panel).to_contain_text(node["id"])
    expect(panel).to_contain_text("zone=a")
    expect(panel.locator("pre")).to_contain_text('"rack": "r7"')
    expect(panel.locator("pre")).to_contain_text(str(2**60 + 1))
    expect(panel).to_contain_text("s-1")
    expect(panel.get_by_role("row").nth(1)).to_contain_text("12.5 %")
    expect(panel.get_by_role("row").nth(1)).to_contain_text("2.0 GiB")
    expect(panel.get_by_role("row").nth(1)).to_contain_text(str(2**62 + 1))
    expect(page).to_have_url(re.compile("#node=worker-1$"))

    page.go_back()

    expect(panel).to_be_hidden()


def test_a_missing_heartbeat_is_a_gap_in_the_line(page: Page, start_server: Callable[..., ServerThread]) -> None:
    clock = manual_clock()
    server = start_server(clock=clock)
    server.register("worker-1", heartbeat_interval_ms=10_000)
    for load in (10, 20, 30, None, None, 40, 50):
        if load is not None:
            server.beat("worker-1", cpu_load=load, mem_used_mb=1024)
        server.run(clock.advance(10))

    page.goto(f"{server.url}/#node=worker-1")

    cpu = page.get_by_role("img", name="CPU: 10.0 % to 50.0 %, newest 50.0 %, one gap")
    expect(cpu).to_be_visible()
    expect(cpu.locator(".gap")).to_have_count(1)
    expect(cpu.locator(".line")).to_have_count(2)


def test_an_open_panel_says_that_its_node_is_gone(page: Page, seen: Seen, server: ServerThread) -> None:
    server.register("worker-1")
    server.beat("worker-1")
    page.goto(f"{server.url}/#node=worker-1")
    panel = page.get_by_role("complementary", name="worker-1")
    expect(panel.locator(".spark").first).to_be_visible()

    server.http.delete("/api/nodes/worker-1").raise_for_status()

    expect(panel).to_contain_text("This node is not registered any more.")
    # The panel may have asked for it between the deletion and the next list.
    seen.errors = [text for text in seen.errors if "404" not in text]


def test_the_keyboard_reaches_everything(page: Page, fleet: ServerThread) -> None:
    page.goto(f"{fleet.url}/#sort=name")
    expect(names(page)).to_have_count(5)
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox", name="Filter nodes")).to_be_focused()
    for _ in range(6):
        page.keyboard.press("Tab")
        expect(page.locator(".chip:focus")).to_have_count(1)
    for _ in range(9):
        page.keyboard.press("Tab")
        expect(page.locator("thead button:focus")).to_have_count(1)
    page.keyboard.press("Tab")
    expect(row(page, "cam-1").get_by_role("link")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(row(page, "worker-1").get_by_role("link")).to_be_focused()

    page.keyboard.press("Enter")

    expect(page.get_by_role("heading", name="worker-1")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("complementary")).to_be_hidden()
    expect(row(page, "worker-1").get_by_role("link")).to_be_focused()
    page.keyboard.press("End")
    expect(row(page, "worker-10").get_by_role("link")).to_be_focused()


def test_of_a_long_list_only_the_rows_in_view_are_in_the_document(page: Page, server: ServerThread) -> None:
    for number in range(400):
        server.register(f"worker-{number:03}")
    page.goto(f"{server.url}/#sort=name")
    expect(page.get_by_role("table", name="Nodes")).to_have_attribute("aria-rowcount", "402")
    expect(row(page, OWN)).to_be_visible()
    assert names(page).count() < 100

    page.locator("#rows a[tabindex='0']").focus()
    page.keyboard.press("End")

    expect(row(page, "worker-399").get_by_role("link")).to_be_focused()
    expect(row(page, "worker-399")).to_be_in_viewport()
    expect(row(page, "worker-399")).to_have_attribute("aria-rowindex", "402")
    assert names(page).count() < 100


def test_only_what_changed_is_touched(page: Page, fleet: ServerThread) -> None:
    page.goto(f"{fleet.url}/#sort=name")
    expect(cell(page, "worker-1", "cpu")).to_have_text("80.0 %")
    page.evaluate(
        """() => {
          window.touched = new Set();
          new MutationObserver((records) => {
            for (const { target } of records) {
              const element = target.nodeType === Node.TEXT_NODE ? target.parentElement : target;
              if (!element?.closest(".c-seen, .c-reason")) window.touched.add(element?.closest("tr")?.dataset.name);
            }
          }).observe(document.getElementById("rows"), {
            subtree: true, childList: true, characterData: true, attributes: true });
        }"""
    )

    fleet.beat("worker-1", cpu_load=81)

    expect(cell(page, "worker-1", "cpu")).to_have_text("81.0 %")
    # The registry beats by itself, whenever its time comes.
    assert set(page.evaluate("[...window.touched]")) - {OWN} == {"worker-1"}


# Looks


@pytest.mark.parametrize(("scheme", "background"), [("dark", "rgb(12, 16, 24)"), ("light", "rgb(238, 241, 246)")])
def test_it_follows_the_colour_scheme(page: Page, server: ServerThread, scheme: Any, background: str) -> None:
    page.emulate_media(color_scheme=scheme)

    page.goto(server.url)

    expect(page.locator("body")).to_have_css("background-color", background)


def test_nothing_moves_for_who_wants_no_motion(page: Page, server: ServerThread) -> None:
    page.emulate_media(reduced_motion="reduce")
    page.goto(server.url)
    expect(names(page)).to_have_count(1)

    assert page.evaluate("document.getAnimations().length") == 0


def test_a_narrow_screen_shows_everything_without_scrolling_sideways(page: Page, fleet: ServerThread) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    page.goto(fleet.url)

    for column in ("status", "name", "role", "domain", "cpu", "memory", "latency", "seen", "reason"):
        expect(cell(page, "worker-1", column)).to_be_in_viewport(ratio=1)
    assert page.evaluate("document.documentElement.scrollWidth") == 400


# The API page


def test_a_link_to_a_record_opens_it(page: Page, server: ServerThread) -> None:
    page.goto(f"{server.url}/docs")
    page.locator("summary", has_text="/api/graph The topology").click()

    page.get_by_role("article").get_by_role("link", name="Graph", exact=True).click()

    expect(page.locator("#Graph")).to_be_in_viewport()


def test_every_link_of_the_api_page_leads_somewhere(page: Page, server: ServerThread) -> None:
    page.goto(f"{server.url}/docs")

    dead = page.evaluate(
        """() => [...document.querySelectorAll('a[href^="#"]')].map((link) => link.hash.slice(1))
                 .filter((anchor) => !document.getElementById(anchor))"""
    )

    assert dead == []
    assert page.locator("details").count() > 20


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_no_script_and_no_style_stands_in_the_page_itself(server: ServerThread, path: str) -> None:
    answer = httpx.get(server.url + path)

    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert not re.search(r"<script(?![^>]* src=)|\sstyle=|\son\w+=", answer.text)
