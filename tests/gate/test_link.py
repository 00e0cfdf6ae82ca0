"""Links at the gate: handshake, beats, the ends of a link, and who may speak for a node."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from tests.engines import Opening
from tests.gate.links import Links
from thunderline.block.store import WriteBatch
from thunderline.core.clock import from_ms
from thunderline.core.records import BeatStatus, LinkSession, SessionStatus
from thunderline.core.settings import Settings
from thunderline.testing.faults import Fault
from thunderline.testing.harness import Cluster
from thunderline.wire.frames import UNACKED_MAX


@pytest.fixture
async def links(cluster: Cluster) -> Links:
    return Links(cluster)


def status(links: Links, name: str = "worker-1") -> tuple[str, str]:
    node = links.cluster.registry.get_node(name)
    return node.status.value, node.status_reason


def sessions(links: Links, name: str = "worker-1") -> list[LinkSession]:
    return list(links.cluster.registry.roster.find(name).sessions.values())


async def kept(links: Links, name: str = "worker-1") -> list[int | None]:
    return [beat.seq for beat in await links.cluster.registry.recent_heartbeats(name, 120)]


# Handshake


async def test_handshake_registers_announces_and_links_in_one_commit(links: Links) -> None:
    node = await links.open("gpu-1", role="edge", labels={"zone": "a"}, interval_ms=2_000)
    (batch,) = links.cluster.store.commits
    assert [event.name for event in batch.events] == [
        "cluster.node.registered",
        "cluster.node.online",
        "cluster.link.established",
    ]
    record = links.cluster.registry.get_node("gpu-1")
    assert (record.role, record.labels, record.heartbeat_interval_ms) == ("edge", {"zone": "a"}, 2_000)
    (session,) = sessions(links, "gpu-1")
    assert (session.session_id, session.connection_type) == (node.welcome["session_id"], "websocket")
    assert session.holder == links.cluster.registry.owner
    assert node.welcome["node_id"] == record.id
    assert (node.welcome["incarnation"], node.welcome["interval_ms"]) == (1, 2_000)
    assert node.welcome["cursor"] == links.cluster.registry.cursor


async def test_welcome_waits_for_the_commit(links: Links) -> None:
    node = links.connect()
    node.hello()
    assert node.heard == []
    await links.settle()
    assert node.welcome


async def test_hello_of_another_role_is_refused_for_good_and_changes_nothing(links: Links) -> None:
    (await links.open(role="edge")).cut()
    before = links.cluster.registry.roster.revision
    node = await links.open(role="relay")
    assert (node.error["code"], node.error["field"], node.error["retryable"]) == ("mismatch", "role", False)
    assert node.closed == (4409, "mismatch")
    assert links.cluster.registry.roster.revision == before


@pytest.mark.parametrize(
    ("hello", "field"),
    [
        ({"name": "no spaces"}, "name"),
        ({"name": "x", "instance": 7}, "instance"),
        ({"name": "x", "instance": "i", "interval_ms": 5}, "interval_ms"),
        ({"name": "x", "instance": "i", "meta": {"deep": [float("1e308")] * 5000}}, "meta"),
        ({"name": "x"}, "instance"),
    ],
)
async def test_hello_that_cannot_be_used_names_the_field_and_ends_the_link(
    links: Links, hello: dict[str, object], field: str
) -> None:
    node = links.connect()
    node.say("hello", **hello)
    assert (node.error["code"], node.error["field"]) == ("invalid_input", field)
    assert node.closed == (4422, "invalid_input")
    assert len(links.cluster.registry.roster) == 0


async def test_handshake_with_the_store_away_says_when_to_come_again(links: Links) -> None:
    links.cluster.store.away = True
    node = await links.open()
    assert (node.error["code"], node.error["retryable"]) == ("store_unavailable", True)
    assert node.error["retry_after_ms"] > 0
    assert node.closed == (1013, "store_unavailable")
    links.cluster.store.away = False
    await links.cluster.turn(5)


async def test_handshake_whose_outcome_is_unknown_may_be_made_again(links: Links) -> None:
    store = links.cluster.store
    store.faults, store.away = [Fault.LOST_AFTER], True
    node = links.connect()
    node.hello()
    await links.cluster.turn(15)
    assert (node.error["code"], node.error["retryable"]) == ("outcome_unknown", True)
    node.cut()
    store.away = False
    await links.cluster.turn(5)
    again = await links.open()
    assert again.welcome["incarnation"] == 1
    assert [session.session_id for session in sessions(links)] == [again.welcome["session_id"]]


async def test_starting_process_sets_its_interval_and_a_returning_one_leaves_it(links: Links) -> None:
    registry = links.cluster.registry
    first = await links.open(interval_ms=10_000)
    await registry.update_node("worker-1", {"heartbeat_interval_ms": 60_000})
    first.cut()
    again = await links.open(interval_ms=10_000)
    assert again.welcome["interval_ms"] == 60_000
    again.cut()
    restarted = await links.open(instance="b", interval_ms=5_000)
    assert restarted.welcome["interval_ms"] == 5_000


async def test_nobody_else_speaks_for_the_registry_itself(links: Links) -> None:
    registry = links.cluster.registry
    await links.cluster.http.post("/api/nodes", json={"name": registry.owner})
    node = await links.open(registry.owner)
    assert (node.error["code"], node.closed) == ("not_permitted", (4403, "not_permitted"))
    answer = await links.cluster.http.post(f"/api/nodes/{registry.owner}/online", json={"instance": "mine"})
    assert (answer.status_code, answer.json()["code"]) == (403, "not_permitted")
    assert registry.get_node(registry.owner).status == "connecting"


# Beats


async def test_ack_is_cumulative_and_comes_after_the_commit(links: Links) -> None:
    node = await links.open()
    for seq in (1, 2, 3):
        node.say("hb", seq=seq, cpu_load=12.5)
    assert node.acked is None
    await links.settle()
    assert [frame["seq"] for frame in node.of("ack")] == [3]
    assert await kept(links) == [1, 2, 3]


async def test_beats_refused_for_now_hold_the_ack_until_they_come_again(links: Links) -> None:
    node = await links.open()
    links.cluster.store.away = True
    node.say("hb", seq=1)
    node.say("hb", seq=2)
    await links.settle()
    assert [(error["seq"], error["retryable"]) for error in node.of("error")] == [(1, True), (2, True)]
    links.cluster.store.away = False
    await links.cluster.turn(5)
    node.say("hb", seq=3)
    await links.settle()
    assert await kept(links) == [3]
    assert node.acked in (None, 0)
    node.say("backlog", beats=[{"seq": 1, "age_ms": 5_000}, {"seq": 2, "age_ms": 5_000}])
    await links.settle()
    assert node.acked == 3
    assert sorted(filter(None, await kept(links))) == [1, 2, 3]


async def test_beat_that_cannot_be_used_names_the_field_and_the_link_goes_on(links: Links) -> None:
    node = await links.open()
    node.say("hb", seq=1, cpu_load=-1)
    assert (node.error["code"], node.error["field"], node.error["seq"]) == ("invalid_input", "cpu_load", 1)
    node.say("hb", seq=2)
    await links.settle()
    assert (node.acked, await kept(links)) == (2, [2])


async def test_unknown_frames_and_fields_are_passed_over(links: Links) -> None:
    node = await links.open(colour="blue")
    node.say("telemetry", anything=[1, 2])
    node.say("hb", seq=1, colour="blue")
    await links.settle()
    assert (node.acked, node.of("error")) == (1, [])


async def test_beat_that_names_another_incarnation_is_refused(links: Links) -> None:
    node = await links.open()
    node.say("hb", seq=1, incarnation=7)
    assert (node.error["code"], node.error["seq"], node.error["retryable"]) == ("stale_incarnation", 1, False)


async def test_degraded_beat_shows_and_an_ordinary_one_ends_it(links: Links) -> None:
    node = await links.open()
    node.say("hb", seq=1, status="degraded")
    await links.settle()
    assert status(links) == ("degraded", "reported")
    node.say("hb", seq=2)
    await links.settle()
    assert status(links) == ("online", "heartbeat")


async def test_more_beats_than_may_be_on_the_way_stop_the_reading_and_none_is_lost(links: Links) -> None:
    node = await links.open()
    for seq in range(1, 2_001):
        node.say("hb", seq=seq)
    assert node.held
    await links.settle()
    assert not node.held
    assert node.acked == 2_000
    assert len(await kept(links)) == 2_000


# Backlog


async def test_backlog_goes_to_history_as_of_its_age_and_nowhere_else(links: Links) -> None:
    registry = links.cluster.registry
    node = await links.open()
    node.say("hb", seq=5)
    await links.settle()
    await links.cluster.turn(20)
    before = registry.presence("worker-1")
    revision = registry.roster.revision
    node.say(
        "backlog",
        beats=[{"seq": 3, "age_ms": 8_250, "status": "degraded"}, {"seq": 4, "age_ms": 0, "status": "offline"}],
    )
    await links.settle()
    now = registry.clock.now()
    beats = await registry.recent_heartbeats("worker-1")
    assert [(beat.seq, now - beat.at) for beat in beats] == [
        (5, timedelta(seconds=20)),
        (3, timedelta(milliseconds=8_250)),
        (4, timedelta(milliseconds=1)),
    ]
    after = registry.presence("worker-1")
    assert after.last_heartbeat == before.last_heartbeat
    assert registry.roster.revision == revision
    assert status(links) == ("online", "announced")


async def test_backlog_frame_is_a_sign_of_life(links: Links) -> None:
    node = await links.open()
    for seq in range(1, 4):
        await links.cluster.turn(25)
        node.say("backlog", beats=[{"seq": seq, "age_ms": 1_000}])
    assert status(links)[0] == "online"


async def test_ages_are_believed_up_to_an_hour(links: Links) -> None:
    node = await links.open()
    node.say("backlog", beats=[{"seq": 1, "age_ms": 7_200_000}])
    await links.settle()
    (beat,) = await links.cluster.registry.recent_heartbeats("worker-1", 120)
    assert links.cluster.registry.clock.now() - beat.at == timedelta(hours=1)


async def test_backlog_sent_twice_is_kept_once(links: Links) -> None:
    node = await links.open()
    node.say("hb", seq=1)
    await links.settle()
    beats = [{"seq": seq, "age_ms": 100} for seq in (1, 2, 2, 3)]
    node.say("backlog", beats=beats)
    node.say("backlog", beats=beats)
    await links.settle()
    assert sorted(filter(None, await kept(links))) == [1, 2, 3]
    assert node.acked == 3


async def test_late_beats_are_recognised_after_a_restart_and_are_no_sign_of_life_then(open_cluster: Opening) -> None:
    async with open_cluster() as cluster:
        first = Links(cluster)
        node = await first.open()
        node.say("backlog", beats=[{"seq": 1, "age_ms": 60_000}])
        await first.settle()
    async with open_cluster(store=cluster.store, clock=cluster.clock) as again:
        entry = again.registry.roster.find("worker-1")
        assert entry.last_beat is None
        assert entry.window.high == 1


# The end of a link


async def test_link_that_is_resumed_within_the_grace_writes_nothing(links: Links) -> None:
    node = await links.open()
    commits = len(links.cluster.store.commits)
    node.cut()
    await links.cluster.turn(4.5)
    again = await links.open(resume=node.resume)
    assert again.welcome["resumed"] is True
    assert again.welcome["session_id"] == node.welcome["session_id"]
    await links.cluster.turn(10)
    assert len(links.cluster.store.commits) == commits
    assert status(links) == ("online", "announced")


async def test_link_that_is_not_resumed_disconnects_its_node_and_then_takes_it_offline(links: Links) -> None:
    node = await links.open()
    node.cut()
    await links.cluster.turn(4.5)
    assert status(links)[0] == "online"
    await links.cluster.turn(1)
    assert status(links) == ("disconnected", "link_lost")
    assert [session.status for session in sessions(links)] == [SessionStatus.DEGRADED]
    await links.cluster.turn(61)
    assert status(links) == ("offline", "link_lost")
    assert sessions(links) == []
    assert links.cluster.store.commits[-1].sessions[0].status is SessionStatus.FAILED


async def test_after_the_grace_the_same_process_gets_a_new_session_and_keeps_its_incarnation(links: Links) -> None:
    node = await links.open()
    node.cut()
    await links.cluster.turn(6)
    again = await links.open(resume=node.resume)
    assert (again.welcome["resumed"], again.welcome["incarnation"]) == (False, 1)
    assert again.welcome["session_id"] != node.welcome["session_id"]
    assert [session.session_id for session in sessions(links)] == [again.welcome["session_id"]]
    assert status(links) == ("online", "announced")


@pytest.mark.parametrize("wrong", ["secret", "instance", "name"])
async def test_resume_is_for_the_two_ends_of_the_link_alone(links: Links, wrong: str) -> None:
    node = await links.open()
    node.cut()
    resume = {**node.resume, "secret": "guessed"} if wrong == "secret" else node.resume
    again = await links.open(
        "worker-2" if wrong == "name" else "worker-1", "b" if wrong == "instance" else "a", resume=resume
    )
    assert again.welcome["resumed"] is False
    assert again.welcome["session_id"] != node.welcome["session_id"]


async def test_resume_over_a_second_connection_closes_the_one_that_seemed_to_stand(links: Links) -> None:
    node = await links.open()
    again = await links.open(resume=node.resume)
    assert again.welcome["resumed"] is True
    assert node.closed == (4503, "session_ended")
    node.cut()
    await links.cluster.turn(10)
    assert status(links)[0] == "online"


async def test_beats_over_http_keep_a_node_whose_link_broke(links: Links) -> None:
    node = await links.open()
    node.cut()
    await links.cluster.turn(2)
    await links.cluster.http.post("/api/nodes/worker-1/heartbeats", json={})
    await links.cluster.turn(4)
    assert status(links)[0] == "online"
    assert sessions(links) == []


async def test_session_without_a_connection_does_not_come_back_with_its_node(links: Links) -> None:
    node = await links.open()
    node.cut()
    await links.cluster.turn(6)
    assert status(links) == ("disconnected", "link_lost")
    await links.cluster.http.post("/api/nodes/worker-1/heartbeats", json={})
    await links.settle()
    assert status(links)[0] == "online"
    assert sessions(links) == []


async def test_second_link_of_one_process_keeps_the_node_when_the_first_breaks(links: Links) -> None:
    first = await links.open()
    second = await links.open()
    assert second.welcome["incarnation"] == first.welcome["incarnation"]
    assert links.cluster.registry.presence("worker-1").sessions == 2
    first.cut()
    await links.cluster.turn(6)
    assert status(links)[0] == "online"
    assert [session.session_id for session in sessions(links)] == [second.welcome["session_id"]]


async def test_silence_over_an_open_connection_is_told_from_a_lost_link(links: Links) -> None:
    node = await links.open()
    await links.cluster.turn(31)
    assert status(links) == ("disconnected", "silent")
    node.say("hb", seq=1)
    await links.settle()
    assert status(links) == ("online", "heartbeat")
    assert [session.status for session in sessions(links)] == [SessionStatus.ESTABLISHED]


async def test_link_of_a_node_that_is_given_up_is_ended_and_may_be_opened_again(links: Links) -> None:
    node = await links.open()
    await links.cluster.turn(92)
    assert status(links) == ("offline", "silent")
    assert (node.error["code"], node.error["retryable"]) == ("session_ended", True)
    assert node.closed == (4503, "session_ended")
    await links.open(resume=node.resume)
    assert status(links) == ("online", "announced")


async def test_any_frame_re_arms_the_deadline_also_one_that_is_refused(links: Links) -> None:
    node = await links.open()
    for frame in ({"type_": "links", "sessions": []}, {"type_": "hb", "seq": "x"}, {"type_": "news"}):
        await links.cluster.turn(20)
        node.say(**frame)
    await links.cluster.turn(20)
    assert status(links)[0] == "online"


async def test_nobody_is_disconnected_while_the_store_is_away(links: Links) -> None:
    node = await links.open()
    links.cluster.store.away = True
    node.say("hb", seq=1)
    await links.settle()
    node.cut()
    await links.cluster.turn(120)
    assert status(links)[0] == "online"
    links.cluster.store.away = False
    await links.cluster.turn(10)
    assert status(links) == ("disconnected", "link_lost")


# Goodbye


@pytest.mark.parametrize("way", ["bye", "hb"])
async def test_goodbye_is_durable_before_the_link_closes(links: Links, way: str) -> None:
    node = await links.open()
    node.say("hb", seq=1)
    if way == "bye":
        node.say("bye", reason="maintenance")
    else:
        node.say("hb", seq=2, status="offline")
    assert node.closed is None
    await links.settle()
    assert node.closed == (1000, "goodbye")
    assert node.acked == (1 if way == "bye" else 2)
    assert status(links) == ("offline", "goodbye: maintenance" if way == "bye" else "goodbye")
    node.cut()
    await links.cluster.turn(100)
    assert status(links)[0] == "offline"
    assert links.cluster.store.commits[-1].sessions[0].status is SessionStatus.CLOSED


async def test_goodbye_of_one_of_two_links_ends_its_session_only(links: Links) -> None:
    first, second = await links.open(), await links.open()
    first.say("bye")
    await links.settle()
    assert first.closed == (1000, "goodbye")
    assert status(links)[0] == "online"
    second.say("bye")
    await links.settle()
    assert status(links) == ("offline", "goodbye")


async def test_goodbye_that_could_not_be_written_is_made_good_when_the_store_is_back(links: Links) -> None:
    node = await links.open()
    links.cluster.store.away = True
    node.say("bye", reason="upgrade")
    await links.settle()
    assert node.closed is not None
    node.cut()
    links.cluster.store.away = False
    await links.cluster.turn(10)
    assert status(links) == ("offline", "goodbye: upgrade")


async def test_goodbye_over_http_ends_the_link(links: Links) -> None:
    node = await links.open()
    await links.cluster.http.post("/api/nodes/worker-1/heartbeats", json={"status": "offline"})
    assert (node.error["code"], node.error["retryable"]) == ("goodbye", False)
    assert node.closed == (4409, "goodbye")


async def test_bye_before_welcome_leaves_as_soon_as_there_is_something_to_leave(links: Links) -> None:
    node = links.connect()
    node.hello()
    node.say("bye")
    await links.settle()
    assert node.closed == (1000, "goodbye")
    assert status(links) == ("offline", "goodbye")


async def test_connection_lost_in_the_handshake_leaves_a_link_that_may_be_resumed_by_nobody(links: Links) -> None:
    node = links.connect()
    node.hello()
    node.cut()
    await links.settle()
    assert status(links)[0] == "online"
    await links.cluster.turn(6)
    assert status(links) == ("disconnected", "link_lost")


# Who speaks for a node


async def test_new_process_takes_the_name_and_the_old_one_is_not_let_in_again(links: Links) -> None:
    old = await links.open(instance="old")
    new = await links.open(instance="new")
    assert (old.error["code"], old.error["retryable"]) == ("superseded", False)
    assert old.closed == (4409, "superseded")
    assert new.welcome["incarnation"] == 2
    assert links.cluster.registry.get_node("worker-1").status_reason == "restarted"
    assert [session.session_id for session in sessions(links)] == [new.welcome["session_id"]]
    back = await links.open(instance="old", resume=old.resume)
    assert back.closed == (4409, "superseded")
    answer = await links.cluster.http.post("/api/nodes/worker-1/online", json={"instance": "old"})
    assert (answer.status_code, answer.json()["code"]) == (409, "superseded")
    assert new.closed is None


async def test_beat_of_the_old_process_that_was_on_its_way_is_refused(links: Links) -> None:
    old = await links.open(instance="old")
    new = links.connect()
    new.hello(instance="new")
    old.say("hb", seq=1)
    await links.settle()
    assert "stale_incarnation" in [error["code"] for error in old.of("error")] or old.error["code"] == "superseded"
    assert await kept(links) == []


async def test_processes_that_alternate_are_found_out_and_the_newcomer_is_refused(links: Links) -> None:
    await links.open(instance="a1")
    incumbent = await links.open(instance="b1")
    newcomer = await links.open(instance="a2")
    assert (newcomer.error["code"], newcomer.error["retryable"]) == ("name_in_use", True)
    assert 1_000 <= newcomer.error["retry_after_ms"] <= 30_000
    assert newcomer.closed == (4409, "name_in_use")
    assert incumbent.closed is None
    answer = await links.cluster.http.post("/api/nodes/worker-1/online", json={"instance": "a3"})
    assert (answer.status_code, answer.json()["code"]) == (409, "name_in_use")
    assert int(answer.headers["retry-after"]) >= 1
    incumbent.cut()
    await links.cluster.turn(6)
    assert (await links.open(instance="a2")).welcome["incarnation"] == 3


async def test_name_is_free_again_when_the_incumbent_falls_silent(links: Links) -> None:
    await links.open(instance="a")
    await links.open(instance="b")
    await links.cluster.turn(31)
    assert (await links.open(instance="c")).welcome["incarnation"] == 3


async def test_process_that_restarts_often_is_not_taken_for_two(links: Links) -> None:
    for number in range(5):
        node = await links.open(instance=f"run-{number}")
        assert node.welcome["incarnation"] == number + 1
        node.cut()
        await links.cluster.turn(1)


# What the registry has to say


async def test_changed_interval_is_told(links: Links) -> None:
    node = await links.open()
    await links.cluster.registry.update_node("worker-1", {"heartbeat_interval_ms": 30_000})
    assert node.of("interval") == [{"type": "interval", "interval_ms": 30_000}]


async def test_deregistering_needs_force_and_then_ends_the_link(links: Links) -> None:
    node = await links.open()
    refused = await links.cluster.http.delete("/api/nodes/worker-1")
    assert (refused.status_code, refused.json()["code"]) == (409, "live_link")
    assert (await links.cluster.http.delete("/api/nodes/worker-1?force=true")).status_code == 204
    assert (node.error["code"], node.error["retryable"]) == ("deregistered", False)
    assert node.closed == (4404, "deregistered")
    node.cut()


async def test_drain_closes_links_once_what_they_sent_is_durable_and_disconnects_nobody(links: Links) -> None:
    busy, idle, silent = await links.open("busy"), await links.open("idle"), links.connect()
    busy.say("hb", seq=1)
    links.gate.drain()
    assert idle.of("drain") == [{"type": "drain", "reconnect_within_ms": 500}]
    assert idle.closed == (1012, "drain")
    assert silent.closed == (1012, "shutting_down")
    assert busy.closed is None
    await links.settle()
    assert (busy.acked, busy.closed) == (1, (1012, "drain"))
    for node in (busy, idle):
        node.cut()
    await links.cluster.turn(20)
    assert status(links, "busy")[0] == status(links, "idle")[0] == "online"
    late = await links.open("late")
    assert late.error["code"] == "shutting_down"


async def test_session_left_by_a_former_server_is_closed_by_the_handshake_that_follows(open_cluster: Opening) -> None:
    async with open_cluster() as cluster:
        first = Links(cluster)
        resume = (await first.open()).resume
    # The end of its link gate never came: as after kill -9.
    async with open_cluster(store=cluster.store, clock=cluster.clock) as again:
        second = Links(again)
        assert [session.session_id for session in sessions(second)] == [resume["session_id"]]
        back = await second.open(resume=resume)
        assert (back.welcome["resumed"], back.welcome["incarnation"]) == (False, 1)
        assert [session.session_id for session in sessions(second)] == [back.welcome["session_id"]]
        assert status(second) == ("online", "announced")


# Order and bounds


@pytest.mark.parametrize(
    "frames", [["hb"], ["bye"], ["backlog"], ["hello", "hb"], ["hello", "hello"], ["open", "hello"]]
)
async def test_frame_out_of_place_is_a_violation_of_the_protocol(links: Links, frames: list[str]) -> None:
    fields = {
        "hello": {"name": "worker-1", "instance": "a"},
        "hb": {"seq": 1},
        "bye": {},
        "backlog": {"beats": []},
    }
    node = await links.open() if frames[0] == "open" else links.connect()
    for frame in frames:
        if frame != "open":
            node.say(frame, **fields[frame])
    assert (node.error["code"], node.error["retryable"]) == ("protocol_violation", False)
    assert node.closed == (1002, "protocol_violation")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"5", b"\xff", b'{"type":7}', b"[" * 100_000, b'"' + b"x" * 70_000])
async def test_message_that_is_no_frame_ends_the_link(links: Links, data: bytes) -> None:
    node = await links.open()
    node.link.received(data)
    assert node.error["code"] == "malformed_body"
    assert node.closed == (1007, "malformed_body")


async def test_silent_newcomers_are_cut(links: Links) -> None:
    node = links.connect()
    await links.cluster.turn(9)
    assert node.closed is None
    await links.cluster.turn(2)
    assert (node.error["code"], node.error["retryable"]) == ("no_hello", True)
    assert node.closed == (4408, "no_hello")


async def test_pause_of_our_own_cuts_no_newcomer(links: Links) -> None:
    node = links.connect()
    await links.cluster.turn(5)
    links.cluster.clock.pause(30)
    await links.cluster.turn(1)
    assert node.closed is None
    node.hello()
    await links.settle()
    assert node.welcome


async def test_more_links_or_handshakes_than_there_is_room_for_are_told_to_come_later(open_cluster: Opening) -> None:
    settings = Settings(links_max=3, handshakes_max=1)
    async with open_cluster(settings=settings) as cluster:
        links = Links(cluster)
        first, second = links.connect(), links.connect()
        first.hello("a")
        second.hello("b")
        assert (second.error["code"], second.error["retryable"]) == ("overloaded", True)
        assert 1_000 <= second.error["retry_after_ms"] <= 3_000
        assert second.closed == (1013, "overloaded")
        await links.settle()
        assert first.welcome
        second.cut()
        links.connect()
        links.connect()
        with pytest.raises(Exception, match="full"):
            links.connect()


async def test_frames_beyond_the_rate_are_refused_and_still_a_sign_of_life(open_cluster: Opening) -> None:
    async with open_cluster(settings=Settings(link_frames_per_second=1)) as cluster:
        links = Links(cluster)
        node = await links.open()
        for seq in range(1, 4):
            node.say("hb", seq=seq)
        await links.settle()
        assert (node.error["code"], node.error["seq"], node.error["retryable"]) == ("rate_limited", 3, True)
        assert node.acked == 2
        await cluster.turn(29)
        assert status(links)[0] == "online"
        node.say("backlog", beats=[{"seq": 3, "age_ms": 29_000}])
        await links.settle()
        assert node.acked == 3
        for seq in range(4, 12):
            node.say("hb", seq=seq)
        assert node.closed == (4429, "rate_limited")


async def test_presence_after_a_beat_is_that_of_the_link(links: Links) -> None:
    node = await links.open()
    node.say("hb", seq=1, cpu_load=50, peers={"worker-2": None}, meta={"a": 1})
    await links.settle()
    presence = links.cluster.registry.presence("worker-1")
    assert presence.last_heartbeat is not None
    assert presence.last_heartbeat.status is BeatStatus.ONLINE
    assert presence.last_heartbeat.peers == {"worker-2": None}
    assert presence.last_heartbeat.at == from_ms(links.cluster.clock.now_ms())
    assert presence.sessions == 1


async def test_late_beats_are_not_told_to_watchers(links: Links) -> None:
    node = await links.open()
    async with links.cluster.registry.subscribe("cluster.node.heartbeat") as events:
        reading = asyncio.ensure_future(anext(events))
        await links.settle()
        node.say("backlog", beats=[{"seq": 1, "age_ms": 5_000}])
        node.say("hb", seq=2)
        await links.settle()
        assert (await reading).payload.seq == 2  # type: ignore[union-attr]


# What reviews and mutations found


async def test_no_ack_covers_a_beat_of_a_backlog_that_nobody_was_told_of(links: Links) -> None:
    node = await links.open()
    beats = [{"seq": seq, "age_ms": 1_000} for seq in range(1, 6)]
    node.say("backlog", beats=[*beats, {"seq": 6, "age_ms": -3}, {"seq": 7, "age_ms": 1, "cpu_load": -1}])
    node.say("hb", seq=8)
    await links.settle()
    assert [(error["seq"], error["field"], error["retryable"]) for error in node.of("error")] == [
        (6, "beats[5].age_ms", False),
        (7, "beats[6].cpu_load", False),
    ]
    assert node.acked == 8
    assert sorted(filter(None, await kept(links))) == [1, 2, 3, 4, 5, 8]


@pytest.mark.parametrize(
    "beats", [[{"seq": seq, "age_ms": 1} for seq in range(257)], [{"age_ms": 1}], [{"seq": "x", "age_ms": 1}], 7, [7]]
)
async def test_backlog_of_which_it_cannot_be_told_what_is_lost_ends_the_link(links: Links, beats: object) -> None:
    node = await links.open()
    node.say("backlog", beats=beats)
    assert (node.error["code"], node.error["retryable"]) == ("malformed_body", False)
    assert node.error["field"].startswith("beats")
    assert node.closed == (1007, "malformed_body")


async def test_goodbye_that_is_refused_leaves_the_link_as_it_was(links: Links) -> None:
    node = await links.open()
    node.say("hb", seq=1, status="offline", incarnation=7)
    assert node.error["code"] == "stale_incarnation"
    node.cut()
    again = await links.open(resume=node.resume)
    assert again.welcome["resumed"] is True
    again.cut()
    await links.cluster.turn(6)
    assert status(links) == ("disconnected", "link_lost")


@pytest.mark.parametrize("way", ["hb", "bye"])
async def test_goodbye_that_is_refused_for_now_ends_the_link_and_is_made_good(links: Links, way: str) -> None:
    node = await links.open()
    links.cluster.store.away = True
    if way == "bye":
        node.say("bye")
    else:
        node.say("hb", seq=1, status="offline")
    await links.settle()
    assert node.closed == (1013, "store_unavailable")
    node.cut()
    links.cluster.store.away = False
    await links.cluster.turn(10)
    assert status(links) == ("offline", "goodbye")


async def test_goodbye_is_taken_beyond_the_rate(open_cluster: Opening) -> None:
    async with open_cluster(settings=Settings(link_frames_per_second=1)) as cluster:
        links = Links(cluster)
        node = await links.open()
        for seq in (1, 2):
            node.say("hb", seq=seq)
        node.say("hb", seq=3, status="offline")
        await links.settle()
        assert node.closed == (1000, "goodbye")
        assert status(links) == ("offline", "goodbye")


async def test_lost_link_is_told_from_silence_also_where_the_deadline_is_shorter_than_the_grace(
    links: Links,
) -> None:
    cut = await links.open("cut", interval_ms=500)
    await links.open("frozen", interval_ms=500)
    cut.cut()
    await links.cluster.turn(2)
    assert status(links, "cut") == ("disconnected", "link_lost")
    assert status(links, "frozen") == ("disconnected", "silent")


async def test_hello_within_the_grace_counts_when_it_arrives(links: Links) -> None:
    node = await links.open()
    node.cut()
    await links.cluster.turn(4.9)
    going = asyncio.Event()
    commit = links.cluster.store.commit

    async def slow(batch: WriteBatch) -> int | None:
        await going.wait()
        return await commit(batch)

    links.cluster.store.commit = slow  # type: ignore[method-assign]
    other = links.connect()
    other.hello("other")
    await links.cluster.settle()
    again = links.connect()
    again.hello()
    await links.cluster.turn(1)
    going.set()
    await links.settle()
    events = [event.name for batch in links.cluster.store.commits for event in batch.events]
    assert "cluster.node.status_changed" not in events
    assert [session.session_id for session in sessions(links)] == [again.welcome["session_id"]]


async def test_connection_lost_behind_its_bye_leaves_nothing_behind(links: Links) -> None:
    for _ in range(3):
        node = links.connect()
        node.hello()
        node.say("bye")
        node.cut()
        await links.settle()
    assert (len(links.cluster.registry.uplinks), links.cluster.registry.roster.held) == (0, set())
    assert status(links) == ("offline", "goodbye")


async def test_handshake_of_a_node_that_is_deregistered_in_the_same_commit_says_so(links: Links) -> None:
    await links.open("worker-1")
    node = links.connect()
    node.hello("worker-1")
    node_id = links.cluster.registry.find_id("worker-1")
    removing = asyncio.ensure_future(links.cluster.registry.deregister(node_id, force=True))
    await links.settle()
    await removing
    assert (node.error["code"], "worker-1 was deregistered" in node.error["message"]) == ("deregistered", True)
    assert links.cluster.registry.roster.held == set()


async def test_goodbye_over_one_link_spares_the_handshake_of_another_that_is_on_its_way(links: Links) -> None:
    first = await links.open()
    second = links.connect()
    second.hello()
    first.say("bye")
    await links.settle()
    assert first.closed == (1000, "goodbye")
    assert second.welcome
    assert status(links)[0] == "online"


async def test_link_in_grace_keeps_its_node_when_another_one_says_bye(links: Links) -> None:
    first, second = await links.open(), await links.open()
    first.cut()
    second.say("bye")
    await links.settle()
    assert status(links)[0] == "online"
    assert (await links.open(resume=first.resume)).welcome["resumed"] is True


async def test_link_of_a_silent_node_is_not_resumed_but_opened_anew(links: Links) -> None:
    node = await links.open()
    await links.cluster.turn(31)
    assert status(links) == ("disconnected", "silent")
    again = await links.open(resume=node.resume)
    assert again.welcome["resumed"] is False
    assert status(links) == ("online", "announced")


async def test_link_that_was_left_is_not_resumed(links: Links) -> None:
    node = await links.open()
    links.cluster.store.away = True
    node.say("bye")
    await links.settle()
    node.cut()
    links.cluster.store.away = False
    await links.cluster.turn(3)
    again = await links.open(resume=node.resume)
    assert again.welcome["resumed"] is False


async def test_every_attempt_prolongs_a_conflict(links: Links) -> None:
    await links.open(instance="a")
    incumbent = await links.open(instance="b")
    for number in range(4):
        for seq in range(10):
            await links.cluster.turn(20)
            incumbent.say("hb", seq=number * 10 + seq)
        newcomer = await links.open(instance=f"c{number}")
        assert newcomer.error["code"] == "name_in_use", number
    for seq in range(16):
        await links.cluster.turn(20)
        incumbent.say("hb", seq=100 + seq)
    assert (await links.open(instance="d")).welcome["incarnation"] == 3


async def test_link_that_never_sends_again_what_it_owes_is_ended(links: Links) -> None:
    node = await links.open()
    links.cluster.store.away = True
    for seq in range(UNACKED_MAX + 2):
        node.say("hb", seq=seq)
        if seq % 100 == 0:
            await links.settle()
    await links.settle()
    assert node.closed == (1013, "overloaded")
    links.cluster.store.away = False
    await links.cluster.turn(5)


async def test_node_whose_link_broke_is_given_up_after_offline_after_and_no_sooner(links: Links) -> None:
    node = await links.open(interval_ms=10_000)
    node.cut()
    await links.cluster.turn(6)
    assert status(links) == ("disconnected", "link_lost")
    await links.cluster.turn(58)
    assert status(links) == ("disconnected", "link_lost")
    await links.cluster.turn(2)
    assert status(links) == ("offline", "link_lost")


async def test_session_of_a_live_link_named_by_hand_is_still_the_links(links: Links) -> None:
    node = await links.open()
    http, registry = links.cluster.http, links.cluster.registry
    session_id = node.welcome["session_id"]
    body = {"node_id": "worker-1", "session_id": session_id, "connection_type": "websocket"}
    assert (await http.post("/api/sessions", json=body)).status_code == 200
    both = [http.delete(f"/api/sessions/{session_id}"), http.post("/api/sessions", json=body)]
    assert [answer.status_code for answer in await asyncio.gather(*both)] == [204, 200]
    assert [one.holder for one in registry.list_sessions("worker-1")] == [registry.owner]
    node.cut()
    await links.cluster.turn(10)
    assert status(links) == ("disconnected", "link_lost")
    again = await links.open()
    assert [one.session_id for one in registry.list_sessions("worker-1")] == [again.welcome["session_id"]]
