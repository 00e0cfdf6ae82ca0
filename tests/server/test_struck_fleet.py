"""A fleet of real agents, a third of it killed, a third stopped and continued, a third left alone: issue 6, line 2.

Processes, sockets and clocks are real; only the settings are quicker than the defaults.
"""

from __future__ import annotations

import signal
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.server.processes import until
from tests.server.test_agents import Agents, cluster
from thunderline.core.clock import SystemClock

AGENTS = 50
INTERVAL_S = 1.0
DEADLINE_S = 5.0
GUARD_MAX_DELAY_S = 4.0
SETTINGS = {
    "THUNDERLINE_DEADLINE_INTERVALS": str(DEADLINE_S / INTERVAL_S),
    "THUNDERLINE_DROP_GRACE_S": "1",
    "THUNDERLINE_OFFLINE_AFTER_S": "10",
    "THUNDERLINE_GUARD_WINDOW_S": "10",
    "THUNDERLINE_GUARD_MAX_DELAY_S": str(GUARD_MAX_DELAY_S),
}
BUSY_S = 3.0
"""What a machine that is busy with so many processes may add."""


class StruckFleet:
    """The agents in thirds, by name."""

    def __init__(self, agents: Agents, count: int) -> None:
        self.agents = agents
        self.names = [f"n{number:02}" for number in range(count)]
        third = -(-count // 3)
        self.killed, self.stopped = self.names[:third], self.names[third : 2 * third]
        self.alone = self.names[2 * third :]

    async def start(self, names: list[str]) -> None:
        """A few at a time: each takes most of a core while it starts."""
        for at in range(0, len(names), 5):
            started = [self.agents.start(name, interval_s=INTERVAL_S) for name in names[at : at + 5]]
            for agent in started:
                await agent.linked()

    def nodes(self, names: list[str]) -> list[dict[str, Any]]:
        found = self.agents.server.http.get("/api/nodes", params={"limit": "1000"}).raise_for_status().json()["nodes"]
        return [node for node in found if node["name"] in names]

    async def are(self, names: list[str], status: str, reason: str, *, within_s: float) -> None:
        """Return once all of them have that status, and for that reason."""

        def look() -> bool:
            return all((node["status"], node["status_reason"]) == (status, reason) for node in self.nodes(names))

        await until(look, within_s=within_s)

    def told(self, name: str) -> list[tuple[datetime, str, str]]:
        """The status events of a node: when, what, why."""
        answer = self.agents.server.http.get("/api/events", params={"limit": "10000"}).raise_for_status().json()
        assert answer["next_since"].endswith(f":{answer['revision']}")
        return [
            (datetime.fromisoformat(event["time"]), event["data"]["status"], event["data"]["status_reason"])
            for event in answer["events"]
            if event["subject"] == name and event["type"].rpartition(".")[2] in ("online", "offline", "status_changed")
        ]


@pytest.mark.timeout(300)
async def test_statuses_and_reasons_are_right_and_recoveries_need_nobody(tmp_path: Path) -> None:
    with cluster(tmp_path, SETTINGS) as agents:
        fleet, operator = StruckFleet(agents, AGENTS), agents.server.http
        await fleet.start(fleet.names)
        held, degraded = fleet.alone[:2]
        for name, status in ((held, "offline"), (degraded, "degraded")):
            operator.post(f"/api/nodes/{name}/status", json={"status": status, "reason": "drained"}).raise_for_status()
        overridden = fleet.nodes([held, degraded])

        struck_at = SystemClock().now()
        processes = dict(zip(fleet.names, (agent.process for agent in agents.started), strict=True))
        for name in fleet.killed:
            processes[name].send_signal(signal.SIGKILL)
        for name in fleet.stopped:
            processes[name].send_signal(signal.SIGSTOP)
        try:
            within_s = DEADLINE_S + GUARD_MAX_DELAY_S
            await fleet.are(fleet.stopped, "disconnected", "silent", within_s=within_s + BUSY_S)
            for name in [*fleet.killed, *fleet.stopped]:
                shown_at, status, reason = fleet.told(name)[1]
                assert (status, reason) == ("disconnected", "link_lost" if name in fleet.killed else "silent")
                assert shown_at - struck_at <= timedelta(seconds=within_s + BUSY_S)
            (guard,) = operator.get("/api/summary").json()["liveness"]["guards"]
            assert (guard["scope"], guard["engaged"]) == ("everything", True)
        finally:
            for name in fleet.stopped:
                processes[name].send_signal(signal.SIGCONT)
        await until(lambda: all(node["status"] == "online" for node in fleet.nodes(fleet.stopped)))
        assert {node["incarnation"] for node in fleet.nodes(fleet.stopped)} == {1}
        await fleet.are(fleet.killed, "offline", "link_lost", within_s=10 + GUARD_MAX_DELAY_S + BUSY_S)

        await fleet.start(fleet.killed)
        await fleet.are(fleet.killed, "online", "announced", within_s=20)
        assert {node["incarnation"] for node in fleet.nodes(fleet.killed)} == {2}

        # Those that were left alone beat all the while: nothing was told of them, and the operator's word stands.
        for name in fleet.alone[2:]:
            assert [told[1:] for told in fleet.told(name)] == [("online", "announced")]
        strip = {"presence": None}
        assert [node | strip for node in fleet.nodes([held, degraded])] == [node | strip for node in overridden]
        assert [node["observed_status"] for node in overridden] == ["online", "online"]
        for name in (held, degraded):
            lifted = operator.delete(f"/api/nodes/{name}/override").raise_for_status().json()["node"]
            assert (lifted["status"], lifted["status_reason"], lifted["override"]) == ("online", "announced", None)
