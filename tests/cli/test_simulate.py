"""`thunderline simulate`: the table, the rows in a pipe, the report as JSON, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import on_screen, piped

SCENARIO = """
title = "Two die"
duration = "3m"
[[fleets]]
name = "worker"
count = 10
[[faults]]
kind = "crash"
at = 60
share = 0.2
"""


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    """A file."""
    path = tmp_path / "two-die.toml"
    path.write_text(SCENARIO)
    return str(path)


def test_rows_in_a_pipe(scenario: str) -> None:
    header, row = piped("simulate", "--offline", scenario).stdout.splitlines()
    found = dict(zip(header.split("\t"), row.split("\t"), strict=True))
    assert (found["FLEET"], found["NODES"], found["FAULTS"], found["FALSE_OFFLINE"]) == ("worker", "10", "2", "0")


def test_a_setting_changes_the_outcome(scenario: str) -> None:
    def found_in_s(*given: str) -> float:
        report = json.loads(piped("simulate", "--offline", scenario, "--json", *given).stdout)
        return float(report["fleets"][0]["detection"]["median_s"])

    assert found_in_s("--set", "drop_grace_s=20") > found_in_s() + 10


def test_a_person_reads_a_table(scenario: str) -> None:
    screen = on_screen("simulate", "--offline", scenario)
    assert any(line.split() == ["worker"] for line in screen.lines)
    assert any(line.startswith("disconnected after s") for line in screen.lines)


def test_missed_bars_fail_the_command(scenario: str) -> None:
    Path(scenario).write_text(SCENARIO + "[bars]\ndetection = 1\n")
    run = piped("simulate", "--offline", scenario)
    assert run.returncode == 1
    assert "detection: " in run.stderr
    assert run.stdout


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["simulate", "registry-pause"], "--offline"),
        (["simulate", "--offline", "nowhere"], "nowhere"),
        (["simulate", "--offline", "registry-pause", "--set", "detector"], "NAME=VALUE"),
        (["simulate", "--offline", "registry-pause", "--set", "no_such=1"], "settings.no_such"),
    ],
)
def test_what_cannot_be_simulated_is_told(given: list[str], told: str) -> None:
    run = piped(*given)
    assert run.returncode == 2
    assert told in run.stderr
