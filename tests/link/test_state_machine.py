"""The registry against a plain dictionary: any order of actions, failing commits, restarts and silence."""

from __future__ import annotations

import asyncio
import functools
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from thunderline.block.memory import MemoryStore
from thunderline.block.sqlite import SqliteStore
from thunderline.block.store import Store
from thunderline.core.errors import (
    Conflict,
    ContentRejected,
    LiveLink,
    Mismatch,
    StaleIncarnation,
    StoreUnavailable,
    ThunderlineError,
    UnknownNode,
)
from thunderline.core.ids import Revision
from thunderline.core.inputs import HeartbeatInput, NodeAttrs, NodePatch
from thunderline.core.records import Event, Node
from thunderline.link import plans
from thunderline.link.actor import EMBEDDING_PROGRAM
from thunderline.link.lanes import Lane
from thunderline.link.overlay import Overlay
from thunderline.link.roster import Entry
from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import Fault, FaultyStore
from thunderline.testing.harness import Cluster, open_cluster

# Mostly names that exist, or every other rule would only learn that nothing is there.
NAMES = st.sampled_from(["a", "a", "a", "b", "b", "c@prod"])
STATUSES = st.sampled_from(["online", "degraded", "offline"])
FAULTS = st.sampled_from([None, None, None, None, Fault.AWAY, Fault.LOST_BEFORE, Fault.LOST_AFTER])


@dataclass
class ModelNode:
    """What the dictionary knows of a node."""

    id: str
    role: str
    observed: str = "connecting"
    reason: str = "registered"
    override: tuple[str, str] | None = None
    instance: str | None = None
    incarnation: int = 1
    meta: dict[str, Any] = field(default_factory=dict)
    sessions: dict[str, str] = field(default_factory=dict)
    """Open sessions and their status."""
    seqs: set[int] = field(default_factory=set)
    beats: list[tuple[int | None, str]] = field(default_factory=list)

    @property
    def status(self) -> str:
        if self.override is None or (self.override[0] == "degraded" and self.observed in ("disconnected", "offline")):
            return self.observed
        return self.override[0]

    @property
    def left(self) -> bool:
        return (self.observed, self.reason) == ("offline", "goodbye")

    def settle_sessions(self, before: str) -> None:
        """Sessions follow the truth, whatever an override shows."""
        if self.observed == before:
            return
        if self.observed == "offline":
            self.sessions.clear()
        elif self.observed == "disconnected":
            self.sessions = dict.fromkeys(self.sessions, "degraded")
        elif self.observed in ("online", "degraded"):
            self.sessions = dict.fromkeys(self.sessions, "established")


def named(overlay: Overlay, name: str) -> Node:
    """The node of that name, as the batch has it so far. Raises: UnknownNode."""
    node = overlay.named(name)
    if node is None:
        raise UnknownNode(name)
    return node


def patch_now(overlay: Overlay, *, name: str, patch: NodePatch, default: int) -> Node:
    return plans.update(overlay, named(overlay, name).id, patch, default)


def beat_now(overlay: Overlay, node: Node) -> Any:
    """A beat of a node that may be new in this very batch, which no caller could send; the plan must hold even so."""
    return plans.beat(overlay, Entry(node), HeartbeatInput())


