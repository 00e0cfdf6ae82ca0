"""`thunderline token`, `node reissue` and `audit`: over HTTP, over the control socket, and with no server at all."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest

from tests.cli.commands import PROGRAM, environ, on_screen, parsed, piped
from tests.server.processes import ServerProcess, running, until

Way = Literal["over http", "server running", "server stopped"]
Command = Callable[..., subprocess.CompletedProcess[str]]


def store_of(folder: Path) -> str:
    return f"sqlite:///{folder / 't.db'}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that asks for tokens; whatever it is asked, it has nothing to complain of."""
    folder = tmp_path_factory.mktemp("served")
    with running(folder / "t.db", "--auth", environ={"THUNDERLINE_DROP_GRACE_S": "0.5"}) as server:
        yield server
        assert server.stop() == 0
        assert server.complaints() == []


@pytest.fixture(scope="module")
def at_rest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a database lies that nobody holds."""
    folder = tmp_path_factory.mktemp("at-rest")
    with running(folder / "t.db") as server:
        assert server.stop() == 0
    return folder


def first_token(server: ServerProcess) -> str:
    """The file with the token of the server's first start."""
    return str(Path(server.store).parent / "thunderline-admin.token")


def asking(way: Way, server: ServerProcess, at_rest: Path) -> Command:
    """Runs commands in this way."""
    match way:
        case "over http":
            options = ("--server", server.url, "--token-file", first_token(server))
        case "server running":
            options = ("--store", f"sqlite:///{server.store}")
        case "server stopped":
            options = ("--store", store_of(at_rest))
    return lambda *args: piped(*args, *options)


def is_good(server: ServerProcess, text: str) -> bool:
    return server.http.get("/api/summary", headers={"authorization": f"Bearer {text}"}).status_code == 200


WAYS = pytest.mark.parametrize("way", ["over http", "server running", "server stopped"])


@WAYS
def test_token_is_created_listed_and_revoked_whoever_is_asked(way: Way, server: ServerProcess, at_rest: Path) -> None:
    command, name = asking(way, server, at_rest), f"ci-{way.replace(' ', '-')}"
    made = command("token", "create", name, "--scope", "read", "--scope", "operator", "--expires", "30d")
    assert (made.returncode, made.stdout.count("\n")) == (0, 1), made.stderr
    text = made.stdout.strip()
    assert text.startswith("tl_")
    assert text not in made.stderr
    assert f"token {name} is good until 20" in made.stderr
    assert way == "server stopped" or is_good(server, text)
    again = command("token", "create", name, "--scope", "read")
    assert (again.returncode, again.stdout) == (1, "")
    assert name in again.stderr
    header, *rows = [line.split("\t") for line in command("token", "list").stdout.splitlines()]
    [row] = [dict(zip(header, row, strict=True)) for row in rows if row[2] == name]
    assert (row["KIND"], row["SCOPES"], row["REVOKED_AT"]) == ("token", "read,operator", "-")
    assert row["CREATED_BY"] == ("operator:first-admin" if way == "over http" else "operator:local")
    revoked = command("token", "revoke", name)
    assert (revoked.returncode, revoked.stdout) == (0, f"revoked: token {name}\n")
    assert not is_good(server, text)
    listed = json.loads(command("token", "list", "--all", "--json").stdout)["tokens"]
    assert [each["revoked_at"] is not None for each in listed if each["name"] == name] == [True]
    said = json.loads(command("audit", "list", "--limit", "5", "--json").stdout)["entries"]
    assert ("token.revoked", name, "done") in [(each["action"], each["subject"], each["outcome"]) for each in said]


@WAYS
def test_node_gets_a_new_credential(way: Way, server: ServerProcess, at_rest: Path) -> None:
    issued = json.loads(asking(way, server, at_rest)("node", "reissue", "edge-7@prod", "--json").stdout)
    assert (issued["token"]["kind"], issued["token"]["name"]) == ("credential", "edge-7@prod")
    assert issued["text"].startswith("tl_")


def test_tokens_text_goes_into_a_file_of_its_own(server: ServerProcess, at_rest: Path, tmp_path: Path) -> None:
    command, out = asking("server running", server, at_rest), tmp_path / "fleet.token"
    made = command("token", "create", "fleet", "--join", "edge-*", "--uses", "2", "--role", "edge", "--out", str(out))
    assert (made.returncode, made.stdout) == (0, "")
    assert str(out) in made.stderr
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    kept = out.read_text()
    assert kept.startswith("tl_")
    second = command("token", "create", "fleet-2", "--join", "edge-*", "--out", str(out))
    assert second.returncode == 1
    assert "no token was created" in second.stderr
    assert out.read_text() == kept
    taken = command("token", "create", "fleet", "--scope", "read", "--out", str(tmp_path / "none.token"))
    assert taken.returncode == 1
    assert not (tmp_path / "none.token").exists()
    screen = on_screen("token", "list", "--store", f"sqlite:///{server.store}", columns=140)
    [line] = [line for line in screen.lines if line.startswith("fleet")]
    assert "2 more of edge-* (edge)" in line


