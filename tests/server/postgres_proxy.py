"""A TCP proxy before a PostgreSQL that knows where the store's writer commits, and cuts the line just there."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, get_args

import msgspec

Kind = Literal["commit", "append"]
"""A `COMMIT`, or the one statement that is a whole commit of beats."""

Place = Literal["before", "within", "under_way", "answered", "within_answer"]
"""Nothing of it reached the server; a part did; all did, and the server was at it; its answer was lost; a part was."""

Way = Literal["fin", "rst", "silent"]
"""Silent: bytes vanish, and either end believes that the other is there, until `PostgresProxy.end_silence`."""

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
PLACES: Final[tuple[Place, ...]] = get_args(Place)
WAYS: Final[tuple[Way, ...]] = get_args(Way)

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Cut(msgspec.Struct, frozen=True):
    """One cut of the writer's connection."""

    kind: Kind
    place: Place
    way: Way


class _Cut(Exception):
    """The connection was cut."""


class Conduit:
    """One connection through the proxy."""

    def __init__(self, proxy: PostgresProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._from_client = reader
        self._to_client = writer
        self._to_server: asyncio.StreamWriter | None = None
        self._is_writer = False
        self._appends: set[bytes] = set()
        """Names of prepared statements that are a whole commit."""
        self._swallows = False
        self._answer: bytearray | None = None
        self._answered = asyncio.Event()

    async def run(self) -> None:
        """Carry bytes until either end is gone, or the line was cut."""
        try:
            from_server, self._to_server = await asyncio.open_unix_connection(self._proxy.socket)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry_up(self._to_server))
                group.create_task(self._carry_down(from_server))
        except* (OSError, asyncio.IncompleteReadError, _Cut):
            pass
        finally:
            self._end(reset=False)

    async def _carry_up(self, to_server: asyncio.StreamWriter) -> None:
        async for unit, kind in self._units():
            if self._swallows:
                continue
            cut = None if kind is None else self._proxy.cut_for(kind)
            if cut is None:
                to_server.write(unit)
                await to_server.drain()
            else:
                await self._strike(cut, unit, to_server)
        raise _Cut

    async def _carry_down(self, from_server: asyncio.StreamReader) -> None:
        while data := await from_server.read(65_536):
            if self._answer is not None:
                self._answer += data
                # The last message of an answer: that the server is ready, and in which state of a transaction.
                if self._answer[-6:-1] == b"Z\0\0\0\5":
                    self._answered.set()
            elif not self._swallows:
                self._to_client.write(data)
                await self._to_client.drain()
        if not self._swallows:
            raise _Cut

    async def _strike(self, cut: Cut, unit: bytes, to_server: asyncio.StreamWriter) -> None:
        rng = self._proxy.rng
        if cut.place == "within":
            to_server.write(unit[: rng.randrange(1, len(unit))])
        elif cut.place == "under_way":
            self._swallows = True
            to_server.write(unit)
        elif cut.place != "before":
            self._answer = bytearray()
            to_server.write(unit)
            await self._answered.wait()
            if cut.place == "within_answer":
                self._to_client.write(bytes(self._answer[: rng.randrange(1, len(self._answer))]))
                await self._to_client.drain()
            self._answer = None
        await to_server.drain()
        self._swallows = True
        self._proxy.struck.set()
        if cut.way == "silent":
            await self._proxy.silence_over.wait()
        self._end(reset=cut.way != "fin")
        raise _Cut

    def _end(self, *, reset: bool) -> None:
        for end in (self._to_client, self._to_server):
            if end is None or end.transport.is_closing():
                continue
            sock = end.get_extra_info("socket")
            if reset and sock.family == socket.AF_INET:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                end.transport.abort()
            else:
                end.close()

    async def _units(self) -> AsyncIterator[tuple[bytes, Kind | None]]:
        """What the client sends, message by message up to where it waits for an answer, and what it commits."""
        reader = self._from_client
        size = await reader.readexactly(4)  # of the first message, which has no type
        yield size + await reader.readexactly(int.from_bytes(size, "big") - 4), None
        unit, kind = bytearray(), None
        while True:
            head = await reader.readexactly(5)
            body = await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
            unit += head + body
            kind = self._kind_of(head[:1], body) or kind
            if head[:1] not in b"PDBEC":
                yield bytes(unit), kind
                unit, kind = bytearray(), None

    def _kind_of(self, tag: bytes, body: bytes) -> Kind | None:
        match tag:
            case b"P":  # Parse: the statement's name and its text
                name, text, _ = body.split(b"\0", 2)
                self._is_writer = self._is_writer or b"pg_advisory_lock" in text or b"pg_try_advisory_lock" in text
                if b"INSERT INTO heartbeat_blocks" in text and b"FROM me" in text:
                    self._appends.add(name)
            case b"B":  # Bind: the portal's name, the statement's name, its arguments
                if body.split(b"\0", 2)[1] in self._appends:
                    return "append"
            case b"Q":
                if self._is_writer and body.startswith(b"COMMIT"):
                    return "commit"
        return None


class PostgresProxy:
    """Listens on a free port, and connects to the server at `socket` for everyone who comes."""

    def __init__(self, socket: Path, *, rng: random.Random) -> None:
        self.socket = socket
        self.rng = rng
        self.struck = asyncio.Event()
        """The cut that was asked for last has been made."""
        self.silence_over = asyncio.Event()
        self._cut: Cut | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        await self._server.wait_closed()
        assert self._failures == []

    def url(self, database: str) -> str:
        """The URL of a database behind it."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/{database}?sslmode=disable"

    def cut_next(self, cut: Cut) -> None:
        """Make this cut at the next commit of its kind; `struck` tells when."""
        self._cut = cut
        self.struck.clear()
        self.silence_over.clear()

    def end_silence(self) -> None:
        """Let a connection that a silent cut left half-open be reset, as a network's own clocks would in the end."""
        self.silence_over.set()

    def cut_for(self, kind: Kind) -> Cut | None:
        """The cut that was asked for, if this is where it is to be made; given once."""
        if self._cut is None or self._cut.kind != kind:
            return None
        cut, self._cut = self._cut, None
        return cut

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(Conduit(self, reader, writer).run())
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.append(error)
