"""The agent in one process with a registry: figures, peers, goodbye."""

from __future__ import annotations

import asyncio
import random

import pytest

from thunderline.agent.agent import Agent, AgentOptions
from thunderline.agent.peers import Peer
from thunderline.client.link import Link
from thunderline.client.link_errors import LinkDeregistered
from thunderline.core.errors import InvalidInput
from thunderline.testing import MemoryTransport
from thunderline.testing.harness import Cluster, open_cluster


def agent_of(cluster: Cluster, **options: object) -> Agent:
    return Agent(
        AgentOptions(server="http://cluster", **{"name": "box-1", **options}),  # type: ignore[arg-type]
        clock=cluster.clock,
        rng=random.Random(1),
        transport=MemoryTransport(cluster.registry),
    )


async def test_an_agent_reports_its_machine_and_leaves_when_it_is_cancelled() -> None:
    async with open_cluster() as cluster:
        linked: list[Link] = []
        agent = agent_of(cluster, labels={"zone": "eu-1"})
        running = asyncio.create_task(agent.run(announce=linked.append))
        await cluster.turn(25, step_s=0.1)
        assert [link.name for link in linked] == ["box-1"]
        beat = cluster.registry.presence(linked[0].node_id).last_heartbeat
        assert beat is not None
        assert beat.cpu_load is not None
        assert beat.mem_used_mb is not None
        assert beat.latency_ms is not None
        assert cluster.registry.get_node("box-1").labels == {"zone": "eu-1"}
        running.cancel()
        await asyncio.wait([running])
        node = cluster.registry.get_node("box-1")
        assert (node.status, node.status_reason) == ("offline", "goodbye")


async def test_peers_are_in_the_beats_and_never_delay_them() -> None:
    async with open_cluster() as cluster:
        agent = agent_of(cluster, peers={"box-2": Peer("127.0.0.1", 1)})
        running = asyncio.create_task(agent.run(announce=lambda link: None))
        await cluster.turn(1, step_s=0.1)
        beats = [await agent.figures()]
        while not beats[-1]["peers"]:
            await asyncio.sleep(0)
            beats.append(await agent.figures())
        assert beats[-1]["peers"] == {"box-2": None}
        running.cancel()
        await asyncio.wait([running])


async def test_an_agent_whose_node_is_removed_ends_with_the_reason() -> None:
    async with open_cluster() as cluster:
        agent = agent_of(cluster)
        running = asyncio.create_task(agent.run(announce=lambda link: None))
        await cluster.turn(1, step_s=0.1)
        (await cluster.http.delete("/api/nodes/box-1?force=true")).raise_for_status()
        await cluster.turn(1, step_s=0.1)
        with pytest.raises(LinkDeregistered):
            await running


def test_options_that_cannot_be_are_refused_before_anything_runs() -> None:
    with pytest.raises(InvalidInput) as error:
        Agent(AgentOptions(server="http://127.0.0.1:4040", name="not a name"))
    assert error.value.field == "name"
