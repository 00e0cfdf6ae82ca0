"""`thunderline sessions` and `thunderline session close`: the table on a terminal, the list in a pipe, and the end."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cli.commands import on_screen, parsed, piped
from tests.cli.servers import ServedRegistry, serving


@pytest.fixture
def linked() -> Iterator[ServedRegistry]:
    """Two nodes, one of them linked to the registry, and a tunnel between the two."""
    with serving() as running:
        for name in ("a", "b"):
            running.add(name)
        running.ask("POST", "/api/nodes/a/online", json={"session": {"session_id": "s-a"}})
        tunnel = {"node_id": "a", "remote_node_id": "b", "session_id": "tunnel-7", "connection_type": "quic"}
        running.ask("POST", "/api/sessions", json={**tunnel, "session_type": "tocp", "latency_ms": 1.5})
        yield running


def test_a_piped_list_is_tab_separated_with_the_fields_of_the_api(linked: ServedRegistry) -> None:
    header, *rows = (line.split("\t") for line in piped("sessions", "--server", linked.url).stdout.splitlines())
    assert [row[0] for row in rows] == ["s-a", "tunnel-7"]
    told = linked.ask("GET", "/api/sessions/tunnel-7")["session"]
    for name, cell in zip(header, rows[1], strict=True):
        if name != "ESTABLISHED_AT":
            assert cell == str(told[name.lower()] or "-")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["--node", "b"], ["tunnel-7"]),
        (["--node", "a", "--type", "tocp"], ["tunnel-7"]),
        (["--connection", "quic", "--status", "established"], ["tunnel-7"]),
        (["--status", "degraded"], []),
    ],
)
def test_options_narrow_the_list(linked: ServedRegistry, given: list[str], found: list[str]) -> None:
    lines = piped("sessions", *given, "--server", linked.url).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines[1:]] == found


def test_a_terminal_shows_who_is_linked_to_whom_by_name(linked: ServedRegistry) -> None:
    lines = on_screen("sessions", "--server", linked.url).lines
    assert lines[0].split() == ["SESSION", "NODE", "LINKED", "TO", "TYPE", "OVER", "STATUS", "LATENCY", "SINCE"]
    assert lines[1].split()[:3] == ["s-a", "a", "registry@here"]
    assert lines[2].split()[:8] == ["tunnel-7", "a", "b", "tocp", "quic", "established", "1.5", "ms"]
    assert lines[-1] == "2 open sessions"


def test_json_is_one_document_of_all_sessions(linked: ServedRegistry) -> None:
    document = json.loads(piped("sessions", "--json", "--server", linked.url).stdout)
    told = linked.ask("GET", "/api/sessions")
    assert document == {"sessions": told["sessions"], "revision": told["revision"]}


def test_a_session_is_closed_by_hand_once(linked: ServedRegistry) -> None:
    closed = piped("session", "close", "tunnel-7", "--reason", "moved", "--server", linked.url)
    assert closed.stdout == "tunnel-7 is closed: moved\n"
    again = json.loads(piped("session", "close", "tunnel-7", "--json", "--server", linked.url).stdout)
    assert again["session"]["status"] == "closed"
    assert "no open session matches" in piped("sessions", "--node", "b", "--server", linked.url).stderr


def test_a_session_that_is_not_there_is_told_in_one_line(linked: ServedRegistry) -> None:
    failed = piped("session", "close", "nobody", "--server", linked.url)
    assert failed.returncode == 1
    assert "nobody" in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


def test_what_cannot_be_a_node_is_refused_before_anything_is_asked() -> None:
    refused = parsed("sessions", "--node", "a/b")
    assert refused.exit_code == 2
    assert "cannot be a node's name" in refused.output
