"""The live links of nodes, as this process holds them: who is connected, who may resume, and who took over from whom.

Nothing here is written; a session's record is in the roster and its end in the log. A link that breaks is kept in grace
for as long as it may be resumed: what happens then is up to the sentinel. Committed changes of a node reach its links
from here: a new interval, another process in its place, its removal.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from thunderline.core.errors import Deregistered, NameInUse, SaidGoodbye, SessionEnded, Superseded, ThunderlineError
from thunderline.core.ids import NodeId
from thunderline.core.logging import get_logger
from thunderline.core.records import LinkSession, Node
from thunderline.link.access import Hold
from thunderline.link.actor import Actor
from thunderline.link.liveness import has_left, is_up
from thunderline.link.roster import Entry, Roster
from thunderline.link.sentinel import Sentinel

log = get_logger(__name__)

CONFLICT_WINDOW_S: Final = 300.0
"""After a process took a name over from one that was alive, nobody else may do so for this long while it lives.
Longer than most supervisors wait before they start a process again, which is how two of them alternate."""

SUPERSEDED_KEPT: Final = 8
"""Former processes of a node that are known not to come back."""


GOODBYE: Final = "goodbye"
LOST: Final = "lost"
RESUMED: Final = "resumed"
DRAINED: Final = "drained"
"""Why links end, where no error says so: their node left, their connection broke, they go on over another one, or
this process stops."""


class Uplink(ABC):
    """One node's connection. The registry sets what it knows about it when it opens."""

    __slots__ = (
        "actor",
        "address",
        "credential",
        "entry",
        "hold",
        "incarnation",
        "instance",
        "interval_ms",
        "leaving",
        "leaving_reason",
        "session_id",
    )

    entry: Entry
    actor: Actor
    instance: str
    incarnation: int
    interval_ms: int

    def __init__(self, *, address: str | None = None) -> None:
        self.address = address
        """Where the peer is."""
        self.credential: str | None = None
        """What a node that has joined is to use from now on, as the token's text."""
        self.hold: Hold | None = None
        self.session_id = ""
        """Empty until the link is open; what stands above is known from then on."""
        self.leaving = False
        """Whether the node said that it goes; its goodbye may not be durable yet."""
        self.leaving_reason: str | None = None

    @abstractmethod
    def end(self, error: ThunderlineError) -> None:
        """Tell the peer why, and close; idempotent."""

    @abstractmethod
    def tell_interval(self, interval_ms: int) -> None:
        """Tell the peer at which interval to beat from now on."""


class Dropped(msgspec.Struct, kw_only=True):
    """A link that broke. `at` in the sentinel's time; `lost`: it is too late to resume it."""

    uplink: Uplink
    at: float
    lost: bool = False


