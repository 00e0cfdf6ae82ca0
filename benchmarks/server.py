"""A real server in a process of its own, for the length of a measurement."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import psutil


class Running(msgspec.Struct, frozen=True):
    """A server that answers at `url`."""

    url: str
    process: psutil.Process

    def cpu_s(self) -> float:
        """Processor time that the server has used so far, in seconds."""
        times = self.process.cpu_times()
        return times.user + times.system


@contextlib.contextmanager
def running_server(*, store: str, **settings: float | str) -> Iterator[Running]:
    """Start `thunderline serve` on the database at the URL `store`, with `settings` that differ from the defaults."""
    command = [sys.executable, "-m", "thunderline.cli", "serve", "--port", "0", "--store", store]
    environ = {**os.environ, "THUNDERLINE_LOG_LEVEL": "warning"}
    environ |= {f"THUNDERLINE_{name.upper()}": str(value) for name, value in settings.items()}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as server:
        try:
            line = server.stdout.readline()
            url = line.rpartition(" ")[2].strip()
            if not url.startswith("http"):
                raise RuntimeError(f"the server did not start: {line!r}")
            yield Running(url, psutil.Process(server.pid))
        finally:
            server.terminate()
            server.wait(30)
