"""`thunderline groups` and `thunderline group`: the tree on a terminal, the list in a pipe, and the changes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cli.commands import Screen, on_screen, parsed, piped
from tests.cli.servers import ServedRegistry, serving

ROWS = [
    "NAME\tGROUP_TYPE\tPARENT\tMEMBERS",
    "eu\tregion\t-\t0",
    "eu-1@prod\tzone\teu\t2",
    "rack-1\tcustom\teu-1@prod\t1",
    "us\tregion\t-\t0",
]


@pytest.fixture(scope="module")
def nested() -> Iterator[ServedRegistry]:
    """Four groups and two nodes in them."""
    with serving() as running:
        for attrs in (
            {"name": "eu", "group_type": "region"},
            {"name": "eu-1@prod", "group_type": "zone", "parent": "eu"},
            {"name": "rack-1", "parent": "eu-1@prod"},
            {"name": "us", "group_type": "region"},
        ):
            running.ask("POST", "/api/groups", json=attrs)
        for name in ("a", "b"):
            running.add(name)
            running.ask("PUT", f"/api/groups/eu-1@prod/members/{name}")
        running.ask("PUT", "/api/groups/rack-1/members/b")
        yield running


def test_a_piped_list_is_tab_separated_by_name(nested: ServedRegistry) -> None:
    assert piped("groups", "--server", nested.url).stdout.splitlines() == ROWS


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["--type", "zone"], ["eu-1@prod"]),
        (["--parent", "eu"], ["eu-1@prod"]),
        (["--parent", "eu", "--type", "region"], []),
    ],
)
def test_options_narrow_the_list(nested: ServedRegistry, given: list[str], names: list[str]) -> None:
    lines = piped("groups", *given, "--server", nested.url).stdout.splitlines()
    assert [line.split("\t")[0] for line in lines[1:]] == names


def test_a_terminal_shows_each_group_below_its_parent(nested: ServedRegistry) -> None:
    screen: Screen = on_screen("groups", "--server", nested.url)
    assert screen.lines == [
        "eu  region, 0 members",
        "└── eu-1@prod  zone, 2 members",
        "    └── rack-1  custom, 1 member",
        "us  region, 0 members",
    ]
    narrowed = on_screen("groups", "--type", "zone", "--server", nested.url)
    assert narrowed.lines == ["eu-1@prod  zone, 2 members"]


def test_json_is_one_document_of_all_groups(nested: ServedRegistry) -> None:
    document = json.loads(piped("groups", "--json", "--server", nested.url).stdout)
    told = nested.ask("GET", "/api/groups")
    assert document == {"groups": told["groups"], "revision": told["revision"]}


def test_nodes_of_a_group_are_listed_with_those_below(nested: ServedRegistry) -> None:
    for group, names in (("eu", ["a", "b"]), ("rack-1", ["b"]), ("us", [])):
        lines = piped("nodes", "--group", group, "--server", nested.url).stdout.splitlines()
        assert [line.split("\t")[0] for line in lines[1:]] == names


def test_a_node_names_its_groups(nested: ServedRegistry) -> None:
    assert "groups.1\track-1" in piped("node", "b", "--server", nested.url).stdout.splitlines()


def test_an_unknown_group_ends_with_1_and_is_named(nested: ServedRegistry) -> None:
    for command in (["nodes", "--group"], ["groups", "--parent"], ["group", "remove"]):
        done = piped(*command, "nowhere", "--server", nested.url)
        assert (done.returncode, done.stdout) == (1, "")
        assert "no group has the id or name 'nowhere'" in done.stderr


def test_groups_are_created_joined_left_and_deleted(served: ServedRegistry) -> None:
    def told(*args: str) -> str:
        done = piped("group", *args, "--server", served.url)
        assert done.returncode == 0, done.stderr
        return done.stdout

    served.add("worker-1@prod")
    assert "'thunderline group create NAME'" in piped("groups", "--server", served.url).stderr
    assert told("create", "eu", "--type", "region") == "eu: region\n"
    assert told("create", "eu-1", "--parent", "eu") == told("create", "eu-1") == "eu-1: custom, in eu\n"
    assert told("join", "eu-1", "worker-1@prod") == "worker-1@prod is in eu-1\n"
    assert json.loads(told("join", "eu", "worker-1@prod", "--json"))["node"]["groups"] == ["eu", "eu-1"]
    assert told("leave", "eu", "worker-1@prod") == "worker-1@prod is no longer in eu\n"
    refused = piped("group", "remove", "eu-1", "--server", served.url)
    assert refused.returncode == 1
    assert "eu-1 has 1 members" in refused.stderr
    assert told("remove", "eu-1", "--force") == "deleted eu-1\n"
    assert served.ask("GET", "/api/nodes/worker-1@prod")["node"]["groups"] == []


def test_watch_tells_what_became_of_groups_and_members(nested: ServedRegistry) -> None:
    screen = on_screen(
        "watch", "--match", "cluster.group.*", "--since", "0", "--server", nested.url, until="in eu-1@prod, rack-1"
    )
    shown = [" ".join(line.split()[1:]) for line in screen.lines if "group." in line]
    assert "group.created eu-1@prod - zone, in eu" in shown
    assert any(line.startswith("group.joined b") and line.endswith("in eu-1@prod, rack-1") for line in shown)


@pytest.mark.parametrize(
    "command",
    [["groups", "--parent", "a/b"], ["group", "create", ""], ["group", "join", "..", "a"], ["group", "remove"]],
)
def test_what_cannot_be_a_group_is_a_usage_error(command: list[str]) -> None:
    assert parsed(*command).exit_code == 2


def test_help_names_what_can_be_done_with_a_group() -> None:
    shown = parsed("group", "--help").stdout
    assert all(word in shown for word in ("create", "remove", "join", "leave", "group join eu-1 worker-1@prod"))
