"""What both clients give for every call, as the embedded registry does."""

from __future__ import annotations

import inspect
import subprocess
import sys
from types import MappingProxyType
from typing import Any

import httpx
import pytest

import thunderline.client
from tests.cli.servers import ServedRegistry
from tests.client.clients import Driven, driven, scripted
from tests.prism.alert_worlds import SETTLE_S, alerting, lose
from thunderline.client import (
    BatchRefused,
    BlockingClient,
    Client,
    Conflict,
    CountedGroup,
    InvalidRequest,
    KeyReused,
    NotFound,
    PreconditionFailed,
    PresentNode,
    calls,
)
from thunderline.client.errors import ServerUnavailable
from thunderline.core.errors import InvalidInput
from thunderline.core.records import GroupType, Heartbeat, LinkSession, Node, NodeGroup, NodeStatus
from thunderline.core.settings import Settings
from thunderline.gate.app import build_app
from thunderline.link.registry import Registry
from thunderline.testing.harness import BASE_URL, open_cluster

SHARED = (
    *("ensure_node", "update_node", "deregister", "mark_online", "mark_offline", "mark_status", "clear_override"),
    *("heartbeat", "recent_heartbeats", "series", "get_node", "list_nodes", "graph"),
    *("graph_at", "graph_diff", "status_history", "timeline"),
    *("establish_link_session", "get_link_session", "update_link_session", "close_link_session", "list_sessions"),
    *("create_group", "update_group", "remove_group", "add_to_group", "remove_from_group", "get_group", "list_groups"),
)


OVER_HTTP = ("if_match", "idempotency_key")
"""Arguments that only a call over HTTP has."""


def arguments(method: Any) -> list[tuple[str, Any, Any]]:
    found = inspect.signature(method).parameters.values()
    return [(each.name, each.kind, each.default) for each in found if each.name not in ("actor", *OVER_HTTP)]


@pytest.fixture
def name(kind: str, request: pytest.FixtureRequest) -> str:
    """A node's name that no other test uses."""
    return f"{request.node.originalname.replace('_', '-')}-{kind.lower()}"


def test_the_public_names_are_these() -> None:
    assert thunderline.client.__all__ == [
        *("Client", "BlockingClient", "Watch", "BlockingWatch", "Link", "LinkStats", "CountedGroup"),
        *("EventPage", "Graph", "GraphLink", "GraphNode", "Health", "FigureSeries", "HeartbeatResult"),
        *("HeartbeatSeries", "ItemProblem"),
        *("KeptHeartbeat", "NodeResult", "OnlineNode", "PresentNode", "TaggedNode"),
        "ToldEvent",
        *("Changed", "Differences", "GraphDiff", "StatusHistory", "StatusSpan", "Timeline", "Uptime"),
        *("AlertList", "ToldAlert", "ToldSilence"),
        *("AnswerLost", "BatchRefused", "ClientError", "Conflict", "Forbidden", "InvalidRequest", "KeyReused"),
        "ListAgain",
        *(
            "NotFound",
            "NotThunderline",
            "PreconditionFailed",
            "ServerRefused",
            "ServerUnavailable",
            "ServerUnreachable",
            "ServerUntrusted",
            "Unauthorized",
        ),
        *("BeatDropped", "BeatRefused", "LinkDeregistered", "LinkEnded", "LinkError", "LinkLeft", "LinkSuperseded"),
        *("LinkTimeout", "LinkUnauthorized"),
    ]
    assert all(hasattr(thunderline.client, name) for name in thunderline.client.__all__)


def test_importing_the_package_and_its_errors_loads_no_http_library() -> None:
    program = "import sys\nfrom thunderline.client import ClientError, ToldEvent\nprint('httpx' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("name", SHARED)
def test_a_call_takes_what_the_registry_takes(name: str) -> None:
    assert arguments(getattr(Client, name)) == arguments(getattr(Registry, name))


def test_the_blocking_client_has_the_same_calls() -> None:
    def public(kind: type) -> dict[str, list[tuple[str, Any, Any]]]:
        return {name: arguments(member) for name, member in vars(kind).items() if name[0] != "_" and callable(member)}

    there = public(Client)
    there["close"] = there.pop("aclose")
    assert public(BlockingClient) == there


