"""Backup and restore of a server under load, with real processes: the whole way that an operator goes."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.server.processes import ServerProcess, running, until


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "thunderline.cli", "db", *args]


def db(*args: str | Path, code: int = 0) -> dict[str, Any]:
    """What a subcommand prints as JSON; of one that fails, what it says."""
    done = subprocess.run(command(*map(str, args), "--json"), capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout) if code == 0 else {"said": done.stderr}


def begin(*args: str) -> subprocess.Popen[bytes]:
    """A subcommand that runs on its own."""
    return subprocess.Popen(command(*args), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def load(server: ServerProcess, clients: int = 4) -> Iterator[list[str]]:
    """Clients that register nodes and let them beat, for the length of the block; gives the names acknowledged."""
    acknowledged: list[str] = []
    enough = threading.Event()

    def run(client: int) -> None:
        with httpx.Client(base_url=server.url, trust_env=False, timeout=10) as http:
            number = 0
            while not enough.is_set():
                number += 1
                name = f"w{client}-{number}"
                try:
                    http.post("/api/nodes", json={"name": name, "meta": {"filler": "x" * 500}}).raise_for_status()
                    http.post(f"/api/nodes/{name}/online", json={"session": {"session_id": name}}).raise_for_status()
                    http.post(f"/api/nodes/{name}/heartbeats", json={"seq": 1}).raise_for_status()
                except httpx.TransportError:
                    return
                acknowledged.append(name)

    threads = [threading.Thread(target=run, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield acknowledged
    finally:
        enough.set()
        for thread in threads:
            thread.join(20)


def events_until(http: httpx.Client, revision: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    since = "0"
    while len(found) < revision:
        page = http.get("/api/events", params={"since": since, "before": revision + 1, "limit": 1000}).json()
        found += page["events"]
        since = page["next_since"]
    return found


def graph_at(http: httpx.Client, revision: int) -> dict[str, Any]:
    """The graph as it stood, without its cursor, which names the log."""
    answer = http.get("/api/graph", params={"revision": revision, "include_offline": True})
    graph: dict[str, Any] = answer.raise_for_status().json()
    del graph["cursor"]
    return graph


async def test_backup_under_load_restored_elsewhere_is_the_same_up_to_its_revision(tmp_path: Path) -> None:
    with running(tmp_path / "t.db") as server:
        with load(server) as acknowledged:
            await until(lambda: len(acknowledged) > 100)
            known = len(acknowledged)
            before = list(acknowledged[:known])
            backup = await asyncio.to_thread(db, "backup", tmp_path / "b.db", "--store", f"sqlite:///{server.store}")
            await until(lambda: len(acknowledged) > known + 20)
        cursor = server.http.get("/api/graph").json()["cursor"]
        old = f"{backup['log_id']}:{backup['revision']}"
        assert cursor.startswith(f"{backup['log_id']}:")
        events = events_until(server.http, backup["revision"])
        then = graph_at(server.http, backup["revision"])
        assert (len(then["nodes"]), len(then["links"])) > (known, known - 10)
        assert server.stop() == 0
        assert server.complaints() == []
    elsewhere = tmp_path / "elsewhere" / "t.db"
    restored = db("restore", tmp_path / "b.db", "--store", f"sqlite:///{elsewhere}")
    assert restored["revision"] == backup["revision"]
    assert restored["log_id"] != backup["log_id"]
    status = db("status", "--store", f"sqlite:///{elsewhere}")
    assert (status["revision"], status["log_id"], status["held_by"]) == (
        backup["revision"],
        restored["log_id"],
        None,
    )
    latest = {event["subject"]: event["data"] for event in events if event["entitykind"] == "node"}
    with running(elsewhere) as server:
        assert events_until(server.http, backup["revision"]) == events
        assert graph_at(server.http, backup["revision"]) == then
        found = {
            node["name"]: node for node in server.http.get("/api/nodes?limit=10000&presence=false").json()["nodes"]
        }
        assert set(before) <= set(found) == set(latest)
        for name, node in found.items():
            if not name.startswith("registry@"):
                assert node == latest[name]
        for stale in (cursor, old):
            assert server.http.get("/api/events", params={"since": stale}).status_code == 410
        fresh = server.http.get("/api/graph").json()["cursor"]
        assert fresh.startswith(f"{restored['log_id']}:")
        assert server.http.get("/api/events", params={"since": fresh}).status_code == 200
        answer = server.http.post(f"/api/nodes/{before[0]}/heartbeats", json={"seq": 2})
        assert answer.status_code == 201
        assert server.stop() == 0


async def test_served_database_is_not_restored_over_and_its_server_is_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    with running(tmp_path / "t.db") as server:
        db("backup", tmp_path / "b.db", "--store", url)
        said = db("restore", tmp_path / "b.db", "--store", url, "--force", code=2)["said"]
        assert f"belongs to process {server.process.pid} on " in said
        assert server.http.post("/api/nodes", json={"name": "a"}).status_code == 201
        assert server.stop() == 0
    db("restore", tmp_path / "b.db", "--store", url, code=1)
    assert db("restore", tmp_path / "b.db", "--store", url, "--force")["replaced"]
    with running(tmp_path / "t.db") as server:
        assert server.http.get("/api/nodes/a").status_code == 404


async def test_status_and_migrate_go_through_the_server(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/t.db"
    with running(tmp_path / "t.db") as server:
        server.http.post("/api/nodes", json={"name": "a"})
        status = db("status", "--store", url)
        assert status["held_by"]["pid"] == server.process.pid
        assert (status["nodes"], status["pending"]) == (2, [])
        assert db("migrate", "--store", url)["applied"] == []
        server.kill()
        assert (tmp_path / "t.db.sock").exists()
        status = db("status", "--store", url)
        assert (status["held_by"], status["nodes"]) == (None, 2)
    with running(tmp_path / "t.db") as server:
        assert db("status", "--store", url)["held_by"]["pid"] == server.process.pid
        assert server.stop() == 0
    assert not (tmp_path / "t.db.sock").exists()


async def test_backup_whose_command_is_killed_leaves_nothing_and_harms_nobody(tmp_path: Path) -> None:
    with running(tmp_path / "t.db") as server:
        with load(server) as acknowledged:
            await until(lambda: len(acknowledged) > 200)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
                asking = begin("backup", str(tmp_path / "b.db"), "--store", f"sqlite:///{server.store}")
                await until(lambda: (tmp_path / ".b.db.partial").exists() or asking.poll() is not None)  # noqa: B023
                asking.send_signal(number)
                asking.wait(20)
                await until(lambda: not (tmp_path / ".b.db.partial").exists())
                # It may have been done by then; what stands under the name is whole in any case.
                if (tmp_path / "b.db").exists():
                    db("restore", tmp_path / "b.db", "--store", f"sqlite:///{tmp_path}/{number}.db")
                    (tmp_path / "b.db").unlink()
            known = len(acknowledged)
            await until(lambda: len(acknowledged) > known)
        assert server.http.get("/readyz").status_code == 200
        assert server.stop() == 0
        assert server.complaints() == []
