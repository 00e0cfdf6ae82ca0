"""A TCP proxy that does to connections what networks do: delays, cuts, silence, and bytes that arrive too late."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from types import TracebackType
from typing import Final, Literal, Self
from urllib.parse import urlsplit

Way = Literal["up", "down"]
"""Up is from the node to the registry."""

BOTH: Final[tuple[Way, Way]] = ("up", "down")
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Conduit:
    """One connection through the proxy: that of the node, and the one to the registry that stands for it."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._ends: dict[Way, asyncio.StreamWriter] = {}
        self._pass: dict[Way, asyncio.Event] = {way: asyncio.Event() for way in BOTH}
        self._swallows: set[Way] = set()
        self._cut_in: set[Way] = set()
        self.held_bytes = 0
        """What waits because of `hold`, as far as it has been read."""
        self.swallowed_bytes = 0
        self.cut = asyncio.Event()
        """A message was cut in its middle."""
        self.over = asyncio.Event()
        """Nothing is left of the connection, nor of the bytes that it carried."""
        for event in self._pass.values():
            event.set()

    @property
    def is_sound(self) -> bool:
        """Whether nothing was done to it yet that it does not survive."""
        return not (self.over.is_set() or self._swallows or self._cut_in) and all(
            not end.transport.is_closing() for end in self._ends.values()
        )

    def close(self, *, reset: bool) -> None:
        """End both connections, politely (FIN) or not (RST)."""
        for way in BOTH:
            self.close_end(way, reset=reset)

    def close_end(self, way: Way, *, reset: bool) -> None:
        """End the connection that carries bytes further `way`: "down" is the node's own."""
        end = self._ends.get(way)
        if end is None or end.transport.is_closing():
            return
        if reset:
            sock = end.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.transport.abort()
        else:
            end.close()

    def swallow(self, *ways: Way) -> None:
        """Let bytes vanish, and the ends of connections with them: from now on it is half-open, for good."""
        self._swallows.update(ways)

    def hold(self, way: Way) -> None:
        """Keep bytes back until `release`."""
        self._pass[way].clear()

    def release(self, way: Way) -> None:
        """Pass on what was kept back."""
        self._pass[way].set()

    def cut_in_message(self, way: Way) -> None:
        """Break the connection in the middle of the next message that comes this way."""
        self._cut_in.add(way)

    async def run(self, node: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        """Carry bytes until both connections have ended."""
        reader, self._ends["down"] = node
        try:
            from_registry, self._ends["up"] = await asyncio.open_connection(*self._proxy.registry)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry("up", reader))
                group.create_task(self._carry("down", from_registry))
        except OSError:
            self.close(reset=True)  # the registry is away
        finally:
            self.close(reset=True)
            self.over.set()

    async def _carry(self, way: Way, reader: asyncio.StreamReader) -> None:
        end = self._ends[way]
        with contextlib.suppress(OSError):  # one end is gone; what is left for it has no receiver
            while data := await reader.read(65_536):
                if not self._pass[way].is_set():
                    self.held_bytes += len(data)
                    await self._pass[way].wait()
                if self._proxy.delay_s:
                    # The delay of the network itself, not a wait for something that could be awaited.
                    await asyncio.sleep(self._proxy.rng.uniform(0, self._proxy.delay_s))
                if way in self._swallows:
                    self.swallowed_bytes += len(data)
                    continue
                if way in self._cut_in and len(data) > 1:
                    end.write(data[: self._proxy.rng.randrange(1, len(data))])
                    await end.drain()
                    self.cut.set()
                    # What was just written still has to arrive, so no RST towards this end.
                    self.close_end(way, reset=False)
                    self.close(reset=True)
                    return
                end.write(data)
                await end.drain()
        if way not in self._swallows:
            self.close_end(way, reset=False)


class Proxy:
    """Listens on a free port, and connects to the registry at `url` for everyone who comes."""

    def __init__(self, url: str, *, rng: random.Random) -> None:
        parts = urlsplit(url)
        self.registry = (str(parts.hostname), int(parts.port or 0))
        self.rng = rng
        self.delay_s = 0.0
        """Longest delay of a piece of bytes; each takes a random part of it, in order."""
        self.conduits: list[Conduit] = []
        self.failures: list[BaseException] = []
        self._running: set[asyncio.Task[None]] = set()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
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
        assert self.failures == []

    @property
    def sound(self) -> list[Conduit]:
        """The connections to which something can still be done, oldest first."""
        return [conduit for conduit in self.conduits if conduit.is_sound]

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conduit = Conduit(self)
        self.conduits.append(conduit)
        task = asyncio.create_task(conduit.run((reader, writer)))
        self._running.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(error)
