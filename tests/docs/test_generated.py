"""The generated pages: they say what the code says, and leave nothing out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.api import error_kinds, registry_members, slug
from docs.generate import DOCS, pages
from thunderline.gate.app import build_litestar
from thunderline.gate.openapi import route_docs
from thunderline.link.registry import Registry


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return pages()


@pytest.mark.parametrize("name", ["api.md", "configuration.md", "events.md"])
def test_the_page_in_the_tree_is_what_the_code_says(generated: dict[str, str], name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == generated[name], "run `make docs`"


def test_every_route_has_its_place(generated: dict[str, str]) -> None:
    routes = route_docs(build_litestar())
    headings = {line.removeprefix("#### ").strip("`") for line in generated["api.md"].splitlines() if "####" in line}
    assert headings == {f"{method.upper()} {path}" for path, method in routes}


def test_every_error_code_has_a_row(generated: dict[str, str]) -> None:
    missing = [kind.code for kind in error_kinds() if f"\n| `{kind.code}` | " not in generated["api.md"]]
    assert error_kinds()
    assert not missing


def test_every_public_member_of_the_registry_is_told(generated: dict[str, str]) -> None:
    told = {member.name for members in registry_members().values() for member in members}
    public = {name for kind in Registry.__mro__[:-1] for name in vars(kind) if not name.startswith("_")}
    assert told == public
    missing = [
        name for name in public if not re.search(rf"^(async )?(def )?(Registry\.)?{name}\b", generated["api.md"], re.M)
    ]
    assert not missing


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        if "://" in name:
            continue
        linked = page.parent / name if name else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.M)
            # A heading that is there twice would get a number, and the link lead to the first.
            assert [slug(heading) for heading in headings].count(anchor) == 1, target
