"""A node's end of a link, and a registry that says what the test says."""

from __future__ import annotations

from thunderline.core.inputs import HeartbeatInput
from thunderline.wire.codec import registry_codec
from thunderline.wire.frames import (
    JSON_SUBPROTOCOL,
    ErrorFrame,
    Hello,
    NodeFrame,
    RegistryFrame,
    Welcome,
)
from thunderline.wire.node_end import (
    LinkEvent,
    NodeEnd,
)

HELLO = Hello(name="worker-1", instance="a")
WELCOME = Welcome(
    node_id="n", session_id="s", secret="x", incarnation=1, interval_ms=10_000, cursor="c", server_time="t"
)


class Pair:
    """A node's end, and a registry that reads what it sends and says what the test says."""

    def __init__(self, *, subprotocol: str = JSON_SUBPROTOCOL, backlog_max: int = 900, greeted: bool = True) -> None:
        self.now = 1000.0
        self.end = NodeEnd(HELLO, backlog_max=backlog_max)
        self.subprotocol = subprotocol
        self.codec = registry_codec(subprotocol)
        self.hello = self.connect()
        if greeted:
            self.say(WELCOME)

    def connect(self) -> Hello:
        hello = self.codec.decode(self.end.connected(self.subprotocol, self.now))
        assert isinstance(hello, Hello)
        return hello

    def say(self, frame: RegistryFrame) -> list[LinkEvent]:
        return self.end.receive(self.codec.encode(frame), self.now)

    def beat(self, **figures: object) -> int:
        return self.end.beat(HeartbeatInput(**figures), self.now)  # type: ignore[arg-type]

    def heard(self) -> list[NodeFrame]:
        """All that the node has to send now."""
        frames = []
        while (data := self.end.next_frame(self.now)) is not None:
            frame = self.codec.decode(data)
            assert frame is not None
            frames.append(frame)
        return frames


def retry(seq: int | None, *, after_ms: int = 2_000, code: str = "store_unavailable") -> ErrorFrame:
    return ErrorFrame(code=code, message="not now", retryable=True, retry_after_ms=after_ms, seq=seq)


def final(code: str, *, seq: int | None = None) -> ErrorFrame:
    return ErrorFrame(code=code, message="no", seq=seq)
