"""What people do to a database beside using it: look at it, copy it while it is in use, put a copy in its place.

An engine that comes with tools of its own for this has no `Upkeep`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import msgspec


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The process that holds a database. `since` None: it does not tell."""

    pid: int
    host: str
    since: str | None = None

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}{'' if self.since is None else f', since {self.since}'}"


class HeartbeatHistory(msgspec.Struct, frozen=True, kw_only=True):
    """How much of heartbeats is kept: rows, the beats in them, and the bytes of both without their indexes."""

    rows: int
    beats: int
    size_bytes: int


class DatabaseStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A database as it stands. What is None cannot be read in a schema that this version does not know.

    `pending` are migrations that it lacks, `unknown` those of a later version, both by name, in order. `oldest` is the
    revision before the oldest event that is kept. `wal_bytes` are commits that are not yet folded into the file, None
    where an engine's log is not this database's alone.
    """

    location: str
    held_by: Holder | None
    schema_version: int
    pending: list[str]
    unknown: list[str]
    log_id: str | None
    revision: int | None
    oldest: int | None
    nodes: int | None
    open_sessions: int | None
    events: int | None
    heartbeats: HeartbeatHistory | None
    file_bytes: int
    wal_bytes: int | None
    engine: str


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that is on stable storage: everything up to `revision`, nothing after it."""

    file: str
    log_id: str
    revision: int
    size_bytes: int


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """A database that was put in place. `replaced` is where the one that was there lies now; None: there was none."""

    location: str
    log_id: str
    revision: int
    migrated: list[str]
    replaced: str | None


Report = Callable[[str, int, int], None]
"""Told the step, how much of it is done, and of how much; what it raises ends the work and is passed on."""


class Upkeep(ABC):
    """The upkeep of one database, opened or not. Every method blocks, and may run beside the store's own threads."""

    control_path: Path | None
    """Where the socket of a process that serves the database belongs; None: nothing needs to go through it."""

    @abstractmethod
    def holder(self) -> Holder | None:
        """Who holds the database, as far as that can be seen without touching it."""

    @abstractmethod
    def status(self) -> DatabaseStatus:
        """How the database stands. Nothing of it is changed. Raises: NoDatabase, StoreIncompatible, UpkeepFailed."""

    @abstractmethod
    def migrate(self, *, post: bool) -> list[str]:
        """Bring the schema to this version, and give the migrations that were missing; those at the end that older
        processes could not live with only with `post`, or where there can be no such process.

        Raises: StoreLocked, NoDatabase, StoreIncompatible, UpkeepFailed.
        """

    @abstractmethod
    def backup(self, file: Path, *, overwrite: bool, report: Report) -> Backup:
        """Copy the database as of one revision into `file`, an SQLite database, while others read and write it.

        On return the copy is durable, whole, and for its owner alone; until then nothing stands under that name, or
        what stood there before. Raises: NoDatabase, FileInTheWay, StoreIncompatible, UpkeepFailed.
        """

    @abstractmethod
    def restore(self, file: Path, *, replace: bool, report: Report) -> Restored:
        """Put the backup `file` in the database's place, as a log of its own.

        At any instant either the old database is there or the new one, whole. One that is replaced is kept beside.
        Raises: StoreLocked, NotABackup, FileInTheWay, UpkeepFailed; nothing was then changed.
        """
