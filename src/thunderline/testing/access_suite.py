"""The part of the store's contract that is about tokens and the audit log.

`ACCESS_CHECKS` are among `STORE_CHECKS`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from thunderline.block.store import Store, WriteBatch
from thunderline.core.access import AuditEntry, JoinTerms, Outcome, Scope, Token
from thunderline.core.errors import ContentRejected
from thunderline.core.ids import AuditId, Revision
from thunderline.testing.clock import START_MS
from thunderline.testing.records import (
    START,
    batch_id,
    make_beat,
    make_credential,
    make_entry,
    make_event,
    make_join_token,
    make_node,
    make_token,
)

if TYPE_CHECKING:
    from thunderline.testing.store_suite import StoreCheck, StoreFactory

_ALL: Final = 1_000_000
_LATER: Final = START + timedelta(hours=1, microseconds=1)


class _Batches:
    """Commits to one store, numbered."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._numbers = itertools.count(1)

    async def write(self, *tokens: Token, removed: Sequence[Token] = (), **parts: Any) -> WriteBatch:
        parts.setdefault("base", Revision(0))
        gone = [token.id for token in removed]
        batch = WriteBatch(batch_id=batch_id(next(self._numbers)), tokens=tokens, removed_tokens=gone, **parts)
        await self.store.commit(batch)
        return batch

    async def refused(self, *tokens: Token, why: str, **parts: Any) -> None:
        try:
            await self.write(*tokens, **parts)
        except ContentRejected:
            return
        raise AssertionError(f"a batch was taken although {why}")

    async def expect(self, *tokens: Token, what: str) -> None:
        found = await self.store.scan_tokens(after=None, limit=_ALL)
        assert found == list(tokens), f"{what}: found {found}"


async def tokens_are_scanned_by_id(make: StoreFactory) -> None:
    """In pages, each as it was last written, the revoked ones too; removed ones are gone."""
    async with make() as store:
        batches = _Batches(store)
        await batches.expect(what="tokens of a new database")
        tokens = [make_token(3), make_credential(1), make_join_token(5), make_token(2), make_token(4)]
        await batches.write(*tokens)
        revoked = make_token(2, revoked_at=_LATER)
        used = make_join_token(5, join=JoinTerms(names="web-*", uses_left=1))
        await batches.write(revoked, used)
        await batches.write(removed=[make_token(4), make_token(9)])
        wanted = [make_credential(1), revoked, make_token(3), used]
        await batches.expect(*wanted, what="all tokens")
        first = await store.scan_tokens(after=None, limit=2)
        rest = await store.scan_tokens(after=first[-1].id, limit=2)
        assert [*first, *rest] == wanted, f"two pages: {first}, {rest}"
        last = await store.scan_tokens(after=wanted[-1].id, limit=2)
        assert last == [], f"a page after the last: {last}"


async def every_token_and_entry_comes_back_exactly(make: StoreFactory) -> None:
    """All that they may hold, over a restart."""
    told = 'Ünïcode \N{SNOWMAN} \u0301 "quoted"\\\n\t\''
    tokens = [
        make_token(1, name=told, scopes=tuple(Scope), digest=bytes(range(224, 256)), created_by=told),
        make_token(2, scopes=(), expires_at=_LATER, revoked_at=_LATER),
        make_join_token(3, join=JoinTerms(names="*", role="edge", domain=told, uses_left=0), expires_at=START),
        make_join_token(4, join=JoinTerms()),
        make_credential(5, joined_by=make_join_token(3).id),
        make_credential(6, revoked_at=START - timedelta(days=20_000)),
    ]
    entries = [
        make_entry(2, at=_LATER, actor=told, subject=told, address="2001:db8::1", revision=Revision(2**53)),
        make_entry(1, outcome=Outcome.REFUSED, reason="not_permitted", count=2**40, first_at=START),
    ]
    async with make() as store:
        written = await _Batches(store).write(*tokens, audit=entries)
    async with make() as store:
        await _Batches(store).expect(*tokens, what="tokens after a restart")
        found = await store.read_audit(before=None, limit=_ALL)
        assert found == entries, f"the audit log after a restart: {found}"
        assert await store.committed(written.batch_id), "a batch of tokens and audit entries alone is not known"


async def a_node_has_one_credential(make: StoreFactory) -> None:
    """Revoked or not; a new one takes the place of the one that is removed with the same batch."""
    async with make() as store:
        batches = _Batches(store)
        first = make_credential(1, name="db")
        await batches.write(first, make_credential(2, name="DB"))
        second = make_credential(3, name="db")
        await batches.refused(second, why="its node has a credential")
        first = make_credential(1, name="db", revoked_at=_LATER)
        await batches.write(first)
        await batches.refused(second, why="its node has a credential, though revoked")
        two = [make_credential(4, name="web"), make_credential(5, name="web")]
        await batches.refused(*two, why="it gives a node two credentials")
        await batches.expect(first, make_credential(2, name="DB"), what="tokens after refused batches")
        await batches.write(second, removed=[first])
        await batches.expect(make_credential(2, name="DB"), second, what="tokens after one took another's place")


async def a_token_that_is_not_revoked_has_its_name_alone(make: StoreFactory) -> None:
    """Among tokens and join tokens, expired or not; credentials have names of their own."""
    async with make() as store:
        batches = _Batches(store)
        first, join = make_token(1, name="ci", expires_at=START), make_join_token(2, name="edge")
        await batches.write(first, join, make_credential(3, name="ci"))
        await batches.refused(make_token(4, name="ci"), why="another token has the name")
        await batches.refused(make_join_token(4, name="ci"), why="a token has the join token's name")
        await batches.refused(make_token(4, name="edge"), why="a join token has the token's name")
        two = [make_token(4, name="new"), make_token(5, name="new")]
        await batches.refused(*two, why="two tokens in it have one name")
        await batches.expect(first, join, make_credential(3, name="ci"), what="tokens after refused batches")


