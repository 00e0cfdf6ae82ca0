"""`GET /api/events` as a stream: everything once, in order, cursors that move, and an end that says where to go on."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack

import pytest

from tests.engines import Opening
from tests.gate.streams import OpenStream, open_stream
from thunderline.block.memory import MemoryStore
from thunderline.core.envelope import encode_event
from thunderline.core.errors import CursorGone
from thunderline.core.ids import Revision
from thunderline.core.records import Event
from thunderline.core.settings import Settings
from thunderline.flow.bus import LocalBus
from thunderline.flow.taxonomy import NODE_HEARTBEAT
from thunderline.gate.app import build_app, build_litestar
from thunderline.gate.encoded import CHUNK_BYTES, EncodedEvents
from thunderline.gate.openapi import build_document
from thunderline.gate.sse import END_TIMEOUT_S, KEEP_ALIVE_S, SEND_TIMEOUT_S
from thunderline.link.event_log import EventLog
from thunderline.link.roster import Roster
from thunderline.link.watch import Watch
from thunderline.testing.harness import Cluster
from thunderline.testing.records import make_event, make_node


async def settled() -> None:
    """Let everything that is ready run."""
    for _ in range(50):
        await asyncio.sleep(0)


def listens(cluster: Cluster, name: str = "cluster.node.online") -> bool:
    return cluster.registry._engine.bus.wants(name)


async def revisions(stream: OpenStream, count: int) -> list[int]:
    return [(await stream.event())["revision"] for _ in range(count)]


async def test_a_stream_gives_the_log_and_then_what_happens(cluster: Cluster) -> None:
    await cluster.node("old")
    async with open_stream(cluster) as stream:
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        assert await revisions(stream, 2) == [1, 2]
        await cluster.node("new")
        assert await revisions(stream, 2) == [3, 4]


async def test_a_message_carries_cursor_name_and_the_object_of_a_page(cluster: Cluster) -> None:
    await cluster.registry.ensure_node({"name": "a", "meta": {"text": "one\u2028two\nthree"}})
    (listed,) = (await cluster.http.get("/api/events")).json()["events"]
    async with open_stream(cluster, since="0") as stream:
        event = await stream.event()
    assert event.pop("stream") == (cluster.registry.cursor, "cluster.node.registered")
    assert event == listed


async def test_a_stream_begins_with_its_cursor(cluster: Cluster) -> None:
    await cluster.node("a")
    async with open_stream(cluster, since=cluster.registry.cursor) as stream:
        message = await stream.message()
    assert (message.id, message.data) == (cluster.registry.cursor, None)


async def test_the_last_event_id_wins_over_since(cluster: Cluster) -> None:
    for name in ("a", "b"):
        await cluster.node(name)
    cursor = cluster.registry.log.cursor_at(3)
    async with open_stream(cluster, last_event_id=cursor, since="0") as stream:
        assert await revisions(stream, 1) == [4]


async def test_a_pattern_filters_the_log_and_what_happens(cluster: Cluster) -> None:
    await cluster.node("a")
    async with open_stream(cluster, match="cluster.node.online") as stream:
        await cluster.node("b")
        assert await revisions(stream, 2) == [2, 4]


async def test_a_heartbeat_has_no_id(cluster: Cluster) -> None:
    node = await cluster.node("a")
    async with open_stream(cluster, match=NODE_HEARTBEAT, since=cluster.registry.cursor) as stream:
        await settled()
        await node.beat(cpu_load=7)
        event = await stream.event()
    assert event["stream"] == (None, NODE_HEARTBEAT)
    assert event["data"]["cpu_load"] == 7


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ({}, False),
        ({"match": "cluster.node.>"}, False),
        ({"match": "cluster.node.*"}, False),
        ({"match": "cluster.*.heartbeat"}, True),
        ({"transient": "true"}, True),
        ({"match": NODE_HEARTBEAT, "transient": "false"}, False),
    ],
)
async def test_heartbeats_are_made_for_who_asks_for_them(cluster: Cluster, query: dict[str, str], asked: bool) -> None:
    async with open_stream(cluster, **query):
        await settled()
        assert listens(cluster, NODE_HEARTBEAT) is asked


async def test_heartbeats_of_a_node_are_told_four_times_a_second_at_most(cluster: Cluster) -> None:
    node = await cluster.node("a")
    async with open_stream(cluster, match=NODE_HEARTBEAT, since=cluster.registry.cursor) as stream:
        await settled()
        for load in range(10):
            await node.beat(cpu_load=load)
        assert (await stream.event())["data"]["cpu_load"] == 0
        await settled()
        assert stream.waiting == 0
        await cluster.turn(0.25)
        assert (await stream.event())["data"]["cpu_load"] == 9


async def test_without_transient_events_heartbeats_are_not_even_made(cluster: Cluster) -> None:
    node = await cluster.node("a")
    async with open_stream(cluster, since=cluster.registry.cursor, transient="false") as stream:
        await settled()
        assert listens(cluster)
        assert not listens(cluster, NODE_HEARTBEAT)
        await node.beat()
        await cluster.node("b")
        assert (await stream.event())["subject"] == "b"


async def test_silence_is_broken_and_moves_the_cursor_past_what_does_not_match(cluster: Cluster) -> None:
    async with open_stream(cluster, match="cluster.link.*") as stream:
        first = await stream.message()
        await settled()
        await cluster.node("a")
        await cluster.turn(KEEP_ALIVE_S)
        second = await stream.message()
        await cluster.turn(KEEP_ALIVE_S)
        third = await stream.message()
    assert first.id == cluster.registry.log.cursor_at(0)
    assert (second.id, second.data) == (cluster.registry.log.cursor_at(2), None)
    assert third.id == second.id
    assert stream.body.count(b": thunderline\n") == 3


async def test_a_cursor_never_runs_ahead_of_an_event_that_is_still_to_come(cluster: Cluster) -> None:
    async with open_stream(cluster) as stream:
        await stream.message()
        await settled()
        stream.reading.clear()
        for i in range(5):
            await cluster.registry.ensure_node({"name": f"n{i}"})
            await cluster.turn(KEEP_ALIVE_S / 3)  # all together less than a stream's patience
        stream.reading.set()
        given = 0
        while given < 5:
            message = await stream.message()
            at = int((message.id or "").rpartition(":")[2])
            if message.data is None:
                assert at == given
            else:
                given += 1
                assert at == given


@pytest.mark.parametrize("reading", [True, False])
async def test_a_client_that_goes_away_leaves_no_subscription(cluster: Cluster, reading: bool) -> None:
    async with open_stream(cluster) as stream:
        await settled()
        assert listens(cluster)
        if not reading:
            stream.reading.clear()
            await cluster.node("a")
            await settled()
    assert not listens(cluster)


async def test_a_stream_that_is_cancelled_leaves_no_subscription(cluster: Cluster) -> None:
    async with open_stream(cluster) as stream:
        await settled()
        assert listens(cluster)
        assert stream.serving is not None
        stream.serving.cancel()
        await asyncio.wait([stream.serving])
        assert stream.serving.cancelled()
        assert not listens(cluster)


async def test_a_server_that_tells_a_dead_client_by_its_send_is_understood(cluster: Cluster) -> None:
    async with open_stream(cluster) as stream:
        await settled()
        stream.gone.set()
        await cluster.registry.ensure_node({"name": "a"})
    assert not listens(cluster)


async def test_a_watcher_behind_its_backlog_is_told_where_to_go_on(open_cluster: Opening) -> None:
    async with open_cluster(settings=Settings(watch_backlog_max=8)) as cluster:
        heard: list[int] = []
        async with open_stream(cluster) as stream:
            await settled()
            stream.reading.clear()
            for i in range(30):
                await cluster.registry.ensure_node({"name": f"n{i}"})
            stream.reading.set()
            while True:
                event = await stream.event()
                if event["stream"][1] == "thunderline.cut":
                    break
                heard.append(event["revision"])
            await settled()
            assert stream.ended
        assert (event["code"], event["retryable"]) == ("watch_cut", True)
        assert event["resume_from"] == cluster.registry.log.cursor_at(heard[-1])
        assert event["stream"][0] is None
        async with open_stream(cluster, last_event_id=event["resume_from"]) as stream:
            heard += await revisions(stream, 30 - len(heard))
        assert heard == list(range(1, 31))


async def test_a_client_that_takes_nothing_for_too_long_is_given_up(cluster: Cluster) -> None:
    async with open_stream(cluster) as stream:
        await settled()
        await cluster.turn(KEEP_ALIVE_S - 1)
        stream.reading.clear()
        await cluster.registry.ensure_node({"name": "a"})
        await settled()
        assert stream.serving is not None
        await cluster.turn(SEND_TIMEOUT_S - 0.1)
        assert not stream.serving.done()
        await cluster.turn(0.1)
        await settled()
        assert stream.serving.done()
        assert stream.serving.exception() is None
        assert not listens(cluster)


async def test_events_that_wait_are_sent_together(cluster: Cluster) -> None:
    for i in range(100):
        await cluster.registry.ensure_node({"name": f"n{i}"})
    async with open_stream(cluster) as stream:
        assert await revisions(stream, 100) == list(range(1, 101))
        assert stream.parts <= 2 + -(-len(stream.body) // CHUNK_BYTES)


async def test_an_event_is_encoded_once_however_many_watch(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    monkeypatch.setattr(
        "thunderline.gate.encoded.encode_event", lambda event: made.append(event.name) or encode_event(event)
    )
    app = build_app(cluster.registry)
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(open_stream(cluster, app=app)) for _ in range(20)]
        streams += [await stack.enter_async_context(open_stream(cluster, app=app, match="cluster.node.*"))]
        await settled()
        for i in range(5):
            await cluster.registry.ensure_node({"name": f"n{i}"})
        for stream in streams:
            assert await revisions(stream, 5) == [1, 2, 3, 4, 5]
    assert len(made) == 5


def test_what_is_kept_encoded_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thunderline.gate.encoded.KEPT_MAX_BYTES", 10_000)
    encoded = EncodedEvents(EventLog(MemoryStore(), Roster(), LocalBus(), LocalBus(), backlog_max=16))
    events = [make_event(revision, make_node(1)) for revision in range(1, 100)]
    for event in events:
        assert encoded.chunk([event], heard_by=">", form=encoded.message)[0] == encoded.message(event)
    for kept in (encoded._envelopes, encoded._chunks):
        assert sum(map(len, kept._kept.values())) == kept._size_bytes <= 10_000
        assert kept._kept


def test_an_event_that_is_larger_than_a_chunk_is_one_of_its_own() -> None:
    encoded = EncodedEvents(EventLog(MemoryStore(), Roster(), LocalBus(), LocalBus(), backlog_max=16))
    events = [make_event(i, make_node(i, meta={"x": "x" * CHUNK_BYTES})) for i in (1, 2)]
    chunk, count = encoded.chunk(events, heard_by=">", form=encoded.message)
    assert (count, len(chunk) > CHUNK_BYTES) == (1, True)


async def test_a_client_that_is_slow_but_reads_is_not_given_up(cluster: Cluster) -> None:
    async with open_stream(cluster) as stream:
        await settled()
        for i in range(10):
            stream.reading.clear()
            await cluster.registry.ensure_node({"name": f"n{i}"})
            await cluster.turn(SEND_TIMEOUT_S - 1)
            stream.reading.set()
            await settled()
        assert await revisions(stream, 10) == list(range(1, 11))


async def test_the_end_of_watches_ends_a_stream_whose_client_reads_nothing(cluster: Cluster) -> None:
    async with open_stream(cluster) as stream:
        await settled()
        stream.reading.clear()
        await cluster.registry.ensure_node({"name": "a"})
        await settled()
        cluster.registry.log.end_watches()
        await settled()
        assert stream.serving is not None
        assert not stream.serving.done()
        assert END_TIMEOUT_S < 2
        await cluster.turn(END_TIMEOUT_S)
        await settled()
        assert stream.serving.done()
        assert stream.serving.exception() is None


async def test_the_end_of_watches_ends_streams_and_lets_none_begin(cluster: Cluster) -> None:
    async with open_stream(cluster) as stream:
        await settled()
        await cluster.registry.ensure_node({"name": "a"})
        cluster.registry.log.end_watches()
        assert await revisions(stream, 1) == [1]
        assert (await stream.event())["code"] == "shutting_down"
        await settled()
        assert stream.ended
    async with open_stream(cluster, since=cluster.registry.cursor) as stream:
        cut = await stream.event()
    assert (cut["code"], cut["resume_from"]) == ("shutting_down", cluster.registry.cursor)


@pytest.mark.parametrize(
    ("cursor", "why"),
    [("0190f5fe-7a1b-7c3d-8e4f-123456789abc:1", "another event log"), ("99", "ahead"), ("1", "begins after")],
)
@pytest.mark.parametrize("field", ["since", "Last-Event-ID"])
async def test_a_cursor_that_cannot_be_continued_is_told_to_list_again_and_nothing_else(
    cluster: Cluster, cursor: str, why: str, field: str
) -> None:
    for name in "abcd":
        await cluster.node(name)
    cluster.registry.log.oldest = Revision(3)
    given = {"since": cursor} if field == "since" else {"last_event_id": cursor}
    async with open_stream(cluster, **given) as stream:
        assert (stream.status, stream.headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
        reset = await stream.event()
        await settled()
        assert stream.ended
    # Without an id: a browser that goes on all the same does so from where it was, and is told again.
    assert reset["stream"] == (None, "thunderline.reset")
    assert (reset["code"], reset["field"], reset["status"]) == ("cursor_gone", field, 410)
    assert why in reset["detail"]
    assert stream.body.startswith(b"retry: 15000\n")
    page = await cluster.http.get("/api/events", params={"since": cursor})
    assert page.status_code == 410


async def test_a_watcher_that_the_horizon_overtakes_is_told_to_list_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def take(watch: Watch) -> list[Event]:
        raise CursorGone("7", why="the log begins after 9 by now")

    monkeypatch.setattr(Watch, "take", take)
    async with open_stream(cluster) as stream:
        assert (await stream.event())["stream"] == (None, "thunderline.reset")
        await settled()
        assert stream.ended


@pytest.mark.parametrize("field", ["since", "Last-Event-ID"])
async def test_what_is_no_cursor_is_refused_before_any_stream(cluster: Cluster, field: str) -> None:
    given = {"since": "yesterday"} if field == "since" else {"last_event_id": "yesterday"}
    async with open_stream(cluster, **given) as stream:
        assert stream.status == 422
        assert stream.headers["content-type"] == "application/problem+json"
        await settled()
        body = json.loads(stream.body)
    assert body["field"] == field
    assert body["detail"].startswith(f"{field}: ")


@pytest.mark.parametrize("name", ["before", "limit"])
async def test_what_is_of_a_page_is_refused_for_a_stream(cluster: Cluster, name: str) -> None:
    async with open_stream(cluster, **{name: "1"}) as stream:
        await settled()
        assert (stream.status, json.loads(stream.body)["field"]) == (422, name)


async def test_last_event_id_is_no_parameter_of_the_query(cluster: Cluster) -> None:
    answer = await cluster.http.get("/api/events?last_event_id=0")
    assert (answer.status_code, answer.json()["field"]) == (422, "last_event_id")


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "application/json",
        "application/json, application/problem+json",
        "text/html,application/xhtml+xml,*/*;q=0.8",
        "application/json, text/event-stream;q=0.5",
        "text/plain",
    ],
)
async def test_a_page_is_what_a_client_gets_that_does_not_prefer_a_stream(cluster: Cluster, accept: str) -> None:
    answer = await cluster.http.get("/api/events", headers={"accept": accept})
    assert answer.json()["events"] == []


@pytest.mark.parametrize("accept", ["text/event-stream", "text/event-stream, */*;q=0.1", "text/*"])
async def test_a_client_that_prefers_a_stream_gets_one(cluster: Cluster, accept: str) -> None:
    async with open_stream(cluster, accept=accept) as stream:
        assert stream.headers["content-type"] == "text/event-stream"


async def test_the_document_tells_of_the_stream_and_its_header(cluster: Cluster) -> None:
    operation = build_document(build_litestar())["paths"]["/api/events"]["get"]
    assert set(operation["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    (header,) = (parameter for parameter in operation["parameters"] if parameter["in"] == "header")
    assert header["name"].lower() == "last-event-id"


async def test_head_of_a_stream_is_its_head_and_ends_at_once(cluster: Cluster) -> None:
    answer = await cluster.http.head("/api/events", headers={"accept": "text/event-stream"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
    assert answer.content == b""
    await settled()
    assert not listens(cluster)
