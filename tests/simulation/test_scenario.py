"""Scenarios as they are read: spans, choices, and what is wrong with them said by field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from thunderline.core.errors import InvalidInput
from thunderline.testing.simulation import built_in_names, parse_scenario, read_scenario
from thunderline.testing.simulation.scenario import Crash, Cut

LEAST = """
title = "t"
duration = "2m"
[[fleets]]
name = "worker"
count = 3
zones = ["a"]
"""


@pytest.mark.parametrize(
    ("span", "seconds"), [('"90s"', 90), ('"1.5m"', 90), ('"2h"', 7200), ('"250ms"', 0.25), ("7", 7), ("0.5", 0.5)]
)
def test_spans_are_numbers_or_text_with_a_unit(span: str, seconds: float) -> None:
    assert parse_scenario(LEAST.replace('"2m"', span)).duration == seconds


def test_faults_are_told_apart_by_their_kind() -> None:
    text = LEAST + '[[faults]]\nkind = "crash"\nat = 1\n[[faults]]\nkind = "cut"\nat = 2\nfor = "1m"\nshare = 0.5\n'
    crash, cut = parse_scenario(text).faults
    assert isinstance(crash, Crash)
    assert crash.restart_after is None
    assert isinstance(cut, Cut)
    assert (cut.span, cut.share) == (60, 0.5)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("title = ", "scenario"),
        (LEAST.replace('"2m"', '"2 weeks"'), "duration"),
        (LEAST.replace("count = 3", "count = 0"), "fleets[0].count"),
        (LEAST + "speed = 1", "fleets[0].speed"),
        (LEAST + '[[fleets]]\nname = "worker"\ncount = 1', "fleets"),
        (LEAST + '[[faults]]\nkind = "crash"\nat = "3m"', "faults[0].at"),
        (LEAST + '[[faults]]\nkind = "crash"\nat = 1\nfleet = "other"', "faults[0].fleet"),
        (LEAST + '[[faults]]\nkind = "crash"\nat = 1\nzone = "b"', "faults[0].zone"),
        (LEAST + "[settings]\noffline_after_s = -1", "settings.offline_after_s"),
        (LEAST + "[settings]\nno_such = 1", "settings.no_such"),
        (LEAST + "[bars]\nhistory_lost = 0", "bars.history_lost"),
    ],
)
def test_what_is_wrong_is_said_by_field(text: str, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_scenario(text)
    assert refused.value.field == field


def test_a_name_that_is_no_file_and_none_of_ours_is_told_what_there_is() -> None:
    with pytest.raises(InvalidInput, match="registry-restart"):
        read_scenario("no-such-scenario")


@pytest.mark.parametrize("name", built_in_names())
def test_those_that_come_along_can_be_read(name: str) -> None:
    assert read_scenario(name).fleets


def test_the_scenario_in_the_docs_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "liveness.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    scenario = parse_scenario(text)
    assert [fleet.name for fleet in scenario.fleets] == ["near", "far"]
    assert len(scenario.faults) == 2
    assert all(f"`{name}`" in page for name in built_in_names())
