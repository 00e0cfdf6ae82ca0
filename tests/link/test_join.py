"""How a machine becomes a node by a join token: what it is given, what is refused, and what a lost answer costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.gate.holders import WITH_TOKENS, credential, join_token, refusals, token
from tests.gate.links import Links, Node
from thunderline.core.access import Outcome, Scope, TokenKind
from thunderline.core.errors import JoinRefused, NotPermitted, TokenUnknown
from thunderline.core.inputs import NodeAttrs
from thunderline.link.actor import LOCAL_OPERATOR
from thunderline.link.registry import Registry
from thunderline.link.token_plans import JOIN_RETRY_S
from thunderline.testing.harness import open_cluster
from thunderline.wire.frames import Welcome


@pytest.fixture
async def links() -> AsyncIterator[Links]:
    async with open_cluster(settings=WITH_TOKENS) as cluster:
        yield Links(cluster)


@pytest.fixture
def registry(links: Links) -> Registry:
    return links.cluster.registry


def refused(node: Node) -> tuple[str, str]:
    """Code and words of a handshake that was refused for good."""
    assert node.of("welcome") == []
    assert not node.error["retryable"]
    assert node.closed is not None
    assert node.closed[1] == node.error["code"]
    return node.error["code"], node.error["message"]


def uses_left(registry: Registry, text: str) -> int | None:
    terms = registry.access.token_of(text).join
    assert terms is not None
    return terms.uses_left


def given(node: Node) -> str:
    """The credential that came with the welcome."""
    text = node.welcome["credential"]
    assert isinstance(text, str)
    return text


async def test_a_new_name_is_enrolled_and_its_node_up_in_one_commit(links: Links, registry: Registry) -> None:
    join = await join_token(registry, role="edge", domain="north", uses=2)
    commits = len(links.cluster.store.commits)
    node = await links.open("edge-1", token=join)
    assert len(links.cluster.store.commits) == commits + 1
    found = registry.get_node("edge-1")
    assert (found.role, found.domain, found.status) == ("edge", "north", "online")
    kept = registry.access.token_of(given(node))
    assert (kept.kind, kept.name, kept.expires_at) == (TokenKind.CREDENTIAL, "edge-1", None)
    assert kept.joined_by == registry.access.token_of(join).id
    assert uses_left(registry, join) == 1
    entries = await registry.tokens.read_audit(actor=LOCAL_OPERATOR, limit=100)
    assert ("node.enrolled", "edge-1", Outcome.DONE) in [(one.action, one.subject, one.outcome) for one in entries]


async def test_the_credential_is_told_once_and_kept_nowhere(links: Links, registry: Registry) -> None:
    node = await links.open(token=await join_token(registry))
    text = given(node)
    assert node.link.credential is None
    welcome = Welcome(
        node_id="n", session_id="s", secret="x", incarnation=1, interval_ms=1, cursor="c", server_time="t",
        credential=text,
    )  # fmt: skip
    assert text not in repr(welcome)
    resume = node.resume
    node.cut()
    again = await links.open(token=text, resume=resume)
    assert (again.welcome["resumed"], again.welcome["credential"]) == (True, None)
    await registry.heartbeat("worker-1", "online", actor=registry.access.authenticate(text, address=None))


async def test_a_credential_is_for_its_own_name(links: Links, registry: Registry) -> None:
    text = given(await links.open("edge-1", token=await join_token(registry)))
    assert refused(await links.open("edge-2", token=text))[0] == "not_permitted"
    await registry.ensure_node({"name": "edge-3"})
    actor = registry.access.authenticate(text, address=None)
    with pytest.raises(NotPermitted):
        await registry.heartbeat("edge-3", "online", actor=actor)


@pytest.mark.parametrize("how", ["registered", "enrolled", "reissued", "removed"])
async def test_a_name_that_is_known_is_not_enrolled(links: Links, registry: Registry, how: str) -> None:
    join = await join_token(registry, uses=5)
    match how:
        case "registered":
            await registry.ensure_node({"name": "worker-1"})
        case "enrolled":
            (await links.open(token=join)).cut()
        case "reissued":
            await credential(registry, "worker-1")
        case "removed":
            (await links.open(token=join)).cut()
            await registry.deregister("worker-1", force=True)
    left = uses_left(registry, join)
    code, words = refused(await links.open(instance="b", token=join))
    assert code == "join_refused"
    assert "thunderline node reissue worker-1" in words
    assert uses_left(registry, join) == left
    (entry,) = await refusals(links.cluster)
    assert (entry.action, entry.reason, entry.subject) == ("join", "join_refused", "worker-1")


@pytest.mark.parametrize(
    ("terms", "hello", "says"),
    [
        ({"names": "edge-*"}, {"name": "worker-1"}, "'worker-1'"),
        ({"names": "edge-*-eu"}, {"name": "edge-eu"}, "'edge-eu'"),
        ({"role": "edge"}, {"role": "gateway"}, "role: this join token enrols nodes of the role 'edge' only"),
        ({}, {"role": "controller"}, "enrols no controller"),
        ({"domain": "north"}, {"domain": "south"}, "domain: this join token enrols nodes of the domain 'north' only"),
        ({}, {"name": "registry@elsewhere"}, "'registry@elsewhere'"),
        ({"role": "controller"}, {"name": "Registry@elsewhere", "role": "controller"}, "'Registry@elsewhere'"),
    ],
)
async def test_what_a_join_token_does_not_enrol(
    links: Links, registry: Registry, terms: dict[str, Any], hello: dict[str, Any], says: str
) -> None:
    join = await join_token(registry, uses=1, **terms)
    code, words = refused(await links.open(**{"name": "edge-1", **hello}, token=join))
    assert code == "join_refused"
    assert says in words
    assert registry.list_nodes() == []
    assert uses_left(registry, join) == 1


@pytest.mark.parametrize(
    ("terms", "hello", "role", "domain"),
    [
        ({}, {}, "worker", "thunderlink"),
        ({}, {"role": "gateway", "domain": "south"}, "gateway", "south"),
        ({"role": "edge", "domain": "north"}, {"role": "edge"}, "edge", "north"),
        ({"role": "controller"}, {}, "controller", "thunderlink"),
        ({"names": "*-eu-*"}, {"name": "gpu-eu-7"}, "worker", "thunderlink"),
    ],
)
async def test_what_it_enrols_and_as_what(
    links: Links, registry: Registry, terms: dict[str, Any], hello: dict[str, Any], role: str, domain: str
) -> None:
    node = await links.open(**{"name": "edge-1", **hello}, token=await join_token(registry, **terms))
    assert given(node)
    found = registry.get_node(hello.get("name", "edge-1"))
    assert (found.role, found.domain) == (role, domain)


async def test_nobody_joins_by_the_registrys_own_name(links: Links, registry: Registry) -> None:
    node = await links.open(registry.owner, token=await join_token(registry, role="controller"))
    assert refused(node)[0] in ("not_permitted", "join_refused")
    assert registry.roster.tokens.credential_of(registry.owner) is None


async def test_a_join_token_is_good_for_so_many_uses(links: Links, registry: Registry) -> None:
    join = await join_token(registry, uses=2)
    for name in ("edge-1", "edge-2"):
        assert given(await links.open(name, token=join))
    assert "used up" in refused(await links.open("edge-3", token=join))[1]


async def test_of_two_that_join_at_once_by_the_last_use_one_does(links: Links, registry: Registry) -> None:
    join = await join_token(registry, uses=1)
    nodes = [links.connect() for _ in range(3)]
    for number, node in enumerate(nodes):
        node.hello(f"edge-{number}", token=join)
    await links.settle()
    assert sorted(len(node.of("welcome")) for node in nodes) == [0, 0, 1]
    assert {node.error["code"] for node in nodes if not node.of("welcome")} == {"join_refused"}
    assert len(registry.list_nodes()) == 1
    assert uses_left(registry, join) == 0


async def test_a_join_token_that_expired_or_was_revoked_enrols_nobody(links: Links, registry: Registry) -> None:
    short, gone = await join_token(registry, "short", expires_in_s=30), await join_token(registry, "gone")
    await registry.tokens.revoke("gone", actor=LOCAL_OPERATOR)
    await links.cluster.turn(31)
    assert refused(await links.open("edge-1", token=short))[0] == "token_expired"
    assert refused(await links.open("edge-2", token=gone))[0] == "token_revoked"
    assert registry.list_nodes() == []


async def test_what_joined_stays_when_its_join_token_goes(links: Links, registry: Registry) -> None:
    join = await join_token(registry, expires_in_s=30)
    node = await links.open(token=join)
    await registry.tokens.revoke("join", actor=LOCAL_OPERATOR)
    assert node.closed is None
    registry.access.token_of(given(node))


async def test_a_join_token_at_the_upgrade_joins_too(links: Links, registry: Registry) -> None:
    node = links.connect(bearer=await join_token(registry))
    node.hello()
    await links.settle()
    assert given(node)


# A welcome that was lost


async def test_a_process_whose_welcome_was_lost_joins_again_for_the_same_use(links: Links, registry: Registry) -> None:
    join = await join_token(registry, uses=1)
    first = await links.open(token=join)
    first.cut()
    again = await links.open(token=join)
    assert given(again) != given(first)
    with pytest.raises(TokenUnknown):
        registry.access.token_of(given(first))
    assert registry.access.token_of(given(again)).name == "worker-1"
    assert (again.welcome["incarnation"], again.welcome["resumed"]) == (1, False)
    assert uses_left(registry, join) == 0


@pytest.mark.parametrize("why", ["used", "another process", "late", "another token"])
async def test_who_was_enrolled_does_not_join_again(links: Links, registry: Registry, why: str) -> None:
    join = await join_token(registry)
    first = await links.open(token=join)
    first.cut()
    instance, shown = "a", join
    match why:
        case "used":
            (await links.open(token=given(first))).cut()
        case "another process":
            instance = "b"
        case "late":
            await links.cluster.turn(JOIN_RETRY_S, step_s=5)
        case "another token":
            shown = await join_token(registry, "another")
    assert refused(await links.open(instance=instance, token=shown))[0] == "join_refused"
    registry.access.token_of(given(first))


async def test_who_lost_the_welcome_over_a_line_that_seems_to_stand_is_told_to_come_again(
    links: Links, registry: Registry
) -> None:
    join = await join_token(registry, uses=1)
    first = await links.open(token=join)
    again = await links.open(token=join)
    assert (again.error["code"], again.error["retryable"]) == ("name_in_use", True)
    assert first.closed is None
    first.cut()
    assert given(await links.open(token=join)) != given(first)


async def test_the_terms_of_a_join_hold_for_good(links: Links, registry: Registry) -> None:
    join = await join_token(registry, role="worker", domain="edge")
    first = await links.open(token=join)
    credential = given(first)
    first.say("bye")
    await links.settle()
    await registry.deregister(registry.find_id("worker-1"))
    actor = registry.access.authenticate(credential, address=None)
    for wanted in (NodeAttrs(name="worker-1", role="gateway"), NodeAttrs(name="worker-1", domain="core")):
        with pytest.raises(JoinRefused):
            await registry.domain.register_node(wanted, actor=actor)
    back = await registry.domain.register_node(NodeAttrs(name="worker-1"), actor=actor)
    assert (back.node.role, back.node.domain) == ("worker", "edge")


async def test_a_join_token_resumes_nothing(links: Links, registry: Registry) -> None:
    join = await join_token(registry)
    first = await links.open(token=join)
    # While it stands: who has the token and saw the secret takes nothing over.
    assert (await links.open(token=join, resume=first.resume)).error["code"] == "name_in_use"
    assert first.closed is None
    resume = first.resume
    first.cut()
    again = await links.open(token=join, resume=resume)
    assert not again.welcome["resumed"]
    # A link that no token opened at all is no exception.
    gateway = await token(registry, "gateway", Scope.NODE)
    other = await links.open("edge-7", token=gateway)
    resume = other.resume
    other.cut()
    assert refused(await links.open("edge-7", token=join, resume=resume))[0] == "join_refused"


async def test_a_join_that_the_store_did_not_take_costs_nothing(links: Links, registry: Registry) -> None:
    join = await join_token(registry, uses=1)
    links.cluster.store.away = True
    node = await links.open(token=join)
    assert (node.error["code"], node.error["retryable"]) == ("store_unavailable", True)
    node.cut()
    links.cluster.store.away = False
    await links.cluster.turn(5)
    assert uses_left(registry, join) == 1
    assert given(await links.open(token=join))
