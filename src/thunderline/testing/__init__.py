"""For tests of Thunderline and of what is built on it: a clock to turn by hand, a store suite, a harness of servers."""

from thunderline.testing.clock import ManualClock
from thunderline.testing.faults import Fault, FaultyStore
from thunderline.testing.store_suite import STORE_CHECKS, check_store

__all__ = ["ManualClock", "Fault", "FaultyStore", "STORE_CHECKS", "check_store"]
