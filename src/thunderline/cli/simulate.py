"""`thunderline simulate`."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer
from rich.table import Table

from thunderline.cli.failures import CommandFailed
from thunderline.cli.options import AsJson
from thunderline.cli.progress import shown_bar
from thunderline.cli.screen import on_terminal, open_console, plain, write_json, write_line, write_rows

if TYPE_CHECKING:
    from thunderline.testing.simulation import Report
    from thunderline.testing.simulation.report import FleetReport, Spread

_COLUMNS = (
    "FLEET",
    "NODES",
    "FALSE_DISCONNECTED",
    "FALSE_OFFLINE",
    "FAULTS",
    "UNDETECTED",
    "DETECTION_S",
    "OFFLINE_S",
    "RECOVERY_S",
    "ZOMBIES",
    "MISSING",
)


class BarsMissed(CommandFailed):
    """The simulation ran, and its outcome is not what the scenario asks for."""

    def __init__(self, missed: list[str]) -> None:
        super().__init__(f"the scenario's bars were missed: {'; '.join(missed)}")


def simulate(
    *,
    scenario: Annotated[
        str,
        typer.Argument(
            metavar="SCENARIO", show_default=False, help="A TOML file, or the name of one that comes along."
        ),
    ],
    offline: Annotated[
        bool, typer.Option("--offline", help="Simulate the registry, too, in no real time. The only way at present.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Another run of the same.", show_default="the scenario's")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A setting of the registry in the scenario's stead; repeatable."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Try settings on a simulated cluster: who is found dead how soon, and who falsely.

    Nodes and network are simulated, the registry runs for real, in simulated time: a day takes as long as there is work
    in it. The same scenario and seed give the same outcome. Exit code 1 if it is not what the scenario's bars ask for.
    Scenarios that come along: registry-restart, registry-pause, store-outage, wall-jump, zone-cut, mixed-fleet.
    docs/liveness.md says what a scenario can hold.
    """
    if not offline:
        raise typer.BadParameter(
            "is required: nodes are simulated against a simulated registry", param_hint="--offline"
        )
    # Imported here: the other commands start in half the time without the server's libraries.
    from thunderline.testing import simulation

    # What the registry logs of faults is what the report counts.
    logging.getLogger("thunderline").addHandler(logging.NullHandler())
    read = simulation.read_scenario(scenario)
    read = read.changed(settings=dict(map(_setting, settings or [])), seed=seed)
    with shown_bar(read.title) as report_progress:
        report = simulation.simulate(read, progress=report_progress)
    if as_json:
        write_json(msgspec.json.encode(report))
    elif on_terminal():
        _show(report)
    else:
        write_rows(_COLUMNS, [_row(fleet) for fleet in report.fleets])
    if report.missed:
        raise BarsMissed(report.missed)


def _setting(given: str) -> tuple[str, Any]:
    name, equals, value = given.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"{given!r} should be NAME=VALUE", param_hint="--set")
    try:
        return name, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name, value


def _row(fleet: FleetReport) -> list[object]:
    return [
        fleet.name,
        fleet.nodes,
        fleet.false_disconnected,
        fleet.false_offline,
        fleet.faults,
        fleet.undetected,
        *(None if spread is None else spread.median_s for spread in (fleet.detection, fleet.offline, fleet.recovery)),
        fleet.zombies,
        fleet.missing,
    ]


def _show(report: Report) -> None:
    console = open_console()
    console.print(f"{report.title}, seed {report.seed}\n", style="bold")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("")
    for fleet in report.fleets:
        table.add_column(plain(fleet.name), justify="right")
    for label, cell_of in _LINES:
        table.add_row(label, *map(cell_of, report.fleets))
    console.print(table)
    console.print()
    for moment in report.told:
        console.print(f"{moment.at_s:>9.1f} s  {moment.event}")
    write_line(
        f"{report.beats_kept:,} heartbeats in {report.commits:,} commits, {sum(report.events.values()):,} events"
    )


def _wrong(count: int, style: str) -> Any:
    return plain(f"{count:,}", style if count else "")


def _spread(spread: Spread | None) -> Any:
    return plain(None if spread is None else f"{spread.median_s:.1f} / {spread.max_s:.1f}")


_LINES: Final[tuple[tuple[str, Callable[[FleetReport], Any]], ...]] = (
    ("nodes", lambda fleet: plain(f"{fleet.nodes:,}")),
    ("heartbeats sent", lambda fleet: plain(f"{fleet.beats_sent:,}")),
    ("falsely disconnected", lambda fleet: _wrong(fleet.false_disconnected, "yellow")),
    ("falsely offline", lambda fleet: _wrong(fleet.false_offline, "red")),
    ("faults", lambda fleet: plain(f"{fleet.faults:,}")),
    ("never noticed", lambda fleet: plain(f"{fleet.undetected:,}")),
    ("disconnected after s, median / longest", lambda fleet: _spread(fleet.detection)),
    ("offline after s, median / longest", lambda fleet: _spread(fleet.offline)),
    ("back after s, median / longest", lambda fleet: _spread(fleet.recovery)),
    ("dead, shown as up", lambda fleet: _wrong(fleet.zombies, "red")),
    ("up, not shown as such", lambda fleet: _wrong(fleet.missing, "red")),
)
