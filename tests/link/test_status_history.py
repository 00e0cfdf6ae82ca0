"""A node's status over time: spans with their reasons and causes, and uptime."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from tests.engines import ENGINES, Stores
from tests.link.turning import turn_on
from thunderline.block.memory import MemoryStore
from thunderline.core.errors import CursorGone, InvalidInput, UnknownNode
from thunderline.core.records import NodeStatus
from thunderline.core.settings import Settings
from thunderline.link.registry import Registry
from thunderline.link.status_history import SPANS_MAX, StatusHistory
from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import FaultyStore


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, stores: Stores, clock: ManualClock) -> FaultyStore:
    """Each engine."""
    return FaultyStore(stores.new(request.param, clock=clock))


def told(history: StatusHistory) -> list[tuple[str, str]]:
    return [(span.status, span.reason) for span in history.spans]


async def test_spans_say_what_why_and_by_whom(store: FaultyStore, clock: ManualClock) -> None:
    async with Registry.open(store, clock=clock) as registry:
        start = clock.now()
        await registry.ensure_node({"name": "a"})
        await turn_on(store, clock, 10)
        await registry.heartbeat("a")
        await turn_on(store, clock, 5)
        await registry.update_node("a", {"labels": {"no": "status"}})
        await turn_on(store, clock, 5)
        await registry.heartbeat("a", "degraded", {})
        await turn_on(store, clock, 10)
        await registry.mark_offline("a", "maintenance")
        await turn_on(store, clock, 20)
        history = await registry.status_history("a")
        assert told(history)[:4] == [
            ("connecting", "registered"),
            ("online", "heartbeat"),
            ("degraded", "reported"),
            ("offline", "maintenance"),
        ]
        ends = [span.until for span in history.spans]
        assert ends[:-1] == [span.since for span in history.spans[1:]]
        assert ends[-1] is None
        assert history.spans[0].since == start
        online, offline = history.spans[1], history.spans[3]
        assert (online.since, online.until) == (start + timedelta(seconds=10), start + timedelta(seconds=20))
        assert (online.event, online.override) == ("cluster.node.online", None)
        assert (offline.event, offline.override) == ("cluster.node.offline", "offline")
        page = await registry.log.page(
            since=registry.log.revision_of("0"), pattern=registry.subscribe().pattern, limit=99
        )
        cause = next(event for event in page.events if event.name == "cluster.node.offline")
        assert (offline.event_id, offline.correlation_id, offline.actor) == (
            cause.id,
            cause.correlation_id,
            cause.actor,
        )
        assert offline.cursor == registry.log.cursor_at(cause.revision)
        seconds = history.uptime.seconds
        assert (seconds[NodeStatus.CONNECTING], seconds[NodeStatus.ONLINE], seconds[NodeStatus.DEGRADED]) == (
            10,
            10,
            10,
        )
        assert seconds[NodeStatus.OFFLINE] == 20
        assert history.uptime.ratio == pytest.approx(20 / 50)
        assert history.uptime.unregistered_s == pytest.approx(86_400 - 50)


async def test_the_first_span_is_told_from_where_it_began(store: FaultyStore, clock: ManualClock) -> None:
    async with Registry.open(store, clock=clock) as registry:
        await registry.ensure_node({"name": "a"})
        await turn_on(store, clock, 10)
        await registry.heartbeat("a")
        began = clock.now()
        for turn in range(5):
            await turn_on(store, clock, 10)
            await registry.heartbeat("a")
            await registry.update_node("a", {"labels": {"turn": str(turn)}})
        history = await registry.status_history("a", clock.now() - timedelta(seconds=5), registry.cursor)
        (span,) = history.spans
        assert (span.status, span.since, span.until, span.event) == ("online", began, None, "cluster.node.online")
        assert history.uptime.seconds[NodeStatus.ONLINE] == 5
        assert (history.uptime.ratio, history.uptime.unregistered_s) == (1.0, 0)


async def test_a_window_that_ended_ends_its_spans_later(store: FaultyStore, clock: ManualClock) -> None:
    async with Registry.open(store, clock=clock) as registry:
        await registry.ensure_node({"name": "a"})
        await registry.heartbeat("a")
        start = clock.now()
        await turn_on(store, clock, 10)
        until = clock.now()
        await turn_on(store, clock, 10)
        await registry.mark_offline("a")
        history = await registry.status_history("a", start, until)
        assert told(history)[-1][0] == "online"
        assert history.spans[-1].until is None
        assert history.uptime.seconds[NodeStatus.ONLINE] == 10


async def test_a_node_that_is_gone_is_found_by_its_id(store: FaultyStore, clock: ManualClock) -> None:
    async with Registry.open(store, clock=clock) as registry:
        node = await registry.ensure_node({"name": "a"})
        await registry.heartbeat("a")
        await turn_on(store, clock, 10)
        await registry.deregister("a", force=True)
        await turn_on(store, clock, 30)
        again = await registry.ensure_node({"name": "a"})
        gone, here = await registry.status_history(node.id), await registry.status_history("a")
        assert (gone.node_id, gone.name, here.node_id) == (node.id, "a", again.id)
        assert gone.spans[-1].until == clock.now() - timedelta(seconds=30)
        assert gone.uptime.seconds[NodeStatus.ONLINE] == 10
        assert told(here) == [("connecting", "registered")]
        group = await registry.create_group({"name": "g"})
        for unknown in ("b", group.id, "01900000-0000-7000-8000-000000000000"):
            with pytest.raises(UnknownNode):
                await registry.status_history(unknown)


async def test_the_newest_spans_and_where_earlier_ones_are(store: FaultyStore, clock: ManualClock) -> None:
    async with Registry.open(store, Settings(offline_after_s=3600, deadline_intervals=100), clock=clock) as registry:
        await registry.ensure_node({"name": "a"})
        for turn in range(20):
            await turn_on(store, clock, 1)
            await registry.heartbeat("a", ("online", "degraded")[turn % 2], {})
        whole = await registry.status_history("a")
        assert whole.earlier is None
        newest = await registry.status_history("a", limit=5)
        assert newest.spans == whole.spans[-5:]
        assert newest.earlier == newest.spans[0].since
        assert newest.uptime == whole.uptime
        earlier = await registry.status_history("a", until=newest.earlier, limit=SPANS_MAX)
        assert [span.since for span in earlier.spans[:-1]] == [span.since for span in whole.spans[:-5]]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"since": "yesterday"}, "from"),
        ({"until": "2026-01-01T00:00:00"}, "to"),
        ({"since": "2030-01-02T00:00:00Z", "until": "2020-01-01T00:00:00Z"}, "from"),
        ({"limit": 0}, "limit"),
        ({"limit": SPANS_MAX + 1}, "limit"),
    ],
)
async def test_what_cannot_be_asked_is_refused_by_name(clock: ManualClock, asked: dict[str, str], field: str) -> None:
    async with Registry.open(MemoryStore(), clock=clock) as registry:
        await registry.ensure_node({"name": "a"})
        with pytest.raises(InvalidInput) as refused:
            await registry.status_history("a", **asked)  # type: ignore[arg-type]
        assert refused.value.field == field


async def test_what_the_log_no_longer_has(clock: ManualClock) -> None:
    settings = Settings(log_retention_s=60, log_events_min=0)
    async with Registry.open(MemoryStore(), settings, clock=clock) as registry:
        await registry.ensure_node({"name": "a"})
        await registry.heartbeat("a")
        start = clock.now()
        for turn in range(30):
            await clock.advance(10)
            await registry.heartbeat("a")
            await registry.update_node("a", {"labels": {"turn": str(turn)}})
        await registry._engine.retention.look_after()
        assert registry.log.oldest > 0
        with pytest.raises(CursorGone, match="from: the oldest moment"):
            await registry.status_history("a", start)
        history = await registry.status_history("a")
        (span,) = history.spans
        assert (span.status, span.since, span.event) == ("online", start, None)
        assert history.since > start
        assert history.uptime.ratio == 1.0


async def test_seconds_add_up_to_the_window(clock: ManualClock) -> None:
    rng = random.Random(3)
    async with Registry.open(MemoryStore(), clock=clock) as registry:
        for turn in range(60):
            await clock.advance(rng.choice((1, 7, 40)))
            await registry.ensure_node({"name": "a"})
            if turn % 9 == 8:
                await registry.deregister("a", force=True)
            else:
                await rng.choice((registry.mark_online, registry.mark_offline, registry.clear_override))("a")
        await registry.ensure_node({"name": "a"})
        history = await registry.status_history("a", clock.now() - timedelta(seconds=500))
        assert sum(history.uptime.seconds.values()) + history.uptime.unregistered_s == pytest.approx(500)
