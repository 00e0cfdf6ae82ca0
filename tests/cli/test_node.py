"""`thunderline node` and `thunderline lift`: one node in full, and an operator's override taken off it."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.cli.commands import on_screen, parsed, piped
from tests.cli.servers import HOSTILE_REASON, ServedRegistry, stranger


def paths(value: Any, path: str = "") -> set[str]:
    """The path of every leaf of a JSON value."""
    items = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    inside = {leaf for key, item in items for leaf in paths(item, f"{path}.{key}" if path else str(key))}
    return inside or {path}


def test_a_piped_node_has_a_line_for_every_field_of_the_api(fleet: ServedRegistry) -> None:
    lines = piped("node", "worker-1@prod", "--server", fleet.url).stdout.splitlines()
    answer = fleet.ask("GET", "/api/nodes/worker-1@prod?load=sessions,heartbeats")
    assert lines[0] == "FIELD\tVALUE"
    assert [line.split("\t")[0] for line in lines[1:]] != []
    assert {line.split("\t")[0] for line in lines[1:]} == paths({**answer.pop("node"), **answer})


def test_a_piped_node_says_nothing_with_a_dash_and_tells_false_and_zero(fleet: ServedRegistry) -> None:
    lines = piped("node", "worker-1@prod", "--server", fleet.url).stdout.splitlines()
    assert "override\t-" in lines
    assert "groups\t-" in lines
    assert "heartbeats.0.peers.lost-1\t-" in lines
    assert "sessions.0.latency_ms\t0.0" in lines
    assert "heartbeats.0.seq\t1" in lines


def test_a_node_on_a_terminal_says_who_overrode_it_when_and_why(fleet: ServedRegistry) -> None:
    text = " ".join(on_screen("node", "gateway-1", "--server", fleet.url, columns=160).text.split())
    reason = HOSTILE_REASON
    assert f"status ○ offline: {reason}" in text
    assert "observed online: announced" in text
    assert f"override offline: {reason} by operator:local at 2026-01-01 00:01:36 UTC" in text
    assert "'thunderline lift gateway-1' lifts it" in text


def test_a_node_on_a_terminal_shows_all_that_is_known_of_it(fleet: ServedRegistry) -> None:
    screen = on_screen("node", "worker-1@prod", "--server", fleet.url, columns=120)
    headings = [line for line in screen.lines if line and not line.startswith(" ")]
    assert headings == [
        "worker-1@prod",
        "Status",
        "Identity",
        "Presence",
        "Record",
        "Labels",
        "Meta",
        "Open sessions",
        "Latest heartbeats",
    ]
    assert any(line.split()[:4] == ["session-0", "registry", "cluster", "websocket"] for line in screen.lines)
    assert '"esc": "\\u001b[31m"' in screen.text


def test_the_newest_heartbeat_stands_first(fleet: ServedRegistry) -> None:
    screen = on_screen("node", "worker-2@prod", "--server", fleet.url)
    table = screen.lines[screen.lines.index("Latest heartbeats") + 2 :]
    assert re.findall(r"\d+%", "\n".join(table)) == ["13%", "12%", "11%"]


def test_json_is_the_answer_of_the_api(fleet: ServedRegistry) -> None:
    body = fleet.http.get("/api/nodes/worker-1@prod?load=sessions,heartbeats").text
    assert piped("node", "worker-1@prod", "--json", "--server", fleet.url).stdout == body + "\n"


def test_an_unknown_name_ends_with_1_and_names_those_nearby(fleet: ServedRegistry) -> None:
    done = piped("node", "Wrker-1@prod", "--server", fleet.url)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("thunderline: no node is called 'Wrker-1@prod'; did you mean worker-1@prod, ")


def test_a_name_unlike_any_other_is_told_how_to_list_them(fleet: ServedRegistry) -> None:
    done = piped("node", "zzz", "--server", fleet.url)
    assert "'thunderline nodes' lists those that there are" in done.stderr


def test_what_cannot_be_a_name_is_a_usage_error() -> None:
    for ref in ("a/b", "", "..", "a b"):
        refused = parsed("node", ref)
        assert refused.exit_code == 2
        assert "cannot be a node's name" in refused.stderr


def test_a_name_is_percent_encoded_in_a_path() -> None:
    with stranger(404, "application/problem+json", b"{}") as other:
        piped("node", "worker-1@prod:7", "--server", other.url)
        assert other.asked == ["/api/nodes/worker-1%40prod%3A7?load=sessions%2Cheartbeats"]


def test_lift_lets_the_observed_status_show(served: ServedRegistry) -> None:
    served.add("worker-1")
    served.beat("worker-1")
    served.ask("POST", "/api/nodes/worker-1/offline", json={"reason": "rack move"})
    done = piped("lift", "worker-1", "--server", served.url)
    assert done.returncode == 0
    assert done.stdout == "lifted offline (rack move) by operator:local; worker-1 is online: heartbeat\n"
    assert served.ask("GET", "/api/nodes/worker-1")["node"]["override"] is None


def test_lift_without_an_override_is_no_error(served: ServedRegistry) -> None:
    served.add("worker-1")
    done = piped("lift", "worker-1", "--server", served.url)
    assert done.returncode == 0
    assert done.stdout == "there was no override; worker-1 is connecting: registered\n"


def test_lift_as_json_is_the_answer_of_the_api(served: ServedRegistry) -> None:
    served.add("worker-1")
    served.ask("POST", "/api/nodes/worker-1/status", json={"status": "degraded"})
    document = json.loads(piped("lift", "worker-1", "--json", "--server", served.url).stdout)
    assert document == served.ask("GET", "/api/nodes/worker-1")


def test_lift_of_an_unknown_name_ends_with_1(fleet: ServedRegistry) -> None:
    done = piped("lift", "gatewy-1", "--server", fleet.url)
    assert done.returncode == 1
    assert "did you mean gateway-1" in done.stderr
