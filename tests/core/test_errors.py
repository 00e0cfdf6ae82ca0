"""The tree of errors: drawn as it is, and each with a code and a message that helps."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import pytest

from thunderline.core import errors
from thunderline.core.errors import ThunderlineError

CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ThunderlineError)]

EXAMPLES: list[ThunderlineError] = [
    ThunderlineError("plain"),
    errors.InvalidInput("meta.a", "must be a number"),
    errors.MalformedBody("body", "is empty"),
    errors.BodyTooLarge(65_536),
    errors.IdempotencyKeyReused(),
    errors.IdempotencyKeyRefused(),
    errors.ProtocolViolation("hb has no place before hello"),
    errors.NotFound("nothing there"),
    errors.UnknownNode("worker-1"),
    errors.UnknownCapability("worker-1", key="gpu"),
    errors.UnknownSession("session-1"),
    errors.UnknownGroup("eu-1"),
    errors.UnknownMembership("worker-1", group="eu-1"),
    errors.UnknownToken("ci"),
    errors.UnknownAlert("0f8c"),
    errors.UnknownSilence("0190a000"),
    errors.Deregistered("worker-1"),
    errors.Refused("not from you"),
    errors.Unauthenticated(),
    errors.TokenUnknown(),
    errors.TokenExpired("ci"),
    errors.TokenRevoked("ci"),
    errors.NotPermitted("node:worker-1", "deregister nodes"),
    errors.JoinRefused("the join token fleet has been used up"),
    errors.CsrfRefused("X-Thunderline: 1"),
    errors.HostRefused("evil.example"),
    errors.OriginRefused("https://evil.example"),
    errors.WrongContentType("text/plain"),
    errors.Conflict("not now"),
    errors.Mismatch("role", known="worker", given="gateway"),
    errors.StaleIncarnation(given=1, current=2),
    errors.StaleSequence(seq=3, highest=4000),
    errors.Superseded("worker-1"),
    errors.SaidGoodbye("worker-1"),
    errors.SessionTaken("session-1"),
    errors.SessionOver("session-1", status="closed"),
    errors.EndNotUp("worker-1", status="offline"),
    errors.LiveLink("worker-1"),
    errors.PreconditionFailed("worker-1", revision=7, tag='"abc:7"'),
    errors.BatchRefused({3: errors.UnknownNode("worker-1")}, size=10),
    errors.NotDone(),
    errors.GroupInUse("eu-1", members=2, subgroups=1),
    errors.TokenNameTaken("ci"),
    errors.AlertOver("0f8c"),
    errors.GroupCycle(["eu", "eu-1", "eu"]),
    errors.CursorGone("abc:7", why="it belongs to another event log"),
    errors.Unavailable("busy"),
    errors.Overloaded("mutation"),
    errors.StoreUnavailable("disk full"),
    errors.RateLimited("200 frames a second"),
    errors.NoHello(within_s=10),
    errors.NameInUse("worker-1", retry_after_s=30),
    errors.SessionEnded("0193a5a4"),
    errors.IdempotencyKeyInUse(),
    errors.ShuttingDown(),
    errors.OutcomeUnknown("connection lost"),
    errors.StoreFault("broken"),
    errors.ContentRejected("the name is taken"),
    errors.StoreLocked("/var/nodes.db", owner="process 7"),
    errors.StoreIncompatible("a later version"),
    errors.UpkeepFault("broken"),
    errors.NoDatabase("/var/nodes.db"),
    errors.FileInTheWay("/var/nodes.bak", hint="pass --force to overwrite it"),
    errors.NotABackup("/var/notes.txt", problem="it is not an SQLite database"),
    errors.UpkeepFailed("/var/nodes.bak", problem="no space left on device"),
    errors.WatchCut(backlog=10, resume_from=7),
    errors.WatchStalled(silent_s=30.0, resume_from=7),
    errors.UndeclaredEvent("cluster.node.exploded", "is not declared"),
    errors.SettingsError("port", "is taken", source="flag"),
]


def drawn() -> Iterator[tuple[str, str | None]]:
    """(class, parent) of each line of the tree in the module's docstring."""
    above: list[tuple[int, str]] = []
    for line in inspect.getdoc(errors).splitlines():  # type: ignore[union-attr]
        match = re.match(r"( +(?:[│├└─ ]*))([A-Z]\w+)(?:  +\S|$)", line)
        if match is None:
            continue
        depth = len(match[1])
        above = [(d, name) for d, name in above if d < depth]
        yield match[2], above[-1][1] if above else None
        above.append((depth, match[2]))


def test_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    tree = list(drawn())
    assert len(tree) == len({name for name, _ in tree})
    assert dict(tree) == {
        kind.__name__: None if kind is ThunderlineError else kind.__bases__[0].__name__ for kind in CLASSES
    }


def test_every_class_has_one_parent_and_a_docstring() -> None:
    for kind in CLASSES:
        assert len(kind.__bases__) == 1
        assert "__doc__" in vars(kind)


def test_every_class_has_a_code_of_its_own() -> None:
    codes = [vars(kind)["code"] for kind in CLASSES]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z_]+", code) for code in codes)


def test_every_class_has_an_example_here() -> None:
    assert [type(example) for example in EXAMPLES] == CLASSES


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_message_is_built_from_the_attributes(error: ThunderlineError) -> None:
    text = str(error)
    assert text
    assert "\n" not in text
    for name, value in vars(error).items():
        shown = f"{value:g}" if isinstance(value, float) else str(value)
        # A cursor is the caller's own; why it is gone says more. Of a batch's errors the first is told.
        assert shown in text or name in ("cursor", "ref", "retry_after_s", "errors")


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_what_is_retryable_says_when_or_where_to_go_on(error: ThunderlineError) -> None:
    assert error.retryable == isinstance(error, errors.Unavailable | errors.WatchCut | errors.WatchStalled)
    if isinstance(error, errors.Unavailable):
        assert error.retry_after_s > 0
        assert f"retry in {error.retry_after_s:g} s" in str(error)


@pytest.mark.parametrize(
    "kind", [errors.UnknownNode, errors.UnknownGroup, errors.HostRefused, errors.OriginRefused, errors.WrongContentType]
)
def test_message_quotes_a_bounded_part_of_what_was_sent(kind: type[ThunderlineError]) -> None:
    long = "x" * 100_000
    assert len(str(kind(long))) < 500  # type: ignore[call-arg]
    assert "\n" not in str(kind("a\nb"))  # type: ignore[call-arg]
