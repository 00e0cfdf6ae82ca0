"""Who may come in, how many of them, and for whom they speak: the rules, and over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderline.core.access import AuditEntry
from thunderline.core.errors import NotPermitted, RateLimited
from thunderline.core.ids import IdSource
from thunderline.core.settings import Settings
from thunderline.gate.entrance import Entrance, Place
from thunderline.gate.proxies import Proxies
from thunderline.link.actor import LOCAL_OPERATOR
from thunderline.link.refusals import NOTE_S, Refusals
from thunderline.server import Server, open_server
from thunderline.testing.clock import ManualClock
from thunderline.testing.records import numbered_ids

Making = Callable[..., Entrance]
UPGRADE = (
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: thunderline.link.v1+json\r\n"
)
PROXY = "127.0.0.2"


def made(clock: ManualClock, ids: IdSource, *networks: str, connections_max: int = 2) -> Entrance:
    return Entrance(Proxies(networks), connections_max=connections_max, refusals=Refusals(clock=clock, ids=ids))


@pytest.fixture
def making(clock: ManualClock, ids: IdSource) -> Making:
    return lambda *networks, connections_max=2: made(clock, ids, *networks, connections_max=connections_max)


# The rules


@pytest.mark.parametrize(
    ("first", "second", "count_together"),
    [
        ("198.51.100.7", "198.51.100.7", True),
        ("198.51.100.7", "198.51.100.8", False),
        ("198.51.100.7", "::ffff:198.51.100.7", True),
        ("2001:db8::1", "2001:db8::ffff:ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
    ],
)
def test_connections_of_one_address_are_counted_and_of_ipv6_those_of_one_site(
    making: Making, first: str, second: str, count_together: bool
) -> None:
    entrance = making(connections_max=1)
    place = entrance.enter(first)
    if not count_together:
        entrance.enter(second)
        return
    with pytest.raises(RateLimited):
        entrance.enter(second)
    place.leave()
    entrance.enter(second)


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.0.0.7", None])
def test_proxies_and_this_machine_are_not_counted(making: Making, peer: str | None) -> None:
    entrance = making("10.0.0.0/24", connections_max=1)
    places = [entrance.enter(peer) for _ in range(10)]
    assert entrance._counts == {}
    for place in places:
        place.leave()


@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=60), seed=st.integers(0, 9))
def test_what_is_counted_is_what_is_open_and_nothing_is_kept_of_who_has_left(
    steps: list[tuple[bool, int]], seed: int
) -> None:
    entrance, rng = made(ManualClock(), numbered_ids(), connections_max=3), random.Random(seed)
    addresses = [f"198.51.100.{i}" for i in range(4)]
    inside: list[tuple[str, Place]] = []
    for comes, which in steps:
        address = addresses[which]
        if comes:
            if Counter(each for each, _ in inside)[address] >= 3:
                with pytest.raises(RateLimited):
                    entrance.enter(address)
            else:
                inside.append((address, entrance.enter(address)))
        elif inside:
            _, place = inside.pop(rng.randrange(len(inside)))
            place.leave()
            place.leave()  # counts once
        assert entrance._counts == Counter(address for address, _ in inside)


def test_stranger_is_refused_where_proxies_are_and_nowhere_else(making: Making) -> None:
    assert making().enter("198.51.100.7").client_of((), scheme="http") == ("198.51.100.7", "http")
    guarded = making("10.0.0.0/24")
    for peer in ("198.51.100.7", None):
        with pytest.raises(NotPermitted, match="behind_proxy"):
            guarded.enter(peer).client_of((), scheme="http")
    assert guarded.enter("127.0.0.1").client_of((), scheme="http") == ("127.0.0.1", "http")


def test_forwarded_headers_that_are_given_twice_are_read_as_one(making: Making) -> None:
    headers = [(b"x-forwarded-for", b"203.0.113.9"), (b"host", b"a"), (b"x-forwarded-for", b"198.51.100.7")]
    assert making("10.0.0.1").enter("10.0.0.1").client_of(headers, scheme="http") == ("198.51.100.7", "https")


# Over sockets


class Guarded:
    """A server behind the proxy at 127.0.0.2, and what it is sent."""

    def __init__(self, server: Server, clock: ManualClock) -> None:
        self.port = int(server.url.rpartition(":")[2])
        self._registry = server.registry
        self._clock = clock

    async def connect(self, *, local: str = PROXY) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(local, 0))

    async def answer(self, headers: str, *, local: str = PROXY, path: str = "/api/nodes") -> tuple[int, str]:
        reader, writer = await self.connect(local=local)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = next(line.split(": ")[1] for line in head.split("\r\n") if line.startswith("content-length"))
            return int(head.split()[1]), json.loads(await reader.readexactly(int(length)))["detail"]
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def refusals(self) -> list[AuditEntry]:
        """What the audit log says was refused; the newest first."""
        await self._clock.advance(NOTE_S)
        return await self._registry.tokens.read_audit(actor=LOCAL_OPERATOR, limit=50)


@pytest.fixture
async def guarded(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guarded]:
    clock = ManualClock()
    settings = Settings(
        port=0,
        store="memory://",
        auth=True,
        behind_proxy=(PROXY,),
        connections_per_address=2,
        admin_token_file=str(tmp_path_factory.mktemp("first") / "token"),
    )
    async with open_server(settings, clock=clock) as server:
        yield Guarded(server, clock)


@pytest.mark.parametrize("upgrade", ["", UPGRADE])
@pytest.mark.parametrize(
    ("local", "headers", "address"),
    [
        (PROXY, "X-Forwarded-For: 203.0.113.9, 198.51.100.7\r\n", "198.51.100.7"),
        ("127.0.0.1", "X-Forwarded-For: 198.51.100.7\r\n", "127.0.0.1"),
        (PROXY, "", PROXY),
    ],
)
async def test_request_is_its_clients_where_a_proxy_says_so(
    guarded: Guarded, local: str, headers: str, address: str, upgrade: str
) -> None:
    path = "/link" if upgrade else "/api/nodes"
    shown = "Authorization: Bearer tl_none\r\n"
    assert (await guarded.answer(headers + upgrade + shown, local=local, path=path))[0] == 401
    [refusal] = [entry for entry in await guarded.refusals() if entry.reason == "token_unknown"]
    assert refusal.address == address


@pytest.mark.parametrize("upgrade", ["", UPGRADE])
async def test_request_that_reached_the_proxy_in_the_clear_is_refused(guarded: Guarded, upgrade: str) -> None:
    headers = "X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: http\r\n"
    status, detail = await guarded.answer(headers + upgrade, path="/link" if upgrade else "/healthz")
    assert status == 403
    assert "use https" in detail
    [refusal] = [entry for entry in await guarded.refusals() if entry.action == "connect"]
    assert (refusal.reason, refusal.address) == ("not_permitted", "198.51.100.7")


def come_from(monkeypatch: pytest.MonkeyPatch, far: str) -> None:
    """Have whoever connects from 127.0.0.3 come from `far`: a test has no other machine."""
    enter = Entrance.enter
    monkeypatch.setattr(Entrance, "enter", lambda entrance, peer: enter(entrance, far if peer == "127.0.0.3" else peer))


@pytest.mark.parametrize("upgrade", ["", UPGRADE])
async def test_who_does_not_come_by_the_proxy_is_refused(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, upgrade: str
) -> None:
    come_from(monkeypatch, "198.51.100.7")
    headers = "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: https\r\n"
    status, detail = await guarded.answer(headers + upgrade, local="127.0.0.3", path="/link" if upgrade else "/healthz")
    assert status == 403
    assert "behind_proxy" in detail
    [refusal] = [entry for entry in await guarded.refusals() if entry.action == "connect"]
    assert (refusal.reason, refusal.address) == ("not_permitted", "198.51.100.7")


async def test_a_connection_too_many_is_closed_and_a_link_counts_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    come_from(monkeypatch, "198.51.100.7")
    clock = ManualClock()
    settings = Settings(port=0, store="memory://", connections_per_address=2)
    async with open_server(settings, clock=clock) as server:
        door = Guarded(server, clock)
        reader, link = await door.connect(local="127.0.0.3")
        link.write(f"GET /link HTTP/1.1\r\nHost: localhost\r\n{UPGRADE}\r\n".encode())
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        idle_reader, idle = await door.connect(local="127.0.0.3")
        idle.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in await idle_reader.readuntil(b"\r\n\r\n")
        refused, third = await door.connect(local="127.0.0.3")
        third.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert await refused.read() == b""
        assert (await door.answer("", local="127.0.0.1", path="/nowhere"))[0] == 404  # this machine is not counted
        [refusal] = [entry for entry in await door.refusals() if entry.action == "connect"]
        assert (refusal.reason, refusal.address) == ("rate_limited", "198.51.100.7")
        link.transport.abort()
        status = None
        while status is None:  # until the server has seen the end of the link
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                status, _ = await door.answer("", local="127.0.0.3", path="/nowhere")
        assert status == 404
        for writer in (link, idle, third):
            writer.close()
