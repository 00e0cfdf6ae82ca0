"""`thunderline nodes`: what goes into a pipe, what stands on a terminal, and which nodes there are."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.cli.commands import PROGRAM, Screen, environ, on_screen, parsed, piped
from tests.cli.servers import HOSTILE_REASON, LONG_NAME, ServedRegistry, serving, stranger

HEADER = "NAME\tSTATUS\tROLE\tDOMAIN\tCPU_LOAD\tMEM_USED_MB\tLAST_SEEN_AT\tSTATUS_REASON"
CROWD = 1_005


def listed(*args: str, url: str) -> list[str]:
    """The names of a piped list."""
    done = piped("nodes", *args, "--server", url)
    assert done.returncode == 0, done.stderr
    return [line.split("\t")[0] for line in done.stdout.splitlines()[1:]]


@pytest.fixture(scope="module")
def crowd() -> Iterator[ServedRegistry]:
    """More nodes than fit in a page."""
    with serving() as running:

        async def fill() -> None:
            for at in range(CROWD):
                await running.registry.ensure_node({"name": f"n-{at:04d}"})

        running.do(fill)
        yield running


@pytest.fixture(scope="module")
def lines(fleet: ServedRegistry) -> list[str]:
    """The fleet as it comes out of a pipe."""
    return piped("nodes", "--server", fleet.url, FORCE_COLOR="1").stdout.splitlines()


@pytest.fixture(scope="module")
def screen(fleet: ServedRegistry) -> Screen:
    """The fleet on a terminal of 100 columns."""
    return on_screen("nodes", "--server", fleet.url)


def test_a_piped_list_is_tab_separated(lines: list[str]) -> None:
    assert lines[0] == HEADER
    assert len(lines) == 1 + 12
    assert {line.count("\t") for line in lines} == {7}


def test_a_piped_list_has_no_colour_and_no_empty_cell(lines: list[str]) -> None:
    assert all("\x1b" not in line and all(line.split("\t")) for line in lines)
    assert "new-1\tconnecting\tedge\tedge-eu\t-\t-\t-\tregistered" in lines


def test_a_piped_time_is_the_one_of_the_api(fleet: ServedRegistry, lines: list[str]) -> None:
    rows = [line.split("\t") for line in lines[1:]]
    told = {node["name"]: node["presence"]["last_seen_at"] for node in fleet.ask("GET", "/api/nodes")["nodes"]}
    assert {row[0]: row[6] for row in rows} == {name: at or "-" for name, at in told.items()}


def test_a_list_is_sorted_by_name(lines: list[str]) -> None:
    names = [line.split("\t")[0] for line in lines[1:]]
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ("● online", "worker-1@prod"),
        ("▲ degraded", "slow-1"),
        ("◆ disconnected", "silent-1"),
        ("⊠ offline", "lost-1"),
        ("○ offline", "relay-1"),
        ("○ offline", "gateway-1"),
        ("◌ connecting", "new-1"),
    ],
)
def test_each_status_has_a_shape_of_its_own(screen: Screen, shape: str, name: str) -> None:
    assert any(line.startswith(name) and shape in line for line in screen.lines)


def test_a_terminal_gets_colour(screen: Screen) -> None:
    assert "\x1b[32m● online" in screen.raw


def test_no_color_leaves_shapes_and_words(fleet: ServedRegistry) -> None:
    screen = on_screen("nodes", "--server", fleet.url, NO_COLOR="1")
    assert "● online" in screen.text
    assert "\x1b[3" not in screen.raw


def test_a_terminal_without_utf_8_still_shows_the_words(fleet: ServedRegistry) -> None:
    screen = on_screen("nodes", "--server", fleet.url, PYTHONIOENCODING="ascii")
    assert screen.code == 0
    assert "? online" in screen.text


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_a_long_name_is_folded_and_never_cut(fleet: ServedRegistry, columns: int) -> None:
    screen = on_screen("nodes", "--server", fleet.url, columns=columns, NO_COLOR="1")
    assert LONG_NAME in screen.column("NAME", "STATUS")


def test_a_terminal_too_narrow_for_columns_gets_a_block_for_each_node(fleet: ServedRegistry) -> None:
    screen = on_screen("nodes", "--server", fleet.url, columns=50)
    at = screen.lines.index("slow-1  ▲ degraded")
    assert " ".join(line.strip() for line in screen.lines[at + 1 : at + 3]).startswith(
        "role worker, domain thunderlink"
    )


@pytest.mark.parametrize("columns", [40, 80, 100])
def test_no_line_is_wider_than_the_terminal(fleet: ServedRegistry, columns: int) -> None:
    assert max(len(line) for line in on_screen("nodes", "--server", fleet.url, columns=columns).lines) <= columns


def test_a_terminal_too_narrow_for_it_names_a_shared_domain_once(fleet: ServedRegistry) -> None:
    screen = on_screen("nodes", "--domain", "thunderlink", "--server", fleet.url, columns=70)
    assert "DOMAIN" not in screen.lines[0]
    assert "all in domain thunderlink" in " ".join(screen.lines)


def test_the_last_line_counts_each_status(screen: Screen) -> None:
    assert screen.lines[-1] == "12 nodes: 4 online, 2 degraded, 1 disconnected, 3 offline, 2 connecting"


def test_last_seen_is_relative_to_the_servers_time(fleet: ServedRegistry) -> None:
    page = fleet.http.get("/api/nodes?name=worker-1@prod").content
    # The fleet's clock stands still a minute and a half into 2026.
    with stranger(200, "application/json", page, {"Date": "Thu, 01 Jan 2026 00:05:00 GMT"}) as other:
        assert "3m ago" in on_screen("nodes", "--server", other.url, columns=120).text


def test_what_a_server_sends_is_never_markup_nor_a_control_sequence(fleet: ServedRegistry) -> None:
    for output in (
        on_screen("nodes", "--server", fleet.url, columns=200).raw,
        on_screen("node", "gateway-1", "--server", fleet.url).raw,
        on_screen("node", "gateway-1", "--json", "--server", fleet.url).raw,
        piped("nodes", "--server", fleet.url).stdout,
    ):
        assert "[red]rack" in output
    for options in ((), ("--json",)):
        shown = on_screen("node", "worker-1@prod", *options, "--server", fleet.url).raw
        assert "\x9b" not in shown
        assert "31m" in shown


def test_a_reason_that_an_operator_gave_says_so(screen: Screen) -> None:
    assert "override: disk" in screen.text


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--status", "degraded"], ["marked-1", "slow-1"]),
        (["--status", "degraded,disconnected"], ["marked-1", "silent-1", "slow-1"]),
        (["--status", "degraded", "--status", "disconnected"], ["marked-1", "silent-1", "slow-1"]),
        (["--role", "controller"], ["registry@here"]),
        (["--domain", "training"], [LONG_NAME]),
        (["--cluster-type", "out_of_cluster"], ["aged-1"]),
        (["--label", "zone=eu-1", "--domain", "thunderlink"], ["gateway-1", "slow-1", "worker-2@prod"]),
        (["--capability", "gpu:a100"], ["aged-1"]),
        (["--name", "worker-*"], ["worker-1@prod", "worker-2@prod"]),
        (["--name", "lost-1"], ["lost-1"]),
        (["--limit", "2"], ["aged-1", "gateway-1"]),
    ],
)
def test_a_filter_narrows_the_list(fleet: ServedRegistry, options: list[str], names: list[str]) -> None:
    assert listed(*options, url=fleet.url) == names


@pytest.mark.parametrize(
    "wrong",
    [["--status", "asleep"], ["--label", "zone"], ["--limit", "0"], ["--cluster-type", "near"], ["--nmae", "x"]],
)
def test_a_wrong_option_ends_with_2_before_anything_is_asked(wrong: list[str]) -> None:
    refused = parsed("nodes", *wrong)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert wrong[0] in refused.stderr


def test_a_list_follows_every_page(crowd: ServedRegistry) -> None:
    assert len(listed("--name", "n-*", url=crowd.url)) == CROWD


def test_a_limit_holds_across_pages(crowd: ServedRegistry) -> None:
    assert listed("--name", "n-*", "--limit", "1002", url=crowd.url)[-1] == "n-1001"


def test_a_list_that_a_limit_cut_says_so(crowd: ServedRegistry) -> None:
    screen = on_screen("nodes", "--limit", "3", "--server", crowd.url)
    assert screen.lines[-1] == "3 nodes: 3 connecting; there are more, see --limit"


def test_json_is_one_document_of_all_pages(crowd: ServedRegistry) -> None:
    document = json.loads(piped("nodes", "--name", "n-*", "--json", "--server", crowd.url).stdout)
    assert list(document) == ["nodes", "revision"]
    assert len(document["nodes"]) == CROWD
    assert document["revision"] == crowd.ask("GET", "/api/nodes?limit=1")["revision"]


def test_json_nodes_are_those_of_the_api(fleet: ServedRegistry) -> None:
    document = json.loads(piped("nodes", "--json", "--server", fleet.url).stdout)
    assert document["nodes"] == fleet.ask("GET", "/api/nodes")["nodes"]


def test_json_on_a_terminal_is_the_same_document(fleet: ServedRegistry) -> None:
    shown = json.loads(on_screen("nodes", "--json", "--server", fleet.url).text)
    assert shown == json.loads(piped("nodes", "--json", "--server", fleet.url).stdout)
    assert HOSTILE_REASON in [node["status_reason"] for node in shown["nodes"]]


def test_a_filter_that_nothing_matches_says_how_to_see_all(fleet: ServedRegistry) -> None:
    done = piped("nodes", "--name", "nobody", "--server", fleet.url)
    assert done.returncode == 0
    assert done.stdout == HEADER + "\n"
    assert "'thunderline nodes' without filters lists all" in done.stderr


def test_an_empty_registry_says_how_to_register_a_node(served: ServedRegistry) -> None:
    served.ask("DELETE", "/api/nodes/registry@here", params={"force": "true"})
    screen = on_screen("nodes", "--server", served.url, columns=200)
    assert "no nodes are registered" in screen.text
    assert "POST /api/nodes" in screen.text
    assert "NAME" not in screen.text


def test_a_pipe_that_its_reader_closed_ends_the_command_quietly(fleet: ServedRegistry) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            [*PROGRAM, "nodes", "--server", fleet.url],
            stdout=closed,
            stderr=subprocess.PIPE,
            env=environ(),
            timeout=30,
            check=False,
        )
    assert done.stderr == b""


def test_a_full_disk_is_told(fleet: ServedRegistry) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*PROGRAM, "nodes", "--server", fleet.url],
            stdout=full,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env=environ(),
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "thunderline: the output could not be written whole: No space left on device\n"
