"""What `thunderline simulate --nodes N` does: a fleet over real links, until Ctrl-C, and how it is on one line."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from thunderline.cli.failures import CommandFailed, RemoteError
from thunderline.cli.remote import OPTIONS, retold
from thunderline.cli.screen import note, on_terminal, open_console, write_header, write_json_line, write_line, write_row
from thunderline.core.clock import Clock, SystemClock
from thunderline.core.errors import InvalidInput

if TYPE_CHECKING:
    from thunderline.testing.fleet import Counts, Fleet, Happening

_COLUMNS: Final = (
    "ELAPSED_S",
    "NODES",
    "LINKED",
    "PLACED",
    "CUT",
    "SLOW",
    "DOWN",
    "BEATS",
    "LEFT",
    "CRASHED",
    "OUTAGES",
)
_ROW_EVERY_S: Final = 10.0
_LOOK_EVERY_S: Final = 0.5
_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
_SERVER_ENDS_S: Final = 30.0
_NAMED_MAX: Final = 3


class OwnServerFailed(CommandFailed):
    """The server that was to be started for the fleet did not start."""

    code = "own_server_failed"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the person asked for. `lasts_s` None: until Ctrl-C."""

    nodes: int
    domains: int
    churn: float
    faults: float
    seed: int
    lasts_s: float | None
    removes: bool
    server: str
    token_file: Path | None
    ca: Path | None
    as_json: bool


class _Status(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="status"):
    elapsed_s: float
    counts: Any


class _Happened(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="happening"):
    at_s: float
    what: str
    nodes: tuple[str, ...]
    zone: str | None


class _End(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="end"):
    elapsed_s: float
    goodbyes: int
    removed: int | None
    counts: Any


def play(options: Options) -> None:
    """Let the fleet live. Raises: CommandFailed."""
    # Imported here: the other commands need none of it.
    import uvloop

    with retold():
        uvloop.run(_Play(options).run())