async def a_revoked_tokens_name_can_be_taken_in_the_same_batch(make: StoreFactory) -> None:
    """In whatever order both stand there; and again, and by a join token, too."""
    async with make() as store:
        batches = _Batches(store)
        await batches.write(make_token(2, name="ci"))
        gone = make_token(2, name="ci", revoked_at=_LATER)
        await batches.write(make_token(1, name="ci"), gone)
        gone_too = make_token(1, name="ci", revoked_at=_LATER)
        await batches.write(gone_too, make_join_token(3, name="ci"))
        await batches.expect(gone_too, gone, make_join_token(3, name="ci"), what="tokens of one name")
        await batches.write(make_token(4, name="ci"), removed=[make_join_token(3)])
        await batches.expect(gone_too, gone, make_token(4, name="ci"), what="tokens after a removal")


async def tokens_and_entries_are_written_with_whatever_else_is_in_the_batch(make: StoreFactory) -> None:
    """With events, with beats alone, and all or nothing."""
    node = make_node(1)
    async with make() as store:
        batches = _Batches(store)
        await batches.write(make_token(1), events=[make_event(1, node)], nodes=[node], audit=[make_entry(1)])
        await batches.write(make_token(2), beats=[make_beat(node)])
        await batches.write(beats=[make_beat(node)], audit=[make_entry(2)])
        await batches.write(removed=[make_token(1)], beats=[make_beat(node)])
        wrong = {"base": Revision(5), "events": [make_event(6, make_node(2))], "nodes": [make_node(2)]}
        await batches.refused(make_token(3), why="the log stands elsewhere", audit=[make_entry(3)], **wrong)
        await batches.refused(make_token(3), why="two entries have one id", audit=[make_entry(3), make_entry(3)])
        again = make_entry(1, action="token.revoked")
        beats = [make_beat(node)]
        await batches.refused(make_token(3), why="an entry's id is taken", audit=[again], beats=beats)
        await batches.expect(make_token(2), what="tokens")
        found = await store.read_audit(before=None, limit=_ALL)
        assert found == [make_entry(2), make_entry(1)], f"the audit log: {found}"
        blocks = await store.scan_blocks(after=0, limit=_ALL)
        assert len(blocks) == 3, f"blocks: {blocks}"


async def the_audit_log_is_read_newest_first(make: StoreFactory) -> None:
    """By id, in pages, whatever their times."""
    async with make() as store:
        batches = _Batches(store)
        assert await store.read_audit(before=None, limit=5) == [], "a new database has an audit log"
        entries = [make_entry(number, at=START - timedelta(seconds=number)) for number in (3, 1, 5, 2, 4)]
        await batches.write(audit=entries[:2])
        await batches.write(audit=entries[2:])
        wanted = [make_entry(number, at=START - timedelta(seconds=number)) for number in (5, 4, 3, 2, 1)]
        found: list[AuditEntry] = []
        before: AuditId | None = None
        while page := await store.read_audit(before=before, limit=2):
            assert len(page) <= 2, f"a page of {len(page)}"
            found += page
            before = page[-1].id
        assert found == wanted, f"in pages: {found}"


async def the_oldest_audit_entries_are_trimmed_first(make: StoreFactory) -> None:
    """By time, as many as are asked for, none from that time on."""
    async with make() as store:
        assert await store.trim_audit(before_ms=2**62, limit=5) == 0, "a new database has an audit log"
        ages = {1: 10, 2: 50, 3: 0, 4: 30, 5: 20}
        entries = {number: make_entry(number, at=START - timedelta(seconds=age)) for number, age in ages.items()}
        await _Batches(store).write(audit=list(entries.values()))
        steps = (
            (START_MS - 50_000, 9, 0, (5, 4, 3, 2, 1)),
            (START_MS, 2, 2, (5, 3, 1)),
            (START_MS - 9_999, 1, 1, (3, 1)),
            (START_MS - 10_000, 9, 0, (3, 1)),
            (START_MS, 9, 1, (3,)),
            (START_MS, 9, 0, (3,)),
        )
        for before_ms, limit, gone, left in steps:
            trimmed = await store.trim_audit(before_ms=before_ms, limit=limit)
            assert trimmed == gone, f"at most {limit} before {before_ms}: {trimmed} went, not {gone}"
            found = [entry.id for entry in await store.read_audit(before=None, limit=_ALL)]
            assert found == [entries[number].id for number in left], f"at most {limit} before {before_ms}: {found}"
    async with make() as store:
        found = [entry.id for entry in await store.read_audit(before=None, limit=_ALL)]
        assert found == [entries[3].id], f"after a restart: {found}"


ACCESS_CHECKS: Final[tuple[StoreCheck, ...]] = (
    tokens_are_scanned_by_id,
    every_token_and_entry_comes_back_exactly,
    a_node_has_one_credential,
    a_token_that_is_not_revoked_has_its_name_alone,
    a_revoked_tokens_name_can_be_taken_in_the_same_batch,
    tokens_and_entries_are_written_with_whatever_else_is_in_the_batch,
    the_audit_log_is_read_newest_first,
    the_oldest_audit_entries_are_trimmed_first,
)
"""All checks, by the rule that each is about."""
