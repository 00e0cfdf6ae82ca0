"""Any frames in any order: an `error` frame or a close, never a traceback, and memory that does not grow."""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Callable
from typing import Any, Final

import msgspec
import pytest

from tests.engines import Opening
from thunderline.block.memory import MemoryStore
from thunderline.core.records import OPEN_SESSION_STATUSES
from thunderline.core.settings import Settings
from thunderline.gate.link_connection import LinkConnection
from thunderline.gate.link_gate import LinkGate
from thunderline.testing.harness import Cluster
from thunderline.wire.frames import JSON_SUBPROTOCOL, MSGPACK_SUBPROTOCOL

SEQUENCES: Final = 10_000
MANY_SEQUENCES: Final = 100_000
NAMES: Final = [f"node-{number}" for number in range(40)]
GROWTH_MAX_BLOCKS: Final = 3_000
"""Blocks of memory more after the last quarter of the run than after the second: a leak of one for each sequence
would show. The history in the store is not counted; it is what was asked for."""

_ODD: Final[list[Any]] = [
    None, True, -1, 0, 1, 2**63, 2**64, 10**400, -0.0, 1e308, "", "x" * 300, "\x00", "\u202e", "online", "🌩", [], {},
    [[]], {"a": {"b": {}}}, [1] * 300, {str(n): n for n in range(100)},
]  # fmt: skip


class Recorder:
    """A peer that takes everything, and knows whether what it was told could be read."""

    def __init__(self, decode: Callable[[bytes], Any]) -> None:
        self._decode = decode
        self.closed = False
        self.welcome: dict[str, Any] | None = None

    def send(self, data: bytes) -> None:
        assert not self.closed, "something was said behind the close"
        frame = self._decode(data)
        if frame["type"] == "welcome":
            self.welcome = frame
        assert frame["type"] in {"welcome", "ack", "interval", "drain", "error"}
        # An internal error would be ours.
        assert frame["type"] != "error" or "server failed" not in frame["message"]

    def close(self, code: int, reason: str) -> None:
        self.closed = True
        assert code == 1000 or 1002 <= code <= 1013 or 4400 <= code < 4600

    def hold(self, held: bool) -> None:
        """What is held would still arrive here; the gate must cope."""


