"""What tests of the dashboard look at, and how it is asked whether a page has faults."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Locator, Page, expect

from thunderline.prism.dashboard import Bundle
from thunderline.testing.clock import ManualClock

OWN: Final = "registry@here"
AXE: Final = Path(__file__).parents[2] / "ui/node_modules/axe-core/axe.min.js"
needs_dashboard = pytest.mark.skipif(Bundle.installed() is None, reason="the dashboard is not built: make dashboard")
needs_axe = pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed: npm ci in ui/")


def row(page: Page, name: str) -> Locator:
    """A node's row in the table of Nodes."""
    return page.locator(f'.body .row[data-name="{name}"]')


def names(page: Page) -> Locator:
    """The names in the rows that are in view, in order."""
    return page.locator(".body .row .c-name")


def cell(page: Page, name: str, column: str) -> Locator:
    """One field of a node's row."""
    return row(page, name).locator(f".c-{column}")


def chip(page: Page, kind: str) -> Locator:
    """The filter of one status, with its count."""
    return page.locator(f'.chip[data-kind="{kind}"]')


def canvas(page: Page) -> Locator:
    """The drawing of Topology."""
    return page.locator("canvas[role=application]")


def is_live(page: Page) -> None:
    """Wait until the page says that it is."""
    expect(page.locator("body")).to_have_attribute("data-feed", "live")


def press(page: Page, *keys: str) -> None:
    """Press keys one after the other."""
    for key in keys:
        page.keyboard.press(key)


def manual_clock() -> ManualClock:
    """A clock that the test turns, at the present: the page judges ages by the server's `date`, which is real."""
    return ManualClock(start_ms=round(time.time() * 1000))


def faults(page: Page) -> list[str]:
    """What axe-core finds wrong with the page as it is."""
    # The policy of pages allows no script that stands in the page; what a debugger evaluates is none.
    page.evaluate(AXE.read_text(encoding="utf-8") + ";0")
    result: dict[str, Any] = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [f"{fault['id']}: {[node['target'] for node in fault['nodes']][:4]}" for fault in result["violations"]]
