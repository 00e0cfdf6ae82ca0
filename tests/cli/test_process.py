"""What all commands share: the server they ask, how they fail, what they load, what their help says."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

import thunderline
from tests.cli.commands import environ, parsed, piped
from tests.cli.servers import ServedRegistry, stranger
from thunderline.core.records import NodeStatus

COMMANDS = ("serve", "agent", "nodes", "node", "graph", "watch", "lift", "version", "db", "token", "audit")


@pytest.fixture
def nowhere() -> Iterator[str]:
    """The URL of a port that is taken and not listened on, so that every connection is refused."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("command", [["nodes", "--json"], ["lift", "a"], ["watch"], ["watch", "--since", "0"]])
def test_without_a_server_a_command_ends_with_1_and_says_what_to_do(nowhere: str, command: list[str]) -> None:
    done = piped(*command, "--server", nowhere)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"thunderline: no server answers at {nowhere}; start one with 'thunderline serve' or pass --server\n"
    )


def test_a_host_that_does_not_exist_is_told_apart(nowhere: str) -> None:
    done = piped("nodes", "--server", "http://no-such-host.invalid:4040")
    assert done.returncode == 1
    assert re.search(r"no server answers at http://no-such-host\.invalid:4040 \(.+\); start one", done.stderr)


def test_the_server_comes_from_the_environment(fleet: ServedRegistry) -> None:
    assert piped("nodes", THUNDERLINE_SERVER=fleet.url).returncode == 0


def test_an_option_wins_over_the_environment(fleet: ServedRegistry, nowhere: str) -> None:
    assert piped("nodes", "--server", fleet.url, THUNDERLINE_SERVER=nowhere).returncode == 0


def test_a_server_without_a_scheme_is_asked_over_http(fleet: ServedRegistry) -> None:
    assert piped("nodes", "--server", fleet.url.removeprefix("http://") + "/").returncode == 0


def test_a_proxy_of_the_environment_is_not_used(fleet: ServedRegistry, nowhere: str) -> None:
    proxies = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY"), nowhere)
    assert piped("nodes", "--server", fleet.url, **proxies).returncode == 0


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "http://", "http://127.0.0.1:99999", "http://127.0.0.1:0", ""])
def test_a_server_that_is_no_url_is_a_usage_error(url: str) -> None:
    refused = parsed("nodes", "--server", url)
    assert refused.exit_code == 2
    assert "http://127.0.0.1:4040" in refused.stderr


@pytest.mark.parametrize(
    ("status", "content_type", "body"),
    [
        (200, "text/html", b"<html>hello</html>"),
        (200, "application/json", b"[1, 2"),
        (200, "application/json", b"{}"),
        (200, "application/json", b'{"nodes": "\xff"}'),
        (200, "application/json", b""),
        (302, "text/html", b""),
        (404, "text/html", b"not here"),
        (500, "application/problem+json", b'{"title": "of another kind"}'),
    ],
)
def test_a_server_that_is_not_ours_is_told(status: int, content_type: str, body: bytes) -> None:
    with stranger(status, content_type, body) as other:
        done = piped("nodes", "--server", other.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"thunderline: {other.url} does not answer as a Thunderline server")
    assert done.stderr.count("\n") == 1