class RegistryMachine(RuleBasedStateMachine):
    """Drives one registry over a store that may fail; `make_store` says over which."""

    def make_store(self) -> Store:
        return MemoryStore()

    @initialize()
    def start(self) -> None:
        self.runner = asyncio.Runner()
        self.store = FaultyStore(self.make_store())
        self.clock = ManualClock()
        self.model: dict[str, ModelNode] = {}
        self.gone: list[ModelNode] = []
        self.cluster: Cluster
        self.opening: AbstractAsyncContextManager[Cluster]
        self.open()
        for name in ("a", "b"):
            self.ensure(name=name, role=None, meta=False, fault=None)

    def open(self) -> None:
        self.opening = open_cluster(store=self.store, clock=self.clock)
        self.cluster = self.runner.run(self.opening.__aenter__())

    def close(self) -> None:
        self.runner.run(self.opening.__aexit__(None, None, None))

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.check_history()
            self.close()
            self.runner.close()

    def perform(self, action: Coroutine[Any, Any, Any], fault: Fault | None) -> tuple[Any, ThunderlineError | None]:
        """What the action gave or raised. An action that fails with the store changes nothing."""
        self.store.faults = [fault] if fault else []

        async def run() -> tuple[Any, ThunderlineError | None]:
            try:
                result = await self.cluster.turn_until(action)
            except ThunderlineError as error:
                return None, error
            finally:
                met = bool(fault) and not self.store.faults
                self.store.faults.clear()
                while self.cluster.registry.stale_s is not None:
                    await self.cluster.turn_until(asyncio.sleep(0.001))
            if met:
                assert fault is Fault.LOST_AFTER, f"answered although the commit met {fault}"
            return result, None

        return self.runner.run(run())

    @rule(name=NAMES, role=st.sampled_from([None, "worker", "edge"]), meta=st.booleans(), fault=FAULTS)
    def ensure(self, name: str, role: str | None, meta: bool, fault: Fault | None) -> None:
        attrs: dict[str, object] = {"name": name, "role": role, "meta": {"k": [1]} if meta else None}
        node, error = self.perform(self.cluster.registry.ensure_node(attrs), fault)
        known = self.model.get(name)
        if known is not None and role not in (None, known.role):
            assert isinstance(error, Mismatch | StoreUnavailable)
        elif error is not None:
            assert isinstance(error, StoreUnavailable)
        elif known is None:
            assert node.id not in {old.id for old in self.gone}
            self.model[name] = ModelNode(node.id, role or "worker", meta={"k": [1]} if meta else {})
        else:
            assert node.id == known.id
            if meta:
                known.meta.setdefault("k", [1])

    @rule(name=NAMES, value=st.one_of(st.none(), st.integers(0, 3)), fault=FAULTS)
    def patch(self, name: str, value: int | None, fault: Fault | None) -> None:
        _, error = self.perform(self.cluster.registry.update_node(name, {"meta": {"v": value}}), fault)
        if self.refused_as_expected(name, error):
            return
        self.model[name].meta.pop("v", None)
        if value is not None:
            self.model[name].meta["v"] = value

    @rule(
        name=NAMES,
        instance=st.sampled_from([None, "i1", "i2"]),
        session=st.sampled_from([None, "s1", "s2"]),
        fault=FAULTS,
    )
    def announce(self, name: str, instance: str | None, session: str | None, fault: Fault | None) -> None:
        wanted = None if session is None else {"session_id": session}
        holder = next((n for n, node in self.model.items() if session in node.sessions), None)
        known = self.runner.run(self.store.find_session(session)) if session else None
        taken = known is not None and name in self.model and known.node_id != self.model[name].id
        _, error = self.perform(self.cluster.registry.mark_online(name, wanted, instance=instance), fault)
        if name in self.model and taken:
            assert isinstance(error, Conflict | StoreUnavailable), holder
            return
        if self.refused_as_expected(name, error):
            return
        node = self.model[name]
        before = node.observed
        if instance is not None and instance != node.instance:
            if node.instance is not None:
                node.incarnation += 1
                node.seqs.clear()
                node.sessions.clear()
                if node.observed in ("online", "degraded"):
                    node.reason = "restarted"
            node.instance = instance
        if node.observed != "online":
            node.observed, node.reason = "online", "announced"
        node.settle_sessions(before)
        if session is not None:
            node.sessions[session] = "established"

    @rule(name=NAMES, status=STATUSES, seq=st.integers(1, 4), stale=st.sampled_from([False] * 5 + [True]), fault=FAULTS)
    def beat(self, name: str, status: str, seq: int, stale: bool, fault: Fault | None) -> None:
        node = self.model.get(name)
        incarnation = (node.incarnation if node else 1) - (1 if stale else 0)
        metrics = {"seq": seq, "incarnation": incarnation, "cpu_load": float(seq)}
        _, error = self.perform(self.cluster.registry.heartbeat(name, status, metrics), fault)
        if node is not None and stale:
            assert isinstance(error, StaleIncarnation)
            return
        if self.refused_as_expected(name, error) or node is None:
            return
        before = node.observed
        if seq in node.seqs:
            # Kept once, but a sign of life: it brings back who was given up, and says nothing else.
            if node.observed in ("online", "degraded") or status == "offline":
                return
        else:
            node.seqs.add(seq)
            node.beats.append((seq, status))
        if status == "offline":
            node.observed, node.reason = "offline", "goodbye"
        elif not node.left and node.observed != status:
            node.observed, node.reason = status, "heartbeat" if status == "online" else "reported"
        node.settle_sessions(before)

    @rule(name=NAMES, status=STATUSES, fault=FAULTS)
    def override(self, name: str, status: str, fault: Fault | None) -> None:
        _, error = self.perform(self.cluster.registry.mark_status(name, status, "because"), fault)
        if self.refused_as_expected(name, error):
            return
        self.model[name].override = (status, "because")

    @rule(name=NAMES, fault=FAULTS)
    def lift(self, name: str, fault: Fault | None) -> None:
        _, error = self.perform(self.cluster.registry.clear_override(name), fault)
        if self.refused_as_expected(name, error):
            return
        self.model[name].override = None

    @rule(
        name=NAMES,
        kinds=st.lists(st.sampled_from(["ensure", "patch", "beat", "deregister", "poison"]), min_size=2, max_size=6),
    )
    def several_at_once(self, name: str, kinds: list[str]) -> None:
        """Operations on one name in one batch: each sees those before it, and a rejected one fails alone."""
        results = self.runner.run(self.fire(name, kinds))
        for kind, result in zip(kinds, results, strict=True):
            node = self.model.get(name)
            if kind == "poison":
                # It patches too, so where there is no node it does not get as far as the store.
                assert isinstance(result, UnknownNode if node is None else ContentRejected), result
            elif kind == "ensure":
                assert not isinstance(result, BaseException), result
                if node is None:
                    self.model[name] = ModelNode(result.id, "worker")
                else:
                    assert result.id == node.id
            elif node is None:
                assert isinstance(result, UnknownNode), (kind, result)
            elif kind == "patch":
                node.meta["several"] = True
            elif kind == "deregister":
                assert not isinstance(result, BaseException), result
                self.gone.append(self.model.pop(name))
            else:
                assert not isinstance(result, BaseException), result
                before = node.observed
                node.beats.append((None, "online"))
                if not node.left and node.observed != "online":
                    node.observed, node.reason = "online", "heartbeat"
                node.settle_sessions(before)

    async def fire(self, name: str, kinds: list[str]) -> list[Any]:
        """Submit in one turn of the loop, all in one lane and so in this order, and wait for all the answers."""
        domain, registry = self.cluster.registry.domain, self.cluster.registry
        self.store.rejects = lambda batch: any("poison" in event.payload.meta for event in batch.events)
        default = 10_000
        submitted: list[Any] = []
        for kind in kinds:
            plan: Callable[[Overlay], Any]
            if kind == "ensure":
                plan = lambda overlay: plans.register(overlay, NodeAttrs(name=name), default).node  # noqa: E731
            elif kind == "deregister":
                plan = lambda overlay: plans.deregister(overlay, named(overlay, name).id, True)  # noqa: E731
            elif kind == "beat":
                plan = lambda overlay: beat_now(overlay, named(overlay, name))  # noqa: E731
            else:
                patch = NodePatch(meta={"poison": True} if kind == "poison" else {"several": True})
                plan = functools.partial(patch_now, name=name, patch=patch, default=default)
            submitted.append(domain._writer.submit(Lane.MUTATIONS, plan, actor=EMBEDDING_PROGRAM))
        results = await self.cluster.turn_until(asyncio.gather(*submitted, return_exceptions=True))
        self.store.rejects = lambda batch: False
        assert registry.stale_s is None
        return results

    @rule(name=NAMES, force=st.booleans(), fault=FAULTS, sure=st.sampled_from([False, False, True]))
    def deregister(self, name: str, force: bool, fault: Fault | None, sure: bool) -> None:
        if not sure:
            return
        _, error = self.perform(self.cluster.registry.deregister(name, force=force), fault)
        node = self.model.get(name)
        if node is not None and not force and node.sessions and node.observed in ("online", "degraded"):
            assert isinstance(error, LiveLink | StoreUnavailable)
            return
        if self.refused_as_expected(name, error):
            return
        self.gone.append(self.model.pop(name))

    @precondition(lambda self: self.model)
    @rule(away=st.booleans())
    def silence(self, away: bool) -> None:
        """Nobody is heard for long enough to be given up; if the store is away meanwhile, nobody is."""
        if away:
            self.runner.run(self.let_time_pass_without_the_store())
            return
        # Deadlines are 30 s, up to 45 s after a start; the whole of `offline_after` is 60 s.
        self.runner.run(self.let_time_pass(50))
        for node in self.model.values():
            before = node.observed
            if node.observed in ("online", "degraded"):
                node.observed, node.reason = "disconnected", "silent"
            node.settle_sessions(before)
        unheard = [node for node in self.model.values() if node.observed == "connecting"]
        if not unheard:
            self.the_registry_shows_what_the_model_says()
        self.runner.run(self.let_time_pass(70))
        for node in self.model.values():
            before = node.observed
            if node.observed != "offline":
                node.reason = "never_seen" if node.observed == "connecting" else "silent"
                node.observed = "offline"
            node.settle_sessions(before)

    async def let_time_pass(self, duration_s: float) -> None:
        await self.cluster.turn(duration_s)
        # Behind every transition that is queued now: the lanes are drained in order.
        await self.cluster.turn_until(self.cluster.registry.update_node(next(iter(self.model)), {}))

    async def let_time_pass_without_the_store(self) -> None:
        registry = self.cluster.registry
        statuses = {entry.node.name: entry.node.status for entry in registry.roster}
        self.store.faults = [Fault.AWAY]
        self.store.away = True
        await asyncio.gather(registry.update_node(next(iter(self.model)), {"did": "x"}), return_exceptions=True)
        self.store.faults.clear()
        await self.clock.advance(300)
        assert {entry.node.name: entry.node.status for entry in registry.roster} == statuses
        # All are heard again before the store is back, as they would be by their beats in between.
        for entry in registry.roster:
            registry.domain._sentinel.announced(entry)
        self.store.away = False
        while registry.stale_s is not None:
            await self.cluster.turn_until(asyncio.sleep(0.001))

    @rule()
    def restart(self) -> None:
        self.check_history()
        self.close()
        self.open()

    def refused_as_expected(self, name: str, error: ThunderlineError | None) -> bool:
        if name not in self.model:
            assert isinstance(error, UnknownNode), error
            return True
        if error is not None:
            assert isinstance(error, StoreUnavailable), error
        return error is not None

    @invariant()
    def the_registry_shows_what_the_model_says(self) -> None:
        if not hasattr(self, "cluster"):
            return
        registry = self.cluster.registry
        shown = {
            node.name: (node.id, node.role, node.status, node.observed_status, node.observed_reason, node.incarnation)
            for node in registry.list_nodes()
        }
        assert shown == {
            name: (node.id, node.role, node.status, node.observed, node.reason, node.incarnation)
            for name, node in self.model.items()
        }
        for name, model in self.model.items():
            node = registry.get_node(name)
            assert node.meta == model.meta
            assert (node.override and (node.override.status, node.override.reason)) == model.override
            sessions = registry.roster.find(name).sessions.values()
            assert {session.session_id: session.status for session in sessions} == model.sessions
            last = registry.presence(name).last_heartbeat
            assert (None if last is None else (last.seq, last.status)) == (model.beats[-1] if model.beats else None)

    def check_history(self) -> None:
        """The log has no gaps, and its newest event of each node is the node; every beat is there, once."""
        self.runner.run(self.check_log())
        for node in [*self.model.values(), *self.gone]:
            kept = self.runner.run(self.cluster.registry.recent_heartbeats(node.id, minutes=60 * 24 * 300))
            assert [(beat.seq, beat.status) for beat in kept] == node.beats

    async def check_log(self) -> None:
        registry = self.cluster.registry
        events: list[Event] = []
        while page := await self.store.read_events(after=Revision(len(events)), limit=200):
            events += page
        assert [event.revision for event in events] == list(range(1, registry.roster.revision + 1))
        newest = {event.entity_id: event for event in events if event.entity_kind == "node"}
        alive = {key: event.payload for key, event in newest.items() if not event.deleted}
        assert alive == {entry.node.id: entry.node for entry in registry.roster}


class SqliteRegistryMachine(RegistryMachine):
    """The same over a real file, which a restart closes and opens again."""

    def make_store(self) -> Store:
        self.folder = tempfile.TemporaryDirectory()
        return SqliteStore(Path(self.folder.name) / "machine.db")

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "folder"):
            self.folder.cleanup()


CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large]
TestRegistry = RegistryMachine.TestCase
TestRegistry.settings = settings(max_examples=50, stateful_step_count=40, deadline=None, suppress_health_check=CHECKS)
TestSqliteRegistry = SqliteRegistryMachine.TestCase
TestSqliteRegistry.settings = settings(
    max_examples=10, stateful_step_count=40, deadline=None, suppress_health_check=CHECKS
)
