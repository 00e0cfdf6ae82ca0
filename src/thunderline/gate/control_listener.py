"""The control socket's file: made so that nobody but its owner could ever reach it, under a path of any length."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from thunderline.gate.control_messages import is_short

_BACKLOG: Final = 16
_DESCRIPTORS: Final = Path("/proc/self/fd")
_NAME: Final = "s"
_PEER: Final = struct.Struct("3i")
"""pid, uid, gid. Source: unix(7), SO_PEERCRED."""


class ControlListener:
    """A listening socket at `path`, which replaces whatever has that name: who listens holds the database."""

    def __init__(self, path: Path) -> None:
        """Raises: OSError."""
        self._path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # Bound in a directory that is closed to others, and moved to its place when its own mode is.
            private = Path(tempfile.mkdtemp(prefix=".thunderline-", dir=path.parent))
            try:
                self._bind(private)
                bound = private / _NAME
                bound.chmod(0o600)
                self.socket.listen(_BACKLOG)
                self.socket.setblocking(False)
                found = bound.stat()
                bound.replace(path)
            finally:
                (private / _NAME).unlink(missing_ok=True)
                private.rmdir()
        except BaseException:
            self.socket.close()
            raise
        self._identity = (found.st_dev, found.st_ino)

    def _bind(self, directory: Path) -> None:
        if is_short(directory / _NAME):
            self.socket.bind(str(directory / _NAME))
            return
        if not _DESCRIPTORS.is_dir():
            raise OSError(0, "the path is too long for a socket on this system", str(self._path))
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.socket.bind(str(_DESCRIPTORS / str(fd) / _NAME))
        finally:
            os.close(fd)

    def remove(self) -> None:
        """Take the socket's name away, if it is still this one's."""
        with suppress(OSError):
            found = self._path.stat(follow_symlinks=False)
            if (found.st_dev, found.st_ino) == self._identity:
                self._path.unlink()


def is_trusted(descriptor: int) -> bool:
    """Whether the process at the other end runs as our user, or as root; as far as the system tells who it is.

    The socket's mode says the same; this holds also where somebody has changed it.
    """
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    with socket.socket(fileno=os.dup(descriptor)) as peer:
        _, uid, _ = _PEER.unpack(peer.getsockopt(socket.SOL_SOCKET, option, _PEER.size))
    return uid in (0, os.geteuid())
