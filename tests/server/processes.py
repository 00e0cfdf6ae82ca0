"""Real server processes for tests: started, talked to, killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import httpx

START_TIMEOUT_S = 30
LOOK_S = 0.02

T = TypeVar("T")


async def until(look: Callable[[], T | None], *, within_s: float = 20.0) -> T:
    """What `look` gives, once that is neither None nor False; the loop runs meanwhile."""
    loop = asyncio.get_running_loop()
    never: asyncio.Future[None] = loop.create_future()
    deadline = loop.time() + within_s
    while True:
        found = look()
        if found is not None and found is not False:
            return found
        assert loop.time() < deadline, f"not within {within_s:g} s"
        await asyncio.wait([never], timeout=LOOK_S)


def complaints(log: str) -> list[str]:
    """The lines of a program's JSON log that nobody should ever see: errors, tracebacks, and what is no log line."""

    def is_fine(line: str) -> bool:
        return (
            line.startswith("{") and "Traceback" not in line and json.loads(line)["level"] not in ("error", "critical")
        )

    return [line for line in log.splitlines() if not is_fine(line)]


class ServerProcess:
    """A `thunderline serve` that answers at `url`; `store` is its file, or the URL of its database."""

    def __init__(self, process: subprocess.Popen[str], url: str, store: Path | str) -> None:
        self.process = process
        self.url = url
        self.store = store
        self.http = httpx.Client(base_url=url, trust_env=False, timeout=10)

    def kill(self) -> None:
        """End it as a power cut would: no handler runs, nothing is flushed."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self) -> int:
        """Ask it to stop; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def complaints(self) -> list[str]:
        """What it logged that it should not have, once it has ended."""
        assert self.process.stderr is not None
        return complaints(self.process.stderr.read())


def serve_command(store: Path | str, *options: str) -> list[str]:
    """The command that serves `store`, a file or a URL, on a free port."""
    command = [sys.executable, "-m", "thunderline.cli", "serve", "--port", "0"]
    return [*command, "--store", store if isinstance(store, str) else f"sqlite:///{store}", *options]


@contextlib.contextmanager
def running(
    store: Path | str, *options: str, under: Sequence[str] = (), environ: dict[str, str] | None = None
) -> Iterator[ServerProcess]:
    """A server over `store`, ready to answer; killed at the end if it still runs. `under` wraps the command."""
    process = subprocess.Popen(
        [*under, *serve_command(store, *options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "THUNDERLINE_LOG_LEVEL": "warning", **(environ or {})},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        url = line.strip().rpartition(" ")[2]
        assert url.startswith(("http://", "https://")), f"the server did not start: {line!r} {process.stderr.read()!r}"
        server = ServerProcess(process, url, store)
        try:
            yield server
        finally:
            server.http.close()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        process.stdout.close()
        process.stderr.close()
