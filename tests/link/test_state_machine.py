"""The registry against a plain dictionary: any order of actions, failing commits, restarts and silence."""

from __future__ import annotations

import asyncio
import functools
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.databases import PostgresDatabases
from thunderline.block.memory import MemoryStore
from thunderline.block.postgres import PostgresStore
from thunderline.block.sqlite import SqliteStore
from thunderline.block.store import Store
from thunderline.core.errors import (
    ContentRejected,
    EndNotUp,
    GroupCycle,
    GroupInUse,
    InvalidInput,
    LiveLink,
    Mismatch,
    NotFound,
    SessionOver,
    SessionTaken,
    StaleIncarnation,
    StoreUnavailable,
    Superseded,
    ThunderlineError,
    UnknownCapability,
    UnknownGroup,
    UnknownNode,
    UnknownSession,
)
from thunderline.core.ids import Revision
from thunderline.core.inputs import HeartbeatInput, NodeAttrs, NodePatch
from thunderline.core.records import OPEN_SESSION_STATUSES, Event, Node
from thunderline.core.settings import Settings
from thunderline.link import plans
from thunderline.link.actor import EMBEDDING_PROGRAM
from thunderline.link.health import Health
from thunderline.link.lanes import Lane
from thunderline.link.overlay import Overlay
from thunderline.link.roster import Entry
from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import Fault, FaultyStore
from thunderline.testing.harness import Cluster, open_cluster

# Mostly names that exist, or every other rule would only learn that nothing is there.
NAMES = st.sampled_from(["a", "a", "a", "b", "b", "c@prod"])
GROUPS = st.sampled_from(["g1", "g2", "g3"])
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
    capabilities: dict[str, tuple[str | None, bool]] = field(default_factory=dict)
    groups: set[str] = field(default_factory=set)
    former: set[str | None] = field(default_factory=set)
    """Instances that do not come back; known as long as the registry runs."""
    seqs: set[int] = field(default_factory=set)
    last_beat: tuple[int | None, str] | None = None
    beats: list[tuple[int | None, str]] = field(default_factory=list)

    @property
    def status(self) -> str:
        if self.override is None or (self.override[0] == "degraded" and self.observed in ("disconnected", "offline")):
            return self.observed
        return self.override[0]

    @property
    def left(self) -> bool:
        return (self.observed, self.reason) == ("offline", "goodbye")

    @property
    def is_up(self) -> bool:
        return self.observed in ("online", "degraded")

    @property
    def is_down(self) -> bool:
        return self.observed in ("disconnected", "offline")