def test_a_node_is_registered_once_and_found_by_name_and_id(client: Driven, name: str) -> None:
    node = client.ensure_node({"name": name, "labels": {"zone": "a"}, "meta": {"deep": [1, {"x": None}]}})
    assert isinstance(node, PresentNode)
    assert isinstance(node, Node)
    assert (node.status, node.presence.sessions) == (NodeStatus.CONNECTING, 0)
    assert client.ensure_node(MappingProxyType({"name": name})) == node
    assert client.get_node(name) == client.get_node(node.id) == node
    assert node.meta == {"deep": [1, {"x": None}]}


def test_a_patch_changes_and_resets(client: Driven, name: str) -> None:
    client.ensure_node({"name": name, "address": "10.0.0.1"})
    assert client.update_node(name, {"address": None, "labels": {"a": "b"}}).labels == {"a": "b"}
    assert client.get_node(name).address is None


def test_a_deregistered_node_is_not_found(client: Driven, name: str) -> None:
    client.ensure_node({"name": name})
    assert client.deregister(name) is None
    with pytest.raises(NotFound) as caught:
        client.deregister(name)
    assert (caught.value.code, caught.value.status, caught.value.retryable) == ("unknown_node", 404, False)
    assert name in caught.value.detail


def test_a_linked_node_is_deregistered_by_force_only(client: Driven, name: str) -> None:
    client.ensure_node({"name": name})
    client.mark_online(name, {"session_id": name})
    with pytest.raises(Conflict) as caught:
        client.deregister(name)
    assert caught.value.code == "live_link"
    client.deregister(name, force=True)


def test_an_announcement_gives_node_and_session(client: Driven, name: str) -> None:
    client.ensure_node({"name": name})
    online = client.mark_online(name, {"session_id": name, "latency_ms": 1.5}, instance="i1")
    assert (online.node.status, online.node.instance, online.node.presence.sessions) == (NodeStatus.ONLINE, "i1", 1)
    assert isinstance(online.session, LinkSession)
    assert online.session.session_id == name
    assert client.mark_online(name).session is None


def test_a_session_between_two_nodes_is_opened_changed_and_closed(client: Driven, name: str) -> None:
    for end in ("a", "b"):
        client.ensure_node({"name": f"{name}-{end}"})
    attrs = {"session_id": f"{name}/1 %", "session_type": "tocp", "weight": 0.5}
    session = client.establish_link_session(f"{name}-a", f"{name}-b", attrs)
    assert isinstance(session, LinkSession)
    assert client.list_sessions(f"{name}-b") == client.list_sessions(f"{name}-a", session_type="tocp") == [session]
    changed = client.update_link_session(session.session_id, {"latency_ms": 3})
    assert client.get_link_session(session.session_id) == client.get_link_session(session.id) == changed
    closed = client.close_link_session(session.session_id, "moved")
    assert (closed.status, closed.status_reason) == ("closed", "moved")
    assert client.close_link_session(session.session_id) == closed
    assert client.list_sessions(f"{name}-a") == []
    with pytest.raises(Conflict) as caught:
        client.update_link_session(session.session_id, {"latency_ms": 4})
    assert caught.value.code == "session_over"


def test_an_override_is_laid_and_lifted(client: Driven, name: str) -> None:
    client.ensure_node({"name": name})
    client.heartbeat(name)
    assert client.mark_offline(name, "rack move").status_reason == "rack move"
    assert client.mark_status(name, "degraded", "disk").status is NodeStatus.DEGRADED
    assert client.mark_offline(name).status is NodeStatus.OFFLINE
    assert client.clear_override(name).status is NodeStatus.ONLINE


def test_a_beat_is_kept_and_says_when_the_next_is_due(client: Driven, name: str) -> None:
    node = client.ensure_node({"name": name, "heartbeat_interval_ms": 2_000})
    kept = client.heartbeat(name, "degraded", {"cpu_load": 12.5, "seq": 1, "peers": {"a": None}})
    assert kept.next_interval_ms == 2_000
    assert isinstance(kept.heartbeat, Heartbeat)
    assert client.recent_heartbeats(name) == client.recent_heartbeats(node.id, 0.5, limit=1) == [kept.heartbeat]
    assert kept.heartbeat in client.recent_heartbeats()
    series = client.series(name, 5, resolution=60)
    assert (series.node_id, series.resolution_s, sum(series.beats)) == (node.id, 60, 1)
    assert len(series.at) == len(series.cpu_load.mean) >= 5
    assert client.series(node.id).resolution_s >= 10
    assert client.get_node(name).presence.last_heartbeat == kept.heartbeat