@contextlib.contextmanager
def own_server() -> Iterator[str]:
    """The URL of a server with a store of its own, both gone after the block. Raises: OwnServerFailed."""
    with tempfile.TemporaryDirectory(prefix="thunderline-", ignore_cleanup_errors=True) as folder:
        store, log = Path(folder, "thunderline.db"), Path(folder, "log")
        command = [sys.executable, "-m", "thunderline.cli", "serve", "--store", f"sqlite:///{store}"]
        with log.open("wb") as errors:
            # A session of its own: Ctrl-C is for the fleet, which has to say goodbye while the server is there.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().decode().strip().rpartition(" ")[2]
            if not url.startswith(("http://", "https://")):
                said = log.read_text(errors="replace").strip().splitlines()
                raise OwnServerFailed(said[-1].removeprefix("thunderline: ") if said else "the server did not start")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(_SERVER_ENDS_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


class _Play:
    """One fleet, from its first link to its last goodbye."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._clock: Clock = SystemClock()
        self._started = self._clock.monotonic()
        self._is_up = False
        self._live: Any = None
        self._row_due = 0.0

    async def run(self) -> None:
        """Raises: ClientError, CommandFailed."""
        stop = asyncio.Event()
        self._listen_for_signals(stop)
        fleet = self._fleet()
        with self._shown():
            async with fleet:
                if fleet.places.refused is not None:
                    note(f"the nodes go without groups, for which the token would need the scope operator: "
                         f"{fleet.places.refused}")  # fmt: skip
                await self._watch(fleet, stop)
                goodbyes = await fleet.leave()
                removed = await fleet.remove() if self._options.removes else None
        self._tell_end(fleet.counts, goodbyes, removed)

    def _fleet(self) -> Fleet:
        from thunderline.testing.fleet import Fleet, Script, draw_plan

        options = self._options
        plan = draw_plan(options.nodes, domains=options.domains, seed=options.seed)
        try:
            return Fleet(
                options.server,
                plan,
                script=Script(plan, churn=options.churn, faults=options.faults),
                told=self._tell_happening,
                token_file=options.token_file,
                ca=options.ca,
                clock=self._clock,
            )
        except InvalidInput as error:
            raise RemoteError(f"{OPTIONS.get(error.field, error.field)}: {error.problem}") from error

    async def _watch(self, fleet: Fleet, stop: asyncio.Event) -> None:
        """Return when it is to end. Raises: ClientError, when the server takes none of it."""
        up = asyncio.create_task(fleet.up(), name="simulate up")
        failed = asyncio.create_task(fleet.failed(), name="simulate failed")
        stopped = asyncio.create_task(stop.wait(), name="simulate stop")
        ends_at: float | None = None
        try:
            while not stopped.done():
                self._tell_status(fleet)
                waiting = {failed, stopped} if self._is_up else {up, failed, stopped}
                await asyncio.wait(waiting, timeout=_LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
                if failed.done():
                    failed.result()
                now = self._clock.monotonic()
                if up.done() and not self._is_up:
                    up.result()
                    self._is_up, self._row_due = True, now
                    ends_at = None if self._options.lasts_s is None else now + self._options.lasts_s
                if ends_at is not None and now >= ends_at:
                    return
        finally:
            for task in (up, failed, stopped):
                task.cancel()
            await asyncio.wait({up, failed, stopped})

    # What it says

    @contextlib.contextmanager
    def _shown(self) -> Iterator[None]:
        if self._options.as_json:
            yield
            return
        if not on_terminal():
            write_header(_COLUMNS)
            yield
            return
        from rich.live import Live

        write_line(f"{self._options.nodes:,} nodes at {self._options.server}; Ctrl-C ends them")
        with Live(console=open_console(), auto_refresh=False, transient=True) as self._live:
            yield
        self._live = None

    def _tell_status(self, fleet: Fleet) -> None:
        now = self._clock.monotonic()
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text(self._line(fleet.counts), style="bold", no_wrap=True), refresh=True)
        elif now >= self._row_due:
            self._row_due = now + _ROW_EVERY_S
            self._write_status(fleet.counts)

    def _write_status(self, counts: Counts) -> None:
        if self._options.as_json:
            write_json_line(msgspec.json.encode(_Status(elapsed_s=self._elapsed_s, counts=counts)))
            return
        happened = counts.happened
        write_row(
            [
                f"{self._elapsed_s:.0f}",
                *(counts.nodes, counts.linked, counts.placed, counts.cut, counts.slow, counts.down, counts.beats),
                *(happened.get(what, 0) for what in ("leave", "crash", "outage")),
            ]
        )

    def _line(self, counts: Counts) -> str:
        if not self._is_up:
            return f"{counts.linked:,} of {counts.nodes:,} linked, {counts.placed:,} in their groups"
        parts = [f"{counts.linked:,} of {counts.nodes:,} linked"]
        parts += [f"{count:,} {what}" for count, what in _named(counts) if count]
        minutes, seconds = divmod(int(self._elapsed_s), 60)
        return f"{', '.join(parts)}, {counts.beats:,} heartbeats in {minutes}:{seconds:02}"

    def _tell_happening(self, happening: Happening) -> None:
        if self._options.as_json:
            told = _Happened(
                at_s=round(happening.at_s, 3), what=happening.what, nodes=happening.nodes, zone=happening.zone
            )
            write_json_line(msgspec.json.encode(told))
        elif self._live is not None:
            who = happening.zone or ", ".join(happening.nodes[:_NAMED_MAX])
            minutes, seconds = divmod(int(happening.at_s), 60)
            self._live.console.print(f"{minutes:>3}:{seconds:02}  {happening.what:<8}  {who}", soft_wrap=True)

    def _tell_end(self, counts: Counts, goodbyes: int, removed: int | None) -> None:
        if self._options.as_json:
            ended = _End(elapsed_s=self._elapsed_s, goodbyes=goodbyes, removed=removed, counts=counts)
            write_json_line(msgspec.json.encode(ended))
            return
        if not on_terminal():
            self._write_status(counts)
        for code, count in counts.ended.items():
            note(f"the server ended {count:,} links for good: {code}")
        happened = ", ".join(
            f"{count:,} {_PLURALS[what]}" for what, count in counts.happened.items() if what in _PLURALS
        )
        text = (
            f"{counts.links:,} links, {counts.resumed:,} of them resumed, {counts.beats:,} heartbeats; "
            f"{happened or 'nothing happened'}; {goodbyes:,} nodes said goodbye"
        )
        if removed is not None:
            text += f", {removed:,} were removed"
        if on_terminal():
            write_line(text)
        else:
            note(text)

    @property
    def _elapsed_s(self) -> float:
        return round(self._clock.monotonic() - self._started, 1)

    def _listen_for_signals(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()

        def on_signal() -> None:
            stop.set()
            # A second one ends the process as it would any other.
            for number in _STOPPING:
                loop.remove_signal_handler(number)

        for number in _STOPPING:
            loop.add_signal_handler(number, on_signal)


_PLURALS: Final = {
    "crash": "crashes",
    "slow": "slow spells",
    "drop": "lost connections",
    "outage": "outages of a zone",
    "leave": "departures",
    "join": "arrivals",
}


def _named(counts: Counts) -> tuple[tuple[int, str], ...]:
    return (counts.cut, "cut off"), (counts.slow, "slow"), (counts.down, "down")
