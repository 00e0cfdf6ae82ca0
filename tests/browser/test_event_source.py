"""A browser's EventSource on the stream of events: cut off and resumed, it misses and doubles nothing."""

from __future__ import annotations

import contextlib
import random
import selectors
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page

from thunderline.flow.taxonomy import TAXONOMY

if TYPE_CHECKING:
    from tests.browser.conftest import ServerThread

pytestmark = pytest.mark.browser

RESUMED = 50
SCRIPT = """
({ match, names }) => {
  window.heard = [];
  window.resets = [];
  window.opened = 0;
  let source = null, last = "0";
  const told = (event) => {
    last = event.lastEventId;
    window.heard.push(Number(last.split(":").pop()));
  };
  window.reopen = (since = last) => {
    source?.close();
    source = new EventSource(`/api/events?match=${match}&since=${since}`);
    source.onopen = () => { window.opened += 1; };
    for (const name of names) source.addEventListener(name, told);
    source.addEventListener("thunderline.reset", (event) => { window.resets.push(event.data); source.close(); });
  };
  window.reopen();
}
"""


class Relay:
    """Carries connections to a server, and cuts them all when told so."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._lock = threading.Lock()
        self._stopped = False
        self._thread = threading.Thread(target=self._main, name="relay")
        self._thread.start()

    def cut(self) -> None:
        """End every connection, amid whatever it carries."""
        with self._lock:
            for one in self._pairs:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Carry nothing more."""
        self._stopped = True
        self.cut()
        self._thread.join()
        self._listener.close()

    def _main(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._stopped:
                for key, _ in selector.select(0.05):
                    if key.fileobj is self._listener:
                        near, far = self._listener.accept()[0], socket.create_connection(self._target)
                        with self._lock:
                            self._pairs |= {near: far, far: near}
                        selector.register(near, selectors.EVENT_READ)
                        selector.register(far, selectors.EVENT_READ)
                    elif (other := self._pairs.get(key.fileobj)) is not None:  # type: ignore[call-overload]
                        self._carry(selector, key.fileobj, other)  # type: ignore[arg-type]
            for one in self._pairs:
                one.close()

    def _carry(self, selector: selectors.BaseSelector, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if piece := one.recv(65_536):
                other.sendall(piece)
                return
        with self._lock:
            for end in (one, other):
                selector.unregister(end)
                del self._pairs[end]
                end.close()


@contextlib.contextmanager
def relayed(server: ServerThread) -> Iterator[Relay]:
    relay = Relay(int(server.url.rpartition(":")[2]))
    try:
        yield relay
    finally:
        relay.close()


@contextlib.contextmanager
def writing(server: ServerThread, name: str, sizes: list[int], *, rare: bool) -> Iterator[None]:
    """A block beside which nodes are registered in batches of these sizes, each with a group behind it if `rare`."""

    def write() -> None:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as http:
            for at, size in enumerate(sizes):
                nodes = [{"name": f"{name}-{at}-{i}"} for i in range(size)]
                http.post("/api/nodes/batch", json={"nodes": nodes}).raise_for_status()
                if rare:
                    http.post("/api/groups", json={"name": f"{name}-{at}"}).raise_for_status()

    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(write)
        yield
        done.result()


def logged(server: ServerThread, match: str) -> list[int]:
    found: list[int] = []
    since = "0"
    while True:
        page = server.http.get("/api/events", params={"match": match, "limit": "10000", "since": since}).json()
        found += [event["revision"] for event in page["events"]]
        since = page["next_since"]
        if since.rpartition(":")[2] == str(page["revision"]):
            return found


@pytest.mark.parametrize("cuts", [1, pytest.param(RESUMED, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
@pytest.mark.parametrize(
    ("match", "each"),
    [
        pytest.param("%3E", 1, id="all"),
        pytest.param("cluster.group.*", 1_000, id="one in 1,000", marks=pytest.mark.slow),
    ],
)
def test_an_event_source_that_is_cut_off_and_resumed_hears_exactly_the_log(
    server: ServerThread, context: BrowserContext, match: str, each: int, cuts: int
) -> None:
    rng = random.Random(f"{match} {cuts}")
    kinds = [True] * cuts + [False] * (RESUMED - cuts)
    rng.shuffle(kinds)
    pattern = match.replace("%3E", ">")
    # Not the page of other tests, on which nothing may fail: Chromium tells of each connection that is cut under it.
    page = context.new_page()
    with relayed(server) as relay:
        page.goto(f"{relay.url}/docs")
        page.evaluate(SCRIPT, {"match": match, "names": list(TAXONOMY)})
        for turn, is_cut in enumerate(kinds):
            page.wait_for_function("(count) => window.opened > count", arg=turn, timeout=30_000)
            heard = page.evaluate("() => window.heard.length")
            sizes = [each - 1] * 2 if each > 1 else [rng.randrange(1, 30) for _ in range(5)]
            with writing(server, f"t{turn}", sizes, rare=each > 1):
                # Amid what is being written: the browser comes back by itself, or the page.
                more = 1 if each > 1 else rng.randrange(1, sum(sizes))
                page.wait_for_function("(count) => window.heard.length >= count", arg=heard + more, timeout=30_000)
                if is_cut:
                    relay.cut()
                else:
                    page.evaluate("() => window.reopen()")
        page.wait_for_function("(count) => window.opened > count", arg=RESUMED, timeout=30_000)
        told = logged(server, pattern)
        page.wait_for_function("(count) => window.heard.length >= count", arg=len(told), timeout=30_000)
        assert page.evaluate("() => window.heard") == told
        assert page.evaluate("() => window.resets") == []
        page.close()


def test_a_page_is_told_that_its_cursor_is_gone(server: ServerThread, page: Page) -> None:
    server.register("a")
    page.goto(f"{server.url}/docs")
    page.evaluate(SCRIPT, {"match": "%3E", "names": list(TAXONOMY)})
    page.evaluate("() => window.reopen('0190f5fe-7a1b-7c3d-8e4f-123456789abc:1')")
    page.wait_for_function("() => window.resets.length > 0")
    assert "list again" in page.evaluate("() => window.resets[0]")
