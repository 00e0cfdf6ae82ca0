"""Lists in every order, page by page, while nodes come and go."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thunderline.core.errors import InvalidInput
from thunderline.core.records import NodeStatus
from thunderline.link import listing as listings
from thunderline.link import ordered, orders
from thunderline.link.listing import SORTS, Listing, list_page
from thunderline.link.node_index import NodeFilter
from thunderline.link.orders import Order
from thunderline.link.roster import Entry, Roster
from thunderline.testing.records import START, make_node, node_id

NODES = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from(["a", "b"]), st.sampled_from([*NodeStatus]), st.integers(0, 3)),
    unique_by=lambda row: row[0],
    max_size=25,
)
ORDERS = st.sampled_from([sign + sort for sort in SORTS for sign in ("", "-")])


def fill(roster: Roster, rows: list[tuple[int, str, NodeStatus, int]]) -> None:
    for number, role, status, age in rows:
        at = START + timedelta(seconds=age)
        entry = roster.put_node(
            make_node(number, role=role, status=status, inserted_at=at, updated_at=at, status_since=at)
        )
        entry.last_seen_ms = age or None


def sort_key(entry: Entry, field: str) -> tuple[Any, str]:
    value = (entry.last_seen_ms or 0) if field == "last_seen_at" else getattr(entry.node, field)
    return value, entry.node.name


@given(NODES, ORDERS, st.integers(1, 7), st.sampled_from([None, "a"]))
def test_pages_put_together_are_the_sorted_list(
    rows: list[tuple[int, str, NodeStatus, int]], sort: str, limit: int, role: str | None
) -> None:
    roster = Roster()
    fill(roster, rows)
    listing = Listing(wanted=NodeFilter(role=role), sort=sort)
    naive = sorted(
        (entry for entry in roster if role in (None, entry.node.role)),
        key=lambda entry: sort_key(entry, sort.removeprefix("-")),
        reverse=sort.startswith("-"),
    )
    assert list_page(roster, listing, after=None).entries == naive
    paged: list[Entry] = []
    after = None
    while True:
        page = list_page(roster, listing, after=after, limit=limit)
        paged += page.entries
        if (after := page.last) is None:
            break
        assert len(page.entries) == limit
    assert paged == naive


@given(NODES, ORDERS, st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=12))
def test_nodes_that_stay_are_listed_once_while_others_come_and_go(
    rows: list[tuple[int, str, NodeStatus, int]], sort: str, changes: list[tuple[int, bool]]
) -> None:
    roster = Roster()
    fill(roster, rows)
    stayed = {number for number, *_ in rows} - {number for number, _ in changes}
    listing = Listing(wanted=NodeFilter(), sort=sort)
    seen: list[str] = []
    after = None
    waiting = list(changes)
    while True:
        page = list_page(roster, listing, after=after, limit=2)
        seen += [entry.node.name for entry in page.entries]
        if (after := page.last) is None:
            break
        for number, comes in waiting[:2]:
            if comes:
                fill(roster, [(number, "b", NodeStatus.ONLINE, 1)])
            else:
                roster.remove_node(node_id(number))
        del waiting[:2]
    assert sorted(name for name in seen if int(name[5:]) in stayed) == sorted(f"node-{number}" for number in stayed)


@given(NODES, ORDERS, st.lists(st.lists(st.tuples(st.integers(0, 40), st.integers(-1, 4)), max_size=9), max_size=4))
def test_an_order_that_is_kept_is_as_sorted_anew(
    rows: list[tuple[int, str, NodeStatus, int]], sort: str, rounds: list[list[tuple[int, int]]]
) -> None:
    roster = Roster()
    fill(roster, rows)
    for changes in ([], *rounds):
        for number, age in changes:
            if age < 0:
                roster.remove_node(node_id(number))
            else:
                fill(roster, [(number, "ab"[age % 2], NodeStatus.ONLINE, age)])
        paged: list[Entry] = []
        page = list_page(roster, Listing(wanted=NodeFilter(), sort=sort), after=None, limit=2)
        paged += page.entries
        while page.last is not None:
            page = list_page(roster, Listing(wanted=NodeFilter(), sort=sort), after=page.last, limit=2)
            paged += page.entries
        field, descends = sort.removeprefix("-"), sort.startswith("-")
        assert paged == sorted(roster, key=lambda entry: sort_key(entry, field), reverse=descends)


@pytest.mark.parametrize("many", [0, 1000])
def test_an_order_takes_changes_one_by_one_and_all_at_once(monkeypatch: pytest.MonkeyPatch, many: int) -> None:
    monkeypatch.setattr(orders, "MANY", many)
    monkeypatch.setattr(ordered, "MANY", many)
    roster = Roster()
    fill(roster, [(number, "a", NodeStatus.ONLINE, number % 3) for number in range(30)])
    order = Order.of(roster, "role", lambda entry: entry.node.role)
    assert len(order.keys()) == 30
    fill(roster, [(number, "b", NodeStatus.ONLINE, 0) for number in (3, 40)])
    roster.remove_node(node_id(4))
    keys = order.keys()
    assert keys == sorted((entry.node.role, entry.node.name) for entry in roster)
    assert order is Order.of(roster, "role", lambda entry: entry.node.role)


def test_a_page_in_a_kept_order_looks_at_what_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = 0

    def role(entry: Entry) -> str:
        nonlocal looked_at
        looked_at += 1
        return entry.node.role

    monkeypatch.setitem(listings._KEYS, "role", role)
    roster = Roster()
    fill(roster, [(number, f"r{number % 7}", NodeStatus.ONLINE, 0) for number in range(500)])
    listing = Listing(wanted=NodeFilter(), sort="-role")
    page = list_page(roster, listing, after=None, limit=10)
    fill(roster, [(3, "r9", NodeStatus.ONLINE, 0)])
    looked_at = 0
    list_page(roster, listing, after=page.last, limit=10)
    assert looked_at == 1  # the one that changed


def test_an_order_ends_when_more_changed_than_sorting_costs() -> None:
    roster = Roster()
    fill(roster, [(number, "a", NodeStatus.ONLINE, 0) for number in range(20)])
    order = Order.of(roster, "role", lambda entry: entry.node.role)
    order.keys()
    fill(roster, [(number, "a", NodeStatus.ONLINE, 0) for number in range(200)])
    assert order._keys is None
    assert len(order.keys()) == 200


def test_order_that_is_none_names_those_there_are() -> None:
    with pytest.raises(InvalidInput, match=r"^sort: should be one of name, role"):
        Listing(wanted=NodeFilter(), sort="colour")
