"""The control socket: what the command line of this machine may ask of the server that holds the database.

What is about the database is done in threads of its own, beside the store's. It ends early when its client goes away or
the server stops, and leaves nothing behind then. What is about the registry is done like any other change of it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, assert_never

from thunderline.block.upkeep import Report, Upkeep
from thunderline.core.errors import InvalidInput, NotPermitted, ShuttingDown, ThunderlineError, UpkeepFailed
from thunderline.core.logging import get_logger
from thunderline.gate.control_desk import ControlDesk
from thunderline.gate.control_listener import ControlListener, is_trusted
from thunderline.gate.control_messages import (
    KEEP_ALIVE_S,
    LINE_MAX_BYTES,
    Answer,
    BackupAnswer,
    BackupRequest,
    DeskRequest,
    Failed,
    Progress,
    Request,
    StatusAnswer,
    StatusRequest,
    identify,
    read_request,
    write_line,
)
from thunderline.link.registry import Registry

log = get_logger(__name__)

REQUEST_TIMEOUT_S: Final = 10.0
SEND_TIMEOUT_S: Final = 10.0
PROGRESS_S: Final = 0.1
CLIENTS_MAX: Final = 16
"""Clients that are served at a time; further ones are told to come back."""


class ControlSocket:
    """Answers at `path` from `start` to `close`, for the process that holds the database."""

    def __init__(self, upkeep: Upkeep, path: Path, registry: Registry | None = None) -> None:
        """`path` is that of `upkeep`; without a `registry` nothing is known of tokens."""
        self._upkeep = upkeep
        self._desk = None if registry is None else ControlDesk(registry)
        self._path = path
        self._threads = ThreadPoolExecutor(CLIENTS_MAX, thread_name_prefix="control")
        self._ending = asyncio.Event()
        self._clients: set[asyncio.Task[None]] = set()
        self._listener: ControlListener | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen. Where no socket can be made the server goes on without one, and says so in its log."""
        path = self._path
        try:
            self._listener = await asyncio.to_thread(ControlListener, path)
        except OSError as error:
            log.warning(
                "no control socket; commands on this machine cannot ask this server", path=str(path), error=str(error)
            )
            return
        self._server = await asyncio.start_unix_server(self._accepted, sock=self._listener.socket, limit=LINE_MAX_BYTES)

    async def close(self) -> None:
        """Answer who waits that it is over, and take the socket away; idempotent."""
        self._ending.set()
        if self._server is not None:
            self._server.close()
            self._server = None
        while self._clients:
            await asyncio.wait(self._clients)
        if self._listener is not None:
            await asyncio.to_thread(self._listener.remove)
            self._listener = None
        self._threads.shutdown(wait=False)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name="control client")
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (ConnectionError, TimeoutError):
            log.debug("control client went away")
        except Exception:
            log.exception("control request failed")
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if not _is_trusted(writer):
                raise NotPermitted("another user of this machine", "use the control socket")
            if len(self._clients) > CLIENTS_MAX:
                raise UpkeepFailed(str(self._path), problem="too many clients at a time; try again")
            try:
                request = await self._read(reader)
            except InvalidInput as error:
                await self._send(writer, Failed(code="unknown_request", message=str(error)))
                return
            log.info("control request", request=type(request).__name__)
            last = await self._work(request, reader, writer)
        except ThunderlineError as error:
            last = Failed(code=error.code, message=str(error))
        except (ConnectionError, TimeoutError):
            raise
        except Exception:
            log.exception("control request failed")
            last = Failed(code="internal_error", message="this is a bug of the server; its log has the details")
        await self._send(writer, last)

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        async with asyncio.timeout(REQUEST_TIMEOUT_S):
            try:
                line = await reader.readline()
            except ValueError as error:  # longer than the limit
                raise InvalidInput("request", f"is longer than {LINE_MAX_BYTES} bytes") from error
        if not line.endswith(b"\n"):
            raise ConnectionResetError
        return read_request(line)

    async def _work(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Answer:
        """Do what is asked, and tell how it goes. Raises: ThunderlineError; ConnectionError."""
        steps = _Steps()
        working: asyncio.Future[Answer]
        if isinstance(request, StatusRequest | BackupRequest):
            loop = asyncio.get_running_loop()
            working = loop.run_in_executor(self._threads, self._body(request, steps.report))
        else:
            working = asyncio.create_task(self._at_desk(request), name="control request")
        # Nothing more is due from the client: whatever comes, or its end, means that it does not wait any longer.
        gone = asyncio.create_task(reader.read(1))
        ending = asyncio.create_task(self._ending.wait())
        try:
            told, silent_s = steps.newest, 0.0
            while not working.done():
                await asyncio.wait((working, gone, ending), timeout=PROGRESS_S, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    raise ConnectionResetError
                if ending.done():
                    raise ShuttingDown
                silent_s += PROGRESS_S
                if steps.newest != told or silent_s >= KEEP_ALIVE_S:
                    told, silent_s = steps.newest, 0.0
                    await self._send(writer, told)
            return await working
        finally:
            # In every case, so that nothing of it is left when the store closes.
            steps.end()
            gone.cancel()
            ending.cancel()
            await asyncio.wait((working, gone, ending))
            if not working.cancelled():
                working.exception()

    async def _at_desk(self, request: DeskRequest) -> Answer:
        if self._desk is None:
            raise InvalidInput("request", "there is no registry here")
        return await self._desk.answer(request)

    def _body(self, request: StatusRequest | BackupRequest, report: Report) -> Callable[[], Answer]:
        match request:
            case StatusRequest():
                return lambda: StatusAnswer(status=self._upkeep.status())
            case BackupRequest():
                return lambda: self._backup(request, report)
            case _:
                assert_never(request)

    def _backup(self, request: BackupRequest, report: Report) -> BackupAnswer:
        file = Path(request.file)
        if not file.is_absolute():
            raise InvalidInput("request", "the path of a backup should be absolute")
        try:
            seen = identify(file.parent)
        except OSError as error:
            raise UpkeepFailed(
                str(file.parent), problem=f"{error.strerror}, says the server; choose a directory that it can write to"
            ) from error
        if seen != request.directory:
            raise UpkeepFailed(
                str(file.parent),
                problem="is another directory for the server, whose unit may have one of its own; choose one that "
                "both see, e.g. the database's",
            )
        backup = self._upkeep.backup(file, overwrite=request.overwrite, report=report)
        log.info("backup made", file=backup.file, revision=backup.revision, size_bytes=backup.size_bytes)
        return BackupAnswer(backup=backup)

    async def _send(self, writer: asyncio.StreamWriter, message: Answer) -> None:
        if writer.transport.is_closing():  # uvloop's takes nothing more then, with an error of its own
            raise ConnectionResetError
        writer.write(write_line(message))
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await writer.drain()


def _is_trusted(writer: asyncio.StreamWriter) -> bool:
    """Whether the client may ask. Raises: ConnectionResetError when it has gone, which leaves nobody to look at."""
    try:
        return is_trusted(writer.get_extra_info("socket").fileno())
    except OSError as error:
        raise ConnectionResetError from error


class _Ended(Exception):
    """Nobody waits for the work any longer."""


class _Steps:
    """How far a thread is, as it says itself; and how it is told to end."""

    def __init__(self) -> None:
        self.newest = Progress(step="working", done=0, total=0)
        self._is_over = threading.Event()

    def report(self, step: str, done: int, total: int) -> None:
        self.newest = Progress(step=step, done=done, total=total)
        if self._is_over.is_set():
            raise _Ended

    def end(self) -> None:
        self._is_over.set()
