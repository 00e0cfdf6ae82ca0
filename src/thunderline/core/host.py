"""Figures of the machine that this process runs on, as heartbeats carry them. Source: psutil."""

from __future__ import annotations

import re
import socket
from typing import Final

import msgspec
import psutil

from thunderline.core.clock import Clock

SHORTEST_CPU_S: Final = 0.5
"""Over less than this the load is a matter of chance: the kernel counts it in ticks of 10 ms."""


class HostFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One reading. `cpu_load` in percent of all cores since the one before, None right after it; memory in MiB."""

    cpu_load: float | None
    mem_used_mb: float


class HostMeter:
    """Reads the machine's load and memory; a reading costs well under a millisecond and does not block."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # psutil reports the load between two calls; this one is the first reading's beginning.
        psutil.cpu_percent(interval=None)
        self._read_at = clock.monotonic()

    def read(self) -> HostFigures:
        memory = psutil.virtual_memory()
        now = self._clock.monotonic()
        cpu_load = None
        if now - self._read_at >= SHORTEST_CPU_S:
            cpu_load, self._read_at = psutil.cpu_percent(interval=None), now
        return HostFigures(
            cpu_load=cpu_load,
            mem_used_mb=round((memory.total - memory.available) / 1_048_576, 1),
        )


def host_name() -> str:
    """This machine's short name, cut down to what a node's name may hold; `localhost` if nothing is left."""
    short = socket.gethostname().partition(".")[0]
    return re.sub(r"[^A-Za-z0-9._-]", "-", short).lstrip("._-")[:200] or "localhost"