@dataclass
class ModelSession:
    """What the dictionary knows of a session, open or not."""

    ends: tuple[str, str | None]
    status: str
    established: bool = False
    """Whether it ever was, since it was opened."""
    detected: bool = False
    """Whether it is degraded because an end is away, and not by hand."""

    @property
    def is_open(self) -> bool:
        return self.status in ("establishing", "established", "degraded")

    def put(self, status: str, *, detected: bool = False) -> None:
        self.status, self.detected = status, detected
        self.established = self.established or status == "established"

    def end(self, status: str) -> None:
        self.status, self.established, self.detected = status, False, False


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
    return plans.beat(overlay, Entry(node), HeartbeatInput(), Health(Settings(), now=float))


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
        self.sessions: dict[str, ModelSession] = {}
        self.parents: dict[str, str | None] = {}
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
                self.hear_everybody()
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
        taken = session is not None and name in self.model and self.is_taken(session, (self.model[name].id, None))
        _, error = self.perform(self.cluster.registry.mark_online(name, wanted, instance=instance), fault)
        if name in self.model and instance in self.model[name].former:
            assert isinstance(error, Superseded)
            return
        if taken:
            assert isinstance(error, SessionTaken | StoreUnavailable)
            return
        if self.refused_as_expected(name, error):
            return
        node = self.model[name]
        before = node.observed
        if instance is not None and instance != node.instance:
            if node.instance is not None:
                node.incarnation += 1
                node.former.add(node.instance)
                node.seqs.clear()
                for one in self.open_at(node.id):
                    one.end("closed")
                if node.observed in ("online", "degraded"):
                    node.reason = "restarted"
            node.instance = instance
        if node.observed != "online":
            node.observed, node.reason = "online", "announced"
        self.settle_sessions(node, before)
        if session is not None:
            self.opened(session, (node.id, None), "established")

    def is_taken(self, session: str, ends: tuple[str, str | None]) -> bool:
        """Whether the session links others; one that is over, and whose other end is gone, may link its node anew."""
        known = self.sessions.get(session)
        if known is None or known.ends in (ends, ends[::-1]):
            return False
        remote = known.ends[1]
        alive = {node.id for node in self.model.values()}
        return known.is_open or known.ends[0] != ends[0] or remote is None or remote in alive

    def opened(self, session: str, ends: tuple[str, str | None], status: str) -> None:
        known = self.sessions.get(session)
        if known is None or known.ends not in (ends, ends[::-1]):
            known = self.sessions[session] = ModelSession(ends, "closed")
        known.put(status)

    def open_at(self, node_id: str) -> list[ModelSession]:
        return [one for one in self.sessions.values() if one.is_open and node_id in one.ends]

    def is_down(self, node_id: str | None) -> bool:
        return any(node.id == node_id and node.is_down for node in self.model.values())

    def settle_sessions(self, node: ModelNode, before: str) -> None:
        """Sessions follow the truth of either end, whatever an override shows."""
        if node.observed == before:
            return
        for one in self.open_at(node.id):
            if node.observed == "offline":
                one.end("closed" if node.left else "failed")
            elif node.observed == "disconnected" and one.status != "degraded":
                one.put("degraded", detected=True)
            elif node.is_up and one.status == "degraded" and one.detected and not any(map(self.is_down, one.ends)):
                one.put("established" if one.established else "establishing")

    def forget(self, name: str) -> None:
        """The node was deregistered: sessions that it opened go with it, those that others opened to it are closed."""
        node = self.model.pop(name)
        self.gone.append(node)
        for one in self.open_at(node.id):
            one.end("closed")
        self.sessions = {key: one for key, one in self.sessions.items() if one.ends[0] != node.id}

    @rule(
        name=NAMES,
        other=NAMES,
        session=st.sampled_from(["s1", "s2", "s3"]),
        status=st.sampled_from(["establishing", "established", "established"]),
        fault=FAULTS,
    )
    def link(self, name: str, other: str, session: str, status: str, fault: Fault | None) -> None:
        wanted = {"session_id": session, "status": status}
        _, error = self.perform(self.cluster.registry.establish_link_session(name, other, wanted), fault)
        if name not in self.model or other not in self.model:
            assert isinstance(error, UnknownNode)
            return
        ends = self.model[name].id, self.model[other].id
        if name == other:
            assert isinstance(error, InvalidInput)
        elif any(map(self.is_down, ends)):
            assert isinstance(error, EndNotUp | StoreUnavailable)
        elif self.is_taken(session, ends):
            assert isinstance(error, SessionTaken | StoreUnavailable)
        elif error is not None:
            assert isinstance(error, StoreUnavailable)
        else:
            self.opened(session, ends, status)

    @rule(
        session=st.sampled_from(["s1", "s2", "s3"]),
        status=st.sampled_from([None, "establishing", "established", "degraded", "closed", "failed"]),
        fault=FAULTS,
    )
    def change_session(self, session: str, status: str | None, fault: Fault | None) -> None:
        patch = {"latency_ms": 7.0} if status is None else {"status": status}
        _, error = self.perform(self.cluster.registry.update_link_session(session, patch), fault)
        known = self.sessions.get(session)
        if known is None:
            assert isinstance(error, UnknownSession)
        elif not known.is_open:
            assert (error is None) if status == known.status else isinstance(error, SessionOver | StoreUnavailable)
        elif status == "established" and any(map(self.is_down, known.ends)):
            assert isinstance(error, EndNotUp | StoreUnavailable)
        elif error is not None:
            assert isinstance(error, StoreUnavailable)
        elif status in ("closed", "failed"):
            known.end(status)
        elif status is not None and status != known.status:
            known.put(status)

    @rule(
        group=GROUPS,
        parent=st.one_of(st.none(), GROUPS),
        way=st.sampled_from(["ensure", "create", "create", "move", "move"]),
        fault=FAULTS,
    )
    def put_group(self, group: str, parent: str | None, way: str, fault: Fault | None) -> None:
        """A parent of null is the top, and so differs from a group; to `ensure` says nothing about the parent."""
        registry = self.cluster.registry
        if way == "ensure":
            parent = self.parents.get(group)
            action = registry.create_group({"name": group, "group_type": "zone"})
        elif way == "create":
            action = registry.create_group({"name": group, "group_type": "zone", "parent": parent})
        else:
            action = registry.update_group(group, {"parent": parent})
        _, error = self.perform(action, fault)
        known = group in self.parents
        if way == "move" and not known:
            assert isinstance(error, UnknownGroup)
        elif way != "move" and known and parent != self.parents[group]:
            assert isinstance(error, Mismatch | StoreUnavailable)
        elif way != "move" and known:
            assert error is None or isinstance(error, StoreUnavailable)
        elif parent is not None and parent != group and parent not in self.parents:
            assert isinstance(error, InvalidInput | StoreUnavailable)
        elif parent == group or (parent is not None and group in self.chain(parent)):
            assert isinstance(error, GroupCycle | InvalidInput | StoreUnavailable)
        elif error is not None:
            assert isinstance(error, StoreUnavailable)
        else:
            self.parents[group] = parent

    def chain(self, group: str | None) -> list[str]:
        """The group and those around it, the nearest first."""
        found: list[str] = []
        while group is not None:
            found.append(group)
            group = self.parents.get(group)
        return found

    @rule(group=GROUPS, force=st.booleans(), fault=FAULTS)
    def remove_group(self, group: str, force: bool, fault: Fault | None) -> None:
        _, error = self.perform(self.cluster.registry.remove_group(group, force=force), fault)
        holds = any(group in node.groups for node in self.model.values()) or group in self.parents.values()
        if group not in self.parents:
            assert isinstance(error, UnknownGroup)
        elif holds and not force:
            assert isinstance(error, GroupInUse | StoreUnavailable)
        elif error is not None:
            assert isinstance(error, StoreUnavailable)
        else:
            above = self.parents.pop(group)
            self.parents = {key: above if value == group else value for key, value in self.parents.items()}
            for node in self.model.values():
                node.groups.discard(group)

    @rule(name=NAMES, group=GROUPS, joins=st.sampled_from([True, True, False]), fault=FAULTS)
    def change_membership(self, name: str, group: str, joins: bool, fault: Fault | None) -> None:
        registry = self.cluster.registry
        act = registry.add_to_group if joins else registry.remove_from_group
        _, error = self.perform(act(name, group), fault)
        node = self.model.get(name)
        if node is None or group not in self.parents:
            assert isinstance(error, UnknownNode | UnknownGroup)
        elif not joins and group not in node.groups:
            assert isinstance(error, NotFound | StoreUnavailable)
        elif error is not None:
            assert isinstance(error, StoreUnavailable)
        elif joins:
            node.groups.add(group)
        else:
            node.groups.discard(group)

    @rule(
        name=NAMES,
        key=st.sampled_from(["gpu", "relay"]),
        value=st.sampled_from([None, "a100", "h100"]),
        way=st.sampled_from(["add", "add", "disable", "enable", "remove"]),
        fault=FAULTS,
    )
    def equip(self, name: str, key: str, value: str | None, way: str, fault: Fault | None) -> None:
        registry = self.cluster.registry
        if way == "add":
            action = registry.add_capability(name, key, value)
        else:
            action = {
                "disable": registry.disable_capability,
                "enable": registry.enable_capability,
                "remove": registry.remove_capability,
            }[way](name, key)
        _, error = self.perform(action, fault)
        if name in self.model and way != "add" and key not in self.model[name].capabilities:
            assert isinstance(error, UnknownCapability)
            return
        if self.refused_as_expected(name, error):
            return
        have = self.model[name].capabilities
        if way == "add":
            have[key] = (value, True)
        elif way == "remove":
            del have[key]
        else:
            have[key] = (have[key][0], way == "enable")

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
        before, is_news = node.observed, seq > max(node.seqs, default=-1)
        if seq not in node.seqs:
            node.seqs.add(seq)
            node.beats.append((seq, status))
        if is_news:
            node.last_beat = (seq, status)
        # Repeated, or overtaken, it is a sign of life: it brings back who was given up, and says nothing else.
        if not is_news and (node.observed in ("online", "degraded") or status == "offline"):
            return
        if status == "offline":
            node.observed, node.reason = "offline", "goodbye"
        elif not node.left and node.observed != status:
            node.observed, node.reason = status, "heartbeat" if status == "online" else "reported"
        self.settle_sessions(node, before)

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
                self.forget(name)
            else:
                assert not isinstance(result, BaseException), result
                before = node.observed
                node.beats.append((None, "online"))
                node.last_beat = (None, "online")
                if not node.left and node.observed != "online":
                    node.observed, node.reason = "online", "heartbeat"
                self.settle_sessions(node, before)

    async def fire(self, name: str, kinds: list[str]) -> list[Any]:
        """Submit in one turn of the loop, all in one lane and so in this order, and wait for all the answers."""
        domain, registry = self.cluster.registry.domain, self.cluster.registry
        # Their plans are made past the domain, which would count beats as signs of life.
        self.hear_everybody()
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
        if node is not None and not force and node.is_up and self.open_at(node.id):
            assert isinstance(error, LiveLink | StoreUnavailable)
            return
        if self.refused_as_expected(name, error):
            return
        self.forget(name)

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
            self.settle_sessions(node, before)
        unheard = [node for node in self.model.values() if node.observed == "connecting"]
        if not unheard:
            self.the_registry_shows_what_the_model_says()
        self.runner.run(self.let_time_pass(70))
        for node in self.model.values():
            before = node.observed
            if node.observed != "offline":
                node.reason = "never_seen" if node.observed == "connecting" else "silent"
                node.observed = "offline"
            self.settle_sessions(node, before)

    async def let_time_pass(self, duration_s: float) -> None:
        await self.cluster.turn(duration_s)
        # Behind every transition that is queued now: the lanes are drained in order.
        await self.cluster.turn_until(self.cluster.registry.update_node(next(iter(self.model)), {}))

    def hear_everybody(self) -> None:
        """As by beats in between: a store takes manual time, and forty steps of it must not look like silence."""
        registry = self.cluster.registry
        for entry in registry.roster:
            registry.domain._sentinel.announced(entry)

    async def let_time_pass_without_the_store(self) -> None:
        registry = self.cluster.registry
        statuses = {entry.node.name: entry.node.status for entry in registry.roster}
        self.store.faults = [Fault.AWAY]
        self.store.away = True
        await asyncio.gather(registry.update_node(next(iter(self.model)), {"did": "x"}), return_exceptions=True)
        self.store.faults.clear()
        await self.clock.advance(300)
        assert {entry.node.name: entry.node.status for entry in registry.roster} == statuses
        self.hear_everybody()
        self.store.away = False
        while registry.stale_s is not None:
            await self.cluster.turn_until(asyncio.sleep(0.001))

    @rule()
    def restart(self) -> None:
        self.check_history()
        self.close()
        self.open()
        for node in self.model.values():
            node.former.clear()

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
            shown_here = {key: (one.value, one.enabled) for key, one in node.capabilities.items()}
            assert shown_here == model.capabilities
            assert node.groups == tuple(sorted(model.groups))
            at_node = {one.session_id: one.status for one in registry.list_sessions(name)}
            assert at_node == {
                key: one.status for key, one in self.sessions.items() if one.is_open and model.id in one.ends
            }
            last = registry.presence(name).last_heartbeat
            assert (None if last is None else (last.seq, last.status)) == model.last_beat
        assert {one.session_id: one.status for one in registry.list_sessions()} == {
            key: one.status for key, one in self.sessions.items() if one.is_open
        }
        assert {group.name: group.parent for group in registry.list_groups()} == self.parents
        for group in self.parents:
            inside = {name for name, model in self.model.items() if any(group in self.chain(g) for g in model.groups)}
            assert {node.name for node in registry.list_nodes(group=group)} == inside
        for key in ("gpu", "gpu:a100", "relay"):
            able = {node.name for node in registry.list_nodes(capability=key)}
            assert able == {name for name, model in self.model.items() if self.can(model, key)}

    @staticmethod
    def can(model: ModelNode, text: str) -> bool:
        key, _, value = text.partition(":")
        have = model.capabilities.get(key)
        return have is not None and have[1] and value in ("", have[0])

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
        sessions = {event.entity_id: event.payload for event in events if event.entity_kind == "link"}
        still_open = {key: one for key, one in sessions.items() if one.status in OPEN_SESSION_STATUSES}
        assert still_open == {one.id: one for one in registry.roster.sessions}
        newest_groups = {event.entity_id: event for event in events if event.entity_kind == "group"}
        kept_groups = {key: event.payload for key, event in newest_groups.items() if not event.deleted}
        assert kept_groups == {group.id: group for group in registry.list_groups()}
        for key, model in self.sessions.items():
            kept = await registry.get_link_session(key)
            assert (kept.node_id, kept.remote_node_id, kept.status) == (*model.ends, model.status)


