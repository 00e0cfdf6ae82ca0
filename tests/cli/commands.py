"""The command line as a process: its output into pipes, or onto a terminal."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import termios

from typer.testing import CliRunner, Result

from thunderline.cli.app import app

PROGRAM = (sys.executable, "-m", "thunderline.cli")


def environ(**more: str) -> dict[str, str]:
    """This process's environment without what would change the commands' output, and with `more`."""
    swayed = ("THUNDERLINE_", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "COLORTERM", "TTY_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(swayed)}
    return {**kept, "LANG": "C.UTF-8", "TERM": "xterm-256color", **more}


def piped(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A command whose output goes into pipes."""
    return subprocess.run(
        [*PROGRAM, *args], capture_output=True, encoding="utf-8", env=environ(**env), timeout=30, check=False
    )


def parsed(*args: str) -> Result:
    """A command that ends before it asks a server: help, or a usage error. In this process, which is quick."""
    return CliRunner().invoke(app, args, prog_name="thunderline", env={"COLUMNS": "80"})


class Screen:
    """What a command left on a terminal: as it was written, and as `lines` without colours."""

    def __init__(self, raw: str, code: int) -> None:
        self.raw = raw
        self.code = code
        self.text = re.sub(r"\x1b\[[0-9;]*m", "", raw).replace("\r\n", "\n")
        self.lines = [line.rstrip() for line in self.text.splitlines()]

    def column(self, heading: str, following: str) -> str:
        """All cells of a table's column put together, as someone reads a folded name."""
        head = next(line for line in self.lines if heading in line and following in line)
        start, end = head.index(heading), head.index(following)
        return "".join(line[start:end].strip() for line in self.lines)


def on_screen(*args: str, columns: int = 100, until: str | None = None, **env: str) -> Screen:
    """A command that runs on a terminal of that width; as with Ctrl-C once it has shown the text `until`."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, columns))
    process = subprocess.Popen([*PROGRAM, *args], stdin=theirs, stdout=theirs, stderr=theirs, env=environ(**env))
    os.close(theirs)
    parts = []
    try:
        with os.fdopen(ours, "rb", buffering=0) as terminal:
            while True:
                try:
                    part = terminal.read(65_536)
                except OSError:  # how Linux says that nobody holds the other side any more
                    break
                if not part:
                    break
                parts.append(part)
                if until is not None and until in b"".join(parts).decode(errors="replace"):
                    process.send_signal(signal.SIGINT)
                    until = None
        return Screen(b"".join(parts).decode(), process.wait(timeout=30))
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(timeout=30)
