"""The open link sessions of a roster, by id and by the caller's name for them, and counted."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterator

import msgspec

from thunderline.core.ids import LinkId, NodeId
from thunderline.core.records import LinkSession, SessionStatus, SessionType


class SessionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which sessions to list: all given conditions hold. None does not ask."""

    node_id: NodeId | None = None
    """An end of it, whichever."""
    status: frozenset[SessionStatus] | None = None
    session_type: SessionType | None = None
    connection_type: str | None = None
    between_nodes: bool | None = None
    """Whether both ends are nodes; False: one end is the registry."""

    def holds(self, session: LinkSession) -> bool:
        """Whether `session` is one of those asked for."""
        return (
            (self.node_id is None or self.node_id in session.ends)
            and (self.status is None or session.status in self.status)
            and (self.session_type is None or session.session_type is self.session_type)
            and (self.connection_type is None or session.connection_type == self.connection_type)
            and (self.between_nodes is None or self.between_nodes is (session.remote_node_id is not None))
        )


class OpenSessions:
    """Changed by the roster alone, which knows whose they are. Iterates in the order of ids, oldest first."""

    def __init__(self) -> None:
        self.by_status: Counter[SessionStatus] = Counter()
        self._by_id: dict[LinkId, LinkSession] = {}
        self._by_session_id: dict[str, LinkSession] = {}
        self._ids: list[LinkId] = []  # sorted

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[LinkSession]:
        return self.after(None)

    def get(self, link_id: LinkId) -> LinkSession | None:
        """The open session with this id."""
        return self._by_id.get(link_id)

    def named(self, session_id: str) -> LinkSession | None:
        """The open session with this `session_id`."""
        return self._by_session_id.get(session_id)

    def put(self, session: LinkSession) -> None:
        """Add or replace an open session."""
        before = self._by_id.get(session.id)
        if before is None:
            insort(self._ids, session.id)
        else:
            self.by_status[before.status] -= 1
        self._by_id[session.id] = self._by_session_id[session.session_id] = session
        self.by_status[session.status] += 1

    def drop(self, link_id: LinkId) -> None:
        """Forget a session, if it is here."""
        session = self._by_id.pop(link_id, None)
        if session is None:
            return
        del self._by_session_id[session.session_id]
        del self._ids[bisect_left(self._ids, link_id)]
        self.by_status[session.status] -= 1

    def after(self, link_id: LinkId | None) -> Iterator[LinkSession]:
        """Those with an id beyond `link_id`, by id."""
        start = 0 if link_id is None else bisect_right(self._ids, link_id)
        for index in range(start, len(self._ids)):
            yield self._by_id[self._ids[index]]