def test_the_past_is_told(client: Driven, name: str) -> None:
    client.ensure_node({"name": name})
    before = client.graph(include_offline=True)
    client.heartbeat(name)
    client.mark_offline(name, "rack move")
    assert client.graph_at(before.revision, include_offline=True) == before
    assert client.graph_at(before.cursor, include_offline=True) == before
    after = client.graph(include_offline=True)
    found = client.graph_diff(before.cursor, after.revision, include_offline=True)
    (changed,) = found.nodes.changed
    assert (changed.before.status, changed.after.status, changed.fields) == ("connecting", "offline", ["status"])
    history = client.status_history(name)
    assert [span.status for span in history.spans] == ["connecting", "online", "offline"]
    assert history.spans == client.status_history(name, until=after.cursor, limit=3).spans
    assert client.status_history(name, limit=1).earlier == history.spans[-1].since
    assert (history.spans[-1].reason, history.spans[-1].override) == ("rack move", NodeStatus.OFFLINE)
    timeline = client.timeline(bins=24)
    assert (len(timeline.at), sum(timeline.events)) == (24, after.revision)
    assert timeline.newest == history.spans[-1].since
    with pytest.raises(InvalidInput, match="offset"):
        client.graph_at(history.since.replace(tzinfo=None))


def test_capabilities_are_added_found_and_removed(client: Driven, name: str) -> None:
    client.ensure_node({"name": name})
    node = client.add_capability(name, "example.com/gpu", f"{name}-a100")
    assert node.capabilities["example.com/gpu"].value == f"{name}-a100"
    assert [node.name for node in client.list_nodes(capability=f"example.com/gpu:{name}-a100")] == [name]
    client.add_capability(name, "example.com/gpu", f"{name}-a100", enabled=False)
    assert client.list_nodes(capability=f"example.com/gpu:{name}-a100") == []
    client.remove_capability(name, "example.com/gpu")
    with pytest.raises(NotFound):
        client.remove_capability(name, "example.com/gpu")
    with pytest.raises(InvalidInput, match="key"):
        client.add_capability(name, "../online")


def test_lists_hold_all_pages_and_what_matches(
    client: Driven, name: str, monkeypatch: pytest.MonkeyPatch, server: ServedRegistry
) -> None:
    monkeypatch.setattr(calls, "NODES_PAGE", 2)
    names = [f"{name}-{i}" for i in range(5)]
    for each in names:
        client.ensure_node({"name": each, "labels": {"zone": each[-1], "all": "x=y"}, "role": "edge"})
    assert [node.name for node in client.list_nodes(name=f"{name}-*")] == names
    assert [node.name for node in client.list_nodes(labels={"zone": "3", "all": "x=y"}, name=f"{name}-*")] == names[3:4]
    assert client.list_nodes(name=f"{name}-*", status="online,offline") == []
    assert len(client.list_nodes(role="edge", cluster_type="in_cluster", domain="thunderlink")) >= 5
    assert len(client.list_nodes()) == len(server.registry.list_nodes())


def test_groups_are_made_nested_joined_and_deleted(client: Driven, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "GROUPS_PAGE", 1)
    top, inner = f"{name}@eu:1", f"{name}-inner"
    client.ensure_node({"name": f"{name}@prod:7"})
    group = client.create_group({"name": top, "group_type": "region", "meta": {"k": 1}})
    assert isinstance(group, CountedGroup)
    assert isinstance(group, NodeGroup)
    assert (group.group_type, group.members, client.get_group(top)) == (GroupType.REGION, 0, group)
    client.create_group({"name": inner})
    assert client.update_group(inner, {"parent": top}).parent == top
    assert client.add_to_group(f"{name}@prod:7", inner).groups == (inner,)
    assert [node.name for node in client.list_nodes(group=top)] == [f"{name}@prod:7"]
    assert [each.members for each in client.list_groups(parent=top)] == [1]
    assert {top, inner} <= {each.name for each in client.list_groups()}
    event = client.events(pattern="cluster.group.created").events[-1]
    assert isinstance(event.record, NodeGroup)
    client.remove_from_group(f"{name}@prod:7", inner)
    with pytest.raises(Conflict) as caught:
        client.remove_group(top)
    assert caught.value.code == "group_in_use"
    client.remove_group(top, force=True)
    client.remove_group(inner)
    with pytest.raises(NotFound):
        client.list_nodes(group=top)
    with pytest.raises(InvalidInput, match="group"):
        client.get_group("../nodes")


