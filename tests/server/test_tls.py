"""TLS: the certificate's files, handshakes that end in time or not at all, and what goes over it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization

from tests.server.certificates import Authority
from tests.server.processes import running
from thunderline.client import Link
from thunderline.core.errors import SettingsError
from thunderline.core.settings import Settings
from thunderline.gate import tls
from thunderline.gate.entrance import Entrance
from thunderline.gate.tls import Certificate
from thunderline.server import Server, open_server


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> tuple[Path, Path]:
    return authority.issue(tmp_path)


@pytest.fixture
async def server(files: tuple[Path, Path]) -> AsyncIterator[Server]:
    async with open_server(settings_of(files)) as opened:
        yield opened


def settings_of(files: tuple[Path, Path], **more: Any) -> Settings:
    return Settings(port=0, store="memory://", tls_cert=str(files[0]), tls_key=str(files[1]), **more)


def port_of(server: Server) -> int:
    return int(server.url.rpartition(":")[2])


@contextlib.asynccontextmanager
async def connected(
    server: Server, encrypted: ssl.SSLContext | None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port_of(server), ssl=encrypted, server_hostname=None if encrypted is None else "localhost"
    )
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def status_of(server: Server, authority: Authority) -> int:
    async with httpx.AsyncClient(base_url=server.url, verify=authority.trusting(), trust_env=False) as http:
        return (await http.get("/healthz")).status_code


# What goes over it


async def test_requests_and_links_go_over_it(server: Server, authority: Authority, tmp_path: Path) -> None:
    assert server.url.startswith("https://127.0.0.1:")
    assert await status_of(server, authority) == 200
    async with Link(server.url, name="worker-1", ca=authority.write(tmp_path)) as link:
        await link.beat(cpu_load=1.0)
        assert server.registry.get_node("worker-1").status == "online"


async def test_request_that_is_refused_is_answered(server: Server, authority: Authority) -> None:
    async with connected(server, authority.trusting()) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nFiller: " + b"x" * 40_000 + b"\r\n\r\n")
        assert (await reader.readline()).split()[1] == b"431"


async def test_clear_text_gets_nothing_and_harms_nobody(server: Server, authority: Authority) -> None:
    async with connected(server, None) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP" not in await reader.read()
    assert await status_of(server, authority) == 200


# Handshakes


async def test_older_protocols_are_not_spoken(files: tuple[Path, Path]) -> None:
    assert Certificate(*files).context.minimum_version == ssl.TLSVersion.TLSv1_2


async def test_handshake_that_does_not_end_is_given_up_and_its_place_is_free(
    files: tuple[Path, Path], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    entrances: list[Entrance] = []
    enter = Entrance.enter

    def from_afar(entrance: Entrance, peer: str | None) -> Any:
        entrances.append(entrance)
        return enter(entrance, "198.51.100.7")

    monkeypatch.setattr(Entrance, "enter", from_afar)
    monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT_S", 0.05)
    async with open_server(settings_of(files, connections_per_address=1)) as server:
        async with connected(server, None) as (reader, _):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        assert entrances[0]._counts == {}
        # In the middle of it, too.
        monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT_S", 20.0)
        async with connected(server, None) as (_, writer):
            writer.write(b"\x16\x03\x01\x02\x00\x01")
        assert await answered(server, authority) == 200


async def answered(server: Server, authority: Authority) -> int:
    """The status once the one place for this address is free."""
    while True:
        with contextlib.suppress(httpx.TransportError):
            return await status_of(server, authority)


async def test_connection_too_many_is_closed_before_its_handshake(
    files: tuple[Path, Path], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter = Entrance.enter
    monkeypatch.setattr(Entrance, "enter", lambda entrance, peer: enter(entrance, "198.51.100.7"))
    async with open_server(settings_of(files, connections_per_address=1)) as server:
        async with connected(server, authority.trusting()), connected(server, None) as (reader, _):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        assert await answered(server, authority) == 200


async def test_server_ends_while_somebody_shakes_hands(
    files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with contextlib.closing(socket.socket()) as silent:
        async with asyncio.timeout(20), open_server(settings_of(files, shutdown_timeout_s=600)) as server:
            silent.setblocking(False)
            await asyncio.get_running_loop().sock_connect(silent, ("127.0.0.1", port_of(server)))
    assert caplog.records == []


# The files


async def test_certificate_is_read_again_for_connections_to_come(
    server: Server, files: tuple[Path, Path], authority: Authority, tmp_path: Path
) -> None:
    async def shown() -> bytes:
        async with connected(server, authority.trusting()) as (_, writer):
            found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            return found

    assert server.certificate is not None
    before = await shown()
    for old, new in zip(files, authority.issue(tmp_path, name="new"), strict=True):
        new.replace(old)
    assert await shown() == before
    server.certificate.reload()
    after = await shown()
    assert after != before
    files[1].write_text("")
    server.certificate.reload()
    assert await shown() == after


def encrypted(key: Path) -> bytes:
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )


@pytest.mark.parametrize(
    ("spoilt", "field", "problem"),
    [
        ("no certificate", "tls_cert", "cannot be read: No such file"),
        ("no key", "tls_key", "cannot be read: No such file"),
        ("empty certificate", "tls_cert", "holds no certificate"),
        ("empty key", "tls_key", "holds no private key"),
        ("key in no file", "tls_cert", "name the file that does as tls_key"),
        ("another key", "tls_key", "is not the key of the certificate"),
        ("encrypted key", "tls_key", "is encrypted"),
        ("garbage", "tls_cert", "cannot be used"),
    ],
)
def test_files_that_cannot_be_used_are_told_by_their_setting(
    files: tuple[Path, Path], authority: Authority, tmp_path: Path, spoilt: str, field: str, problem: str
) -> None:
    cert, key = files
    match spoilt:
        case "no certificate":
            cert.unlink()
        case "no key":
            key.unlink()
        case "empty certificate":
            cert.write_text("")
        case "empty key":
            key.write_text("")
        case "another key":
            authority.issue(tmp_path, name="other")[1].replace(key)
        case "encrypted key":
            key.write_bytes(encrypted(key))
        case "garbage":
            cert.write_text("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
    with pytest.raises(SettingsError) as refused:
        Certificate(cert, None if spoilt == "key in no file" else key)
    assert refused.value.field == field
    assert problem in refused.value.problem


def test_key_may_be_in_the_certificates_file(files: tuple[Path, Path]) -> None:
    cert, key = files
    cert.write_bytes(key.read_bytes() + cert.read_bytes())
    Certificate(cert, None)


def test_key_that_everybody_can_read_is_told(files: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    files[1].chmod(0o644)
    Certificate(*files)
    assert "every user of this machine can read the server's key" in caplog.messages


# The process, on its own event loop


def test_process_speaks_tls_asks_for_its_first_token_and_reads_its_certificate_again(
    authority: Authority, tmp_path: Path
) -> None:
    files = authority.issue(tmp_path)
    options = ("--auth", "--tls-cert", str(files[0]), "--tls-key", str(files[1]))
    with running(tmp_path / "t.db", *options) as server:
        assert server.url.startswith("https://")
        shown = (tmp_path / "thunderline-admin.token").read_text().strip()
        headers = {"authorization": f"Bearer {shown}"}
        with httpx.Client(base_url=server.url, verify=authority.trusting(), trust_env=False) as http:
            assert http.get("/api/nodes").status_code == 401
            assert http.get("/api/nodes", headers=headers).status_code == 200
            old = serial(http)
        for before, new in zip(files, authority.issue(tmp_path, name="new"), strict=True):
            new.replace(before)
        server.process.send_signal(signal.SIGHUP)
        while True:  # until the signal was handled
            with httpx.Client(base_url=server.url, verify=authority.trusting(), trust_env=False) as http:
                if serial(http) != old:
                    break
        assert server.process.stdout is not None
        said = [server.process.stdout.readline() for _ in range(2)]
        assert f"{tmp_path / 'thunderline-admin.token'}\n" in said[1]
        assert server.stop() == 0
        assert server.process.stderr is not None
        log = server.process.stderr.read()
        assert shown not in log
        assert [json.loads(line)["event"] for line in log.splitlines() if '"level": "error"' in line] == []


def serial(http: httpx.Client) -> bytes:
    """The certificate that this connection was shown."""
    with http.stream("GET", "/healthz") as response:
        found: bytes = response.extensions["network_stream"].get_extra_info("ssl_object").getpeercert(True)
        response.read()
    return found
