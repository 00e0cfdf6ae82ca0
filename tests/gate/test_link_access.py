"""Who may open a link, channels and a stream, by which token; and that what is open ends when its token does.

The tables say what each kind and state of a token comes to. The routes have theirs elsewhere.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.engines import Opening
from tests.gate.channel_clients import Client
from tests.gate.holders import NO_TOKEN, NODE, WITH_TOKENS, Holders, credential, make_holders, refusals, token
from tests.gate.links import Links, Node
from tests.gate.streams import open_stream
from thunderline.core.access import Scope
from thunderline.core.errors import Unauthenticated
from thunderline.core.ids import Revision
from thunderline.core.inputs import NodeAttrs
from thunderline.core.settings import Settings
from thunderline.flow.match import Pattern
from thunderline.gate.limits import BURST_S
from thunderline.gate.sse import END_TIMEOUT_S
from thunderline.link.access import LOOK_S
from thunderline.link.actor import LOCAL_OPERATOR
from thunderline.server import Server, open_server
from thunderline.testing.harness import Cluster
from thunderline.wire.frames import JSON_SUBPROTOCOL

WHERE: Final = "192.0.2.7"

LINKS: Final = {
    "none": "unauthenticated",
    "unknown": "token_unknown",
    "expired": "token_expired",
    "revoked": "token_revoked",
    "reader": "not_permitted",
    "other": "not_permitted",
    "own": None,
    "gateway": None,
    "operator": None,
    "admin": None,
    "join": "join_refused",  # the name is enrolled already
}
"""The code with which the link of `NODE` is refused; None: it opens."""

READING: Final = {
    "none": (401, "unauthenticated"),
    "unknown": (401, "token_unknown"),
    "expired": (401, "token_expired"),
    "revoked": (401, "token_revoked"),
    "own": (403, "not_permitted"),
    "gateway": (403, "not_permitted"),
    "join": (403, "not_permitted"),
    "reader": None,
    "operator": None,
    "admin": None,
}
"""With what status and code channels and streams are refused; None: they open."""


@pytest.fixture
async def guarded(open_cluster: Opening) -> AsyncIterator[Cluster]:
    """A cluster that asks for tokens."""
    async with open_cluster(settings=WITH_TOKENS) as cluster:
        yield cluster


@pytest.fixture
async def links(guarded: Cluster) -> Links:
    return Links(guarded)


@pytest.fixture
async def holders(guarded: Cluster) -> Holders:
    """Tokens of the cluster, of which one has expired."""
    found = await make_holders(guarded.registry)
    await guarded.clock.advance(61)
    return found


def ended(node: Node) -> tuple[str, bool, tuple[int, str] | None]:
    """Code and `retryable` of the error that ended a link, and its close."""
    return node.error["code"], node.error["retryable"], node.closed


def held(cluster: Cluster) -> int:
    """How much is open by tokens."""
    return sum(len(holds) for holds in cluster.registry.access._holds.values())


# Links


@pytest.mark.parametrize(("holder", "code"), LINKS.items())
async def test_a_hello_is_answered_by_its_token(links: Links, holders: Holders, holder: str, code: str | None) -> None:
    node = links.connect(address=WHERE)
    node.hello(NODE, token=getattr(holders, holder))
    await links.settle()
    if code is None:
        assert (node.welcome["incarnation"], node.welcome["credential"]) == (1, None)
        assert await refusals(links.cluster) == []
        return
    status = 4403 if code in ("not_permitted", "join_refused") else 4401
    assert ended(node) == (code, False, (status, code))
    assert links.cluster.registry.list_nodes() == []
    (refused,) = await refusals(links.cluster)
    assert (refused.reason, refused.address) == (code, WHERE)


@pytest.mark.parametrize("holder", [holder for holder in LINKS if holder != "none"])
async def test_a_bearer_at_the_upgrade_is_as_good_as_one_in_hello(links: Links, holders: Holders, holder: str) -> None:
    shown = getattr(holders, holder)
    code = LINKS[holder]
    if code is not None and code.startswith("token_"):
        with pytest.raises(Unauthenticated) as raised:
            links.connect(bearer=shown, address=WHERE)
        assert raised.value.code == code
        (refused,) = await refusals(links.cluster)
        assert (refused.action, refused.reason, refused.address) == ("open a link", code, WHERE)
        return
    node = links.connect(bearer=shown)
    node.hello(NODE)
    await links.settle()
    assert (node.closed or (0, None))[1] == code


async def test_two_different_tokens_are_refused_and_the_same_twice_is_not(links: Links, holders: Holders) -> None:
    node = links.connect(bearer=holders.own, address=WHERE)
    node.hello(NODE, token=holders.admin)
    assert ended(node) == ("unauthenticated", False, (4401, "unauthenticated"))
    assert [(entry.reason, entry.address) for entry in await refusals(links.cluster)] == [("unauthenticated", WHERE)]
    again = links.connect(bearer=holders.own)
    again.hello(NODE, token=holders.own)
    await links.settle()
    assert again.welcome


async def test_a_server_that_asks_for_no_token_looks_at_none(open_cluster: Opening) -> None:
    async with open_cluster() as cluster:
        node = await Links(cluster).open(token="whatever")
        assert node.welcome["credential"] is None


async def test_nobody_but_the_registry_links_by_its_name(links: Links, holders: Holders) -> None:
    own = links.cluster.registry.owner
    for shown in (holders.gateway, holders.admin):
        node = await links.open(own, token=shown)
        assert ended(node)[0] == "not_permitted"


async def test_a_link_resumes_with_its_credential_and_not_with_anothers(links: Links, holders: Holders) -> None:
    first = await links.open(NODE, token=holders.own)
    resume = first.resume
    first.cut()
    thieves = ((holders.other, "not_permitted"), (None, "unauthenticated"), (holders.revoked, "token_revoked"))
    for shown, code in thieves:
        thief = await links.open(NODE, token=shown, resume=resume)
        assert ended(thief)[0] == code
    again = await links.open(NODE, token=holders.own, resume=resume)
    assert again.welcome["resumed"]


async def test_a_credential_speaks_for_its_node_through_the_link(links: Links, holders: Holders) -> None:
    node = await links.open(NODE, token=holders.own)
    node.say("hb", seq=1, cpu_load=1.0)
    await links.settle()
    assert node.acked == 1
    page = await links.cluster.registry.log.page(since=Revision(0), pattern=Pattern(">"), limit=100)
    assert {event.actor for event in page.events} == {f"node:{NODE}"}


@pytest.mark.parametrize("how", ["revoked", "reissued", "expired", "removed"])
async def test_a_live_link_ends_with_its_token(links: Links, how: str) -> None:
    cluster, registry = links.cluster, links.cluster.registry
    shown = await credential(registry, NODE)
    if how == "expired":
        shown = await token(registry, "short", Scope.NODE, expires_in_s=30)
    node = await links.open(NODE, token=shown)
    assert held(cluster) == 1
    code, close = "token_revoked", 4401
    match how:
        case "revoked":
            await registry.tokens.revoke(NODE, actor=LOCAL_OPERATOR)
        case "reissued":
            await credential(registry, NODE)
        case "expired":
            for _ in range(4):
                await cluster.turn(10)
                node.say("backlog", beats=[])
            code = "token_expired"
        case "removed":
            await registry.deregister(registry.get_node(NODE).id, force=True)
            code, close = "deregistered", 4404
    assert ended(node) == (code, False, (close, code))
    node.cut()
    assert held(cluster) == 0
    again = await links.open(NODE, token=shown)
    assert ended(again)[0] == {"reissued": "token_unknown", "expired": "token_expired"}.get(how, "token_revoked")


async def test_expiry_cuts_within_seconds_and_not_before(links: Links) -> None:
    shown = await token(links.cluster.registry, "short", Scope.NODE, expires_in_s=30)
    node = await links.open(NODE, token=shown)
    await links.cluster.turn(29)
    node.say("backlog", beats=[])
    assert node.closed is None
    await links.cluster.turn(1 + LOOK_S)
    assert ended(node) == ("token_expired", False, (4401, "token_expired"))


@pytest.mark.parametrize("first", ["revoke", "hello"])
async def test_a_hello_that_was_under_way_does_not_open(links: Links, holders: Holders, first: str) -> None:
    registry = links.cluster.registry
    node = links.connect()
    # Both are queued before either is planned, and share a commit.
    if first == "hello":
        node.hello(NODE, token=holders.own)
    revoking = asyncio.ensure_future(registry.tokens.revoke(NODE, actor=LOCAL_OPERATOR))
    if first == "revoke":
        node.hello(NODE, token=holders.own)
    await revoking
    await links.settle()
    assert node.of("welcome") == []
    assert ended(node) == ("token_revoked", False, (4401, "token_revoked"))
    assert len(registry.uplinks) == 0
    assert held(links.cluster) == 0
    assert registry.list_sessions(status="established") == []


@pytest.mark.parametrize("turns", range(6))
async def test_whenever_its_token_is_revoked_no_handshake_leaves_a_session_that_nobody_holds(
    links: Links, holders: Holders, turns: int
) -> None:
    registry = links.cluster.registry
    # While this is committed the two others wait, and share the commit behind it.
    before = asyncio.ensure_future(registry.domain.register_node(NodeAttrs(name="before"), actor=LOCAL_OPERATOR))
    for _ in range(turns):
        await asyncio.sleep(0)
    node = links.connect()
    node.hello(NODE, token=holders.own)
    await asyncio.sleep(0)
    revoking = asyncio.ensure_future(registry.tokens.revoke(NODE, actor=LOCAL_OPERATOR))
    await asyncio.gather(before, revoking)
    await links.settle()
    assert ended(node) == ("token_revoked", False, (4401, "token_revoked"))
    sessions = {session.session_id for session in registry.list_sessions(status="established")}
    assert sessions == set(registry.roster.held)


async def test_a_beat_that_was_under_way_is_not_kept_once_the_token_is_revoked(links: Links, holders: Holders) -> None:
    registry = links.cluster.registry
    node = await links.open(NODE, token=holders.own)
    revoking = asyncio.ensure_future(registry.tokens.revoke(NODE, actor=LOCAL_OPERATOR))
    await asyncio.sleep(0)
    node.say("hb", seq=1, cpu_load=1.0)
    await revoking
    await links.settle()
    assert await registry.recent_heartbeats(NODE, 60) == []
    assert node.acked is None


# Streams


@pytest.mark.parametrize(("holder", "refused"), READING.items())
async def test_a_stream_is_opened_by_who_may_read(
    guarded: Cluster, holders: Holders, holder: str, refused: tuple[int, str] | None
) -> None:
    shown = getattr(holders, holder)
    headers = {} if shown is None else {"Authorization": f"Bearer {shown}"}
    async with open_stream(guarded, shown=headers) as stream:
        if refused is None:
            assert (stream.status, held(guarded)) == (200, 1)
        else:
            await stream.over()
            assert (stream.status, json.loads(stream.body)["code"]) == refused
    assert held(guarded) == 0


async def test_a_stream_tells_why_its_token_ended_it(guarded: Cluster) -> None:
    registry = guarded.registry
    shown = {"Authorization": f"Bearer {await token(registry, 'reader', Scope.READ)}"}
    async with open_stream(guarded, since=registry.cursor, shown=shown) as stream:
        await stream.message()
        await registry.tokens.revoke("reader", actor=LOCAL_OPERATOR)
        message = await stream.message()
        await stream.over()
        assert message.event == "thunderline.cut"
        cut = json.loads(message.data or b"")
        assert (cut["code"], cut["retryable"], cut["resume_from"]) == ("token_revoked", False, registry.cursor)
        assert stream.ended
    assert held(guarded) == 0


async def test_a_stream_ends_when_its_token_expires_and_tells_nothing_more(guarded: Cluster) -> None:
    registry = guarded.registry
    shown = {"Authorization": f"Bearer {await token(registry, 'reader', Scope.READ, expires_in_s=30)}"}
    async with open_stream(guarded, since=registry.cursor, shown=shown) as stream:
        await stream.message()
        await guarded.turn(30 + LOOK_S)
        await registry.ensure_node({"name": "late"})
        await stream.over()
        assert b"token_expired" in stream.body
        assert b"late" not in stream.body


async def test_a_stream_whose_client_reads_nothing_ends_with_its_token_too(guarded: Cluster) -> None:
    registry = guarded.registry
    shown = {"Authorization": f"Bearer {await token(registry, 'reader', Scope.READ)}"}
    async with open_stream(guarded, since=registry.cursor, shown=shown) as stream:
        await stream.message()
        stream.reading.clear()
        await registry.ensure_node({"name": "unread"})
        await guarded.settle()
        await registry.tokens.revoke("reader", actor=LOCAL_OPERATOR)
        await guarded.turn(END_TIMEOUT_S + 0.5)
        await stream.over()
        assert b"unread" not in stream.body
    assert held(guarded) == 0


# Channels


async def test_channels_close_with_their_token(guarded: Cluster) -> None:
    registry = guarded.registry
    text = await token(registry, "reader", Scope.READ)
    client = Client(guarded, actor=registry.access.authenticate(text, address=None))
    await client.join()
    await client.take()
    await registry.tokens.revoke("reader", actor=LOCAL_OPERATOR)
    assert client.closed is not None
    assert client.closed[0] == 4401
    assert client.closed[1].startswith("token_revoked: ")
    await registry.ensure_node({"name": "late"})
    assert await client.take() == []
    client.socket.lost()
    assert held(guarded) == 0


async def test_channels_that_have_closed_hold_nothing(guarded: Cluster) -> None:
    text = await token(guarded.registry, "reader", Scope.READ)
    client = Client(guarded, actor=guarded.registry.access.authenticate(text, address=None))
    assert held(guarded) == 1
    client.socket.lost()
    assert held(guarded) == 0


# Over sockets: what is shown at the upgrade


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    settings = Settings(port=0, store="memory://", auth=True, admin_token_file=str(tmp_path / "admin.token"))
    async with open_server(settings) as opened:
        yield opened


def offered(text: str) -> list[str]:
    """The subprotocols of Phoenix' JavaScript client with that `authToken`."""
    return ["phoenix", "base64url.bearer.phx." + base64.b64encode(text.encode()).decode().rstrip("=")]