def answered_with(said: bytes | None) -> tuple[str, subprocess.CompletedProcess[str]]:
    """The URL of a bare socket, and what a command made of it: it says `said`, or hangs up when it was asked."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65_536)
                if said is not None:
                    connection.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        done = piped("nodes", "--server", url)
        thread.join(timeout=20)
    return url, done


def test_json_of_another_kind_is_told_for_one_node_too() -> None:
    with stranger(200, "application/json", b"{}") as other:
        done = piped("node", "worker-1", "--server", other.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "does not answer as a Thunderline server" in done.stderr


def test_a_port_that_does_not_speak_http_is_told() -> None:
    url, done = answered_with(b"220 ready\r\n\r\n")
    assert done.returncode == 1
    assert done.stderr.startswith(f"thunderline: {url} does not answer as a Thunderline server")


def test_a_connection_that_breaks_is_told() -> None:
    url, done = answered_with(None)
    assert done.returncode == 1
    assert done.stderr.startswith(f"thunderline: {url} did not answer (the connection broke); ")


def problem(detail: str, **more: object) -> bytes:
    """A refusal as our servers send it."""
    return json.dumps({"type": "about:blank", "status": 503, "code": "overloaded", "detail": detail, **more}).encode()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (problem("the lane is full", retry_after_s=2.5), "the lane is full; retry in 2.5 s"),
        (problem("the lane is full; retry in 1 s", retry_after_s=1.0), "the lane is full; retry in 1 s"),
        (problem("role: is bad"), "role: is bad"),
        (problem("two\nlines \x1b[31mred"), "two lines [31mred"),
    ],
)
def test_a_refusal_is_told_in_one_line_with_when_to_retry(body: bytes, told: str) -> None:
    with stranger(503, "application/problem+json", body) as other:
        done = piped("nodes", "--server", other.url)
    assert (done.returncode, done.stderr) == (1, f"thunderline: {told}\n")


def test_answers_that_may_be_stale_are_marked_once() -> None:
    page = b'{"nodes": [], "next_cursor": null, "revision": 1}'
    with stranger(200, "application/json", page, {"X-Thunderline-Stale-Seconds": "3.5"}) as other:
        done = piped("nodes", "--json", "--server", other.url)
    assert done.stderr == "thunderline: the server's store is away; what it shows may be 3.5 s behind\n"


def test_a_status_of_a_newer_server_is_told_not_a_traceback(fleet: ServedRegistry) -> None:
    body = fleet.http.get("/api/nodes?name=lost-1").content.replace(b'"status":"offline"', b'"status":"asleep"')
    with stranger(200, "application/json", body) as other:
        done = piped("nodes", "--server", other.url)
        as_json = piped("nodes", "--json", "--server", other.url)
    assert done.returncode == 1
    assert "asleep" in done.stderr
    assert json.loads(as_json.stdout)["nodes"][0]["status"] == "asleep"


def test_version_names_both_programs(fleet: ServedRegistry) -> None:
    mine = thunderline.__version__
    done = piped("version", "--server", fleet.url)
    assert done.stdout == f"thunderline {mine}\nserver {mine} at {fleet.url}\n"


def test_version_without_a_server_says_so_and_is_no_error(nowhere: str) -> None:
    done = piped("version", "--server", nowhere)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"thunderline {thunderline.__version__}"
    assert f"no server answers at {nowhere}" in done.stdout


def test_version_as_json_has_the_same_fields_with_and_without_a_server(fleet: ServedRegistry, nowhere: str) -> None:
    mine = thunderline.__version__
    found = json.loads(piped("version", "--json", "--server", fleet.url).stdout)
    missed = json.loads(piped("version", "--json", "--server", nowhere).stdout)
    assert found == {"client": mine, "server": {"url": fleet.url, "version": mine, "problem": None}}
    assert missed["server"]["version"] is None
    assert "no server answers" in missed["server"]["problem"]


def loaded_by(*args: str) -> set[str]:
    """The modules that a command has imported when it ends."""
    program = "import sys, thunderline.cli as cli\ntry:\n cli.main()\nfinally:\n print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", program, *args],
        capture_output=True,
        encoding="utf-8",
        env=environ(),
        timeout=30,
        check=False,
    )
    return set(done.stderr.split())


@pytest.mark.parametrize("command", [["nodes"], ["node", "lost-1"], ["graph"]])
def test_a_client_command_loads_no_library_of_the_server(fleet: ServedRegistry, command: list[str]) -> None:
    modules = loaded_by(*command, "--server", fleet.url)
    assert "httpx" in modules
    heavy = {"litestar", "uvicorn", "sqlite3", "aiosql", "thunderline.server", "thunderline.gate"}
    assert modules & heavy == set()


def test_help_does_not_wait_for_the_http_library() -> None:
    assert "httpx" not in loaded_by("nodes", "--help")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_examples(command: str) -> None:
    assert f"\n    thunderline {command}" in parsed(command, "--help").stdout


def test_the_help_lists_every_command_in_one_line_each() -> None:
    lines = parsed("--help").stdout.splitlines()
    for command in COMMANDS:
        (line,) = (line for line in lines if re.match(rf"  {command} +[A-Z]", line))
        assert line.endswith(".")
        assert not line.endswith("...")


def test_the_help_of_nodes_names_every_status() -> None:
    words = parsed("nodes", "--help").stdout.replace(",", " ").replace(".", " ").split()
    assert set(NodeStatus) <= set(words)
