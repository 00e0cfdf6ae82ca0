"""What a batch takes: its records encoded, each once, and about how many bytes."""

from __future__ import annotations

import msgspec

from thunderline.block.store import WriteBatch
from thunderline.core.codec import SplitRecord, split_record
from thunderline.core.records import PersistentPayload


class Splits:
    """Each record of a batch encoded once, though it stands in its event and in its table; and the metas met so."""

    def __init__(self) -> None:
        self.metas: dict[bytes, str] = {}
        self._by_record: dict[int, SplitRecord] = {}

    def of(self, record: object) -> SplitRecord:
        """The record, encoded."""
        split = self._by_record.get(id(record))
        if split is None:
            assert isinstance(record, PersistentPayload)
            split = self._by_record[id(record)] = split_record(record)
            if split.meta_hash is not None and split.meta is not None:
                self.metas[split.meta_hash] = split.meta
        return split


def weight(batch: WriteBatch) -> int:
    """About how many bytes the batch takes in the file, indexes included."""
    records = (batch.events, batch.nodes, batch.sessions, batch.groups, batch.presence, batch.beats, batch.answers)
    # Not encoded: of what no encoding can hold, the store is still to say so. A token shows little of itself.
    tokens = (msgspec.structs.astuple(token) for token in batch.tokens)
    return sum(len(repr(record)) for kind in (*records, tokens, batch.audit, batch.documents) for record in kind)
