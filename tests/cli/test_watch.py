"""`thunderline watch`: each event once and at once, on a terminal, in a pipe, as JSON; through a restart."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import PROGRAM, environ, on_screen, parsed, piped
from tests.cli.servers import ServedRegistry, stranger
from tests.server.processes import running
from thunderline.cli.watch import _line, _piped_row
from thunderline.client.events import read_event

COLUMNS = ["AT", "EVENT", "SUBJECT", "STATUS", "REASON", "CURSOR"]


class Watching:
    """A `thunderline watch` whose output is read line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.out = process.stdout
        self.err = process.stderr

    def row(self) -> list[str]:
        return self.out.readline().rstrip("\n").split("\t")

    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.out.readline())
        return event

    def interrupt(self) -> int:
        """The exit code after Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


@contextmanager
def watching(url: str, *args: str) -> Iterator[Watching]:
    """A watch that runs for the length of the block."""
    process = subprocess.Popen(
        [*PROGRAM, "watch", "--server", url, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environ(),
    )
    with process:
        try:
            yield Watching(process)
        finally:
            process.kill()


def test_a_pipe_gets_a_row_for_each_event_from_now_on(served: ServedRegistry) -> None:
    served.add("before")
    with watching(served.url) as watch:
        assert watch.row() == COLUMNS
        served.add("a")
        at, *row = watch.row()
        assert row == ["cluster.node.registered", "a", "connecting", "registered", served.registry.cursor]
        assert at == "2026-01-01T00:00:00Z"
        served.ask("POST", "/api/nodes/a/online", json={"session": {"session_id": "s", "connection_type": "quic"}})
        assert watch.row()[1:4] == ["cluster.node.online", "a", "online"]
        assert watch.row()[1:5] == ["cluster.link.established", "a", "established", "cluster quic"]


def test_json_is_one_object_of_the_api_a_line(served: ServedRegistry) -> None:
    served.add("a", meta={"text": "one\u2028two", "deep": [1]})
    listed = served.ask("GET", "/api/events")["events"]
    with watching(served.url, "--json", "--since", "0") as watch:
        assert [watch.event() for _ in listed] == listed
        served.add("b")
        assert watch.event()["subject"] == "b"


def test_a_cursor_of_a_row_is_where_the_next_watch_begins(served: ServedRegistry) -> None:
    for name in ("a", "b"):
        served.add(name)
    with watching(served.url, "--since", "0", "--match", "cluster.node.registered") as watch:
        rows = [watch.row() for _ in range(4)][1:]
    with watching(served.url, "--since", rows[1][-1]) as watch:
        assert watch.row() == COLUMNS
        assert [row[2] for row in rows] == ["registry@here", "a", "b"]
        assert watch.row() == rows[2]


def test_heartbeats_are_shown_only_where_the_pattern_spells_the_word(served: ServedRegistry) -> None:
    served.add("a")
    served.beat("a")
    with watching(served.url) as everything, watching(served.url, "--match", "*.*.heartbeat") as beats:
        assert everything.row() == beats.row() == COLUMNS
        served.beat("a", cpu_load=12.5, mem_used_mb=2048)
        served.add("b")
        assert beats.row()[1:] == ["cluster.node.heartbeat", "a", "online", "cpu 12%, mem 2.0Gi", "-"]
        assert everything.row()[2] == "b"


def test_a_terminal_gets_aligned_lines_in_local_time_below_their_day(served: ServedRegistry) -> None:
    served.add("a")
    served.ask("POST", "/api/nodes/a/offline", json={"reason": "rack move"})
    screen = on_screen("watch", "--since", "0", "--server", served.url, until="rack move", TZ="Asia/Tokyo")
    assert screen.lines[0] == "2026-01-01"
    registered, offline = (line for line in screen.lines if re.search(r"  a  ", line))
    assert registered == "09:00:00  node.registered      a                     ◌ connecting  registered"
    assert offline == "09:00:00  node.offline         a                     ○ offline  rack move"
    assert "\x1b[" in screen.raw


def test_ctrl_c_ends_a_watch_quietly(served: ServedRegistry) -> None:
    with watching(served.url) as watch:
        assert watch.row() == COLUMNS
        assert watch.interrupt() == 130
        assert (watch.out.read(), watch.err.read()) == ("", "")


def test_a_pipe_that_its_reader_closed_ends_a_watch_quietly(served: ServedRegistry) -> None:
    with watching(served.url, "--since", "0", "--json") as watch:
        watch.event()
        watch.out.close()
        while watch.process.poll() is None:
            served.add(f"n{served.registry.roster.revision}")
        assert watch.err.read() == ""


def test_a_watch_lives_through_a_restart_and_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "t.db") as server:
        port = server.url.rpartition(":")[2]
        with watching(server.url, "--json", "--since", "0") as watch:
            server.http.post("/api/nodes", json={"name": "before"})
            seen = [watch.event()]
            while seen[-1]["subject"] != "before":
                seen.append(watch.event())
            assert server.stop() == 0
            lost = f"thunderline: lost the server at {server.url} (it is shutting down); trying again\n"
            assert watch.err.readline() == lost
            with running(tmp_path / "t.db", "--port", port) as again:
                again.http.post("/api/nodes", json={"name": "after"})
                while seen[-1]["subject"] != "after":
                    seen.append(watch.event())
                told = again.http.get("/api/events").json()["events"]
            assert watch.err.readline() == "thunderline: the server answers again; nothing was missed\n"
    assert seen == told[: len(seen)]
    assert [event["revision"] for event in seen] == list(range(1, len(seen) + 1))


def test_a_cursor_of_another_log_ends_the_watch_with_what_to_do(served: ServedRegistry) -> None:
    done = piped("watch", "--since", "0190f5fe-7a1b-7c3d-8e4f-123456789abc:7", "--server", served.url)
    assert (done.returncode, done.stdout.split()) == (1, COLUMNS)
    assert "it belongs to another event log" in done.stderr


@pytest.mark.parametrize("cursor", ["abc", "999999"])
def test_a_cursor_that_cannot_be_used_is_told_by_the_name_of_its_option(served: ServedRegistry, cursor: str) -> None:
    done = piped("watch", "--since", cursor, "--server", served.url)
    assert (done.returncode, done.stdout.split()) == (1, COLUMNS if cursor.isdigit() else [])
    assert done.stderr.startswith("thunderline: --since: ")


def test_a_bad_pattern_is_told(served: ServedRegistry) -> None:
    done = piped("watch", "--match", "cluster..", "--server", served.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("thunderline: match: ")


def test_a_server_without_streams_is_told() -> None:
    page = b'{"events": [], "next_since": "log:0", "revision": 0}'
    with stranger(200, "application/json", page) as other:
        done = piped("watch", "--server", other.url)
    assert done.returncode == 1
    assert "does not answer as a Thunderline server" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_event_of_a_kind_that_is_not_known_is_shown_all_the_same() -> None:
    body = {
        **{"specversion": "1.0", "id": "1", "source": "s", "type": "cluster.quorum.lost", "actor": "a", "revision": 7},
        **{"subject": "zone-a\x1b[31m", "time": "2026-01-01T00:00:00Z", "datacontenttype": "application/json"},
        **{"entitykind": "quorum", "entityid": "2", "correlationid": "3", "eventversion": 1},
        **{"reliability": "persistent", "data": {"name": "zone-a"}},
    }
    event = read_event(json.dumps(body).encode(), cursor="log:7")
    assert _piped_row(event)[1:] == ("cluster.quorum.lost", "zone-a\x1b[31m", None, "-", "log:7")
    assert _line(event, "00:00:00").plain == "00:00:00  quorum.lost          zone-a[31m            -  -"


def test_the_help_says_what_is_left_out() -> None:
    words = " ".join(parsed("watch", "--help").stdout.split())
    assert "Heartbeats are shown only where the pattern spells the word" in words
    assert "[default: (everything but heartbeats)]" in words