class SqliteRegistryMachine(RegistryMachine):
    """The same over a real file, which a restart closes and opens again."""

    def make_store(self) -> Store:
        self.folder = tempfile.TemporaryDirectory()
        return SqliteStore(Path(self.folder.name) / "machine.db")

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "folder"):
            self.folder.cleanup()


class PostgresRegistryMachine(RegistryMachine):
    """The same over a database of each example's own."""

    databases: ClassVar[PostgresDatabases]
    """Set by the fixture `machines_on_postgres`: a machine is made by hypothesis, and has no fixtures."""

    def make_store(self) -> Store:
        self.url = self.databases.new()
        return PostgresStore(self.url)

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "url"):
            self.databases.drop(self.url)


@pytest.fixture(scope="module")
def machines_on_postgres(postgres: PostgresDatabases) -> None:
    PostgresRegistryMachine.databases = postgres


CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large]
TestRegistry = pytest.mark.timeout(300)(RegistryMachine.TestCase)
TestRegistry.settings = settings(max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=CHECKS)
TestSqliteRegistry = pytest.mark.timeout(300)(SqliteRegistryMachine.TestCase)
TestSqliteRegistry.settings = settings(
    max_examples=8, stateful_step_count=40, deadline=None, suppress_health_check=CHECKS
)
TestPostgresRegistry = pytest.mark.usefixtures("machines_on_postgres")(
    pytest.mark.timeout(300)(PostgresRegistryMachine.TestCase)
)
TestPostgresRegistry.settings = settings(TestSqliteRegistry.settings, max_examples=5)


class LongRegistryMachine(RegistryMachine):
    """The same, for longer than one waits."""


class LongSqliteRegistryMachine(SqliteRegistryMachine):
    """The same over a file, for longer than one waits."""


class LongPostgresRegistryMachine(PostgresRegistryMachine):
    """The same over PostgreSQL, for longer than one waits."""


TestLongRegistry = pytest.mark.slow(LongRegistryMachine.TestCase)
TestLongRegistry.settings = settings(TestRegistry.settings, max_examples=200)
TestLongSqliteRegistry = pytest.mark.slow(LongSqliteRegistryMachine.TestCase)
TestLongSqliteRegistry.settings = settings(TestSqliteRegistry.settings, max_examples=60)
TestLongPostgresRegistry = pytest.mark.usefixtures("machines_on_postgres")(
    pytest.mark.slow(LongPostgresRegistryMachine.TestCase)
)
TestLongPostgresRegistry.settings = settings(TestPostgresRegistry.settings, max_examples=60)
