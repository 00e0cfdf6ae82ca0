"""The figures of a node's beats: a daily wave of its region, what its rack does together, and what it does alone. Pure.

Nothing is remembered: the same node has the same figures at the same moment, whoever asks.
"""

from __future__ import annotations

import math
from typing import Final
from zlib import crc32

from thunderline.testing.fleet.plan import REGIONS, PlannedNode

DAY_S: Final = 86_400.0
_WAVE: Final = 0.28
"""Part of the usual load by which a day's peak is above it."""

_RACK_SPAN_S: Final = 420.0
_RACK: Final = 0.22
_OWN_SPAN_S: Final = 45.0
_OWN: Final = 0.14
_NAP_MS: Final = 0.4


def cpu_load(node: PlannedNode, at_s: float, *, is_slow: bool = False) -> float:
    """Percent, at `at_s` seconds of wall time."""
    # The sun rises in the east first: each region is some hours behind the one before.
    phase = REGIONS.index(node.region) / len(REGIONS)
    wave = math.sin(2 * math.pi * (at_s / DAY_S - phase - 0.25))
    together = _noise(node.group, at_s, _RACK_SPAN_S)
    alone = _noise(node.name, at_s, _OWN_SPAN_S)
    load = node.cpu_load * (1 + _WAVE * wave + _RACK * together + _OWN * alone)
    if is_slow:
        load = max(load, 93 + 6 * abs(alone))
    return round(min(99.9, max(0.5, load)), 1)


def mem_used_mb(node: PlannedNode, at_s: float, cpu: float) -> float:
    """Memory follows load, but slowly, and never falls to nothing."""
    share = 0.34 + 0.002 * cpu + 0.1 * _noise(node.name, at_s, 1_800)
    return round(node.mem_mb * min(0.97, share))


def latency_ms(node: PlannedNode, at_s: float, *, is_slow: bool = False) -> float:
    """Its distance from the registry."""
    nearest = 18.0 if node.role == "edge" else _NAP_MS
    once = nearest * (1 + 0.5 * _noise(f"{node.zone} way", at_s, 90)) + nearest
    return round(once * (40 if is_slow else 1), 2)


def link_latency_ms(usual_ms: float, name: str, at_s: float, *, is_slow: bool = False) -> float:
    """The distance of two nodes that are `usual_ms` apart."""
    return round(usual_ms * (1 + 0.1 * _noise(name, at_s, 60)) * (12 if is_slow else 1), 2)


def _noise(what: str, at_s: float, span_s: float) -> float:
    """-1 to 1, smooth in time, different for everything of another name. Source: Perlin's value noise."""
    step, part = divmod(at_s / span_s, 1)
    part = part * part * (3 - 2 * part)
    return _knot(what, int(step)) * (1 - part) + _knot(what, int(step) + 1) * part


def _knot(what: str, step: int) -> float:
    return crc32(f"{what} {step}".encode()) / 0x7FFF_FFFF - 1
