"""Tokens from making to their end, and what the audit log says of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from thunderline.block.memory import MemoryStore
from thunderline.core.access import Outcome, Scope, TokenKind, new_secret
from thunderline.core.errors import (
    InvalidInput,
    NotPermitted,
    Overloaded,
    ThunderlineError,
    TokenExpired,
    TokenNameTaken,
    TokenRevoked,
    TokenUnknown,
    UnknownToken,
)
from thunderline.core.ids import TokenId, new_uuid7
from thunderline.core.inputs import JoinInput, NewToken, NodeAttrs, NodePatch, ReissueInput
from thunderline.core.settings import Settings
from thunderline.link.access import LOOK_S
from thunderline.link.actor import LOCAL_OPERATOR, Action, Actor, ActorKind
from thunderline.link.registry import Registry
from thunderline.link.token_plans import Issued
from thunderline.testing.clock import ManualClock
from thunderline.testing.harness import Cluster, open_cluster


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with open_cluster() as opened:
        yield opened


async def make(registry: Registry, name: str, *scopes: Scope, expires_in_s: int | None = None) -> Issued:
    wanted = NewToken(name=name, scopes=scopes, expires_in_s=expires_in_s)
    return await registry.tokens.create_token(wanted, actor=LOCAL_OPERATOR)


def made() -> tuple[TokenId, bytes]:
    return TokenId(new_uuid7()), new_secret()


async def actor_with(registry: Registry, *scopes: Scope) -> Actor:
    issued = await make(registry, "-".join(scopes), *scopes)
    return registry.access.authenticate(issued.text, address="192.0.2.1")


async def audit(cluster: Cluster) -> list[tuple[str, str, str | None, str]]:
    """(actor, action, subject, outcome), the oldest first."""
    entries = await cluster.registry.tokens.read_audit(actor=LOCAL_OPERATOR, limit=1_000)
    return [(entry.actor, entry.action, entry.subject, entry.outcome) for entry in reversed(entries)]


async def test_a_token_is_good_until_it_is_revoked_over_restarts() -> None:
    store, clock = MemoryStore(), ManualClock()
    async with Registry.open(store, clock=clock) as registry:
        issued = await make(registry, "ci", Scope.READ)
        assert issued.text not in repr(issued)
        actor = registry.access.authenticate(issued.text, address=None)
        assert (str(actor), actor.scopes, actor.any_node) == ("reader:ci", {Scope.READ}, False)
    async with Registry.open(store, clock=clock) as registry:
        assert registry.access.token_of(issued.text) == issued.token
        await registry.tokens.revoke("ci", actor=LOCAL_OPERATOR)
        with pytest.raises(TokenRevoked):
            registry.access.authenticate(issued.text, address=None)
    async with Registry.open(store, clock=clock) as registry:
        with pytest.raises(TokenRevoked):
            registry.access.token_of(issued.text)


async def test_what_is_no_token_of_ours_is_unknown_also_with_the_id_of_one(cluster: Cluster) -> None:
    issued = await make(cluster.registry, "ci", Scope.READ)
    other = await make(cluster.registry, "cd", Scope.READ)
    mixed = issued.text[:36] + other.text[36:]
    for text in ("", "tl_", "x" * 300, mixed, issued.text + "A"):
        with pytest.raises(TokenUnknown):
            cluster.registry.access.token_of(text)


async def test_a_token_expires_by_the_wall_clock(cluster: Cluster) -> None:
    issued = await make(cluster.registry, "ci", Scope.READ, expires_in_s=60)
    await cluster.clock.advance(59)
    cluster.registry.access.token_of(issued.text)
    await cluster.clock.advance(1)
    with pytest.raises(TokenExpired):
        cluster.registry.access.token_of(issued.text)


async def test_names_are_one_tokens_until_it_is_revoked(cluster: Cluster) -> None:
    first = await make(cluster.registry, "ci", Scope.READ)
    with pytest.raises(TokenNameTaken):
        await make(cluster.registry, "ci", Scope.ADMIN)
    await cluster.registry.tokens.revoke(first.token.id, actor=LOCAL_OPERATOR)
    second = await make(cluster.registry, "ci", Scope.ADMIN)
    await cluster.registry.tokens.revoke("ci", actor=LOCAL_OPERATOR)
    with pytest.raises(TokenRevoked):
        cluster.registry.access.token_of(second.text)
    with pytest.raises(UnknownToken):
        await cluster.registry.tokens.revoke("nobody", actor=LOCAL_OPERATOR)


async def test_a_name_that_is_a_tokens_and_a_nodes_is_not_guessed(cluster: Cluster) -> None:
    token = await make(cluster.registry, "edge-1", Scope.READ)
    credential = await cluster.registry.tokens.reissue("edge-1", ReissueInput(), actor=LOCAL_OPERATOR)
    with pytest.raises(InvalidInput, match="a token and of a node"):
        await cluster.registry.tokens.revoke("edge-1", actor=LOCAL_OPERATOR)
    await cluster.registry.tokens.revoke(credential.token.id, actor=LOCAL_OPERATOR)
    assert (await cluster.registry.tokens.revoke("edge-1", actor=LOCAL_OPERATOR)).id == token.token.id


async def test_a_node_has_one_credential_and_a_reissue_ends_the_one_before(cluster: Cluster) -> None:
    registry = cluster.registry
    first = await registry.tokens.reissue("edge-1", ReissueInput(), actor=LOCAL_OPERATOR)
    node = await registry.domain.register_node(
        NodeAttrs(name="edge-1"), actor=registry.access.authenticate(first.text, address=None)
    )
    second = await registry.tokens.reissue("edge-1", ReissueInput(), actor=LOCAL_OPERATOR)
    with pytest.raises(TokenUnknown):
        registry.access.token_of(first.text)
    actor = registry.access.authenticate(second.text, address=None)
    assert (actor.kind, actor.node_id, actor.any_node) == (ActorKind.NODE, node.node.id, False)
    with pytest.raises(NotPermitted):
        await registry.domain.register_node(NodeAttrs(name="edge-2"), actor=actor)
    with pytest.raises(NotPermitted, match="role or domain"):
        await registry.domain.update_node(node.node.id, NodePatch(role="controller"), actor=actor)
    await registry.domain.update_node(node.node.id, NodePatch(address="192.0.2.7"), actor=actor)


async def test_a_credential_makes_no_controller_of_its_node_and_the_registry_needs_none(cluster: Cluster) -> None:
    registry = cluster.registry
    credential = await registry.tokens.reissue("edge-1", ReissueInput(), actor=LOCAL_OPERATOR)
    actor = registry.access.authenticate(credential.text, address=None)
    with pytest.raises(NotPermitted, match="controller"):
        await registry.domain.register_node(NodeAttrs(name="edge-1", role="controller"), actor=actor)
    await registry.ensure_node({"name": "edge-1", "role": "controller"})
    actor = registry.access.authenticate(credential.text, address=None)
    known = await registry.domain.register_node(NodeAttrs(name="edge-1", role="controller"), actor=actor)
    assert not known.created
    with pytest.raises(InvalidInput, match="registry's own"):
        await registry.tokens.reissue(registry.owner, ReissueInput(), actor=LOCAL_OPERATOR)


async def test_a_forced_removal_revokes_the_nodes_credential_and_another_does_not(cluster: Cluster) -> None:
    registry = cluster.registry
    credential = await registry.tokens.reissue("edge-1", ReissueInput(), actor=LOCAL_OPERATOR)
    for force in (False, True):
        registry.access.token_of(credential.text)
        node = await registry.ensure_node({"name": "edge-1"})
        await registry.deregister(node.id, force=force)
    with pytest.raises(TokenRevoked):
        registry.access.token_of(credential.text)


async def test_a_token_that_is_revoked_while_an_action_waits_does_nothing(cluster: Cluster) -> None:
    registry = cluster.registry
    admin = await actor_with(registry, Scope.ADMIN)
    # Both are queued before either is planned: the second's turn comes when its token is good no more.
    revoking = asyncio.ensure_future(registry.tokens.revoke("admin", actor=LOCAL_OPERATOR))
    minting = asyncio.ensure_future(
        registry.tokens.create_token(NewToken(name="late", scopes=(Scope.ADMIN,)), actor=admin)
    )
    registering = asyncio.ensure_future(registry.domain.register_node(NodeAttrs(name="late"), actor=admin))
    await revoking
    for late in (minting, registering):
        with pytest.raises(TokenRevoked):
            await late
    assert registry.list_nodes() == []
    assert registry.tokens.list_tokens(actor=LOCAL_OPERATOR, limit=10)[0] == []
    await registry.access.refusals.tell(registry._engine.writer)
    assert (await audit(cluster))[-1] == ("operator:admin", "change the cluster", None, "refused")


async def test_what_is_open_by_a_token_ends_with_it(cluster: Cluster) -> None:
    registry = cluster.registry
    ended: list[tuple[str, ThunderlineError]] = []
    for name, expires_in_s in (("revoked", None), ("expiring", 30), ("kept", 300)):
        issued = await make(registry, name, Scope.READ, expires_in_s=expires_in_s)
        actor = registry.access.authenticate(issued.text, address=None)
        for _ in range(2):
            registry.access.hold(actor, lambda error, name=name: ended.append((name, error)))
        released = registry.access.hold(actor, lambda error: ended.append(("released", error)))
        assert released is not None
        released.release()
    assert registry.access.hold(LOCAL_OPERATOR, lambda error: None) is None
    await registry.tokens.revoke("revoked", actor=LOCAL_OPERATOR)
    assert [(name, type(error)) for name, error in ended] == [("revoked", TokenRevoked)] * 2
    await cluster.turn(30 + LOOK_S)
    assert [(name, type(error)) for name, error in ended[2:]] == [("expiring", TokenExpired)] * 2


async def test_a_token_that_opens_something_again_and_again_is_watched_once(cluster: Cluster) -> None:
    access = cluster.registry.access
    issued = await make(cluster.registry, "expiring", Scope.READ, expires_in_s=30)
    actor = access.authenticate(issued.text, address=None)
    for _ in range(3):
        hold = access.hold(actor, lambda error: None)
        assert hold is not None
        hold.release()
    assert len(access._expiries) == 1
    await cluster.turn(30 + LOOK_S)
    assert (len(access._expiries), len(access._expiring)) == (0, 0)


async def test_the_first_token_is_made_once_and_again_when_no_admin_is_left(cluster: Cluster) -> None:
    tokens = cluster.registry.tokens
    assert not tokens.has_admin()
    first = await tokens.first_token(made(), actor=LOCAL_OPERATOR)
    assert tokens.has_admin()
    await tokens.revoke(first.token.id, actor=LOCAL_OPERATOR)
    assert not tokens.has_admin()
    again = await tokens.first_token(made(), actor=LOCAL_OPERATOR)
    assert cluster.registry.access.token_of(again.text).scopes == (Scope.ADMIN,)


async def test_tokens_come_in_pages_and_revoked_ones_when_asked_for(cluster: Cluster) -> None:
    tokens = cluster.registry.tokens
    for number in range(5):
        await make(cluster.registry, f"t{number}", Scope.READ)
    await tokens.revoke("t1", actor=LOCAL_OPERATOR)
    page, more = tokens.list_tokens(actor=LOCAL_OPERATOR, limit=3)
    assert ([token.name for token in page], more) == (["t0", "t2", "t3"], True)
    rest, more = tokens.list_tokens(actor=LOCAL_OPERATOR, after=page[-1].id, limit=3)
    assert ([token.name for token in rest], more) == (["t4"], False)
    assert len(tokens.list_tokens(actor=LOCAL_OPERATOR, revoked=True, limit=10)[0]) == 5


async def test_only_an_admin_manages_tokens_and_reads_the_audit_log(cluster: Cluster) -> None:
    registry = cluster.registry
    operator = await actor_with(registry, Scope.OPERATOR)
    asked = [
        lambda: registry.tokens.create_token(NewToken(name="t", scopes=(Scope.READ,)), actor=operator),
        lambda: registry.tokens.reissue("edge-1", ReissueInput(), actor=operator),
        lambda: registry.tokens.revoke("operator", actor=operator),
        lambda: registry.tokens.read_audit(actor=operator, limit=1),
        lambda: registry.tokens.first_token(made(), actor=operator),
    ]
    for ask in asked:
        with pytest.raises(NotPermitted):
            await ask()
    with pytest.raises(NotPermitted):
        registry.tokens.list_tokens(actor=operator, limit=1)


async def test_a_controller_is_none_also_by_a_request_that_waited(cluster: Cluster) -> None:
    registry = cluster.registry
    credential = await registry.tokens.reissue("edge-1", ReissueInput(), actor=LOCAL_OPERATOR)
    node = await registry.ensure_node({"name": "edge-1"})
    actor = registry.access.authenticate(credential.text, address=None)
    # Planned behind the removal, by which time the name is a new one.
    removing = asyncio.ensure_future(registry.deregister(node.id))
    registering = asyncio.ensure_future(
        registry.domain.register_node(NodeAttrs(name="edge-1", role="controller"), actor=actor)
    )
    await removing
    with pytest.raises(NotPermitted, match="controller"):
        await registering


async def test_a_token_is_revoked_also_while_its_holder_fills_the_lane() -> None:
    async with open_cluster(settings=Settings(mutation_lane_max=8)) as cluster:
        registry = cluster.registry
        gateway = await actor_with(registry, Scope.NODE)
        queued = [registry.batches.register_one(NodeAttrs(name=f"n{number}"), actor=gateway) for number in range(8)]
        with pytest.raises(Overloaded):
            registry.batches.register_one(NodeAttrs(name="n8"), actor=gateway)
        await registry.tokens.revoke("node", actor=LOCAL_OPERATOR)
        outcomes = await asyncio.gather(*queued, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {TokenRevoked}


async def test_a_cut_that_fails_spares_the_others(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    registry = cluster.registry
    actor = await actor_with(registry, Scope.READ)
    ended: list[ThunderlineError] = []

    def fail(error: ThunderlineError) -> None:
        raise RuntimeError("a bug")

    registry.access.hold(actor, fail)
    registry.access.hold(actor, ended.append)
    await registry.tokens.revoke("read", actor=LOCAL_OPERATOR)
    assert [type(error) for error in ended] == [TokenRevoked]
    await registry.ensure_node({"name": "the-writer-goes-on"})
    assert "was not ended" in caplog.text


async def test_who_is_refused_all_sorts_of_things_crowds_out_nobody(cluster: Cluster) -> None:
    registry = cluster.registry
    loud, quiet = await actor_with(registry, Scope.NODE), await actor_with(registry, Scope.READ)
    for number in range(2_000):
        with pytest.raises(NotPermitted):
            registry.access.authorise(loud, Action.GROUP, name=f"g{number}")
        registry.access.refusals.note(TokenUnknown(), action="authenticate", address=f"2001:db8::{number:x}")
    with pytest.raises(NotPermitted):
        registry.access.authorise(quiet, Action.GROUP)
    await registry.access.refusals.tell(registry._engine.writer)
    told = [entry for entry in await registry.tokens.read_audit(actor=LOCAL_OPERATOR, limit=1_000) if entry.reason]
    assert sum(entry.count for entry in told) == 4_001
    assert [entry.count for entry in told if entry.actor == "reader:read"] == [1]
    assert [entry.count for entry in told if entry.token_id is None] == [2_000]
    assert len(told) < 30


async def test_changes_and_refusals_stand_in_the_audit_log_and_beats_do_not(cluster: Cluster) -> None:
    registry = cluster.registry
    operator = await actor_with(registry, Scope.OPERATOR)
    reader = await actor_with(registry, Scope.READ)
    node = (await registry.domain.register_node(NodeAttrs(name="edge-1"), actor=operator)).node
    await registry.heartbeat(node.id, "online", {"cpu_load": 1}, actor=operator)
    for _ in range(3):
        with pytest.raises(NotPermitted):
            await registry.domain.deregister_node(node.id, actor=reader)
    with pytest.raises(TokenUnknown):
        registry.access.authenticate("tl_guess", address="192.0.2.66")
    await registry.access.refusals.tell(registry._engine.writer)
    assert await audit(cluster) == [
        ("operator:local", "token.created", "operator", "done"),
        ("operator:local", "token.created", "read", "done"),
        ("operator:operator", "cluster.node.registered", "edge-1", "done"),
        ("reader:read", "deregister a node", "edge-1", "refused"),
        ("reader:anonymous", "authenticate", None, "refused"),
    ]
    refused = (await registry.tokens.read_audit(actor=LOCAL_OPERATOR, limit=2))[1]
    assert (refused.count, refused.reason, refused.address) == (3, "not_permitted", "192.0.2.1")
    assert refused.outcome is Outcome.REFUSED


async def test_each_of_many_changes_in_one_action_is_told(cluster: Cluster) -> None:
    registry = cluster.registry
    await registry.batches.register_all([NodeAttrs(name=name) for name in ("a", "b")], actor=LOCAL_OPERATOR)
    await registry.mark_online("a", {"session_id": "s"})
    told = len(await audit(cluster))
    await registry.deregister("a", force=True)
    entries = await audit(cluster)
    assert [entry[1:3] for entry in entries[:2]] == [("cluster.node.registered", "a"), ("cluster.node.registered", "b")]
    assert ("operator:embedded", "cluster.node.deregistered", "a", "done") in entries[told:]


async def test_a_repeated_change_that_changes_nothing_is_not_told_twice(cluster: Cluster) -> None:
    for _ in range(2):
        await cluster.registry.ensure_node({"name": "edge-1"})
    assert await audit(cluster) == [("operator:embedded", "cluster.node.registered", "edge-1", "done")]


async def test_old_entries_are_forgotten() -> None:
    settings = Settings(audit_retention_s=3600)
    async with open_cluster(settings=settings) as cluster:
        await cluster.registry.ensure_node({"name": "old"})
        await cluster.turn(3000, step_s=300)
        await cluster.registry.ensure_node({"name": "young"})
        await cluster.turn(1800, step_s=300)
        assert [subject for _, action, subject, _ in await audit(cluster) if "registered" in action] == ["young"]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("worker-1", {"names": "worker-*"}),
        ("a-b-c-d", {"names": "a*b*d"}),
        ("abc", {"names": "*"}),
        ("abc", {"names": "abc"}),
    ],
)
async def test_a_pattern_of_names_fits_as_written(cluster: Cluster, name: str, wanted: dict[str, str]) -> None:
    issued = await cluster.registry.tokens.create_token(
        NewToken(name="j", join=JoinInput(**wanted)), actor=LOCAL_OPERATOR
    )
    assert issued.token.kind is TokenKind.JOIN
    with pytest.raises(NotPermitted, match="join"):
        cluster.registry.access.authenticate(issued.text, address=None)
