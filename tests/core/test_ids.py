"""Identifiers."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thunderline.core.ids import is_uuid, new_uuid7


def test_new_ids_are_version_7_canonical_and_unique() -> None:
    ids = [new_uuid7() for _ in range(2000)]
    assert len(set(ids)) == len(ids)
    assert all(str(UUID(id_)) == id_ and UUID(id_).version == 7 for id_ in ids)


def test_later_ids_sort_later() -> None:
    ids = [new_uuid7() for _ in range(2000)]
    assert [id_[:13] for id_ in ids] == sorted(id_[:13] for id_ in ids)


@given(st.uuids(allow_nil=True))
def test_every_usual_spelling_of_a_uuid_is_one(uuid: UUID) -> None:
    for text in (str(uuid), uuid.hex):
        assert is_uuid(text)
        assert is_uuid(text.upper())
        assert not is_uuid(text + "\n")
        assert not is_uuid(text[1:])


@given(st.from_regex(r"\A[0-9a-fA-F-]{30,38}\Z") | st.text())
@example("0197c000-0000-7000-8000-00000000000g")
def test_what_is_taken_for_a_uuid_is_one(text: str) -> None:
    if is_uuid(text):
        UUID(text)


@pytest.mark.parametrize(
    "name", ["", "worker-1", "worker-1@prod", "0197c000", "{0197c000-0000-7000-8000-000000000000}", "\u0660" * 32]
)
def test_names_are_no_uuids(name: str) -> None:
    assert not is_uuid(name)
