"""Cursors into the event log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderline.core.errors import CursorGone, InvalidInput
from thunderline.core.ids import LogId, Revision
from thunderline.link.cursor import read_cursor, write_cursor
from thunderline.testing.records import numbered_uuid

LOG, OTHER = LogId(numbered_uuid(1)), LogId(numbered_uuid(2))


def read(text: str | None, *, oldest: int = 5, head: int = 10) -> int:
    return read_cursor(text, log_id=LOG, oldest=Revision(oldest), head=Revision(head))


@given(st.lists(st.integers(0, 10**17), min_size=3, max_size=3).map(sorted))
def test_cursor_within_the_log_is_read_as_it_was_written(numbers: list[int]) -> None:
    oldest, revision, head = numbers
    text = write_cursor(LOG, Revision(revision))
    assert read(text, oldest=oldest, head=head) == revision


@pytest.mark.parametrize("text", [None, "", "0"])
def test_absent_cursor_is_the_oldest_that_is_kept(text: str | None) -> None:
    assert read(text) == 5
    assert read(text, oldest=0, head=0) == 0


@pytest.mark.parametrize(("revision", "allowed"), [(4, False), (5, True), (10, True), (11, False)])
def test_cursor_is_good_from_the_oldest_to_the_head(revision: int, allowed: bool) -> None:
    for text in (f"{LOG}:{revision}", str(revision)):
        if allowed:
            assert read(text) == revision
        else:
            with pytest.raises(CursorGone, match="list again") as caught:
                read(text)
            assert caught.value.cursor == text


def test_cursor_of_another_log_is_gone_even_where_it_would_fit() -> None:
    for revision in (0, 4, 7, 11):
        with pytest.raises(CursorGone, match="another event log"):
            read(write_cursor(OTHER, Revision(revision)))


def test_cursor_ahead_of_the_log_is_never_nothing_new() -> None:
    # A log that was restored from a backup is behind what its watchers have seen.
    with pytest.raises(CursorGone, match="stands at 10"):
        read(f"{LOG}:11")


@pytest.mark.parametrize(
    "text",
    [
        *(
            ":",
            "x",
            "-1",
            "1.5",
            "1e3",
            " 7",
            "7 ",
            "+7",
            "\u0667",
            "7\n",
            "0x7",
            "7:",
            f"{LOG}",
            f"{LOG}:",
            f"{LOG}:x",
        ),
        *(f"{LOG}:-1", f"{LOG}:7:", "9" * 19, "9" * 5000, "\x00"),
    ],
)
def test_text_that_is_no_cursor_is_refused_by_field(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(text)
    assert caught.value.field == "since"


@given(st.text(max_size=50))
def test_any_text_is_a_revision_within_the_log_or_refused(text: str) -> None:
    try:
        revision = read(text)
    except (InvalidInput, CursorGone):
        return
    assert 5 <= revision <= 10
