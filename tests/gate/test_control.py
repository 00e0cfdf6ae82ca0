"""The control socket: closed to others, under a path of any length, and unharmed by what its clients do."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.server.processes import until
from thunderline.block.sqlite import SqliteStore
from thunderline.block.upkeep import Backup, DatabaseStatus, Report, Upkeep
from thunderline.cli.control import Control
from thunderline.cli.failures import DatabaseFailed
from thunderline.gate import control as control_module
from thunderline.gate import control_listener
from thunderline.gate.control import ControlSocket
from thunderline.gate.control_messages import (
    LINE_MAX_BYTES,
    BackupAnswer,
    BackupRequest,
    StatusAnswer,
    StatusRequest,
    identify,
)


@asynccontextmanager
async def controlled(database: Path) -> AsyncIterator[SqliteStore]:
    """An open store with its control socket."""
    async with SqliteStore(database) as store:
        upkeep = store.upkeep()
        control = ControlSocket(upkeep, upkeep.control_path)
        await control.start()
        try:
            yield store
        finally:
            await control.close()


def silent(step: str, done: int, total: int) -> None:
    pass


def ask_status(path: Path) -> DatabaseStatus:
    control = Control.connect(path)
    assert control is not None
    return control.ask(StatusRequest(), StatusAnswer, silent).status


def ask_backup(path: Path, file: Path, report: Report = silent) -> Backup:
    control = Control.connect(path)
    assert control is not None
    request = BackupRequest(file=str(file), overwrite=False, directory=identify(file.parent))
    return control.ask(request, BackupAnswer, report).backup


def say(path: Path, line: bytes) -> dict[str, Any]:
    """The last line of what is answered to `line`."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(line)
        with client.makefile("rb") as answers:
            return json.loads(answers.readlines()[-1])


async def test_socket_is_for_its_owner_alone_and_gone_at_the_end(tmp_path: Path) -> None:
    async with controlled(tmp_path / "nodes.db"):
        found = (tmp_path / "nodes.db.sock").stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["nodes.db", "nodes.db.lock"]


async def test_socket_is_never_bound_where_others_could_reach_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    bind = socket.socket.bind

    def watched(self: socket.socket, address: str) -> None:
        bind(self, address)
        if self.family == socket.AF_UNIX:
            seen.append(Path(address).parent.stat().st_mode & 0o777)

    monkeypatch.setattr(socket.socket, "bind", watched)
    async with controlled(tmp_path / "nodes.db"):
        assert seen == [0o700]


async def test_socket_of_a_killed_server_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "nodes.db.sock"))
    assert Control.connect(tmp_path / "nodes.db.sock") is None
    async with controlled(tmp_path / "nodes.db"):
        assert (await asyncio.to_thread(ask_status, tmp_path / "nodes.db.sock")).revision == 0


async def test_socket_that_took_the_place_of_ours_is_left_alone(tmp_path: Path) -> None:
    async with controlled(tmp_path / "nodes.db"):
        (tmp_path / "nodes.db.sock").unlink()
        (tmp_path / "nodes.db.sock").write_text("another's")
    assert (tmp_path / "nodes.db.sock").read_text() == "another's"


async def test_long_path_works(tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    name = "n" * 150 + ".db"
    async with controlled(directory / name):
        status = await asyncio.to_thread(ask_status, directory / f"{name}.sock")
        assert status.location == str(directory / name)
    assert not list(directory.glob("*.sock"))


async def test_path_that_is_too_long_for_the_system_is_said_and_the_server_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(control_listener, "_DESCRIPTORS", tmp_path / "none")
    directory = tmp_path / ("d" * 120)
    async with controlled(directory / "nodes.db") as store:
        assert "no control socket" in caplog.text
        assert Control.connect(directory / "nodes.db.sock") is None
        assert await store.scan_nodes(after=None, limit=1) == []
    assert sorted(os.listdir(directory)) == ["nodes.db", "nodes.db.lock"]


async def test_peer_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_module, "is_trusted", lambda descriptor: False)
    async with controlled(tmp_path / "nodes.db"):
        with pytest.raises(DatabaseFailed, match="may not use the control socket"):
            await asyncio.to_thread(ask_status, tmp_path / "nodes.db.sock")


def test_trust_is_about_the_peers_user(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert control_listener.is_trusted(ours.fileno())
        me = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
        assert control_listener.is_trusted(ours.fileno()) == (me == 0)
        monkeypatch.delattr(socket, "SO_PEERCRED", raising=False)
        assert control_listener.is_trusted(ours.fileno())


@pytest.mark.parametrize(
    "line",
    [b'{"type": "explode"}\n', b"{}\n", b"hello\n", b"\xff\xfe\n", b"[]\n", b"\n", b'{"type": "backup"}\n'],
)
async def test_request_that_is_not_known_is_refused_as_such(tmp_path: Path, line: bytes) -> None:
    async with controlled(tmp_path / "nodes.db"):
        answer = await asyncio.to_thread(say, tmp_path / "nodes.db.sock", line)
        assert (answer["type"], answer["code"]) == ("failed", "unknown_request")


async def test_request_with_more_than_is_known_is_answered(tmp_path: Path) -> None:
    async with controlled(tmp_path / "nodes.db"):
        answer = await asyncio.to_thread(say, tmp_path / "nodes.db.sock", b'{"type": "status", "depth": 3}\n')
        assert answer["type"] == "status"


async def test_line_without_end_is_cut(tmp_path: Path) -> None:
    async with controlled(tmp_path / "nodes.db"):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "nodes.db.sock"))
        writer.write(b"x" * (LINE_MAX_BYTES + 1))
        answer = json.loads(await reader.readline())
        assert "longer than" in answer["message"]
        writer.close()


