"""A real server in a process of its own, on a new database, for the length of a measurement."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
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
def running_server(*, store: str | None = None) -> Iterator[Running]:
    """Start `thunderline serve` on `store`, by default an SQLite file in a new temporary directory on disk."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        command = [
            *(sys.executable, "-m", "thunderline.cli", "serve", "--port", "0"),
            *("--store", store or f"sqlite:///{folder}/bench.db"),
        ]
        environ = {**os.environ, "THUNDERLINE_LOG_LEVEL": "warning"}
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