def test_the_graph_is_typed_and_tells_where_to_watch_from(client: Driven, name: str) -> None:
    client.ensure_node({"name": name})
    client.mark_online(name, {"session_id": name})
    graph = client.graph(include_offline=True)
    (node,) = (node for node in graph.nodes if node.name == name)
    assert [link.session_id for link in graph.links if link.source == node.id] == [name]
    assert graph.cursor == client.cursor()
    assert client.graph(domain="nowhere").nodes == []


def test_pages_of_the_log_lead_through_it(client: Driven, name: str, server: ServedRegistry) -> None:
    before = client.cursor()
    client.ensure_node({"name": name})
    client.heartbeat(name)
    assert before != client.cursor() == server.registry.cursor
    page = client.events(before, limit=1)
    (event,) = page.events
    assert (event.name, event.subject, event.cursor) == ("cluster.node.registered", name, page.next_since)
    assert isinstance(event.record, Node)
    assert event.record.status is NodeStatus.CONNECTING
    assert page.next_since != page.cursor == server.registry.cursor
    rest = client.events(page.next_since, pattern="cluster.link.*")
    assert (rest.events, rest.next_since) == ([], rest.cursor)
    client.deregister(name)
    assert [event.deleted for event in client.events(before).events] == [False, False, True]
    assert len(client.events(before, before=client.cursor()).events) == 2


def test_health_names_the_version(client: Driven) -> None:
    assert client.health().version == thunderline.__version__
    assert client.ready().status == "ready"


@pytest.mark.parametrize("wrong", ["", "a/b", "..", "a b", "a\n", "?", 7])
def test_a_name_that_no_node_can_have_is_not_sent(client: Driven, wrong: Any) -> None:
    for call in (client.get_node, client.deregister, client.heartbeat):
        with pytest.raises(InvalidInput, match="node_id"):
            call(wrong)


@pytest.mark.parametrize("metrics", [{"cpu_load": float("nan")}, {"cpu_load": float("inf")}, {"meta": object()}])
def test_what_json_does_not_have_is_not_sent(client: Driven, metrics: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="body"):
        client.heartbeat("a", metrics=metrics)


