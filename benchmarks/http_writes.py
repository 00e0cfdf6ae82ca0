"""Durable registrations and durable heartbeats over HTTP: each answered after the flush of its commit."""

from __future__ import annotations

import msgspec

from benchmarks.load import Result, post, run_load
from benchmarks.server import Running

CONNECTIONS = 128
REGISTRATIONS = 20_000
BEATS = 60_000


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One figure: what was done, what the budget asks (`must`, per second), and what was seen."""

    name: str
    must: float
    result: Result
    server_us_per_request: float


def registrations(server: Running) -> Measured:
    """Each request registers a new node with labels and a small meta."""
    bodies = [
        msgspec.json.encode(
            {
                "name": f"worker-{i}@prod",
                "domain": "eu-west",
                "address": f"10.0.{i >> 8 & 255}.{i & 255}:7000",
                "labels": {"zone": f"z{i % 3}", "rack": f"r{i % 40}"},
                "meta": {"version": "1.4.2"},
            }
        )
        for i in range(REGISTRATIONS)
    ]
    return _measure("registrations", 1_000, server, [post("/api/nodes", body) for body in bodies])


def heartbeats(server: Running) -> Measured:
    """Beats with metrics and sequence numbers from the nodes that `registrations` made."""
    nodes = min(2_000, REGISTRATIONS)
    requests = [
        post(
            f"/api/nodes/worker-{i % nodes}@prod/heartbeats",
            msgspec.json.encode(
                {"seq": i // nodes + 1, "cpu_load": 37.5 + i % 20, "mem_used_mb": 2048.0 + i % 512, "latency_ms": 1.25}
            ),
        )
        for i in range(BEATS)
    ]
    return _measure("heartbeats over HTTP", 5_000, server, requests)


def _measure(name: str, must: float, server: Running, requests: list[bytes]) -> Measured:
    before = server.cpu_s()
    result = run_load(server.url, requests, connections=CONNECTIONS, expect=201)
    if result.failed:
        raise RuntimeError(f"{name}: {result.failed} of {result.requests} answers were not 201")
    used_s = server.cpu_s() - before
    return Measured(name=name, must=must, result=result, server_us_per_request=used_s / result.requests * 1e6)
