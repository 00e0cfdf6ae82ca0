"""Take `dashboard.png`, the picture of the dashboard: `.venv/bin/python docs/images/dashboard.py`.

A real server that keeps nothing, `thunderline simulate` with 180 nodes over real links for some minutes, and a real
chromium before them. With a folder as its argument it takes every page in both themes into that, to be looked at.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from playwright.sync_api import Page, sync_playwright

PICTURE: Final = Path(__file__).with_name("dashboard.png")
CHROMIUM_ARGS: Final = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
COMMAND: Final = (sys.executable, "-c", "from thunderline.cli import main; main()")
LIVE_MS: Final = 180_000
"""For so long the fleet lives before the picture: something must have happened in it."""
PAGES: Final = {
    "overview": "overview",
    "topology": "topology",
    "grid": "topology?view=grid",
    "filter": "topology?status=lost,disconnected,degraded",
    "nodes": "nodes",
    "events": "events",
    "alerts": "alerts",
    "node": "nodes/{node}",
    "selected": "topology?node={node}",
    "past": "topology?at={at}",
    "past-node": "nodes/{node}?at={at}",
}


def started(stack: ExitStack, *arguments: str) -> subprocess.Popen[str]:
    """A command of ours that runs until the end."""
    process = stack.enter_context(
        subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    )
    stack.callback(process.terminate)
    return process


def shoot(page: Page, url: str, address: str, path: Path) -> None:
    """Open the page, let it come to rest, and take it."""
    page.goto(f"{url}/#/{address}")
    page.locator("body[data-feed=live]").wait_for()
    if address.startswith("topology"):
        page.locator("canvas[data-settled=true]").wait_for()
    page.wait_for_timeout(1_500)
    page.screenshot(path=path)


def main() -> None:
    """Take one picture, or all."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    with ExitStack() as stack:
        server = started(stack, "serve", "--port", "0", "--store", "memory://")
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found is not None
        url = found[0]
        started(stack, "simulate", "--nodes", "180", "--domains", "6", "--faults", "2", "--server", url)
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_ARGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme="dark")
        page.goto(url)
        page.wait_for_timeout(LIVE_MS)
        shoot(page, url, "topology", PICTURE if folder is None else folder / "topology-dark.png")
        if folder is not None:
            node = page.request.get(f"{url}/api/nodes?role=worker&limit=1").json()["nodes"][0]["name"]
            at = page.request.get(f"{url}/api/timeline?bins=3").json()["newest"]
            for theme in ("dark", "light"):
                page.emulate_media(color_scheme=theme)
                for name, address in PAGES.items():
                    shoot(page, url, address.format(node=node, at=at), folder / f"{name}-{theme}.png")
        browser.close()


if __name__ == "__main__":
    main()
