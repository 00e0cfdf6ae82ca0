"""How a batch is written. One that holds events locks the counter first; one of beats alone is a single statement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from thunderline.block import rows
from thunderline.block.beats import pack_block
from thunderline.block.postgres.failures import DRIVER_ERRORS, describe, is_settled, told
from thunderline.block.postgres.owner import LEASE_S, Owner
from thunderline.block.splits import Splits
from thunderline.block.store import KeptAnswer, WriteBatch, check_revisions
from thunderline.core.clock import to_ms
from thunderline.core.errors import ContentRejected, OutcomeUnknown
from thunderline.core.ids import Revision

EXPIRED_STEP: Final = 64
"""Expired answers that a commit removes at most, besides two for each that it keeps."""

_WIDTHS: Final = {"nodes": 5, "sessions": 6, "presence": 2, "answers": 7, "tokens": 5, "audit": 3, "documents": 3}


class BatchWriter:
    """Writes batches over the connection that holds `owner`'s claim."""

    def __init__(self, queries: Any, owner: Owner) -> None:
        self._queries = queries
        self._owner = owner

    async def write(self, connection: Any, batch: WriteBatch) -> int | None:
        """See `Store.commit`; gives the id of the block."""
        check_revisions(batch)
        if _is_beats_alone(batch):
            return await self._append(connection, batch)
        await connection.execute(self._queries.begin.sql)
        try:
            block_id = await self._fill(connection, batch)
        except (UnicodeEncodeError, OverflowError) as error:
            raise ContentRejected(str(error)) from error
        try:
            done = await connection.execute(self._queries.commit.sql)
        except DRIVER_ERRORS as error:
            raise _ended_badly(connection, error) from error
        if done != "COMMIT":
            raise ContentRejected(f"the transaction ended with {done}")
        return block_id

    async def _append(self, connection: Any, batch: WriteBatch) -> int:
        """Beats alone: the statement is the transaction."""
        owner = self._owner
        try:
            block_id: int | None = await connection.fetchval(
                *(self._queries.append_block.sql, owner.writer, batch.batch_id, owner.epoch, LEASE_S),
                *_block_row(batch),
            )
        except DRIVER_ERRORS as error:
            if isinstance(refused := told(error), ContentRejected):
                raise refused from error
            raise _ended_badly(connection, error) from error
        if block_id is None:
            raise await owner.lost(connection)
        return block_id

    async def _fill(self, connection: Any, batch: WriteBatch) -> int | None:
        queries = self._queries
        if batch.events:
            await self._advance(connection, batch)
        else:
            await self._note(connection, batch)
        splits = Splits()
        head = Revision(batch.base + len(batch.events))
        event_rows = [rows.event_row(event, splits.of(event.payload), commit_end=head) for event in batch.events]
        node_rows = [rows.node_row(node, splits.of(node)) for node in batch.nodes]
        session_rows = [rows.session_row(session, splits.of(session)) for session in batch.sessions]
        group_rows = [rows.group_row(group, splits.of(group)) for group in batch.groups]
        if splits.metas:
            # In one order, so that two that write the same wait for each other, and not in a circle.
            await connection.execute(queries.insert_metas.sql, *columns(sorted(splits.metas.items()), width=2))
        # Removals first: a name that is freed and taken again in one batch is unique at every step.
        if batch.removed_nodes:
            await connection.execute(queries.delete_nodes.sql, batch.removed_nodes)
        if batch.removed_groups:
            await connection.execute(queries.delete_groups.sql, batch.removed_groups)
        if batch.removed_tokens:
            await connection.execute(queries.delete_tokens.sql, batch.removed_tokens)
        if batch.removed_documents:
            await connection.execute(queries.delete_documents.sql, *columns(batch.removed_documents, width=2))
        for statement, found, width in (
            (queries.upsert_nodes, node_rows, _WIDTHS["nodes"]),
            (queries.upsert_sessions, session_rows, _WIDTHS["sessions"]),
            (queries.upsert_groups, group_rows, _WIDTHS["nodes"]),
            (queries.upsert_presence, [rows.presence_row(row) for row in batch.presence], _WIDTHS["presence"]),
            (queries.upsert_tokens, rows.token_rows(batch.tokens), _WIDTHS["tokens"]),
            (queries.insert_audit, [rows.audit_row(entry) for entry in batch.audit], _WIDTHS["audit"]),
            (queries.upsert_documents, [rows.document_row(each) for each in batch.documents], _WIDTHS["documents"]),
        ):
            if found:
                await connection.execute(statement.sql, *columns(found, width=width))
        if event_rows:
            minutes = columns(rows.minute_rows(batch.events), width=3)
            await connection.execute(queries.write_log.sql, *columns(event_rows, width=16), *minutes)
        block_id: int | None = None
        if batch.beats:
            block_id = await connection.fetchval(queries.insert_block.sql, *_block_row(batch))
        if batch.presence_block is not None:
            await connection.execute(queries.set_presence_block.sql, batch.presence_block)
        if batch.answers:
            await self._keep_answers(connection, batch.answers)
        return block_id

    async def _advance(self, connection: Any, batch: WriteBatch) -> None:
        """Lock and move the counter, and note the batch."""
        owner = self._owner
        row = await connection.fetchrow(
            self._queries.advance_head.sql,
            *(batch.base, batch.base + len(batch.events), to_ms(batch.events[-1].at)),
            *(batch.batch_id, owner.writer, owner.epoch, LEASE_S),
        )
        if not row["writers"]:
            raise await owner.lost(connection)
        if not row["heads"]:
            raise ContentRejected(f"the log does not stand at revision {batch.base}, which the batch follows")
        if row["before_ms"] is not None and row["before_ms"] > to_ms(batch.events[0].at):
            await connection.execute(self._queries.note_clock_step.sql, batch.base + 1)

    async def _note(self, connection: Any, batch: WriteBatch) -> None:
        owner = self._owner
        done = await connection.execute(
            self._queries.note_batch.sql, owner.writer, batch.batch_id, owner.epoch, LEASE_S
        )
        if done != "UPDATE 1":
            raise await owner.lost(connection)

    async def _keep_answers(self, connection: Any, answers: Sequence[KeptAnswer]) -> None:
        now_ms = max(answer.kept_at_ms for answer in answers)
        own = columns([(answer.caller, answer.key) for answer in answers], width=2)
        # More than are added, so that they cannot pile up; few, since everybody waits for this commit.
        limit = EXPIRED_STEP + 2 * len(answers)
        await connection.execute(self._queries.delete_expired_answers.sql, *own, now_ms, limit)
        found = columns([rows.answer_row(answer) for answer in answers], width=_WIDTHS["answers"])
        await connection.execute(self._queries.insert_answers.sql, *found)


def columns(found: Sequence[rows.Row], *, width: int) -> list[Sequence[Any]]:
    """The columns of rows, which have `width` of them each: a bulk write is given one array for each."""
    return list(zip(*found, strict=True)) if found else [()] * width


def _is_beats_alone(batch: WriteBatch) -> bool:
    return bool(batch.beats) and not (
        batch.events
        or batch.nodes
        or batch.removed_nodes
        or batch.sessions
        or batch.groups
        or batch.removed_groups
        or batch.presence
        or batch.answers
        or batch.tokens
        or batch.removed_tokens
        or batch.audit
        or batch.documents
        or batch.removed_documents
        or batch.presence_block is not None
    )


def _block_row(batch: WriteBatch) -> tuple[int, int, int, bytes]:
    beats = list(batch.beats)
    times = [beat.at_ms for beat in beats]
    return (min(times), max(times), len(beats), pack_block(beats))


def _ended_badly(connection: Any, error: BaseException) -> OutcomeUnknown | Exception:
    """What to say of a commit that did not return."""
    if is_settled(error):
        return told(error)
    # Whatever the server still does with it, nothing more goes over this connection.
    connection.terminate()
    return OutcomeUnknown(describe(error))