class Fuzzer:
    """Sequences of frames, most of them nearly right, from one seed."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.resumes: list[dict[str, str]] = []

    def frame(self) -> dict[str, Any]:
        """A well-formed frame of any type."""
        rng = self.rng
        seq = rng.choice([rng.randrange(20), rng.randrange(5_000), 2**63 - 1])
        beat = {"seq": seq, "status": rng.choice(["online", "online", "degraded", "offline"]), "cpu_load": rng.random()}
        return rng.choice([
            {"type": "hb", **beat, "peers": {rng.choice(NAMES): None}},
            {"type": "hb", "seq": seq, "incarnation": rng.randrange(4)},
            {"type": "backlog", "beats": [{**beat, "age_ms": rng.randrange(10**7)} for _ in range(rng.randrange(5))]},
            {"type": "links", "sessions": [{"session_id": "s", "remote": rng.choice(NAMES)}]},
            {"type": "bye"},
            {"type": "bye", "reason": "fuzz"},
            {"type": "news", "of": "the day"},
            self.hello(),
        ])  # fmt: skip

    def hello(self) -> dict[str, Any]:
        """A hello of few names and processes, so that they meet."""
        rng = self.rng
        hello: dict[str, Any] = {"type": "hello", "name": rng.choice(NAMES), "instance": f"i{rng.randrange(6)}"}
        if self.resumes and rng.random() < 0.3:
            hello["resume"] = rng.choice(self.resumes[-20:])
        if rng.random() < 0.1:
            hello["role"] = rng.choice(["worker", "edge"])
        return hello

    def spoil(self, frame: dict[str, Any]) -> dict[str, Any]:
        """The frame with one thing wrong, or odd."""
        rng = self.rng
        spoilt = dict(frame)
        key = rng.choice([*spoilt, "extra"])
        if rng.random() < 0.3:
            spoilt.pop(key, None)
        else:
            spoilt[key] = rng.choice(_ODD)
        return spoilt

    def message(self, encode: Callable[[Any], bytes]) -> bytes:
        """One message: a frame, a spoilt one, a cut one, or noise."""
        rng = self.rng
        chance = rng.random()
        if chance < 0.05:
            return rng.randbytes(rng.randrange(60))
        try:
            data = encode(self.frame() if chance < 0.7 else self.spoil(self.frame()))
        except (OverflowError, msgspec.EncodeError):
            return b""  # MessagePack has no such number
        if chance > 0.95:
            at = rng.randrange(len(data))
            return data[:at] + rng.randbytes(1) + data[at + 1 :] if rng.random() < 0.5 else data[:at]
        return data


async def sequence(cluster: Cluster, gate: LinkGate, fuzzer: Fuzzer) -> None:
    """One connection: mostly a hello, then a few messages, then an end of one kind or another."""
    rng = fuzzer.rng
    subprotocol = rng.choice([JSON_SUBPROTOCOL, MSGPACK_SUBPROTOCOL])
    form = msgspec.json if subprotocol == JSON_SUBPROTOCOL else msgspec.msgpack
    peer = Recorder(form.decode)
    link = LinkConnection(gate, peer, subprotocol=subprotocol, address=None)
    if rng.random() < 0.8:
        link.received(form.encode(fuzzer.hello()))
        if rng.random() < 0.9:
            await cluster.turn(rng.choice([0, 0, 0.01]))
    for _ in range(rng.randrange(7)):
        link.received(fuzzer.message(form.encode))
    await cluster.turn(rng.choices([0, 0.2, 3, 40], [50, 20, 5, 0.5])[0])
    if peer.welcome is not None:
        fuzzer.resumes = [*fuzzer.resumes[-20:], {key: peer.welcome[key] for key in ("session_id", "secret")}]
    link.lost()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("sequences", [SEQUENCES, pytest.param(MANY_SEQUENCES, marks=pytest.mark.slow)])
async def test_any_frames_in_any_order_are_answered_with_errors_and_closes_and_memory_stays_flat(
    open_cluster: Opening, caplog: pytest.LogCaptureFixture, sequences: int
) -> None:
    caplog.set_level("ERROR")
    fuzzer = Fuzzer(random.Random(7))
    sizes = []
    async with open_cluster(settings=Settings(link_frames_per_second=1000, guard_fraction=1)) as cluster:
        gate = LinkGate(cluster.registry)
        gate.start()
        for _ in range(4):
            for _ in range(sequences // 4):
                await sequence(cluster, gate, fuzzer)
            await cluster.turn(100)
            assert (len(gate), len(cluster.registry.uplinks)) == (0, 0)
            assert not cluster.registry.roster.held
            _forget_history(cluster)
            gc.collect()
            sizes.append(sys.getallocatedblocks())
        assert {node.name for node in cluster.registry.list_nodes()} <= set(NAMES)
        assert len(cluster.registry.list_nodes()) == len(NAMES)
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []
    # In the first quarter windows and wheels still fill.
    assert sizes[3] - sizes[1] < GROWTH_MAX_BLOCKS, sizes


def _forget_history(cluster: Cluster) -> None:
    """Drop what a store on a disk would not keep in memory: log, history, closed sessions, the harness's own record."""
    cluster.store.commits.clear()
    if not isinstance(cluster.store.inner, MemoryStore):
        return
    inner: Any = cluster.store.inner
    del inner._events[:-1], inner._commit_ends[:]
    inner._blocks.clear()
    for id_, session in list(inner._sessions.items()):
        if session.status not in OPEN_SESSION_STATUSES:
            del inner._sessions[id_], inner._session_ids[session.session_id]
