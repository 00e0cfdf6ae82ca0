"""`thunderline history`, `diff` and `graph --at`: what was, on a terminal, in a pipe and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.cli.commands import on_screen, parsed, piped
from tests.cli.servers import ServedRegistry, serving
from thunderline.cli.when import read_when


@pytest.fixture
def lived() -> Iterator[ServedRegistry]:
    """A node that came up, was taken down and brought back, and another that is gone."""
    with serving() as running:
        running.add("worker-1")
        running.add("gone-1")
        running.beat("worker-1")
        running.advance(20)
        running.ask("POST", "/api/nodes/worker-1/offline", json={"reason": "rack move"})
        running.advance(10)
        running.ask("DELETE", "/api/nodes/worker-1/override")
        running.beat("worker-1")
        running.ask("DELETE", "/api/nodes/gone-1")
        yield running


def test_a_piped_history_has_the_fields_of_the_api(lived: ServedRegistry) -> None:
    header, *rows = (
        line.split("\t") for line in piped("history", "worker-1", "--server", lived.url).stdout.splitlines()
    )
    told = lived.ask("GET", "/api/nodes/worker-1/history")["spans"]
    assert len(rows) == len(told)
    for row, span in zip(rows, told, strict=True):
        for name, cell in zip(header, row, strict=True):
            value = span[name.lower()]
            assert cell == (value or "-")


def test_a_terminal_shows_spans_and_uptime(lived: ServedRegistry) -> None:
    screen = on_screen("history", "worker-1", "--server", lived.url, columns=120)
    assert screen.code == 0
    assert screen.lines[0].split() == ["SINCE", "FOR", "STATUS", "REASON", "BY"]
    assert any("○ offline" in line and "rack move" in line and "10s" in line for line in screen.lines)
    assert re.match(r"up 6\d\.\d{3}% from ", screen.lines[-1])


def test_a_history_as_json_is_the_apis_answer(lived: ServedRegistry) -> None:
    document = json.loads(piped("history", "worker-1", "--json", "--server", lived.url).stdout)
    told = lived.ask("GET", "/api/nodes/worker-1/history")
    assert document["spans"] == told["spans"]


def test_the_newest_spans_say_that_there_are_more(lived: ServedRegistry) -> None:
    done = piped("history", "worker-1", "--limit", "1", "--server", lived.url)
    assert len(done.stdout.splitlines()) == 2
    assert "there is more before 20" in done.stderr


def test_a_node_that_nobody_has(lived: ServedRegistry) -> None:
    done = piped("history", "worker-2", "--server", lived.url)
    assert done.returncode == 1
    assert "worker-1" in done.stderr


def test_a_diff_between_two_revisions(lived: ServedRegistry) -> None:
    done = piped("diff", "2", "--include-offline", "--server", lived.url)
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert rows[0] == ["CHANGE", "KIND", "NAME", "FIELD", "BEFORE", "AFTER"]
    assert ["added", "node", "worker-1", "-", "-", "-"] in rows
    screen = on_screen("diff", "2", "--include-offline", "--server", lived.url)
    assert "+ node worker-1" in screen.lines
    document = json.loads(piped("diff", "2", "--json", "--server", lived.url).stdout)
    assert [node["name"] for node in document["nodes"]["added"]] == ["worker-1"]


def test_nothing_differs(lived: ServedRegistry) -> None:
    head = lived.ask("GET", "/api/summary")["cursor"]
    done = piped("diff", head, head, "--server", lived.url)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)
    assert "nothing differs" in done.stderr


def test_a_graph_as_it_stood(lived: ServedRegistry) -> None:
    events = lived.ask("GET", "/api/events")["events"]
    came = next(each["revision"] for each in events if each["subject"] == "gone-1")
    then = piped("graph", "--at", str(came), "--server", lived.url)
    assert "gone-1" in then.stdout
    assert "gone-1" not in piped("graph", "--server", lived.url).stdout
    assert "gone-1" in json.dumps(json.loads(piped("graph", "--at", str(came), "--json", "--server", lived.url).stdout))


@pytest.mark.parametrize("when", ["yesterday", "15 minutes", "2026-13-01", "-5", "15x"])
@pytest.mark.parametrize("command", [("graph", "--at"), ("history", "a", "--from"), ("diff", "--")])
def test_what_is_no_moment_is_refused_with_examples(command: tuple[str, ...], when: str) -> None:
    done = parsed(*command, when)
    assert done.exit_code == 2
    assert "2026-01-31T03:12:00Z" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("2026-01-31T03:12:00Z", "2026-01-31T03:12:00Z"),
        ("2026-01-31T03:12:00+02:00", "2026-01-31T01:12:00Z"),
        ("17", "17"),
        (" 17 ", "17"),
        ("01900000-0000-7000-8000-000000000000:3", "01900000-0000-7000-8000-000000000000:3"),
    ],
)
def test_moments_are_read(given: str, read: str) -> None:
    assert read_when(given) == read


@pytest.mark.parametrize("given", ["90s", "15m", "2h", "3d", "15m ago", "2026-01-31", "2026-01-31 03:12"])
def test_ages_and_local_times_become_times_of_utc(given: str) -> None:
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:.]+Z", read_when(given) or "")
