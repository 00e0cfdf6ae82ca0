"""The servers that the command line's tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.servers import HOSTILE_REASON, LONG_NAME, ServedRegistry, serving


@pytest.fixture
def served() -> Iterator[ServedRegistry]:
    """A server without nodes but its own."""
    with serving() as running:
        yield running


@pytest.fixture(scope="session")
def fleet() -> Iterator[ServedRegistry]:
    """Twelve nodes in every status, for tests that only read."""
    with serving() as running:
        running.add("lost-1")
        running.add("silent-1")
        running.beat("lost-1", cpu_load=99.9, mem_used_mb=15900)
        running.advance(60)
        running.beat("silent-1", cpu_load=3, mem_used_mb=900)
        running.advance(36)
        running.add("new-1", role="edge", domain="edge-eu")
        names = ("worker-1@prod", "worker-2@prod", LONG_NAME, "gateway-1", "relay-1", "slow-1", "marked-1")
        for at, name in enumerate(names):
            running.add(
                name, domain="training" if name == LONG_NAME else "thunderlink", labels={"zone": f"eu-{at % 2}"}
            )
            session = {"session_id": f"session-{at}", "connection_type": "websocket", "latency_ms": 1.5 * at}
            running.ask("POST", f"/api/nodes/{name}/online", json={"instance": f"i{at}", "session": session})
            for seq in (1, 2, 3):
                running.beat(name, seq=seq, cpu_load=10 * at + seq, mem_used_mb=512, peers={"lost-1": None, "new-1": 2})
        running.ask(
            "PATCH",
            "/api/nodes/worker-1@prod",
            json={"meta": {"os": "linux", "esc": "\x1b[31m", "csi": "\x9b31m", "deep": [1]}},
        )
        running.ask("POST", "/api/nodes/gateway-1/offline", json={"reason": HOSTILE_REASON})
        running.beat("relay-1", status="offline")
        running.beat("slow-1", status="degraded", cpu_load=100)
        running.ask("POST", "/api/nodes/marked-1/status", json={"status": "degraded", "reason": "disk"})
        running.add("aged-1", cluster_type="out_of_cluster", capabilities={"gpu": {"value": "a100"}})
        yield running
