"""No order, duplication or replay of messages undoes newer state: a model of one node beside a real registry."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from thunderline.core.errors import StaleIncarnation, Superseded
from thunderline.core.records import BeatStatus, NodeStatus
from thunderline.core.settings import Settings
from thunderline.link.liveness import Signal, has_left, is_up, observe
from thunderline.testing.harness import Cluster, open_cluster

SILENCE_S = 31.0
PATIENT = Settings(offline_after_s=86_400)
"""Whom nobody gives up is disconnected at most: so much is up to the table."""
BEAT_SIGNALS = {
    BeatStatus.ONLINE: Signal.BEAT,
    BeatStatus.DEGRADED: Signal.BEAT_DEGRADED,
    BeatStatus.OFFLINE: Signal.GOODBYE,
}


@dataclass(frozen=True)
class Announce:
    process: int


@dataclass(frozen=True)
class Beat:
    process: int
    seq: int
    status: BeatStatus


@dataclass(frozen=True)
class Silence:
    pass


Message = Announce | Beat | Silence

PROCESSES = st.integers(1, 3)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Announce, PROCESSES),
    # One status for each number of a process: what comes again is the same message again.
    st.builds(Beat, PROCESSES, st.integers(1, 6), st.sampled_from(BeatStatus)),
    st.just(Silence()),
)


@dataclass
class Model:
    """What the node should be, by the newest that is known of it. Processes are numbered as they really came."""

    process: int = 0
    observed: tuple[NodeStatus, str] = (NodeStatus.CONNECTING, "registered")
    high: int = 0
    taken: set[int] = field(default_factory=set)

    def takes(self, message: Message) -> bool:
        """Whether the registry should take it; what it should make of the node is done."""
        match message:
            case Silence():
                if is_up(self.observed[0]):
                    self.observed = observe(*self.observed, Signal.SILENT)
                return True
            case Announce(process):
                if process < self.process:
                    return False
                if process > self.process:
                    was_up, is_first = is_up(self.observed[0]), self.process == 0
                    self.process, self.high, self.taken = process, 0, set()
                    if was_up and not is_first:
                        self.observed = (self.observed[0], "restarted")
                self.observed = observe(*self.observed, Signal.ANNOUNCED)
                return True
            case Beat(process, seq, status):
                if process != max(self.process, 1):
                    return False
                is_news = seq > self.high
                self.high, self.taken = max(self.high, seq), self.taken | {seq}
                signal = BEAT_SIGNALS[status]
                if is_news or (not is_up(self.observed[0]) and signal is not Signal.GOODBYE):
                    self.observed = observe(*self.observed, signal)
                return True


async def deliver(cluster: Cluster, message: Message) -> bool:
    """Whether the registry took it."""
    try:
        match message:
            case Silence():
                await cluster.clock.advance(SILENCE_S)
            case Announce(process):
                await cluster.registry.mark_online("a", instance=f"process-{process}")
            case Beat(process, seq, status):
                await cluster.registry.heartbeat("a", status, {"seq": seq, "incarnation": process})
    except (StaleIncarnation, Superseded):
        return False
    return True


def one_status_each(messages: list[Message]) -> list[Message]:
    """The same, with what has the number of an earlier beat being that beat again."""
    known: dict[tuple[int, int], Beat] = {}
    return [
        known.setdefault((message.process, message.seq), message) if isinstance(message, Beat) else message
        for message in messages
    ]


def in_order_of_processes(messages: list[Message]) -> list[Message]:
    """The same, with each process announced for the first time behind the one before it, as it really came."""
    newest, found = 0, []
    for message in messages:
        if isinstance(message, Announce) and message.process > newest + 1:
            continue
        if isinstance(message, Announce):
            newest = max(newest, message.process)
        found.append(message)
    return found


@given(st.lists(MESSAGES, max_size=25).map(one_status_each).map(in_order_of_processes))
def test_any_order_duplication_and_replay_leaves_what_the_newest_message_says(messages: list[Message]) -> None:
    async def live() -> None:
        async with open_cluster(settings=PATIENT) as cluster:
            await cluster.registry.ensure_node({"name": "a"})
            model = Model()
            for message in messages:
                before = cluster.registry.get_node("a")
                wanted = model.takes(message)
                assert await deliver(cluster, message) == wanted
                node = cluster.registry.get_node("a")
                assert (node.observed_status, node.observed_reason) == model.observed
                assert node.incarnation == max(model.process, 1)
                if not wanted:
                    assert node == before
            # From wherever this led to, the present process finds its way back.
            await cluster.registry.mark_online("a", instance=f"process-{max(model.process, 1)}")
            assert cluster.registry.get_node("a").status in ("online", "degraded")
            assert not has_left(*model.observed) or cluster.registry.get_node("a").status == "online"

    asyncio.run(live())


@given(st.permutations(range(1, 7)), st.lists(st.sampled_from(["online", "degraded"]), min_size=6, max_size=6))
def test_beats_of_one_batch_leave_what_the_last_of_them_says_in_whatever_order_they_came(
    order: list[int], statuses: list[str]
) -> None:
    async def live() -> None:
        async with open_cluster() as cluster:
            await cluster.node("a")
            await asyncio.gather(
                *(
                    cluster.registry.heartbeat("a", statuses[number - 1], {"seq": 10 + number, "incarnation": 1})
                    for number in order
                )
            )
            assert cluster.registry.get_node("a").observed_status == statuses[-1]
            last = cluster.registry.presence("a").last_heartbeat
            assert last is not None
            assert last.seq == 16

    asyncio.run(live())
