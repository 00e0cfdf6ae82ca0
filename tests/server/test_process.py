"""The server as a process: start, stop, and who owns the database."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import threading
from pathlib import Path

import httpx
import psutil
import pytest

from tests.server.processes import running, serve_command
from thunderline import Settings
from thunderline.core.errors import SettingsError
from thunderline.server import _listen, serve_until_signalled


def run_serve(store: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(serve_command(store, *options), capture_output=True, text=True, timeout=30, check=False)


def test_a_fresh_start_shows_this_machine_alive_with_its_real_memory(tmp_path: Path) -> None:
    with running(tmp_path / "t.db") as server:
        (node,) = server.http.get("/api/nodes").json()["nodes"]
        memory = psutil.virtual_memory()
        beats: list[dict[str, float]] = []
        while len(beats) < 2:
            beats = server.http.get("/api/heartbeats").json()["heartbeats"]
    assert node["name"].startswith("registry@")
    assert (node["role"], node["status"]) == ("controller", "online")
    beat = node["presence"]["last_heartbeat"]
    used_mb = (memory.total - memory.available) / 2**20
    assert beat["mem_used_mb"] == pytest.approx(used_mb, rel=0.5)
    assert beat["latency_ms"] > 0
    assert beats[0]["cpu_load"] is None  # over a few milliseconds a load would be made up
    assert 0 <= beats[1]["cpu_load"] <= 100


def test_it_says_where_it_listens_and_where_its_data_lies(tmp_path: Path) -> None:
    store = tmp_path / "deep" / "er" / "t.db"
    with running(store) as server:
        assert server.process.stdout is not None
        said = server.process.stdout.readline()
        assert said.strip() == f"Data: {store}"
    assert store.exists()


def test_sigterm_commits_what_was_taken_and_exits_with_0(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    with running(tmp_path / "t.db") as server:

        def register(worker: int) -> None:
            with httpx.Client(base_url=server.url, trust_env=False) as http:
                for i in range(10_000):
                    name = f"w{worker}-{i}"
                    try:
                        answer = http.post("/api/nodes", json={"name": name})
                    except httpx.HTTPError:
                        return
                    if answer.status_code == 201:
                        acknowledged.append(name)

        workers = [threading.Thread(target=register, args=(i,)) for i in range(4)]
        for worker in workers:
            worker.start()
        while len(acknowledged) < 50:
            server.http.get("/healthz")
        assert server.stop() == 0
        for worker in workers:
            worker.join(30)
    with running(tmp_path / "t.db") as server:
        found = server.http.get("/api/nodes?limit=10000").json()["nodes"]
        assert set(acknowledged) <= {node["name"] for node in found}
        (controller,) = (node for node in found if node["role"] == "controller")
        assert (controller["status"], controller["incarnation"]) == ("online", 2)
        events = server.http.get("/api/events?match=cluster.node.offline").json()["events"]
        assert [event["data"]["status_reason"] for event in events] == ["goodbye"]


def test_a_second_server_on_the_file_exits_with_2_and_names_the_first(tmp_path: Path) -> None:
    with running(tmp_path / "t.db") as server:
        second = run_serve(tmp_path / "t.db")
        assert second.returncode == 2
        assert re.search(rf"belongs to process {server.process.pid} on \S+, since ", second.stderr)
        assert "Traceback" not in second.stderr
        assert server.http.get("/readyz").status_code == 200
        server.kill()
    with running(tmp_path / "t.db") as server:
        assert server.http.get("/readyz").status_code == 200


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_NOFILE"), reason="this system does not tell a process's limits")
def test_it_may_open_as_many_files_as_the_system_lets_it(tmp_path: Path) -> None:
    low = ("sh", "-c", 'ulimit -Sn 256; exec "$@"', "sh")
    with running(tmp_path / "t.db", "--port", "0", under=low) as server:
        soft, hard = psutil.Process(server.process.pid).rlimit(psutil.RLIMIT_NOFILE)
    assert soft == (65_536 if hard == psutil.RLIM_INFINITY else min(hard, 65_536))


def test_a_port_that_is_taken_exits_with_2_and_leaves_no_database(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        failed = run_serve(tmp_path / "t.db", "--port", str(taken.getsockname()[1]))
    assert failed.returncode == 2
    assert "--port" in failed.stderr
    assert not (tmp_path / "t.db").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "::", "example.org"])
def test_an_address_beyond_loopback_is_refused(tmp_path: Path, host: str) -> None:
    failed = run_serve(tmp_path / "t.db", "--host", host)
    assert failed.returncode == 2
    assert "host" in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize("url", ["postgresql://x", "nonsense", "sqlite://", "sqlite:///", "sqlite:///dir/"])
def test_a_store_that_is_none_is_refused_by_name(tmp_path: Path, url: str) -> None:
    command = serve_command(tmp_path / "t.db")
    command[command.index("--store") + 1] = url
    failed = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert failed.returncode == 2
    assert "store" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_setting_that_is_none_is_refused_with_the_one_that_was_meant(tmp_path: Path) -> None:
    config = tmp_path / "thunderline.toml"
    config.write_text("heartbeat_intervall_s = 5\n")
    failed = run_serve(tmp_path / "t.db", "--config", str(config))
    assert failed.returncode == 2
    assert "did you mean heartbeat_interval_s?" in failed.stderr


async def test_a_port_is_taken_from_the_first_moment_on() -> None:
    with contextlib.closing(_listen(Settings(port=0))) as first:
        taken = Settings(port=first.getsockname()[1])
        with pytest.raises(SettingsError, match="--port"):
            _listen(taken)


async def test_a_gate_that_fails_is_an_error_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(self: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("uvicorn.Server.main_loop", broken)
    settings = Settings(port=0, store="memory://")
    with pytest.raises(RuntimeError, match="gate ended"):
        await serve_until_signalled(settings, announce=lambda server: None)
