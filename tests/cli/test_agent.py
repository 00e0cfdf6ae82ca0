"""`thunderline agent` as a process, beside a server that is one too."""

from __future__ import annotations

import asyncio
import configparser
import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import PROGRAM, environ, parsed, piped
from tests.cli.test_process import loaded_by
from tests.server.processes import ServerProcess, running, until

DEPLOY = Path(__file__).parents[2] / "deploy"
PATIENCE_S = 20.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with running(tmp_path / "nodes.db") as found:
        yield found


@contextlib.contextmanager
def agent(url: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """An agent that was started, not yet linked; killed at the end if it still runs."""
    process = subprocess.Popen(
        [*PROGRAM, "agent", "--server", url, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environ(),
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)


def ended(
    process: subprocess.Popen[str], number: int | None = None
) -> tuple[int, str, list[dict[str, Any]], list[str]]:
    """Exit code, output, log and other lines of an agent that ends, by a signal if one is given."""
    if number is not None:
        process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    lines = err.splitlines()
    return (
        process.returncode,
        out,
        [json.loads(line) for line in lines if line.startswith("{")],
        [line for line in lines if not line.startswith("{")],
    )


def linked(process: subprocess.Popen[str]) -> str:
    """The agent's first line, which it writes when it is linked."""
    assert process.stdout is not None
    return process.stdout.readline()


def found(server: ServerProcess, name: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The node once it is as wanted."""

    def look() -> dict[str, Any] | None:
        node: dict[str, Any] = server.http.get(f"/api/nodes/{name}").json().get("node", {})
        return node if node and wanted(node) else None

    return asyncio.run(until(look))


def beat_of(node: dict[str, Any]) -> dict[str, Any]:
    return node["presence"]["last_heartbeat"] or {}


def test_an_agent_makes_its_machine_a_node_with_figures_and_peers(server: ServerProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        near, far = listening.getsockname()[1], closed.getsockname()[1]
        with agent(
            server.url,
            *("--name", "box-1", "--role", "gateway", "--domain", "edge", "--interval", "0.6"),
            *("--label", "zone=eu-1", "--meta", "owner=ops", "--capability", "gpu=a100", "--capability", "relay"),
            *("--peer", f"near=127.0.0.1:{near}", "--peer", f"far=127.0.0.1:{far}"),
        ) as process:
            assert linked(process).startswith("box-1 is linked as node ")
            node = found(server, "box-1", lambda node: beat_of(node).get("latency_ms") is not None)
            node = found(server, "box-1", lambda node: len(beat_of(node)["peers"]) == 2)
            node = found(server, "box-1", lambda node: beat_of(node)["cpu_load"] is not None)
            beat = beat_of(node)
            assert 0 <= beat["cpu_load"] <= 100
            assert beat["mem_used_mb"] > 1
            assert beat["peers"]["far"] is None
            assert 0 <= beat["peers"]["near"] < 2_000
            assert (node["status"], node["role"], node["domain"]) == ("online", "gateway", "edge")
            assert (node["labels"], node["meta"]) == ({"zone": "eu-1"}, {"owner": "ops"})
            assert {key: one["value"] for key, one in node["capabilities"].items()} == {"gpu": "a100", "relay": None}
            assert node["heartbeat_interval_ms"] == 600


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_agent_that_is_stopped_says_goodbye(server: ServerProcess, number: int) -> None:
    with agent(server.url, "--name", "box-1") as process:
        linked(process)
        code, _, log, other = ended(process, number)
        assert (code, other) == (0, [])
        assert [line["event"] for line in log] == ["linked", "stopping"]
    node = found(server, "box-1", lambda node: True)
    assert (node["status"], node["status_reason"]) == ("offline", "goodbye")


def test_without_a_name_the_node_is_called_like_its_machine(server: ServerProcess) -> None:
    from thunderline.core.host import host_name

    with agent(server.url) as process:
        assert linked(process).startswith(f"{host_name()} is linked")


def test_an_agent_waits_for_its_server_and_says_so_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with agent(f"http://127.0.0.1:{port}", "--name", "box-1") as process:
        assert process.stderr is not None
        waiting = json.loads(process.stderr.readline())
        assert waiting["event"] == "no link yet, trying on"
        assert "connection refused" in waiting["reason"]
        with running(tmp_path / "nodes.db", "--port", str(port)):
            assert linked(process).startswith("box-1 is linked")
            code, _, log, _ = ended(process, signal.SIGTERM)
            assert code == 0
            assert [line["event"] for line in log] == ["linked", "stopping"]


def test_an_agent_that_cannot_link_is_stopped_all_the_same() -> None:
    with agent("http://127.0.0.1:1", "--name", "box-1") as process:
        assert process.stderr is not None
        process.stderr.readline()
        assert ended(process, signal.SIGTERM)[0] == 0


def test_an_agent_lives_through_a_restart_of_its_server(tmp_path: Path) -> None:
    store = tmp_path / "nodes.db"
    with running(store) as first:
        port = first.url.rpartition(":")[2]
        with agent(first.url, "--name", "box-1", "--interval", "0.2") as process:
            linked(process)
            found(first, "box-1", lambda node: bool(beat_of(node)))
            first.kill()
            with running(store, "--port", port) as second:
                found(second, "box-1", lambda node: (beat_of(node).get("seq") or 0) > 8)
                node = found(second, "box-1", lambda node: node["status"] == "online")
                assert node["incarnation"] == 1
                beats = second.http.get("/api/nodes/box-1/heartbeats?minutes=5").json()["heartbeats"]
                seqs = sorted(beat["seq"] for beat in beats)
                assert seqs == list(range(1, len(seqs) + 1))
                code, _, log, _ = ended(process, signal.SIGTERM)
                assert code == 0
                events = [line["event"] for line in log]
                assert events[0] == "linked"
                assert "link lost" in events
                assert "delivered late beats" in events


def test_an_agent_that_stood_still_comes_back_by_itself(tmp_path: Path) -> None:
    quick = tmp_path / "settings.toml"
    quick.write_text("drop_grace_s = 0.2\ndeadline_intervals = 1.5\n")
    with (
        running(tmp_path / "nodes.db", "--config", str(quick)) as server,
        agent(server.url, "--name", "box-1", "--interval", "0.2") as process,
    ):
        linked(process)
        found(server, "box-1", lambda node: node["status"] == "online")
        process.send_signal(signal.SIGSTOP)
        found(server, "box-1", lambda node: node["status"] == "disconnected")
        process.send_signal(signal.SIGCONT)
        found(server, "box-1", lambda node: node["status"] == "online")
        assert ended(process, signal.SIGTERM)[0] == 0


def test_a_node_that_is_removed_ends_its_agent_with_3_and_one_line(server: ServerProcess) -> None:
    with agent(server.url, "--name", "box-1") as process:
        linked(process)
        server.http.delete("/api/nodes/box-1?force=true").raise_for_status()
        code, _, log, other = ended(process)
        assert code == 3
        assert len(other) == 1
        assert other[0].startswith(f"thunderline: box-1 is no longer linked to {server.url} (deregistered): ")
        assert log[-1]["event"] == "link ended for good"


def test_another_role_than_the_known_one_ends_the_agent_with_3(server: ServerProcess) -> None:
    server.http.post("/api/nodes", json={"name": "box-1", "role": "gateway"}).raise_for_status()
    with agent(server.url, "--name", "box-1", "--role", "worker") as process:
        code, out, _, other = ended(process)
    assert (code, out) == (3, "")
    assert "(mismatch)" in other[0]


def test_a_later_agent_of_the_same_name_ends_the_earlier_one_with_3(server: ServerProcess) -> None:
    with agent(server.url, "--name", "box-1") as first:
        linked(first)
        with agent(server.url, "--name", "box-1") as second:
            linked(second)
            code, _, _, other = ended(first)
            assert code == 3
            assert "(superseded)" in other[0]
            assert found(server, "box-1", lambda node: node["incarnation"] == 2)["status"] == "online"


def test_a_server_that_is_not_ours_ends_the_agent_with_1(server: ServerProcess) -> None:
    with agent(f"{server.url}/elsewhere", "--name", "box-1") as process:
        code, out, _, other = ended(process)
    assert (code, out) == (1, "")
    assert len(other) == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--name", "not a name"], ["--name", "letters"]),
        (["--name", ""], ["--name", "length"]),
        (["--label", "zone=a", "--label", "zone=b"], ["--label", "'zone'", "twice"]),
        (["--meta", "owner=a", "--meta", "owner=a"], ["--meta", "'owner'", "twice"]),
        (["--capability", "gpu", "--capability", "gpu=a100"], ["--capability", "'gpu'", "twice"]),
        (["--peer", "b=host:22", "--peer", "b=host:23"], ["--peer", "'b'", "twice"]),
        (["--server", "http://127.0.0.1:1/x?y=z"], ["--server", "query"]),
        (["--server", "http://127.0.0.1:1/x?"], ["--server", "query"]),
        (["--server", "http://127.0.0.1:1/#x"], ["--server", "fragment"]),
        (["--server", "http://ada@127.0.0.1:1"], ["--server", "user"]),
        (["--role", "No Slug"], ["--role", "lower-case"]),
        (["--domain", ""], ["--domain"]),
        (["--interval", "0.01"], ["--interval", "0.1 to 3600"]),
        (["--interval", "nan"], ["--interval", "0.1 to 3600"]),
        (["--interval", "soon"], ["--interval"]),
        (["--label", "zone"], ["--label", "KEY=VALUE"]),
        (["--label", "=eu"], ["--label", "KEY=VALUE"]),
        (["--label", "bad key=1"], ["--label", "key"]),
        (["--meta", "x"], ["--meta", "KEY=VALUE"]),
        (["--capability", "=x"], ["--capability", "KEY"]),
        (["--peer", "b"], ["--peer", "NAME=HOST:PORT"]),
        (["--peer", "b=host"], ["--peer", "NAME=HOST:PORT"]),
        (["--peer", "b=host:0"], ["--peer", "NAME=HOST:PORT"]),
        (["--peer", "b=host:70000"], ["--peer", "NAME=HOST:PORT"]),
        (["--peer", "not a name=host:22"], ["--peer", "letters"]),
        ([part for at in range(65) for part in ("--peer", f"b{at}=host:22")], ["--peer", "64"]),
        (["--server", "ftp://x"], ["--server", "http://127.0.0.1:4040"]),
    ],
)
def test_options_that_cannot_be_are_usage_errors_that_name_the_option(options: list[str], named: list[str]) -> None:
    refused = parsed("agent", *options)
    assert refused.exit_code == 2
    told = " ".join(refused.stderr.split())
    assert all(word in told for word in named), told


def test_a_password_in_the_servers_address_is_refused_and_not_repeated() -> None:
    refused = parsed("agent", "--server", "http://ada:hunter2@127.0.0.1:1")
    assert refused.exit_code == 2
    assert "--server" in refused.stderr
    assert "hunter2" not in refused.stderr


@pytest.mark.parametrize("streams", ["", ">&-", "> /dev/full", "2>&-", ">&- 2>&-"])
def test_an_agent_that_nobody_can_read_is_a_node_all_the_same(server: ServerProcess, streams: str) -> None:
    command = shlex.join([*PROGRAM, "agent", "--server", server.url, "--name", "box-1"])
    reader, broken = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        ["sh", "-c", f"exec {command} {streams}"], stdout=broken, stderr=subprocess.DEVNULL, env=environ()
    )
    os.close(broken)
    try:
        found(server, "box-1", lambda node: bool(beat_of(node)))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(PATIENCE_S)
    assert found(server, "box-1", lambda node: True)["status_reason"] == "goodbye"


def test_an_agent_loads_no_library_of_the_server_or_of_the_http_client() -> None:
    modules = loaded_by("agent", "--server", "http://127.0.0.1:1/x", "--name", "not a name")
    assert "thunderline.client.link" in modules
    heavy = {"litestar", "uvicorn", "uvloop", "sqlite3", "aiosql", "httpx", "thunderline.server", "thunderline.gate"}
    assert modules & heavy == set()


def test_the_link_loads_no_library_of_the_server_or_of_the_command_line() -> None:
    program = (
        "import sys, asyncio\nfrom thunderline.client import Link\nLink('http://127.0.0.1:1', name='a')\n"
        "print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    heavy = {"litestar", "uvicorn", "uvloop", "sqlite3", "aiosql", "httpx", "typer", "psutil"}
    assert set(done.stdout.split()) & heavy == set()


def test_an_agent_joins_keeps_its_credential_and_stops_when_that_is_revoked(tmp_path: Path) -> None:
    join, kept = tmp_path / "join.token", tmp_path / "kept" / "box-1.token"
    with running(tmp_path / "nodes.db", "--auth") as server:
        asked = ("--store", f"sqlite:///{server.store}")
        made = piped("token", "create", "fleet", "--join", "box-*", "--uses", "1", "--out", str(join), *asked)
        assert made.returncode == 0, made.stderr
        options = ("--name", "box-1", "--credential-file", str(kept))
        with agent(server.url, *options, "--token-file", str(join)) as process:
            assert linked(process).startswith("box-1 is linked as node ")
            assert kept.stat().st_mode & 0o777 == 0o600
            assert ended(process, signal.SIGTERM)[0] == 0
        # The token is used up; what it was exchanged for is good for the next start, which names none.
        with agent(server.url, *options) as process:
            assert linked(process).startswith("box-1 is linked as node ")
            assert piped("token", "revoke", "box-1", *asked).returncode == 0
            code, _, log, other = ended(process)
        assert code == 3
        assert "box-1 is not let in by" in other[0]
        assert "token_revoked" in other[0]
        assert str(kept) in other[1]
        text = kept.read_text(encoding="utf-8").strip()
        assert all(text not in line for line in (json.dumps(log), *other))
        with agent(server.url, "--name", "box-2") as process:
            code, _, _, other = ended(process)
        assert (code, "unauthenticated" in other[0]) == (3, True)
        assert server.stop() == 0
        assert server.complaints() == []


def test_a_token_that_others_can_read_or_that_would_be_sent_in_the_clear_is_a_usage_error(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("tl_" + "0" * 32 + "_" + "A" * 43, encoding="utf-8")
    asked = ("agent", "--name", "box-1", "--credential-file", str(tmp_path / "kept"))
    for bits, options, named in (
        (0o644, ("--token-file", str(file)), ("--token-file", "chmod 600")),
        (0o600, ("--token-file", str(file), "--server", "http://192.0.2.1:4040"), ("--server", "in the clear")),
        (0o600, ("--token-file", str(file), "--credential-file", str(file / "below")), ("--credential-file",)),
        (0o600, ("--server", "https://192.0.2.1", "--ca", str(tmp_path / "none")), ("--ca", "No such file")),
    ):
        file.chmod(bits)
        refused = parsed(*asked, *options)
        assert refused.exit_code == 2
        told = " ".join(refused.stderr.split())
        assert all(word in told for word in named), told
        assert "AAAA" not in told


UNITS = ("thunderline-agent.service", "thunderline.service")


def unit(name: str) -> configparser.ConfigParser:
    read = configparser.ConfigParser(strict=False, interpolation=None, comment_prefixes=("#",))
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string((DEPLOY / name).read_text(encoding="utf-8"))
    return read


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_hardened_and_stops_its_program_by_asking(name: str) -> None:
    service = unit(name)["Service"]
    for setting in ("DynamicUser", "NoNewPrivileges", "ProtectHome", "PrivateTmp", "RestrictSUIDSGID"):
        assert service[setting] == "yes"
    assert (service["ProtectSystem"], service["KillSignal"], service["Restart"]) == ("strict", "SIGTERM", "always")


def test_the_agents_unit_starts_it_again_except_when_it_would_begin_a_fight() -> None:
    service = unit("thunderline-agent.service")["Service"]
    assert service["RestartPreventExitStatus"].split() == ["2", "3"]
    assert float(service["TimeoutStopSec"]) > 5


@pytest.mark.parametrize("name", UNITS)
def test_systemd_takes_the_unit(name: str, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    text = (DEPLOY / name).read_text(encoding="utf-8").replace("/usr/local/bin/thunderline", sys.executable)
    (tmp_path / name).write_text(text, encoding="utf-8")
    done = subprocess.run(
        [analyze, "verify", str(tmp_path / name)], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