async def upgraded(
    server: Server, path: str, *, subprotocols: list[str] | None = None, **headers: str
) -> tuple[int, str]:
    """Status and code of a refused upgrade; 101 and the subprotocol of one that was not."""
    url = server.url.replace("http://", "ws://") + path
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    names: Any = subprotocols
    try:
        async with connect(url, subprotocols=names, additional_headers=named, proxy=None) as connection:
            return 101, connection.subprotocol or ""
    except InvalidStatus as error:
        response = error.response
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, json.loads(response.body)["code"]


async def cookie_of(server: Server, text: str) -> str:
    """The `Cookie` of a browser that logged in with that token."""
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        headers = {"X-Thunderline": "1", "Origin": server.url}
        answer = await client.post("/api/session", json={"token": text}, headers=headers)
        assert answer.status_code == 201, answer.text
        return answer.headers["set-cookie"].partition(";")[0]


CHANNELS: Final = "/socket/websocket?vsn=2.0.0"


async def test_an_upgrade_to_channels_is_answered_by_what_it_shows(server: Server) -> None:
    registry = server.registry
    holders = await make_holders(registry)
    cookie = await cookie_of(server, holders.reader)
    foreign = "https://evil.example"
    bearer = {name: f"Bearer {getattr(holders, name)}" for name in READING if name != "none"}
    asked: dict[str, tuple[dict[str, Any], tuple[int, str]]] = {
        "nothing": ({}, (401, "unauthenticated")),
        "a foreign origin": ({"Origin": foreign, "Authorization": bearer["reader"]}, (403, "origin_refused")),
        "a cookie": ({"Cookie": cookie, "Origin": server.url}, (101, "")),
        "a cookie of a foreign page": ({"Cookie": cookie, "Origin": foreign}, (403, "origin_refused")),
        "a cookie without a page": ({"Cookie": cookie}, (403, "origin_refused")),
        "a cookie that is none": ({"Cookie": cookie[:-4] + "AAAA", "Origin": server.url}, (401, "unauthenticated")),
        "both": (
            {"Cookie": cookie, "Origin": server.url, "Authorization": bearer["reader"]},
            (401, "unauthenticated"),
        ),
        "another scheme": ({"Authorization": "Basic dXNlcjpwYXNz"}, (401, "unauthenticated")),
        "authToken": ({"subprotocols": offered(holders.reader)}, (101, "phoenix")),
        "authToken of no text": ({"subprotocols": ["phoenix", "base64url.bearer.phx.wr-_"]}, (401, "unauthenticated")),
        "authToken beside a cookie": (
            {"subprotocols": offered(holders.reader), "Cookie": cookie, "Origin": server.url},
            (101, "phoenix"),
        ),
        "authToken of a node": ({"subprotocols": offered(holders.own)}, (403, "not_permitted")),
        "authToken that is none": ({"subprotocols": offered("guess")}, (401, "token_unknown")),
        "authToken that cannot be read": (
            {"subprotocols": ["phoenix", "base64url.bearer.phx.A"]},
            (401, "unauthenticated"),
        ),
        "two authTokens": (
            {"subprotocols": [*offered(holders.reader), offered(holders.admin)[1]]},
            (401, "unauthenticated"),
        ),
        "authToken beside another bearer": (
            {"subprotocols": offered(holders.reader), "Authorization": bearer["admin"]},
            (401, "unauthenticated"),
        ),
        "a token in the URL": ({"path": f"{CHANNELS}&token={holders.reader}"}, (401, "unauthenticated")),
    }
    for name, refused in READING.items():
        if name not in ("none", "expired"):
            asked[f"the bearer {name}"] = ({"Authorization": bearer[name]}, refused or (101, ""))
    answers = {}
    for name, (shown, _) in asked.items():
        answers[name] = await upgraded(server, **{"path": CHANNELS, **shown})
    assert answers == {name: answer for name, (_, answer) in asked.items()}


