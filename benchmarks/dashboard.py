"""The dashboard's drawing in a real browser: `make bench-dashboard`, or `python -m benchmarks.dashboard [--json]`.

A real server with a fleet, changed through its API, is recorded once for each fleet: all answers that the page asks
for, how long each took, and the stream of events with the time of each. They are then told again at that pace to fresh
browsers. Frames are counted while a real pointer pans, or moves over the grid, and 50 updates a second arrive.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import random
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import cos, hypot, sin
from typing import Any, Final, Literal

import httpx
import msgspec
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.table import Table

from benchmarks.fleet import Sizes, fill
from benchmarks.replay import Recording, player, recorder
from benchmarks.server import running_server
from benchmarks.stores import SQLITE, new_databases
from thunderline.core.clock import SystemClock

SMALL: Final = 1_000
LARGE: Final = 20_000
RUNS: Final = 5
RATE: Final = 50
"""Updates a second: each a heartbeat that changes its node's status."""

LOOK_S: Final = 5.0
"""For how long frames are counted."""

RECORD_S: Final = LOOK_S + 3.0
CHURN: Final = 10
"""So many nodes join, and as many leave."""

TIMEOUT_MS: Final = 30_000
PAN_PX: Final = 220
MIB: Final = 1024 * 1024
CHROMIUM_ARGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
CANVAS: Final = "canvas[role=application]"
WATCH_PAINTING: Final = """
new MutationObserver((changes) => {
  const canvas = document.querySelector("canvas[data-settled]");
  const { dataset } = document.documentElement;
  if (!canvas || dataset.firstPictureMs) return;
  // The grid needs no layout; groups and nodes are a picture once they have their places.
  const isPlaced = canvas.dataset.settled === "true" || location.hash.includes("view=grid");
  if (isPlaced && changes.some((change) => change.attributeName === "data-paint-ms"))
    dataset.firstPictureMs = performance.now();
}).observe(document, { subtree: true, attributes: true, attributeFilter: ["data-settled", "data-paint-ms"] });
"""
COUNT_FRAMES: Final = """
() => {
  window.frames_ = { count: 0, from: performance.now() };
  const tick = () => {
    window.frames_.count += 1;
    requestAnimationFrame(tick);
  };
  requestAnimationFrame(tick);
}
"""
FRAMES_PER_SECOND: Final = "() => window.frames_.count / (performance.now() - window.frames_.from) * 1000"
PLACES: Final = f"Object.fromEntries(document.querySelector('{CANVAS}').places())"
CHURNED: Final = f"""
(before) => new Promise((resolve, reject) => {{
  const canvas = document.querySelector("{CANVAS}");
  const look = () => {{
    const places = canvas.places();
    const joiners = places.filter(([id]) => !(id in before));
    const isWhole = joiners.length === {CHURN} && places.length === Object.keys(before).length;
    if (isWhole && canvas.dataset.settled === "true" && joiners.every(([, place]) => place))
      resolve(Object.fromEntries(places));
    else requestAnimationFrame(look);
  }};
  setTimeout(() => reject(new Error("the page did not hear of all who joined and left")), {TIMEOUT_MS});
  look();
}})
"""

Places = dict[str, tuple[float, float] | None]


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured, and what its median must be."""

    what: str
    unit: str
    must: float
    sense: Literal["at least", "below", "exactly"]
    digits: int = 1

    def is_met(self, median: float) -> bool:
        """Whether the median, to as many digits as are shown, is what it must be."""
        shown = round(median, self.digits)
        if self.sense == "at least":
            return shown >= self.must
        return shown < self.must if self.sense == "below" else median == self.must


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One bar, and what each run came to."""

    scene: str
    bar: Bar
    runs: list[float]
    median: float
    is_met: bool


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """What one browser came to."""

    first_picture_s: float
    frames_per_second: float
    heap_mib: float


