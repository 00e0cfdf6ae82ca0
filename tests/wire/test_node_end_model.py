"""The node's end against anything at all: whatever comes, whenever it breaks off, no beat goes unaccounted for."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from tests.wire.pairs import WELCOME, Pair, final, retry
from thunderline.wire.frames import (
    JSON_SUBPROTOCOL,
    MSGPACK_SUBPROTOCOL,
    SUBPROTOCOLS,
    Ack,
    Backlog,
    Beat,
    Drain,
    ErrorFrame,
    Interval,
    NodeFrame,
    RegistryFrame,
    Welcome,
)
from thunderline.wire.node_end import (
    Acked,
    BeatRefused,
    LinkEvent,
)

FRAMES = st.one_of(
    st.builds(Ack, seq=st.integers(-2, 12)),
    st.builds(Interval, interval_ms=st.sampled_from([0, 100, 5_000, 10**9])),
    st.builds(Drain, reconnect_within_ms=st.integers(-5, 10_000)),
    st.builds(
        ErrorFrame,
        code=st.sampled_from(["superseded", "session_ended", "overloaded", ""]),
        message=st.just("m"),
        retryable=st.booleans(),
        retry_after_ms=st.none() | st.integers(-10, 5_000),
        seq=st.none() | st.integers(-1, 12),
    ),
    st.builds(
        Welcome,
        node_id=st.text(max_size=3),
        session_id=st.sampled_from(["s", "", "\n"]),
        secret=st.sampled_from(["x", "y" * 300]),
        incarnation=st.integers(-1, 3),
        interval_ms=st.sampled_from([0, 100, 60_000]),
        cursor=st.just("c"),
        server_time=st.just("t"),
        resumed=st.booleans(),
    ),
)
HAPPENINGS = st.lists(
    st.one_of(
        st.tuples(st.just("frame"), FRAMES),
        st.tuples(st.just("welcome"), st.none()),
        st.tuples(st.just("bytes"), st.binary(max_size=40)),
        st.tuples(st.just("beat"), st.none()),
        st.tuples(st.just("send"), st.integers(1, 4)),
        st.tuples(st.just("wait"), st.floats(0, 5_000)),
        st.tuples(st.just("lost"), st.none()),
        st.tuples(st.just("connected"), st.none()),
        st.tuples(st.just("bye"), st.none()),
    ),
    max_size=60,
)


@given(happenings=HAPPENINGS, subprotocol=st.sampled_from(SUBPROTOCOLS))
def test_no_order_of_frames_raises_or_loses_a_beat(happenings: list[tuple[str, object]], subprotocol: str) -> None:
    pair = Pair(subprotocol=subprotocol, backlog_max=6, greeted=False)
    end, taken, settled = pair.end, 0, set[int]()
    for what, given_value in happenings:
        events: list[LinkEvent] = []
        match what:
            case "frame":
                events = pair.say(given_value)  # type: ignore[arg-type]
            case "welcome":
                events = pair.say(WELCOME)
            case "bytes":
                events = end.receive(given_value, pair.now)  # type: ignore[arg-type]
            case "beat":
                taken += 1
                assert pair.beat() == taken
            case "send":
                for _ in range(given_value):  # type: ignore[call-overload]
                    data = end.next_frame(pair.now)
                    assert data is None or isinstance(pair.codec.decode(data), NodeFrame)
            case "wait":
                pair.now += given_value  # type: ignore[operator]
            case "lost":
                end.lost(pair.now)
            case "connected":
                end.lost(pair.now)
                pair.connect()
            case "bye":
                end.bye(None)
        for event in events:
            seqs = event.seqs if isinstance(event, Acked) else (event.seq,) if isinstance(event, BeatRefused) else ()
            assert settled.isdisjoint(seqs)
            settled.update(seqs)
        # Every beat is in exactly one place: settled by the registry, counted as dropped, or still kept.
        assert len(settled) + end.backlog.dropped + len(end.backlog) == taken
        assert len(end.backlog) <= 6


@given(data=st.binary(max_size=200), subprotocol=st.sampled_from(SUBPROTOCOLS))
def test_no_bytes_raise(data: bytes, subprotocol: str) -> None:
    pair = Pair(subprotocol=subprotocol)
    pair.end.receive(data, pair.now)
    pair.end.lost(pair.now)


class ModelRegistry:
    """A registry over a channel that breaks: what it keeps, refuses for now or for good is a matter of chance."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.kept: set[int] = set()
        self.refused: set[int] = set()
        self.healthy = False
        self.connected()

    def connected(self) -> None:
        self.carried: list[int] = []
        self.postponed: set[int] = set()
        self.on_disk: list[int] = []

    def hear(self, frame: NodeFrame) -> list[RegistryFrame]:
        seqs = [frame.seq] if isinstance(frame, Beat) else []
        if isinstance(frame, Backlog):
            seqs = [beat.seq for beat in frame.beats]
        said: list[RegistryFrame] = []
        for seq in seqs:
            assert not self.carried or seq > max(self.carried) or seq in self.postponed, "out of order"
            self.carried.append(seq)
            self.postponed.discard(seq)
            chance = 1.0 if self.healthy else self.rng.random()
            if chance < 0.2:
                self.postponed.add(seq)
                said.append(retry(seq, after_ms=self.rng.randint(0, 500)))
            elif chance < 0.25 and seq not in self.kept:
                self.refused.add(seq)
                said.append(final("invalid_input", seq=seq))
            else:
                self.on_disk.append(seq)
        return said

    def commit(self) -> list[RegistryFrame]:
        """Make durable what came so far, and tell how far that goes."""
        self.kept.update(self.on_disk)
        self.on_disk.clear()
        if not self.carried:
            return []
        barrier = min(self.postponed, default=max(self.carried) + 1)
        return [Ack(seq=min(barrier - 1, max(self.carried)))]


