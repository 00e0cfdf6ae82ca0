"""A node that speaks HTTP: each message stands alone, and may overtake another. HTTP itself is not simulated."""

from __future__ import annotations

import asyncio

import msgspec

from thunderline.core.errors import StaleIncarnation, ThunderlineError, UnknownNode
from thunderline.core.inputs import HeartbeatInput
from thunderline.core.records import BeatStatus
from thunderline.link.actor import LOCAL_OPERATOR
from thunderline.link.plans import Kept
from thunderline.link.registry import Registry
from thunderline.testing.simulation.node import SimulatedNode


class HttpNode(SimulatedNode):
    """Announces itself by `/online`, beats by requests, and announces itself again where it is not known."""

    _incarnation = 0

    def announce(self) -> None:
        welcomed, failed = self.reply(self._welcomed), self.reply(self.announce_again)
        attrs = {key: value for key, value in msgspec.to_builtins(self.attrs).items() if value is not None}

        async def take(registry: Registry) -> None:
            try:
                node = await registry.ensure_node(attrs, actor=LOCAL_OPERATOR)
                node = (await registry.mark_online(node.id, instance=self.instance, actor=LOCAL_OPERATOR)).node
            except ThunderlineError:
                failed()
            else:
                welcomed(node.incarnation, node.heartbeat_interval_ms)

        self.send(lambda registry: self.site.work(take(registry)), refused=self.announce_again)

    def _welcomed(self, incarnation: int, interval_ms: int) -> None:
        self._incarnation = incarnation
        self.welcomed(interval_ms / 1000)

    def send_beat(self, seq: int) -> bool:
        beat = HeartbeatInput(seq=seq, incarnation=self._incarnation)
        return self._send(beat)

    def say_goodbye(self, seq: int) -> None:
        self._send(HeartbeatInput(seq=seq, incarnation=self._incarnation, status=BeatStatus.OFFLINE))

    def close(self) -> None:
        pass  # each message has a connection of its own

    def _send(self, beat: HeartbeatInput) -> bool:
        told, unknown = self.reply(self._told), self.reply(self.announce_again)

        def take(registry: Registry) -> None:
            entry = registry.roster.named(self.name)
            if entry is None:
                unknown()
                return
            try:
                kept = registry.domain.update_heartbeat(entry, beat, actor=LOCAL_OPERATOR)
            except StaleIncarnation:
                unknown()
            except ThunderlineError:
                self.tally.refused += 1
            else:
                kept.add_done_callback(answer)

        def answer(kept: asyncio.Future[Kept]) -> None:
            if kept.cancelled():
                return
            error = kept.exception()
            if isinstance(error, UnknownNode | StaleIncarnation):
                unknown()
            elif error is not None:
                self.tally.refused += 1
            elif kept.result().next_interval_ms != round(self.interval_s * 1000):
                told(kept.result().next_interval_ms)

        return self.send(take, refused=self._refused) is not None

    def _told(self, interval_ms: int) -> None:
        self.interval_s = interval_ms / 1000

    def _refused(self) -> None:
        self.tally.refused += 1