async def test_client_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_module, "REQUEST_TIMEOUT_S", 0.05)
    async with controlled(tmp_path / "nodes.db"):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "nodes.db.sock"))
        assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("said", [b"", b'{"type": "sta', b'{"type": "status"}\n'])
async def test_clients_that_go_at_once_leave_no_complaint(
    tmp_path: Path, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with controlled(tmp_path / "nodes.db"):
        # With the one that asks then, as many as are served at a time: how soon each is gone is up to the machine.
        for _ in range(control_module.CLIENTS_MAX - 1):
            _, writer = await asyncio.open_unix_connection(str(tmp_path / "nodes.db.sock"))
            writer.write(said)
            writer.transport.abort()
        assert (await asyncio.to_thread(ask_status, tmp_path / "nodes.db.sock")).revision == 0
    assert [record.message for record in caplog.records if record.levelname in ("ERROR", "WARNING")] == []


async def test_several_clients_are_served_at_once(tmp_path: Path) -> None:
    async with controlled(tmp_path / "nodes.db"):
        path = tmp_path / "nodes.db.sock"
        found = await asyncio.gather(
            *(asyncio.to_thread(ask_status, path) for _ in range(5)),
            *(asyncio.to_thread(ask_backup, path, tmp_path / f"b{at}.db") for at in range(3)),
        )
        assert len(found) == 8
        assert {answer.revision for answer in found} == {0}


class SlowUpkeep(Upkeep):
    """Backs up until it is told to end, and says so."""

    def __init__(self, path: Path) -> None:
        self.control_path = path
        self.began = threading.Event()
        self.ended = threading.Event()

    def holder(self) -> None:
        return None

    def status(self) -> DatabaseStatus:
        raise ZeroDivisionError("a bug")

    def migrate(self, *, post: bool) -> list[str]:
        raise NotImplementedError

    def backup(self, file: Path, *, overwrite: bool, report: Report) -> Backup:
        done = 0
        self.began.set()
        try:
            while True:
                done += 1
                report("copying", done, 0)
        finally:
            self.ended.set()

    def restore(self, file: Path, *, replace: bool, report: Report) -> Any:
        raise NotImplementedError


@pytest.fixture
async def slow(tmp_path: Path) -> AsyncIterator[tuple[SlowUpkeep, ControlSocket]]:
    upkeep = SlowUpkeep(tmp_path / "nodes.db.sock")
    control = ControlSocket(upkeep, upkeep.control_path)
    await control.start()
    yield upkeep, control
    await control.close()


async def test_client_that_goes_away_ends_its_backup(
    tmp_path: Path, slow: tuple[SlowUpkeep, ControlSocket], caplog: pytest.LogCaptureFixture
) -> None:
    upkeep, _ = slow

    class Enough(Exception):
        pass

    def go(step: str, done: int, total: int) -> None:
        raise Enough

    with pytest.raises(Enough):
        await asyncio.to_thread(ask_backup, upkeep.control_path, tmp_path / "b.db", go)
    await until(upkeep.ended.is_set)
    assert [record.levelname for record in caplog.records if record.levelname in ("ERROR", "WARNING")] == []


async def test_server_that_stops_ends_backups_and_tells_their_clients(
    tmp_path: Path, slow: tuple[SlowUpkeep, ControlSocket]
) -> None:
    upkeep, control = slow
    asking = asyncio.create_task(asyncio.to_thread(ask_backup, upkeep.control_path, tmp_path / "b.db"))
    await until(upkeep.began.is_set)
    await control.close()
    assert upkeep.ended.is_set()
    with pytest.raises(DatabaseFailed, match="shutting down"):
        await asking


async def test_bug_of_ours_is_told_as_one_and_logged(
    slow: tuple[SlowUpkeep, ControlSocket], caplog: pytest.LogCaptureFixture
) -> None:
    upkeep, _ = slow
    with pytest.raises(DatabaseFailed, match="bug of the server"):
        await asyncio.to_thread(ask_status, upkeep.control_path)
    assert "a bug" in caplog.text


async def test_directory_that_the_server_sees_otherwise_takes_no_backup(tmp_path: Path) -> None:
    async with controlled(tmp_path / "nodes.db"):
        control = Control.connect(tmp_path / "nodes.db.sock")
        assert control is not None
        request = BackupRequest(file=str(tmp_path / "b.db"), overwrite=False, directory=(1, 2))
        with pytest.raises(DatabaseFailed, match="another directory for the server"):
            await asyncio.to_thread(control.ask, request, BackupAnswer, silent)
    assert not (tmp_path / "b.db").exists()


@pytest.mark.parametrize(
    ("behave", "told"),
    [
        (lambda peer: None, "ended before it answered"),
        (lambda peer: peer.sendall(b'{"type": "odd"}\n'), "another version"),
        (
            lambda peer: peer.sendall(b'{"type": "failed", "code": "unknown_request", "message": "?"}\n'),
            "does not know",
        ),
    ],
)
def test_server_that_answers_oddly_is_told_as_such(
    tmp_path: Path, behave: Callable[[socket.socket], None], told: str
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1000)
                behave(peer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(DatabaseFailed, match=told):
            ask_status(tmp_path / "s")
        thread.join(20)
