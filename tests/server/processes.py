"""Real server processes for tests: started, talked to, killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

START_TIMEOUT_S = 30


class ServerProcess:
    """A `thunderline serve` that answers at `url`; `store` is its file."""

    def __init__(self, process: subprocess.Popen[str], url: str, store: Path) -> None:
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


def serve_command(store: Path, *options: str) -> list[str]:
    """The command that serves `store` on a free port."""
    command = [sys.executable, "-m", "thunderline.cli", "serve", "--port", "0"]
    return [*command, "--store", f"sqlite:///{store}", *options]


@contextlib.contextmanager
def running(
    store: Path, *options: str, under: Sequence[str] = (), environ: dict[str, str] | None = None
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
        assert url.startswith("http://"), f"the server did not start: {line!r} {process.stderr.read()!r}"
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
