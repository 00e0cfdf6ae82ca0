"""Watching over HTTP: each event once and in order, whatever becomes of the connection."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.servers import ServedRegistry
from tests.client.clients import AtOnce, Driven, driven, scripted
from thunderline.client import AnswerLost, Client, ClientError, InvalidRequest, ListAgain, NotThunderline
from thunderline.client.errors import Problem, ServerUnavailable, ServerUnreachable, refusal
from thunderline.client.events import Message, MessageReader
from thunderline.client.following import FIRST_WAIT_S, LONGEST_WAIT_S, Following
from thunderline.core.records import Heartbeat, Node

STREAM = "text/event-stream"
PROBLEM = "application/problem+json"
HUNG_UP = (0, "", b"")
CUT = b'event: thunderline.cut\ndata: {"code": "watch_cut", "resume_from": "log:3"}\n\n'


def event(revision: int, name: str = "cluster.node.updated", **changes: Any) -> bytes:
    """A message of a stream."""
    body = {
        **{"specversion": "1.0", "id": f"e{revision}", "source": "s", "type": name, "subject": f"n{revision}"},
        **{"time": "2026-01-01T00:00:00Z", "datacontenttype": "application/json", "revision": revision, "actor": "a"},
        **{"entitykind": "mystery", "entityid": "i", "correlationid": "c", "eventversion": 1},
        **{"reliability": "persistent", "data": {"any": "thing"}},
        **changes,
    }
    return f"id: log:{revision}\nevent: {name}\ndata: {json.dumps(body)}\n\n".encode()


def gone(status: int, code: str, **more: object) -> tuple[int, str, bytes]:
    """A refusal."""
    return status, PROBLEM, json.dumps({"status": status, "detail": code, "code": code, **more}).encode()


def following(seed: int = 0, **options: Any) -> Following:
    given: dict[str, Any] = {
        "pattern": ">",
        "transient": True,
        "damped": False,
        "since": "log:0",
        "on_lost": None,
        "on_back": None,
    }
    return Following("http://here", rng=random.Random(seed), **{**given, **options})


def test_a_watch_hears_what_follows_from_now_on(client: Driven, server: ServedRegistry) -> None:
    node = client.ensure_node({"name": f"watched-{type(client.client).__name__}"})
    with client.watching() as watch:
        assert watch.cursor == server.registry.cursor
        client.heartbeat(node.id)
        event = watch.next()
        assert (event.name, event.subject, event.cursor) == ("cluster.node.online", node.name, server.registry.cursor)
        assert isinstance(event.record, Node)
        assert not event.deleted
        assert watch.cursor == event.cursor


def test_a_watch_hears_everything_after_its_cursor(client: Driven, server: ServedRegistry) -> None:
    listed = client.events(limit=10_000).events
    with client.watching(since="0") as watch:
        assert [watch.next() for _ in listed] == listed


def test_a_watch_is_of_a_pattern_and_hears_heartbeats(client: Driven) -> None:
    node = client.ensure_node({"name": f"beating-{type(client.client).__name__}"})
    with client.watching("cluster.node.heartbeat") as watch:
        # The stream begins before it listens: a beat in between is told to nobody, as it is in no log.
        for seq in range(1, 4):
            client.heartbeat(node.id, metrics={"seq": seq, "cpu_load": 7})
        event = watch.next()
    assert isinstance(event.record, Heartbeat)
    assert (event.record.cpu_load, event.cursor, event.reliability) == (7, None, "transient")


def test_a_bad_pattern_and_a_foreign_cursor_are_told(client: Driven) -> None:
    with pytest.raises(InvalidRequest, match="match"), client.watching("a..b"):
        pass
    with client.watching(since="0190f5fe-7a1b-7c3d-8e4f-123456789abc:1") as watch:
        with pytest.raises(ListAgain, match="another event log") as caught:
            watch.next()
        assert (caught.value.code, caught.value.status, caught.value.field) == ("cursor_gone", 410, "Last-Event-ID")


@pytest.mark.parametrize("last", [b"", event(4)[:40], b": thunderline\n", CUT])
def test_a_broken_stream_goes_on_behind_the_last_whole_event(kind: str, last: bytes) -> None:
    told: list[str] = []
    answers = [
        (200, STREAM, event(1) + event(3) + last),
        HUNG_UP,
        gone(503, "overloaded", retryable=True),
        gone(429, "too_many", retryable=True),
        (502, "text/html", b"<html>"),
        (200, STREAM, b"id: log:7\n\n"),
        (200, STREAM, event(9)),
    ]
    with scripted(answers) as script, driven(kind, script.url) as client:
        watch_options = {"on_lost": lambda error: told.append("lost"), "on_back": lambda: told.append("back")}
        with client.watching("cluster.>", since="log:0", **watch_options) as watch:
            heard = [watch.next().revision for _ in range(3)]
            assert watch.cursor == "log:9"
    assert heard == [1, 3, 9]
    places = [place for _, place in script.asked]
    assert places == ["log:0", "log:3", "log:3", "log:3", "log:3", "log:3", "log:7"]
    assert told == ["lost", "back", "lost", "back"]


RESET = (200, STREAM, b"retry: 9\nevent: thunderline.reset\ndata: " + gone(410, "cursor_gone")[2] + b"\n\n")


@pytest.mark.parametrize("answer", [RESET, gone(410, "cursor_gone")], ids=["reset", "refused"])
def test_a_log_that_was_replaced_meanwhile_ends_the_watch(kind: str, answer: tuple[int, str, bytes]) -> None:
    answers = [(200, STREAM, event(1)), answer]
    with scripted(answers) as script, driven(kind, script.url) as client, client.watching(since="log:0") as watch:
        assert watch.next().revision == 1
        with pytest.raises(ListAgain):
            watch.next()


@pytest.mark.parametrize("first", [HUNG_UP, gone(503, "shutting_down")])
def test_a_watch_that_was_never_connected_does_not_wait(kind: str, first: tuple[int, str, bytes]) -> None:
    with scripted([first]) as script, driven(kind, script.url) as client:
        with pytest.raises((AnswerLost, ServerUnavailable)), client.watching(since="log:0"):
            pass
        assert len(script.asked) == 1


@pytest.mark.parametrize(
    "body", [b"data: {}\n\n", b"data: nonsense\n\n", b"data: " + b"x" * 5_000_000], ids=["shape", "json", "length"]
)
def test_a_stream_that_is_not_ours_is_told(kind: str, body: bytes) -> None:
    answer = (200, STREAM, body)
    with scripted([answer]) as script, driven(kind, script.url) as client:
        watching = client.watching(since="log:0")
        with watching as watch, pytest.raises(NotThunderline):
            watch.next()


def test_a_page_in_place_of_a_stream_is_told(kind: str) -> None:
    answer = (200, "application/json", b"{}")
    with scripted([answer]) as script, driven(kind, script.url) as client:
        watching = client.watching(since="log:0")
        with pytest.raises(NotThunderline, match="stream"), watching:
            pass


def test_an_event_of_a_kind_that_is_not_known_is_given_as_it_is(kind: str) -> None:
    answer = (200, STREAM, event(1, mood="fine"))
    with scripted([answer]) as script, driven(kind, script.url) as client, client.watching(since="log:0") as watch:
        found = watch.next()
    assert (found.record, found.entity_kind) == ({"any": "thing"}, "mystery")
    assert json.loads(found.json)["mood"] == "fine"


async def test_cancelling_a_wait_for_an_event_loses_none(server: ServedRegistry) -> None:
    async with Client(server.url, rng=AtOnce()) as client, client.watch("cluster.node.registered") as events:
        for i in range(3):
            waiting = asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait([waiting], timeout=0)
            assert not done
            waiting.cancel()
            await asyncio.wait([waiting])
            await client.ensure_node({"name": f"cancelled-{i}"})
        assert [(await anext(events)).subject for _ in range(3)] == ["cancelled-0", "cancelled-1", "cancelled-2"]


async def test_a_watch_ends_when_it_is_closed(server: ServedRegistry) -> None:
    async with Client(server.url) as client:
        async with client.watch(since="0") as events:
            await anext(events)
        assert [event async for event in events] == []


def test_waits_grow_at_random_up_to_a_bound_and_begin_anew_once_something_was_heard() -> None:
    lost = AnswerLost("http://here", reason="broke")
    longest = [0.0] * 12
    for seed in range(200):
        state = following(seed)
        state.connected()
        longest = [max(most, state.lost(lost)) for most in longest]
    for failures, most in enumerate(longest):
        bound = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**failures)
        assert 0.9 * bound < most <= bound
    state.connected()
    state.heard(b": only a comment\n\n")
    assert state.lost(lost) <= LONGEST_WAIT_S
    state.connected()
    state.heard(b"id: log:1\n\n")
    assert state.lost(lost) <= FIRST_WAIT_S


@pytest.mark.parametrize(
    ("last", "told"),
    [
        (b"", "the stream ended"),
        (CUT, "this watcher fell behind and was cut off"),
        (CUT.replace(b"watch_cut", b"shutting_down"), "it is shutting down"),
        (CUT.replace(b"watch_cut", b"token_revoked"), "this watcher's token was revoked"),
        (CUT.replace(b"watch_cut", b"another"), "it ended the stream: another"),
    ],
)
def test_the_end_of_a_stream_is_told_as_the_server_told_it(last: bytes, told: str) -> None:
    state = following()
    state.connected()
    state.heard(event(1) + last)
    assert state.next_event() is not None
    assert state.next_event() is None
    assert state.ended().reason == told
    state.connected()
    assert state.ended().reason == "the stream ended"


def test_a_wait_is_as_long_as_the_server_asks_for_at_least() -> None:
    state = following()
    state.connected()
    busy = refusal(Problem(detail="busy", status=429, code="busy", retry_after_s=7.0))
    assert 7.0 <= state.lost(busy) <= 7.0 + FIRST_WAIT_S


@pytest.mark.parametrize(
    "error", [ServerUnreachable("u"), NotThunderline("u", reason="r"), ClientError("other")], ids=lambda e: e.code
)
def test_only_what_may_pass_is_waited_for(error: ClientError) -> None:
    state = following()
    with pytest.raises(type(error)):
        state.lost(error)
    state.connected()
    if isinstance(error, ServerUnreachable):
        assert state.lost(error) >= 0
    else:
        with pytest.raises(type(error)):
            state.lost(error)


@given(st.data())
def test_a_stream_reads_the_same_in_any_pieces(data: st.DataObject) -> None:
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    lines = "|id: a:1||event: e|id: a:2|data: x\u2028y|data:z||data|unknown: 1||id: \0||retry: 5||data: {}|"
    text = ": a comment" + lines.replace("|", end)
    body = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)))))
    reader, found = MessageReader(), []
    for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True):
        found += reader.feed(body[start:stop])
    assert found == [
        Message("a:1", "", None),
        Message("a:2", "e", "x\u2028y\nz".encode()),
        Message(None, "", b""),
    ]


def test_what_is_asked_for_stands_in_the_query() -> None:
    assert following(transient=None).query == {"match": ">"}
    assert following(transient=False, damped=True).query == {"match": ">", "transient": "false", "damped": "true"}
