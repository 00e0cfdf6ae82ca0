"""Where a token goes and where it does not, and whom clients take for the server."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.client.clients import driven, scripted
from tests.client.test_credential import a_token
from tests.server.certificates import Authority
from thunderline.client import Link, NotThunderline, ServerUntrusted, Unauthorized
from thunderline.client.trust import trust
from thunderline.client.websocket import WebSocketTransport
from thunderline.core.errors import InvalidInput
from thunderline.core.settings import Settings
from thunderline.server import open_server

HEALTHY = b'{"status": "ok", "version": "0"}'


class Certificates(msgspec.Struct, frozen=True, kw_only=True):
    """Files in PEM: the authority, and what it vouches for."""

    ca: Path
    cert: Path
    key: Path


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder, authority = tmp_path_factory.mktemp("certificates"), Authority()
    cert, key = authority.issue(folder)
    return Certificates(ca=authority.write(folder), cert=cert, key=key)


class Answering:
    """A web server, and the `Authorization` of each request that it got."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.shown: list[str | None] = []


@contextmanager
def answering(
    *, status: int = 200, location: str | None = None, tls: Certificates | None = None, host: str = "127.0.0.1"
) -> Iterator[Answering]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.shown.append(self.headers.get("Authorization"))
            self.send_response(status)
            if location is not None:
                self.send_header("Location", location)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(HEALTHY)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer((host, 0), Handler) as listening:
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.cert, tls.key)
            listening.socket = context.wrap_socket(listening.socket, server_side=True)
            # A client that hangs up is what some tests are about.
            quiet: Any = listening
            quiet.handle_error = lambda *_: None
        server = Answering(f"{'http' if tls is None else 'https'}://{host}:{listening.server_address[1]}")
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join(timeout=20)


def written(folder: Path, text: str) -> Path:
    file = folder / "token"
    file.write_text(text + "\n", encoding="utf-8")
    file.chmod(0o600)
    return file


# The token