async def test_an_upgrade_to_a_link_is_answered_by_what_it_shows(server: Server) -> None:
    holders = await make_holders(server.registry)
    cookie = await cookie_of(server, holders.admin)
    good, open_ = f"Bearer {holders.own}", (101, JSON_SUBPROTOCOL)
    asked: dict[str, tuple[dict[str, str], tuple[int, str]]] = {
        "nothing, which hello may yet bring": ({}, open_),
        "its credential": ({"Authorization": good}, open_),
        "a token that is none": ({"Authorization": "Bearer guess"}, (401, "token_unknown")),
        "one that was revoked": ({"Authorization": f"Bearer {holders.revoked}"}, (401, "token_revoked")),
        "another scheme": ({"Authorization": "Basic dXNlcjpwYXNz"}, (401, "unauthenticated")),
        "a foreign origin": ({"Authorization": good, "Origin": "https://evil.example"}, (403, "origin_refused")),
        "its own origin": ({"Authorization": good, "Origin": server.url}, open_),
    }
    answers = {}
    for name, (shown, _) in asked.items():
        answers[name] = await upgraded(server, "/link", subprotocols=[JSON_SUBPROTOCOL], **shown)
    assert answers == {name: answer for name, (_, answer) in asked.items()}
    url = server.url.replace("http://", "ws://") + "/link"
    names: Any = [JSON_SUBPROTOCOL]
    page = {"Cookie": cookie, "Origin": server.url}
    async with connect(url, subprotocols=names, additional_headers=page, proxy=None) as connection:
        await connection.send(json.dumps({"type": "hello", "name": NODE, "instance": "a"}))
        assert json.loads(await connection.recv())["code"] == "unauthenticated"  # a cookie is no node's


