"""For tests of Thunderline and of what is built on it: a clock to turn by hand, what fails on demand, a store suite.

`docs/testing.md` has a recipe for each.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import Fault, FaultyStore
from thunderline.testing.records import make_beat, make_event, make_node, make_session, numbered_ids
from thunderline.testing.store_suite import STORE_CHECKS, check_store

if TYPE_CHECKING:
    from thunderline.testing.harness import Cluster, ClusterNode, open_cluster
    from thunderline.testing.memory_transport import MemoryTransport

__all__ = [
    "Cluster",
    "ClusterNode",
    "open_cluster",
    "MemoryTransport",
    "ManualClock",
    "Fault",
    "FaultyStore",
    "STORE_CHECKS",
    "check_store",
    "make_beat",
    "make_event",
    "make_node",
    "make_session",
    "numbered_ids",
]

# What needs the gate, and with it the server's libraries, is imported at its first use.
_HOME: Final = {
    "Cluster": "thunderline.testing.harness",
    "ClusterNode": "thunderline.testing.harness",
    "open_cluster": "thunderline.testing.harness",
    "MemoryTransport": "thunderline.testing.memory_transport",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
