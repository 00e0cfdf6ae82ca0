"""Draw `live.png`, the picture of the live page: `.venv/bin/python docs/images/live.py`.

A real server on a free port, keeping nothing, is told by HTTP about forty nodes and ten minutes of their beats; only
its clock is turned by hand, so that ten minutes pass in seconds. Chromium then takes the picture.
"""

from __future__ import annotations

import asyncio
import math
import random
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import uvloop
from playwright.async_api import Browser, Page, async_playwright

from thunderline.core.settings import Settings
from thunderline.server import open_server
from thunderline.testing.clock import ManualClock

PICTURE: Final = Path(__file__).with_name("live.png")
HISTORY_S: Final = 600
CHROMIUM_ARGS: Final = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]


@dataclass
class Machine:
    """A node to be: what it registers with, how busy it is, and when it falls silent."""

    name: str
    role: str
    domain: str
    labels: dict[str, str]
    load: float
    memory_mb: float
    latency_ms: float
    interval_s: int = 10
    silent: tuple[float, float] = (math.inf, math.inf)
    """From when to when it says nothing, in seconds before the picture: the larger one first."""
    starts_at: float = HISTORY_S
    status: str = "online"
    offset: int = 0
    beats: int = field(default=0, init=False)

    def attrs(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "role": self.role,
            "domain": self.domain,
            "labels": self.labels,
            "heartbeat_interval_ms": self.interval_s * 1000,
            "address": f"10.{20 + len(self.domain)}.{len(self.role)}.{10 + self.offset}:7946",
            "meta": {"os": "linux/amd64", "agent": "0.1.0", "rack": f"r{self.offset % 7 + 1}"},
        }

    def beat(self, rng: random.Random) -> dict[str, Any]:
        self.beats += 1
        wave = math.sin(self.beats / 9 + self.offset) * self.load * 0.25
        return {
            "status": self.status,
            "seq": self.beats,
            "cpu_load": round(min(100.0, max(0.4, self.load + wave + rng.gauss(0, self.load * 0.06))), 1),
            "mem_used_mb": round(self.memory_mb * (1 + self.beats / 2000) + rng.gauss(0, self.memory_mb * 0.004), 1),
            "latency_ms": round(self.latency_ms * rng.lognormvariate(0, 0.18), 2),
        }


def fleet() -> Iterator[Machine]:
    """Forty machines, some of them in trouble."""
    rng = random.Random(7)
    for n in range(1, 13):
        zone = "ab"[n % 2]
        yield Machine(f"worker-fra-{n:02}", "worker", "jobs", {"zone": f"fra-{zone}"}, rng.uniform(18, 82), 23_000, 0.8)
    for n in range(1, 7):
        yield Machine(f"gpu-fra-{n}", "worker", "training", {"gpu": "h100", "zone": "fra-b"}, 52 + 4 * n, 388_000, 0.9)
    for city, devices, latency_ms in (("ham", 6, 19.0), ("lyon", 5, 27.0), ("oslo", 4, 41.0)):
        for n in range(1, devices + 1):
            yield Machine(f"cam-{city}-{n}", "edge", "field", {"site": city}, rng.uniform(4, 30), 610, latency_ms)
    for city, latency_ms in (("fra", 0.7), ("ams", 7.2), ("nyc", 83.0)):
        yield Machine(f"gw-{city}", "gateway", "edge-net", {"public": "yes"}, rng.uniform(8, 26), 3_900, latency_ms)
    for n in (1, 2):
        yield Machine(f"relay-{n}@ams", "relay", "edge-net", {"zone": "ams-a"}, 6, 900, 7.6)
    yield Machine("ci-runner-1", "worker", "ci", {"zone": "fra-a"}, 93, 30_200, 1.1)


def troubled() -> list[Machine]:
    """The fleet with its troubles, each beating at its own second."""
    machines = {machine.name: machine for machine in fleet()}
    for offset, machine in enumerate(machines.values()):
        machine.offset = offset
    machines["worker-fra-09"].silent = (412, 0)
    machines["cam-lyon-4"].silent = (95, 0)
    machines["cam-ham-5"].silent = (46, 0)
    machines["gpu-fra-2"].silent = (300, 230)
    machines["gpu-fra-4"].status = "degraded"
    machines["gpu-fra-6"].starts_at = 0
    return list(machines.values())


async def tell(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    answer = await client.post(path, json=body)
    answer.raise_for_status()


async def fill(client: httpx.AsyncClient, clock: ManualClock) -> None:
    """Live through `HISTORY_S` seconds, up to the real present."""
    rng = random.Random(11)
    machines = troubled()
    second = 0
    while (before := time.time() - clock.now_ms() / 1000) > 0:
        for machine in machines:
            if machine.starts_at >= before > machine.starts_at - 1:
                await tell(client, "/api/nodes", machine.attrs())
        due = [
            machine
            for machine in machines
            if (second + machine.offset * 3) % machine.interval_s == 0
            and machine.starts_at >= before
            and not machine.silent[0] >= before >= machine.silent[1]
        ]
        await asyncio.gather(*(tell(client, f"/api/nodes/{m.name}/heartbeats", m.beat(rng)) for m in due))
        if second == HISTORY_S - 200:
            await operate(client, machines)
        await clock.advance(1)
        second += 1
    for machine in machines:
        if not machine.starts_at:
            await tell(client, "/api/nodes", machine.attrs())


async def operate(client: httpx.AsyncClient, machines: list[Machine]) -> None:
    """What operators and leaving nodes do."""
    upgrade = {"reason": "kernel 6.12 upgrade, back at 18:00"}
    await tell(client, "/api/nodes/worker-fra-04/offline", upgrade)
    disk = {"status": "degraded", "reason": "sdb has 214 reallocated sectors, RMA 8841"}
    await tell(client, "/api/nodes/worker-fra-11/status", disk)
    leaving = next(machine for machine in machines if machine.name == "cam-oslo-3")
    leaving.silent = (math.inf, 0)
    await tell(client, f"/api/nodes/{leaving.name}/heartbeats", {"status": "offline"})


@asynccontextmanager
async def filled_server() -> AsyncIterator[str]:
    """The URL of a server that knows the fleet."""
    clock = ManualClock(start_ms=round((time.time() - HISTORY_S) * 1000))
    settings = Settings(port=0, store="memory://", node_name="registry@fra-1")
    async with open_server(settings, clock=clock) as server, httpx.AsyncClient(base_url=server.url) as client:
        await fill(client, clock)
        yield server.url


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The system's own chromium. Raises: SystemExit when there is none."""
    path = shutil.which("chromium")
    if path is None:
        sys.exit("live.py needs chromium on the PATH")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        try:
            yield browser
        finally:
            await browser.close()


async def ready(page: Page, url: str) -> None:
    """Open the live page and wait for its rows."""
    await page.goto(url)
    await page.locator("body[data-feed=live] tbody tr[data-id]").first.wait_for()


async def main() -> None:
    async with filled_server() as url, chromium() as browser:
        page = await browser.new_page(color_scheme="dark", viewport={"width": 1440, "height": 900})
        await ready(page, url)
        await page.screenshot(path=PICTURE)


if __name__ == "__main__":
    uvloop.run(main())
