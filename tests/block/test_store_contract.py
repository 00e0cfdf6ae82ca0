"""Every store keeps the whole contract; the suite itself finds the stores that do not."""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from thunderline.block.beats import PackedBeat
from thunderline.block.memory import MemoryStore
from thunderline.block.postgres import PostgresStore
from thunderline.block.sqlite import SqliteStore
from thunderline.block.store import CompactionStep, Document, KeptAnswer, LogHead, TrimStep, WriteBatch
from thunderline.core.access import AuditEntry, Token, TokenKind
from thunderline.core.errors import ContentRejected
from thunderline.core.ids import AuditId, BatchId, LinkId, LogId, NodeId, Revision, TokenId, new_uuid7
from thunderline.core.records import OPEN_SESSION_STATUSES, Event, LinkSession, Node
from thunderline.testing import STORE_CHECKS, FaultyStore, check_store
from thunderline.testing.history_suite import EVER_MS
from thunderline.testing.store_suite import StoreCheck, StoreFactory


def sqlite_database(directory: Path) -> StoreFactory:
    return lambda: SqliteStore(directory / "contract.db")


def memory_database() -> StoreFactory:
    store = MemoryStore()
    return lambda: store


def faulty_database() -> StoreFactory:
    store = MemoryStore()
    return lambda: FaultyStore(store)


