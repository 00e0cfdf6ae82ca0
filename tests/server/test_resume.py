"""`curl` on the stream of events, killed again and again at seeded moments: what it read in all is exactly the log."""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
from pathlib import Path

import httpx
import pytest

from tests.server.processes import ServerProcess, running
from thunderline.client.events import MessageReader

KILLS = 50
TOGETHER = 20

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on the PATH")


class Churn:
    """Registers nodes in a thread of its own until told to stop; `made` says how many."""

    def __init__(self, url: str, *, rare_every: int | None = None) -> None:
        self._url = url
        self._rare_every = rare_every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._main, name="churn")
        self.made = 0
        self.rare = 0

    def __enter__(self) -> Churn:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()

    def _main(self) -> None:
        together = TOGETHER if self._rare_every is None else self._rare_every - 1
        with httpx.Client(base_url=self._url, trust_env=False, timeout=30) as http:
            while not self._stop.is_set():
                nodes = [{"name": f"n{self.made + i}"} for i in range(together)]
                http.post("/api/nodes/batch", json={"nodes": nodes}).raise_for_status()
                self.made += together
                if self._rare_every is not None:
                    http.post("/api/groups", json={"name": f"g{self.rare}"}).raise_for_status()
                    self.rare += 1


def log_of(server: ServerProcess, match: str) -> list[int]:
    """The revisions of all events that match, as pages tell them."""
    found: list[int] = []
    since = "0"
    while True:
        query = {"since": since, "limit": "10000", "match": match}
        page = server.http.get("/api/events", params=query).raise_for_status().json()
        found += [event["revision"] for event in page["events"]]
        since = page["next_since"]
        if since.rpartition(":")[2] == str(page["revision"]):
            return found


def follow(url: str, match: str, cursor: str, heard: list[int], *, count: int) -> str:
    """Let curl read until `count` events more were heard, and kill it amid what follows; gives the last id."""
    command = ["curl", "-sN", "-H", "Accept: text/event-stream", "-H", f"Last-Event-ID: {cursor}"]
    with subprocess.Popen([*command, f"{url}/api/events?match={match}"], stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        reader, left = MessageReader(), count
        try:
            # The head at least, which has an id of its own; in pieces that end amid messages.
            while piece := curl.stdout.read1(1_000):  # type: ignore[attr-defined]  # a buffered reader has it
                for message in reader.feed(piece):
                    assert not message.event.startswith("thunderline.")
                    cursor = message.id or cursor
                    if message.data is not None:
                        heard.append(int(cursor.rpartition(":")[2]))
                        left -= 1
                if left <= 0:
                    return cursor
        finally:
            curl.kill()
    raise AssertionError("the stream ended by itself")


@pytest.mark.parametrize(
    ("match", "rare_every", "most"),
    [pytest.param(">", None, 60, id="all"), pytest.param("cluster.group.*", 1_000, 2, id="one in 1,000")],
)
def test_what_a_killed_curl_reads_in_all_is_exactly_the_log(
    tmp_path: Path, match: str, rare_every: int | None, most: int
) -> None:
    rng = random.Random(match)
    heard: list[int] = []
    cursor = "0"
    with running(tmp_path / "t.db") as server:
        with Churn(server.url, rare_every=rare_every) as churn:
            for _ in range(KILLS):
                cursor = follow(server.url, match, cursor, heard, count=rng.randrange(most))
        told = log_of(server, match)
        if len(heard) < len(told):
            follow(server.url, match, cursor, heard, count=len(told) - len(heard))
    assert heard == told
    if rare_every is not None:
        assert len(told) == churn.rare > KILLS / 4
        assert churn.made == churn.rare * (rare_every - 1)
