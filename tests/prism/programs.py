"""The programs of Prometheus, where they are there: on the PATH, or where `.ci/prometheus` puts them. And who is told
by them."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PROGRAMS: Final = ROOT / ".programs" / "usr" / "bin"
DEPLOY: Final = ROOT / "deploy"


TEMPLATES: Final = Path("/usr/share/prometheus/alertmanager/default.tmpl")
"""Without which Debian's Alertmanager does not start, wherever it is itself."""


def find(name: str) -> str | None:
    """Where the program is, if it can run."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{PROGRAMS}")
    is_unpacked = found is not None and Path(found).parent == PROGRAMS
    return None if is_unpacked and name == "prometheus-alertmanager" and not TEMPLATES.exists() else found


def needs(*names: str) -> pytest.MarkDecorator:
    """A mark that skips a test where one of them is missing, and says so."""
    missing = [name for name in names if find(name) is None]
    return pytest.mark.skipif(
        bool(missing), reason=f"not on the PATH and not unpacked by .ci/prometheus: {', '.join(missing)}"
    )


def program(name: str) -> str:
    """Where the program is, which is there."""
    found = find(name)
    assert found is not None
    return found


ANSWER: Final = b"# HELP fleet_alive 1.\n# TYPE fleet_alive gauge\nfleet_alive 1\n"


class Receiver:
    """What Alertmanager tells, in order; a `GET` is answered as a node would that has metrics."""

    def __init__(self) -> None:
        told: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(ANSWER)

            def do_POST(self) -> None:
                told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self._answer(b"")

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self.told = told
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]

    def together(self, status: str, *names: str) -> dict[str, Any] | None:
        """The first message in which all these alerts are, with that status."""
        for message in list(self.told):
            if set(names) <= {each["labels"]["alertname"] for each in message["alerts"] if each["status"] == status}:
                return message
        return None

    def has(self, status: str, name: str) -> bool:
        """Whether it was told so of the alert."""
        return self.together(status, name) is not None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """A block in which it does."""
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


class Program:
    """A program that answers at `url`, and what it has logged."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self._log = log

    def warnings(self) -> list[str]:
        """The lines of its log that say more than that all is well."""
        return [line for line in self._log.read_text().splitlines() if not re.search(r"level=(info|debug)", line)]


@contextmanager
def started(folder: Path, name: str, *arguments: str) -> Iterator[Program]:
    """The program, listening on a port of its own; killed at the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    log = folder / f"{name}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [program(name), f"--web.listen-address={address}", *arguments], cwd=folder, stdout=output, stderr=output
        )
    try:
        yield Program(f"http://{address}", log)
    finally:
        process.kill()
        process.wait(10)
