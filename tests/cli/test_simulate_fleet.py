"""`thunderline simulate --nodes`: rows, JSON lines and the live line, its end, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cli.commands import on_screen, parsed, piped
from tests.server.processes import ServerProcess, running
from thunderline.testing.fleet import draw_plan


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server process."""
    with running(tmp_path_factory.mktemp("simulate") / "t.db") as found:
        yield found


def test_rows_in_a_pipe_and_a_last_word_beside_them(server: ServerProcess) -> None:
    run = piped("simulate", "--nodes", "12", "--for", "0", "--server", server.url)
    assert run.returncode == 0, run.stderr
    header, *rows = run.stdout.splitlines()
    last = dict(zip(header.split("\t"), rows[-1].split("\t"), strict=True))
    assert (last["NODES"], last["PLACED"], last["CUT"]) == ("12", "12", "0")
    assert "12 nodes said goodbye" in run.stderr
    found = server.http.get("/api/nodes", params={"label": "simulated=true"}).json()["nodes"]
    assert {(node["status"], node["status_reason"]) for node in found} == {("offline", "goodbye: the simulation ended")}


def test_json_lines_of_a_seed_tell_its_nodes_and_remove_takes_them_out(server: ServerProcess) -> None:
    given = ("--nodes", "9", "--seed", "4", "--churn", "0", "--for", "0", "--remove", "--json")
    run = piped("simulate", *given, "--server", server.url)
    assert run.returncode == 0, run.stderr
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert {line["type"] for line in lines} == {"status", "end"}
    assert (lines[-1]["goodbyes"], lines[-1]["removed"], lines[-1]["counts"]["links"]) == (9, 9, 9)
    names = {node["name"] for node in server.http.get("/api/nodes").json()["nodes"]}
    assert not names & {node.name for node in draw_plan(9, seed=4).nodes}


def test_on_a_terminal_one_line_lives_and_ctrl_c_says_goodbye(server: ServerProcess) -> None:
    screen = on_screen("simulate", "--nodes", "8", "--server", server.url, until="8 of 8 linked, ")
    assert screen.code == 0, screen.text
    assert "8 nodes said goodbye" in screen.lines[-1]


def test_serve_brings_a_server_of_its_own_and_ends_it() -> None:
    run = piped("simulate", "--nodes", "5", "--for", "0", "--serve", THUNDERLINE_PORT="0")
    assert run.returncode == 0, run.stderr
    assert "5 nodes said goodbye" in run.stderr


def test_a_server_that_does_not_start_says_why() -> None:
    run = piped("simulate", "--nodes", "5", "--serve", THUNDERLINE_PORT="0", THUNDERLINE_DETECTOR="no-such")
    assert run.returncode == 1
    assert "detector" in run.stderr
    assert "Traceback" not in run.stderr


def test_nobody_there_is_told() -> None:
    run = piped("simulate", "--nodes", "5", "--server", "http://127.0.0.1:1")
    assert run.returncode == 1
    assert "no server answers at http://127.0.0.1:1" in run.stderr


def test_a_server_that_wants_a_token_is_told_of(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("auth") / "t.db", "--auth") as server:
        run = piped("simulate", "--nodes", "5", "--server", server.url)
    assert run.returncode == 1
    assert "a token is needed" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "--nodes"),
        (["--nodes", "0"], "--nodes"),
        (["--nodes", "20001"], "--nodes"),
        (["--nodes", "5", "--domains", "9"], "--domains"),
        (["--nodes", "5", "--set", "detector=phi"], "--set"),
        (["--nodes", "5", "mixed-fleet"], "--offline"),
        (["--offline"], "SCENARIO"),
        (["--offline", "mixed-fleet", "--nodes", "5"], "--nodes"),
        (["--offline", "mixed-fleet", "--remove"], "--remove"),
    ],
)
def test_options_that_do_not_go_together_are_refused(given: list[str], told: str) -> None:
    run = parsed("simulate", *given)
    assert run.exit_code == 2
    assert told in run.stderr
