"""The log as those read it who judge it: events, and single entities as they were; nothing is decided here."""

from __future__ import annotations

from typing import Final

from thunderline.block.store import EntityChange, Store
from thunderline.core.ids import Revision
from thunderline.core.records import CapacityReport, Event, GuardReport, RegistryReport
from thunderline.link.capacity import CAPACITY_ID
from thunderline.link.group_tree import GroupFilter
from thunderline.link.guard import EVERYTHING, GUARDED, Scope
from thunderline.link.roster import Roster

_EVERYTHING: Final = Scope(EVERYTHING, None)


class LogReader:
    """Reads the log of one registry. Every method but `revision` raises StoreUnavailable."""

    def __init__(self, store: Store, roster: Roster) -> None:
        self._store = store
        self._roster = roster

    async def events(self, *, after: Revision, before: Revision, limit: int) -> list[Event]:
        """At most `limit` events with after < revision < before, in order."""
        return await self._store.read_events(after=after, before=before, limit=limit)

    async def changes(self, *, after: Revision, until: Revision) -> list[EntityChange]:
        """What came last of each entity that changed behind `after`, up to `until`, in no order."""
        return await self._store.read_changes(after=after, until=until)

    async def entity_at(self, entity_id: str, revision: Revision) -> Event | None:
        """The newest event of an entity at or below `revision`."""
        return await self._store.read_entity_at(entity_id, revision)

    async def revision_at(self, at_ms: int) -> Revision:
        """The highest revision of an event at or before that time; 0 when there is none."""
        return await self._store.revision_at(at_ms)

    async def reports_at(self, revision: Revision) -> dict[str, RegistryReport]:
        """What the registry told of itself last, as of a revision: guards, and its capacity; by their ids."""
        places = [group for kind in GUARDED for group in self._roster.groups.select(GroupFilter(group_type=kind))[0]]
        scopes = [_EVERYTHING, *(Scope(group.name, group.group_type) for group in places)]
        found: dict[str, RegistryReport] = {}
        for entity_id in [*(scope.id for scope in scopes), CAPACITY_ID]:
            event = await self._store.read_entity_at(entity_id, revision)
            if event is not None and isinstance(event.payload, GuardReport | CapacityReport):
                found[entity_id] = event.payload
        return found
