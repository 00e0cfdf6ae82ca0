"""What the machine does at best: a bare ASGI function that decodes and answers posts, under the load of the benchmarks.

Machines differ, and one machine from hour to hour; figures beside this one can be compared with those of another run.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

from benchmarks.load import Result, post, run_load

POSTS: Final = 60_000
START_S: Final = 10.0

_ANSWER: Final = b'{"ok":true}'
_HEADERS: Final = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_ANSWER))]

Message = MutableMapping[str, Any]


async def app(scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Any]) -> None:
    """Decode the body of each request, and answer 201."""
    message = await receive()
    body = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    msgspec.json.decode(body)
    await send({"type": "http.response.start", "status": 201, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": _ANSWER})


def bare_posts(*, connections: int) -> Result:
    """Post what a beat over HTTP has to `app`, in a process of its own."""
    body = msgspec.json.encode({"seq": 1, "cpu_load": 37.5, "mem_used_mb": 2048.0, "latency_ms": 1.25})
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        command = [sys.executable, "-m", "uvicorn", "benchmarks.yardstick:app", "--fd", str(listening.fileno())]
        command += ["--loop", "uvloop", "--http", "httptools", "--lifespan", "off", "--no-access-log"]
        command += ["--log-level", "error"]
        with subprocess.Popen(command, pass_fds=[listening.fileno()]) as server:
            try:
                host, port = listening.getsockname()
                _await_answers(host, port)
                return run_load(f"http://{host}:{port}", [post("/", body)] * POSTS, connections=connections, expect=201)
            finally:
                server.terminate()
                server.wait(30)


def _await_answers(host: str, port: int) -> None:
    """The socket takes connections before anybody accepts them. Raises: TimeoutError."""
    with socket.create_connection((host, port), timeout=START_S) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: yardstick\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
        if not connection.recv(64).startswith(b"HTTP/1.1 201"):
            raise RuntimeError("it answers, but not as it should")