@pytest.fixture(params=["sqlite", "postgres", "memory", "faulty"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> StoreFactory:
    match request.param:
        case "sqlite":
            return sqlite_database(tmp_path)
        case "postgres":
            url = request.getfixturevalue("postgres_url")
            return lambda: PostgresStore(url)
        case "memory":
            return memory_database()
        case _:
            return faulty_database()


@pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
async def test_store_keeps_the_contract(check: StoreCheck, make: StoreFactory) -> None:
    await check(make)


@pytest.mark.parametrize("make_database", [memory_database, faulty_database])
async def test_check_store_passes_a_store_that_keeps_it(make_database: Callable[[], StoreFactory]) -> None:
    await check_store(make_database)


# One defect each; beside it, the check that has to find it first.


class WritesBeforeItRefuses(MemoryStore):
    async def commit(self, batch: WriteBatch) -> int | None:
        self._presence |= {row.node_id: row for row in batch.presence}
        return await super().commit(batch)


class TakesAnyBase(MemoryStore):
    def _check(self, batch: WriteBatch) -> None:
        super()._check(msgspec.structs.replace(batch, base=self._revision, events=()))


class TakesGaps(MemoryStore):
    def _check(self, batch: WriteBatch) -> None:
        events = [msgspec.structs.replace(event, revision=batch.base + i) for i, event in enumerate(batch.events, 1)]
        super()._check(msgspec.structs.replace(batch, events=events))


class ForgetsItsLogId(MemoryStore):
    async def open(self) -> LogHead:
        return msgspec.structs.replace(await super().open(), log_id=LogId(new_uuid7()))


class AnswersWhenClosed(MemoryStore):
    def _check_open(self) -> None:
        pass


class RemembersEveryBatch(MemoryStore):
    async def commit(self, batch: WriteBatch) -> int | None:
        block = await super().commit(batch)
        self.__dict__.setdefault("all", set()).add(batch.batch_id)
        return block

    async def committed(self, batch_id: BatchId) -> bool:
        self._check_open()
        return batch_id in self.__dict__.get("all", set())


class IsCancelledHalfway(MemoryStore):
    async def commit(self, batch: WriteBatch) -> int | None:
        await asyncio.sleep(0)
        return await super().commit(batch)


class ShowsHalfABatch(MemoryStore):
    async def commit(self, batch: WriteBatch) -> int | None:
        for node in batch.nodes:
            if node.id in self._nodes:
                self._nodes[node.id] = node
                await asyncio.shield(asyncio.sleep(0))
        return await super().commit(batch)


class ScansInOrderOfArrival(MemoryStore):
    async def scan_nodes(self, *, after: NodeId | None, limit: int) -> list[Node]:
        self._check_open()
        return [node for node in self._nodes.values() if after is None or node.id > after][:limit]


class KeepsSessionsOfRemovedNodes(MemoryStore):
    def _remove(self, node_id: NodeId) -> None:
        kept, names = dict(self._sessions), dict(self._session_ids)
        super()._remove(node_id)
        self._sessions, self._session_ids = kept, names


class NeverFreesNames(MemoryStore):
    def _check(self, batch: WriteBatch) -> None:
        super()._check(batch)
        known = self.__dict__.setdefault("known", {})
        for node in batch.nodes:
            if known.setdefault(node.name, node.id) != node.id:
                raise ContentRejected("the name was taken once")


class ScansClosedSessions(MemoryStore):
    async def scan_open_sessions(self, *, after: LinkId | None, limit: int) -> list[LinkSession]:
        self._check_open()
        return [s for _, s in sorted(self._sessions.items()) if after is None or s.id > after][:limit]


class FindsOpenSessionsOnly(MemoryStore):
    async def find_session(self, session_id: str) -> LinkSession | None:
        found = await super().find_session(session_id)
        return found if found is not None and found.status in OPEN_SESSION_STATUSES else None


class ForgetsThePresenceBlock(MemoryStore):
    async def commit(self, batch: WriteBatch) -> int | None:
        return await super().commit(msgspec.structs.replace(batch, presence_block=batch.presence_block or 0))


class KeepsTheFirstAnswer(MemoryStore):
    async def commit(self, batch: WriteBatch) -> int | None:
        fresh = [answer for answer in batch.answers if (answer.caller, answer.key) not in self._answers]
        return await super().commit(msgspec.structs.replace(batch, answers=fresh))


class KeepsAnswersForEver(MemoryStore):
    async def commit(self, batch: WriteBatch) -> int | None:
        before = dict(self._answers)
        block_id = await super().commit(batch)
        self._answers = before | self._answers
        return block_id


class KnowsNoCallers(MemoryStore):
    async def find_answer(self, caller: str, key: str) -> KeptAnswer | None:
        return next((answer for answer in self._answers.values() if answer.key == key), None)


class SharesTokenNames(MemoryStore):
    def _check_access(self, batch: WriteBatch) -> None:
        pass


class NeverFreesTokenNames(MemoryStore):
    def _check_access(self, batch: WriteBatch) -> None:
        super()._check_access(batch)
        held = {token.name for token in self._tokens.values() if token.kind is not TokenKind.CREDENTIAL}
        if any(token.id not in self._tokens and token.name in held for token in batch.tokens):
            raise ContentRejected("the name was a token's")


class ForgetsRevokedTokens(MemoryStore):
    async def scan_tokens(self, *, after: TokenId | None, limit: int) -> list[Token]:
        found = await super().scan_tokens(after=after, limit=EVER_MS)
        return [token for token in found if token.revoked_at is None][:limit]


class WritesBeatsAlone(MemoryStore):
    async def commit(self, batch: WriteBatch) -> int | None:
        if batch.beats and not batch.events:
            batch = msgspec.structs.replace(batch, tokens=(), removed_tokens=(), audit=())
        return await super().commit(batch)


class HasOneShelf(MemoryStore):
    async def scan_documents(self, shelf: str, *, after: str | None, limit: int) -> list[Document]:
        found = await super().scan_documents(shelf, after=after, limit=limit)
        others = [each for each in self._documents.values() if each.shelf != shelf and each.key > (after or "")]
        return sorted([*found, *others], key=lambda document: document.key)[:limit]


class ReadsTheAuditLogByTime(MemoryStore):
    async def read_audit(self, *, before: AuditId | None, limit: int) -> list[AuditEntry]:
        found = await super().read_audit(before=before, limit=EVER_MS)
        return sorted(found, key=lambda entry: entry.at, reverse=True)[:limit]


class TrimsAllAtOnce(MemoryStore):
    async def trim_audit(self, *, before_ms: int, limit: int) -> int:
        return await super().trim_audit(before_ms=before_ms, limit=EVER_MS)


class ReadsUntilInclusive(MemoryStore):
    async def read_beats(self, *, node_id: NodeId | None, since_ms: int, until_ms: int, limit: int) -> list[PackedBeat]:
        return await super().read_beats(node_id=node_id, since_ms=since_ms, until_ms=until_ms + 1, limit=limit)


class ReadsTheOldestBeats(MemoryStore):
    async def read_beats(self, *, node_id: NodeId | None, since_ms: int, until_ms: int, limit: int) -> list[PackedBeat]:
        everything = await super().read_beats(node_id=node_id, since_ms=since_ms, until_ms=until_ms, limit=10**6)
        return everything[:limit]


class ReadsEventsBeforeInclusive(MemoryStore):
    async def read_events(self, *, after: Revision, limit: int, before: Revision | None = None) -> list[Event]:
        return await super().read_events(
            after=after, limit=limit, before=None if before is None else Revision(before + 1)
        )


class ForgetsDeletions(MemoryStore):
    async def commit(self, batch: WriteBatch) -> int | None:
        events = [msgspec.structs.replace(event, deleted=False) for event in batch.events]
        return await super().commit(msgspec.structs.replace(batch, events=events))


class KeepsRemovedGroups(MemoryStore):
    async def commit(self, batch: WriteBatch) -> int | None:
        return await super().commit(msgspec.structs.replace(batch, removed_groups=()))


class SharesGroupNames(MemoryStore):
    def _check(self, batch: WriteBatch) -> None:
        super()._check(msgspec.structs.replace(batch, groups=()))


class SharesTheNewestMeta(MemoryStore):
    async def read_events(self, *, after: Revision, limit: int, before: Revision | None = None) -> list[Event]:
        events = await super().read_events(after=after, limit=limit, before=before)
        return [
            msgspec.structs.replace(event, payload=self._nodes.get(event.entity_id, event.payload)) for event in events
        ]


class NormalisesText(MemoryStore):
    async def commit(self, batch: WriteBatch) -> int | None:
        nodes = [
            msgspec.json.decode(unicodedata.normalize("NFC", msgspec.json.encode(node).decode()), type=Node)
            for node in batch.nodes
        ]
        return await super().commit(msgspec.structs.replace(batch, nodes=nodes))


class RoundsNumbers(MemoryStore):
    async def find_session(self, session_id: str) -> LinkSession | None:
        found = await super().find_session(session_id)
        return found and msgspec.structs.replace(found, weight=round(found.weight, 6) + 0.0, meta=_rounded(found.meta))


class CompactsOpenMinutes(MemoryStore):
    async def compact_beats(self, *, closed_ms: int, settled_block: int) -> CompactionStep:
        return await super().compact_beats(closed_ms=EVER_MS, settled_block=settled_block)


class DropsBlocksThatAStartNeeds(MemoryStore):
    async def compact_beats(self, *, closed_ms: int, settled_block: int) -> CompactionStep:
        self._presence_block = self._compacted_block
        return await super().compact_beats(closed_ms=closed_ms, settled_block=settled_block)


class CountsCompactedBeatsTwice(MemoryStore):
    def _fresh_blocks(self) -> list[list[PackedBeat]]:
        return list(self._blocks.values())


class ForgetsRollupsWithTheirBeats(MemoryStore):
    async def trim_beats(self, *, raw_before_ms: int, rollups_before_ms: int, max_bytes: int) -> TrimStep:
        return await super().trim_beats(
            raw_before_ms=0, rollups_before_ms=max(raw_before_ms, rollups_before_ms), max_bytes=max_bytes
        )


class ForgetsTheNewestFirst(MemoryStore):
    async def trim_beats(self, *, raw_before_ms: int, rollups_before_ms: int, max_bytes: int) -> TrimStep:
        if self._rollups and self._history_bytes > max_bytes:
            place = max(self._rollups)
            del self._rollups[place]
            self._minutes.pop(place, None)
            return TrimStep(more=True, size_bytes=self._history_bytes)
        return await super().trim_beats(
            raw_before_ms=raw_before_ms, rollups_before_ms=rollups_before_ms, max_bytes=EVER_MS
        )


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


@pytest.mark.parametrize(
    ("broken", "found_by"),
    [
        (WritesBeforeItRefuses, "a_refused_batch_writes_nothing"),
        (TakesAnyBase, "a_batch_on_another_base_is_refused"),
        (TakesGaps, "events_with_a_gap_are_refused"),
        (ForgetsItsLogId, "reopening_finds_everything"),
        (AnswersWhenClosed, "a_closed_store_refuses_service"),
        (RemembersEveryBatch, "committed_tells_of_the_newest_batch_alone"),
        (IsCancelledHalfway, "a_cancelled_commit_still_lands_whole"),
        (ShowsHalfABatch, "a_reader_never_sees_half_a_batch"),
        (ScansInOrderOfArrival, "nodes_are_scanned_by_id"),
        (KeepsSessionsOfRemovedNodes, "a_removed_node_takes_its_sessions_and_presence_with_it"),
        (NeverFreesNames, "a_freed_name_can_be_taken_in_the_same_batch"),
        (ScansClosedSessions, "a_removed_node_takes_its_sessions_and_presence_with_it"),
        (FindsOpenSessionsOnly, "reopening_finds_everything"),
        (ForgetsThePresenceBlock, "the_presence_block_stays_until_the_next"),
        (KeepsTheFirstAnswer, "a_key_has_one_answer_until_it_expires"),
        (KeepsAnswersForEver, "expired_answers_are_removed"),
        (KnowsNoCallers, "an_answer_is_found_under_its_caller_and_key"),
        (SharesTokenNames, "a_node_has_one_credential"),
        (NeverFreesTokenNames, "a_revoked_tokens_name_can_be_taken_in_the_same_batch"),
        (ForgetsRevokedTokens, "tokens_are_scanned_by_id"),
        (WritesBeatsAlone, "tokens_and_entries_are_written_with_whatever_else_is_in_the_batch"),
        (HasOneShelf, "documents_are_scanned_by_key_and_shelf"),
        (ReadsTheAuditLogByTime, "the_audit_log_is_read_newest_first"),
        (TrimsAllAtOnce, "the_oldest_audit_entries_are_trimmed_first"),
        (ReadsUntilInclusive, "beats_are_read_as_asked"),
        (ReadsTheOldestBeats, "beats_are_read_as_asked"),
        (ReadsEventsBeforeInclusive, "events_are_read_in_pages"),
        (ForgetsDeletions, "removing_an_unknown_node_is_fine"),
        (KeepsRemovedGroups, "groups_are_scanned_by_id"),
        (SharesGroupNames, "a_group_name_belongs_to_one_group"),
        (SharesTheNewestMeta, "meta_is_kept_whole_wherever_it_stands"),
        (NormalisesText, "every_value_comes_back_exactly"),
        (RoundsNumbers, "every_value_comes_back_exactly"),
        (CompactsOpenMinutes, "a_pass_takes_closed_minutes_and_settled_blocks"),
        (DropsBlocksThatAStartNeeds, "blocks_stay_until_the_presence_checkpoint_has_them"),
        (CountsCompactedBeatsTwice, "beats_are_read_the_same_whatever_is_compacted"),
        (ForgetsRollupsWithTheirBeats, "beats_go_and_rollups_stay"),
        (ForgetsTheNewestFirst, "the_oldest_minutes_go_when_history_is_too_large"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
async def test_check_store_names_the_rule_that_a_store_breaks(broken: type[MemoryStore], found_by: str) -> None:
    def make_database() -> StoreFactory:
        store = broken()
        return lambda: store

    with pytest.raises(AssertionError) as caught:
        await check_store(make_database)
    assert str(caught.value).startswith(f"{found_by}: ")


async def test_check_store_names_the_rule_when_a_store_raises_something_else() -> None:
    class Fails(MemoryStore):
        async def scan_nodes(self, *, after: NodeId | None, limit: int) -> list[Node]:
            raise KeyError("bug")

    with pytest.raises(AssertionError, match="a_new_database_is_empty: 'bug'") as caught:
        await check_store(lambda: Fails)
    assert isinstance(caught.value.__cause__, KeyError)
