"""Agents as processes beside a server that is one too: how they go, how that shows, and how they come back."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.commands import PROGRAM, environ, piped
from tests.server.processes import ServerProcess, complaints, running, until

INTERVAL_S = 0.2
QUICK = {
    "THUNDERLINE_DROP_GRACE_S": "0.5",
    # A silence of 1 s convicts: long enough that a busy machine convicts nobody who is well.
    "THUNDERLINE_DEADLINE_INTERVALS": "5",
}
GIVES_UP_SOON = {**QUICK, "THUNDERLINE_OFFLINE_AFTER_S": "0.5"}

EXIT_ENDED = 3
ENDED_FOR_GOOD = "link ended for good"


class AgentProcess:
    """A `thunderline agent`; what it says goes into files, so that it never waits for a reader."""

    def __init__(self, url: str, name: str, folder: Path, *, interval_s: float = INTERVAL_S) -> None:
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                [*PROGRAM, "agent", "--server", url, "--name", name, "--interval", str(interval_s)],
                stdout=out,
                stderr=err,
                env=environ(),
            )

    async def linked(self) -> None:
        """Return once the registry has welcomed it."""

        def look() -> bool:
            assert self.process.poll() is None, self._err.read_text()
            return " is linked as node " in self._out.read_text()

        await until(look)

    async def ended(self) -> int:
        """Its exit code, once it has ended."""
        return await until(self.process.poll)

    async def says(self, event: str) -> dict[str, Any]:
        """The first line of its log with that event."""

        def look() -> dict[str, Any] | None:
            return next((line for line in self.log if line["event"] == event), None)

        return await until(look)

    @property
    def log(self) -> list[dict[str, Any]]:
        """What it has logged, whole lines only."""
        lines = self._err.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    @property
    def notes(self) -> list[str]:
        """What it told people on its standard error."""
        return [line for line in self._err.read_text().splitlines() if not line.startswith("{")]

    def check(self, *expected: str) -> None:
        """Fail if it logged an error of another kind than `expected`, a traceback, or anything that is no log."""
        found = [line for line in complaints(self._err.read_text()) if line not in self.notes]
        assert [json.loads(line)["event"] for line in found] == list(expected)
        assert all(line.startswith("thunderline: ") for line in self.notes), self.notes


class Agents:
    """Starts agents of one server."""

    def __init__(self, server: ServerProcess, folder: Path) -> None:
        self.server = server
        self._folder = folder
        self.started: list[AgentProcess] = []

    def start(self, name: str, *, interval_s: float = INTERVAL_S) -> AgentProcess:
        """An agent that was started, not yet linked."""
        folder = self._folder / f"agent-{len(self.started)}"
        folder.mkdir()
        agent = AgentProcess(self.server.url, name, folder, interval_s=interval_s)
        self.started.append(agent)
        return agent

    def node(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.server.http.get(f"/api/nodes/{name}").raise_for_status().json()["node"]
        return found

    async def node_is(self, name: str, status: str, reason: str | None = None) -> dict[str, Any]:
        """The node, once it has that status, and for that reason."""

        def look() -> dict[str, Any] | None:
            node = self.node(name)
            return node if node["status"] == status and reason in (None, node["status_reason"]) else None

        return await until(look)

    def events(self, name: str) -> list[tuple[str, str]]:
        """The status events of a node: (status, reason), in order."""
        answer = self.server.http.get("/api/events", params={"since": "0", "limit": "10000"}).raise_for_status()
        return [
            (event["data"]["status"], event["data"]["status_reason"])
            for event in answer.json()["events"]
            if event["subject"] == name and event["type"].rpartition(".")[2] in ("online", "offline", "status_changed")
        ]

    def listed(self) -> dict[str, tuple[str, str]]:
        """What `thunderline nodes` says into a pipe: name -> (status, reason). It says the same with --json."""
        told = piped("nodes", "--server", self.server.url, "--domain", "thunderlink", "--role", "worker")
        assert (told.returncode, told.stderr) == (0, "")
        heading, *rows = [line.split("\t") for line in told.stdout.splitlines()]
        status, reason = heading.index("STATUS"), heading.index("STATUS_REASON")
        table = {row[0]: (row[status], row[reason]) for row in rows}
        whole = piped("nodes", "--server", self.server.url, "--role", "worker", "--json")
        assert (whole.returncode, whole.stderr) == (0, "")
        nodes = json.loads(whole.stdout)["nodes"]
        assert {node["name"]: (node["status"], node["status_reason"]) for node in nodes} == table
        return table


@contextlib.contextmanager
def cluster(folder: Path, settings: dict[str, str]) -> Iterator[Agents]:
    """A server and what starts agents beside it; at the end the server must stop cleanly, with a clean log."""
    with running(folder / "nodes.db", environ=settings) as server:
        agents = Agents(server, folder)
        try:
            yield agents
        finally:
            for agent in agents.started:
                if agent.process.poll() is None:
                    agent.process.kill()
                agent.process.wait(10)
        assert server.stop() == 0
        assert server.complaints() == []


async def three_go(agents: Agents) -> dict[str, AgentProcess]:
    """Four agents, of which one was killed, one stopped and one frozen."""
    by_name = {name: agents.start(name) for name in ("killed", "stopped", "frozen", "well")}
    for agent in by_name.values():
        await agent.linked()
    by_name["killed"].process.send_signal(signal.SIGKILL)
    by_name["stopped"].process.send_signal(signal.SIGTERM)
    by_name["frozen"].process.send_signal(signal.SIGSTOP)
    assert await by_name["stopped"].ended() == 0
    return by_name


async def goes_on(agents: Agents, frozen: AgentProcess, before: dict[str, Any]) -> None:
    """The frozen agent is thawed: it comes back by itself, as the process that it was, and goes on beating."""
    frozen.process.send_signal(signal.SIGCONT)
    node = await agents.node_is("frozen", "online")
    assert (node["id"], node["incarnation"]) == (before["id"], before["incarnation"])
    seq = node["presence"]["last_heartbeat"]["seq"]

    def beats() -> bool:
        return bool(agents.node("frozen")["presence"]["last_heartbeat"]["seq"] > seq + 2)

    await until(beats)
    assert frozen.process.poll() is None
    frozen.process.send_signal(signal.SIGTERM)
    assert await frozen.ended() == 0
    assert agents.node("frozen")["status_reason"] == "goodbye"
    frozen.check()
    beats_kept = agents.server.http.get("/api/nodes/frozen/heartbeats?minutes=5").json()["heartbeats"]
    seqs = [beat["seq"] for beat in beats_kept]
    assert sorted(seqs) == list(range(1, len(seqs) + 1))


async def test_a_killed_a_stopped_and_a_frozen_agent_are_told_apart_and_the_frozen_one_comes_back(
    tmp_path: Path,
) -> None:
    with cluster(tmp_path, QUICK) as agents:
        by_name = await three_go(agents)
        await agents.node_is("killed", "disconnected")
        frozen = await agents.node_is("frozen", "disconnected")
        assert agents.listed() == {
            "killed": ("disconnected", "link_lost"),
            "stopped": ("offline", "goodbye"),
            "frozen": ("disconnected", "silent"),
            "well": ("online", "announced"),
        }
        await goes_on(agents, by_name["frozen"], frozen)
        assert agents.events("frozen") == [
            ("online", "announced"),
            ("disconnected", "silent"),
            ("online", "heartbeat"),
            ("offline", "goodbye"),
        ]
        assert agents.events("stopped") == [("online", "announced"), ("offline", "goodbye")]
        by_name["stopped"].check()


async def test_agents_that_were_given_up_are_told_apart_and_the_frozen_one_comes_back(tmp_path: Path) -> None:
    with cluster(tmp_path, GIVES_UP_SOON) as agents:
        by_name = await three_go(agents)
        await agents.node_is("killed", "offline")
        frozen = await agents.node_is("frozen", "offline")
        assert agents.listed() == {
            "killed": ("offline", "link_lost"),
            "stopped": ("offline", "goodbye"),
            "frozen": ("offline", "silent"),
            "well": ("online", "announced"),
        }
        await goes_on(agents, by_name["frozen"], frozen)
        assert agents.events("frozen") == [
            ("online", "announced"),
            ("disconnected", "silent"),
            ("offline", "silent"),
            ("online", "announced"),
            ("offline", "goodbye"),
        ]
        assert agents.events("killed") == [
            ("online", "announced"),
            ("disconnected", "link_lost"),
            ("offline", "link_lost"),
        ]


async def test_a_newcomer_takes_a_name_over_and_the_earlier_agent_ends_by_itself_and_says_why(tmp_path: Path) -> None:
    with cluster(tmp_path, QUICK) as agents:
        first = agents.start("worker-1")
        await first.linked()
        before = agents.node("worker-1")
        second = agents.start("worker-1")
        await second.linked()
        assert await first.ended() == EXIT_ENDED
        (note,) = first.notes
        assert "(superseded)" in note
        first.check(ENDED_FOR_GOOD)
        node = agents.node("worker-1")
        assert (node["id"], node["incarnation"]) == (before["id"], before["incarnation"] + 1)
        assert agents.listed() == {"worker-1": ("online", "restarted")}
        # The name was up all the time: who watches it saw one process follow another, and no outage.
        assert agents.events("worker-1") == [("online", "announced")]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_an_agent_that_alternates_with_another_waits_until_that_one_is_gone(tmp_path: Path, how: int) -> None:
    with cluster(tmp_path, QUICK) as agents:
        first = agents.start("worker-1")
        await first.linked()
        second = agents.start("worker-1")
        await second.linked()
        assert await first.ended() == EXIT_ENDED
        # As a supervisor would start it again that does not know better.
        again = agents.start("worker-1")
        waits = await again.says("no link yet, trying on")
        assert "worker-1 is a process that is alive" in waits["reason"]
        assert agents.node("worker-1")["incarnation"] == 2
        assert second.process.poll() is None
        second.process.send_signal(how)
        await again.linked()
        assert agents.node("worker-1")["incarnation"] == 3
        assert [line["event"] for line in again.log] == ["no link yet, trying on", "linked"]
        again.check()


async def test_an_agent_whose_node_is_removed_by_force_ends_and_does_not_come_back(tmp_path: Path) -> None:
    with cluster(tmp_path, QUICK) as agents:
        agent = agents.start("worker-1")
        await agent.linked()
        refused = agents.server.http.delete("/api/nodes/worker-1")
        assert (refused.status_code, refused.json()["code"]) == (409, "live_link")
        agents.server.http.delete("/api/nodes/worker-1?force=true").raise_for_status()
        assert await agent.ended() == EXIT_ENDED
        (note,) = agent.notes
        assert "(deregistered)" in note
        agent.check(ENDED_FOR_GOOD)
        assert agents.server.http.get("/api/nodes/worker-1").status_code == 404


async def test_a_killed_agent_that_is_started_again_at_once_is_the_next_incarnation_and_no_conflict(
    tmp_path: Path,
) -> None:
    with cluster(tmp_path, QUICK) as agents:
        for incarnation in (1, 2, 3, 4):
            agent = agents.start("worker-1")
            await agent.linked()
            assert agents.node("worker-1")["incarnation"] == incarnation
            assert [line["event"] for line in agent.log] == ["linked"]
            agent.process.kill()
            agent.process.wait(10)
