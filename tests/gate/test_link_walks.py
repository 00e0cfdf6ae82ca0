"""Random walks of nodes that come and go: whatever happens, sessions, links and statuses fit together."""

from __future__ import annotations

import random
from typing import Final

import pytest

from tests.engines import Opening
from tests.gate.links import Links, Node
from thunderline.core.records import OPEN_SESSION_STATUSES, NodeStatus, SessionStatus
from thunderline.link.liveness import is_up

NAMES: Final = ("a", "b", "c")
STEPS: Final = 60


class Walk:
    """One walk: a few names, processes that speak for them, and what each was told."""

    def __init__(self, links: Links, rng: random.Random) -> None:
        self.links = links
        self.rng = rng
        self.open: list[Node] = []
        self.resumes: list[tuple[str, str, dict[str, str]]] = []
        self.seq = 0
        self.told: set[tuple[str, int, int]] = set()
        """(node id, incarnation, number) that was acknowledged."""
        self.sent: dict[Node, list[int]] = {}

    async def step(self) -> None:
        """Do one thing, and let what follows from it happen."""
        rng = self.rng
        action = rng.choice(
            [self.join, self.join, self.rejoin, self.blink, self.blink, self.cut, self.beat, self.beat, self.beat,
             self.late, self.bye, self.http_beat, self.http_online, self.deregister, self.patch, self.turn, self.turn,
             self.store]
        )  # fmt: skip
        await action()
        await self.links.settle()
        for node in [node for node in self.open if node.closed is not None]:
            self.note(node)
            node.cut()
            self.open.remove(node)

    def note(self, node: Node) -> None:
        """Write down what the node was told is durable."""
        if node.of("welcome") and node.acked is not None:
            refused = {
                error["seq"] for error in node.of("error") if error["seq"] is not None and not error["retryable"]
            }
            who = node.welcome["node_id"], node.welcome["incarnation"]
            self.told |= {(*who, seq) for seq in self.sent.get(node, []) if seq <= node.acked and seq not in refused}

    async def join(self) -> None:
        name, instance = self.rng.choice(NAMES), self.rng.choice("xyz")
        self.open.append(await self.links.open(name, instance))
        self.remember(self.open[-1], name, instance)

    async def rejoin(self) -> None:
        if self.resumes:
            name, instance, resume = self.rng.choice(self.resumes[-4:])
            self.open.append(await self.links.open(name, instance, resume=resume))
            self.remember(self.open[-1], name, instance)

    async def blink(self) -> None:
        """Lose a connection and come back, in time or not, and not always alone."""
        if (node := self.speaker()) is None:
            return
        name, instance = node.link.entry.node.name, node.link.instance
        if self.rng.random() < 0.7:
            self.open.remove(node)
            self.note(node)
            node.cut()
        await self.links.cluster.turn(self.rng.choice([0, 1, 4.8, 5, 5.2]))
        self.open.append(await self.links.open(name, instance, resume=node.resume))
        self.remember(self.open[-1], name, instance)

    def remember(self, node: Node, name: str, instance: str) -> None:
        if node.of("welcome"):
            self.resumes.append((name, instance, node.resume))

    async def cut(self) -> None:
        if self.open:
            node = self.open.pop(self.rng.randrange(len(self.open)))
            self.note(node)
            node.cut()

    async def beat(self) -> None:
        if node := self.speaker():
            for _ in range(self.rng.randrange(1, 4)):
                self.seq += 1
                self.sent.setdefault(node, []).append(self.seq)
                node.say("hb", seq=self.seq, status=self.rng.choice(["online", "online", "degraded"]))

    async def late(self) -> None:
        if node := self.speaker():
            self.seq += 1
            self.sent.setdefault(node, []).append(self.seq)
            node.say("backlog", beats=[{"seq": self.seq, "age_ms": self.rng.randrange(5_000)}])

    async def bye(self) -> None:
        if node := self.speaker():
            node.say("bye")

    def speaker(self) -> Node | None:
        able = [node for node in self.open if node.of("welcome") and node.closed is None]
        return self.rng.choice(able) if able else None

    async def http_beat(self) -> None:
        await self.links.cluster.http.post(f"/api/nodes/{self.rng.choice(NAMES)}/heartbeats", json={})

    async def http_online(self) -> None:
        await self.links.cluster.http.post(
            f"/api/nodes/{self.rng.choice(NAMES)}/online", json={"instance": self.rng.choice("xyzw")}
        )

    async def deregister(self) -> None:
        if self.rng.random() < 0.3:
            await self.links.cluster.http.delete(f"/api/nodes/{self.rng.choice(NAMES)}?force=true")

    async def patch(self) -> None:
        body = {"heartbeat_interval_ms": self.rng.choice([1_000, 10_000])}
        await self.links.cluster.http.patch(f"/api/nodes/{self.rng.choice(NAMES)}", json=body)

    async def turn(self) -> None:
        await self.links.cluster.turn(self.rng.choice([0.2, 1, 4, 6, 35, 100]))

    async def store(self) -> None:
        store = self.links.cluster.store
        store.away = not store.away and self.rng.random() < 0.5
        await self.links.cluster.turn(3)

    def check(self) -> None:
        """What must hold whenever nothing is under way."""
        registry = self.links.cluster.registry
        live = {node.link.session_id: node for node in self.open if node.of("welcome") and node.closed is None}
        assert len(registry.uplinks) == len(live)
        for session_id, node in live.items():
            session = registry.roster.sessions.named(session_id)
            assert session is not None, "a link without a session"
            record = registry.get_node(session.node_id)
            assert node.link.incarnation == record.incarnation, "a link of a former process"
            assert session_id in registry.roster.held
            assert record.observed_reason != "link_lost", "a node that is linked counts as cut off"
        for entry in registry.roster:
            for session in entry.sessions.values():
                assert session.status in OPEN_SESSION_STATUSES
                connected = session.session_id in registry.roster.held
                if is_up(entry.node.observed_status):
                    assert connected, "a session without a connection outlives its grace"
                    assert session.status is SessionStatus.ESTABLISHED
                else:
                    assert session.status is SessionStatus.DEGRADED
            if entry.node.observed_status is NodeStatus.OFFLINE:
                assert not entry.sessions

    async def finish(self) -> None:
        """Bring the store back, cut everything, and see that nobody stays up who is not there."""
        cluster = self.links.cluster
        cluster.store.away = False
        await cluster.turn(5)
        for node in self.open:
            self.note(node)
            node.cut()
        await cluster.turn(120)
        assert {node.observed_status for node in cluster.registry.list_nodes()} <= {NodeStatus.OFFLINE}
        assert not cluster.registry.roster.held
        history = await cluster.registry.recent_heartbeats(minutes=600)
        kept = [(beat.node_id, beat.incarnation, beat.seq) for beat in history if beat.seq is not None]
        assert len(kept) == len(set(kept)), "a beat was kept twice"
        assert self.told <= set(kept), "an acknowledged beat is not there"


@pytest.mark.parametrize("seed", range(60))
async def test_sessions_links_and_statuses_fit_together_whatever_happens(open_cluster: Opening, seed: int) -> None:
    async with open_cluster(seed=seed) as cluster:
        walk = Walk(Links(cluster), random.Random(seed))
        for _ in range(STEPS):
            await walk.step()
            if not cluster.store.away:
                walk.check()
        await walk.finish()