@pytest.mark.parametrize("shown", [{}, {"Authorization": f"Bearer {NO_TOKEN}"}])
async def test_strangers_who_ask_for_links_are_counted_by_address(shown: dict[str, str], tmp_path: Path) -> None:
    file = str(tmp_path / "admin.token")
    settings = Settings(port=0, store="memory://", auth=True, admin_token_file=file, requests_per_second_address=1)
    async with open_server(settings) as server:
        first = (101, JSON_SUBPROTOCOL) if not shown else (401, "token_unknown")
        answers = [first]
        # The bucket fills again while this asks, by less than it is asked for.
        while answers[-1] == first:
            answers.append(await upgraded(server, "/link", subprotocols=[JSON_SUBPROTOCOL], **shown))
        assert answers[-1] == (429, "rate_limited")
        assert len(answers) > BURST_S
        good = {"Authorization": f"Bearer {await credential(server.registry, NODE)}"}
        assert await upgraded(server, "/link", subprotocols=[JSON_SUBPROTOCOL], **good) == (101, JSON_SUBPROTOCOL)


async def test_a_header_that_is_there_twice_is_refused(server: Server) -> None:
    for name in ("Authorization", "Cookie", "Origin"):
        url = server.url.replace("http://", "ws://") + CHANNELS
        with pytest.raises(InvalidStatus) as raised:
            await connect(url, additional_headers=[(name, "a"), (name, "b")], proxy=None)
        assert raised.value.response.status_code == 400


async def test_a_socket_with_channels_closes_when_its_token_is_revoked(server: Server) -> None:
    text = await token(server.registry, "page", Scope.READ)
    url = server.url.replace("http://", "ws://") + CHANNELS
    names: Any = offered(text)
    async with connect(url, subprotocols=names, proxy=None) as connection:
        await server.registry.tokens.revoke("page", actor=LOCAL_OPERATOR)
        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason[:13]) == (4401, "token_revoked")


async def test_no_token_stands_in_what_a_refused_upgrade_is_told(server: Server) -> None:
    holders = await make_holders(server.registry)
    url = server.url.replace("http://", "ws://") + CHANNELS
    for shown in (holders.revoked, holders.own):
        names: Any = offered(shown)
        with pytest.raises(InvalidStatus) as raised:
            await connect(url, subprotocols=names, proxy=None)
        assert shown[36:].encode() not in raised.value.response.body
