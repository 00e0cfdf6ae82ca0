"""Patterns over event names, held against the rule as one would say it aloud."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from thunderline.core.errors import InvalidInput
from thunderline.flow.match import PATTERN_MAX, Pattern
from thunderline.flow.taxonomy import NODE_HEARTBEAT, NODE_ONLINE, TAXONOMY, TRANSIENT


def covers(pattern: list[str], name: list[str]) -> bool:
    """`*` is one token, a last `>` one or more, anything else itself."""
    if not pattern or not name:
        return pattern == name
    head, *rest = pattern
    if head == ">":
        return True
    return head in ("*", name[0]) and covers(rest, name[1:])


WORDS = st.sampled_from(["cluster", "node", "link", "a", "b", "a-b", "a_b", "A", "0"])
NAMES = st.lists(WORDS, min_size=1, max_size=5)
PATTERNS = st.lists(WORDS | st.just("*"), min_size=1, max_size=5).flatmap(
    lambda tokens: st.sampled_from([tokens, [*tokens, ">"], [">"], ["*"] * len(tokens)])
)


@pytest.mark.parametrize("text", [">", "cluster.*.*", NODE_HEARTBEAT])
def test_what_a_pattern_is_without_does_not_match(text: str) -> None:
    pattern = Pattern(text, without=TRANSIENT)
    assert not pattern.matches(NODE_HEARTBEAT)
    assert pattern.matches(NODE_ONLINE) == Pattern(text).matches(NODE_ONLINE)


@given(PATTERNS, NAMES)
@example(["cluster", ">"], ["cluster"])
@example(["*"], ["cluster", "node"])
@example([">"], ["cluster"])
@example(["a"], ["A"])
@example(["a"], ["a-b"])
def test_pattern_covers_what_the_rule_says(pattern: list[str], name: list[str]) -> None:
    assert Pattern(".".join(pattern)).matches(".".join(name)) == covers(pattern, name)


@given(PATTERNS, st.sampled_from(sorted(TAXONOMY)))
def test_pattern_covers_declared_events_as_the_rule_says(pattern: list[str], name: str) -> None:
    assert Pattern(".".join(pattern)).matches(name) == covers(pattern, name.split("."))


TOKENS = st.text(alphabet="ab*>. -_é\n$^[", max_size=4)


@given(st.lists(TOKENS, max_size=4).map(".".join) | st.text(max_size=10))
@example("")
@example(".")
@example("a..b")
@example(">.a")
@example("a.>.b")
@example("a*")
@example("a>")
@example("**")
@example("a\n")
@example(" a")
def test_text_is_a_pattern_or_refused_by_field(text: str) -> None:
    tokens = text.split(".")
    words = {"*", *(t for t in tokens if t and t.isascii() and t.replace("-", "").replace("_", "x").isalnum())}
    words |= {t for t in tokens if t and set(t) <= {"-", "_"}}
    legal = all(token in words or (token == ">" and i == len(tokens) - 1) for i, token in enumerate(tokens))
    if legal:
        assert Pattern(text).text == text
    else:
        with pytest.raises(InvalidInput) as caught:
            Pattern(text)
        assert caught.value.field == "match"
        assert "cluster.node.>" in caught.value.problem


def test_length_is_bounded() -> None:
    Pattern("a" * PATTERN_MAX)
    with pytest.raises(InvalidInput, match="longer than 255"):
        Pattern("a" * (PATTERN_MAX + 1))


def test_matching_takes_no_longer_for_a_pattern_made_to_be_slow() -> None:
    # A chain of `*` against a name that fails at its very end must not try every way to share it out.
    slow = Pattern(".".join(["*"] * 120 + ["z"]))
    assert not slow.matches(".".join(["a"] * 121))
    assert not slow.matches("a" * 10_000)


def test_a_name_is_looked_at_once_and_other_names_fill_no_memory() -> None:
    pattern = Pattern("cluster.*")
    for _ in range(2):
        assert pattern.matches("cluster.node")
        assert not any(pattern.matches(f"other.n{i}") for i in range(1_000))
    assert len(pattern._decided) <= 256