def test_each_request_shows_the_token_however_it_was_given(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = a_token()
    file = written(tmp_path, text)
    with answering() as server:
        for given in ({"token": text}, {"token_file": file}, {"token_file": str(file)}):
            with driven(kind, server.url, **given) as client:
                client.health()
        monkeypatch.setenv("THUNDERLINE_TOKEN_FILE", str(file))
        with driven(kind, server.url) as client:
            client.health()
        assert server.shown == [f"Bearer {text}"] * 4


@pytest.mark.parametrize("url", ["http://registry.example:4040", "ws://10.0.0.1:4040", "http://localhost.example", ""])
def test_a_token_does_not_go_over_the_network_in_the_clear(url: str, tmp_path: Path) -> None:
    for given in ({"token": a_token()}, {"token_file": written(tmp_path, a_token())}):
        with pytest.raises(InvalidInput, match="in the clear") as refused:
            trust(url, **given)  # type: ignore[arg-type]  # one of the two
        assert refused.value.field == "url"
    assert trust(url).token is None


@pytest.mark.parametrize("url", ["http://127.0.0.1:4040", "http://[::1]:4040", "http://localhost", "https://a.example"])
def test_it_goes_to_loopback_and_over_tls(url: str) -> None:
    text = a_token()
    found = trust(url, token=text)
    assert found.headers == {"authorization": f"Bearer {text}"}
    assert text not in repr(found)


async def test_a_link_with_a_token_does_not_begin_in_the_clear(tmp_path: Path) -> None:
    credential = written(tmp_path, a_token())
    for given in ({"token": a_token()}, {"credential_file": credential}):
        with pytest.raises(InvalidInput, match="in the clear"):
            Link("http://registry.example:4040", name="worker-1", **given)  # type: ignore[arg-type]  # one of the two
    with pytest.raises(InvalidInput, match="in the clear"):
        await WebSocketTransport().connect("http://registry.example:4040", token=a_token())


def test_a_redirect_leads_no_token_elsewhere(kind: str) -> None:
    with answering() as elsewhere, answering(status=307, location=f"{elsewhere.url}/healthz") as server:
        with driven(kind, server.url, token=a_token()) as client, pytest.raises(NotThunderline, match="307"):
            client.health()
        assert len(server.shown) == 1
        assert elsewhere.shown == []


def test_what_cannot_be_a_token_is_refused_without_being_told(kind: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="token") as refused, driven(kind, "http://127.0.0.1:1", token="hunter2"):
        pass
    assert "hunter2" not in str(refused.value)
    with pytest.raises(InvalidInput, match="one of the two"):
        trust("http://127.0.0.1:1", token=a_token(), token_file=written(tmp_path, a_token()))


def test_a_variable_that_names_no_file_is_named(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUNDERLINE_TOKEN_FILE", str(tmp_path / "nowhere"))
    with pytest.raises(InvalidInput, match="THUNDERLINE_TOKEN_FILE"), driven(kind, "http://127.0.0.1:1"):
        pass


# The server


def test_a_client_trusts_the_authority_that_it_is_given(
    kind: str, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = a_token()
    with answering(tls=certificates) as server:
        with driven(kind, server.url, token=text, ca=certificates.ca) as client:
            assert client.health().status == "ok"
        monkeypatch.setenv("THUNDERLINE_CA", str(certificates.ca))
        with driven(kind, server.url, token=text) as client:
            assert client.health().status == "ok"
        assert server.shown == [f"Bearer {text}"] * 2


def test_one_that_it_does_not_know_gets_no_token(kind: str, certificates: Certificates) -> None:
    with answering(tls=certificates) as server:
        with driven(kind, server.url, token=a_token()) as client, pytest.raises(ServerUntrusted) as refused:
            client.health()
        assert (refused.value.retryable, server.shown) == (False, [])
        assert "THUNDERLINE_CA" in str(refused.value)


def test_a_certificate_of_another_name_is_not_the_servers(kind: str, certificates: Certificates) -> None:
    with answering(tls=certificates, host="127.0.0.2") as server:
        with pytest.raises(ServerUntrusted), driven(kind, server.url, token=a_token(), ca=certificates.ca) as client:
            client.health()
        assert server.shown == []


@pytest.mark.parametrize("content", [None, b"no PEM"])
def test_an_authority_that_cannot_be_read_is_named(kind: str, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidInput) as refused, driven(kind, "https://127.0.0.1:1", ca=file):
        pass
    assert (refused.value.field, str(file) in str(refused.value)) == ("ca", True)


async def test_a_link_over_tls(certificates: Certificates, tmp_path: Path) -> None:
    settings = Settings(
        port=0,
        store="memory://",
        auth=True,
        admin_token_file=str(tmp_path / "admin.token"),
        tls_cert=str(certificates.cert),
        tls_key=str(certificates.key),
    )
    async with open_server(settings) as server:
        assert server.url.startswith("https://")
        admin = tmp_path / "admin.token"
        async with Link(server.url, name="worker-1", token_file=admin, ca=certificates.ca) as link:
            await link.beat()
        with pytest.raises(ServerUntrusted):
            async with Link(server.url, name="worker-1", token_file=admin):
                pass
        with pytest.raises(Unauthorized):
            await WebSocketTransport(tls=trust(server.url, ca=certificates.ca).tls).connect(server.url, token=a_token())


def test_a_watch_whose_token_is_revoked_raises_it(kind: str) -> None:
    head = b'{"events": [], "next_since": "log:1", "revision": 1}'
    cut = b'event: thunderline.cut\ndata: {"code": "token_revoked", "resume_from": "log:1"}\n\n'
    problem = {"status": 401, "detail": "the token was revoked", "code": "token_revoked"}
    answers = [
        (200, "application/json", head),
        (200, "text/event-stream", b"id: log:1\n\n" + cut),
        (401, "application/problem+json", json.dumps(problem).encode()),
    ]
    lost: list[str] = []
    with scripted(answers) as script, driven(kind, script.url, token=a_token()) as client:
        watching = client.watching(on_lost=lambda error: lost.append(str(error)))
        with watching as watch, pytest.raises(Unauthorized) as raised:
            watch.next()
        assert (raised.value.code, len(script.asked)) == ("token_revoked", 3)
    assert "this watcher's token was revoked" in lost[0]
