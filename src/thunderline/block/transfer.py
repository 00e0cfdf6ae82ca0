"""What a database holds as rows that every engine writes and reads alike: how one engine's data comes to another.

A `Source` gives all of it as of one moment, a `Sink` takes it into an empty database. Both block: they are for the
command line, and for threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from thunderline.block.store import HistoryClock
from thunderline.block.upkeep import Report

Rows = Sequence[Sequence[Any]]

COPYING: Final = "copying"

TABLES: Final[dict[str, tuple[str, ...]]] = {
    "metas": ("hash", "body"),
    "nodes": ("id", "name", "revision", "record", "meta_hash"),
    "groups": ("id", "name", "revision", "record", "meta_hash"),
    "link_sessions": ("id", "session_id", "node_id", "open", "record", "meta_hash"),
    "events": (
        *("revision", "id", "name", "at_ms", "source", "actor", "subject", "entity_kind", "entity_id"),
        *("correlation_id", "causation_id", "event_version", "deleted", "payload", "meta_hash", "commit_end"),
    ),
    "clock_steps": ("revision",),
    "event_minutes": ("minute", "name", "events"),
    "log_marks": ("revision", "age_ms"),
    "presence": ("node_id", "state"),
    "kept_answers": ("caller", "key", "request", "status", "body", "kept_at_ms", "expires_at_ms"),
    "tokens": ("id", "kind", "name", "revoked_at_ms", "record"),
    "audit": ("id", "at_ms", "record"),
    "documents": ("shelf", "key", "body"),
    "heartbeat_blocks": ("id", "min_at_ms", "max_at_ms", "beats", "block"),
    "heartbeat_minutes": ("minute", "node_key", "raw"),
    "heartbeat_rollups": (
        *("minute", "node_key", "beats", "worst"),
        *("cpu_load_count", "cpu_load_least", "cpu_load_total", "cpu_load_most"),
        *("mem_used_mb_count", "mem_used_mb_least", "mem_used_mb_total", "mem_used_mb_most"),
        *("latency_ms_count", "latency_ms_least", "latency_ms_total", "latency_ms_most"),
    ),
}
"""Every table whose rows are copied, in an order in which whatever a row refers to comes before it, and its columns.
Snapshots of the past are not among them: they are a cache."""


class LogState(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in tables of one row; the names are those of the SQLite schema, where each is explained."""

    log_id: str
    revision: int
    oldest: int
    compacted: int
    presence_block: int
    compacted_block: int
    pass_block: int
    done_minute: int
    done_key: bytes
    clock: HistoryClock | None


def state_of(row: Sequence[Any]) -> LogState:
    """The state of a row of `read_state`, the same for every engine."""
    *rest, now_ms, lead_ms, stood_ms = tuple(row)
    log_id, revision, oldest, compacted, presence_block, compacted_block, pass_block, done_minute, done_key = rest
    clock = None if now_ms is None else HistoryClock(now_ms=now_ms, lead_ms=lead_ms, stood_ms=stood_ms)
    return LogState(
        log_id=log_id,
        revision=revision,
        oldest=oldest,
        compacted=compacted,
        presence_block=presence_block,
        compacted_block=compacted_block,
        pass_block=pass_block,
        done_minute=done_minute,
        done_key=done_key,
        clock=clock,
    )


class Source(ABC):
    """A database as of one moment, until the `with` block that it was opened by ends."""

    @abstractmethod
    def state(self) -> LogState:
        """What stands beside the rows."""

    @abstractmethod
    def count(self, table: str) -> int:
        """About how many rows a table has."""

    @abstractmethod
    def pages(self, table: str) -> Iterator[Rows]:
        """The rows of a table, column by column as `TABLES` has them, some at a time."""


class Sink(ABC):
    """An empty database that is being filled; nothing of it counts until whoever opened it says so."""

    @abstractmethod
    def write(self, table: str, rows: Rows) -> None:
        """Add rows, with the columns that `TABLES` has."""

    @abstractmethod
    def finish(self, state: LogState) -> None:
        """Write what stands beside the rows, all of which are there now."""


def transfer(source: Source, sink: Sink, *, log_id: str | None, report: Report) -> LogState:
    """Fill `sink` with what `source` holds, as the log `log_id` (None: the same log); gives what stands there then."""
    state = source.state()
    if log_id is not None:
        state = msgspec.structs.replace(state, log_id=log_id)
    counts = {table: source.count(table) for table in TABLES}
    done, total = 0, sum(counts.values())
    for table in TABLES:
        for rows in source.pages(table):
            report(COPYING, done, max(total, done))
            sink.write(table, rows)
            done += len(rows)
    report(COPYING, done, done)
    sink.finish(state)
    return state
