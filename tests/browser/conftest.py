"""A real server in a thread of its own, and a real browser before it."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack, ExitStack
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import httpx
import pytest
import uvloop
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from thunderline.core.clock import Clock
from thunderline.core.settings import Settings
from thunderline.link.registry import Registry
from thunderline.server import open_server

T = TypeVar("T")

CHROMIUM_ARGS: Final = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
REPORT_VIOLATIONS: Final = """addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => {
  console.error(`against the policy of pages: ${violatedDirective} ${blockedURI}`);
});"""
START_TIMEOUT_S: Final = 20
# Two polls, and the time that a loaded machine takes for them.
EXPECT_TIMEOUT_MS: Final = 15_000


class ServerThread:
    """A running server; `http` talks to it as nodes and operators do, `registry` is for the server's own loop."""

    def __init__(self, settings: Settings, *, clock: Clock | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._main, name="server under test")
        self._ready: Future[str] = Future()
        self._stop = asyncio.Event()
        self.url = ""
        self.registry: Registry = None  # type: ignore[assignment]  # set before anybody can ask for it
        self.http = httpx.Client(timeout=START_TIMEOUT_S)

    def __enter__(self) -> Self:
        self._thread.start()
        self.url = self._ready.result(START_TIMEOUT_S)
        self.http.base_url = self.url
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.http.close()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_TIMEOUT_S)
        assert not self._thread.is_alive()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, done on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_TIMEOUT_S)

    def register(self, name: str, **attrs: Any) -> dict[str, Any]:
        """Register a node; gives its record."""
        return self._post("/api/nodes", {"name": name, **attrs})["node"]

    def beat(self, name: str, **beat: Any) -> None:
        """Send a heartbeat of the node."""
        self._post(f"/api/nodes/{name}/heartbeats", beat)

    def mark(self, name: str, status: str, reason: str) -> None:
        """Lay an override over the node's status."""
        self._post(f"/api/nodes/{name}/status", {"status": status, "reason": reason})

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.http.post(path, json=body)
        answer.raise_for_status()
        return answer.json()

    def _main(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    async def _serve(self) -> None:
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(open_server(self._settings, clock=self._clock))
            self.registry = server.registry
            self._ready.set_result(server.url)
            await self._stop.wait()


class Seen:
    """What a page did besides what it shows."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.hosts: set[str] = set()

    def watch(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))

    def forget_network_errors(self) -> None:
        """Chromium itself reports each failed request, which no page can keep it from."""
        self.errors = [text for text in self.errors if not text.startswith("Failed to load resource: net::")]

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(message.text)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Not for the whole session: while playwright runs, no other test of this thread can have an event loop.
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("there is no chromium on the PATH")
    expect.set_options(timeout=EXPECT_TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme="dark")
    yield context
    context.close()


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def start_server(browser: Browser) -> Iterator[Callable[..., ServerThread]]:
    """Start servers by `start_server(clock=None, **settings)`; without a browser, which comes first, none starts."""
    with ExitStack() as stack:

        def start(*, clock: Clock | None = None, **settings: Any) -> ServerThread:
            # Nodes that say nothing about it beat once an hour: a test's figures stay what the test made them.
            chosen = {"port": 0, "store": "memory://", "node_name": "registry@here", "heartbeat_interval_s": 3600.0}
            return stack.enter_context(ServerThread(Settings(**{**chosen, **settings}), clock=clock))

        yield start


@pytest.fixture
def page(context: BrowserContext, seen: Seen, start_server: Callable[..., ServerThread]) -> Iterator[Page]:
    """A page on which nothing may go wrong unseen, and from which nothing may be asked elsewhere.

    It asks for `start_server` in order to be closed before the servers are: a page without its server has errors.
    """
    page = context.new_page()
    page.add_init_script(REPORT_VIOLATIONS)
    seen.watch(page)
    yield page
    page.unroute_all(behavior="ignoreErrors")
    page.close()
    assert seen.errors == []
    assert len(seen.hosts) <= 1


@pytest.fixture
def server(start_server: Callable[..., ServerThread]) -> ServerThread:
    return start_server()
