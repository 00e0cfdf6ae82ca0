"""A cluster that asks for tokens, and callers of every kind."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx
import msgspec

from tests.engines import Opening
from thunderline.core.access import Scope
from thunderline.core.inputs import JoinInput, NewToken, ReissueInput
from thunderline.core.settings import Settings
from thunderline.link.actor import EMBEDDING_PROGRAM
from thunderline.testing.harness import Cluster

ORIGIN: Final = "http://127.0.0.1"
OWN_PAGE: Final = {"x-thunderline": "1", "origin": ORIGIN}
"""What a page of ours sends with what changes something."""

SETTINGS: Final = Settings(auth=True, session_ttl_s=60, requests_per_second_address=1_000_000)
"""With a limit that no test meets that is not about it."""


class World:
    """The cluster, with the texts of tokens by who has them.

    `reader`, `gateway` (scope `node`), `operator` and `admin` have a token of that scope; `a` and `b` are nodes with
    their credentials; `joiner` has a join token; the tokens of `expired` and `revoked` were of scope `admin`.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.registry = cluster.registry
        self.texts: dict[str, str] = {"nobody's": "tl_" + "0" * 32 + "_" + "A" * 43}

    async def ask(
        self, who: str | None, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """The answer to a request of theirs; None shows nothing."""
        shown = {} if who is None else {"authorization": f"Bearer {self.texts[who]}"}
        content = None if body is None else json.dumps(body).encode()
        described = {} if body is None else {"content-type": "application/json"}
        return await self.cluster.http.request(
            method, path, content=content, headers={**shown, **described, **(headers or {})}
        )

    async def log_in(self, who: str) -> str:
        """The `Cookie` of a browser that logged in by their token."""
        answer = await self.cluster.http.post("/api/session", json={"token": self.texts[who]}, headers=OWN_PAGE)
        answer.raise_for_status()
        # The client would send it along with everybody's requests.
        self.cluster.http.cookies.clear()
        cookie: str = answer.headers["set-cookie"].partition(";")[0]
        return cookie

    def state(self) -> Any:
        """All that a request could change."""
        registry = self.registry
        entries = [registry.roster.find(node.id) for node in registry.list_nodes()]
        presences = [(entry.node.name, registry.presence_of(entry)) for entry in entries]
        return registry.roster.revision, presences, sorted(registry.roster.tokens, key=lambda token: token.id)

    async def audit(self) -> list[dict[str, Any]]:
        """The audit log, the newest entry first, once what was refused is in it."""
        await self.cluster.turn(11)
        answer = await self.ask("admin", "GET", "/api/audit?limit=1000")
        entries: list[dict[str, Any]] = answer.json()["entries"]
        return entries


@asynccontextmanager
async def open_world(open_cluster: Opening, settings: Settings = SETTINGS, **changed: Any) -> AsyncIterator[World]:
    """A cluster with all these callers."""
    async with open_cluster(settings=msgspec.structs.replace(settings, **changed)) as cluster:
        world, tokens = World(cluster), cluster.registry.tokens
        for who, scope in (
            ("reader", Scope.READ),
            ("gateway", Scope.NODE),
            ("operator", Scope.OPERATOR),
            ("admin", Scope.ADMIN),
            ("revoked", Scope.ADMIN),
        ):
            issued = await tokens.create_token(NewToken(name=who, scopes=(scope,)), actor=EMBEDDING_PROGRAM)
            world.texts[who] = issued.text
        short = NewToken(name="expired", scopes=(Scope.ADMIN,), expires_in_s=1)
        world.texts["expired"] = (await tokens.create_token(short, actor=EMBEDDING_PROGRAM)).text
        join = NewToken(name="joiner", join=JoinInput())
        world.texts["joiner"] = (await tokens.create_token(join, actor=EMBEDDING_PROGRAM)).text
        for node in ("a", "b"):
            await cluster.registry.ensure_node({"name": node})
            world.texts[node] = (await tokens.reissue(node, ReissueInput(), actor=EMBEDDING_PROGRAM)).text
        await tokens.revoke("revoked", actor=EMBEDDING_PROGRAM)
        await cluster.turn(2)
        yield world


async def send_late(
    world: World,
    who: str,
    method: str,
    path: str,
    body: Any,
    meanwhile: Callable[[], Awaitable[Any]],
    *,
    client: tuple[str, int] = ("127.0.0.1", 1),
) -> tuple[int, dict[str, Any]]:
    """The status and the body of the answer to a request whose body comes after its head, and after `meanwhile`."""
    sent: list[Any] = []
    content = json.dumps(body).encode()

    async def receive() -> dict[str, Any]:
        await meanwhile()
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "http_version": "1.1",
        "client": client,
        "headers": [
            (b"host", b"127.0.0.1"),
            (b"authorization", f"Bearer {world.texts[who]}".encode()),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
        ],
    }
    transport = world.cluster.transport
    assert isinstance(transport, httpx.ASGITransport)
    await transport.app(scope, receive, send)
    answer = b"".join(message.get("body", b"") for message in sent[1:])
    return int(sent[0]["status"]), json.loads(answer or b"{}")


def at_address(world: World, address: str) -> httpx.AsyncClient:
    """A client that speaks from there."""
    transport = world.cluster.transport
    assert isinstance(transport, httpx.ASGITransport)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=transport.app, client=(address, 1)), base_url=world.cluster.url
    )