@given(seed=st.integers(0, 2**32), subprotocol=st.sampled_from((JSON_SUBPROTOCOL, MSGPACK_SUBPROTOCOL)))
def test_over_a_lossy_channel_acknowledged_means_kept_and_every_beat_is_accounted_for(
    seed: int, subprotocol: str
) -> None:
    rng = random.Random(seed)
    pair = Pair(subprotocol=subprotocol, backlog_max=20)
    registry = ModelRegistry(rng)
    acked: set[int] = set()
    refused: set[int] = set()
    down: list[RegistryFrame] = []

    def step() -> None:
        match rng.choice(("beat", "beat", "send", "send", "commit", "down", "down", "wait", "break")):
            case "beat":
                pair.beat()
            case "send":
                for frame in pair.heard():
                    down.extend(registry.hear(frame))
            case "commit":
                down.extend(registry.commit())
            case "down":
                deliver(len(down))
            case "wait":
                pair.now += rng.random()
            case "break":
                if not registry.healthy and rng.random() < 0.3:
                    deliver(rng.randint(0, len(down)))
                    registry.commit()
                    pair.end.lost(pair.now)
                    down.clear()
                    registry.connected()
                    pair.connect()
                    pair.say(WELCOME)

    def deliver(count: int) -> None:
        for frame in down[:count]:
            for event in pair.say(frame):
                if isinstance(event, Acked):
                    assert set(event.seqs) <= registry.kept | registry.refused, "acknowledged but not kept"
                    acked.update(event.seqs)
                elif isinstance(event, BeatRefused):
                    refused.add(event.seq)
        del down[:count]

    for _ in range(300):
        step()
    registry.healthy = True
    for _ in range(200):
        pair.now += 1
        for frame in pair.heard():
            down.extend(registry.hear(frame))
        down.extend(registry.commit())
        deliver(len(down))
    end = pair.end
    assert len(end.backlog) == 0
    assert len(acked) + len(refused) + end.backlog.dropped == end.last_seq
    assert acked.isdisjoint(refused)