def start_agent(server: ServerProcess, name: str, folder: Path, *options: str) -> subprocess.Popen[str]:
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        command = [*PROGRAM, "agent", "--server", server.url, "--name", name, *options]
        return subprocess.Popen(command, stdout=out, stderr=err, text=True, env=environ())


async def test_revoking_ends_the_link_of_an_agent_that_joined(
    server: ServerProcess, at_rest: Path, tmp_path: Path
) -> None:
    command, joining = asking("server running", server, at_rest), tmp_path / "join.token"
    assert command("token", "create", "workers", "--join", "worker-*", "--out", str(joining)).returncode == 0
    credential, out, err = tmp_path / "worker-1.credential", tmp_path / "out", tmp_path / "err"
    files = ("--token-file", str(joining), "--credential-file", str(credential))
    agent = start_agent(server, "worker-1", tmp_path, *files, "--interval", "0.2")
    try:
        await until(lambda: " is linked as node " in out.read_text() or agent.poll() is not None)
        assert agent.poll() is None, err.read_text()
        assert stat.S_IMODE(credential.stat().st_mode) == 0o600
        assert command("token", "revoke", "worker-1").stdout == "revoked: credential of worker-1\n"
        assert await until(agent.poll) == 3
    finally:
        if agent.poll() is None:
            agent.kill()
        agent.wait(10)
    assert "worker-1" in err.read_text()
    assert credential.read_text().strip() not in err.read_text() + out.read_text()
    entries = json.loads(command("audit", "list", "--json").stdout)["entries"]
    assert ("node.enrolled", "worker-1") in [(each["action"], each["subject"]) for each in entries]


def test_other_commands_show_a_token_where_one_is_needed(server: ServerProcess, tmp_path: Path) -> None:
    refused = piped("nodes", "--server", server.url)
    assert refused.returncode == 1
    assert "token" in refused.stderr
    assert piped("nodes", "--server", server.url, "--token-file", first_token(server)).returncode == 0
    assert piped("nodes", "--server", server.url, THUNDERLINE_TOKEN_FILE=first_token(server)).returncode == 0
    missing = piped("nodes", "--server", server.url, "--token-file", str(tmp_path / "none"))
    assert missing.returncode == 1
    assert missing.stderr.startswith("thunderline: --token-file: ")


def test_what_a_server_says_no_to_is_told_in_its_words(server: ServerProcess) -> None:
    done = piped("token", "revoke", "nobody", "--server", server.url, THUNDERLINE_TOKEN_FILE=first_token(server))
    assert (done.returncode, done.stdout) == (1, "")
    assert "no token has the id or name 'nobody'" in done.stderr


@pytest.mark.parametrize("command", [("token", "list"), ("token", "create", "a", "--scope", "read"), ("audit", "list")])
def test_without_a_database_there_is_nothing_to_ask(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = piped(*command, "--store", store_of(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "pass --server" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_store_that_keeps_nothing_has_no_tokens() -> None:
    done = piped("token", "list", "--store", "memory://")
    assert done.returncode == 2
    assert "store" in done.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("token", "create", "a"), "--scope"),
        (("token", "create", "a", "--scope", "read", "--join", "*"), "--scope"),
        (("token", "create", "a", "--scope", "root"), "--scope"),
        (("token", "create", "a", "--scope", "read", "--role", "edge"), "--join"),
        (("token", "create", "a b", "--scope", "read"), "NAME"),
        (("token", "create", "a", "--join", "w*", "--uses", "0"), "--uses"),
        (("token", "create", "a", "--join", "w w"), "--join"),
        (("token", "create", "a", "--scope", "read", "--expires", "soon"), "30d"),
        (("token", "create", "a", "--scope", "read", "--expires", "0d"), "30d"),
        (("token", "create", "a", "--scope", "read", "--expires", "999w"), "--expires"),
        (("token", "revoke", "a/b"), "TOKEN"),
        (("node", "reissue", "a b"), "NAME"),
        (("audit", "list", "--limit", "0"), "--limit"),
    ],
)
def test_what_cannot_be_asked_is_a_usage_error(args: tuple[str, ...], says: str) -> None:
    refused = parsed(*args)
    assert refused.exit_code == 2, refused.output
    assert says in refused.stderr
