"""A node's link to the registry: `async with Link(url, name="worker-1@prod"):`, and the node is online while it lasts.

Guaranteed, as long as the block runs: the link is made again whenever it breaks, beats are taken on time whether it
stands or not, and what was taken in an outage is delivered after it, once, with its age (the last 900 beats, none older
than an hour). Not guaranteed: that a beat arrives. `stats.beats_dropped` counts those that were lost, and the log names
the first of each outage.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from thunderline.client.credential import CredentialFile
from thunderline.client.driver import Driver
from thunderline.client.keeping import Keeping
from thunderline.client.line import Line
from thunderline.client.link_errors import LinkLeft
from thunderline.client.link_stats import LinkStats
from thunderline.client.readings import Figures, Metrics, Readings, check_figures
from thunderline.client.transport import Transport
from thunderline.client.trust import check_way, find_token, tls_context
from thunderline.core.clock import Clock, SystemClock
from thunderline.core.errors import InvalidInput, ThunderlineError
from thunderline.core.inputs import OfflineInput, read_mapping
from thunderline.core.tasks import Supervisor
from thunderline.wire.backlog import BEATS_MAX
from thunderline.wire.codec import node_codec
from thunderline.wire.frames import FRAME_MAX_BYTES, SUBPROTOCOLS, Hello, Links
from thunderline.wire.node_end import NodeEnd, Welcomed

INSTANCE_BYTES: Final = 12


class Link:
    """A link, for the length of an `async with` block.

    Entering returns after the registry's first welcome; it keeps trying while the server cannot be reached or asks to
    come later. Leaving says goodbye: the node is then offline because it wanted to be.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        role: str | None = None,
        domain: str | None = None,
        labels: Mapping[str, str] | None = None,
        meta: Mapping[str, object] | None = None,
        capabilities: Mapping[str, Mapping[str, object]] | None = None,
        cluster_type: str | None = None,
        address: str | None = None,
        interval_s: float | None = None,
        metrics: Metrics | None = None,
        token: str | None = None,
        token_file: str | Path | None = None,
        credential_file: str | Path | None = None,
        ca: str | Path | None = None,
        instance: str | None = None,
        transport: Transport | None = None,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        open_timeout_s: float | None = None,
        backlog_max: int = BEATS_MAX,
        leave: bool = True,
    ) -> None:
        """A link to the server whose API is at `url`; nothing happens before the block is entered.

        What of `role` to `address` is None takes its default for a new name, and stays as it is for a known one.
        `interval_s` is what a new node would like; the registry decides. `metrics` is asked for the figures of each
        beat (`cpu_load`, `mem_used_mb`, `latency_ms`, `peers`, `meta`, `status`): a coroutine function runs on the
        loop, a plain one in a thread; what fails or takes longer than an interval (5 s at most) gives a beat without
        figures. `token`, or the one in `token_file` (THUNDERLINE_TOKEN_FILE by default), says who this is; it goes over
        `https://` or to loopback only. One that lets new nodes join is exchanged for a credential, which is kept in
        `credential_file` before anything is said with it; what is found there goes before any token. `ca` is the PEM
        file of the authorities to trust in place of the system's. `instance` names this process, random by default.
        `open_timeout_s` None: entering waits for ever. `leave` False: the end of the block drops the connection without
        a goodbye, as a crash would.

        Raises: InvalidInput naming the field; ValueError for `backlog_max`.
        """
        if transport is None:
            from thunderline.client.websocket import WebSocketTransport, link_url  # not needed by who brings one

            link_url(url)
            transport = WebSocketTransport(tls=tls_context(url, ca=ca))
        kept_in = None if credential_file is None else CredentialFile(Path(credential_file))
        self._hello = _hello(
            {
                "name": name,
                "instance": instance or secrets.token_hex(INSTANCE_BYTES),
                "role": role,
                "domain": domain,
                "cluster_type": cluster_type,
                "address": address,
                "meta": meta,
                "labels": labels,
                "capabilities": capabilities,
                "interval_ms": None if interval_s is None else _interval_ms(interval_s),
                "token": _token(url, kept_in, token=token, token_file=token_file),
            }
        )
        self._keeping = Keeping(kept_in)
        self._end = NodeEnd(self._hello, backlog_max=backlog_max)
        self._line = Line(transport, url)
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()
        self._readings = Readings(metrics)
        self._open_timeout_s = open_timeout_s
        self._says_goodbye = leave
        self._tasks = Supervisor()
        self._running: Driver | None = None

    async def __aenter__(self) -> Self:
        """Raises: LinkEnded, ServerRefused, ServerUntrusted or NotThunderline for what would not pass; LinkTimeout."""
        if self._running is not None:
            raise RuntimeError("a link is entered once; make a new one")
        driver = self._running = Driver(
            self._end,
            line=self._line,
            clock=self._clock,
            rng=self._rng,
            readings=self._readings,
            keeping=self._keeping,
            open_timeout_s=self._open_timeout_s,
        )
        self._tasks.start(driver.run(), name="link")
        try:
            either: set[asyncio.Future[Any]] = {driver.welcomed, driver.ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await self.abandon()
            raise
        if not driver.welcomed.done():
            await self._tasks.close()
            raise driver.ended.result() or LinkLeft()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._says_goodbye:
            await self.leave()
        else:
            await self.abandon()

    @property
    def name(self) -> str:
        """The node's name."""
        return self._hello.name

    @property
    def instance(self) -> str:
        """This process's own word for itself."""
        return self._hello.instance

    @property
    def node_id(self) -> str:
        """The node's id."""
        return self._welcome.node_id

    @property
    def incarnation(self) -> int:
        """Which of the node's processes this is, counted by the registry from 1."""
        return self._welcome.incarnation

    @property
    def interval_s(self) -> float:
        """Seconds between two beats, as the registry said last."""
        return self._end.interval_s or self._welcome.interval_s

    @property
    def connected(self) -> bool:
        """Whether the link stands, as far as this end knows."""
        return self._end.is_linked

    @property
    def round_trip_ms(self) -> float | None:
        """Smoothed time from sending a beat to its acknowledgement; None before the first.

        The acknowledgement comes after the commit: this is the network's time and the registry's disk's together.
        """
        round_trip_s = self._driver.round_trip_s
        return None if round_trip_s is None else round_trip_s * 1000

    @property
    def stats(self) -> LinkStats:
        """What happened so far."""
        return self._driver.stats

    async def beat(self, **figures: object) -> None:
        """Send a beat of now, with these figures alone; returns when it is durable.

        Calls that come faster than the registry acknowledges them wait for their turn, and no beat is lost by it. In an
        outage the beat waits in the backlog, and is delivered after it with its age. Cancelling does not withdraw a
        beat that was taken. The regular beats go on.

        Raises: InvalidInput naming the figure; BeatRefused when the registry does not take it; BeatDropped when it
        fell out of the backlog; LinkEnded when the link has ended for good; LinkLeft when it was left.
        """
        driver = self._alive()
        await driver.take(check_figures(figures))

    def report_links(self, sessions: Iterable[Figures]) -> None:
        """Say which sessions with other nodes this node sees: all of them, each time; those named no more are closed.

        Each has a `session_id` and `remote`, the other node's name, and may have `session_type`, `connection_type`,
        `status`, `weight`, `latency_ms` and `bandwidth_mbps`. 256 at most. Said again over every further connection. A
        session with a node that the registry does not know, or that is not up, waits until it is. With the link they
        end. Raises: InvalidInput; LinkEnded and LinkLeft as `beat` does.
        """
        driver = self._alive()
        driver.report(_seen(sessions))

    async def flush(self) -> None:
        """Return when the fate of every beat that was taken so far is known: durable, refused or dropped.

        A `beat()` that still waits for its turn was not taken yet.

        Raises: LinkEnded when the link has ended for good; LinkLeft when it was left.
        """
        driver = self._alive()
        lowest = self._end.backlog.lowest
        if lowest is not None:
            await driver.receipts.up_to(self._end.last_seq)

    async def wait_ended(self) -> ThunderlineError | None:
        """Return when the link is over: why the registry ended it for good, None when this end wanted it.

        A `LinkEnded` carries the registry's code: `superseded`, `deregistered`, `mismatch` and others.
        """
        return await asyncio.shield(self._driver.ended)

    async def leave(self, reason: str | None = None) -> None:
        """Say goodbye, wait until it is durable (5 s at most), and close. Without a link there is nobody to tell.

        The end of the block does this; here it can say why. Raises: InvalidInput naming `reason`.
        """
        driver = self._driver
        driver.leave(_reason(reason))
        await self._over(driver)

    async def abandon(self) -> None:
        """Drop the connection without goodbye, as a crash would: the registry finds out by itself."""
        driver = self._driver
        driver.abandon()
        await self._over(driver)

    async def _over(self, driver: Driver) -> None:
        try:
            await asyncio.wait([driver.ended])
            await self._tasks.join("link")
        finally:
            await self._tasks.close()

    @property
    def _driver(self) -> Driver:
        if self._running is None:
            raise RuntimeError("the link is not open; use it inside `async with`")
        return self._running

    @property
    def _welcome(self) -> Welcomed:
        if self._driver.latest is None:
            raise RuntimeError("the registry has not welcomed this link yet")
        return self._driver.latest

    def _alive(self) -> Driver:
        driver = self._driver
        if driver.ended.done():
            raise driver.ended.result() or LinkLeft()
        return driver


def _hello(given: Figures) -> Hello:
    """The first frame of every connection. Raises: InvalidInput."""
    hello = read_mapping({name: value for name, value in given.items() if value is not None}, Hello)
    size_bytes = max(len(node_codec(name).encode(hello)) for name in SUBPROTOCOLS)
    if size_bytes > FRAME_MAX_BYTES:
        raise InvalidInput("labels", f"all that describes the node takes {size_bytes} bytes, {FRAME_MAX_BYTES} at most")
    return hello


def _token(url: str, kept_in: CredentialFile | None, *, token: str | None, token_file: str | Path | None) -> str | None:
    """What says who this is: the credential, if there is one by now. Raises: InvalidInput."""
    credential = None if kept_in is None else kept_in.read()
    if credential is not None:
        check_way(url)
        return credential
    shown = find_token(url, token=token, token_file=token_file)
    if shown is not None and kept_in is not None:
        kept_in.prepare()
    return shown


def _seen(sessions: Iterable[Figures]) -> Links:
    """The frame that reports these sessions. Raises: InvalidInput."""
    seen = read_mapping({"sessions": [dict(one) for one in sessions]}, Links)
    size_bytes = max(len(node_codec(name).encode(seen)) for name in SUBPROTOCOLS)
    if size_bytes > FRAME_MAX_BYTES:
        raise InvalidInput("sessions", f"all of them take {size_bytes} bytes, {FRAME_MAX_BYTES} at most")
    return seen


def _interval_ms(interval_s: float) -> int:
    if not 0.1 <= interval_s <= 3600:  # nor NaN, which is neither more nor less than anything
        raise InvalidInput("interval_s", f"must be from 0.1 to 3600 seconds, not {interval_s:g}")
    return round(interval_s * 1000)


def _reason(text: str | None) -> str | None:
    return None if text is None else read_mapping({"reason": text}, OfflineInput).reason
