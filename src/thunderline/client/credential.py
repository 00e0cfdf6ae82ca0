"""Files that hold a token: read when a client starts, and the one in which a node keeps its credential.

A token in a file that others may read is not a secret; such a file is refused. A credential is told once, so what is
written here is on the disk before it counts as kept. One process at a time writes a file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

import platformdirs

from thunderline.client.errors import ClientError
from thunderline.core.access import read_token
from thunderline.core.errors import InvalidInput

FILE_MAX_BYTES: Final = 4096
"""More than a token takes; what is longer is another file."""

_OTHERS: Final = 0o077
_NAME_MAX: Final = 200
"""Characters of a node's name that stand in a file's name, which may have 255."""
_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}


class CredentialNotKept(ClientError):
    """The disk does not take the credential of a node."""

    code = "credential_not_kept"

    def __init__(self, file: Path, *, problem: str) -> None:
        super().__init__(f"the node's credential cannot be kept in {file}: {problem}")
        self.file = file
        self.problem = problem


def check_token(text: str, *, field: str) -> str:
    """`text`, if it is a token. Raises: InvalidInput naming `field`, which does not repeat it."""
    if read_token(text) is None:
        raise InvalidInput(field, "holds no token; one begins with tl_ and has 78 characters")
    return text


def read_token_file(file: Path, *, field: str) -> str:
    """The token in `file`. Raises: InvalidInput naming `field`, with what to do."""
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            if mode & _OTHERS:
                raise InvalidInput(field, f"others than its owner may read or write {file}; chmod 600 {file}")
            data = opened.read(FILE_MAX_BYTES)
    except OSError as error:
        raise InvalidInput(field, f"{file} cannot be read: {error.strerror}") from error
    try:
        return check_token(data.decode("ascii").strip(), field=field)
    except (UnicodeDecodeError, InvalidInput):
        # Nothing of what was found there: it may be a secret of something else.
        raise InvalidInput(field, f"{file} holds no token; one begins with tl_ and has 78 characters") from None


def default_credential_file(server: str, name: str) -> Path:
    """Where the node of that name keeps its credential for that server when nothing is said: in the user's data."""
    parts = urlsplit(server)
    port = parts.port or _PORTS.get(parts.scheme, 0)
    place = quote(f"{parts.hostname or ''}:{port}{parts.path.rstrip('/')}", safe=":")
    folder = Path(platformdirs.user_data_dir("thunderline", appauthor=False)) / "credentials" / place
    file = quote(name, safe="@:")
    if len(file) > _NAME_MAX:
        file = f"{file[:_NAME_MAX]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return folder / f"{file}.token"


class CredentialFile:
    """Where one node keeps its credential. Its methods block, and are for one thread at a time."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> str | None:
        """The credential; None if none was kept, as far as can be seen.

        Raises: InvalidInput naming `credential_file`.
        """
        try:
            self.file.lstat()
        except OSError:
            # Also where the folder is closed to us: a node that needs no credential must not fail for it.
            return None
        return read_token_file(self.file, field="credential_file")

    def prepare(self) -> None:
        """Return if a credential can be kept: better known before a join token is used up than behind it.

        Raises: InvalidInput naming `credential_file`.
        """
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside = self._write_beside(b"-" * 80)
            beside.unlink()
        except OSError as error:
            raise InvalidInput("credential_file", f"{self.file} cannot be written: {error.strerror}") from error

    def keep(self, credential: str) -> None:
        """Keep it in place of the one before, on the disk by the time this returns. Raises: CredentialNotKept."""
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            beside = self._write_beside(credential.encode() + b"\n")
            try:
                beside.replace(self.file)
            except OSError:
                _remove(beside)
                raise
            _sync_folder(self.file.parent)
        except OSError as error:
            raise CredentialNotKept(self.file, problem=error.strerror or str(error)) from error

    def _write_beside(self, data: bytes) -> Path:
        """A new file in the same folder, which only its owner may read, with `data` on the disk."""
        descriptor, name = tempfile.mkstemp(prefix=".credential-", dir=self.file.parent)
        beside = Path(name)
        try:
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            _remove(beside)
            raise
        return beside


def _remove(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
