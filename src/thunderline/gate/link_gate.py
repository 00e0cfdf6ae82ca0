"""The gate of links: how many there may be, who gets in now, and how all of them end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from thunderline.core.access import Token
from thunderline.core.errors import NoHello, OutcomeUnknown, Overloaded, Unauthenticated
from thunderline.core.logging import get_logger
from thunderline.link.actor import Actor
from thunderline.link.registry import Registry

if TYPE_CHECKING:
    from thunderline.gate.link_connection import LinkConnection

log = get_logger(__name__)

HELLO_TIMEOUT_S: Final = 10.0
"""For the first frame of a link. A round trip takes milliseconds; longer lets a peer hold a connection for nothing."""

GREETING_LOOK_S: Final = 1.0

OPEN_A_LINK: Final = "open a link"
"""What the audit log calls one that was refused before it was known whose it would be."""

RECONNECT_MIN_MS: Final = 500
RECONNECT_MAX_MS: Final = 10_000
RECONNECT_MS_PER_LINK: Final = 5
"""How long a fleet has to come back after a drain: 200 handshakes a second, a fraction of what a server takes."""

RETRY_S: Final = (1.0, 3.0)
"""Bounds of when a newcomer that finds no room may try again; where between them is up to chance."""


class LinkGate:
    """All links of one server. It ends with the registry, whose tasks it uses."""

    def __init__(self, registry: Registry, *, rng: random.Random | None = None) -> None:
        self.registry = registry
        self.draining = False
        self._rng = rng or random.Random()
        self._links: dict[LinkConnection, None] = {}
        self._greeting: dict[LinkConnection, float] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._to_flush: list[LinkConnection] = []

    def __len__(self) -> int:
        return len(self._links)

    def start(self) -> None:
        """Begin to look after peers that say nothing."""
        self.registry.tasks.start(self._watch_greetings(), name="link gate")

    # One link

    def connected(self, link: LinkConnection) -> None:
        """A connection stands. Raises: Overloaded when there is no room for it."""
        if len(self._links) >= self.registry.settings.links_max:
            raise self._no_room("link")
        self._links[link] = None
        self._greeting[link] = self.registry.clock.monotonic() + HELLO_TIMEOUT_S

    def token_of(self, text: str | None, *, address: str | None) -> Token | None:
        """The token that a peer shows, of whatever kind; None where none is needed. Raises: Unauthenticated, noted."""
        if not self.registry.settings.auth:
            return None
        try:
            if text is None:
                raise Unauthenticated("a token is needed: send it as `Authorization: Bearer TOKEN`, or in hello")
            return self.registry.access.token_of(text)
        except Unauthenticated as error:
            shown_by = None if text is None else self.registry.access.shown_by(text)
            self.refuse(error, actor=shown_by, address=address)
            raise

    def refuse(self, error: Unauthenticated, *, actor: Actor | None = None, address: str | None) -> None:
        """Note that a link was refused before it was known whose it would be."""
        self.registry.access.refusals.note(error, action=OPEN_A_LINK, actor=actor, address=address)

    def greeted(self, link: LinkConnection) -> None:
        """The peer said hello. Raises: Overloaded when too many handshakes are under way."""
        self._greeting.pop(link, None)
        if len(self._opening) >= self.registry.settings.handshakes_max:
            raise self._no_room("handshake")

    def work(self, link: LinkConnection, body: Coroutine[Any, Any, None]) -> None:
        """Run the link's handshake or goodbye to its end."""
        task = asyncio.create_task(body, name="link handshake")
        self._opening.add(task)
        task.add_done_callback(lambda done: self._worked(link, done))

    def disconnected(self, link: LinkConnection) -> None:
        """The connection is gone."""
        self._links.pop(link, None)
        self._greeting.pop(link, None)

    def flush_soon(self, link: LinkConnection) -> None:
        """Let the link tell what is durable once the commit that is being answered has answered everybody."""
        if not self._to_flush:
            asyncio.get_running_loop().call_soon(self._flush)
        self._to_flush.append(link)

    # All links

    def drain(self) -> None:
        """Ask every node to connect again in a while, and close each link once what it sent is durable; idempotent."""
        if self.draining:
            return
        self.draining = True
        self.registry.links.drain()
        within_ms = min(max(RECONNECT_MIN_MS, len(self._links) * RECONNECT_MS_PER_LINK), RECONNECT_MAX_MS)
        log.info("draining links", links=len(self._links), reconnect_within_ms=within_ms)
        for link in list(self._links):
            link.drain(within_ms)

    def _no_room(self, lane: str) -> Overloaded:
        self.registry.uplinks.turned_away[lane] += 1
        return Overloaded(lane, retry_after_s=round(self._rng.uniform(*RETRY_S), 1))

    def _worked(self, link: LinkConnection, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # A bug of ours; the peer need not wait for an answer that does not come.
            log.error("link failed", exc_info=error)
            link.end(OutcomeUnknown(f"the server failed: {type(error).__name__}"))

    def _flush(self) -> None:
        links, self._to_flush = self._to_flush, []
        for link in links:
            link.flush()

    async def _watch_greetings(self) -> None:
        clock = self.registry.clock
        while True:
            due = clock.monotonic() + GREETING_LOOK_S
            await clock.sleep_until(due)
            now = clock.monotonic()
            if now - due > GREETING_LOOK_S:
                # A pause of our own: what the peers said meanwhile has not been read yet.
                for link in self._greeting:
                    self._greeting[link] += now - due
            # In the order of arrival, which is that of their deadlines.
            late = []
            for link, deadline in self._greeting.items():
                if deadline > now:
                    break
                late.append(link)
            for link in late:
                link.end(NoHello(within_s=HELLO_TIMEOUT_S))
