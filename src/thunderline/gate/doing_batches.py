"""How a batch is done: each item for itself, as single calls would be, or all of them as one change."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

import msgspec

from thunderline.core.errors import BatchRefused, ContentRejected, OutcomeUnknown, ThunderlineError, Unavailable
from thunderline.core.inputs import NodeAttrs, NodeBeat
from thunderline.gate.batches import (
    BEAT,
    NODE,
    STEP,
    done,
    failed,
    is_final,
    raw_beats,
    raw_nodes,
    read_items,
    results_json,
)
from thunderline.gate.bodies import changed_node_json, encode
from thunderline.gate.doorkeeper import Doorkeeper
from thunderline.gate.once import Reply, once, replay
from thunderline.link.actor import Action, Actor
from thunderline.link.answers import KeyedRequest
from thunderline.link.conditions import Condition, Keeping
from thunderline.link.overlay import Overlay
from thunderline.link.plans import Ensured, Kept
from thunderline.link.registry import Registry
from thunderline.link.roster import Entry

I = TypeVar("I")  # noqa: E741  # an item as it is read
R = TypeVar("R")  # an item that is ready to be planned
V = TypeVar("V")  # what an item gives


class Batch(ABC, Generic[I, R, V]):
    """One batch of one request. Raises, when made: MalformedBody, InvalidInput for a body that is no such batch."""

    items: ClassVar[str]
    """Under which name the body holds the items."""

    def __init__(
        self,
        registry: Registry,
        raw: Sequence[msgspec.Raw],
        decoder: msgspec.json.Decoder[I],
        *,
        actor: Actor,
        doorkeeper: Doorkeeper,
    ) -> None:
        self._registry = registry
        self._raw = raw
        self._decoder = decoder
        self._actor = actor
        self._doorkeeper = doorkeeper

    async def one_by_one(self, request: KeyedRequest | None) -> Reply:
        """Each item for itself. With a key the answer is kept once all items are settled.

        A crash before that lets a repeated request do them again, of which each item is such as may be repeated. An
        answer that bids the caller try an item again is not kept.
        """
        if request is None:
            return (await self._each())[0]
        answers = self._registry.answers
        with answers.claimed(request):
            if (kept := await answers.find(request)) is not None:
                return replay(self._registry, kept)
            reply, settled = await self._each()
            if settled:
                # What was done is told in any case; repeated, it changes nothing more.
                with contextlib.suppress(Unavailable, OutcomeUnknown, ContentRejected):
                    await answers.keep_alone(request, status=reply.status, body=reply.body)
            return reply

    async def as_one(self, request: KeyedRequest | None) -> Reply:
        """All items as one change. Raises: BatchRefused, and what the writer refuses whole."""
        return await once(self._registry, request, self._all, self._told)

    async def _each(self) -> tuple[Reply, bool]:
        queued: list[asyncio.Future[V] | ThunderlineError] = []
        async for step in read_items(self._raw, self._decoder):
            queued += [self._queue(item) for item in step]
        await asyncio.gather(
            *(waiting for waiting in queued if isinstance(waiting, asyncio.Future)), return_exceptions=True
        )
        results: list[bytes] = []
        settled = True
        for start in range(0, len(queued), STEP):
            for index, waiting in enumerate(queued[start : start + STEP], start=start):
                error = waiting.exception() if isinstance(waiting, asyncio.Future) else waiting
                if error is None and isinstance(waiting, asyncio.Future):
                    results.append(self._result(index, waiting.result(), None))
                elif isinstance(error, ThunderlineError):
                    results.append(failed(index, error, items=self.items))
                    settled = settled and is_final(error)
                elif error is not None:
                    raise error
            await asyncio.sleep(0)
        return Reply(200, results_json(results)), settled

    def _queue(self, item: I | ThunderlineError) -> asyncio.Future[V] | ThunderlineError:
        if isinstance(item, ThunderlineError):
            return item
        try:
            return self._submit(item)
        except ThunderlineError as error:
            return error

    async def _all(self, keeping: Keeping | None) -> list[V]:
        ready: list[R] = []
        errors: dict[int, ThunderlineError] = {}
        index = 0
        async for step in read_items(self._raw, self._decoder):
            for item in step:
                try:
                    if isinstance(item, ThunderlineError):
                        raise item
                    ready.append(self._prepare(item))
                except ThunderlineError as error:
                    errors[index] = error
                index += 1
        if errors:
            raise BatchRefused(errors, size=len(self._raw))
        return await self._submit_all(ready, keeping)

    def _told(self, given: list[V], overlay: Overlay | None) -> Reply:
        return Reply(200, results_json(self._result(index, one, overlay) for index, one in enumerate(given)))

    @abstractmethod
    def _submit(self, item: I) -> asyncio.Future[V]:
        """Queue one item. Raises: what the single call does."""

    @abstractmethod
    def _prepare(self, item: I) -> R:
        """One item of those that are done as one; it counts as a sign of life now, if it is one at all."""

    @abstractmethod
    async def _submit_all(self, ready: list[R], condition: Condition | None) -> list[V]:
        """Do all items, or none. Raises: BatchRefused."""

    @abstractmethod
    def _result(self, index: int, given: V, overlay: Overlay | None) -> bytes:
        """What is told of an item; `overlay` if it is not committed yet."""


class NodesBatch(Batch[NodeAttrs, NodeAttrs, Ensured]):
    """Nodes to ensure."""

    items = "nodes"

    def __init__(self, registry: Registry, body: bytes, *, actor: Actor, doorkeeper: Doorkeeper) -> None:
        super().__init__(registry, raw_nodes(body), NODE, actor=actor, doorkeeper=doorkeeper)

    def _submit(self, item: NodeAttrs) -> asyncio.Future[Ensured]:
        return self._registry.batches.register_one(item, actor=self._actor)

    def _prepare(self, item: NodeAttrs) -> NodeAttrs:
        self._registry.access.authorise(self._actor, Action.REGISTER, name=item.name)
        return item

    async def _submit_all(self, ready: list[NodeAttrs], condition: Condition | None) -> list[Ensured]:
        return await self._registry.batches.register_all(ready, actor=self._actor, condition=condition)

    def _result(self, index: int, given: Ensured, overlay: Overlay | None) -> bytes:
        sessions = None if overlay is None else len(overlay.open_sessions(given.node.id))
        node = changed_node_json(given.node, self._registry, sessions=sessions)
        return done(index, 201 if given.created else 200, node=node)


class BeatsBatch(Batch[NodeBeat, tuple[Entry, NodeBeat], Kept]):
    """Heartbeats of any nodes."""

    items = "heartbeats"

    def __init__(self, registry: Registry, body: bytes, *, actor: Actor, doorkeeper: Doorkeeper) -> None:
        super().__init__(registry, raw_beats(body), BEAT, actor=actor, doorkeeper=doorkeeper)

    def _submit(self, item: NodeBeat) -> asyncio.Future[Kept]:
        entry, beat = self._prepare(item)
        return self._registry.domain.keep_beat(entry, beat, actor=self._actor)

    def _prepare(self, item: NodeBeat) -> tuple[Entry, NodeBeat]:
        entry = self._registry.roster.find(item.node)
        self._registry.domain.hear(entry, item, actor=self._actor)
        refused = self._doorkeeper.too_many_beats(self._actor, entry.node.id, entry.node.name)
        if refused is not None and refused.error is not None:
            raise refused.error
        return entry, item

    async def _submit_all(self, ready: list[tuple[Entry, NodeBeat]], condition: Condition | None) -> list[Kept]:
        return await self._registry.batches.beat_all(ready, actor=self._actor, condition=condition)

    def _result(self, index: int, given: Kept, overlay: Overlay | None) -> bytes:
        return done(
            index,
            200 if given.repeated else 201,
            heartbeat=encode(given.heartbeat),
            next_interval_ms=b"%d" % given.next_interval_ms,
        )
