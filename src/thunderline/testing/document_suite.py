"""The part of the store's contract that is about documents.

`DOCUMENT_CHECKS` are among `STORE_CHECKS`.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

from thunderline.block.store import Document, Store, WriteBatch
from thunderline.core.errors import ContentRejected
from thunderline.core.ids import Revision
from thunderline.testing.records import batch_id, make_event, make_node

if TYPE_CHECKING:
    from thunderline.testing.store_suite import StoreCheck, StoreFactory

_ALL: Final = 1_000_000


class _Batches:
    """Commits to one store, numbered."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._numbers = itertools.count(1)

    async def write(self, *documents: Document, removed: tuple[tuple[str, str], ...] = (), **parts: Any) -> WriteBatch:
        parts.setdefault("base", Revision(0))
        batch = WriteBatch(
            batch_id=batch_id(next(self._numbers)), documents=documents, removed_documents=removed, **parts
        )
        await self.store.commit(batch)
        return batch

    async def expect(self, shelf: str, *documents: Document, what: str) -> None:
        found = await self.store.scan_documents(shelf, after=None, limit=_ALL)
        assert found == list(documents), f"{what}: found {found}"


async def documents_are_scanned_by_key_and_shelf(make: StoreFactory) -> None:
    """In pages, each shelf for itself; a later one takes an earlier one's place, and a removed one is gone."""
    async with make() as store:
        batches = _Batches(store)
        await batches.expect("a", what="documents of a new database")
        a1, a2, a3, b1 = _document("a", "1"), _document("a", "2"), _document("a", "3"), _document("b", "1")
        await batches.write(a3, a1, b1, a2)
        await batches.expect("a", a1, a2, a3, what="one shelf")
        await batches.expect("b", b1, what="another shelf")
        first = await store.scan_documents("a", after=None, limit=2)
        rest = await store.scan_documents("a", after=first[-1].key, limit=2)
        assert first + rest == [a1, a2, a3], f"in pages: {first}, then {rest}"
        later = _document("a", "2", b"later")
        await batches.write(later, removed=(("a", "1"), ("b", "3"), ("c", "1")))
        await batches.expect("a", later, a3, what="after a change and a removal")
        await batches.expect("b", b1, what="the same key on another shelf")


async def every_document_comes_back_exactly(make: StoreFactory) -> None:
    """Whatever bytes it holds, also over a restart; and a batch of documents alone is a batch."""
    wanted = [
        _document("s", "empty", b""),
        _document("s", "k\u00e9y", bytes(range(256))),
        _document("s", "l", b"x" * 99),
    ]
    wanted.sort(key=lambda document: document.key)
    async with make() as store:
        written = await _Batches(store).write(*wanted)
    async with make() as store:
        await _Batches(store).expect("s", *wanted, what="after a restart")
        assert await store.committed(written.batch_id), "a batch of documents alone is not known"


async def documents_are_written_with_whatever_else_is_in_the_batch(make: StoreFactory) -> None:
    """All of it, or nothing."""
    async with make() as store:
        batches, node = _Batches(store), make_node(1)
        await batches.write(_document("a", "1"), events=[make_event(1, node)], nodes=[node])
        try:
            await batches.write(
                _document("a", "2"), removed=(("a", "1"),), base=Revision(7), events=[make_event(8, node)]
            )
        except ContentRejected:
            pass
        else:
            raise AssertionError("a batch was taken although the log stands elsewhere")
        await batches.expect("a", _document("a", "1"), what="after a refused batch")
        await batches.write(removed=(("a", "1"),))
        await batches.expect("a", what="after a removal alone")


def _document(shelf: str, key: str, body: bytes = b"{}") -> Document:
    return Document(shelf=shelf, key=key, body=body)


DOCUMENT_CHECKS: Final[tuple[StoreCheck, ...]] = (
    documents_are_scanned_by_key_and_shelf,
    every_document_comes_back_exactly,
    documents_are_written_with_whatever_else_is_in_the_batch,
)
"""All checks, by the rule that each is about."""
