"""What a browser does of itself before the gate: it keeps the cookie, and says which page asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from thunderline.core.access import Scope
from thunderline.core.inputs import NewToken
from thunderline.link.actor import EMBEDDING_PROGRAM
from thunderline.testing.harness import Cluster

OWN = {"x-thunderline": "1"}
"""What our own pages send along."""


async def new_token(cluster: Cluster, name: str, *scopes: Scope, expires_in_s: int | None = None) -> str:
    """The text of a new token."""
    wanted = NewToken(name=name, scopes=scopes, expires_in_s=expires_in_s)
    return (await cluster.registry.tokens.create_token(wanted, actor=EMBEDDING_PROGRAM)).text


async def revoke(cluster: Cluster, name: str) -> None:
    """End the token of that name."""
    await cluster.registry.tokens.revoke(name, actor=EMBEDDING_PROGRAM)


async def log_in(http: httpx.AsyncClient, token: str) -> httpx.Response:
    """The answer to logging in."""
    return await http.post("/api/session", json={"token": token}, headers=OWN)


@asynccontextmanager
async def open_browser(cluster: Cluster, url: str = "http://127.0.0.1") -> AsyncIterator[httpx.AsyncClient]:
    """A browser with a page of `url` open."""
    async with httpx.AsyncClient(transport=cluster.transport, base_url=url, headers={"origin": url}) as http:
        yield http
