"""One process per database file: an advisory lock beside it that also says who holds it."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path
from typing import Final

import msgspec

from thunderline.core.clock import Clock
from thunderline.core.errors import StoreLocked, StoreUnavailable

_OWNER_MAX_BYTES: Final = 4096


class Owner(msgspec.Struct, frozen=True):
    """Who holds a database, as written into its lock file."""

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


class OwnerLock:
    """Held from `acquire` to `release`, or to the end of the process: the kernel drops it, so `kill -9` leaves none."""

    def __init__(self, database: Path, *, clock: Clock) -> None:
        # The real path, so that two names of one file meet at one lock.
        self._database = database.resolve()
        self._path = self._database.with_name(self._database.name + ".lock")
        self._clock = clock
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock. Raises: StoreLocked naming the owner, StoreUnavailable when the file cannot be made."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {error.strerror}") from error
        try:
            self._lock(fd)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def _lock(self, fd: int) -> None:
        me = Owner(os.getpid(), socket.gethostname(), f"{self._clock.now():%Y-%m-%d %H:%M:%S} UTC")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
            os.pwrite(fd, msgspec.json.encode(me), 0)
        except BlockingIOError as error:
            raise StoreLocked(str(self._database), owner=_read_owner(fd)) from error
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {error.strerror}") from error

    def release(self) -> None:
        """Give the lock back; idempotent. The file stays: removing it would let two processes lock two files."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _read_owner(fd: int) -> str:
    try:
        return str(msgspec.json.decode(os.pread(fd, _OWNER_MAX_BYTES, 0), type=Owner))
    except msgspec.DecodeError:
        # The owner is between locking the file and writing its name.
        return "another process"