def test_a_refused_field_is_named(client: Driven, name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.ensure_node({"name": name, "meta": {}, "colour": "red"})
    assert (caught.value.field, caught.value.code, caught.value.status) == ("colour", "invalid_input", 422)
    with pytest.raises(InvalidRequest, match="minutes"):
        client.recent_heartbeats(minutes=-1)


def test_fields_of_a_newer_server_are_passed_over(kind: str) -> None:
    body = b'{"status": "alive", "version": "9.9", "mood": "fine", "deep": {"er": [1]}}'
    with scripted([(200, "application/json", body)]) as script, driven(kind, script.url) as client:
        assert client.health().version == "9.9"


async def test_a_client_speaks_to_a_server_in_the_same_process_too() -> None:
    async with open_cluster() as cluster:
        transport = httpx.ASGITransport(app=build_app(cluster.registry))
        async with Client(BASE_URL, transport=transport) as client:
            await client.ensure_node({"name": "a"})
            assert [node.name for node in await client.list_nodes()] == ["a"]


async def test_an_absent_store_is_unavailable_and_says_when_to_try_again() -> None:
    async with open_cluster() as cluster:
        transport = httpx.ASGITransport(app=build_app(cluster.registry))
        async with Client(BASE_URL, transport=transport) as client:
            cluster.registry._engine.writer.close()
            with pytest.raises(ServerUnavailable) as caught:
                await client.ensure_node({"name": "a"})
    assert (caught.value.code, caught.value.retryable, caught.value.retry_after_s) == ("shutting_down", True, 1.0)


def test_a_batch_gives_what_became_of_each_item(client: Driven, name: str) -> None:
    results = client.ensure_nodes([{"name": name}, {"name": f"{name}-2", "role": "No Slug"}])
    assert [(result.index, result.status) for result in results] == [(0, 201), (1, 422)]
    assert results[0].node == client.get_node(name)
    assert (results[1].node, results[1].problem.field) == (None, "nodes[1].role")
    beats = client.heartbeats([{"node": name, "seq": 1, "cpu_load": 2.5}, {"node": f"{name}-2"}])
    assert [result.status for result in beats] == [201, 404]
    assert (beats[0].heartbeat.cpu_load, beats[1].problem.code) == (2.5, "unknown_node")


def test_an_atomic_batch_that_is_refused_says_why(client: Driven, name: str) -> None:
    with pytest.raises(BatchRefused) as caught:
        client.ensure_nodes([{"name": name}, {"name": f"{name}-2", "role": "No Slug"}], atomic=True)
    assert [(result.index, result.status) for result in caught.value.results] == [(0, 424), (1, 422)]
    assert caught.value.results[1].problem.field == caught.value.field == "nodes[1].role"
    with pytest.raises(NotFound):
        client.get_node(name)


def test_a_change_of_what_was_read_is_refused_once_it_has_changed(client: Driven, name: str) -> None:
    client.ensure_node({"name": name})
    read = client.get_tagged_node(name)
    assert read.node == client.get_node(name)
    client.update_node(name, {"address": "a"}, if_match=read.tag)
    for change in (
        lambda: client.update_node(name, {"address": "b"}, if_match=read.tag),
        lambda: client.mark_status(name, "degraded", if_match=read.tag),
        lambda: client.mark_offline(name, if_match=read.tag),
        lambda: client.clear_override(name, if_match=read.tag),
        lambda: client.deregister(name, if_match=read.tag),
    ):
        with pytest.raises(PreconditionFailed):
            change()
    client.deregister(name, if_match=client.get_tagged_node(name).tag)


def test_a_call_under_a_key_is_done_once(client: Driven, name: str) -> None:
    first = client.ensure_node({"name": name}, idempotency_key=name)
    client.update_node(name, {"address": "a"})
    assert client.ensure_node({"name": name}, idempotency_key=name) == first
    with pytest.raises(KeyReused):
        client.mark_status(name, "degraded", idempotency_key=name)
    with pytest.raises(InvalidInput):
        client.mark_status(name, "degraded", idempotency_key="a\n")


def test_alerts_are_listed_taken_on_and_silenced(client: Driven, name: str) -> None:
    silence = client.silence_alerts([f"node={name}", "rule~node-*", "zone!=eu-1"], 600, reason="rack move")
    assert [str(matcher) for matcher in silence.matchers] == [f"node={name}", "rule~node-*", "zone!=eu-1"]
    assert (silence.reason, silence.active) == ("rack move", True)
    assert silence in client.list_silences()
    client.unsilence_alerts(silence.id)
    assert silence.id not in {each.id for each in client.list_silences()}
    with pytest.raises(NotFound):
        client.unsilence_alerts(silence.id)
    with pytest.raises(InvalidInput, match="should look like zone=eu-1"):
        client.silence_alerts(["zone"], 600)
    with pytest.raises(InvalidRequest):
        client.silence_alerts([], 600)
    for call in (client.get_alert, client.acknowledge_alert):
        with pytest.raises(NotFound):
            call("0" * 32)
        with pytest.raises(InvalidInput):
            call("silences/../x")
    assert client.list_alerts(node=name, state="firing", silenced=False).alerts == []


async def test_every_alert_is_listed_however_many_pages_that_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "ALERTS_PAGE", 2)
    async with open_cluster(settings=Settings(guard_fraction=1.0)) as cluster, alerting(cluster.registry):
        for node in ("a", "b", "c", "d", "e"):
            await cluster.node(node)
        await lose(cluster, "e")
        await cluster.clock.advance(301 + SETTLE_S)
        await cluster.node("late")
        await lose(cluster, "late")
        async with Client(BASE_URL, transport=cluster.transport) as client:
            listed = await client.list_alerts(severity="critical")
            assert sorted(each.labels["node"] for each in listed.alerts) == ["a", "b", "c", "d", "e"]
            assert [each.labels["node"] for each in listed.pending] == ["late"]
            alert = listed.alerts[0]
            taken = await client.acknowledge_alert(alert.id, "mine", idempotency_key="k")
            assert taken.acknowledged is not None
            assert taken.acknowledged.note == "mine"
            assert await client.get_alert(alert.id) == taken
            assert (await client.list_alerts(acknowledged=True)).alerts == [taken]
            silence = await client.silence_alerts([f"node={alert.labels['node']}"], 60)
            [silenced] = (await client.list_alerts(silenced=True)).alerts
            assert (silenced.id, silenced.silenced_by) == (alert.id, silence.id)
