"""`links` frames: sessions between nodes, as a node reports them over its link."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gate.links import Links, Node
from thunderline.core.records import LinkSession
from thunderline.testing.harness import Cluster


@pytest.fixture
async def links(cluster: Cluster) -> Links:
    return Links(cluster)


async def report(links: Links, node: Node, *seen: dict[str, Any]) -> None:
    node.say("links", sessions=list(seen))
    await links.settle()


def between(links: Links) -> dict[str, LinkSession]:
    """The open sessions between nodes."""
    return {s.session_id: s for s in links.cluster.registry.roster.sessions if s.remote_node_id is not None}


async def kept(links: Links, session_id: str) -> tuple[str, str]:
    session = await links.cluster.registry.get_link_session(session_id)
    return session.status.value, session.status_reason


TUNNEL = {"session_id": "tunnel", "remote": "b", "connection_type": "quic", "latency_ms": 4.0}


async def test_a_reported_session_is_opened_and_shows_in_the_graph(links: Links) -> None:
    a, _ = await links.open("a"), await links.open("b")
    await report(links, a, TUNNEL)
    registry = links.cluster.registry
    session = between(links)["tunnel"]
    assert session.ends == (registry.get_node("a").id, registry.get_node("b").id)
    assert (session.status, session.connection_type, session.latency_ms) == ("established", "quic", 4.0)
    assert session.holder == f"link:{a.welcome['session_id']}"
    assert "tunnel" in [link.session_id for link in registry.graph().links]
    assert "links" in a.welcome["features"]


async def test_the_same_report_again_writes_nothing(links: Links) -> None:
    a, _ = await links.open("a"), await links.open("b")
    await report(links, a, TUNNEL)
    revision = links.cluster.registry.roster.revision
    await report(links, a, {**TUNNEL, "latency_ms": 4.5})
    assert links.cluster.registry.roster.revision == revision
    await report(links, a, {**TUNNEL, "latency_ms": 9.0, "status": "degraded"})
    session = between(links)["tunnel"]
    assert (session.latency_ms, session.status, session.status_reason) == (9.0, "degraded", "reported")


async def test_what_is_reported_no_more_is_closed_and_may_come_back(links: Links) -> None:
    a, _ = await links.open("a"), await links.open("b")
    await report(links, a, TUNNEL, {"session_id": "other", "remote": "b"})
    await report(links, a, {"session_id": "other", "remote": "b"}, {**TUNNEL, "status": "closed"})
    assert list(between(links)) == ["other"]
    assert await kept(links, "tunnel") == ("closed", "not_reported")
    await report(links, a, TUNNEL)
    assert await kept(links, "tunnel") == ("established", "reported")
    assert await kept(links, "other") == ("closed", "not_reported")


async def test_sessions_that_others_opened_are_left_as_they_are(links: Links) -> None:
    a, b = await links.open("a"), await links.open("b")
    await links.cluster.registry.establish_link_session("a", "b", {"session_id": "by-hand", "latency_ms": 1.0})
    await report(links, b, {"session_id": "of-b", "remote": "a"})
    await report(links, a, {"session_id": "by-hand", "remote": "b", "latency_ms": 50.0})
    await report(links, a)
    assert {name: session.latency_ms for name, session in between(links).items()} == {"by-hand": 1.0, "of-b": None}


async def test_a_session_with_a_node_that_is_not_there_waits_for_it(links: Links) -> None:
    a = await links.open("a")
    await report(links, a, TUNNEL, {"session_id": "self", "remote": "a"}, {"session_id": "x/../y", "remote": "a"})
    assert between(links) == {}
    await links.open("b")
    await report(links, a, TUNNEL)
    assert list(between(links)) == ["tunnel"]
    assert a.of("error") == []


async def test_what_was_reported_ends_with_its_link(links: Links) -> None:
    a, _ = await links.open("a"), await links.open("b")
    await report(links, a, TUNNEL)
    a.say("bye")
    await links.settle()
    assert await kept(links, "tunnel") == ("closed", "node_left")
    again = await links.open("a")
    await report(links, again, TUNNEL)
    await links.open("a", instance="b")
    assert await kept(links, "tunnel") == ("closed", "superseded")


async def test_what_was_reported_survives_a_link_that_is_resumed_and_not_one_that_is_lost(links: Links) -> None:
    a, _ = await links.open("a"), await links.open("b")
    await report(links, a, TUNNEL)
    resume = a.resume
    a.cut()
    resumed = await links.open("a", resume=resume)
    assert list(between(links)) == ["tunnel"]
    resumed.cut()
    await links.cluster.turn(6)
    await links.settle()
    assert await kept(links, "tunnel") == ("degraded", "node_disconnected")
    await links.open("a")
    assert await kept(links, "tunnel") == ("closed", "link_lost")


async def test_a_far_end_that_returns_has_its_sessions_back(links: Links) -> None:
    a, b = await links.open("a"), await links.open("b")
    await report(links, a, TUNNEL)
    b.cut()
    await links.cluster.turn(6)
    a.say("hb", seq=1)
    await links.settle()
    assert await kept(links, "tunnel") == ("degraded", "node_disconnected")
    await links.open("b")
    assert await kept(links, "tunnel") == ("established", "node_returned")


async def test_deregistering_a_node_ends_each_of_its_sessions_once(links: Links) -> None:
    a, _ = await links.open("a"), await links.open("b")
    await report(links, a, TUNNEL)
    events: list[str] = [event.name for batch in links.cluster.store.commits for event in batch.events]
    await links.cluster.registry.deregister("a", force=True)
    assert between(links) == {}
    after = [event.name for batch in links.cluster.store.commits for event in batch.events][len(events) :]
    assert sorted(after) == ["cluster.link.closed", "cluster.link.closed", "cluster.node.deregistered"]
