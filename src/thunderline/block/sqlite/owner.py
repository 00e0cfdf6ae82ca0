"""One process per database file: advisory locks on the file and beside it, the latter to say who holds it.

Two names of one file, a hard link or one whose lock file was removed, meet at the lock on the file itself. That one is
taken on Linux only: elsewhere, and on network file systems, it may stand in the way of SQLite's own locks.
"""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from thunderline.core.clock import Clock
from thunderline.core.errors import StoreLocked, StoreUnavailable, UpkeepFailed

_OWNER_MAX_BYTES: Final = 4096
_KERNEL_LOCKS: Final = Path("/proc/locks")
LOOKS: Final = 3
"""At the kernel's list of locks."""
_UNKNOWN_OWNER: Final = "another process"


class Owner(msgspec.Struct, frozen=True):
    """Who holds a database, as written into its lock file."""

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


class OwnerLock:
    """Held from `acquire` to `release`, or to the end of the process: the kernel drops it, so `kill -9` leaves none.

    POSIX drops all of a process's record locks on a file, SQLite's too, when any descriptor of that file is closed. So
    `hold_file` comes before the first connection, and `release` after the last one was closed.
    """

    def __init__(self, database: Path, *, clock: Clock) -> None:
        # The real path, so that two names of one file meet at one lock.
        self._database = database.resolve()
        self._path = _lock_path(self._database)
        self._clock = clock
        self._lock_fd: int | None = None
        self._file_fd: int | None = None
        self._identity: tuple[int, int] | None = None
        self._is_to_be_removed = False

    def acquire(self) -> None:
        """Take the lock beside the file. Raises: StoreLocked naming the owner; StoreUnavailable."""
        try:
            fd, is_new = _open_or_create(self._path)
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {error.strerror}") from error
        try:
            self._lock(fd)
        except BaseException:
            if is_new:
                _remove(self._path)
            os.close(fd)
            raise
        self._lock_fd, self._is_to_be_removed = fd, is_new

    def _lock(self, fd: int) -> None:
        me = Owner(os.getpid(), socket.gethostname(), f"{self._clock.now():%Y-%m-%d %H:%M:%S} UTC")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Asked of the kernel first: merely to try the lock takes a descriptor, which must not be closed again if
            # the owner is in this process.
            holder = _holder_of(self._database)
            if holder is not None:
                raise StoreLocked(str(self._database), owner=f"process {holder} on {me.host}")
            os.ftruncate(fd, 0)
            os.pwrite(fd, msgspec.json.encode(me), 0)
        except BlockingIOError as error:
            raise StoreLocked(str(self._database), owner=_read_owner(fd)) from error
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {error.strerror}") from error

    @property
    def holds_file(self) -> bool:
        """Whether `hold_file` succeeded and `release` did not follow yet."""
        return self._file_fd is not None

    def hold_file(self) -> None:
        """Take the lock on the file itself, creating it empty. Raises: StoreLocked; StoreUnavailable."""
        try:
            fd = os.open(self._database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            if sys.platform == "linux":
                # On failure the descriptor stays open: the owner may be in this process, unseen by `acquire`.
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(fd)
        except BlockingIOError as error:
            holder = _holder_of(self._database)
            owner = _UNKNOWN_OWNER if holder is None else f"process {holder} on {socket.gethostname()}"
            raise StoreLocked(str(self._database), owner=owner) from error
        except OSError as error:
            raise StoreUnavailable(f"{self._database}: {error.strerror}") from error
        self._file_fd, self._identity = fd, (found.st_dev, found.st_ino)

    def disown_file(self) -> None:
        """Give back the lock on a file that is not ours, of which others in this process may hold record locks."""
        if self._file_fd is not None:
            # Unlocked but never closed; a refused file costs its process one descriptor.
            fcntl.flock(self._file_fd, fcntl.LOCK_UN)
            self._file_fd = self._identity = None

    def check_in_place(self) -> None:
        """Return if the path still leads to the file that is held. Raises: StoreUnavailable."""
        try:
            found = os.stat(self._database)
        except FileNotFoundError:
            problem = "removed"
        except OSError as error:
            raise StoreUnavailable(f"{self._database}: {error.strerror}") from error
        else:
            if (found.st_dev, found.st_ino) == self._identity:
                return
            problem = "replaced"
        raise StoreUnavailable(
            f"the database file {self._database} was {problem} under the running server; "
            "put it back, or restart the server to go on with what is there"
        )

    def keep(self) -> None:
        """From now on `release` leaves a lock file that `acquire` made: the database is ours."""
        self._is_to_be_removed = False

    def release(self) -> None:
        """Give the locks back; idempotent.

        The lock file stays after `keep`; else it goes if it was made here, so that a foreign file has none beside it.
        """
        if self._lock_fd is not None:
            if self._is_to_be_removed:
                # Two processes may now lock two lock files, but not twice the file itself.
                _remove(self._path)
            os.close(self._lock_fd)
            self._lock_fd = None
        if self._file_fd is not None:
            os.close(self._file_fd)
            self._file_fd = self._identity = None


@contextmanager
def holding(database: Path, *, clock: Clock) -> Iterator[None]:
    """A block for which the database is ours, without a server. Raises: StoreLocked, UpkeepFailed."""
    lock = OwnerLock(database, clock=clock)
    try:
        lock.acquire()
        if database.is_file():
            lock.hold_file()
    except StoreUnavailable as error:
        lock.release()
        raise UpkeepFailed(str(database), problem=error.reason) from error
    except BaseException:
        lock.release()
        raise
    try:
        yield
    finally:
        lock.release()


def owner_of(database: Path) -> Owner | None:
    """Who holds the database, told without taking or changing anything; None also when that cannot be seen."""
    lock = _lock_path(database)
    try:
        fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # none; or another user's, of which the kernel still tells
        return _named(_holder_of(lock) or _holder_of(database), None)
    try:
        if _KERNEL_LOCKS.exists():
            return _named(_holder_of(lock) or _holder_of(database), _read(fd))
        # Without the kernel's word only a lock of our own can tell; it is shared, and gone at once.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(fd)
    finally:
        os.close(fd)
    return None


def _named(pid: int | None, written: Owner | None) -> Owner | None:
    """The owner that the kernel knows as `pid`, in its own words where they are about it."""
    if pid is None:
        return None
    return written if written is not None and written.pid == pid else Owner(pid, socket.gethostname(), "")


def _lock_path(database: Path) -> Path:
    return database.with_name(database.name + ".lock")


def _open_or_create(path: Path) -> tuple[int, bool]:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_EXCL, 0o600), True
    except FileExistsError:
        return os.open(path, flags, 0o600), False


def _remove(path: Path) -> None:
    # One that cannot be removed does no harm; a lock that is not given back would.
    with suppress(OSError):
        path.unlink()


def _read_owner(fd: int) -> str:
    return str(_read(fd) or _UNKNOWN_OWNER)


def _read(fd: int) -> Owner | None:
    try:
        return msgspec.json.decode(os.pread(fd, _OWNER_MAX_BYTES, 0), type=Owner)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # The owner is between locking the file and writing its name.
        return None


def _holder_of(path: Path) -> int | None:
    """The process that holds an flock on the file, as far as the kernel tells: not over the border of a container.

    Source: proc_locks(5).
    """
    try:
        found = path.stat()
        # The list comes in pieces, and may shift between them: what is not there is looked for again.
        lines = [line for _ in range(LOOKS) for line in _KERNEL_LOCKS.read_text().splitlines()]
    except OSError:
        return None
    file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for line in lines:
        match line.split():
            case [_, "FLOCK", _, "WRITE", pid, held, *_] if held == file:
                return int(pid)
    return None
