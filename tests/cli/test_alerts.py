"""`thunderline alerts`: what fires, silences, taking on, and rules over the past."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import on_screen, piped
from tests.cli.servers import ServedRegistry, serving

RULES = "[rules.node-offline]\nfor = '1m'\n"


@pytest.fixture(scope="module")
def troubled() -> Iterator[ServedRegistry]:
    """A server of which one node has been offline for long, and another for a short time."""
    with serving() as running:
        for name, silence_s in (("lost", 200), ("late", 100)):
            running.add(name)
            running.beat(name)
            for _ in range(silence_s // 5):
                running.advance(5)
        while not running.ask("GET", "/api/alerts?state=firing")["alerts"]:
            running.advance(5)
        yield running


def piped_rows(running: ServedRegistry, *args: str) -> list[list[str]]:
    done = piped("alerts", *args, "--server", running.url)
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()[1:]]


def test_what_fires_and_what_is_about_to_is_listed(troubled: ServedRegistry) -> None:
    fires, waits = piped_rows(troubled)
    assert (fires[0], fires[1], fires[2]) == ("firing", "critical", "node-offline")
    assert fires[3] == "node=lost,role=worker,domain=thunderlink,scope=everything"
    assert waits[0] == "pending"
    assert "node=late" in waits[3]
    assert piped_rows(troubled, "--node", "late") == [waits]
    assert piped_rows(troubled, "list", "--severity", "warning") == []
    shown = on_screen("alerts", "--server", troubled.url, columns=140)
    assert "lost is offline: silent" in shown.text
    document = json.loads(piped("alerts", "--json", "--server", troubled.url).stdout)
    assert [each["labels"]["node"] for each in document["alerts"] + document["pending"]] == ["lost", "late"]


def test_an_alert_is_taken_on_and_silenced(troubled: ServedRegistry) -> None:
    fires = piped_rows(troubled)[0]
    done = piped("alerts", "ack", fires[-1], "--note", "on it", "--server", troubled.url)
    assert done.stdout == "node-offline: taken on by operator:local\n", done.stderr
    made = piped("alerts", "silence", "node~lo*", "severity!=info", "--for", "2h", "--server", troubled.url)
    silence = made.stdout.strip()
    assert piped_rows(troubled)[0][9] == silence
    [row] = piped_rows(troubled, "silences")
    assert (row[0], row[2]) == (silence, "node~lo* severity!=info")
    assert piped("alerts", "unsilence", silence, "--server", troubled.url).stdout == f"ended {silence}\n"
    assert piped_rows(troubled, "silences") == []
    again = piped("alerts", "unsilence", silence, "--server", troubled.url)
    assert (again.returncode, again.stdout) == (1, "")
    assert "no silence has the id" in again.stderr


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["silence", "lost", "--for", "1h"], "no matcher"),
        (["silence", "node=lost", "--for", "soon"], "no length of time"),
        (["ack", "../nodes"], "is no id"),
        (["test", "/nowhere.toml"], "does not exist"),
    ],
)
def test_what_cannot_be_meant_is_refused(args: list[str], told: str) -> None:
    done = piped("alerts", *args, "--server", "http://127.0.0.1:1")
    assert done.returncode == 2
    assert told in " ".join(done.stderr.split())


def test_rules_over_the_past_are_compared_with_what_had_fired(troubled: ServedRegistry, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    window = ("--from", "2026-01-01T00:00:00Z", "--to", "2026-01-01T00:20:00Z", "--server", troubled.url)
    rules.write_text("")
    same = piped("alerts", "test", str(rules), *window)
    assert same.returncode == 0, same.stderr
    [row] = [line.split("\t") for line in same.stdout.splitlines()[1:] if "node=lost" in line]
    assert [each.lower() for each in row[:2]] == ["true", "true"]
    assert " fewer" in same.stderr
    assert "beat-latency" in same.stderr
    rules.write_text("[rules.node-offline]\nenabled = false\n[rules.early]\nkind = 'node_offline'\nfor = '1m'")
    other = piped("alerts", "test", str(rules), *window, "--json")
    found = json.loads(other.stdout)["alerts"]
    assert [each["fired"] for each in found if each["alert"]["rule"] == "early"][:1] == [False]
    rules.write_text("[rules.node-offline]\nfor = 'soon'")
    wrong = piped("alerts", "test", str(rules), *window)
    assert wrong.returncode == 2
    assert "rules.node-offline.for" in wrong.stderr
