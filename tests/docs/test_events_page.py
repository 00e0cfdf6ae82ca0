"""`docs/events.md`: its programs run as they stand there, and it tells every attribute of the envelope."""

from __future__ import annotations

import re

import pytest

from docs.generate import DOCS
from thunderline.core.envelope import CloudEvent

PAGE = (DOCS / "events.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?^```python\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.mark.parametrize("program", [pytest.param(program, id=heading) for heading, program in PROGRAMS])
def test_the_program_runs_as_it_stands(program: str) -> None:
    exec(compile(program, "docs/events.md", "exec", dont_inherit=True), {"__name__": "__main__"})


def test_every_program_of_the_page_is_run() -> None:
    assert len(PROGRAMS) == PAGE.count("```python") > 0


def test_the_page_tells_every_attribute_and_no_other() -> None:
    section = PAGE.partition("## Envelope")[2].partition("\n## ")[0]
    rows = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(CloudEvent.__struct_encode_fields__)
