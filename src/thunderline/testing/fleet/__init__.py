"""A fleet of nodes that are not: names, places, figures and faults are made up, their links to a server are real.

    async with Fleet("http://127.0.0.1:4040", draw_plan(180, seed=1)) as fleet:
        ...  # 180 nodes are online, and what befalls them goes on

`thunderline simulate --nodes N` is this from a shell: for demonstrations, for tests, and for whoever wants to see a
cluster of their size before they have it. The same plan and seed give the same nodes, to which the same happens at the
same times; how a server takes it is up to the server. For a simulated registry in no real time see
`thunderline.testing.simulation`. docs/simulate.md.
"""

from __future__ import annotations

from thunderline.testing.fleet.fleet import Counts, Fleet
from thunderline.testing.fleet.plan import FleetPlan, PlannedGroup, PlannedLink, PlannedNode, draw_plan
from thunderline.testing.fleet.script import Happening, Script, What

__all__ = [
    "Counts",
    "Fleet",
    "FleetPlan",
    "Happening",
    "PlannedGroup",
    "PlannedLink",
    "PlannedNode",
    "Script",
    "What",
    "draw_plan",
]
