"""A real server in a process of its own, on a new database, for the length of a measurement."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import psutil

VAR: Final = Path(__file__).parent.parent / "var"


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
    """Start `thunderline serve` on `store`, by default a new SQLite file under `var/`.

    Not under the system's temporary directory: where that is kept in memory, a flush costs nothing.
    """
    VAR.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=VAR) as folder:
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
