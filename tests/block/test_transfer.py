"""Databases copied from one engine to another: every record, every event, every beat, and what goes on afterwards."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from thunderline.block.postgres import PostgresStore
from thunderline.block.rollups import MINUTE_MS
from thunderline.block.sqlite import SqliteStore
from thunderline.block.store import Document, HistoryClock, KeptAnswer, LogMark, PresenceRow, Store, WriteBatch
from thunderline.core.errors import FileInTheWay, NoDatabase, StoreLocked
from thunderline.core.ids import Revision
from thunderline.core.records import Node, SessionStatus
from thunderline.testing.clock import START_MS, ManualClock
from thunderline.testing.history_suite import EVER_MS, random_beat
from thunderline.testing.postgres import PostgresServer
from thunderline.testing.records import (
    START,
    batch_id,
    make_credential,
    make_entry,
    make_event,
    make_group,
    make_join_token,
    make_node,
    make_session,
    make_token,
    node_id,
)

NODES = 12
ALL = 1_000_000


def silent(step: str, done: int, total: int) -> None:
    pass


class Filler:
    """Writes a life of some nodes into a store: changes, removals, names that come again, beats, and their upkeep."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.rng = random.Random(seed)
        self.revision = 0
        self.batches = 0

    async def write(self, *records: Any, removed: tuple[Node, ...] = (), **parts: Any) -> None:
        self.batches += 1
        told = [*((record, True) for record in removed), *((record, False) for record in records)]
        events = [
            make_event(self.revision + at, record, deleted=deleted)
            for at, (record, deleted) in enumerate(told, start=1)
        ]
        kinds = {"nodes": Node, "sessions": type(make_session(1, node_id(1))), "groups": type(make_group(1))}
        batch = WriteBatch(
            batch_id=batch_id(self.batches),
            base=Revision(self.revision),
            events=events,
            removed_nodes=[node.id for node in removed],
            **{name: [record for record in records if isinstance(record, kind)] for name, kind in kinds.items()},
            **parts,
        )
        await self.store.commit(batch)
        self.revision += len(events)

    async def fill(self) -> None:
        rng = self.rng
        await self.write(make_group(1, name="eu"), make_group(2, name="eu-1", parent="eu"))
        nodes = [make_node(number, meta={"n": number % 3}, groups=("eu-1",)) for number in range(1, NODES + 1)]
        await self.write(*nodes)
        for number in range(1, 20):
            status = rng.choice((SessionStatus.ESTABLISHED, SessionStatus.CLOSED))
            await self.write(make_session(number, node_id(rng.randrange(1, NODES)), status=status))
        for turn in range(60):
            node = make_node(rng.randrange(1, NODES + 1), address=f"at {turn}", meta={"n": turn % 4})
            await self.write(node)
        await self.write(removed=(nodes[-1],))
        await self.write(make_node(99, name=nodes[-1].name))
        for _ in range(40):
            at_ms = START_MS + rng.randrange(20 * MINUTE_MS)
            await self.write(
                beats=[random_beat(rng, at_ms + rng.randrange(MINUTE_MS)) for _ in range(rng.randrange(1, 30))]
            )
        await self.write(
            presence=[PresenceRow(node_id(1), 2, START_MS, 7, b"\x01", random_beat(rng, START_MS))], presence_block=12
        )
        answer = KeptAnswer(
            caller="operator:1",
            key="k",
            request=b"r",
            status=201,
            body=b"{}",
            kept_at_ms=START_MS,
            expires_at_ms=EVER_MS,
        )
        await self.write(answers=[answer])
        await self.write(tokens=[make_token(1, revoked_at=START), make_join_token(2), make_credential(3)])
        await self.write(tokens=[make_token(4, name="token-1")], audit=[make_entry(1), make_entry(2, address="::1")])
        await self.write(documents=[Document(shelf=shelf, key="k", body=b"\x00" * 3) for shelf in ("a", "b")])
        await self.store.set_history_clock(HistoryClock(now_ms=START_MS, lead_ms=1, stood_ms=2))
        await self.store.mark_log(LogMark(revision=Revision(20), age_ms=5))
        await self.store.begin_log(Revision(10))

    async def compact(self, steps: int) -> None:
        for _ in range(steps):
            await self.store.compact_beats(closed_ms=EVER_MS, settled_block=0)


