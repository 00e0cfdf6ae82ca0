"""Logging in, and being out again, in a real browser before a real server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from thunderline.core.access import Scope
from thunderline.core.inputs import NewToken
from thunderline.link.actor import EMBEDDING_PROGRAM

if TYPE_CHECKING:
    from tests.browser.conftest import Seen, ServerThread

pytestmark = pytest.mark.browser

OUT_MS = 5_000
COMMAND = (sys.executable, "-c", "from thunderline.cli import main; main()")
REGISTER = """
(name) => fetch("/api/nodes", {
  method: "POST",
  headers: { "content-type": "application/json", "x-thunderline": "1" },
  body: JSON.stringify({ name }),
}).then((answer) => answer.status)
"""


@contextmanager
def server_process(store: Path) -> Iterator[str]:
    """The URL of `thunderline serve --auth` over this file."""
    command = [*COMMAND, "serve", "--port", "0", "--auth", "--store", f"sqlite:///{store}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found is not None
            yield found[0]
        finally:
            process.terminate()


def log_in(page: Page, token: str) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()


def refused(seen: Seen, count: int) -> None:
    """Chromium itself reports each answer that refuses something, which no page can keep it from; there are so many,
    or fewer if the page left meanwhile."""
    told = [text for text in seen.errors if "the server responded with a status of 401" in text]
    assert len(told) <= count
    seen.errors = [text for text in seen.errors if text not in told]


@pytest.fixture
def guarded(start_server: Callable[..., ServerThread], tmp_path: Path) -> ServerThread:
    return start_server(auth=True, admin_token_file=str(tmp_path / "admin.token"))


def new_token(server: ServerThread, name: str, *scopes: Scope) -> str:
    return server.run(_new_token(server, name, scopes))


async def _new_token(server: ServerThread, name: str, scopes: tuple[Scope, ...]) -> str:
    wanted = NewToken(name=name, scopes=scopes)
    return (await server.registry.tokens.create_token(wanted, actor=EMBEDDING_PROGRAM)).text


def revoke(server: ServerThread, name: str) -> None:
    server.run(server.registry.tokens.revoke(name, actor=EMBEDDING_PROGRAM))


def test_who_is_revoked_from_the_command_line_is_out_within_five_seconds(
    page: Page, seen: Seen, tmp_path: Path
) -> None:
    store = tmp_path / "nodes.db"

    def thunderline(*arguments: str) -> str:
        """What the command line says to it, which reaches the server by the socket beside the store."""
        done = subprocess.run(
            [*COMMAND, *arguments], capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    with server_process(store) as url:
        created = thunderline("token", "create", "ada", "--scope", "operator", "--store", f"sqlite:///{store}")
        found = re.search(r"tl_\S+", created)
        assert found is not None
        page.goto(f"{url}/#/nodes?sort=name")
        log_in(page, found[0])
        expect(page.locator("#who-name")).to_have_text("ada")

        assert page.evaluate(REGISTER, "made-here") == 201
        expect(page.locator('.body .row[data-name="made-here"]')).to_be_visible()

        thunderline("token", "revoke", "ada", "--store", f"sqlite:///{store}")

        expect(page.get_by_label("Token")).to_be_visible(timeout=OUT_MS)
        expect(page.locator("#ended")).to_contain_text("the token ada was revoked")
        expect(page.locator("body")).not_to_contain_text("made-here")
        assert page.evaluate(REGISTER, "made-later") == 401
        assert page.url == f"{url}/#/nodes?sort=name"
    # The poll that was refused, those beside it, and the request above.
    refused(seen, 4)


def test_a_refused_token_is_explained_and_can_be_given_anew(page: Page, seen: Seen, guarded: ServerThread) -> None:
    token = new_token(guarded, "ada", Scope.READ)
    page.goto(guarded.url)
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("Give a token.")

    log_in(page, f"{token[:-8]}AAAAAAA")

    expect(page.get_by_role("alert")).to_contain_text("This is not a token of this registry")
    expect(page.get_by_label("Token")).to_have_attribute("aria-invalid", "true")
    assert page.url == f"{guarded.url}/"
    refused(seen, 1)
    # As it is copied from a terminal.
    page.get_by_label("Token").fill(f" {token} ")
    expect(page.get_by_role("alert")).to_be_hidden()
    page.keyboard.press("Enter")
    expect(page.locator("#who-name")).to_have_text("ada")
    expect(page.locator("#who-name")).to_have_attribute("title", re.compile(r"^scope read; until 2\d{3}-"))


def test_logging_out_leaves_nothing_to_go_back_to(page: Page, seen: Seen, guarded: ServerThread) -> None:
    token = new_token(guarded, "ada", Scope.READ)
    page.goto(f"{guarded.url}/#/nodes")
    log_in(page, token)
    expect(page.locator('.body .row[data-name="registry@here"]')).to_be_visible()
    page.goto(f"{guarded.url}/docs")
    page.go_back()

    page.get_by_role("button", name="Log out").click()

    expect(page.get_by_label("Token")).to_be_visible()
    expect(page.locator("#ended")).to_be_hidden()
    assert page.context.cookies() == []
    page.goto(f"{guarded.url}/healthz")
    page.go_back()
    expect(page.get_by_label("Token")).to_be_visible()
    # What the page had just asked when it logged out.
    refused(seen, 3)


def test_a_page_of_before_a_logout_elsewhere_shows_nothing_any_more(
    page: Page, seen: Seen, guarded: ServerThread
) -> None:
    under_way = Counter[str]()
    page.on("request", lambda _: under_way.update(["asked"]))
    for end in ("requestfinished", "requestfailed"):
        page.on(end, lambda _: under_way.subtract(["asked"]))
    page.goto(guarded.url)
    log_in(page, new_token(guarded, "ada", Scope.READ))
    expect(page.locator("#who-name")).to_have_text("ada")
    refused_meanwhile = under_way["asked"]
    status = page.evaluate(
        "fetch('/api/session', { method: 'DELETE', headers: { 'x-thunderline': '1' } }).then((answer) => answer.status)"
    )

    expect(page.locator("#ended")).to_have_text("Your session has ended.", timeout=OUT_MS)

    assert status == 204
    expect(page.get_by_label("Token")).to_be_visible()
    page.reload()
    expect(page.locator("#ended")).to_be_hidden()
    refused(seen, 2 + refused_meanwhile)


def test_what_a_page_has_open_by_its_cookie_ends_with_the_token(page: Page, seen: Seen, guarded: ServerThread) -> None:
    page.goto(guarded.url)
    log_in(page, new_token(guarded, "ada", Scope.READ))
    expect(page.locator("#who-name")).to_have_text("ada")
    # A page that asks for nothing by itself, and so stays.
    page.goto(f"{guarded.url}/docs")
    page.evaluate(
        """() => {
          window.source = new EventSource("/api/events");
          window.socket = new WebSocket(`ws://${location.host}/socket/websocket?vsn=2.0.0`);
        }"""
    )
    page.wait_for_function("() => source.readyState === EventSource.OPEN && socket.readyState === WebSocket.OPEN")

    revoke(guarded, "ada")

    page.wait_for_function(
        "() => source.readyState !== EventSource.OPEN && socket.readyState === WebSocket.CLOSED", timeout=OUT_MS
    )
    page.wait_for_function("() => source.readyState === EventSource.CLOSED")
    refused(seen, 1)


def test_scripts_do_not_see_the_cookie(page: Page, guarded: ServerThread) -> None:
    page.goto(guarded.url)
    log_in(page, new_token(guarded, "ada", Scope.READ))
    expect(page.locator("#who-name")).to_have_text("ada")

    assert page.evaluate("document.cookie") == ""
    assert page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }])") == "[{},{}]"
    (cookie,) = page.context.cookies()
    port = guarded.url.rpartition(":")[2]
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == (f"thunderline-{port}", True, "Strict")


def test_without_auth_nobody_is_logged_in_and_nobody_can_log_out(page: Page, server: ServerThread) -> None:
    page.goto(f"{server.url}/#/nodes")
    expect(page.locator('.body .row[data-name="registry@here"]')).to_be_visible()

    expect(page.locator("#who-name")).to_have_count(0)
    expect(page.get_by_role("button", name="Log out")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_the_page_to_log_in_can_be_read(page: Page, guarded: ServerThread, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 400, "height": 800})
    page.goto(guarded.url)
    page.get_by_text("Where to get a token").click()
    expect(page.get_by_text("thunderline token create")).to_be_visible()

    assert page.evaluate("document.documentElement.scrollWidth") == 400
    assert httpx.get(guarded.url).text.count("style=") == 0
