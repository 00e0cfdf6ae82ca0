"""Clients that send a byte now and then: what they cost others, and how they end. How much they cost is measured by
`benchmarks/slow_clients.py`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import Final

import httpx

from tests.server.processes import running

SOCKETS: Final = 200
TIMEOUT_S: Final = 2.0
"""For a request to come, in place of the server's 30 s: long enough that all are connected before the first is over."""
ROUNDS_MAX: Final = 10_000
"""A round is a byte on each connection and two healthy requests; some hundreds of them pass in that time."""

# The command behind it is ours, as `running` gives it: the interpreter, `-m`, the module, and what it is told.
SHORTER: Final = f"""
import sys
from thunderline.gate import protocol
protocol.RECEIVE_TIMEOUT_S = {TIMEOUT_S}
from thunderline.cli import main
sys.argv = ["thunderline", *sys.argv[4:]]
main()
"""
HEAD: Final = (
    b"POST /api/nodes/healthy/heartbeats HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    b"Content-Length: 40000\r\n"
)


class SlowClient:
    """A connection whose request never ends: byte by byte it sends more of its head, or of its body."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, in_body: bool) -> None:
        self._writer = writer
        writer.write(HEAD + (b"\r\n" if in_body else b"X-Padding: "))
        self.answer = asyncio.ensure_future(reader.read())
        """All that the server says until it closes."""

    def send_a_byte(self) -> None:
        if not self.answer.done():
            self._writer.write(b" ")

    async def close(self) -> None:
        self.answer.cancel()
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


async def test_200_slow_clients_delay_nobody_and_are_sent_away(tmp_path: Path) -> None:
    # The healthy client's node is none that sends a beat now and then.
    often = {"THUNDERLINE_HEARTBEATS_PER_SECOND_NODE": "100000"}
    with running(tmp_path / "t.db", under=[sys.executable, "-c", SHORTER], environ=often) as server:
        port = int(server.url.rpartition(":")[2])
        slow: list[SlowClient] = []
        try:
            async with httpx.AsyncClient(base_url=server.url, trust_env=False) as http:
                assert (await http.post("/api/nodes", json={"name": "healthy"})).status_code == 201
                for number in range(SOCKETS):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    slow.append(SlowClient(reader, writer, in_body=number % 2 == 1))
                beside_all = 0
                for seq in range(ROUNDS_MAX):
                    for client in slow:
                        client.send_a_byte()
                    beat = await http.post("/api/nodes/healthy/heartbeats", json={"seq": seq})
                    node = await http.get("/api/nodes/healthy")
                    assert (beat.status_code, node.status_code) == (201, 200)
                    over = sum(client.answer.done() for client in slow)
                    beside_all += not over
                    if over == SOCKETS:
                        break
            assert beside_all > 0
            answers = [client.answer.result() for client in slow if client.answer.done()]
            assert [answer.split(b"\r\n", 1)[0] for answer in answers] == [b"HTTP/1.1 408 Request Timeout"] * SOCKETS
        finally:
            for client in slow:
                await client.close()
        assert await asyncio.to_thread(server.stop) == 0
        assert server.complaints() == []
