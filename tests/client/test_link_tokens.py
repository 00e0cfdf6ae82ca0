"""Links that need a token: how a node joins and keeps its credential, and that one that is let in no more stops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.test_credential import a_token
from tests.client.worlds import NAME, World
from tests.gate.holders import WITH_TOKENS, credential, join_token, token
from thunderline.client import Link, LinkEnded, LinkUnauthorized
from thunderline.client.credential import CredentialFile, CredentialNotKept
from thunderline.client.errors import Unauthorized
from thunderline.client.keeping import AGAIN_S
from thunderline.core.access import Scope, TokenKind
from thunderline.core.errors import InvalidInput
from thunderline.link.access import LOOK_S
from thunderline.link.actor import LOCAL_OPERATOR
from thunderline.testing.harness import open_cluster
from thunderline.wire.frames import Hello


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_cluster(settings=WITH_TOKENS) as cluster:
        yield World(cluster)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "credentials" / "node.token"


def link_of(world: World, **given: Any) -> Link:
    return Link("http://localhost", **{"name": NAME, **given}, transport=world.transport, clock=world.clock)


async def entered(world: World, link: Link) -> Link:
    """The link, once it stands, whatever of it happens in threads."""
    await world.cluster.turn_until(link.__aenter__())
    return link


def hellos(world: World) -> list[Hello]:
    return [frame for frame in world.said() if isinstance(frame, Hello)]


async def test_a_node_joins_and_comes_back_with_what_it_was_given(world: World, file: Path) -> None:
    join = await join_token(world.registry, uses=1)
    link = await entered(world, link_of(world, token=join, credential_file=file))
    kept = CredentialFile(file).read()
    assert kept is not None
    assert world.registry.access.token_of(kept).kind is TokenKind.CREDENTIAL
    assert kept not in repr(link._driver.latest) + repr(hellos(world))
    # It is what the next connection shows, and the join token never again.
    world.transport.cut()
    await world.turn(3)
    assert link.connected
    assert [hello.token for hello in hellos(world)] == [join, kept]
    await world.cluster.turn_until(link.leave())
    again = await entered(world, link_of(world, token=join, credential_file=file))
    assert hellos(world)[-1].token == kept
    await again.abandon()


async def test_nothing_uses_a_credential_before_it_is_kept(
    world: World, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    join, may_write = await join_token(world.registry, uses=1), threading.Event()
    keep = CredentialFile.keep

    def slowly(self: CredentialFile, text: str) -> None:
        assert may_write.wait(timeout=20)
        keep(self, text)

    monkeypatch.setattr(CredentialFile, "keep", slowly)
    link = link_of(world, token=join, credential_file=file)
    entering = asyncio.ensure_future(link.__aenter__())
    await world.turn(1)
    assert world.node.name == NAME
    assert not entering.done()
    # The connection breaks meanwhile: the join token again, by the same process, which gives another credential.
    world.transport.cut()
    await world.turn(3)
    assert [hello.token for hello in hellos(world)] == [join, join]
    may_write.set()
    await world.cluster.turn_until(entering)
    world.transport.cut()
    await world.turn(3)
    kept = CredentialFile(file).read()
    assert hellos(world)[-1].token == kept
    assert link.connected
    await link.abandon()


async def test_a_disk_that_takes_no_credential_is_tried_again(
    world: World, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, tries = CredentialFile.keep, []

    def once_full(self: CredentialFile, text: str) -> None:
        tries.append(world.clock.monotonic())
        if len(tries) == 1:
            raise CredentialNotKept(self.file, problem="No space left on device")
        keep(self, text)

    monkeypatch.setattr(CredentialFile, "keep", once_full)
    link = await entered(world, link_of(world, token=await join_token(world.registry), credential_file=file))
    assert CredentialFile(file).read() is not None
    assert len(tries) == 2
    assert tries[1] - tries[0] >= AGAIN_S
    await link.abandon()


async def test_a_place_that_takes_no_credential_costs_no_use_of_the_token(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    join = await join_token(world.registry, uses=1)
    with pytest.raises(InvalidInput, match="credential_file"):
        link_of(world, token=join, credential_file=tmp_path / "file" / "node.token")
    terms = world.registry.access.token_of(join).join
    assert terms is not None
    assert terms.uses_left == 1


async def test_without_a_file_the_credential_lasts_as_long_as_the_process(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    join = await join_token(world.registry)
    link = await entered(world, link_of(world, token=join))
    world.transport.cut()
    await world.turn(3)
    assert link.connected
    assert hellos(world)[-1].token != join
    assert "credential kept in memory only" in caplog.text
    await link.abandon()
    again = link_of(world, token=join)
    with pytest.raises(LinkEnded, match="thunderline node reissue") as refused:
        await entered(world, again)
    assert refused.value.code == "join_refused"


@pytest.mark.parametrize("shown", [None, "unknown", "revoked"])
async def test_who_is_not_let_in_is_told_at_once(world: World, shown: str | None) -> None:
    text = None
    if shown == "unknown":
        text = a_token()
    elif shown == "revoked":
        text = await token(world.registry, "gateway", Scope.NODE)
        await world.registry.tokens.revoke("gateway", actor=LOCAL_OPERATOR)
    with pytest.raises(LinkUnauthorized) as refused:
        await entered(world, link_of(world, token=text))
    assert refused.value.code == ("unauthenticated" if shown is None else f"token_{shown}")


@pytest.mark.parametrize("how", ["revoked", "reissued", "expired", "removed"])
async def test_a_link_that_is_let_in_no_more_stops(world: World, how: str) -> None:
    registry = world.registry
    text = await credential(registry, NAME)
    if how == "expired":
        text = await token(registry, "short", Scope.NODE, expires_in_s=20)
    link = await entered(world, link_of(world, token=text))
    match how:
        case "revoked":
            await registry.tokens.revoke(NAME, actor=LOCAL_OPERATOR)
        case "reissued":
            await credential(registry, NAME)
        case "expired":
            await world.turn(20 + LOOK_S)
        case "removed":
            await registry.deregister(NAME, force=True)
    await world.turn(1)
    error = await link.wait_ended()
    assert isinstance(error, LinkEnded)
    assert error.code == {"removed": "deregistered", "expired": "token_expired"}.get(how, "token_revoked")
    assert isinstance(error, LinkUnauthorized) is (how != "removed")
    connects = world.transport.connects
    await world.turn(30)
    assert world.transport.connects == connects


async def test_one_whose_token_was_revoked_in_an_outage_stops_when_it_comes_back(world: World) -> None:
    text = await credential(world.registry, NAME)
    link = await entered(world, link_of(world, token=text))
    world.transport.refusing = True
    world.transport.cut()
    await world.turn(1)
    await world.registry.tokens.revoke(NAME, actor=LOCAL_OPERATOR)
    world.transport.refusing = False
    await world.turn(15)
    error = await link.wait_ended()
    assert isinstance(error, LinkUnauthorized)
    assert error.code == "token_revoked"


async def test_a_transport_tells_a_token_that_is_none_at_the_upgrade(world: World) -> None:
    with pytest.raises(Unauthorized) as refused:
        await world.transport.connect("http://localhost", token=a_token())
    assert (refused.value.code, refused.value.status) == ("token_unknown", 401)
