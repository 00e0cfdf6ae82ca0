"""The shapes of batches: their bodies, read in steps, and the results of their items, written in order.

Items are read one by one, so that one that is bad fails alone. A batch is read and written a step at a time, between
which the event loop is given to others: the largest takes longer than anybody should wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from thunderline.core.errors import BatchRefused, InvalidInput, NotDone, ThunderlineError
from thunderline.core.inputs import NodeAttrs, NodeBeat, read_json
from thunderline.core.records import Heartbeat
from thunderline.gate.bodies import PresentNode, encode
from thunderline.gate.faults import Problem, http_status, problem_of

T = TypeVar("T")

BATCH_MAX: Final = 1_000
STEP: Final = 100
"""Items that are read, or whose results are written, in one go: about a millisecond."""


class NodesInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nodes to ensure, in order."""

    nodes: Annotated[list[NodeAttrs], Meta(max_length=BATCH_MAX)]


class HeartbeatsInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Heartbeats of any nodes, in order."""

    heartbeats: Annotated[list[NodeBeat], Meta(max_length=BATCH_MAX)]


class NodeResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one item: the status that the single call would have had, and its node or its problem."""

    index: int
    status: int
    node: PresentNode | UnsetType = UNSET
    problem: Problem | UnsetType = UNSET


class NodeResults(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each item, in order."""

    results: list[NodeResult]


class HeartbeatResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one item: the status that the single call would have had, and its heartbeat or its problem."""

    index: int
    status: int
    heartbeat: Heartbeat | UnsetType = UNSET
    next_interval_ms: int | UnsetType = UNSET
    problem: Problem | UnsetType = UNSET


class HeartbeatResults(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each item, in order."""

    results: list[HeartbeatResult]


class BatchProblem(Problem, frozen=True, kw_only=True, omit_defaults=True):
    """That a batch which is done whole or not at all was not done, and what became of each item."""

    results: list[msgspec.Raw]


class _RawNodes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    nodes: Annotated[list[msgspec.Raw], Meta(max_length=BATCH_MAX)]


class _RawBeats(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    heartbeats: Annotated[list[msgspec.Raw], Meta(max_length=BATCH_MAX)]


_RAW_NODES: Final = msgspec.json.Decoder(_RawNodes)
_RAW_BEATS: Final = msgspec.json.Decoder(_RawBeats)
NODE: Final = msgspec.json.Decoder(NodeAttrs)
BEAT: Final = msgspec.json.Decoder(NodeBeat)


def raw_nodes(body: bytes) -> list[msgspec.Raw]:
    """The items of a batch of nodes, not read yet. Raises: MalformedBody, InvalidInput."""
    return read_json(body, _RAW_NODES).nodes


def raw_beats(body: bytes) -> list[msgspec.Raw]:
    """The items of a batch of heartbeats, not read yet. Raises: MalformedBody, InvalidInput."""
    return read_json(body, _RAW_BEATS).heartbeats


async def read_items(
    raw: Sequence[msgspec.Raw], decoder: msgspec.json.Decoder[T]
) -> AsyncIterator[list[T | ThunderlineError]]:
    """The items a step at a time, in order; of one that cannot be read, why."""
    for start in range(0, len(raw), STEP):
        step: list[T | ThunderlineError] = []
        for item in raw[start : start + STEP]:
            try:
                step.append(read_json(bytes(item), decoder))
            except InvalidInput as error:
                step.append(error)
        yield step
        await asyncio.sleep(0)


def is_final(error: ThunderlineError) -> bool:
    """Whether the item would be refused again, so that its answer may be kept."""
    return not error.retryable and http_status(type(error)) < 500


def done(index: int, status: int, **parts: bytes) -> bytes:
    """The result of an item that was done; `parts` are JSON."""
    told = b"".join(b',"' + name.encode() + b'":' + part for name, part in parts.items())
    return b'{"index":%d,"status":%d%b}' % (index, status, told)


def failed(index: int, error: ThunderlineError, *, items: str) -> bytes:
    """The result of an item that could not be done, with its field named from the root of the body, `items`."""
    problem = item_problem(index, error, items=items)
    return done(index, problem.status, problem=encode(problem))


def item_problem(index: int, error: ThunderlineError, *, items: str) -> Problem:
    """What is told of an item's error."""
    problem = problem_of(error)
    if problem.field is None:
        return problem
    below = "" if problem.field == "body" else f".{problem.field}"
    return msgspec.structs.replace(problem, field=f"{items}[{index}]{below}")


def refusal(error: BatchRefused, *, items: str) -> BatchProblem:
    """What is told of a batch that was refused for some of its items."""
    first = min(error.errors)
    told = problem_of(error)
    not_done = NotDone()
    results = [
        msgspec.Raw(failed(index, error.errors.get(index, not_done), items=items)) for index in range(error.size)
    ]
    return BatchProblem(
        type=told.type,
        title=told.title,
        status=told.status,
        detail=told.detail,
        code=told.code,
        retryable=told.retryable,
        field=item_problem(first, error.errors[first], items=items).field or f"{items}[{first}]",
        results=results,
    )


def results_json(results: Iterable[bytes]) -> bytes:
    """The body that holds the items' results."""
    return b'{"results":[' + b",".join(results) + b"]}"
