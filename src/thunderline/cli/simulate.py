"""`thunderline simulate`."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer
from rich.table import Table

from thunderline.cli.failures import CommandFailed
from thunderline.cli.options import Ca, Server, TokenFile
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
        str | None,
        typer.Argument(
            metavar="[SCENARIO]",
            show_default=False,
            help="With --offline: a TOML file, or the name of one that comes along.",
        ),
    ] = None,
    nodes: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, max=20_000, show_default=False, help="A live fleet of so many nodes, up to 20,000."
        ),
    ] = None,
    domains: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=8, show_default="3", help="In how many domains they are.")
    ] = None,
    churn: Annotated[
        float | None,
        typer.Option(
            metavar="PERCENT", min=0, max=1_000, show_default="1", help="How many of the nodes leave in a minute."
        ),
    ] = None,
    faults: Annotated[
        float | None,
        typer.Option(
            metavar="PERCENT",
            min=0,
            max=1_000,
            show_default="1",
            help="How many crash, become slow or flap in a minute; with 1, a zone falls out every five minutes, too.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Another run of the same.", show_default="1, or the scenario's")
    ] = None,
    lasts: Annotated[
        float | None,
        typer.Option(
            "--for", metavar="SECONDS", min=0, show_default="until Ctrl-C", help="End so long after all were linked."
        ),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="In the end take nodes and groups out of the registry, too.")
    ] = False,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Start a server for them, in place of --server; its store is gone afterwards."),
    ] = False,
    server: Server,
    token_file: TokenFile = None,
    ca: Ca = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Play a scenario against a simulated registry instead, in no real time.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="With --offline: a setting of the registry in the scenario's stead; repeatable.",
        ),
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object per line: how it is, and what happens. Of a scenario, one."),
    ] = False,
) -> None:
    """Play a cluster: a live fleet at a server, or a scenario in no real time.

    With --nodes: real links to a server, with names, places, groups and figures that look like something, until
    Ctrl-C; then all say goodbye. Nodes leave and join, crash, become slow, flap, and now and then a zone falls out. The
    same seed gives the same nodes, to which the same happens. With a token it should have the scope operator.
    docs/simulate.md.

    With --offline SCENARIO: nodes and network are simulated, the registry runs for real, in simulated time, and the
    report says who was found dead how soon, and who falsely. Exit code 1 if it is not what the scenario's bars ask for.
    Scenarios that come along: registry-restart, registry-pause, store-outage, wall-jump, zone-cut, mixed-fleet.
    docs/liveness.md says what a scenario can hold.
    """
    live = {
        "--nodes": nodes,
        "--domains": domains,
        "--churn": churn,
        "--faults": faults,
        "--for": lasts,
        "--remove": remove or None,
        "--serve": serve or None,
    }
    if offline:
        if scenario is None:
            raise typer.BadParameter("is needed with --offline", param_hint="SCENARIO")
        _refuse_beside(live, "is for a live fleet, and --offline plays a scenario")
        _play_offline(scenario, seed=seed, settings=settings, as_json=as_json)
        return
    _refuse_beside({"SCENARIO": scenario, "--set": settings}, "needs --offline, with which a scenario is played")
    if nodes is None:
        raise typer.BadParameter(
            "says how many nodes are to live; or play a scenario with --offline", param_hint="--nodes"
        )

    from thunderline.cli.fleet import Options, own_server, play

    options = Options(
        nodes=nodes,
        domains=3 if domains is None else domains,
        churn=1.0 if churn is None else churn,
        faults=1.0 if faults is None else faults,
        seed=1 if seed is None else seed,
        lasts_s=lasts,
        removes=remove,
        server=server,
        token_file=token_file,
        ca=ca,
        as_json=as_json,
    )
    if not serve:
        play(options)
        return
    with own_server() as url:
        play(msgspec.structs.replace(options, server=url))


def _refuse_beside(given: Mapping[str, object], why: str) -> None:
    for name, value in given.items():
        if value is not None:
            raise typer.BadParameter(why, param_hint=name)


def _play_offline(scenario: str, *, seed: int | None, settings: list[str] | None, as_json: bool) -> None:
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
