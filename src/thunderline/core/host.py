"""Figures of the machine that this process runs on, as heartbeats carry them. Source: psutil."""

from __future__ import annotations

import re
import socket

import msgspec
import psutil


class HostFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One reading. `cpu_load` in percent of all cores since the reading before; `mem_used_mb` in MiB."""

    cpu_load: float
    mem_used_mb: float


class HostMeter:
    """Reads the machine's load and memory; a reading costs well under a millisecond and does not block."""

    def __init__(self) -> None:
        # psutil reports the load between two calls; without this one the first reading would always be 0.
        psutil.cpu_percent(interval=None)

    def read(self) -> HostFigures:
        memory = psutil.virtual_memory()
        return HostFigures(
            cpu_load=psutil.cpu_percent(interval=None),
            mem_used_mb=round((memory.total - memory.available) / 1_048_576, 1),
        )


def host_name() -> str:
    """This machine's short name, cut down to what a node's name may hold; `localhost` if nothing is left."""
    short = socket.gethostname().partition(".")[0]
    return re.sub(r"[^A-Za-z0-9._-]", "-", short).lstrip("._-")[:200] or "localhost"
