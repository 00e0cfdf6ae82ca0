"""For tests of Thunderline and of what is built on it: a clock to turn by hand, what fails on demand, a store suite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import Fault, FaultyStore
from thunderline.testing.store_suite import STORE_CHECKS, check_store

if TYPE_CHECKING:
    from thunderline.testing.memory_transport import MemoryTransport

__all__ = ["ManualClock", "Fault", "FaultyStore", "MemoryTransport", "STORE_CHECKS", "check_store"]


def __getattr__(name: str) -> Any:
    # The one name here that needs the gate, and with it the server's libraries.
    if name != "MemoryTransport":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from thunderline.testing.memory_transport import MemoryTransport

    return MemoryTransport
