"""The page of the API, in a real browser before a real server; and what no page may hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import Page, expect

if TYPE_CHECKING:
    from tests.browser.conftest import ServerThread

pytestmark = pytest.mark.browser


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