async def contents(store: Store) -> dict[str, Any]:
    """All that the contract lets one read."""
    head = await store.open()
    try:
        found: dict[str, Any] = {
            "head": (head.revision, head.oldest),
            "nodes": await store.scan_nodes(after=None, limit=ALL),
            "open sessions": await store.scan_open_sessions(after=None, limit=ALL),
            "sessions": [
                await store.find_session(make_session(number, node_id(1)).session_id) for number in range(1, 20)
            ],
            "groups": await store.scan_groups(after=None, limit=ALL),
            "events": await store.read_events(after=Revision(0), limit=ALL),
            "presence": await store.scan_presence(after=None, limit=ALL),
            "presence block": await store.presence_block(),
            "blocks": await store.scan_blocks(after=12, limit=ALL),
            "beats": await store.read_beats(node_id=None, since_ms=0, until_ms=EVER_MS, limit=ALL),
            "answer": await store.find_answer("operator:1", "k"),
            "tokens": await store.scan_tokens(after=None, limit=ALL),
            "audit": await store.read_audit(before=None, limit=ALL),
            "documents": [await store.scan_documents(shelf, after=None, limit=ALL) for shelf in ("a", "b", "c")],
            "clock": await store.history_clock(),
            "mark": await store.read_mark(age_ms=10, revision=Revision(100)),
            "timeline": sorted(await store.count_events(since_minute=0, until_minute=2**31, width=2**31)),
        }
        for revision in (1, 2, 15, 40, 70, head.revision):
            found[f"past {revision}"] = await store.read_past(revision=Revision(revision), after=None, limit=ALL)
            found[f"end {revision}"] = await store.commit_end(Revision(revision))
        for number in range(1, 4):
            since, until = START_MS // MINUTE_MS * MINUTE_MS, (START_MS // MINUTE_MS + 30) * MINUTE_MS
            for bucket_ms in (1_000, MINUTE_MS, 5 * MINUTE_MS):
                buckets = await store.read_rollups(
                    node_id=node_id(number), since_ms=since, until_ms=until, bucket_ms=bucket_ms
                )
                found[f"rollups {number} {bucket_ms}"] = _rounded(buckets)
        return found
    finally:
        await store.close()


def _rounded(buckets: Any) -> Any:
    """Without the last digits of sums, which follow from the order of adding."""
    if buckets is None:
        return None
    shown = []
    for bucket in buckets:
        rollup = bucket.rollup
        figures = [f and (f.count, f.least, f.most, f"{f.total:.9e}") for f in (rollup.cpu_load, rollup.mem_used_mb)]
        shown.append((bucket.at_ms, rollup.beats, rollup.worst, *figures))
    return shown


