"""Draw the plots of `docs/liveness.md` from the simulator: `pip install -e '.[plots]'`, then
`.venv/bin/python docs/images/liveness.py`; a minute or two. The same seeds give the same plots.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import matplotlib as mpl
import msgspec
from matplotlib import pyplot as plt

from thunderline.testing.simulation import FleetReport, Report, read_scenario, simulate
from thunderline.testing.simulation.scenario import Scenario, Seconds

FOLDER: Final = Path(__file__).parent
INTERVAL_S: Final = 10.0
UP: Final = ("online", "degraded")
# Okabe and Ito's: told apart by everybody.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"


def main() -> int:
    """Draw both."""
    # No date and no random ids in the files: what did not change does not differ.
    mpl.rcParams["svg.hashsalt"] = "thunderline"
    mpl.rcParams["font.size"] = 9
    draw_guard()
    draw_detectors()
    return 0


def draw_guard() -> None:
    """A zone that is cut, with the guard and without."""
    scenario = read_scenario("zone-cut")
    guarded, bare = (simulate(scenario.changed(settings={"guard_fraction": share})) for share in (0.3, 1.0))
    figure, axes = plt.subplots(figsize=(7, 3.2))
    minutes = [point.at_s / 60 for point in guarded.curve]
    axes.plot(minutes, [point.well for point in guarded.curve], color=GREY, linestyle=":", label="reachable")
    for report, colour, label in ((bare, ORANGE, "shown up, no guard"), (guarded, BLUE, "shown up, guard")):
        shown = [sum(point.shown.get(status, 0) for status in UP) for point in report.curve]
        axes.plot(minutes, shown, color=colour, label=label)
    for moment in guarded.told:
        axes.axvline(moment.at_s / 60, color=BLUE, linewidth=0.7)
        word = moment.event.rpartition(".")[2]
        axes.annotate(word, (moment.at_s / 60, 300), color=BLUE, rotation=90, ha="right", va="bottom")
    axes.set_xlim(4, 12)
    axes.set_ylim(295, 415)
    axes.set_xlabel("minutes")
    axes.set_ylabel("nodes")
    axes.set_title("45 % of a zone of 200 cut off from minute 5 to 7; 10 nodes elsewhere die at minute 6")
    axes.legend(loc="lower right")
    _save(figure, "liveness-guard.svg")


def draw_detectors() -> None:
    """How soon detectors find the dead, and whom they convict falsely."""
    whole = read_scenario("mixed-fleet")
    scenario = msgspec.structs.replace(
        whole,
        duration=Seconds(4 * 3600),
        faults=tuple(msgspec.structs.replace(fault, at=Seconds(4 * 3600 - 900)) for fault in whole.faults),
    )
    figure, axes = plt.subplots(figsize=(7, 3.6))
    intervals = (2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0)
    _plot(
        [_run(scenario, detector="deadline", deadline_intervals=each) for each in intervals],
        [f"{each:g} x" for each in intervals],
        colour=ORANGE,
        label="deadline, intervals",
    )
    thresholds = (4.0, 6.0, 8.0, 10.0, 12.0)
    _plot(
        [_run(scenario, detector="phi", phi_threshold=each) for each in thresholds],
        [f"{each:g}" for each in thresholds],
        colour=BLUE,
        label="phi, threshold",
    )
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds until a dead node on a good link is shown as disconnected, median (interval 10 s)")
    axes.set_ylabel("falsely disconnected\nper 1,000 node hours")
    axes.set_title("180 nodes on good links, 20 on links that lose 20 %")
    axes.grid(visible=True, linewidth=0.3)
    axes.legend()
    _save(figure, "liveness-detectors.svg")


def _run(scenario: Scenario, **settings: object) -> Report:
    return simulate(scenario.changed(settings=settings))


def _plot(reports: list[Report], labels: list[str], *, colour: str, label: str) -> None:
    soon = [_detection_s(report) for report in reports]
    wrong = [
        sum(fleet.false_disconnected for fleet in report.fleets) / (report.nodes * report.duration_s / 3600) * 1000
        for report in reports
    ]
    plt.plot(soon, wrong, "o-", color=colour, label=label, markersize=4, linewidth=1)
    for x, y, text in zip(soon, wrong, labels, strict=True):
        plt.annotate(text, (x, y), color=colour, xytext=(4, 4), textcoords="offset points")


def _detection_s(report: Report) -> float:
    clean: FleetReport = next(fleet for fleet in report.fleets if fleet.name == "clean")
    assert clean.detection is not None, "nobody died"
    return clean.detection.median_s


def _save(figure: plt.Figure, name: str) -> None:
    figure.tight_layout()
    figure.savefig(FOLDER / name, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
