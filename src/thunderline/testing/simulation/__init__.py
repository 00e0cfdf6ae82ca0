"""A deterministic simulator: one real registry, thousands of nodes that are not, faults by script, no real time.

    report = simulate(read_scenario("registry-restart"))
    assert not report.missed

Everything of the registry runs unchanged, from the actions on it to the commits; its clock, its store's disk, the nodes
and the network between are simulated. What is left out: HTTP, frames, what the gate refuses. docs/liveness.md.
"""

from __future__ import annotations

from thunderline.testing.simulation.report import FleetReport, Report
from thunderline.testing.simulation.run import simulate
from thunderline.testing.simulation.scenario import Scenario, built_in_names, parse_scenario, read_scenario

__all__ = ["FleetReport", "Report", "Scenario", "built_in_names", "parse_scenario", "read_scenario", "simulate"]