FIRST: Final = Bar(what="first useful picture", unit="s", must=2.0, sense="below", digits=2)
HEAP: Final = Bar(what="heap", unit="MiB", must=100.0, sense="below")
SMALL_FPS: Final = Bar(what="panning, 50 updates/s", unit="fps", must=60.0, sense="at least", digits=0)
LARGE_FPS: Final = Bar(what="panning, 50 updates/s", unit="fps", must=30.0, sense="at least", digits=0)
GRID_FPS: Final = Bar(what="pointing, 50 updates/s", unit="fps", must=30.0, sense="at least", digits=0)
MOVED: Final = Bar(
    what=f"{CHURN} joins, {CHURN} leaves: farthest move of a survivor", unit="px", must=0, sense="exactly"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was measured; 1 when a median is not what it must be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboard", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="fresh browsers for each row")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    options = parser.parse_args(arguments)
    progress = Console(stderr=True)
    rows: list[Row] = []
    with new_databases(SQLITE) as new_database:
        with progress.status(f"recording {SMALL:,} nodes, {RATE} updates/s"):
            recording = _record(new_database(), SMALL, _update)
        with progress.status(f"drawing {SMALL:,} nodes"):
            drawn = [_draw(recording, "graph") for _ in range(options.runs)]
        rows += [_row("graph", SMALL, SMALL_FPS, [run.frames_per_second for run in drawn])]
        with progress.status(f"recording {CHURN} joins and {CHURN} leaves"):
            recording = _record(new_database(), SMALL, _churn)
        with progress.status(f"drawing {CHURN} joins and {CHURN} leaves"):
            rows += [_row("graph", SMALL, MOVED, [_moved(recording) for _ in range(options.runs)])]
        with progress.status(f"recording {LARGE:,} nodes, {RATE} updates/s"):
            recording = _record(new_database(), LARGE, _update)
        for view, fps in (("graph", LARGE_FPS), ("grid", GRID_FPS)):
            with progress.status(f"drawing {LARGE:,} nodes, {view}"):
                drawn = [_draw(recording, view) for _ in range(options.runs)]
            scene = "groups" if view == "graph" else view
            rows += [
                _row(scene, LARGE, FIRST, [run.first_picture_s for run in drawn]),
                _row(scene, LARGE, fps, [run.frames_per_second for run in drawn]),
                _row(scene, LARGE, HEAP, [run.heap_mib for run in drawn]),
            ]
        with _browser() as browser:
            version = browser.version
    if options.json:
        sys.stdout.buffer.write(msgspec.json.encode({"chromium": version, "rows": rows}) + b"\n")
    else:
        _print(rows, version)
    return 0 if all(row.is_met for row in rows) else 1


# Recording


def _record(store: str, nodes: int, change: Callable[[httpx.Client, list[dict[str, Any]]], None]) -> Recording:
    """What a page of the topology asks a server for and hears while the fleet is changed."""
    # The server's own node is one of them.
    sizes = Sizes(nodes=nodes - 1, sessions=nodes + nodes // 2, beats=nodes - 1, hours=1)
    asyncio.run(fill(store, sizes, clock=SystemClock(), told=lambda _: None))
    with (
        running_server(store=store) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=TIMEOUT_MS / 1000) as http,
        recorder(server.url) as (url, recording),
        _browser() as browser,
    ):
        fleet = http.get("/api/graph", params={"include_offline": True}).raise_for_status().json()["nodes"]
        if len(fleet) != nodes:
            raise RuntimeError(f"the server has {len(fleet)} nodes and not {nodes}: mend benchmarks/fleet.py")
        _open(browser, url, "graph")
        recording.wait_for_stream()
        recording.begin()
        change(http, fleet)
        recording.wait_for_event(http.get("/api/summary").raise_for_status().json()["cursor"])
    return recording


def _update(http: httpx.Client, fleet: list[dict[str, Any]]) -> None:
    """Heartbeats at an even pace, each of which changes its node's status."""
    rng = random.Random(len(fleet))
    status = {node["name"]: node["status"] for node in fleet if node["role"] != "controller"}
    started = time.perf_counter()
    for number in range(round(RATE * RECORD_S)):
        time.sleep(max(0.0, started + number / RATE - time.perf_counter()))
        name = rng.choice(list(status))
        status[name] = "degraded" if status[name] == "online" else "online"
        beat = {"status": status[name], "cpu_load": rng.randrange(100), "latency_ms": rng.randrange(20)}
        http.post(f"/api/nodes/{name}/heartbeats", json=beat).raise_for_status()


def _churn(http: httpx.Client, fleet: list[dict[str, Any]]) -> None:
    """Nodes join domains that there are, and as many leave."""
    rng = random.Random(len(fleet))
    nodes = [node for node in fleet if node["role"] != "controller"]
    for number, leaver in enumerate(rng.sample(nodes, CHURN)):
        joiner = {"name": f"joiner-{number}", "role": "worker", "domain": rng.choice(nodes)["domain"]}
        http.post("/api/nodes", json=joiner).raise_for_status()
        http.delete(f"/api/nodes/{leaver['name']}", params={"force": True}).raise_for_status()


# Drawing


def _draw(recording: Recording, view: str) -> Drawn:
    with player(recording) as (url, begun), _browser() as browser:
        page = _open(browser, url, view)
        first_s = float(page.locator("html").get_attribute("data-first-picture-ms") or "nan") / 1000
        box = page.locator(CANVAS).bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        begun.set()
        page.evaluate(COUNT_FRAMES)
        started = time.perf_counter()
        while (passed_s := time.perf_counter() - started) < LOOK_S:
            page.mouse.move(x + PAN_PX * sin(3 * passed_s), y + PAN_PX * (cos(3 * passed_s) - 1))
        frames_per_second = page.evaluate(FRAMES_PER_SECOND)
        page.mouse.up()
        developer = page.context.new_cdp_session(page)
        developer.send("HeapProfiler.collectGarbage")
        usage = developer.send("Runtime.getHeapUsage")
        heap = usage["usedSize"] + usage["backingStorageSize"]
    return Drawn(first_picture_s=first_s, frames_per_second=frames_per_second, heap_mib=heap / MIB)


def _moved(recording: Recording) -> float:
    """How far that survivor went which went farthest."""
    with player(recording) as (url, begun), _browser() as browser:
        page = _open(browser, url, "graph")
        before: Places = page.evaluate(PLACES)
        begun.set()
        after: Places = page.evaluate(CHURNED, before)
    moves = [_distance(before[node], place) for node, place in after.items() if node in before]
    assert len(moves) == len(before) - CHURN
    return max(moves)


def _distance(one: tuple[float, float] | None, other: tuple[float, float] | None) -> float:
    assert one is not None
    assert other is not None
    return hypot(one[0] - other[0], one[1] - other[1])


def _open(browser: Browser, url: str, view: str) -> Page:
    """The topology, once there is something to see and the stream is read."""
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(TIMEOUT_MS)
    page.add_init_script(WATCH_PAINTING)
    with page.expect_request(lambda request: "/api/events?match" in request.url):
        page.goto(f"{url}/#/topology?view={view}")
    page.locator("html[data-first-picture-ms]").wait_for(state="attached")
    page.locator(f"{CANVAS}[data-settled=true]").wait_for()
    return page


@contextmanager
def _browser() -> Iterator[Browser]:
    # Playwright too is started anew: while it runs nothing else of this thread can have an event loop.
    path = shutil.which("chromium")
    if path is None:
        raise SystemExit("There is no chromium on the PATH: install it (`apt install chromium`), then measure again.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        try:
            yield browser
        finally:
            browser.close()


# Printing


def _row(scene: str, nodes: int, bar: Bar, runs: list[float]) -> Row:
    median = statistics.median(runs)
    return Row(scene=f"{nodes:,}, {scene}", bar=bar, runs=runs, median=median, is_met=bar.is_met(median))


def _print(rows: Sequence[Row], version: str) -> None:
    table = Table(title=f"The dashboard's drawing, median of {len(rows[0].runs)} fresh browsers")
    for column in ("nodes", "what", "must be", "median", "least", "most", ""):
        table.add_column(column, justify="left" if column in ("nodes", "what", "must be", "") else "right")
    for row in rows:
        bar = row.bar
        figures = (f"{figure:,.{bar.digits}f}" for figure in (row.median, min(row.runs), max(row.runs)))
        table.add_row(
            row.scene, bar.what, f"{bar.sense} {bar.must:g} {bar.unit}", *figures, "" if row.is_met else "missed"
        )
    console = Console()
    console.print(table)
    console.print(
        f"{os.cpu_count()} cores, Chromium {version} without a GPU, 1440 x 900, Python {platform.python_version()}; "
        "server's answers, the page and the pointer on the same machine"
    )


if __name__ == "__main__":
    raise SystemExit(main())
