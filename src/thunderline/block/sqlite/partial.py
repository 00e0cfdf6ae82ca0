"""A file that appears under its name once it is whole and on stable storage, and not before."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from thunderline.core.errors import UpkeepFailed


class PartialFile:
    """A new, empty file beside `file`, for its owner alone; it is gone after the block unless `place` was called.

    A `kill -9` leaves it behind; the next one for the same `file` removes it. Two at a time are refused by a lock on
    it, which ends with the process. Raises: OSError; UpkeepFailed.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.path = file.with_name(f".{file.name}.partial")
        self.fd = -1

    def __enter__(self) -> Self:
        while True:
            self._remove_abandoned()
            try:
                self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            except FileExistsError:
                continue
            # Whoever found it before it was locked took it for abandoned.
            with suppress(BlockingIOError):
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_in_place():
                    return self
            os.close(self.fd)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if self._is_in_place():
                self.path.unlink()
        finally:
            os.close(self.fd)

    def flush(self) -> None:
        """Bring what was written so far to stable storage."""
        os.fdatasync(self.fd)

    def place(self, *, overwrite: bool) -> None:
        """Give the file its name, durably. Raises: FileExistsError when there is one and it must not be overwritten."""
        os.fsync(self.fd)
        if overwrite:
            self.path.replace(self.file)
        else:
            try:
                # Other than a rename, a link never takes the place of what appeared meanwhile.
                self.file.hardlink_to(self.path)
            except FileExistsError:
                raise
            except OSError:  # a file system without hard links
                if self.file.exists():
                    raise FileExistsError(str(self.file)) from None
                self.path.rename(self.file)
            else:
                self.path.unlink()
        flush_directory(self.file.parent)

    def _is_in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self.fd), self.path.stat(follow_symlinks=False))
        except FileNotFoundError:
            return False

    def _remove_abandoned(self) -> None:
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.path.unlink(missing_ok=True)
        except BlockingIOError as error:
            raise UpkeepFailed(str(self.file), problem="another backup or restore is writing it") from error
        finally:
            os.close(fd)


def flush_directory(directory: Path) -> None:
    """Bring the names in `directory` to stable storage."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
