"""Durable, acknowledged heartbeats over links, and what links cost that only stand."""

from __future__ import annotations

import time
from typing import Final

import msgspec

from benchmarks.http_writes import Measured
from benchmarks.link_load import hold_links, run_beats
from benchmarks.server import Running

BEATS: Final = 200_000
LINKS: Final = 1_000
WINDOW: Final = 16
HELD: Final = 10_000
HELD_INTERVAL_MS: Final = 10_000
LOOK_S: Final = 10.0


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """What so many open links cost the server: memory of each with its node, and share of one core."""

    links: int
    opened_per_second: float
    kib_each: float
    idle_cpu_percent: float
    beating_cpu_percent: float


def beats_one_by_one(server: Running) -> Measured:
    """Each link sends its next beat when the one before is acknowledged."""
    return _measure(server, f"heartbeats, {LINKS:,} links, 1 under way on each", window=1)


def beats_ahead(server: Running) -> Measured:
    """Each link has several beats under way, which one acknowledgement answers."""
    return _measure(server, f"heartbeats, {LINKS:,} links, {WINDOW} under way on each", window=WINDOW)


def held(server: Running) -> Held:
    """Links that only stand, then the same number with a beat every 10 s from each."""
    before = server.process.memory_info().rss
    started = time.perf_counter()
    links = hold_links(server.url, links=HELD, interval_ms=3_600_000, beating=False)
    opened_s = time.perf_counter() - started
    idle = _cpu_percent(server)
    kib_each = (server.process.memory_info().rss - before) / HELD / 1024
    links.release()
    links = hold_links(server.url, links=HELD, interval_ms=HELD_INTERVAL_MS, beating=True)
    time.sleep(HELD_INTERVAL_MS / 1000)  # every link has beaten once
    beating = _cpu_percent(server)
    links.release()
    return Held(
        links=HELD,
        opened_per_second=HELD / opened_s,
        kib_each=kib_each,
        idle_cpu_percent=idle,
        beating_cpu_percent=beating,
    )


def _cpu_percent(server: Running) -> float:
    before = server.cpu_s()
    time.sleep(LOOK_S)
    return (server.cpu_s() - before) / LOOK_S * 100


def _measure(server: Running, name: str, *, window: int) -> Measured:
    before = 0.0

    def warmed() -> None:
        nonlocal before
        before = server.cpu_s()

    result = run_beats(server.url, links=LINKS, window=window, beats=BEATS, warmed=warmed)
    used_s = server.cpu_s() - before
    return Measured(name=name, must=10_000, result=result, server_us_per_request=used_s / result.requests * 1e6)
