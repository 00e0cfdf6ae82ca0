"""What goes wrong between a client and a server, each under its own name."""

from __future__ import annotations

import inspect
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.client.clients import driven, scripted
from thunderline.client import errors
from thunderline.client.errors import (
    AnswerLost,
    ClientError,
    Conflict,
    Forbidden,
    InvalidRequest,
    ListAgain,
    NotFound,
    NotThunderline,
    PreconditionFailed,
    ServerRefused,
    ServerUnavailable,
    ServerUnreachable,
    Unauthorized,
)
from thunderline.core.errors import ThunderlineError

PROBLEM = "application/problem+json"


def problem(status: int, **more: object) -> bytes:
    return json.dumps({"status": status, "detail": "no", "code": "a_code", "new_member": [1], **more}).encode()


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn: dict[str, str | None] = {}
    above: list[tuple[int, str]] = []
    for line in (inspect.getdoc(errors) or "").splitlines():
        match = re.match(r"( +(?:[│├└─ ]*))([A-Z]\w+)  +\S", line)
        if match is not None:
            above = [(depth, name) for depth, name in above if depth < len(match[1])]
            drawn[match[2]] = above[-1][1] if above else None
            above.append((len(match[1]), match[2]))
    own = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ClientError)]
    assert drawn == {kind.__name__: kind.__base__.__name__ if kind is not ClientError else None for kind in own}
    assert issubclass(ClientError, ThunderlineError)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((400, InvalidRequest), (413, InvalidRequest), (415, InvalidRequest), (422, InvalidRequest)),
        *((404, NotFound), (409, Conflict), (412, PreconditionFailed), (410, ListAgain)),
        *((429, ServerUnavailable), (503, ServerUnavailable)),
        *((401, Unauthorized), (403, Forbidden)),
        *((421, ServerRefused), (500, ServerRefused), (405, ServerRefused)),
    ],
)
def test_a_refusal_has_the_class_of_its_status(kind: str, status: int, expected: type[ServerRefused]) -> None:
    answer = (status, PROBLEM, problem(status))
    with scripted([answer]) as script, driven(kind, script.url) as client, pytest.raises(ServerRefused) as caught:
        client.health()
    assert type(caught.value) is expected
    assert (caught.value.code, caught.value.status, str(caught.value)) == ("a_code", status, "no")
    assert (caught.value.retryable, caught.value.field, caught.value.retry_after_s) == (False, None, None)


def test_a_refusal_carries_what_the_server_said(kind: str) -> None:
    answer = (503, PROBLEM, problem(503, retryable=True, field="status", retry_after_s=2.5))
    with scripted([answer]) as script, driven(kind, script.url) as client, pytest.raises(ServerUnavailable) as caught:
        client.mark_status("a", "online")
    error = caught.value
    assert (error.detail, error.retryable, error.field, error.retry_after_s) == ("no", True, "status", 2.5)


@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (200, "text/html", b"<html>"),
        (200, "application/json", b"{}"),
        (200, "application/json", b'{"status": "\xff", "version": ""}'),
        (200, "application/json", b""),
        (204, "application/json", b""),
        (302, "text/html", b""),
        (404, "text/html", b"nothing here"),
        (500, PROBLEM, b'{"title": "of another kind"}'),
    ],
)
def test_what_is_no_answer_of_ours_is_told(kind: str, status: int, content_type: str, body: bytes) -> None:
    with scripted([(status, content_type, body)]) as script, driven(kind, script.url) as client:
        with pytest.raises(NotThunderline) as caught:
            client.health()
        assert caught.value.url == script.url


def test_a_server_that_is_not_there_is_unreachable_and_nothing_was_changed(kind: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with driven(kind, url) as client, pytest.raises(ServerUnreachable) as caught:
            client.ensure_node({"name": "a"})
    assert (caught.value.reason, caught.value.retryable) == (None, True)
    assert str(caught.value) == f"no server answers at {url} (connection refused)"


def test_a_connection_that_breaks_loses_the_answer(kind: str) -> None:
    with scripted([(0, "", b"")]) as script, driven(kind, script.url) as client:
        with pytest.raises(AnswerLost, match="may or may not") as caught:
            client.ensure_node({"name": "a"})
        assert len(script.asked) == 1
    assert (caught.value.reason, caught.value.retryable) == ("the connection broke", False)


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_whose_server_is_away_has_lost_the_answer(kind: str, status: int) -> None:
    answer = (status, "text/html", b"<html>")
    with scripted([answer]) as script, driven(kind, script.url) as client, pytest.raises(AnswerLost) as caught:
        client.health()
    assert caught.value.reason == f"HTTP {status}, text/html"


@contextmanager
def mute() -> Iterator[str]:
    """The URL of a server that takes a connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_an_answer_that_does_not_come_in_time_is_lost(kind: str) -> None:
    with mute() as url, driven(kind, url, timeout_s=0.05) as client, pytest.raises(AnswerLost) as caught:
        client.health()
    assert caught.value.reason == "waited 0.05 s"


def test_a_port_that_does_not_speak_http_is_told(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def greet() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(b"220 ready\r\n\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with driven(kind, url) as client, pytest.raises(NotThunderline):
            client.health()
        thread.join(20)


def test_a_proxy_of_the_environment_is_not_used(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    body = b'{"status": "alive", "version": "1"}'
    with scripted([(200, "application/json", body)]) as script, driven(kind, script.url) as client:
        assert client.health().status == "alive"