@pytest.mark.parametrize("steps", [0, 1, 3, 1000], ids=["in-blocks", "a-pass-begun", "amid-a-pass", "compacted"])
async def test_a_copy_to_postgresql_and_back_holds_the_same(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setattr("thunderline.block.sqlite.history.SLICE_ROWS", (2, 4))
    monkeypatch.setattr("thunderline.block.sqlite.history.SLICE_BYTES", 64)
    clock = ManualClock()
    origin = SqliteStore(tmp_path / "origin.db", clock=clock)
    async with origin:
        filler = Filler(origin, seed=steps)
        await filler.fill()
        await filler.compact(steps)
    wanted = await contents(origin)
    await copy(origin, PostgresStore(postgres_url, clock=clock), tmp_path / "there.db")
    there = await contents(PostgresStore(postgres_url, clock=clock))
    assert there == wanted
    back = SqliteStore(tmp_path / "back.db", clock=clock)
    await copy(PostgresStore(postgres_url, clock=clock), back, tmp_path / "back-again.db")
    assert await contents(back) == wanted


async def copy(origin: Store, target: Store, between: Path, *, replace: bool = False) -> Any:
    taken_from, filled = origin.upkeep(), target.upkeep()
    assert taken_from is not None
    assert filled is not None
    await asyncio.to_thread(taken_from.backup, between, overwrite=False, report=silent)
    return await asyncio.to_thread(filled.restore, between, replace=replace, report=silent)


async def test_what_was_copied_goes_on(tmp_path: Path, postgres_url: str) -> None:
    """Later events, blocks and compactions follow what was copied, in either engine."""
    origin = SqliteStore(tmp_path / "origin.db")
    async with origin:
        filler = Filler(origin, seed=7)
        await filler.fill()
        await filler.compact(2)
    await copy(origin, PostgresStore(postgres_url), tmp_path / "between.db")
    for store in (origin, PostgresStore(postgres_url)):
        async with store:
            filler.store, filler.rng = store, random.Random(3)
            at = (filler.revision, filler.batches)
            await filler.write(make_node(1, address="later"))
            for _ in range(5):
                await filler.write(beats=[random_beat(filler.rng, START_MS + filler.rng.randrange(5 * MINUTE_MS))])
            await filler.compact(1000)
            filler.revision, filler.batches = at
    assert await contents(PostgresStore(postgres_url)) == await contents(origin)


async def test_what_is_in_the_way_is_kept_as_another_schema(tmp_path: Path, postgres: Any, postgres_url: str) -> None:
    origin = SqliteStore(tmp_path / "origin.db")
    async with origin:
        await Filler(origin, seed=1).fill()
    target = PostgresStore(postgres_url)
    async with target:
        filler = Filler(target, seed=2)
        await filler.write(make_node(5, name="was-here"))
    with pytest.raises(FileInTheWay, match="--force"):
        await copy(origin, target, tmp_path / "a.db")
    done = await copy(origin, target, tmp_path / "b.db", replace=True)
    server: PostgresServer = postgres.server
    database = postgres_url.partition("@/")[2].partition("?")[0]
    assert server.execute(database, f"SELECT name FROM {done.replaced}.nodes") == "was-here"
    assert (await contents(target))["head"][0] == done.revision


async def test_a_database_that_is_held_is_not_filled(tmp_path: Path, postgres_url: str) -> None:
    origin = SqliteStore(tmp_path / "origin.db")
    async with origin:
        await Filler(origin, seed=1).fill()
    async with PostgresStore(postgres_url):
        with pytest.raises(StoreLocked, match="belongs to process"):
            await copy(origin, PostgresStore(postgres_url), tmp_path / "a.db")
    assert (await contents(PostgresStore(postgres_url)))["nodes"] == []


async def test_an_empty_server_has_nothing_to_back_up_and_takes_a_backup(tmp_path: Path, postgres: Any) -> None:
    url = postgres.server.create_database()
    origin = SqliteStore(tmp_path / "origin.db")
    async with origin:
        await Filler(origin, seed=1).fill()
    with pytest.raises(NoDatabase):
        await asyncio.to_thread(PostgresStore(url).upkeep().backup, tmp_path / "x.db", overwrite=False, report=silent)
    await copy(origin, PostgresStore(url), tmp_path / "a.db")
    assert await contents(PostgresStore(url)) == await contents(origin)
    postgres.drop(url)


async def test_tokens_alone_are_in_the_way_too(tmp_path: Path, postgres_url: str) -> None:
    origin = SqliteStore(tmp_path / "origin.db")
    async with origin:
        await Filler(origin, seed=1).fill()
    target = PostgresStore(postgres_url)
    async with target:
        await Filler(target, seed=2).write(tokens=[make_token(1)])
    with pytest.raises(FileInTheWay, match="--force"):
        await copy(origin, target, tmp_path / "a.db")
    await copy(origin, target, tmp_path / "b.db", replace=True)
    assert await contents(target) == await contents(origin)


async def test_a_schema_of_before_there_were_tokens_is_replaced(tmp_path: Path, postgres: Any) -> None:
    url = postgres.server.create_database()
    database = url.partition("@/")[2].partition("?")[0]
    origin, target = SqliteStore(tmp_path / "origin.db"), PostgresStore(url)
    async with origin:
        await Filler(origin, seed=1).fill()
    async with target:
        pass
    older = (
        "DROP TABLE thunderline.tokens, thunderline.audit, thunderline.documents; "
        "DELETE FROM thunderline.migrations WHERE version >= 2"
    )
    postgres.server.execute(database, older)
    await copy(origin, target, tmp_path / "a.db")
    assert await contents(target) == await contents(origin)
    postgres.drop(url)
