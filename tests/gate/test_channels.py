"""Channels without a socket: what a join gives, what is told after it, and every way in which it ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from tests.engines import Opening
from tests.gate.channel_clients import GRAPH, Client
from thunderline.core.alerts import Alert, Severity
from thunderline.core.inputs import AcknowledgeInput
from thunderline.core.settings import Settings
from thunderline.flow.taxonomy import NODE_ONLINE
from thunderline.gate.channels import CHANNELS_MAX, INBOX_MAX, LOOK_S, SILENCE_MAX_S, UNREAD_MAX_S
from thunderline.link.actor import EMBEDDING_PROGRAM
from thunderline.testing.harness import Cluster


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[Client]:
    opened = Client(cluster)
    yield opened
    opened.socket.lost()
    await opened.settle()


async def change(cluster: Cluster, *, times: int, name: str = "worker-1") -> None:
    for i in range(times):
        await cluster.registry.update_node(name, {"labels": {"i": f"{cluster.registry.roster.revision}-{i}"}})


def is_heard(cluster: Cluster) -> bool:
    """Whether anybody listens to the bus of the streams and channels."""
    return cluster.registry.log._paced.wants(NODE_ONLINE)


class TestJoiningTheGraph:
    async def test_the_answer_is_the_graph_and_where_it_stands(self, cluster: Cluster, client: Client) -> None:
        await cluster.node("worker-1")
        joined = await client.join()
        assert joined == {"cursor": cluster.registry.cursor, "snapshot": json.loads(cluster.registry.graph_json())}
        assert [node["name"] for node in joined["snapshot"]["nodes"]] == ["worker-1"]

    async def test_what_happens_then_is_told_in_the_words_of_the_channel(
        self, cluster: Cluster, client: Client
    ) -> None:
        await client.join()
        worker = await cluster.node("worker-1")
        await cluster.node("worker-2")
        await cluster.registry.establish_link_session("worker-1", "worker-2", {"session_id": "s"})
        await cluster.registry.update_link_session("s", {"latency_ms": 3})
        await cluster.registry.create_group({"name": "eu"})
        await cluster.registry.close_link_session("s")
        await worker.leave()
        await cluster.registry.deregister("worker-2", force=True)
        assert await client.take_events() == [
            ("node_changed", "worker-1"),
            ("node_up", "worker-1"),
            ("node_changed", "worker-2"),
            ("node_up", "worker-2"),
            ("link_up", "worker-1"),
            ("topology_update", "worker-1"),
            ("topology_update", "eu"),
            ("link_down", "worker-1"),
            ("node_down", "worker-1"),
            ("node_down", "worker-2"),
        ]

    async def test_an_event_is_the_one_that_the_log_has_and_names_its_cursor(
        self, cluster: Cluster, client: Client
    ) -> None:
        await client.join()
        await cluster.node("worker-1")
        told = await client.take()
        page = (await cluster.http.get("/api/events")).json()["events"]
        assert [message[4] for message in told] == [
            {**event, "cursor": cluster.registry.log.cursor_at(event["revision"])} for event in page
        ]
        assert {(message[0], message[1]) for message in told} == {("1", None)}

    async def test_alerts_are_told_to_who_joined_the_graph_and_not_to_who_joined_a_node(
        self, cluster: Cluster, client: Client
    ) -> None:
        await cluster.node("worker-1")
        other = Client(cluster)
        await client.join()
        await other.join(topic="thunderlink:node:worker-1")
        at = cluster.clock.now()
        alert = Alert(
            id="0" * 32,
            rule="node-offline",
            severity=Severity.CRITICAL,
            labels={"node": "worker-1"},
            summary="worker-1 is offline",
            starts_at=at,
            fired_at=at,
        )
        domain = cluster.registry.alerts
        await domain.keep([alert])
        await domain.acknowledge(alert.id, AcknowledgeInput(note="mine"), actor=EMBEDDING_PROGRAM)
        await domain.keep([msgspec.structs.replace(alert, resolved_at=at)])
        told = await client.take()
        assert [message[3] for message in told] == ["alert_fired", "alert_acknowledged", "alert_resolved"]
        assert {message[4]["data"]["id"] for message in told} == {alert.id}
        assert told[1][4]["data"]["acknowledged"]["note"] == "mine"
        assert not [message for message in await other.take() if message[3].startswith("alert")]
        other.socket.lost()

    async def test_offline_nodes_show_when_asked_for(self, cluster: Cluster, client: Client) -> None:
        await (await cluster.node("worker-1")).leave()
        assert (await client.join())["snapshot"]["nodes"] == []
        shown = (await client.join(include_offline=True))["snapshot"]["nodes"]
        assert [node["name"] for node in shown] == ["worker-1"]

    async def test_heartbeats_are_told_to_those_who_ask_four_a_second_at_most(
        self, cluster: Cluster, client: Client
    ) -> None:
        other = Client(cluster)
        await other.join()
        worker = await cluster.node("worker-1")
        await client.join(heartbeats=True)
        await other.take()
        for load in range(8):
            await worker.beat(cpu_load=load)
        await client.settle()
        first = await client.take()
        await cluster.turn(0.25)
        second = await client.take()
        told = [(message[3], message[4]["data"]["cpu_load"]) for message in first + second]
        assert told == [("node_heartbeat", 0), ("node_heartbeat", 7)]
        assert all("cursor" not in message[4] for message in first + second)
        assert await other.take() == []
        other.socket.lost()

    async def test_who_joins_damped_is_spared_the_changes_of_a_node_that_flaps(
        self, cluster: Cluster, client: Client
    ) -> None:
        worker = await cluster.node("worker-1")
        await client.join(damped=True)
        for _ in range(10):
            await worker.leave()
            await worker.announce()
            await cluster.turn(0.5)
        told = [event for event, _ in await client.take_events()]
        assert told.count("node_down") < 5
        assert told[-1] == "node_changed"
        assert cluster.registry.get_node("worker-1").flapping

    async def test_a_cursor_in_place_of_a_snapshot(self, cluster: Cluster, client: Client) -> None:
        await cluster.node("worker-1")
        cursor = cluster.registry.cursor
        await change(cluster, times=700)  # more than one read of the log
        joined = await client.join(since=cursor)
        assert joined == {"cursor": cursor}
        await change(cluster, times=3)
        told = [message[4]["revision"] for message in await client.take()]
        first = int(cursor.rpartition(":")[2]) + 1
        assert told == list(range(first, first + 703))

    @pytest.mark.parametrize("since", ["0", 0])
    async def test_from_the_oldest(self, cluster: Cluster, client: Client, since: Any) -> None:
        await cluster.node("worker-1")
        await client.join(since=since)
        assert await client.take_events() == [("node_changed", "worker-1"), ("node_up", "worker-1")]

    async def test_null_is_no_cursor(self, client: Client) -> None:
        assert "snapshot" in await client.join(since=None)


class TestJoiningANode:
    @pytest.mark.parametrize("by", ["id", "name"])
    async def test_it_shows_the_node_and_tells_of_it_and_its_sessions_alone(
        self, cluster: Cluster, client: Client, by: str
    ) -> None:
        worker = await cluster.node("worker-1")
        for name in ("worker-2", "worker-3"):
            await cluster.node(name)
        await cluster.registry.establish_link_session("worker-2", "worker-1", {"session_id": "to"})
        topic = f"thunderlink:node:{getattr(cluster.registry.get_node('worker-1'), by)}"
        joined = await client.join(topic, heartbeats=True)
        assert joined["cursor"] == cluster.registry.cursor
        shown = (await cluster.http.get("/api/nodes/worker-1?load=sessions")).json()
        assert joined["snapshot"] == shown
        await cluster.registry.establish_link_session("worker-2", "worker-3", {"session_id": "other"})
        await change(cluster, times=1, name="worker-2")
        await cluster.registry.update_link_session("to", {"latency_ms": 3})
        await worker.beat()
        await cluster.registry.create_group({"name": "eu"})
        await worker.leave()
        assert [name for name, _ in await client.take_events(topic)] == [
            "topology_update",
            "node_heartbeat",
            "node_down",
            "link_down",
        ]

    async def test_it_closes_once_the_node_is_removed(self, cluster: Cluster, client: Client) -> None:
        await cluster.node("worker-1")
        await client.join("thunderlink:node:worker-1")
        await cluster.registry.deregister("worker-1", force=True)
        await cluster.node("worker-1")
        told = await client.take()
        assert [message[3] for message in told] == ["node_down", "phx_close"]
        assert told[0][4]["data"]["deleted"] is True
        assert told[1][:2] == ["1", "1"]

    async def test_its_cursor_moves_on_past_what_concerns_others(self, cluster: Cluster, client: Client) -> None:
        for name in ("worker-1", "worker-2"):
            await cluster.registry.ensure_node({"name": name})
        topic = "thunderlink:node:worker-1"
        await client.join(topic)
        await change(cluster, times=5, name="worker-2")
        await cluster.turn(LOOK_S)
        told = await client.take()
        assert told == [["1", None, topic, "cursor", {"cursor": cluster.registry.cursor}]]
        await cluster.turn(LOOK_S)
        assert await client.take() == []
        resumed = Client(cluster)
        assert await resumed.join(topic, since=told[0][4]["cursor"]) == told[0][4]
        assert await resumed.take() == []
        resumed.socket.lost()


class TestRefusals:
    @pytest.mark.parametrize(
        ("topic", "parameters", "reason", "field"),
        [
            ("thunderlink:graphs", {}, "unmatched topic", None),
            ("room:lobby", {}, "unmatched topic", None),
            ("thunderlink:node:", {}, "unknown_node", None),
            ("thunderlink:node:nobody", {}, "unknown_node", None),
            (GRAPH, {"sinc": "0"}, "invalid_input", "sinc"),
            (GRAPH, {"since": "yesterday"}, "invalid_input", "since"),
            (GRAPH, {"since": 7}, "invalid_input", "since"),
            (GRAPH, {"since": "another-log:7"}, "cursor_gone", "since"),
            (GRAPH, {"since": "999999"}, "cursor_gone", "since"),
            (GRAPH, {"heartbeats": "yes"}, "invalid_input", "heartbeats"),
        ],
    )
    async def test_a_join_that_cannot_be_granted_says_why(
        self, client: Client, topic: str, parameters: dict[str, Any], reason: str, field: str | None
    ) -> None:
        refusal = await client.refused(topic, **parameters)
        assert (refusal["reason"], refusal.get("field"), refusal["retryable"]) == (reason, field, False)
        assert refusal["detail"]
        assert (await client.ask(topic, "phx_leave"))["status"] == "ok"

    @pytest.mark.parametrize("payload", [[], "x", 7])
    async def test_a_join_takes_an_object(self, client: Client, payload: Any) -> None:
        assert (await client.ask(GRAPH, "phx_join", payload))["response"]["reason"] == "invalid_input"

    async def test_pushes_that_no_topic_takes(self, client: Client) -> None:
        unjoined = await client.ask(GRAPH, "shout", {"x": 1})
        assert (unjoined["status"], unjoined["response"]["reason"]) == ("error", "unmatched topic")
        await client.join()
        joined = await client.ask(GRAPH, "shout", {"x": 1}, join_ref=client.join_ref)
        assert (joined["status"], joined["response"]["reason"]) == ("error", "invalid_input")
        assert (await client.ask("phoenix", "shout"))["status"] == "error"

    async def test_so_many_channels_and_no_more(self, cluster: Cluster, client: Client) -> None:
        for i in range(CHANNELS_MAX):
            await cluster.registry.ensure_node({"name": f"n{i}"})
            await client.join(f"thunderlink:node:n{i}")
        assert (await client.refused(GRAPH))["field"] == "topic"
        await client.join("thunderlink:node:n0")  # in the place of the one that is there
        await client.take()
        await client.ask("thunderlink:node:n1", "phx_leave")
        await client.join()

    @pytest.mark.parametrize("data", [b"", b"{}", b'["1"]', b"\xff\xfe"])
    async def test_what_is_not_the_protocol_ends_the_connection(self, client: Client, data: bytes) -> None:
        client.socket.received(data, text=True)
        assert client.closed is not None
        assert client.closed[0] == 1007
        client.say(None, "1", "phoenix", "heartbeat", {})
        await client.settle()
        assert await client.take() == []

    async def test_a_client_that_says_too_much(self, client: Client) -> None:
        while client.closed is None:
            client.say(None, "1", "phoenix", "heartbeat", {})
            await client.settle()
        assert client.closed[0] == 4429
        assert len(client.told) == 500


class TestTheOrderOfThings:
    async def test_heartbeats_of_the_connection_are_answered(self, client: Client) -> None:
        client.say(None, "7", "phoenix", "heartbeat", {})
        await client.settle()
        assert await client.take() == [[None, "7", "phoenix", "phx_reply", {"status": "ok", "response": {}}]]

    async def test_leaving_is_answered_and_then_closed(self, cluster: Cluster, client: Client) -> None:
        await client.join()
        client.say("1", "8", GRAPH, "phx_leave", {})
        await client.settle()
        assert await client.take() == [
            ["1", "8", GRAPH, "phx_reply", {"status": "ok", "response": {}}],
            ["1", "1", GRAPH, "phx_close", {}],
        ]
        await cluster.node("worker-1")
        assert await client.take() == []

    async def test_a_second_join_takes_over_from_the_first(self, cluster: Cluster, client: Client) -> None:
        await client.join()
        client.say("7", "7", GRAPH, "phx_join", {})
        await client.settle()
        told = await client.take()
        assert [(message[0], message[1], message[3]) for message in told] == [
            ("1", "1", "phx_close"),
            ("7", "7", "phx_reply"),
        ]
        await cluster.node("worker-1")
        assert {message[0] for message in await client.take()} == {"7"}

    async def test_leaving_an_earlier_join_does_not_end_the_one_after_it(
        self, cluster: Cluster, client: Client
    ) -> None:
        await client.join()
        await client.join()
        await client.take()
        assert (await client.ask(GRAPH, "phx_leave", join_ref="1"))["status"] == "ok"
        await cluster.node("worker-1")
        assert {message[3] for message in await client.take()} == {"node_changed", "node_up"}

    async def test_two_channels_of_one_connection_each_hear_their_own(self, cluster: Cluster, client: Client) -> None:
        await cluster.node("worker-1")
        await client.join()
        await client.join("thunderlink:node:worker-1")
        await change(cluster, times=1)
        assert sorted((message[0], message[2]) for message in await client.take()) == [
            ("1", GRAPH),
            ("2", "thunderlink:node:worker-1"),
        ]

    async def test_what_comes_faster_than_it_is_answered_waits_outside(self, client: Client) -> None:
        for i in range(INBOX_MAX):
            assert not client.held
            client.say(None, str(i), "phoenix", "heartbeat", {})
        assert client.held
        await client.settle()
        assert not client.held
        assert [message[1] for message in await client.take()] == [str(i) for i in range(INBOX_MAX)]


class TestEndings:
    async def test_a_client_that_says_nothing_is_cut_off(self, cluster: Cluster, client: Client) -> None:
        await client.join()
        await cluster.turn(SILENCE_MAX_S - LOOK_S)
        client.say(None, "2", "phoenix", "heartbeat", {})
        for _ in range(int(SILENCE_MAX_S / LOOK_S) - 1):
            await cluster.turn(LOOK_S)
        assert client.closed is None
        await cluster.turn(2 * LOOK_S)
        assert client.closed == (1013, "no_heartbeat: nothing came for 60 s")

    async def test_a_client_that_reads_nothing_is_cut_off(self, cluster: Cluster, client: Client) -> None:
        await client.join()
        client.unread_since = cluster.clock.monotonic()
        await cluster.turn(UNREAD_MAX_S)
        assert client.closed == (1013, "watch_stalled: nothing was read for 30 s; join with since")

    async def test_a_watcher_that_fell_behind_is_told_so_and_where_to_go_on(self, open_cluster: Opening) -> None:
        async with open_cluster(settings=Settings(watch_backlog_max=10)) as cluster:
            client = Client(cluster)
            await cluster.registry.ensure_node({"name": "worker-1"})
            await client.join()
            before = cluster.registry.roster.revision
            # In one commit, and so at once.
            items = [{"name": f"n{i}"} for i in range(20)]
            await cluster.http.post("/api/nodes/batch", json={"nodes": items})
            await client.settle()
            told = await client.take()
            assert [message[4].get("revision") for message in told[:-1]] == list(range(before + 1, before + 11))
            assert told[-1][:4] == ["1", "1", GRAPH, "phx_error"]
            assert told[-1][4]["reason"] == "watch_cut"
            resume_from = told[-1][4]["resume_from"]
            assert resume_from == told[-2][4]["cursor"]
            await client.join(since=resume_from)
            assert [message[4]["revision"] for message in await client.take()] == list(range(before + 11, before + 21))
            client.socket.lost()

    async def test_a_server_that_stops_says_so(self, cluster: Cluster, client: Client) -> None:
        await client.join()
        cluster.registry.log.end_watches()
        await client.settle()
        assert client.closed == (1012, client.closed[1] if client.closed else "")

    async def test_nothing_is_left_of_a_connection_that_is_gone(self, cluster: Cluster) -> None:
        client = Client(cluster)
        await client.join()
        assert is_heard(cluster)
        client.socket.lost()
        await client.settle()
        assert not is_heard(cluster)
