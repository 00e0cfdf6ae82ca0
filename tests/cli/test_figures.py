"""Figures and text as a screen shows them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from thunderline.cli.figures import ago, mebibytes, milliseconds, percent, rfc3339
from thunderline.cli.screen import cell, clean, escape_json

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("age_s", "told"),
    [
        (-5, "now"),
        (0.9, "now"),
        (1, "1s ago"),
        (59.9, "59s ago"),
        (60, "1m ago"),
        (3_599, "59m ago"),
        (3_600, "1h ago"),
        (172_799, "47h ago"),
        (172_800, "2d ago"),
    ],
)
def test_an_age_is_told_in_one_unit(age_s: float, told: str) -> None:
    assert ago(NOW - timedelta(seconds=age_s), NOW) == told


@pytest.mark.parametrize(
    ("value", "told"), [(0, "0.0%"), (9.94, "9.9%"), (9.96, "10%"), (99.97, "100%"), (800.2, "800%"), (None, "-")]
)
def test_percent_is_short(value: float | None, told: str) -> None:
    assert percent(value) == told


@pytest.mark.parametrize(
    ("value", "told"),
    [(0, "0Mi"), (512.4, "512Mi"), (1023.6, "1.0Gi"), (2048, "2.0Gi"), (1_048_570, "1.0Ti"), (None, "-")],
)
def test_memory_is_told_in_the_unit_that_keeps_it_short(value: float | None, told: str) -> None:
    assert mebibytes(value) == told


@pytest.mark.parametrize(("value", "told"), [(0, "0.0 ms"), (3.24, "3.2 ms"), (250.7, "251 ms"), (None, "-")])
def test_latency_is_short(value: float | None, told: str) -> None:
    assert milliseconds(value) == told


def test_a_time_is_written_as_the_api_writes_it() -> None:
    assert rfc3339(NOW + timedelta(milliseconds=120)) == "2026-01-01T00:00:00.120000Z"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain", "plain"),
        ("Ökostrom ☂", "Ökostrom ☂"),
        ("a\tb\r\nc\u2028d", "a b c d"),
        ("\x1b]0;title\x07x\x7f\x9b2J", "]0;titlex2J"),
        ("abc\u202edef\u200b", "abcdef"),
        ("\ud800x", "x"),
    ],
)
def test_clean_text_is_one_line_without_control_or_formatting_characters(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize("value", [None, "", " ", "\x00"])
def test_a_cell_is_never_empty(value: str | None) -> None:
    assert cell(value) == "-"


def test_escaped_json_is_the_same_document_in_printable_characters() -> None:
    document = {"a": "\x9b\u202e\x7f", "tag": "\U000e0041"}
    escaped = escape_json(json.dumps(document, ensure_ascii=False, indent=2))
    assert json.loads(escaped) == document
    assert escaped.replace("\n", "").isprintable()
