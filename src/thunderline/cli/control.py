"""The server that holds a database on this machine, asked over its control socket."""

from __future__ import annotations

import socket
from contextlib import closing, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

from thunderline.block.upkeep import Backup, DatabaseStatus, Report, Upkeep
from thunderline.cli.failures import DatabaseFailed
from thunderline.core.errors import InvalidInput
from thunderline.gate.control_messages import (
    KEEP_ALIVE_S,
    LINE_MAX_BYTES,
    BackupAnswer,
    BackupRequest,
    Failed,
    Progress,
    Request,
    StatusAnswer,
    StatusRequest,
    identify,
    is_short,
    read_answer,
    write_line,
)

A = TypeVar("A")

SILENCE_MAX_S: Final = KEEP_ALIVE_S * 10
"""After so long without a word the server counts as hung."""


def status_of(upkeep: Upkeep) -> DatabaseStatus:
    """How the database stands, as its server says, or else as it is found. Raises: DatabaseFailed, StoreFault."""
    control = _server_of(upkeep)
    if control is None:
        return upkeep.status()
    return control.ask(StatusRequest(), StatusAnswer, lambda step, done, total: None).status


def migrate_of(upkeep: Upkeep, *, post: bool) -> list[str]:
    """The migrations that were applied; a server saw to it when it opened the database. Raises: as `status_of`."""
    return upkeep.migrate(post=post) if _server_of(upkeep) is None else []


def back_up(upkeep: Upkeep, file: Path, *, overwrite: bool, report: Report) -> Backup:
    """A backup made by the server that holds the database, or else here. Raises: DatabaseFailed, StoreFault."""
    control = _server_of(upkeep)
    if control is None:
        return upkeep.backup(file, overwrite=overwrite, report=report)
    whole = file.absolute()
    try:
        directory = identify(whole.parent)
    except OSError as error:
        raise DatabaseFailed(f"{whole.parent}: {error.strerror}") from error
    request = BackupRequest(file=str(whole), overwrite=overwrite, directory=directory)
    return control.ask(request, BackupAnswer, report).backup


def _server_of(upkeep: Upkeep) -> Control | None:
    return None if upkeep.control_path is None else Control.connect(upkeep.control_path)


class Control:
    """A connection to the server that holds the database whose control socket is at `path`."""

    def __init__(self, path: Path, connection: socket.socket) -> None:
        """Use `connect`."""
        self._path = path
        self._connection = connection

    @classmethod
    def connect(cls, path: Path) -> Control | None:
        """The server at `path`; None when none listens there. Raises: DatabaseFailed when it may not be asked."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(SILENCE_MAX_S)
        try:
            _connect(connection, path)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            connection.close()
            return None
        except OSError as error:
            connection.close()
            raise DatabaseFailed(
                f"the server that holds the database cannot be asked ({path}: {error.strerror or error}); "
                "run this as the server's user, or as root"
            ) from error
        return cls(path, connection)

    def ask(self, request: Request, kind: type[A], report: Report) -> A:
        """What the server answers, once; `report` is told how it goes. Raises: DatabaseFailed."""
        with closing(self._connection), self._connection.makefile("rb") as answers:
            try:
                with suppress(BrokenPipeError):  # it has refused us before we asked, and its answer can be read
                    self._connection.sendall(write_line(request))
                while line := answers.readline(LINE_MAX_BYTES):
                    answer = read_answer(line)
                    if isinstance(answer, Progress):
                        report(answer.step, answer.done, answer.total)
                    elif isinstance(answer, Failed):
                        raise DatabaseFailed(_told(answer))
                    elif isinstance(answer, kind):
                        return answer
                    else:
                        break
            except TimeoutError as error:
                raise DatabaseFailed(f"the server did not answer for {SILENCE_MAX_S:g} s; look at its log") from error
            except OSError as error:
                raise DatabaseFailed(f"the connection to the server broke ({error.strerror}); try again") from error
            except InvalidInput as error:
                raise DatabaseFailed(f"the server at {self._path} speaks another version of this ({error})") from error
            raise DatabaseFailed("the server ended before it answered; try again")


def _told(answer: Failed) -> str:
    if answer.code == "unknown_request":
        return f"the server does not know this; is it of another version? ({answer.message})"
    return answer.message


def _connect(connection: socket.socket, path: Path) -> None:
    if is_short(path):
        connection.connect(str(path))
        return
    with TemporaryDirectory(prefix="thunderline-") as directory:
        short = Path(directory) / "s"
        short.symlink_to(path)
        connection.connect(str(short))