class Uplinks:
    """All of one process; the domain changes it, on the event loop."""

    def __init__(self, roster: Roster, sentinel: Sentinel, *, holder: str) -> None:
        """`holder` is this replica's name, as sessions name who holds their connection."""
        self.holder = holder
        self.draining = False
        """Whether this process is about to end all its links: their ends tell nothing of the nodes then."""
        self.opened_links = self.resumed_links = 0
        """Since the start: new links, and such as went on over another connection."""
        self.ended_links: Counter[str] = Counter()
        """By an error's code, or a word from above."""
        self.turned_away: Counter[str] = Counter()
        """Connections and handshakes for which there was no room, by what there were too many of."""
        self.taken_over = self.names_in_use = 0
        """How often a process took its name over from one that was alive, and how often one was kept from it."""
        self._roster = roster
        self._sentinel = sentinel
        self._key = secrets.token_bytes(32)
        self._live: dict[str, Uplink] = {}
        self._of_node: dict[NodeId, dict[str, Uplink]] = {}
        self._dropped: dict[str, Dropped] = {}
        self._dropped_of_node: dict[NodeId, set[str]] = {}
        self._superseded: dict[NodeId, deque[str]] = {}
        self._taken_over: dict[NodeId, float] = {}
        self._fought_over: dict[NodeId, float] = {}

    def __len__(self) -> int:
        return len(self._live)

    def secret(self, session_id: str) -> str:
        """The word by which the session is resumed. It needs no memory, and ends with the process."""
        return hmac.new(self._key, session_id.encode(), hashlib.sha256).hexdigest()[:32]

    def of_node(self, node_id: NodeId) -> list[Uplink]:
        """The node's live links."""
        return list(self._of_node.get(node_id, {}).values())

    # A link's life

    def expect(self, session_id: str) -> None:
        """The session is about to be opened: nobody may take it for one without a connection."""
        self._roster.held.add(session_id)

    def unexpect(self, session_id: str) -> None:
        """It was not opened."""
        if session_id not in self._live and session_id not in self._dropped:
            self._roster.held.discard(session_id)

    def opened(self, uplink: Uplink) -> None:
        """The link stands: its session is open and the node is up."""
        node_id = uplink.entry.node.id
        self._forget_dropped(uplink.session_id)
        self._roster.held.add(uplink.session_id)
        self._live[uplink.session_id] = uplink
        self._of_node.setdefault(node_id, {})[uplink.session_id] = uplink

    def resumable(self, session_id: str, secret: str, *, name: str, instance: str) -> Entry | None:
        """The node whose link this is, if it goes on as it was; None: the handshake is a new one.

        It does while its session and incarnation are the present ones and nothing has to be written for it.
        """
        session = self._roster.sessions.named(session_id)
        known = self._live.get(session_id) or self._in_grace(session_id)
        if (
            session is None
            or known is None
            or not hmac.compare_digest(secret.encode(), self.secret(session_id).encode())
        ):
            return None
        entry = self._roster.get(session.node_id)
        if entry is None or entry.node.name != name or known.leaving:
            return None
        node = entry.node
        same = (known.instance, known.incarnation) == (instance, node.incarnation) and node.instance == instance
        return entry if same and is_up(node.observed_status) else None

    def pace(self, uplink: Uplink) -> None:
        """Tell the node at which interval to beat, where that is another one than it was told over this link."""
        interval_ms = self._sentinel.grant_ms(uplink.entry)
        if interval_ms != uplink.interval_ms:
            uplink.interval_ms = interval_ms
            uplink.tell_interval(interval_ms)

    def replace(self, session_id: str) -> None:
        """The session goes on over another connection: the one it had is closed, and its end means nothing."""
        if (before := self._live.get(session_id)) is not None:
            self._forget(before)
            self.ended_links[RESUMED] += 1
            before.end(SessionEnded(session_id))

    def drop(self, uplink: Uplink) -> bool:
        """The connection is gone; whether it was the session's, and the node may resume it within the grace."""
        if self._live.get(uplink.session_id) is not uplink:
            return False
        self._forget(uplink)
        self.ended_links[DRAINED if self.draining else GOODBYE if uplink.leaving else LOST] += 1
        session = self._roster.sessions.named(uplink.session_id)
        if self.draining or session is None:
            self._roster.held.discard(uplink.session_id)
            return False
        self._dropped[uplink.session_id] = Dropped(uplink=uplink, at=self._sentinel.now())
        self._dropped_of_node.setdefault(uplink.entry.node.id, set()).add(uplink.session_id)
        return True

    def dropped(self, session_id: str) -> Dropped | None:
        """The link that broke, unless it was resumed."""
        return self._dropped.get(session_id)

    def give_up(self, session_id: str) -> Dropped | None:
        """The grace is over: the link that broke, unless it was resumed; nobody resumes it from now on."""
        if (dropped := self._dropped.get(session_id)) is not None:
            dropped.lost = True
            self._roster.held.discard(session_id)
        return dropped

    def has_other(self, sessions: Iterable[LinkSession], session_id: str) -> bool:
        """Whether one of a node's open `sessions` is of another link that it does not leave."""
        return any(
            session.session_id != session_id and session.session_id in self._roster.held and not self._leaves(session)
            for session in sessions
            if session.holder == self.holder
        )

    def is_cut(self, node_id: NodeId) -> bool:
        """Whether all that is left of the node's links is one that broke and may still be resumed."""
        return node_id not in self._of_node and node_id in self._dropped_of_node

    def _leaves(self, session: LinkSession) -> bool:
        uplink = self._live.get(session.session_id)
        if uplink is None and (dropped := self._dropped.get(session.session_id)) is not None:
            uplink = dropped.uplink
        return uplink is not None and uplink.leaving

    def ended(self, dropped: Dropped) -> None:
        """What the end of this grace meant is durable. The link may have been resumed, and have broken again, since."""
        session_id = dropped.uplink.session_id
        if self._dropped.get(session_id) is dropped:
            self._forget_dropped(session_id)

    def _in_grace(self, session_id: str) -> Uplink | None:
        dropped = self._dropped.get(session_id)
        return None if dropped is None or dropped.lost else dropped.uplink

    def _forget_dropped(self, session_id: str) -> None:
        dropped = self._dropped.pop(session_id, None)
        if dropped is not None:
            node_id = dropped.uplink.entry.node.id
            sessions = self._dropped_of_node[node_id]
            sessions.discard(session_id)
            if not sessions:
                del self._dropped_of_node[node_id]

    def _forget(self, uplink: Uplink) -> None:
        node_id = uplink.entry.node.id
        if uplink.hold is not None:
            uplink.hold.release()
        del self._live[uplink.session_id]
        links = self._of_node[node_id]
        del links[uplink.session_id]
        if not links:
            del self._of_node[node_id]

    # Who may speak for a node

    def admit(self, node: Node, instance: str) -> None:
        """Return if the process `instance` may speak for the node. Raises: Superseded, NameInUse."""
        if node.instance is None or node.instance == instance:
            return
        if instance in self._superseded.get(node.id, ()):
            raise Superseded(node.name)
        entry = self._roster.get(node.id)
        fought_at = self._taken_over.get(node.id)
        if entry is None or fought_at is None or not self._is_alive(entry):
            return
        now = self._sentinel.now()
        if now - fought_at < CONFLICT_WINDOW_S:
            # Whoever tries again shows that the two still alternate.
            self._taken_over[node.id] = self._fought_over[node.id] = now
            self.names_in_use += 1
            log.warning("name in use, newcomer refused", node=node.name, incarnation=node.incarnation)
            raise NameInUse(node.name, retry_after_s=max(1.0, round(self._sentinel.remaining_s(entry), 1)))

    def conflicts(self, *, within_s: float) -> list[NodeId]:
        """The nodes whose names were refused to a newcomer within the last seconds; earlier ones are forgotten."""
        since = self._sentinel.now() - within_s
        self._fought_over = {node_id: at for node_id, at in self._fought_over.items() if at > since}
        return list(self._fought_over)

    def superseded(self, node_id: NodeId, instance: str) -> None:
        """The process `instance` does not speak for the node any more."""
        former = self._superseded.setdefault(node_id, deque(maxlen=SUPERSEDED_KEPT))
        if instance not in former:
            former.append(instance)

    def _is_alive(self, entry: Entry) -> bool:
        linked = any(not uplink.leaving for uplink in self.of_node(entry.node.id))
        return linked and is_up(entry.node.observed_status) and not self._sentinel.is_overdue(entry)

    # What commits mean for links

    def settled(self, node_id: NodeId, node: Node | None, *, reap: Callable[[str], None]) -> None:
        """A commit left the node like this (None: removed). `reap` ends a session whose connection is gone."""
        for uplink in self.of_node(node_id):
            self._follow(uplink, node)
        if node is None:
            self._superseded.pop(node_id, None)
            self._taken_over.pop(node_id, None)
            return
        entry = self._roster.get(node_id)
        if entry is None or not entry.sessions or not is_up(node.observed_status):
            return
        for session in list(entry.sessions.values()):
            if session.holder == self.holder and session.session_id not in self._roster.held:
                reap(session.session_id)

    def _follow(self, uplink: Uplink, node: Node | None) -> None:
        if node is None:
            self._end(uplink, Deregistered(uplink.entry.node.name))
        elif node.incarnation != uplink.incarnation:
            self._taken_over[node.id] = self._sentinel.now()
            self.taken_over += 1
            log.warning("name taken over from a live process", node=node.name, incarnation=node.incarnation)
            self._end(uplink, Superseded(node.name))
        elif has_left(node.observed_status, node.observed_reason):
            if not uplink.leaving:
                self._end(uplink, SaidGoodbye(node.name))
        elif self._roster.sessions.named(uplink.session_id) is None:
            if not uplink.leaving:
                self._end(uplink, SessionEnded(uplink.session_id))
        else:
            self.pace(uplink)

    def _end(self, uplink: Uplink, error: ThunderlineError) -> None:
        self._forget(uplink)
        self.ended_links[error.code] += 1
        self._roster.held.discard(uplink.session_id)
        uplink.end(error)
