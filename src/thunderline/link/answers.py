"""Answers that are kept, so that a request which is repeated has its effect once.

An answer is written in the transaction of its effect, under a key that the store holds to be unique: whatever happens
between the two requests, the second finds the answer of the first or has no effect. Telling two that come at once from
each other before the store does is a courtesy of this process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from thunderline.block.store import KeptAnswer, Store
from thunderline.core.clock import Clock
from thunderline.core.errors import IdempotencyKeyInUse, IdempotencyKeyReused
from thunderline.link.actor import Actor
from thunderline.link.lanes import Lane
from thunderline.link.overlay import Overlay
from thunderline.link.writer import Writer


class KeyedRequest(msgspec.Struct, frozen=True):
    """A request that its caller has given a key; `request` tells it from others with the same one."""

    actor: Actor
    key: str
    request: bytes

    @property
    def caller(self) -> str:
        """In whose name the key is."""
        return self.actor.caller


class Answers:
    """The answers kept by one registry, each for `ttl_s` seconds."""

    def __init__(self, store: Store, writer: Writer, *, clock: Clock, ttl_s: float) -> None:
        self._store = store
        self._writer = writer
        self._clock = clock
        self._ttl_ms = round(ttl_s * 1000)
        self._claimed: set[tuple[str, str]] = set()

    @contextmanager
    def claimed(self, request: KeyedRequest) -> Iterator[None]:
        """A block in which no other request has the key. Raises: IdempotencyKeyInUse."""
        name = (request.caller, request.key)
        if name in self._claimed:
            raise IdempotencyKeyInUse
        self._claimed.add(name)
        try:
            yield
        finally:
            self._claimed.discard(name)

    async def find(self, request: KeyedRequest) -> KeptAnswer | None:
        """What the request was answered already, once the effect can be read too.

        Raises: IdempotencyKeyReused, StoreUnavailable; what `Writer.catch_up` does.
        """
        kept = await self._store.find_answer(request.caller, request.key)
        if kept is None or kept.expires_at_ms <= self._clock.now_ms():
            return None
        if kept.request != request.request:
            raise IdempotencyKeyReused
        # The store may have shown the answer before it told the writer of the commit.
        await self._writer.catch_up(actor=request.actor)
        return kept

    def keep(self, overlay: Overlay, request: KeyedRequest, *, status: int, body: bytes) -> None:
        """Keep an answer in the commit that `overlay` becomes."""
        overlay.keep_answer(
            KeptAnswer(
                caller=request.caller,
                key=request.key,
                request=request.request,
                status=status,
                body=body,
                kept_at_ms=overlay.now_ms,
                expires_at_ms=overlay.now_ms + self._ttl_ms,
            )
        )

    async def keep_alone(self, request: KeyedRequest, *, status: int, body: bytes) -> None:
        """Keep an answer whose effects are committed already.

        Raises: what `Writer.submit` does; ContentRejected when there is one meanwhile.
        """

        def plan(overlay: Overlay) -> None:
            self.keep(overlay, request, status=status, body=body)

        await self._writer.submit(Lane.MUTATIONS, plan, actor=request.actor)
