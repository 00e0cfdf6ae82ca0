"""Figures that are in no log, as conditions of the rules over them: read now and then, in short steps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, assert_never

from thunderline.core.access import Token, TokenKind
from thunderline.core.clock import from_ms
from thunderline.core.records import NodeGroup
from thunderline.link.liveness import is_up
from thunderline.link.registry import Registry
from thunderline.prism.alerts.conditions import node_labels, place_of
from thunderline.prism.alerts.machine import Condition
from thunderline.prism.alerts.rules import Kind, Rule

STEP: Final = 2_000
"""Nodes that are looked at before everybody else has a turn."""

PAUSE_S: Final = 0.01
"""How long that turn is. Of 100,000 nodes a reading takes some 25 ms: in one go, if with turns of no length in between,
it would hold up whatever else was asked for just then by as much."""

CONFLICT_S: Final = 60.0
"""A newcomer that was refused its name within so long counts: it tries again in less."""

_REGISTRY: Final = "registry"


class Readings:
    """Reads the figures of one registry. `certificate_expires_at` tells of that of its port, where it has one."""

    def __init__(
        self, registry: Registry, *, certificate_expires_at: Callable[[], datetime | None] | None = None
    ) -> None:
        self._registry = registry
        self._certificate_expires_at = certificate_expires_at

    async def read(self, rule: Rule) -> list[Condition]:
        """What of this rule holds at present."""
        match rule.kind:
            case Kind.NAME_CONFLICT:
                return self._name_conflicts(rule)
            case Kind.BEAT_LATENCY:
                return await self._slow_nodes(rule)
            case Kind.STORE_SLOW:
                return self._slow_store(rule)
            case Kind.STORE_AWAY:
                return self._absent_store()
            case Kind.HISTORY_SHORT:
                return self._short_history(rule)
            case Kind.TOKEN_EXPIRING:
                return self._expiring_tokens(rule)
            case Kind.CERTIFICATE_EXPIRING:
                return self._expiring_certificate(rule)
            case (
                Kind.NODE_OFFLINE | Kind.GUARD_ENGAGED | Kind.CAPACITY_EXCEEDED | Kind.FLAPPING | Kind.CONNECTION_CHURN
            ):
                raise AssertionError(f"{rule.kind} is judged by the log")
            case _:
                assert_never(rule.kind)

    @property
    def _now_ms(self) -> int:
        return self._registry.clock.now_ms()

    def _groups(self) -> dict[str, NodeGroup]:
        return {group.name: group for group in self._registry.list_groups()}

    def _name_conflicts(self, rule: Rule) -> list[Condition]:
        roster, groups, now_ms = self._registry.roster, self._groups(), self._now_ms
        found = []
        for node_id in self._registry.uplinks.conflicts(within_s=CONFLICT_S):
            entry = roster.get(node_id)
            if entry is None or not rule.nodes.holds(entry.node):
                continue
            node = entry.node
            place = place_of(node, groups)
            found.append(
                Condition(
                    subject=node.id,
                    labels=node_labels(node, place),
                    since_ms=now_ms,
                    summary=f"two processes claim to be {node.name}; the newer one is refused",
                    name=node.name,
                    place=place,
                )
            )
        return found

    async def _slow_nodes(self, rule: Rule) -> list[Condition]:
        roster, groups, now_ms = self._registry.roster, self._groups(), self._now_ms
        found = []
        entries = list(roster)
        for start in range(0, len(entries), STEP):
            if start:
                await self._registry.clock.sleep(PAUSE_S)
            for entry in entries[start : start + STEP]:
                beat, node = entry.last_beat, entry.node
                latency_ms = None if beat is None else beat.latency_ms
                # A registry's own figure is of its commits, for which there is a rule.
                if latency_ms is None or latency_ms <= rule.above or not is_up(node.observed_status):
                    continue
                if node.name == self._registry.owner or not rule.nodes.holds(node):
                    continue
                place = place_of(node, groups)
                found.append(
                    Condition(
                        subject=node.id,
                        labels=node_labels(node, place),
                        since_ms=now_ms,
                        summary=f"{node.name} reports a latency of {latency_ms:.0f} ms",
                        name=node.name,
                        place=place,
                        value=latency_ms,
                    )
                )
        return found

    def _slow_store(self, rule: Rule) -> list[Condition]:
        # As the registry's own node reports it: the mean of the commits since the beat before.
        entry = self._registry.roster.named(self._registry.owner)
        beat = None if entry is None else entry.last_beat
        if beat is None or beat.latency_ms is None or beat.latency_ms <= rule.above * 1000:
            return []
        return [self._about_registry(f"commits take {beat.latency_ms:.0f} ms", value=beat.latency_ms / 1000)]

    def _absent_store(self) -> list[Condition]:
        stale_s = self._registry.stale_s
        if stale_s is None:
            return []
        since_ms = self._now_ms - round(stale_s * 1000)
        summary = "the store takes no changes; nobody is declared dead meanwhile"
        return [Condition(subject=_REGISTRY, labels={}, since_ms=since_ms, summary=summary)]

    def _short_history(self, rule: Rule) -> list[Condition]:
        size_bytes = self._registry.vitals().history_bytes
        most = self._registry.settings.heartbeat_history_max_bytes
        if size_bytes is None or size_bytes <= rule.above * most:
            return []
        summary = (
            f"heartbeat history takes {size_bytes / most:.0%} of its {most / 2**30:.1f} GiB: the oldest is dropped "
            "before its time"
        )
        return [self._about_registry(summary, value=size_bytes / most)]

    def _expiring_tokens(self, rule: Rule) -> list[Condition]:
        now = from_ms(self._now_ms)
        horizon = now + timedelta(seconds=rule.within_s)
        found = []
        for token in self._registry.roster.tokens:
            end = token.expires_at
            if end is None or not now < end <= horizon or not _is_worth_it(token, rule.within_s):
                continue
            found.append(
                Condition(
                    subject=token.id,
                    labels={"token": token.name, "kind": token.kind.value},
                    since_ms=self._now_ms,
                    summary=f"the {token.kind} {token.name} expires at {end:%Y-%m-%d %H:%M} UTC",
                    place=("kind", token.kind.value),
                    value=(end - now).total_seconds(),
                )
            )
        return found

    def _expiring_certificate(self, rule: Rule) -> list[Condition]:
        end = None if self._certificate_expires_at is None else self._certificate_expires_at()
        if end is None:
            return []
        left_s = (end - from_ms(self._now_ms)).total_seconds()
        if left_s > rule.within_s:
            return []
        told = f"expires at {end:%Y-%m-%d %H:%M} UTC" if left_s > 0 else f"expired at {end:%Y-%m-%d %H:%M} UTC"
        return [self._about_registry(f"the certificate of the port {told}", value=left_s)]

    def _about_registry(self, summary: str, *, value: float) -> Condition:
        return Condition(subject=_REGISTRY, labels={}, since_ms=self._now_ms, summary=summary, value=value)


def _is_worth_it(token: Token, within_s: float) -> bool:
    """Whether somebody is to be told of its end: not of one that was meant to be good for a short time."""
    if token.revoked_at is not None or token.kind is TokenKind.JOIN or token.expires_at is None:
        return False
    return (token.expires_at - token.created_at).total_seconds() > within_s
